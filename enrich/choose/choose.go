// Package choose decides which indicators of a capture are looked up, and in which
// order: look-ups are few and captures hold many.
package choose

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/publicsuffix"

	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
)

// Reason is why an indicator is not looked up.
type Reason string

// The reasons.
const (
	Wanted       Reason = ""                // it is looked up
	Special      Reason = "special_address" // means nothing outside of its network
	Own          Reason = "own_address"
	PublicSuffix Reason = "public_suffix" // co.uk: not anybody's name
	SingleLabel  Reason = "single_label"
	LocalName    Reason = "local_name" // of one link, of a local network, reverse names
	NotAName     Reason = "not_a_name" // bytes that no registered name has
	Excluded     Reason = "excluded"   // by the configuration
	Common       Reason = "common"     // by the list of the program
	Top          Reason = "top"        // by a list of the most visited
	TooMany      Reason = "too_many"   // beyond the bound
)

// Explain returns what a reason means, in words.
func (r Reason) Explain() string {
	switch r {
	case Special:
		return "private, reserved and multicast addresses"
	case Own:
		return "addresses of your own"
	case PublicSuffix:
		return "names that are nobody's, such as co.uk"
	case SingleLabel:
		return "names without a dot"
	case LocalName:
		return "names of a local network"
	case NotAName:
		return "names that can't be registered"
	case Excluded:
		return "excluded by the configuration"
	case Common:
		return "names and digests that are everywhere"
	case Top:
		return "names of a list of the most visited"
	case TooMany:
		return "more than are looked up for one capture"
	}
	return "looked up"
}

// Chooser chooses. It may be used by many goroutines.
type Chooser struct {
	config                config
	excluded, common, top *set
}

type config struct {
	special func(netip.Addr) bool
	own     []netip.Prefix
}

// Choice is what was chosen.
type Choice struct {
	Queries []verdict.Query  // the most suspicious first
	Left    map[Reason]int64 // how many others there are
}

// Choose returns at most most of the indicators, and says of the others why they are
// left. before says whether an indicator was looked up or seen before; nil when nobody
// knows. The same indicators give the same order.
func (c *Chooser) Choose(list []indicator.Indicator, most int, before func(verdict.Query) bool) Choice {
	choice := Choice{Left: map[Reason]int64{}}
	var all []candidate
	for _, i := range list {
		if r := c.Why(i); r != Wanted {
			choice.Left[r]++
			continue
		}
		q := verdict.Query{Type: i.Type, Value: i.Value}
		all = append(all, candidate{q, tier(i), before != nil && before(q), score(i), i.First.Frame})
	}
	slices.SortFunc(all, candidate.compare)
	if most = max(most, 0); len(all) > most {
		choice.Left[TooMany] = int64(len(all) - most)
		all = all[:most]
	}
	for _, a := range all {
		choice.Queries = append(choice.Queries, a.query)
	}
	return choice
}

// Why returns why an indicator is not looked up.
func (c *Chooser) Why(i indicator.Indicator) Reason {
	switch i.Type {
	case indicator.Address:
		return c.address(i.Value)
	case indicator.Host:
		return c.host(i.Value)
	case indicator.LocalHost:
		return LocalName
	case indicator.URL:
		return c.url(i.Value)
	case indicator.Email:
		return c.email(i.Value)
	case indicator.File, indicator.Certificate, indicator.JA3, indicator.JA4, indicator.UserAgent:
		if c.excluded.values[i.Value] {
			return Excluded
		}
		if c.common.values[i.Value] {
			return Common
		}
	}
	return Wanted
}

func (c *Chooser) address(value string) Reason {
	a, err := netip.ParseAddr(value)
	switch {
	case err != nil:
		return NotAName
	case c.config.special != nil && c.config.special(a):
		return Special
	case slices.ContainsFunc(c.config.own, func(p netip.Prefix) bool { return p.Contains(a) }):
		return Own
	case c.excluded.prefixes.Contains(a):
		return Excluded
	}
	return Wanted
}

// local are the endings of names that mean something in one network only
// (RFC 6761, 6762, 8375 and what routers use).
var local = []string{".arpa", ".local", ".localhost", ".lan", ".home", ".internal", ".localdomain"}

// name is what host and e-mail addresses and URLs have in common: is it somebody's?
func (c *Chooser) name(name string) Reason {
	for _, ending := range local {
		if strings.HasSuffix(name, ending) || name == ending[1:] {
			return LocalName
		}
	}
	switch suffix, _ := publicsuffix.PublicSuffix(name); {
	case len(name) > 253 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" || strings.Contains(name, ".."):
		return NotAName
	case !strings.Contains(name, "."):
		return SingleLabel
	case suffix == name:
		return PublicSuffix
	case c.excluded.host(name):
		return Excluded
	}
	return Wanted
}

func (c *Chooser) host(name string) Reason {
	switch r := c.name(name); {
	case r != Wanted:
		return r
	case c.common.host(name):
		return Common
	case c.top.host(name):
		return Top
	}
	return Wanted
}

// url leaves out what lies on hosts that are everywhere, but not what lies on those
// that are much visited: bad files do.
func (c *Chooser) url(u string) Reason {
	name, _ := authority(u)
	r := c.address(name)
	if _, err := netip.ParseAddr(name); err != nil {
		r = c.name(name)
	}
	if r == PublicSuffix { // github.io: its pages are somebody's
		r = Wanted
	}
	switch {
	case r == Wanted && c.excluded.url(u):
		return Excluded
	case r == Wanted && c.common.host(name):
		return Common
	}
	return r
}

func (c *Chooser) email(value string) Reason {
	if c.excluded.email(value) {
		return Excluded
	}
	_, domain, _ := strings.Cut(value, "@")
	if i := strings.LastIndexByte(domain, '@'); i >= 0 {
		domain = domain[i+1:]
	}
	if r := c.name(domain); r != PublicSuffix {
		return r
	}
	return Wanted
}

// authority returns the host of a URL, without brackets, and its port.
func authority(u string) (host, port string) {
	_, rest, _ := strings.Cut(u, "://")
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	rest = rest[strings.LastIndexByte(rest, '@')+1:]
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && !strings.Contains(rest[i:], "]") {
		rest, port = rest[:i], rest[i+1:]
	}
	return strings.Trim(rest, "[]"), port
}

// candidate is an indicator that is worth a look-up.
type candidate struct {
	query  verdict.Query
	tier   int
	before bool
	score  int
	frame  int64
}

// compare puts the more suspicious first, and within a tier what is new.
func (a candidate) compare(b candidate) int {
	return cmp.Or(
		cmp.Compare(a.tier, b.tier), compareBool(a.before, b.before), cmp.Compare(b.score, a.score),
		cmp.Compare(a.query.Type, b.query.Type), cmp.Compare(a.frame, b.frame), strings.Compare(a.query.Value, b.query.Value),
	)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

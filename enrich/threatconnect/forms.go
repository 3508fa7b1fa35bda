package threatconnect

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
)

// builtIn are ThreatConnect's names of our types.
var builtIn = map[indicator.Type]string{
	indicator.Address:   "Address",
	indicator.Host:      "Host",
	indicator.URL:       "URL",
	indicator.File:      typeFile,
	indicator.Email:     "EmailAddress",
	indicator.UserAgent: "User Agent",
}

const (
	typeFile = "File"
	typeCIDR = "CIDR"
)

// typeName is what ThreatConnect calls t, "" when it knows no such thing.
func (c *Client) typeName(t indicator.Type) string {
	if name := builtIn[t]; name != "" {
		return name
	}
	return c.names[t]
}

// forms are the ways in which ThreatConnect may have the value of a query
// (contracts/threatconnect.md 2.3).
func (c *Client) forms(q verdict.Query) []string {
	switch {
	case q.Type == indicator.Address:
		if a, err := netip.ParseAddr(q.Value); err == nil && a.Is6() {
			return []string{longForm(a)}
		}
	case q.Type == indicator.URL:
		if rest, ok := cutHTTP(q.Value); ok {
			// Whether TLS was around it is often all that differs.
			other := "https://" + rest
			if strings.HasPrefix(q.Value, "https:") {
				other = "http://" + rest
			}
			return []string{q.Value, other}
		}
	case q.Type == indicator.Email:
		if lower := strings.ToLower(q.Value); lower != q.Value {
			return []string{q.Value, lower}
		}
	case strings.EqualFold(c.typeName(q.Type), typeFile):
		return []string{strings.ToUpper(q.Value)}
	}
	return []string{q.Value}
}

// longForm writes an IPv6 address without "::" and without leading zeros.
func longForm(a netip.Addr) string {
	raw := a.As16()
	var groups [8]string
	for i := range groups {
		groups[i] = strconv.FormatUint(uint64(raw[2*i])<<8|uint64(raw[2*i+1]), 16)
	}
	return strings.Join(groups[:], ":")
}

func cutHTTP(u string) (rest string, ok bool) {
	if rest, ok = strings.CutPrefix(u, "http://"); ok {
		return rest, true
	}
	return strings.CutPrefix(u, "https://")
}

// key is what two forms of the same indicator have in common. name is
// ThreatConnect's name of its type.
func key(name, value string) string {
	kind := strings.ToLower(strings.ReplaceAll(name, " ", ""))
	for t, theirs := range builtIn {
		if !strings.EqualFold(strings.ReplaceAll(theirs, " ", ""), kind) {
			continue
		}
		if canonical, ok := indicator.Canonical(t, strings.TrimSpace(value)); ok {
			value = canonical
		}
		if t == indicator.URL {
			value = strings.TrimPrefix(strings.TrimPrefix(value, "http://"), "https://")
		}
	}
	return kind + "|" + strings.ToLower(value)
}

// index finds the queries that a reply is about.
type index struct {
	queries   map[string][]verdict.Query
	addresses map[netip.Addr]verdict.Query
}

func (c *Client) index(queries []verdict.Query) *index {
	x := &index{map[string][]verdict.Query{}, map[netip.Addr]verdict.Query{}}
	for _, q := range queries {
		k := key(c.typeName(q.Type), q.Value)
		x.queries[k] = append(x.queries[k], q)
		if q.Type == indicator.Address {
			if a, err := netip.ParseAddr(q.Value); err == nil {
				x.addresses[a.Unmap()] = q
			}
		}
	}
	return x
}

// of returns the queries that i is about. name is its type where the reply
// leaves it out.
func (x *index) of(i *item, name string) []verdict.Query {
	if i.Type != "" {
		name = string(i.Type)
	}
	var found []verdict.Query
	for _, value := range i.values(name) {
		if strings.EqualFold(name, typeCIDR) {
			found = append(found, x.inside(value)...)
		}
		found = append(found, x.queries[key(name, value)]...)
	}
	slices.SortFunc(found, func(a, b verdict.Query) int {
		if a.Type != b.Type {
			return int(a.Type) - int(b.Type)
		}
		return strings.Compare(a.Value, b.Value)
	})
	return slices.Compact(found)
}

func (x *index) inside(block string) []verdict.Query {
	p, ok := indicator.CanonicalPrefix(block)
	if !ok {
		return nil
	}
	var found []verdict.Query
	for a, q := range x.addresses {
		if p.Contains(a) {
			found = append(found, q)
		}
	}
	return found
}

// values are the texts by which an item may be known: its own field, its summary,
// and of a file each digest.
func (i *item) values(name string) []string {
	all := []string{string(i.Summary)}
	switch strings.ToLower(strings.ReplaceAll(name, " ", "")) {
	case "address":
		all = append(all, string(i.IP))
	case "host":
		all = append(all, string(i.HostName))
	case "url":
		all = append(all, string(i.Text))
	case "emailaddress":
		all = append(all, string(i.Address))
	case "useragent":
		all = append(all, string(i.UserAgent))
	case "cidr":
		all = append(all, string(i.Block), string(i.BlockV2))
	case "file":
		all = append(strings.SplitN(string(i.Summary), " : ", 4), string(i.MD5), string(i.SHA1), string(i.SHA256))
	}
	return slices.DeleteFunc(all, func(s string) bool { return s == "" || len(s) > indicator.MaxValue })
}

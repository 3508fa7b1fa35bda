package filtertest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"sort"
	"strings"

	"capagent/capture/filter"
)

// Campaign runs random filters on random packets.
type Campaign struct {
	Judge   *Judge
	Seed    uint64
	Packets int   // for each filter
	Links   []int // empty: all, each by its weight
	Damage  int   // as Gen's; 0: its default
}

// Tally is what a campaign counted.
type Tally struct {
	Filters  int            // expressions
	Compiled int            // by both
	Refused  int            // by both
	Failed   int            // libpcap crashed or ran too long
	Trials   int            // of a program pair on a packet
	Taken    int            // packets that libpcap's program takes
	Torn     map[string]int // as Pair's
	Endless  int
	Jumps    int // conditional jumps of libpcap's programs, both ways
	Gone     int // how many of them were gone
	Theirs   int // instructions of libpcap's programs
	Ours     int // instructions of ours
	Known    map[string]int
	Bad      []*Disagreement
	Count    map[Kind]int // of disagreements that are not known
}

// shape is what is alike in disagreements that probably have one cause.
func (d *Disagreement) shape() string {
	text := reValue.ReplaceAllString(d.Expr, "N")
	if d.Kind == Breaks {
		text = d.Detail
	}
	return fmt.Sprint(d.Kind, d.Target, d.LinkType, text)
}

var reValue = regexp.MustCompile(`[0-9A-Fa-f]*:[0-9A-Fa-f:./]+|\b0?[xX]?[0-9][0-9A-Fa-f.\-/]*`)

// maxAlike is how many disagreements of one shape are kept.
const maxAlike = 2

// keep adds d to t.Bad unless it has enough of the kind.
func (t *Tally) keep(d *Disagreement) {
	alike := 0
	for _, b := range t.Bad {
		if b.shape() == d.shape() {
			alike++
		}
	}
	if alike < maxAlike {
		t.Bad = append(t.Bad, d)
	}
}

// Add adds o to t.
func (t *Tally) Add(o *Tally) {
	t.Filters += o.Filters
	t.Compiled += o.Compiled
	t.Refused += o.Refused
	t.Failed += o.Failed
	t.Trials += o.Trials
	t.Taken += o.Taken
	t.tear(o.Torn)
	t.Endless += o.Endless
	t.Jumps += o.Jumps
	t.Gone += o.Gone
	t.Theirs += o.Theirs
	t.Ours += o.Ours
	for k, n := range o.Known {
		t.know(k, n)
	}
	for _, d := range o.Bad {
		t.keep(d)
	}
	for k, n := range o.Count {
		t.count(k, n)
	}
}

func (t *Tally) tear(reasons map[string]int) {
	if t.Torn == nil {
		t.Torn = map[string]int{}
	}
	for k, n := range reasons {
		t.Torn[k] += n
	}
}

func (t *Tally) know(reason string, n int) {
	if t.Known == nil {
		t.Known = map[string]int{}
	}
	t.Known[reason] += n
}

func (t *Tally) count(k Kind, n int) {
	if t.Count == nil {
		t.Count = map[Kind]int{}
	}
	t.Count[k] += n
}

func (t *Tally) String() string {
	s := fmt.Sprintf("%d filters: %d compiled and %d refused by both, %d libpcap failed at; %d trials, %.1f %% taken, "+
		"%.1f %% of the ways of jumps gone; %d instructions, libpcap %d", t.Filters, t.Compiled, t.Refused, t.Failed,
		t.Trials, share(t.Taken, t.Trials), share(t.Gone, t.Jumps), t.Ours, t.Theirs)
	var lines []string
	for k, n := range t.Count {
		lines = append(lines, fmt.Sprintf("\n  disagreements: %-8s %d", k, n))
	}
	for k, n := range t.Known {
		lines = append(lines, fmt.Sprintf("\n  known: %d %s", n, k))
	}
	for k, n := range t.Torn {
		lines = append(lines, fmt.Sprintf("\n  known: %d trials: %s", n, k))
	}
	if t.Endless > 0 {
		lines = append(lines, fmt.Sprintf("\n  known: %d trials in which libpcap's program doesn't end", t.Endless))
	}
	sort.Strings(lines)
	return s + strings.Join(lines, "")
}

// share is n of all in per cent.
func share(n, all int) float64 { return 100 * float64(n) / max(1, float64(all)) }

// linkWeights say how often each link type has its turn.
var linkWeights = []struct{ link, weight int }{
	{LinkEthernet, 46},
	{LinkSLL, 10},
	{LinkSLL2, 10},
	{LinkRaw, 7},
	{LinkNull, 5},
	{LinkLoop, 4},
	{Link80211, 10},
	{LinkRadiotap, 8},
}

// Case makes the i-th case of a campaign, and the source of its packets.
func (c *Campaign) Case(i int) (Case, *rand.Rand) {
	r := seeded(c.Seed, uint64(i))
	k := Case{LinkType: LinkEthernet}
	if len(c.Links) > 0 {
		k.LinkType = one(r, c.Links...)
	} else {
		n := r.IntN(100)
		for _, w := range linkWeights {
			if n -= w.weight; n < 0 {
				k.LinkType = w.link
				break
			}
		}
	}
	if chance(r, 30) && os.Geteuid() == 0 {
		switch k.LinkType {
		case LinkEthernet:
			k.Target = filter.Live
		case LinkSLL, LinkSLL2:
			k.Target = filter.LiveCooked
		}
	}
	if chance(r, 50) {
		k.HasMask, k.Netmask = true, one(r, uint32(0xffffff00), 0xffff0000, 0xff000000, 0xfffffffc, 0)
	}
	if k.Target == filter.File && chance(r, 15) { // the live handles keep theirs
		k.SnapLen = one(r, uint32(1), 96, 65535)
	}
	g := NewGen(r, k.LinkType)
	if !c.Judge.Oracle.old() {
		g.VXLAN = 25
	}
	if c.Damage > 0 {
		g.Damage = c.Damage
	}
	k.Expr = g.Expr()
	return k, r
}

// Run runs the campaign's i-th filter and adds to t. It returns an error where
// libpcap itself failed.
func (c *Campaign) Run(i int, t *Tally) error {
	k, r := c.Case(i)
	return c.Judge.one(k, r, c.Packets, t)
}

// One judges one case on n packets and adds to t.
func (j *Judge) One(c Case, seed uint64, n int, t *Tally) error {
	return j.one(c, seeded(seed, 7), n, t)
}

func (j *Judge) one(c Case, r *rand.Rand, n int, t *Tally) error {
	t.Filters++
	pair, bad, err := j.Pair(c)
	switch {
	case errors.Is(err, errBoth):
		t.Refused++
		return nil
	case err != nil:
		t.Failed++
		return err
	}
	if bad == nil {
		t.Compiled++
		t.Ours += len(pair.Ours.Raw)
		t.Theirs += len(pair.Theirs)
		var tried, taken int
		tried, taken, bad = pair.Hunt(r, n)
		t.Trials += tried
		t.Taken += taken
		t.tear(pair.Torn)
		t.Endless += pair.Endless
		t.Jumps += pair.Jumps
		t.Gone += pair.Gone
	}
	if bad == nil {
		return nil
	}
	if reason := j.Known(bad); reason != "" {
		t.know(reason, 1)
		return nil
	}
	bad = j.Shrink(bad)
	if reason := j.Known(bad); reason != "" {
		t.know(reason, 1)
		return nil
	}
	t.count(bad.Kind, 1)
	t.keep(bad)
	return nil
}

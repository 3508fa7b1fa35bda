package filtertest

import (
	"regexp"
	"strings"

	"capagent/capture/filter"
)

// knownDifference is an expression about which the compiler isn't as the libpcap
// that judges, for a reason.
type knownDifference struct {
	kind   Kind
	expr   *regexp.Regexp // of the whole, once reduced
	detail string         // has to be in the disagreement's
	reason string
}

// old are the differences from libpcap 1.10: in all of them ours is as 1.11.
var old = []knownDifference{
	{Accepts, regexp.MustCompile(`\bvxlan\b`), "", "vxlan is in libpcap 1.11, not in 1.10"},
	{Refuses, regexp.MustCompile(`\bbyte \w+ ?[&|]`), "cooked header", "libpcap 1.10 forgets to load the byte of 'byte N & M'"},
	{Accepts, regexp.MustCompile(`\bbyte \w+ ?[&|]`), "rejects all", "libpcap 1.10 forgets to load the byte of 'byte N & M'"},
	{Decides, regexp.MustCompile(`\bbyte \w+ ?[&|]`), "", "libpcap 1.10 forgets to load the byte of 'byte N & M'"},
	{
		Decides, regexp.MustCompile(`\bnet\b.*:[0-9a-f:]*/`), "",
		"libpcap 1.10 loads the words of an IPv6 address that the mask leaves out",
	},
	{
		Decides, regexp.MustCompile(`\b(vlan|mpls|pppoes|geneve)\b.*\b(ifindex|inbound|outbound)\b`), "",
		"libpcap 1.10 adds a tunnel's offset to that of a field of the socket buffer",
	},
	{Refuses, regexp.MustCompile(`\bbyte\b`), "255", "libpcap 1.11 refuses bytes over 255"},
	{Refuses, regexp.MustCompile(`\bproto(chain)?\b`), "255", "libpcap 1.11 refuses protocol numbers over 255"},
	{Refuses, regexp.MustCompile(`\\mptcp\b`), "", "libpcap 1.11 refuses protocol numbers over 255"}, // it is 262
	{Refuses, regexp.MustCompile(`\b(isis|iso) proto\b`), " 31", "libpcap 1.11 refuses IS-IS packet types over 31"},
	{Refuses, regexp.MustCompile(`\b(ether|link) proto\b`), "65535", "libpcap 1.11 refuses Ethernet types over 65535"},
	{Refuses, regexp.MustCompile(`\bdecnet\b`), `"decnet" does not go with a number`, "libpcap 1.11 refuses numbers as DECnet addresses"},
	{Accepts, regexp.MustCompile(`\bvlan\b`), "block-local relative jump", "libpcap 1.10 fails in its own code for VLAN tags"},
	{Refuses, regexp.MustCompile(`\bdir(ection)?\b`), "802.11 direction", "libpcap 1.11 refuses directions over 3"},
	{
		Decides, regexp.MustCompile(`\b(isis proto|l1|l2|iih|lsp|snp|csnp|psnp)\b`), "",
		"libpcap 1.11 leaves the reserved bits of an IS-IS packet type out",
	},
}

// old says whether the libpcap is of 1.10.
func (o *Oracle) old() bool { return strings.Contains(o.Version, " 1.10.") }

// Known is why a disagreement is none: what libpcap does is another version's
// language, or no answer to the question. "": it is one.
func (j *Judge) Known(d *Disagreement) string {
	if j.Oracle.old() {
		expr := strings.Join(strings.Fields(d.Expr), " ")
		for _, k := range old {
			if d.Kind == k.kind && k.expr.MatchString(expr) && strings.Contains(d.Detail, k.detail) {
				return k.reason
			}
		}
	}
	switch {
	case d.Kind == Decides && d.Target == filter.LiveCooked && reOverlay.MatchString(d.Expr):
		return "libpcap reads an offset that geneve didn't set, and so the cooked header, which the kernel doesn't show"
	case d.Kind == Decides && j.clobbers(d):
		return "libpcap's arithmetic overwrites the register of an offset"
	}
	if d.Kind == Refuses && d.Target != filter.File && !j.inKernel(d) {
		return "no program for the kernel is possible: libpcap filters in user space"
	}
	if d.Kind == Accepts && strings.Contains(d.Detail, "expression rejects all packets") && j.takesNothing(d.Case) {
		return "libpcap's optimiser sees that nothing passes, and nothing does"
	}
	return ""
}

// takesNothing says whether our program for c agrees with libpcap's when it isn't
// optimised, which takes no packet.
func (j *Judge) takesNothing(c Case) bool {
	q := c.query()
	q.Plain = true
	theirs, err := j.Oracle.Compile(q)
	if err != nil {
		return false
	}
	ours, err := guarded(j.Compile, c)
	if err != nil {
		return false
	}
	p := &Pair{Case: c, Theirs: theirs, Ours: ours, Torn: map[string]int{}}
	if c.LinkType == LinkNull && c.Target == filter.File {
		p.Others = j.others(c)[1:]
	}
	_, taken, bad := p.Hunt(seeded(5, 5), 300)
	return taken == 0 && bad == nil
}

// inKernel says whether libpcap's program for d can run in the kernel: it doesn't
// jump backwards, and what it loads from a cooked header is in the socket buffer.
func (j *Judge) inKernel(d *Disagreement) bool {
	for _, i := range d.Theirs {
		if i.Op == classJMP && int32(i.K) < 0 {
			return false
		}
		mode := i.Op & modeMask
		packet := i.Op&classMask == classLD && (mode == modeABS || mode == modeIND) || i.Op == classLDX|modeMSH|sizeB
		if d.Target != filter.LiveCooked || !packet || int(i.K) >= cookedHeader(d.LinkType) {
			continue
		}
		field := map[int]map[uint32]uint16{
			LinkSLL:  {0: sizeH, 2: sizeH, 14: sizeH},
			LinkSLL2: {0: sizeH, 4: sizeW, 8: sizeH, 10: sizeB},
		}
		if size, known := field[d.LinkType][i.K]; !known || mode != modeABS || i.Op&sizeMask != size {
			return false
		}
	}
	return j.Kernel == nil || d.Target != filter.Live || j.Kernel(d.Theirs) == nil
}

var (
	reOverlay  = regexp.MustCompile(`\b(geneve|vxlan)\b`)
	reMoving   = regexp.MustCompile(`\b(geneve|vxlan|vlan)\b`)
	reRelation = regexp.MustCompile(`[<>=]`)
)

// clobbers says whether libpcap's program for d uses the scratch word that holds
// an offset for arithmetic too. It does so where a relation comes before the first
// use of the offset. Where a tunnel's offset varies that isn't looked up in the
// program but taken from the expression.
func (j *Judge) clobbers(d *Disagreement) bool {
	if d.LinkType != Link80211 && d.LinkType != LinkRadiotap {
		moves := reOverlay.MatchString(d.Expr) || d.Target == filter.Live && reMoving.MatchString(d.Expr)
		return moves && reRelation.MatchString(d.Expr)
	}
	q := d.query()
	q.Plain = true
	prog, err := j.Oracle.Compile(q)
	if err != nil || len(prog) < 3 {
		return false
	}
	// The program begins with working the offsets out, if it needs them.
	wlan := prog[0].Op == classLDX|modeIMM
	radiotap := prog[0].Op == classLD|modeABS|sizeB && prog[0].K == 3 && prog[1].Op == classALU|0x60
	if !wlan && !radiotap {
		return false
	}
	offset := map[uint32]bool{}
	begun := false
	for i, in := range prog {
		switch {
		case in.Op&classMask == classJMP:
			begun = true
		case in.Op != classST && in.Op != classSTX:
		case !begun:
			offset[in.K] = true
		case offset[in.K] && prog[i-1].K != 2 && prog[i-1].K != 0xfffffffc: // not QoS, not padding
			return true
		case offset[in.K] && prog[i-1].Op&classMask != classALU:
			return true
		}
	}
	return false
}

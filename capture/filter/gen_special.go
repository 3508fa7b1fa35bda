package filter

import (
	"strconv"
	"strings"
)

func lower(s string) string  { return strings.ToLower(s) }
func quoted(s string) string { return strconv.QuoteToGraphic(s) }

// What the kernel knows of a packet beside its bytes (linux/filter.h).
const (
	metaBase        = 0xfffff000
	metaProtocol    = metaBase + 0
	metaPktType     = metaBase + 4
	metaIfIndex     = metaBase + 8
	metaHaType      = metaBase + 28
	metaVLANTag     = metaBase + 44
	metaVLANPresent = metaBase + 48

	outgoing = 4 // PACKET_OUTGOING, also in cooked headers
)

// special is a primitive with a form of its own.
func (g *gen) special(s *special) cond {
	switch s.word {
	case "broadcast":
		return g.broadcast(s.p)
	case "multicast":
		return g.multicast(s.p)
	case "less":
		return not(g.test(jmpGt, s.arg.val, g.wireLength()))
	case "greater":
		return g.test(jmpGe, s.arg.val, g.wireLength())
	case "byte":
		return g.byteTest(s)
	case "inbound":
		return g.direction(false)
	case "outbound":
		return g.direction(true)
	case "ifindex":
		return g.ifIndex(s.arg.val)
	case "vlan":
		return g.vlan(s.arg)
	case "mpls":
		return g.mpls(s.arg)
	case "pppoed":
		return g.linkProto(etPPPoED)
	case "pppoes":
		return g.pppoe(s.arg)
	case "geneve", "vxlan":
		return g.tunnel(s.word, s.arg)
	case "llc":
		return g.llcType(s.arg)
	case "type", "subtype":
		return g.frameType(s)
	case "dir":
		return g.frameDir(s)
	}
	return g.fail("%s is not supported", quoted(s.word))
}

// byteTest is "byte i op v", i counted from the link-layer header.
func (g *gen) byteTest(s *special) cond {
	i, v := s.arg.val, s.arg2.val
	if !g.atMost("byte", v, 0xff) {
		return g.never()
	}
	switch s.op {
	case "=":
		return g.equal(atLink, i, sizeB, v)
	case "<":
		return not(g.atLeast(atLink, i, sizeB, v))
	case ">":
		return g.greater(atLink, i, sizeB, v)
	case "|":
		body := append(g.load(atLink, i, sizeB), g.op(opAlu|aluOr|srcK, v))
		return not(g.test(jmpEq, 0, body))
	}
	body := append(g.load(atLink, i, sizeB), g.op(opAlu|aluAnd|srcK, v))
	return not(g.test(jmpEq, 0, body))
}

// direction is inbound or outbound. Cooked headers say it; else only the kernel
// knows.
func (g *gen) direction(out bool) cond {
	var c cond
	switch {
	case g.link == linkSLL:
		c = g.equal(atLink, 0, sizeH, outgoing)
	case g.link == linkSLL2:
		c = g.equal(atLink, 10, sizeB, outgoing)
	case g.Target != File:
		c = g.test(jmpEq, outgoing, g.meta(sizeH, metaPktType))
	default:
		return g.fail("packets of link type %s in a file don't tell their direction", linkName(g.link))
	}
	if !out {
		c = not(c)
	}
	return c
}

func (g *gen) ifIndex(v uint32) cond {
	switch {
	case g.link == linkSLL2:
		return g.equal(atLink, 4, sizeW, v)
	case g.Target != File:
		return g.test(jmpEq, v, g.meta(sizeW, metaIfIndex))
	}
	return g.fail("packets of link type %s in a file don't tell their interface", linkName(g.link))
}

// Types of LLC frames by their control field.
var (
	llcSupervisory = map[string]uint32{"rr": 0x01, "rnr": 0x05, "rej": 0x09}
	llcUnnumbered  = map[string]uint32{
		"ui": 0x03, "ua": 0x63, "disc": 0x43, "dm": 0x0f, "sabme": 0x6f, "test": 0xe3, "xid": 0xaf, "frmr": 0x87,
	}
)

// llcType is "llc" and "llc T".
func (g *gen) llcType(arg token) cond {
	var c cond
	switch g.link {
	case linkEthernet:
		// Novell's framing has 0xffff where LLC has its access points.
		c = g.hasLLC()
		c = and(c, not(g.equal(atLLC, 0, sizeH, 0xffff)))
	case linkTokenRing, linkFDDI, linkATM:
		c = g.always()
	case link80211, linkPrism, linkAVS, linkRadiotap, linkPPI:
		c = g.masked(atLink, 0, sizeB, frameData, frameTypeMask)
	default:
		return g.notOn("llc")
	}
	if arg.kind == tEOF {
		return c
	}
	name := lower(arg.text)
	if arg.kind == tWord {
		name = "rnr" // the keyword that it also is
	}
	switch name {
	case "i":
		return and(c, not(g.anyBit(atLLC, 2, sizeB, 1)))
	case "s":
		return and(c, g.masked(atLLC, 2, sizeB, 1, 3))
	case "u":
		return and(c, g.masked(atLLC, 2, sizeB, 3, 3))
	}
	if v, ok := llcSupervisory[name]; ok {
		return and(c, g.masked(atLLC, 2, sizeB, v, 0x0f))
	}
	if v, ok := llcUnnumbered[name]; ok {
		return and(c, g.masked(atLLC, 2, sizeB, v, 0xef))
	}
	return g.failAt(arg.pos, "unknown LLC type %s", quoted(arg.text))
}

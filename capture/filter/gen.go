package filter

import (
	"context"
	"fmt"
)

// offset is where something starts in a packet: a constant, plus what a scratch
// register holds where headers before it vary in length.
type offset struct {
	variable bool
	fixed    uint32
	reg      int // -1: none given yet
}

// base is what a load's offset counts from.
type base uint8

const (
	atPacket    base = iota
	atLink           // link-layer header
	atPrevLink       // the link-layer header around this one
	atLinkType       // field that names the network protocol
	atLLC            // link-layer payload: an LLC header, if there is one
	atLabel          // the MPLS label before the network header
	atNet            // network header
	atNetNoSNAP      // network header after an LLC header without SNAP
	atTran4          // transport header after IPv4
	atTran6          // transport header after IPv6 without extension headers
)

// gen turns a tree into a graph of blocks. It walks the tree once; vlan and its
// like change the offsets for everything that follows.
//
// The first error stays and stops the work; what is returned after it is of no
// use, but safe to work on.
type gen struct {
	Options
	names  *resolver
	expr   string
	err    error
	pos    int // in expr, of the primitive at hand
	blocks int

	link, prevLink int // link type at hand, and the one around it
	layers             // where the headers are
	labels, tags   int // MPLS labels and VLAN tags passed
	encap          bool
	vlanVaries     bool          // a VLAN tag may be in the packet or not
	hasLocalJumps  bool          // the optimiser must not be used
	regs           [scratch]bool // given out
	used           [scratch]bool // given out at some time
}

// layers is where the headers are.
type layers struct {
	linkHdr, prevLinkHdr, outerHdr offset
	linkPl                         offset // link-layer payload
	linkType                       offset // field that names the network protocol
	noLinkType                     bool   // there is no such field
	net                            uint32 // from linkPl to the network header
	netNoSNAP                      uint32 // the same after LLC without SNAP
}

// maxBlocks bounds the work on one expression.
const maxBlocks = 1 << 15

func (g *gen) fail(format string, args ...any) cond { return g.failAt(g.pos, format, args...) }

func (g *gen) failAt(pos int, format string, args ...any) cond {
	if g.err == nil {
		g.err = &Error{Expr: g.expr, Pos: pos, Text: fmt.Sprintf(format, args...)}
	}
	return g.never()
}

// atMost refuses a value that its field can't hold.
func (g *gen) atMost(what string, v, most uint32) bool {
	if v > most {
		g.fail("%s %d is greater than %d", what, v, most)
		return false
	}
	return true
}

// newReg gives a scratch register for a value, until freeReg.
func (g *gen) newReg() int {
	for r := range scratch {
		if !g.regs[r] {
			g.regs[r], g.used[r] = true, true
			return r
		}
	}
	g.fail("too many values at a time")
	return 0
}

// keepReg gives a scratch register for an offset that the prologue works out. No
// value may have had it before: it would be overwritten where that is computed.
func (g *gen) keepReg() int {
	for r := scratch - 1; r >= 0; r-- {
		if !g.used[r] {
			g.regs[r], g.used[r] = true, true
			return r
		}
	}
	g.fail("too many values at a time")
	return 0
}

func (g *gen) freeReg(r int) { g.regs[r] = false }

func (g *gen) op(code uint16, k uint32) *instr { return &instr{code: code, k: k, pos: g.pos} }

// meta loads what the kernel knows of a packet.
func (g *gen) meta(size uint16, k uint32) []*instr {
	in := g.op(opLd|modeAbs|size, k)
	in.meta = true
	return []*instr{in}
}

// test is the condition that a comparison of A with a constant gives after body.
func (g *gen) test(jmp uint16, k uint32, body []*instr) cond {
	return g.jump(jmp|srcK, k, body)
}

// testX compares A with X.
func (g *gen) testX(jmp uint16, body []*instr) cond { return g.jump(jmp|srcX, 0, body) }

func (g *gen) jump(code uint16, k uint32, body []*instr) cond {
	if g.blocks++; g.blocks > maxBlocks && g.err == nil {
		g.err = &Error{Expr: g.expr, Pos: g.pos, Text: "expression is too complex"}
	}
	b := newBlock(instr{code: opJmp | code, k: k, pos: g.pos}, body)
	return cond{entry: b, yes: []*edge{&b.yes}, no: []*edge{&b.no}}
}

func (g *gen) always() cond {
	return g.test(jmpEq, 0, []*instr{g.op(opLd|modeImm, 0)})
}

func (g *gen) never() cond {
	return g.test(jmpEq, 0, []*instr{g.op(opLd|modeImm, 1)})
}

// varying returns the code that brings the variable part of an offset into X,
// nil if it has none.
func (g *gen) varying(o *offset) []*instr {
	if !o.variable {
		return nil
	}
	if o.reg < 0 {
		o.reg = g.keepReg()
	}
	return []*instr{g.op(opLdx|modeMem, uint32(o.reg))}
}

// load brings packet[base+off] into A.
func (g *gen) load(at base, off uint32, size uint16) []*instr {
	var body []*instr
	switch at {
	case atPacket:
	case atLink:
		body = g.varying(&g.linkHdr)
		off += g.linkHdr.fixed
	case atPrevLink:
		body = g.varying(&g.prevLinkHdr)
		off += g.prevLinkHdr.fixed
	case atLinkType:
		body = g.varying(&g.linkType)
		off += g.linkType.fixed
	case atLLC:
		body = g.varying(&g.linkPl)
		off += g.linkPl.fixed
	case atLabel:
		body = g.varying(&g.linkPl)
		off += g.linkPl.fixed + g.net - labelLen
	case atNet:
		body = g.varying(&g.linkPl)
		off += g.linkPl.fixed + g.net
	case atNetNoSNAP:
		body = g.varying(&g.linkPl)
		off += g.linkPl.fixed + g.netNoSNAP
	case atTran4:
		body = g.ipHeaderLength()
		off += g.linkPl.fixed + g.net
	case atTran6:
		body = g.varying(&g.linkPl)
		off += g.linkPl.fixed + g.net + ip6HeaderLen
	}
	return g.loadFrom(body, off, size)
}

// loadFrom loads from X+off if body sets X, else from off.
func (g *gen) loadFrom(body []*instr, off uint32, size uint16) []*instr {
	if body != nil {
		return append(body, g.op(opLd|modeInd|size, off))
	}
	return []*instr{g.op(opLd|modeAbs|size, off)}
}

// ipHeaderLength brings the length of the IPv4 header, plus the variable part of
// the offset before it, into X.
func (g *gen) ipHeaderLength() []*instr {
	at := g.linkPl.fixed + g.net
	body := g.varying(&g.linkPl)
	if body == nil {
		return []*instr{g.op(opLdx|modeMsh|sizeB, at)}
	}
	return append(body,
		g.op(opLd|modeInd|sizeB, at),
		g.op(opAlu|aluAnd|srcK, 0xf),
		g.op(opAlu|aluLsh|srcK, 2),
		g.op(opAlu|aluAdd|srcX, 0),
		g.op(miscTax, 0))
}

const noMask = 0xffffffff

// field compares a masked field with a value.
func (g *gen) field(at base, off uint32, size, jmp uint16, mask, v uint32) cond {
	body := g.load(at, off, size)
	if mask != noMask {
		body = append(body, g.op(opAlu|aluAnd|srcK, mask))
	}
	return g.test(jmp, v, body)
}

func (g *gen) equal(at base, off uint32, size uint16, v uint32) cond {
	return g.field(at, off, size, jmpEq, noMask, v)
}

func (g *gen) greater(at base, off uint32, size uint16, v uint32) cond {
	return g.field(at, off, size, jmpGt, noMask, v)
}

func (g *gen) atLeast(at base, off uint32, size uint16, v uint32) cond {
	return g.field(at, off, size, jmpGe, noMask, v)
}

// masked compares field & mask with v.
func (g *gen) masked(at base, off uint32, size uint16, v, mask uint32) cond {
	return g.field(at, off, size, jmpEq, mask, v)
}

// anyBit is true if the field has one of some bits.
func (g *gen) anyBit(at base, off uint32, size uint16, bits uint32) cond {
	return g.test(jmpSet, bits, g.load(at, off, size))
}

// bytes compares len(v) bytes, the last ones first: they tell more.
func (g *gen) bytes(at base, off uint32, v []byte) cond {
	var c cond
	n := len(v)
	for n >= 4 {
		n -= 4
		c = and(c, g.equal(at, off+uint32(n), sizeW, be32(v[n:])))
	}
	for n >= 2 {
		n -= 2
		c = and(c, g.equal(at, off+uint32(n), sizeH, uint32(v[n])<<8|uint32(v[n+1])))
	}
	if n > 0 {
		c = and(c, g.equal(at, off, sizeB, uint32(v[0])))
	}
	return c
}

func be32(b []byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}

// build returns the graph's first block for a tree.
func (g *gen) build(ctx context.Context, x expr) (*block, error) {
	g.names = &resolver{ctx: ctx}
	accept := newBlock(instr{code: opRet, k: g.SnapLen}, nil)
	if x == nil {
		return accept, nil
	}
	c := g.expression(x)
	if g.err != nil {
		return nil, g.err
	}
	c = before(g.prologue(c.entry), c)
	if g.link == linkPPI {
		c = and(g.equal(atPacket, 4, sizeW, 105<<24), c)
	}
	aim(c.yes, accept)
	aim(c.no, newBlock(instr{code: opRet}, nil))
	return c.entry, g.err
}

// expression walks a tree.
func (g *gen) expression(x expr) cond {
	if g.err != nil {
		return g.never()
	}
	switch x := x.(type) {
	case *chain:
		c := g.expression(x.first)
		for _, l := range x.rest {
			if g.err != nil {
				break
			}
			if r := g.expression(l.x); l.and {
				c = and(c, r)
			} else {
				c = or(c, r)
			}
		}
		return c
	case *negation:
		return not(g.expression(x.x))
	case *match:
		g.pos = x.id.pos
		return g.identifier(x)
	case *protocol:
		g.pos = x.pos
		return g.abbreviation(x.p)
	case *special:
		g.pos = x.pos
		return g.special(x)
	case *relation:
		g.pos = x.pos
		return g.relation(x)
	}
	return g.fail("unknown expression")
}

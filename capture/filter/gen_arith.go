package filter

// value is code that leaves a value in a scratch register, and what must be
// true of the packet for the value to exist.
type value struct {
	body []*instr
	reg  int
	only cond // entry is nil: nothing
}

func (g *gen) toA(v value) *instr { return g.op(opLd|modeMem, uint32(v.reg)) }
func (g *gen) toX(v value) *instr { return g.op(opLdx|modeMem, uint32(v.reg)) }

// relation compares two values.
func (g *gen) relation(r *relation) cond {
	a := g.arith(r.l)
	b := g.arith(r.r)
	if g.err != nil {
		return g.never()
	}
	g.pos = r.pos
	body := append(a.body, b.body...)
	body = append(body, g.toX(b), g.toA(a))
	ops := map[string]uint16{">": jmpGt, ">=": jmpGe, "=": jmpEq, "<=": jmpGt, "<": jmpGe, "!=": jmpEq}
	c := g.testX(ops[r.op], body)
	switch r.op {
	case "<=", "<", "!=":
		c = not(c)
	}
	g.freeReg(a.reg)
	g.freeReg(b.reg)
	return and(and(a.only, b.only), c)
}

// arith computes a value.
func (g *gen) arith(a arith) value {
	if g.err != nil {
		return value{}
	}
	switch a := a.(type) {
	case *number:
		return g.immediate(a.pos, g.op(opLd|modeImm, a.v))
	case *length:
		return g.immediate(a.pos, g.wireLength()...)
	case *minus:
		v := g.arith(a.x)
		g.pos = a.pos
		v.body = append(v.body, g.toA(v), g.op(opAlu|aluNeg, 0), g.op(opSt, uint32(v.reg)))
		return v
	case *operation:
		return g.operation(a)
	case *load:
		v := g.arith(a.off)
		g.pos = a.pos
		return g.indexed(a, v)
	}
	g.fail("unknown value")
	return value{}
}

func (g *gen) immediate(pos int, body ...*instr) value {
	g.pos = pos
	reg := g.newReg()
	return value{body: append(body, g.op(opSt, uint32(reg))), reg: reg}
}

// wireLength loads the packet's length. A cooked socket's packets lack the
// header that they have in a file; it counts all the same.
func (g *gen) wireLength() []*instr {
	body := []*instr{g.op(opLd|modeLen, 0)}
	if g.Target == LiveCooked {
		n := uint32(sllLen)
		if g.LinkType == linkSLL2 {
			n = sll2Len
		}
		body = append(body, g.op(opAlu|aluAdd|srcK, n))
	}
	return body
}

var arithOps = map[string]uint16{
	"+": aluAdd, "-": aluSub, "*": aluMul, "/": aluDiv, "%": aluMod,
	"&": aluAnd, "|": aluOr, "^": aluXor, "<<": aluLsh, ">>": aluRsh,
}

func (g *gen) operation(o *operation) value {
	a := g.arith(o.l)
	b := g.arith(o.r)
	if g.err != nil {
		return value{}
	}
	g.pos = o.pos
	if first := b.body[0]; first.code == opLd|modeImm {
		switch k := first.k; o.op {
		case "/", "%":
			if k == 0 {
				g.fail("division by zero")
			}
		case "<<", ">>":
			if k > 31 {
				g.fail("shift by more than 31 bits")
			}
		}
	}
	// The right side's conditions are not asked for: "1 + tcp[0] = 5" looks at
	// packets that are not TCP too. Everyone's programs do it like this.
	v := value{body: append(a.body, b.body...), only: a.only}
	v.body = append(v.body, g.toX(b), g.toA(a), g.op(opAlu|arithOps[o.op]|srcX, 0))
	g.freeReg(a.reg)
	g.freeReg(b.reg)
	v.reg = g.newReg()
	v.body = append(v.body, g.op(opSt, uint32(v.reg)))
	return v
}

// indexed loads from a protocol's header at an offset that was computed. Only
// packets of that protocol have the value.
func (g *gen) indexed(l *load, v value) value {
	if g.err != nil {
		return value{}
	}
	size := uint16(sizeB)
	switch l.size {
	case 1:
	case 2:
		size = sizeH
	case 4:
		size = sizeW
	default:
		g.fail("%d bytes can't be loaded, only 1, 2 or 4", l.size)
	}
	reg := g.newReg()
	g.freeReg(v.reg)
	var varying []*instr
	var fixed uint32
	switch p := l.p; p {
	case pRadio:
		if g.link != linkAVS && g.link != linkRadiotap && g.link != linkPrism {
			g.notOn("radio")
		}
	case pLink:
		varying = g.varying(&g.linkHdr)
		fixed = g.linkHdr.fixed
	case pIP, pARP, pRARP, pATalk, pDECnet, pSCA, pLAT, pMOPRC, pMOPDL, pIPv6:
		varying = g.varying(&g.linkPl)
		fixed = g.linkPl.fixed + g.net
		v.only = and(v.only, g.abbreviation(p))
	case pSCTP, pTCP, pUDP, pICMP, pIGMP, pIGRP, pPIM, pVRRP, pCARP:
		varying = g.ipHeaderLength()
		fixed = g.linkPl.fixed + g.net
		// The order is one that others have too: it decides about short packets.
		only := and(g.abbreviation(p), g.firstFragment())
		v.only = and(g.abbreviation(pIP), and(v.only, only))
	case pICMPv6:
		v.only = and(v.only, g.abbreviation(pIPv6))
		v.only = and(v.only, g.equal(atNet, 6, sizeB, ipICMPv6))
		varying = g.varying(&g.linkPl)
		fixed = g.linkPl.fixed + g.net + ip6HeaderLen
	default:
		g.fail("%s has no header to look into", quoted(p.String()))
	}
	if varying == nil {
		varying = []*instr{g.toX(v)}
	} else {
		varying = append(varying, g.toA(v), g.op(opAlu|aluAdd|srcX, 0), g.op(miscTax, 0))
	}
	v.body = append(v.body, g.loadFrom(varying, fixed, size)...)
	v.body = append(v.body, g.op(opSt, uint32(reg)))
	v.reg = reg
	return v
}

package filter

// values gives numbers to values: what is computed in the same way from the same
// numbers has the same number. 0 stands for a value that is not known.
type values struct {
	numbers map[computation]uint32
	consts  map[uint32]uint32 // the numbers of constants, and their values
}

// computation is an instruction and the numbers of what it works on.
type computation struct {
	code uint16
	a, b uint32
}

func (v *values) reset() {
	v.numbers = make(map[computation]uint32, len(v.numbers))
	v.consts = make(map[uint32]uint32, len(v.consts))
}

func (v *values) number(code uint16, a, b uint32) uint32 {
	c := computation{code, a, b}
	if n, ok := v.numbers[c]; ok {
		return n
	}
	n := uint32(len(v.numbers) + 1)
	v.numbers[c] = n
	return n
}

// constant is the number of a constant.
func (v *values) constant(k uint32) uint32 {
	n := v.number(opLd|modeImm, k, 0)
	v.consts[n] = k
	return n
}

// store puts a value into a register. An instruction that puts there what is
// there already is removed.
func store(in *instr, reg *uint32, n uint32, deep bool) {
	if deep && n != 0 && *reg == n {
		in.code = nop
		return
	}
	*reg = n
}

// execute follows an instruction's effect on the values of the registers. If
// deep is set it also makes it simpler where it can.
func (o *optimizer) execute(in *instr, val *[atoms]uint32, deep bool) {
	a, x := &val[regA], &val[regX]
	switch in.code {
	case nop:
	case opLd | modeAbs | sizeW, opLd | modeAbs | sizeH, opLd | modeAbs | sizeB:
		store(in, a, o.number(in.code, in.k, 0), deep)
	case opLd | modeInd | sizeW, opLd | modeInd | sizeH, opLd | modeInd | sizeB:
		if k, ok := o.consts[*x]; ok && deep {
			in.code = opLd | modeAbs | in.code&0x18
			in.k += k
			store(in, a, o.number(in.code, in.k, 0), deep)
			o.changed()
			return
		}
		store(in, a, o.number(in.code, in.k, *x), deep)
	case opLd | modeLen:
		store(in, a, o.number(in.code, 0, 0), deep)
	case opLd | modeImm:
		store(in, a, o.constant(in.k), deep)
	case opLdx | modeImm:
		store(in, x, o.constant(in.k), deep)
	case opLdx | modeMsh | sizeB:
		store(in, x, o.number(in.code, in.k, 0), deep)
	case opAlu | aluNeg:
		if k, ok := o.consts[*a]; ok && deep {
			in.code, in.k = opLd|modeImm, -k
			*a = o.constant(in.k)
			return
		}
		*a = o.number(in.code, *a, 0)
	case miscTxa:
		store(in, a, *x, deep)
	case miscTax:
		store(in, x, *a, deep)
	case opLd | modeMem:
		o.recall(in, a, val[in.k], deep)
	case opLdx | modeMem:
		o.recall(in, x, val[in.k], deep)
	case opSt:
		store(in, &val[in.k], *a, deep)
	case opStx:
		store(in, &val[in.k], *x, deep)
	default:
		if source(in.code) == srcX {
			o.computeX(in, a, *x, deep)
		} else {
			o.computeK(in, a, deep)
		}
	}
}

// recall loads from a scratch register.
func (o *optimizer) recall(in *instr, reg *uint32, n uint32, deep bool) {
	if k, ok := o.consts[n]; ok && deep {
		in.code, in.k = class(in.code)|modeImm, k
		o.changed()
	}
	store(in, reg, n, deep)
}

// fold replaces an operation on two constants by its result.
func (o *optimizer) fold(in *instr, a *uint32, l, r uint32) {
	v, ok := compute(aluOp(in.code), l, r)
	if !ok {
		o.fail(in, "division by zero")
		return
	}
	in.code, in.k = opLd|modeImm, v
	*a = o.constant(v)
	o.changed()
}

func (o *optimizer) fail(in *instr, text string) {
	if o.err == nil {
		o.err = &Error{Pos: in.pos, Text: text}
	}
}

// computeK is A op k.
func (o *optimizer) computeK(in *instr, a *uint32, deep bool) {
	if deep {
		if in.k == 0 {
			switch aluOp(in.code) {
			case aluAdd, aluLsh, aluRsh, aluOr, aluXor:
				in.code = nop
				return
			case aluMul, aluAnd:
				in.code = opLd | modeImm
				*a = o.constant(0)
				return
			case aluDiv, aluMod:
				o.fail(in, "division by zero")
				return
			}
		}
		if l, ok := o.consts[*a]; ok {
			o.fold(in, a, l, in.k)
			return
		}
	}
	*a = o.number(in.code, *a, o.constant(in.k))
}

// computeX is A op X.
func (o *optimizer) computeX(in *instr, a *uint32, x uint32, deep bool) {
	op := aluOp(in.code)
	l, constA := o.consts[*a]
	r, constX := o.consts[x]
	switch {
	case deep && constX && constA:
		o.fold(in, a, l, r)
		return
	case deep && constX:
		in.code, in.k = opAlu|op|srcK, r
		if (op == aluLsh || op == aluRsh) && r > 31 {
			o.fail(in, "shift by more than 31 bits")
			return
		}
		*a = o.number(in.code, *a, o.constant(r))
		o.changed()
		return
	case deep && constA && l == 0:
		switch op {
		case aluAdd, aluOr, aluXor:
			in.code = miscTxa
			store(in, a, x, deep)
			return
		case aluMul, aluDiv, aluMod, aluAnd, aluLsh, aluRsh:
			in.code, in.k = opLd|modeImm, 0
			store(in, a, o.constant(0), deep)
			return
		}
	}
	*a = o.number(in.code, *a, x)
}

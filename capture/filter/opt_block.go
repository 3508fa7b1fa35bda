package filter

// uses returns the register that an instruction reads: a number, bothAX or
// noAtom.
func uses(in *instr) int {
	if in.code == nop {
		return noAtom
	}
	switch class(in.code) {
	case opLd, opLdx:
		switch mode(in.code) {
		case modeInd:
			return regX
		case modeMem:
			return int(in.k)
		}
		return noAtom
	case opSt:
		return regA
	case opStx:
		return regX
	case opJmp, opAlu:
		if source(in.code) == srcX {
			return bothAX
		}
		return regA
	case opMisc:
		if in.code == miscTxa {
			return regX
		}
		return regA
	}
	return noAtom // a return of a constant
}

// sets returns the register that an instruction writes, or noAtom.
func sets(in *instr) int {
	if in.code == nop {
		return noAtom
	}
	switch class(in.code) {
	case opLd, opAlu:
		return regA
	case opLdx:
		return regX
	case opSt, opStx:
		return int(in.k)
	case opMisc:
		if in.code == miscTax {
			return regX
		}
		return regA
	}
	return noAtom
}

// findUses finds which registers' values are still needed after each block.
func (o *optimizer) findUses() {
	for l := o.root.level; l >= 0; l-- {
		for _, b := range o.levels[l] {
			b.findLocalUses()
			b.out = 0
		}
	}
	for l := 1; l <= o.root.level; l++ {
		for _, b := range o.levels[l] {
			b.out |= b.yes.succ.in | b.no.succ.in
			b.in |= b.out &^ b.kill
		}
	}
}

func (b *block) findLocalUses() {
	var def, use, kill uint32
	read := func(atom int) {
		switch {
		case atom == bothAX:
			use |= (1<<regA | 1<<regX) &^ def
		case atom >= 0:
			use |= 1 << atom &^ def
		}
	}
	for _, in := range b.body {
		read(uses(in))
		if atom := sets(in); atom >= 0 {
			kill |= 1 << atom &^ use
			def |= 1 << atom
		}
	}
	if class(b.test.code) == opJmp {
		read(uses(&b.test))
	}
	b.def, b.kill, b.in = def, kill, use
}

// block follows the values through a block and makes it smaller.
func (o *optimizer) block(b *block, deep bool) {
	b.val = [atoms]uint32{}
	if e := b.into; e != nil {
		b.val = e.pred.val
		for e = e.next; e != nil; e = e.next {
			for i, v := range e.pred.val {
				if b.val[i] != v {
					b.val[i] = 0
				}
			}
		}
	}
	a, x := b.val[regA], b.val[regX]
	for _, in := range b.body {
		o.execute(in, &b.val, deep)
	}
	idle := b.out == 0 && a != 0 && b.val[regA] == a && x != 0 && b.val[regX] == x
	if deep && (idle || class(b.test.code) == opRet) {
		if b.body != nil {
			b.body = nil
			o.changed()
		}
	} else {
		o.peephole(b)
		o.dropDead(b)
	}
	if source(b.test.code) == srcK {
		b.other = o.constant(b.test.k)
	} else {
		b.other = b.val[regX]
	}
	b.yes.code, b.no.code = int(b.test.code), -int(b.test.code)
}

// dropDead removes instructions whose result nobody uses.
func (o *optimizer) dropDead(b *block) {
	var last [atoms]*instr // what set a register, not read since
	look := func(in *instr) {
		switch atom := uses(in); {
		case atom == bothAX:
			last[regA], last[regX] = nil, nil
		case atom >= 0:
			last[atom] = nil
		}
		if atom := sets(in); atom >= 0 {
			if last[atom] != nil {
				last[atom].code = nop
				o.changed()
			}
			last[atom] = in
		}
	}
	for _, in := range b.body {
		look(in)
	}
	look(&b.test)
	for atom, in := range last {
		if in != nil && b.out&(1<<atom) == 0 {
			in.code = nop
			b.val[atom] = 0
			o.changed()
		}
	}
}

// live returns the first instruction in body from i on that was not removed.
func live(body []*instr, i int) (*instr, int) {
	for ; i < len(body); i++ {
		if body[i].code != nop {
			return body[i], i
		}
	}
	return nil, i
}

// peephole replaces short sequences by better ones.
func (o *optimizer) peephole(b *block) {
	if len(b.body) == 0 {
		return
	}
	last := b.body[0]
	for i := 0; ; {
		in, at := live(b.body, i)
		if in == nil {
			break
		}
		next, nextAt := live(b.body, at+1)
		if next == nil {
			break
		}
		last = next
		i = nextAt
		// What was stored is still in A.
		if in.code == opSt && next.code == opLdx|modeMem && in.k == next.k {
			next.code = miscTax
			o.changed()
		}
		if in.code == opLd|modeImm && next.code == miscTax {
			in.code, next.code = opLdx|modeImm, miscTxa
			o.changed()
		}
		if in.code == opLd|modeImm && b.out&(1<<regX) == 0 {
			o.indexByConstant(b, in, next, nextAt)
		}
	}
	o.lastOperation(b, last)
	o.knownTest(b)
}

// indexByConstant: a load at X plus a constant, which was added to X with A's
// help, has the constant in the load instead. That is what tcp[13] comes to.
func (o *optimizer) indexByConstant(b *block, constant, next *instr, at int) {
	add, addAt := next, at
	if next.code == opLdx|modeMsh|sizeB {
		add, addAt = live(b.body, at+1)
	}
	if add == nil || add.code != opAlu|aluAdd|srcX {
		return
	}
	tax, taxAt := live(b.body, addAt+1)
	if tax == nil || tax.code != miscTax {
		return
	}
	ld, _ := live(b.body, taxAt+1)
	if ld == nil || class(ld.code) != opLd || mode(ld.code) != modeInd {
		return
	}
	ld.k += constant.k
	constant.code, add.code, tax.code = nop, nop, nop
	o.changed()
}

// lastOperation puts the last operation before a comparison for equality into
// the comparison.
func (o *optimizer) lastOperation(b *block, last *instr) {
	if b.test.code != opJmp|jmpEq|srcK || b.out&(1<<regA) != 0 {
		return
	}
	switch {
	case last.code == opAlu|aluSub|srcX:
		if k, ok := o.consts[b.val[regX]]; ok {
			b.test.k += k
		} else if b.test.k == 0 {
			b.test.code = opJmp | jmpEq | srcX
		} else {
			return
		}
	case last.code == opAlu|aluSub|srcK:
		b.test.k += last.k
	case last.code == opAlu|aluAnd|srcK && b.test.k == 0:
		b.test.code, b.test.k = opJmp|jmpSet|srcK, last.k
		b.swap()
	default:
		return
	}
	last.code = nop
	o.changed()
}

// swap makes a block's test go the other way.
func (b *block) swap() { b.yes.succ, b.no.succ = b.no.succ, b.yes.succ }

// knownTest simplifies a test, and leaves only one way if the outcome is known.
func (o *optimizer) knownTest(b *block) {
	if b.test.code == opJmp|jmpSet|srcK {
		switch b.test.k {
		case 0:
			b.yes.succ = b.no.succ
		case 0xffffffff: // any bit: not zero
			b.test.code, b.test.k = opJmp|jmpEq|srcK, 0
			b.swap()
			o.changed()
		}
	}
	if k, ok := o.consts[b.val[regX]]; ok && source(b.test.code) == srcX {
		b.test.code &^= srcX
		b.test.k = k
	}
	a, ok := o.consts[b.val[regA]]
	if !ok || source(b.test.code) != srcK {
		return
	}
	if b.yes.succ != b.no.succ {
		o.changed()
	}
	if holds(b.test.code, a, b.test.k) {
		b.no.succ = b.yes.succ
	} else {
		b.yes.succ = b.no.succ
	}
}

// holds says whether a test of two constants is true.
func holds(code uint16, a, k uint32) bool {
	switch aluOp(code) {
	case jmpEq:
		return a == k
	case jmpGt:
		return a > k
	case jmpGe:
		return a >= k
	}
	return a&k != 0
}

package filter

// conflict says whether a register that is used after to would have another
// value if from led there at once.
func conflict(from, to *block) bool {
	if to.out == 0 {
		return false
	}
	for atom := range atoms {
		if to.out&(1<<atom) != 0 && from.val[atom] != to.val[atom] {
			return true
		}
	}
	return false
}

// outcome returns where the test of b leads if edge e was used before: nil if
// that is not known.
func outcome(b *block, e *edge) *block {
	code, taken := e.code, true
	if code < 0 {
		code, taken = -code, false
	}
	if int(b.test.code) != code || b.val[regA] != e.pred.val[regA] {
		return nil
	}
	switch {
	case b.other == e.pred.other && taken:
		return b.yes.succ
	case b.other == e.pred.other:
		return b.no.succ
	case taken && code == opJmp|jmpEq|srcK: // equal to another constant
		return b.no.succ
	}
	return nil
}

// edge moves an edge past tests whose outcome is known on it.
func (o *optimizer) edge(e *edge) {
	if e.succ.yes.succ == nil {
		return
	}
	if next := e.succ.yes.succ; next == e.succ.no.succ && !conflict(e.pred, next) {
		e.succ = next
		o.changed()
	}
	for again := true; again; {
		again = false
		for i := e.dom.from(0); i >= 0 && i < len(o.edges); i = e.dom.from(i + 1) {
			to := outcome(e.succ, o.edges[i])
			if to == nil || conflict(e.pred, to) {
				continue
			}
			e.succ = to
			o.done = false
			if to.yes.succ == nil {
				return
			}
			again = true
			break
		}
	}
}

// pullUp moves one test up in a chain of tests, b the first, that all lead to
// the same place when they are true (ors) or when they are false: the next one
// that needs the value that A has before the chain comes before the first one
// that needs another.
func (o *optimizer) pullUp(b *block, ors bool) {
	if b.into == nil {
		return
	}
	a := b.into.pred.val[regA]
	for e := b.into.next; e != nil; e = e.next {
		if e.pred.val[regA] != a {
			return
		}
	}
	// exit is the edge out of the chain, along the one to the chain's next test.
	exit := func(t *block) *edge { return &t.yes }
	along := func(t *block) *edge { return &t.no }
	if !ors {
		exit, along = along, exit
	}
	inChain := func(t *block) bool {
		return t != nil && exit(t).succ == exit(b).succ && t.doms.has(b.id)
	}
	differ := &b.into.pred.yes
	if differ.succ != b {
		differ = &b.into.pred.no
	}
	top := true
	for {
		if !inChain(differ.succ) {
			return
		}
		if differ.succ.val[regA] != a {
			break
		}
		differ, top = along(differ.succ), false
	}
	same := along(differ.succ)
	for {
		if !inChain(same.succ) {
			return
		}
		if same.succ.val[regA] == a {
			break
		}
		same = along(same.succ)
	}
	pull := same.succ
	if stores(differ.succ, pull, along) {
		return
	}
	first := differ.succ
	same.succ = along(pull).succ
	along(pull).succ = first
	if top {
		for e := b.into; e != nil; e = e.next {
			if e.pred.yes.succ == b {
				e.pred.yes.succ = pull
			} else {
				e.pred.no.succ = pull
			}
		}
	} else {
		differ.succ = pull
	}
	o.done = false
	o.pulled(first, pull, exit(b).succ)
}

// pulled brings the dominators up to date after a test was pulled up to before
// first: it dominates what first did, and first no longer what can be reached from
// the chain's exit.
func (o *optimizer) pulled(first, pull, exit *block) {
	for _, b := range o.blocks {
		if b.doms.has(first.id) {
			b.doms.add(pull.id)
		}
	}
	copy(pull.doms, first.doms)
	pull.doms.remove(first.id)
	o.search++
	var leave func(b *block)
	leave = func(b *block) {
		if b == nil || b.reached == o.search {
			return
		}
		b.reached = o.search
		b.doms.remove(first.id)
		leave(b.yes.succ)
		leave(b.no.succ)
	}
	leave(exit)
	o.work += 4 * len(o.blocks)
}

// stores says whether a test can't change places with those before it in a
// chain, from first on, because one of them sets a scratch register that another
// one uses or that is used after them.
func stores(first, pull *block, along func(*block) *edge) bool {
	const regs = 1<<scratch - 1
	if pull.def&pull.out&regs != 0 {
		return true
	}
	for b := first; b != pull; b = along(b).succ {
		if b.def&(pull.in|b.out)&regs != 0 {
			return true
		}
	}
	return false
}

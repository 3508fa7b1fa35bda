package filter

import "golang.org/x/net/bpf"

// layout is a block's place in the program.
type layout struct {
	placed          bool
	at              int // of its first instruction
	longYes, longNo bool
}

// emit puts a graph into a line. Blocks come before those that they go to.
//
// A test can jump over 255 instructions at most; where that is not enough it
// jumps to a jump right after it, which makes the program longer: so this is
// done again until it fits.
func emit(root *block) []bpf.RawInstruction {
	order := arrange(root)
	for {
		n := 0
		for _, b := range order {
			b.at = n
			n += b.size()
		}
		if fits := widen(order); fits {
			prog := make([]bpf.RawInstruction, 0, n)
			for _, b := range order {
				prog = b.emit(prog)
			}
			return prog
		}
	}
}

// arrange returns the blocks in their order in the program: every block before
// those that it goes to, and what it goes to if it is true first.
func arrange(root *block) []*block {
	var order []*block
	var place func(b *block)
	place = func(b *block) {
		if b == nil || b.placed {
			return
		}
		b.placed = true
		place(b.no.succ)
		place(b.yes.succ)
		order = append(order, b)
	}
	place(root)
	for i, j := 0, len(order)-1; i < j; i, j = i+1, j-1 {
		order[i], order[j] = order[j], order[i]
	}
	return order
}

// count is the number of instructions in the body.
func (b *block) count() int {
	n := 0
	for _, in := range b.body {
		if in.code != nop {
			n++
		}
	}
	return n
}

func (b *block) size() int {
	n := b.count() + 1
	if b.longYes {
		n++
	}
	if b.longNo {
		n++
	}
	return n
}

// widen finds tests that jump too far. It returns false if there were some.
func widen(order []*block) bool {
	fits := true
	for _, b := range order {
		if b.yes.succ == nil {
			continue
		}
		next := b.at + b.count() + 1
		if b.yes.succ.at-next > 255 && !b.longYes {
			b.longYes, fits = true, false
		}
		if b.no.succ.at-next > 255 && !b.longNo {
			b.longNo, fits = true, false
		}
	}
	return fits
}

// emit appends a block's instructions.
func (b *block) emit(prog []bpf.RawInstruction) []bpf.RawInstruction {
	index := map[*instr]int{&b.test: b.count()}
	n := 0
	for _, in := range b.body {
		if in.code != nop {
			index[in] = n
			n++
		}
	}
	for _, in := range b.body {
		if in.code == nop {
			continue
		}
		raw := bpf.RawInstruction{Op: in.code, K: in.k}
		here := index[in] + 1
		switch {
		case in.code == opJmp|jmpAlways:
			raw.K = uint32(int32(index[in.jt] - here)) // may go back
		case class(in.code) == opJmp:
			raw.Jt, raw.Jf = uint8(index[in.jt]-here), uint8(index[in.jf]-here)
		}
		prog = append(prog, raw)
	}
	test := bpf.RawInstruction{Op: b.test.code, K: b.test.k}
	if b.yes.succ == nil {
		return append(prog, test)
	}
	next := b.at + n + 1
	var far []bpf.RawInstruction
	reach := func(to *block, long bool) uint8 {
		if !long {
			return uint8(to.at - next)
		}
		far = append(far, bpf.RawInstruction{Op: opJmp | jmpAlways, K: uint32(to.at - next - len(far) - 1)})
		return uint8(len(far) - 1)
	}
	test.Jt = reach(b.yes.succ, b.longYes)
	test.Jf = reach(b.no.succ, b.longNo)
	return append(append(prog, test), far...)
}

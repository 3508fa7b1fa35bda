package filter

import "math/bits"

// The optimiser works on the graph of blocks, again and again until nothing
// changes:
//
//   - Values get numbers (opt_values.go): two registers, or two loads, that must
//     be equal have the same number. What is computed a second time, or never
//     used, goes away, and constants are folded (opt_block.go).
//   - An edge that leads to a test whose outcome is known on it is moved past
//     the test: it is known if the same value was compared before, on an edge
//     that every way to this one uses (a dominator) (opt_edges.go).
//   - In a chain of tests that lead to the same place, one that needs the value
//     that A has is moved up to where A has it (opt_edges.go).
//
// It is the method of McCanne and Jacobson's paper on BPF. Which loads are left
// decides which short packets pass, so it takes care to keep those that others'
// programs keep.

// Registers as the optimiser counts them: M[0] to M[15], A and X.
const (
	regA   = scratch
	regX   = scratch + 1
	atoms  = scratch + 2
	bothAX = atoms // what an instruction uses that works on A and X
	noAtom = -1
)

// flow is what the optimiser knows of a block.
type flow struct {
	id      int
	level   int // longest way to a return
	doms    bitset
	into    *edge // the edges into it
	seen    int   // the last walk that came here
	reached int   // the last search that came here
	same    *block
	val     [atoms]uint32 // numbers of the values after it; 0: not known
	other   uint32        // number of the value that its test compares A with
	def     uint32        // registers that it sets
	kill    uint32        // those that it sets before it uses them
	in, out uint32        // registers whose values are used in or after it; after it
}

// maxOptimized bounds what is optimised: the work grows with the square of the
// number of blocks. A larger program is correct without.
const maxOptimized = 1 << 13

// optimizer is the state of one optimisation.
type optimizer struct {
	root   *block
	blocks []*block
	edges  []*edge
	levels [][]*block
	walk   int
	values

	done bool // nothing changed in this round
	// settled: nothing changed but the order of tests, which could go on for
	// ever.
	settled bool
	work    int // steps done
	search  int // for pulled
	err     error
}

// maxWork bounds the steps of one optimisation, a second or so: what is left then
// is as correct, only larger.
const maxWork = 1 << 29

// maxShuffles is how many rounds may do nothing but change the order of tests.
const maxShuffles = 100

// optimize returns the root of a smaller graph for the same filter.
func optimize(root *block) (*block, error) {
	o := &optimizer{root: root}
	o.enumerate(root)
	if len(o.blocks) > maxOptimized {
		return root, nil
	}
	for _, deep := range []bool{false, true} {
		o.work = 0
		o.rounds(deep)
		if o.err != nil {
			return nil, o.err
		}
	}
	o.merge()
	return o.dropTop(), nil
}

// enumerate gives blocks and edges their numbers and sets.
func (o *optimizer) enumerate(root *block) {
	o.walk++
	var visit func(b *block)
	visit = func(b *block) {
		if b == nil || b.seen == o.walk {
			return
		}
		b.seen = o.walk
		b.id = len(o.blocks)
		o.blocks = append(o.blocks, b)
		visit(b.yes.succ)
		visit(b.no.succ)
	}
	visit(root)
	n := len(o.blocks)
	if n > maxOptimized {
		return
	}
	o.edges = make([]*edge, 2*n)
	for i, b := range o.blocks {
		b.doms = newBitset(n)
		b.yes.id, b.no.id = i, n+i
		b.yes.dom, b.no.dom = newBitset(2*n), newBitset(2*n)
		o.edges[i], o.edges[n+i] = &b.yes, &b.no
	}
}

func (o *optimizer) changed() { o.done, o.settled = false, false }

// rounds optimises until nothing changes. Instructions are touched only if deep
// is set, the graph's shape only if it is not.
func (o *optimizer) rounds(deep bool) {
	for shuffles := 0; o.err == nil && o.work < maxWork; {
		o.settled, o.done = true, true
		o.findLevels()
		o.findDominators()
		o.findUses()
		o.findEdgeDominators()
		o.round(deep)
		if o.done {
			return
		}
		if shuffles++; !o.settled {
			shuffles = 0
		}
		if shuffles >= maxShuffles {
			return
		}
	}
}

func (o *optimizer) round(deep bool) {
	o.reset()
	o.linkEdges()
	for l := o.root.level; l >= 0; l-- {
		for _, b := range o.levels[l] {
			o.block(b, deep)
		}
	}
	if deep {
		return
	}
	for l := 1; l <= o.root.level; l++ {
		for _, b := range o.levels[l] {
			o.edge(&b.yes)
			o.edge(&b.no)
		}
	}
	o.linkEdges()
	for l := 1; l <= o.root.level; l++ {
		for _, b := range o.levels[l] {
			o.pullUp(b, true)
			o.pullUp(b, false)
		}
	}
}

// findLevels sorts the blocks by their longest way to a return.
func (o *optimizer) findLevels() {
	o.walk++
	o.levels = make([][]*block, len(o.blocks))
	var visit func(b *block)
	visit = func(b *block) {
		if b.seen == o.walk {
			return
		}
		b.seen = o.walk
		b.level = 0
		if b.yes.succ != nil {
			visit(b.yes.succ)
			visit(b.no.succ)
			b.level = max(b.yes.succ.level, b.no.succ.level) + 1
		}
		o.levels[b.level] = append(o.levels[b.level], b)
	}
	visit(o.root)
	for _, l := range o.levels { // the last one found comes first
		for i, j := 0, len(l)-1; i < j; i, j = i+1, j-1 {
			l[i], l[j] = l[j], l[i]
		}
	}
}

// findDominators finds for each block those that every way to it goes through.
func (o *optimizer) findDominators() {
	o.work += 3 * len(o.blocks) * len(o.root.doms)
	for _, b := range o.blocks {
		b.doms.fill()
	}
	o.root.doms.clear()
	for l := o.root.level; l >= 0; l-- {
		for _, b := range o.levels[l] {
			b.doms.add(b.id)
			if b.yes.succ != nil {
				b.yes.succ.doms.intersect(b.doms)
				b.no.succ.doms.intersect(b.doms)
			}
		}
	}
}

// findEdgeDominators finds for each edge those that every way to it uses.
func (o *optimizer) findEdgeDominators() {
	o.work += 3 * len(o.edges) * len(o.root.yes.dom)
	for _, e := range o.edges {
		e.dom.fill()
	}
	o.root.yes.dom.clear()
	o.root.no.dom.clear()
	for l := o.root.level; l >= 0; l-- {
		for _, b := range o.levels[l] {
			for _, e := range []*edge{&b.yes, &b.no} {
				e.dom.add(e.id)
				if e.succ != nil {
					e.succ.yes.dom.intersect(e.dom)
					e.succ.no.dom.intersect(e.dom)
				}
			}
		}
	}
}

// linkEdges lists for each block the edges into it.
func (o *optimizer) linkEdges() {
	for _, b := range o.blocks {
		b.into = nil
	}
	for l := o.root.level; l > 0; l-- {
		for _, b := range o.levels[l] {
			for _, e := range []*edge{&b.yes, &b.no} {
				e.next, e.succ.into = e.succ.into, e
			}
		}
	}
}

// merge makes one of blocks that do the same and go to the same places.
func (o *optimizer) merge() {
	for again := true; again; {
		again = false
		first := make(map[string]*block, len(o.blocks))
		o.walk++
		o.mark(o.root)
		for i := len(o.blocks) - 1; i >= 0; i-- {
			b := o.blocks[i]
			b.same = nil
			if b.seen != o.walk {
				continue
			}
			k := b.key()
			if f := first[k]; f != nil {
				b.same = f
			} else {
				first[k] = b
			}
		}
		for _, b := range o.blocks {
			for _, e := range []*edge{&b.yes, &b.no} {
				if e.succ != nil && e.succ.same != nil {
					e.succ = e.succ.same
					again = true
				}
			}
		}
	}
}

// mark marks all blocks that b leads to.
func (o *optimizer) mark(b *block) {
	if b == nil || b.seen == o.walk {
		return
	}
	b.seen = o.walk
	o.mark(b.yes.succ)
	o.mark(b.no.succ)
}

// key is the same for blocks that do the same.
func (b *block) key() string {
	k := make([]byte, 0, 64)
	add := func(code uint16, v uint32) {
		k = append(k, byte(code), byte(code>>8), byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
	}
	for _, in := range b.body {
		if in.code != nop {
			add(in.code, in.k)
		}
	}
	add(b.test.code, b.test.k)
	if b.yes.succ != nil {
		add(nop, uint32(b.yes.succ.id))
		add(nop, uint32(b.no.succ.id))
	}
	return string(k)
}

// dropTop removes tests at the start whose outcome doesn't matter.
func (o *optimizer) dropTop() *block {
	b := o.root
	body := b.body
	b.body = nil
	for b.yes.succ != nil && b.yes.succ == b.no.succ {
		b = b.yes.succ
	}
	b.body = append(body[:len(body):len(body)], b.body...)
	if b.yes.succ == nil {
		b.body = nil
	}
	return b
}

// bitset is a set of small numbers.
type bitset []uint32

func newBitset(n int) bitset { return make(bitset, n/32+1) }

func (s bitset) add(i int)      { s[i/32] |= 1 << (i % 32) }
func (s bitset) has(i int) bool { return s[i/32]&(1<<(i%32)) != 0 }
func (s bitset) clear()         { clear(s) }
func (s bitset) remove(i int)   { s[i/32] &^= 1 << (i % 32) }

func (s bitset) fill() {
	for i := range s {
		s[i] = ^uint32(0)
	}
}

func (s bitset) intersect(t bitset) {
	for i := range s {
		s[i] &= t[i]
	}
}

// from returns the smallest element that is at least i, -1 if there is none.
func (s bitset) from(i int) int {
	for w := i / 32; w < len(s); w++ {
		v := s[w]
		if w == i/32 {
			v &= ^uint32(0) << (i % 32)
		}
		if v != 0 {
			return w*32 + bits.TrailingZeros32(v)
		}
	}
	return -1
}

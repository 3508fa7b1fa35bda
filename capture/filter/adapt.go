package filter

import "golang.org/x/net/bpf"

// A cooked socket shows packets from the network layer on. In programs for it,
// offsets in the header that the packet would have in a file start here, until
// adapt makes something else of them.
const (
	cookedHdr    = 0xff000000
	cookedHdrEnd = 0xffe00000
)

// cook sets the offsets for a cooked socket, if that is the target.
func (g *gen) cook() {
	if g.Target == LiveCooked {
		g.linkHdr.fixed = cookedHdr
		g.linkType.fixed += cookedHdr
		g.linkPl.fixed = 0
	}
}

// adapt changes loads to what a Linux socket shows.
func adapt(root *block, o Options) error {
	for _, b := range reachable(root) {
		for _, in := range b.body {
			c, m := class(in.code), mode(in.code)
			if in.meta || in.code == nop || c != opLd && c != opLdx {
				continue
			}
			if m != modeAbs && m != modeInd && m != modeMsh {
				continue
			}
			if o.Target == LiveCooked && in.k >= cookedHdr && in.k < cookedHdrEnd {
				if err := in.cook(o.LinkType); err != nil {
					return err
				}
			}
			// Negative offsets are the kernel's own; in a packet there is nothing.
			if !in.meta && m != modeInd && in.k >= 1<<31 {
				in.code, in.k = opRet, 0
			}
		}
	}
	return nil
}

// cookedField is a field of a cooked header.
type cookedField struct {
	off  uint32
	size uint16
}

// What the kernel tells of the fields of cooked headers.
var (
	sllFields = map[cookedField]uint32{
		{0, sizeH}: metaPktType, {2, sizeH}: metaHaType, {14, sizeH}: metaProtocol,
	}
	sll2Fields = map[cookedField]uint32{
		{0, sizeH}: metaProtocol, {4, sizeW}: metaIfIndex, {8, sizeH}: metaHaType, {10, sizeB}: metaPktType,
	}
)

// cook changes a load at an offset from the start of a cooked header.
func (in *instr) cook(link int) error {
	headerLen, fields := uint32(sllLen), sllFields
	if link == linkSLL2 {
		headerLen, fields = sll2Len, sll2Fields
	}
	off := in.k - cookedHdr
	meta, known := fields[cookedField{off, in.code & 0x18}]
	switch {
	case mode(in.code) == modeAbs && known:
		in.k, in.meta = meta, true
	case mode(in.code) == modeAbs && off >= headerLen:
		in.k = off - headerLen
	default:
		return &Error{Pos: in.pos, Text: "this part of the cooked header is not known while capturing"}
	}
	return nil
}

// reachable returns all the blocks of a graph.
func reachable(root *block) []*block {
	seen := map[*block]bool{root: true}
	all := []*block{root}
	for i := 0; i < len(all); i++ {
		for _, next := range []*block{all[i].yes.succ, all[i].no.succ} {
			if next != nil && !seen[next] {
				seen[next] = true
				all = append(all, next)
			}
		}
	}
	return all
}

// initialize clears at a program's start the scratch registers that it may read
// before it sets them: a kernel refuses the program otherwise. All its jumps go
// forward.
func initialize(prog []bpf.RawInstruction) []bpf.RawInstruction {
	set := make([]uint16, len(prog)+1) // the registers set on every way to it
	for i := range set {
		set[i] = 0xffff
	}
	set[0] = 0
	var unset uint16
	for i, in := range prog {
		s := set[i]
		reach := func(d int) {
			if j := i + 1 + d; j < len(set) {
				set[j] &= s
			}
		}
		switch class(in.Op) {
		case opSt, opStx:
			s |= 1 << (in.K & 15)
		case opLd, opLdx:
			if mode(in.Op) == modeMem {
				unset |= 1 << (in.K & 15) &^ s
			}
		case opRet:
			continue
		case opJmp:
			if in.Op == opJmp|jmpAlways {
				reach(int(in.K))
			} else {
				reach(int(in.Jt))
				reach(int(in.Jf))
			}
			continue
		}
		reach(0)
	}
	if unset == 0 {
		return prog
	}
	head := []bpf.RawInstruction{{Op: opLd | modeImm}}
	for r := range uint32(scratch) {
		if unset&(1<<r) != 0 {
			head = append(head, bpf.RawInstruction{Op: opSt, K: r})
		}
	}
	return append(head, prog...)
}

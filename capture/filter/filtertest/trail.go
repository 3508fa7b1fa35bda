package filtertest

import (
	"encoding/binary"
	"math/rand/v2"

	"golang.org/x/net/bpf"
)

// source is where a register's value came from, and what was done to it since:
// (load & mask) >> right + add.
type source struct {
	known bool
	len   bool   // it is the packet's length
	off   uint64 // else where it was loaded from; from adOff on: of Aux
	size  int
	mask  uint32
	right uint32
	add   uint32
}

// test is a comparison that a program made of something in the packet.
type test struct {
	source
	pc  int
	op  uint16
	k   uint32
	yes bool // how it came out
}

// trail records the comparisons on a program's way, so that a packet can be
// changed to make it take another one.
type trail struct {
	a, x  source
	m     [memWords]source
	tests []test
}

var sizes = [...]int{sizeW >> 3: 4, sizeH >> 3: 2, sizeB >> 3: 1, 3: 0}

// step follows the sources through i at pc, which is about to be carried out.
func (t *trail) step(vm *machine, pc int, i bpf.RawInstruction) {
	switch i.Op & classMask {
	case classLD, classLDX:
		s := source{size: sizes[i.Op&sizeMask>>3], mask: ^uint32(0), off: uint64(i.K)}
		switch i.Op & modeMask {
		case modeABS:
			s.known = true
		case modeIND:
			s.off = uint64(i.K) + uint64(vm.x)
			s.known = s.off < adOff
		case modeMEM:
			s = t.m[i.K%memWords]
		case modeLEN:
			s.known, s.len = true, true
		}
		if i.Op&classMask == classLD {
			t.a = s
		} else {
			t.x = s
		}
	case classST:
		t.m[i.K%memWords] = t.a
	case classSTX:
		t.m[i.K%memWords] = t.x
	case classALU:
		t.alu(i)
	case classJMP:
		t.jump(vm, pc, i)
	case classMISC:
		if i.Op == classMISC {
			t.x = t.a
		} else {
			t.a = t.x
		}
	}
}

func (t *trail) alu(i bpf.RawInstruction) {
	switch op := i.Op &^ classMask; {
	case op == 0x00: // add K
		t.a.add += i.K
	case op == 0x10: // sub K
		t.a.add -= i.K
	case op == 0x50 && t.a.add == 0: // and K
		t.a.mask &= i.K << t.a.right
	case op == 0x70 && t.a.add == 0 && t.a.right+i.K < 32: // rsh K
		t.a.right += i.K
	default:
		t.a.known = false
	}
}

func (t *trail) jump(vm *machine, pc int, i bpf.RawInstruction) {
	if i.Op&opMask == 0 {
		return
	}
	n, known := vm.jump(i)
	if !known {
		return
	}
	c := test{source: t.a, pc: pc, op: i.Op & opMask, k: i.K, yes: n == int(i.Jt)}
	if i.Op&srcX != 0 {
		c.k = vm.x
		if !c.known && c.op == 0x10 {
			c.source, c.k = t.x, vm.a
		}
	}
	t.tests = append(t.tests, c)
}

// cover says which ways a program's jumps went so far: 1 yes, 2 no.
type cover map[int]uint8

func way(yes bool) uint8 {
	if yes {
		return 1
	}
	return 2
}

// add adds the ways of tests and says whether one was new.
func (c cover) add(tests []test) bool {
	fresh := false
	for _, t := range tests {
		if w := way(t.yes); c[t.pc]&w == 0 {
			c[t.pc] |= w
			fresh = true
		}
	}
	return fresh
}

// count is how many ways were gone.
func (c cover) count() (n int) {
	for _, w := range c {
		n += int(w&1 + w>>1)
	}
	return n
}

// ways is how many ways the jumps of prog can go.
func ways(prog []bpf.RawInstruction) (n int) {
	for _, i := range prog {
		if i.Op&classMask == classJMP && i.Op&opMask != 0 {
			n += 2
		}
	}
	return n
}

// choose is one of the tests that can be steered, one that never came out
// otherwise if there is one.
func (c cover) choose(r *rand.Rand, tests []test) (test, bool) {
	var able, wanted []test
	for _, t := range tests {
		if t.known {
			able = append(able, t)
			if c[t.pc]&way(!t.yes) == 0 {
				wanted = append(wanted, t)
			}
		}
	}
	if len(wanted) > 0 && chance(r, 75) {
		able = wanted
	}
	if len(able) == 0 {
		return test{}, false
	}
	return one(r, able...), true
}

// steer changes f so that c probably comes out otherwise, or the same but barely.
// f.Data is changed in place.
func (c test) steer(r *rand.Rand, f *Frame) {
	want := c.k
	switch c.op {
	case 0x10: // jeq
		if c.yes || chance(r, 10) {
			want = one(r, want+1, want-1, r.Uint32(), want^1<<r.IntN(32), want^1<<r.IntN(8*c.bytes()), want^0xff<<(8*r.IntN(c.bytes())))
		}
	case 0x20, 0x30: // jgt, jge
		want += one(r, uint32(0), 0, 1, ^uint32(0))
	case 0x40: // jset
		want = one(r, c.k, 0, ^c.k, c.k&-c.k)
	}
	want = (want - c.add) << c.right
	switch {
	case c.len:
		f.Length = want
		if want > 1<<24 {
			f.Length = uint32(len(f.Data))
		}
		f.Data = f.Data[:min(len(f.Data), int(f.Length))]
	case c.off >= adOff:
		f.Aux.set(uint32(c.off-adOff), c.mask, want)
	case c.off+uint64(c.size) <= uint64(len(f.Data)):
		var whole [4]byte
		binary.BigEndian.PutUint32(whole[:], want<<(32-8*c.size))
		var mask [4]byte
		binary.BigEndian.PutUint32(mask[:], c.mask<<(32-8*c.size))
		for i, b := range f.Data[c.off : c.off+uint64(c.size)] {
			f.Data[c.off+uint64(i)] = b&^mask[i] | whole[i]&mask[i]
		}
	}
}

// bytes is how many bytes the value had.
func (c test) bytes() int { return max(1, c.size) }

// set makes a load of field k find v in the bits of mask.
func (a *Aux) set(k, mask, v uint32) {
	if a == nil {
		return
	}
	switch k {
	case adProtocol:
		a.Protocol = uint16(v)
	case adPktType:
		a.PktType = uint8(v) & 7
	case adIfIndex:
		a.IfIndex = v
	case adHaType:
		a.HaType = uint16(v)
	case adVLANTag:
		a.TCI = a.TCI&^uint16(mask) | uint16(v&mask)
	case adVLANPresent:
		a.HasTag = v != 0
	case adVLANTPID:
		a.TPID = uint16(v)
	}
}

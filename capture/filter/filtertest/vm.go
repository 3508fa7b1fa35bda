package filtertest

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/net/bpf"
)

// What the kernel and libpcap call the parts of an instruction.
const (
	classMask = 0x07
	classLD   = 0
	classLDX  = 1
	classST   = 2
	classSTX  = 3
	classALU  = 4
	classJMP  = 5
	classRET  = 6
	classMISC = 7

	sizeMask = 0x18
	sizeW    = 0x00
	sizeH    = 0x08
	sizeB    = 0x10

	modeMask = 0xe0
	modeIMM  = 0x00
	modeABS  = 0x20
	modeIND  = 0x40
	modeMEM  = 0x60
	modeLEN  = 0x80
	modeMSH  = 0xa0

	srcX   = 0x08
	opMask = 0xf0

	memWords = 16

	// adOff is SKF_AD_OFF: absolute loads from here on are of Aux.
	adOff         = 0xfffff000
	adProtocol    = 0
	adPktType     = 4
	adIfIndex     = 8
	adHaType      = 28
	adVLANTag     = 44
	adVLANPresent = 48
	adVLANTPID    = 60
)

// maxSteps bounds a program with backward jumps. libpcap's own makes at most some
// hundred rounds of a protochain in a packet of 64 KiB.
const maxSteps = 1 << 20

// ErrProgram is the cause of an error of Run that no packet excuses: an unknown
// instruction, a jump out of the program, a program that doesn't end.
var ErrProgram = errors.New("invalid program")

type machine struct {
	a, x uint32
	m    [memWords]uint32
	f    Frame
	t    *trail // nil: nobody wants to know
}

// Run runs prog on f as libpcap's interpreter does and returns how many bytes of
// the packet the program keeps; 0: it refuses the packet. A load from outside the
// packet and a division by zero refuse it too.
func Run(prog []bpf.RawInstruction, f Frame) (uint32, error) {
	vm := machine{f: f}
	return vm.run(prog)
}

// runTrail is Run and returns the comparisons that prog made.
func runTrail(prog []bpf.RawInstruction, f Frame) (uint32, []test, error) {
	t := trail{tests: make([]test, 0, 32)}
	vm := machine{f: f, t: &t}
	ret, err := vm.run(prog)
	return ret, t.tests, err
}

func (vm *machine) run(prog []bpf.RawInstruction) (uint32, error) {
	pc := 0
	for range maxSteps {
		if pc < 0 || pc >= len(prog) {
			return 0, fmt.Errorf("%w: goes on at %d of %d instructions", ErrProgram, pc, len(prog))
		}
		i := prog[pc]
		pc++
		if vm.t != nil {
			vm.t.step(vm, pc-1, i)
		}
		ok := true
		switch i.Op & classMask {
		case classLD, classLDX:
			ok = vm.load(i)
			if !ok && !knownLoad(i.Op) {
				return 0, fmt.Errorf("%w: %d: op %#x", ErrProgram, pc-1, i.Op)
			}
		case classST, classSTX:
			if i.K >= memWords || i.Op > classSTX {
				return 0, fmt.Errorf("%w: %d: store %#x of %d", ErrProgram, pc-1, i.Op, i.K)
			}
			vm.m[i.K] = vm.a
			if i.Op == classSTX {
				vm.m[i.K] = vm.x
			}
		case classALU:
			var known bool
			if ok, known = vm.alu(i); !known {
				return 0, fmt.Errorf("%w: %d: op %#x of %#x", ErrProgram, pc-1, i.Op, i.K)
			}
		case classJMP:
			n, known := vm.jump(i)
			if !known {
				return 0, fmt.Errorf("%w: %d: op %#x", ErrProgram, pc-1, i.Op)
			}
			pc += n
		default:
			switch i.Op {
			case classRET:
				return i.K, nil
			case classRET | sizeB: // BPF_A
				return vm.a, nil
			case classMISC: // tax
				vm.x = vm.a
			case classMISC | 0x80: // txa
				vm.a = vm.x
			default:
				return 0, fmt.Errorf("%w: %d: op %#x", ErrProgram, pc-1, i.Op)
			}
		}
		if !ok {
			return 0, nil
		}
	}
	return 0, fmt.Errorf("%w: it doesn't end within %d steps", ErrProgram, maxSteps)
}

// knownLoad says whether op is a load that exists.
func knownLoad(op uint16) bool {
	switch op {
	case classLD | modeIMM, classLD | modeMEM, classLD | modeLEN,
		classLD | modeABS | sizeW, classLD | modeABS | sizeH, classLD | modeABS | sizeB,
		classLD | modeIND | sizeW, classLD | modeIND | sizeH, classLD | modeIND | sizeB,
		classLDX | modeIMM, classLDX | modeMEM, classLDX | modeLEN, classLDX | modeMSH | sizeB:
		return true
	}
	return false
}

// load carries out a load; false: it can't be, and the packet is refused.
func (vm *machine) load(i bpf.RawInstruction) bool {
	if !knownLoad(i.Op) {
		return false
	}
	var v uint32
	ok := true
	switch i.Op & modeMask {
	case modeIMM:
		v = i.K
	case modeLEN:
		v = vm.f.Length
	case modeMEM:
		if ok = i.K < memWords; ok {
			v = vm.m[i.K]
		}
	case modeABS:
		if i.K >= adOff {
			v, ok = vm.f.Aux.field(i.K - adOff)
		} else {
			v, ok = vm.f.at(uint64(i.K), i.Op&sizeMask)
		}
	case modeIND:
		// The sum isn't cut to 32 bits: what would wrap lies outside.
		v, ok = vm.f.at(uint64(vm.x)+uint64(i.K), i.Op&sizeMask)
	case modeMSH:
		v, ok = vm.f.at(uint64(i.K), sizeB)
		v = v & 0xf << 2
	}
	if i.Op&classMask == classLD {
		vm.a = v
	} else {
		vm.x = v
	}
	return ok
}

// at is the number of the given size at off.
func (f Frame) at(off uint64, size uint16) (uint32, bool) {
	n := uint64(4)
	switch size {
	case sizeH:
		n = 2
	case sizeB:
		n = 1
	}
	if off+n > uint64(len(f.Data)) {
		return 0, false
	}
	switch b := f.Data[off:]; n {
	case 4:
		return binary.BigEndian.Uint32(b), true
	case 2:
		return uint32(binary.BigEndian.Uint16(b)), true
	default:
		return uint32(b[0]), true
	}
}

func (a *Aux) field(k uint32) (uint32, bool) {
	if a == nil {
		return 0, false
	}
	switch k {
	case adProtocol:
		return uint32(a.Protocol), true
	case adPktType:
		return uint32(a.PktType), true
	case adIfIndex:
		return a.IfIndex, true
	case adHaType:
		return uint32(a.HaType), true
	case adVLANTag:
		if !a.HasTag {
			return 0, true
		}
		return uint32(a.TCI), true
	case adVLANPresent:
		if a.HasTag {
			return 1, true
		}
		return 0, true
	case adVLANTPID:
		if !a.HasTag {
			return 0, true
		}
		return uint32(a.TPID), true
	}
	return 0, false
}

// alu carries out an arithmetic instruction. ok is false where it divides by
// zero; known is false for what a program must not hold.
func (vm *machine) alu(i bpf.RawInstruction) (ok, known bool) {
	s, fromX := i.K, i.Op&srcX != 0
	if fromX {
		s = vm.x
	}
	if i.Op&^(classMask|srcX|opMask) != 0 {
		return false, false
	}
	switch i.Op & opMask {
	case 0x00:
		vm.a += s
	case 0x10:
		vm.a -= s
	case 0x20:
		vm.a *= s
	case 0x30, 0x90:
		switch {
		case s == 0:
			return false, fromX
		case i.Op&opMask == 0x30:
			vm.a /= s
		default:
			vm.a %= s
		}
	case 0x40:
		vm.a |= s
	case 0x50:
		vm.a &= s
	case 0x60:
		vm.a <<= s // by 32 and more: 0, as libpcap's
		return true, fromX || s < 32
	case 0x70:
		vm.a >>= s
		return true, fromX || s < 32
	case 0x80:
		vm.a = -vm.a
		return true, !fromX
	case 0xa0:
		vm.a ^= s
	default:
		return false, false
	}
	return true, true
}

// jump returns by how many instructions to go on beyond the next one.
func (vm *machine) jump(i bpf.RawInstruction) (n int, known bool) {
	s := i.K
	if i.Op&srcX != 0 {
		s = vm.x
	}
	var yes bool
	switch i.Op &^ srcX {
	case classJMP:
		return int(int32(i.K)), i.Op&srcX == 0
	case classJMP | 0x10:
		yes = vm.a == s
	case classJMP | 0x20:
		yes = vm.a > s
	case classJMP | 0x30:
		yes = vm.a >= s
	case classJMP | 0x40:
		yes = vm.a&s != 0
	default:
		return 0, false
	}
	if yes {
		return int(i.Jt), true
	}
	return int(i.Jf), true
}

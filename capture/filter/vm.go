package filter

import "golang.org/x/net/bpf"

// maxTurns is how often a program may jump back: once for every header that fits
// into a packet, and more.
const maxTurns = 1 << 14

// run executes a program on a packet's data and returns how much of it to take,
// 0 for nothing. length is the packet's length on the wire.
//
// What lies outside of the data, or is divided by zero, ends the program: the
// packet does not pass. So does one whose headers send protochain in circles.
func run(prog []bpf.RawInstruction, data []byte, length uint32) uint32 {
	var a, x uint32
	var m [scratch]uint32
	size := uint32(len(data))
	turns := 0
	for pc := 0; pc < len(prog); pc++ {
		in := &prog[pc]
		k := in.K
		switch in.Op {
		case opRet | srcK:
			return k
		case opLd | modeAbs | sizeW:
			if k > size || size-k < 4 {
				return 0
			}
			a = be32(data[k:])
		case opLd | modeAbs | sizeH:
			if k > size || size-k < 2 {
				return 0
			}
			a = uint32(data[k])<<8 | uint32(data[k+1])
		case opLd | modeAbs | sizeB:
			if k >= size {
				return 0
			}
			a = uint32(data[k])
		case opLd | modeInd | sizeW:
			if k > size || x > size-k || size-k-x < 4 {
				return 0
			}
			a = be32(data[k+x:])
		case opLd | modeInd | sizeH:
			if k > size || x > size-k || size-k-x < 2 {
				return 0
			}
			a = uint32(data[k+x])<<8 | uint32(data[k+x+1])
		case opLd | modeInd | sizeB:
			if k >= size || x >= size-k {
				return 0
			}
			a = uint32(data[k+x])
		case opLdx | modeMsh | sizeB:
			if k >= size {
				return 0
			}
			x = uint32(data[k]&15) * 4
		case opLd | modeLen:
			a = length
		case opLdx | modeLen:
			x = length
		case opLd | modeImm:
			a = k
		case opLdx | modeImm:
			x = k
		case opLd | modeMem:
			a = m[k&(scratch-1)]
		case opLdx | modeMem:
			x = m[k&(scratch-1)]
		case opSt:
			m[k&(scratch-1)] = a
		case opStx:
			m[k&(scratch-1)] = x
		case miscTax:
			x = a
		case miscTxa:
			a = x
		case opJmp | jmpAlways:
			if int32(k) < 0 {
				if turns++; turns > maxTurns {
					return 0
				}
			}
			pc += int(int32(k))
		case opJmp | jmpEq | srcK:
			pc += branch(a == k, in)
		case opJmp | jmpEq | srcX:
			pc += branch(a == x, in)
		case opJmp | jmpGt | srcK:
			pc += branch(a > k, in)
		case opJmp | jmpGt | srcX:
			pc += branch(a > x, in)
		case opJmp | jmpGe | srcK:
			pc += branch(a >= k, in)
		case opJmp | jmpGe | srcX:
			pc += branch(a >= x, in)
		case opJmp | jmpSet | srcK:
			pc += branch(a&k != 0, in)
		case opJmp | jmpSet | srcX:
			pc += branch(a&x != 0, in)
		default:
			if class(in.Op) != opAlu {
				return 0
			}
			v := k
			if source(in.Op) == srcX {
				v = x
			}
			var ok bool
			if a, ok = compute(aluOp(in.Op), a, v); !ok {
				return 0
			}
		}
	}
	return 0
}

func branch(yes bool, in *bpf.RawInstruction) int {
	if yes {
		return int(in.Jt)
	}
	return int(in.Jf)
}

// compute is a op v. It returns false for a division by zero. A shift by more
// than 31 bits leaves nothing.
func compute(op uint16, a, v uint32) (uint32, bool) {
	switch op {
	case aluAdd:
		return a + v, true
	case aluSub:
		return a - v, true
	case aluMul:
		return a * v, true
	case aluDiv:
		if v == 0 {
			return 0, false
		}
		return a / v, true
	case aluMod:
		if v == 0 {
			return 0, false
		}
		return a % v, true
	case aluAnd:
		return a & v, true
	case aluOr:
		return a | v, true
	case aluXor:
		return a ^ v, true
	case aluLsh:
		return a << v, true
	case aluRsh:
		return a >> v, true
	case aluNeg:
		return -a, true
	}
	return 0, false
}

package filter

// The instruction codes of classic BPF: a class, and what it works on.
const (
	opLd   = 0x00 // A = ...
	opLdx  = 0x01 // X = ...
	opSt   = 0x02 // M[k] = A
	opStx  = 0x03 // M[k] = X
	opAlu  = 0x04 // A = A op ...
	opJmp  = 0x05
	opRet  = 0x06
	opMisc = 0x07

	sizeW = 0x00
	sizeH = 0x08
	sizeB = 0x10

	modeImm = 0x00 // k
	modeAbs = 0x20 // packet[k]
	modeInd = 0x40 // packet[X+k]
	modeMem = 0x60 // M[k]
	modeLen = 0x80 // the packet's length
	modeMsh = 0xa0 // 4 * (packet[k] & 15), into X

	aluAdd = 0x00
	aluSub = 0x10
	aluMul = 0x20
	aluDiv = 0x30
	aluOr  = 0x40
	aluAnd = 0x50
	aluLsh = 0x60
	aluRsh = 0x70
	aluNeg = 0x80
	aluMod = 0x90
	aluXor = 0xa0

	jmpAlways = 0x00
	jmpEq     = 0x10
	jmpGt     = 0x20
	jmpGe     = 0x30
	jmpSet    = 0x40

	srcK = 0x00
	srcX = 0x08

	miscTax = opMisc
	miscTxa = opMisc | 0x80

	nop = 0xffff // an instruction that was removed
)

func class(code uint16) uint16  { return code & 7 }
func mode(code uint16) uint16   { return code & 0xe0 }
func aluOp(code uint16) uint16  { return code & 0xf0 }
func source(code uint16) uint16 { return code & 8 }

// scratch is the number of scratch registers M[].
const scratch = 16

// instr is one instruction.
type instr struct {
	code uint16
	k    uint32
	pos  int  // what in the expression it is for
	meta bool // a load of what the kernel knows, not of the packet

	// of a jump inside a block's body
	jt, jf *instr
}

// block is a stretch of instructions with a test, or a return, at its end.
//
// Blocks form an acyclic graph. The optimiser works on it; it leaves bodies with
// jumps inside alone.
type block struct {
	body []*instr
	test instr
	yes  edge // where to if the test is true; succ is nil in a return
	no   edge

	flow   // of opt.go
	layout // of emit.go
}

// edge is a way from one block to another.
type edge struct {
	succ *block
	pred *block

	// of opt.go
	id   int
	code int // the test's code, negative on the way where it is false
	dom  bitset
	next *edge // of all those into succ
}

// cond is a condition under construction: where it starts, and the edges that
// leave it, still without a goal, when it is true and when it is false. The zero
// cond is no condition: it adds nothing to another.
type cond struct {
	entry   *block
	yes, no []*edge
}

func newBlock(test instr, body []*instr) *block {
	b := &block{test: test, body: body}
	b.yes.pred, b.no.pred = b, b
	return b
}

func aim(edges []*edge, to *block) {
	for _, e := range edges {
		e.succ = to
	}
}

// and is true when a and then b are.
func and(a, b cond) cond {
	switch {
	case a.entry == nil:
		return b
	case b.entry == nil:
		return a
	}
	aim(a.yes, b.entry)
	return cond{entry: a.entry, yes: b.yes, no: append(a.no, b.no...)}
}

// or is true when a or else b is.
func or(a, b cond) cond {
	switch {
	case a.entry == nil:
		return b
	case b.entry == nil:
		return a
	}
	aim(a.no, b.entry)
	return cond{entry: a.entry, yes: append(a.yes, b.yes...), no: b.no}
}

func not(a cond) cond { return cond{entry: a.entry, yes: a.no, no: a.yes} }

// ifElse is a where test is true and b where it is false.
func ifElse(test, a, b cond) cond {
	aim(test.yes, a.entry)
	aim(test.no, b.entry)
	return cond{entry: test.entry, yes: append(a.yes, b.yes...), no: append(a.no, b.no...)}
}

// before puts instructions in front of a condition.
func before(body []*instr, c cond) cond {
	if len(body) > 0 {
		c.entry.body = append(body[:len(body):len(body)], c.entry.body...)
	}
	return c
}

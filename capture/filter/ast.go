package filter

// An expression is a tree of these nodes. The tree is walked once, from left to
// right: vlan, mpls, pppoes, geneve and vxlan move the headers for all that is
// to their right, wherever it stands.

// expr is a condition on a packet.
type expr interface{}

type (
	// chain is terms joined by "and" and "or", which bind alike.
	chain struct {
		first expr
		rest  []link
	}
	link struct {
		and bool
		x   expr
	}

	// negation is "not x".
	negation struct{ x expr }

	// match is an identifier with its qualifiers, "src host 10.0.0.1".
	match struct {
		q  qualifiers
		id token
		// of an address with a mask
		mask token // tHID of "mask M", tNum of "/N"; else tEOF
	}

	// protocol is a protocol's name that stands alone.
	protocol struct {
		p   proto
		pos int
	}

	// special is any other primitive; what its arguments are depends on word.
	special struct {
		word string
		pos  int
		p    proto // of "ip broadcast"
		arg  token // tEOF if there is none
		arg2 token
		op   string // of byte
	}

	// relation compares two values.
	relation struct {
		op   string // one of > >= = < <= !=
		l, r arith
		pos  int
	}
)

// qualifiers say what an identifier is.
type qualifiers struct {
	proto proto
	dir   direction
	typ   addrType
	pos   int // of the first of them
}

// noQualifiers follow what has none to hand on.
var noQualifiers = qualifiers{proto: pUndef, typ: aUndef}

// arith is a 32-bit value.
type arith interface{}

type (
	// number is a constant.
	number struct {
		v   uint32
		pos int
	}
	// length is the packet's length on the wire.
	length struct{ pos int }
	// load is proto[off:size].
	load struct {
		p    proto
		off  arith
		size uint32
		pos  int
	}
	// operation is l op r.
	operation struct {
		op   string
		l, r arith
		pos  int
	}
	// minus is -x.
	minus struct {
		x   arith
		pos int
	}
)

package tls

import (
	"slices"

	"capagent/enrich/indicator"
)

// maxHoles bounds how many parts with holes between them Pieces keeps. Browsers
// cut a hello into about ten.
const maxHoles = 64

// Pieces puts the beginning of a sequence of bytes together from pieces that come
// in any order and may overlap: the fragments of a DTLS message, the CRYPTO
// frames of QUIC. The zero value is empty.
type Pieces struct {
	buf  []byte
	have []span // in order, with holes between them
}

type span struct{ from, to int }

// Add puts b at an offset. It says whether there was room: memory is taken from
// the bounds (and the limit counted there), and nothing goes beyond max bytes or
// too many holes, which the caller counts.
func (p *Pieces) Add(bounds *indicator.Bounds, limit indicator.Limit, offset uint64, b []byte, maximum int) bool {
	if len(b) == 0 {
		return true
	}
	if offset > uint64(maximum) || len(b) > maximum-int(offset) {
		bounds.Reached(limit)
		return false
	}
	s := span{int(offset), int(offset) + len(b)}
	if s.to > cap(p.buf) {
		size := min(max(s.to, 2*cap(p.buf), 2048), maximum)
		if !bounds.Take(size-cap(p.buf), limit) {
			return false
		}
		grown := make([]byte, len(p.buf), size)
		copy(grown, p.buf)
		p.buf = grown
	}
	first, _ := slices.BinarySearchFunc(p.have, s.from, func(h span, from int) int { return h.to - from })
	last := first
	for ; last < len(p.have) && p.have[last].from <= s.to; last++ {
		s.from, s.to = min(s.from, p.have[last].from), max(s.to, p.have[last].to)
	}
	if first == last && len(p.have) >= maxHoles {
		bounds.Reached(limit)
		return false
	}
	p.have = slices.Replace(p.have, first, last, s)
	p.buf = p.buf[:max(len(p.buf), s.to)]
	copy(p.buf[offset:], b)
	return true
}

// Bytes is what is there without a hole, from the beginning. It is valid until
// the next call.
func (p *Pieces) Bytes() []byte {
	if len(p.have) == 0 || p.have[0].from > 0 {
		return nil
	}
	return p.buf[:p.have[0].to]
}

// Free gives everything up.
func (p *Pieces) Free(bounds *indicator.Bounds) {
	bounds.Give(cap(p.buf))
	*p = Pieces{}
}

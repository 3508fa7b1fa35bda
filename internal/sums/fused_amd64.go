//go:build !purego

package sums

import (
	"encoding/binary"
)

var fusedOK = hasSHA()

// newEngine returns the fastest engine that this processor can run.
func newEngine() engine {
	if fusedOK {
		return newFused()
	}
	return newTwice()
}

const (
	blockSize = 64
	// Assembly cannot be preempted: the garbage collector waits for at most this
	// much (about 50 µs).
	maxRun = 64 << 10
)

// state holds both chaining values; the assembly knows its layout.
type state struct {
	h256 [8]uint32
	h1   [5]uint32
}

// blocks adds p, of which only whole blocks count, to both chaining values.
//
//go:noescape
func blocks(s *state, p []byte)

// hasSHA says whether the processor knows every instruction that blocks uses.
func hasSHA() bool

// fused computes both digests with one walk over the bytes (FIPS 180-4: the two
// hashes cut, pad and count a message alike).
type fused struct {
	state
	tail   [blockSize]byte // the bytes that do not fill a block yet
	length uint64
}

func newFused() *fused {
	return &fused{state: state{
		h256: [8]uint32{
			0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
			0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
		},
		h1: [5]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0},
	}}
}

func (f *fused) write(p []byte) {
	held := int(f.length % blockSize)
	f.length += uint64(len(p))
	if held > 0 {
		n := copy(f.tail[held:], p)
		if p = p[n:]; held+n < blockSize {
			return
		}
		blocks(&f.state, f.tail[:])
	}
	for len(p) >= blockSize {
		n := min(len(p)&^(blockSize-1), maxRun)
		blocks(&f.state, p[:n])
		p = p[n:]
	}
	copy(f.tail[:], p)
}

func (f *fused) sums() (sum256 [32]byte, sum1 [20]byte) {
	// The padding is a one bit, zeros, and the length in bits at the end of a block.
	var end [2 * blockSize]byte
	n := copy(end[:], f.tail[:f.length%blockSize])
	end[n] = 0x80
	size := blockSize
	if n+1+8 > blockSize {
		size = 2 * blockSize
	}
	binary.BigEndian.PutUint64(end[size-8:], f.length<<3)
	s := f.state
	blocks(&s, end[:size])
	for i, w := range s.h256 {
		binary.BigEndian.PutUint32(sum256[4*i:], w)
	}
	for i, w := range s.h1 {
		binary.BigEndian.PutUint32(sum1[4*i:], w)
	}
	return sum256, sum1
}

// Package sums computes SHA-256 and SHA-1 of one stream in one pass: the first
// is how the agent names evidence, the second is how CloudShark does.
//
// On amd64 processors with the SHA extensions both come out of one loop;
// elsewhere, and with the build tag purego, the standard library computes them
// one after the other. The results are the same.
package sums

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"hash"
)

// Pair takes a stream by Write and holds both digests of it. It never fails.
// New makes one; one goroutine uses it at a time.
type Pair struct {
	engine engine
}

// engine is a way to compute both digests.
type engine interface {
	write(p []byte)
	// sums returns the digests of all bytes so far and leaves the engine as it was.
	sums() ([sha256.Size]byte, [sha1.Size]byte)
}

// New returns a Pair over the empty stream.
func New() *Pair { return &Pair{newEngine()} }

// Write adds p to the stream. It does not allocate.
func (s *Pair) Write(p []byte) (int, error) {
	s.engine.write(p)
	return len(p), nil
}

// SHA256 returns the digest of all bytes so far in lower-case hex.
func (s *Pair) SHA256() string {
	sum, _ := s.engine.sums()
	return hex.EncodeToString(sum[:])
}

// SHA1 returns the digest of all bytes so far in lower-case hex.
func (s *Pair) SHA1() string {
	_, sum := s.engine.sums()
	return hex.EncodeToString(sum[:])
}

// twice is the engine that hashes everything twice.
type twice struct {
	sha256, sha1 hash.Hash
}

func newTwice() *twice { return &twice{sha256.New(), sha1.New()} }

func (t *twice) write(p []byte) {
	_, _ = t.sha256.Write(p)
	_, _ = t.sha1.Write(p)
}

func (t *twice) sums() (sum256 [sha256.Size]byte, sum1 [sha1.Size]byte) {
	t.sha256.Sum(sum256[:0])
	t.sha1.Sum(sum1[:0])
	return sum256, sum1
}

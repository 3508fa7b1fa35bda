// Package sums computes SHA-256 and SHA-1 of one stream in one pass: the first
// is how the agent names evidence, the second is how CloudShark does.
package sums

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"hash"
)

// Pair takes a stream by Write and holds both digests of it. It never fails.
type Pair struct {
	sha256, sha1 hash.Hash
}

// New returns a Pair over the empty stream.
func New() *Pair { return &Pair{sha256.New(), sha1.New()} }

// Write adds p to the stream.
func (s *Pair) Write(p []byte) (int, error) {
	_, _ = s.sha256.Write(p)
	_, _ = s.sha1.Write(p)
	return len(p), nil
}

// SHA256 returns the digest of all bytes so far in lower-case hex.
func (s *Pair) SHA256() string { return hex.EncodeToString(s.sha256.Sum(nil)) }

// SHA1 returns the digest of all bytes so far in lower-case hex.
func (s *Pair) SHA1() string { return hex.EncodeToString(s.sha1.Sum(nil)) }

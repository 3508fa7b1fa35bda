package body

import (
	"crypto/md5" //nolint:gosec // a name for files that others use, no protection
	"crypto/sha1"
	"crypto/sha256"
	"hash"

	"capagent/enrich/indicator"
)

// sums are the digests of one file after the other.
type sums struct {
	md5, sha1, sha256 hash.Hash
	n                 int64

	// Here, as an interface is given them: on the stack they would not stay.
	out5   [md5.Size]byte
	out1   [sha1.Size]byte
	out256 [sha256.Size]byte
}

func newSums() *sums {
	return &sums{md5: md5.New(), sha1: sha1.New(), sha256: sha256.New()}
}

func (s *sums) reset() {
	if s.n > 0 {
		s.md5.Reset()
		s.sha1.Reset()
		s.sha256.Reset()
		s.n = 0
	}
}

// run is how much is given to one hash after the other: it stays in the cache.
const run = 16 << 10

func (s *sums) write(p []byte) {
	s.n += int64(len(p))
	for len(p) > 0 {
		b := p[:min(len(p), run)]
		p = p[len(b):]
		s.md5.Write(b)
		s.sha1.Write(b)
		s.sha256.Write(b)
	}
}

// report tells set of the file, if it is not empty. The next one begins.
func (s *sums) report(set *indicator.Set, role indicator.Role, at indicator.At) {
	if s.n == 0 {
		return
	}
	s.md5.Sum(s.out5[:0])
	s.sha1.Sum(s.out1[:0])
	s.sha256.Sum(s.out256[:0])
	set.File(s.out5, s.out1, s.out256, role, at)
	s.reset()
}

package cado

import (
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"sync"
)

// Body is a file to be sent.
type Body struct {
	Content io.ReaderAt
	Size    int64
	SHA256  [sha256.Size]byte
}

var errChanged = errors.New("the file has changed")

// reader reads the file from its start. The last piece is held back until the
// content is known to be right, so that another one never becomes whole.
func (b Body) reader() io.ReadCloser {
	return &checked{r: io.NewSectionReader(b.Content, 0, b.Size), left: b.Size, want: b.SHA256, h: sha256.New()}
}

type checked struct {
	mu   sync.Mutex
	r    *io.SectionReader // nil when closed
	left int64
	want [sha256.Size]byte
	h    hash.Hash
}

func (c *checked) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.r == nil {
		return 0, io.ErrClosedPipe
	}
	n, err := c.r.Read(p)
	c.h.Write(p[:n])
	c.left -= int64(n)
	switch {
	case errors.Is(err, io.EOF) && c.left > 0:
		return 0, fail(ClassChanged, errChanged) // it is shorter
	case c.left == 0 && n > 0 && [sha256.Size]byte(c.h.Sum(nil)) != c.want:
		return 0, fail(ClassChanged, errChanged)
	}
	return n, err
}

func (c *checked) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.r = nil
	return nil
}

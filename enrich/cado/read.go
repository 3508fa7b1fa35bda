package cado

import (
	"io"
	"sync"
)

// SizedReader is a file from which any number of readers may read.
type SizedReader struct {
	at   io.ReaderAt
	size int64
}

// NewSizedReader returns one for the first size bytes of at.
func NewSizedReader(at io.ReaderAt, size int64) SizedReader { return SizedReader{at, size} }

// Size is the number of bytes.
func (s SizedReader) Size() int64 { return s.size }

// Reader reads from the start. After Close it reads nothing more.
func (s SizedReader) Reader() io.ReadCloser {
	return &closable{r: io.NewSectionReader(s.at, 0, s.size)}
}

type closable struct {
	mu sync.Mutex
	r  *io.SectionReader // nil when closed
}

func (c *closable) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.r == nil {
		return 0, io.ErrClosedPipe
	}
	return c.r.Read(p)
}

func (c *closable) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.r = nil
	return nil
}

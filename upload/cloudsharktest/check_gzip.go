package cloudsharktest

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
)

// gzipChecker inflates what it is given and checks the result as it appears.
type gzipChecker struct {
	in    *io.PipeWriter
	inner *checker
	done  chan error
}

func startGzip(head []byte) *gzipChecker {
	r, w := io.Pipe()
	g := &gzipChecker{in: w, inner: newChecker(), done: make(chan error, 1)}
	g.inner.plain = true
	counted := &countReader{r: r}
	go func() {
		err := g.inflate(counted)
		// Whatever is left is taken in, so that the writer never waits.
		_, _ = io.Copy(io.Discard, r)
		g.done <- err
	}()
	g.write(head)
	return g
}

type countReader struct {
	r io.Reader
	n int64
}

func (c *countReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (g *gzipChecker) inflate(r *countReader) error {
	z, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotCapture, err)
	}
	buf := make([]byte, 64<<10)
	for total := int64(0); ; {
		n, err := z.Read(buf)
		total += int64(n)
		_, _ = g.inner.Write(buf[:n])
		switch {
		case errors.Is(err, io.EOF):
			return g.inner.finish()
		case errors.Is(err, io.ErrUnexpectedEOF):
			return errCut
		case err != nil:
			return fmt.Errorf("%w: %w", errNotCapture, err)
		case total > gzipFree && total/gzipRatio > r.n:
			return fmt.Errorf("%w: inflates to more than %d times its size", errNotCapture, gzipRatio)
		}
	}
}

func (g *gzipChecker) write(p []byte) { _, _ = g.in.Write(p) }

func (g *gzipChecker) finish() error {
	_ = g.in.Close()
	return <-g.done
}

package upload

import (
	"io"
	"os"
	"sync"
)

const (
	aheadChunk  = 128 << 10
	aheadChunks = 6
)

var aheadBuffers = sync.Pool{New: func() any { b := make([]byte, aheadChunk); return &b }}

// ahead reads its source in a goroutine of its own, at most aheadChunks ahead, so
// that hashing takes no time from sending. Without it an upload over a fast
// network runs at two thirds of the speed. The goroutine begins with the
// first Read and ends before Close returns.
type ahead struct {
	src  io.ReadCloser
	ch   chan chunk
	free chan *[]byte
	stop chan struct{}
	wg   sync.WaitGroup

	mu     sync.Mutex // net/http may close a body that it still reads
	begun  bool
	closed bool
	cur    chunk
	rest   []byte
}

type chunk struct {
	buf *[]byte
	n   int
	err error
}

func newAhead(src io.ReadCloser) *ahead {
	return &ahead{
		src: src, ch: make(chan chunk, aheadChunks), free: make(chan *[]byte, aheadChunks), stop: make(chan struct{}),
	}
}

func (a *ahead) run() {
	for {
		select {
		case buf := <-a.free:
			c := chunk{buf: buf}
			c.n, c.err = a.src.Read(*buf)
			a.ch <- c // never blocks: there are as many places as buffers
			if c.err != nil {
				return
			}
		case <-a.stop:
			return
		}
	}
}

func (a *ahead) Read(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return 0, os.ErrClosed
	}
	if !a.begun {
		a.begun = true
		for range aheadChunks {
			a.free <- aheadBuffers.Get().(*[]byte)
		}
		a.wg.Go(a.run)
	}
	for len(a.rest) == 0 {
		if a.cur.err != nil {
			return 0, a.cur.err
		}
		if a.cur.buf != nil {
			a.free <- a.cur.buf
		}
		a.cur = <-a.ch
		a.rest = (*a.cur.buf)[:a.cur.n]
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// Close waits for a Read that runs. A second Close does nothing.
func (a *ahead) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.closed = true
	close(a.stop)
	a.wg.Wait()
	if a.cur.buf != nil {
		aheadBuffers.Put(a.cur.buf)
	}
	for {
		select {
		case c := <-a.ch:
			aheadBuffers.Put(c.buf)
		case buf := <-a.free:
			aheadBuffers.Put(buf)
		default:
			return a.src.Close()
		}
	}
}

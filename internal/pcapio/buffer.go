package pcapio

import (
	"errors"
	"io"
)

const (
	firstBuffer = 16 << 10  // enough for a small file
	readBuffer  = 256 << 10 // for every file that fills the first one
	maxBuffer   = 1 << 20   // the largest record that is looked at as a whole
	emptyReads  = 100       // reads of nothing in a row before a source counts as stuck
)

// buffer is a window onto a stream. It grows with the bytes that came, never
// with the bytes that a file claims to have.
type buffer struct {
	src      io.Reader
	srcErr   error // what src ended with
	buf      []byte
	pos, end int   // buf[pos:end] is read and not consumed
	base     int64 // offset of buf[0] in the stream

	sink func([]byte) // may be nil
	mark int          // buf[mark:] has not been given to sink
}

// at returns the next n bytes; need(n) came before.
func (b *buffer) at(n int) []byte { return b.buf[b.pos : b.pos+n : b.pos+n] }

// need makes the next n bytes available; n is at most maxBuffer. It returns the
// source's error when the stream has fewer.
func (b *buffer) need(n int) error {
	for empty := 0; b.end-b.pos < n; {
		if b.srcErr != nil {
			return b.srcErr
		}
		b.makeRoom(n)
		k, err := b.src.Read(b.buf[b.end:])
		b.end += k
		b.srcErr = err
		if k > 0 {
			empty = 0
		} else if empty++; empty == emptyReads && err == nil {
			b.srcErr = io.ErrNoProgress
		}
	}
	return nil
}

// makeRoom leaves space behind buf[end] for at least one byte.
func (b *buffer) makeRoom(n int) {
	if b.buf == nil {
		b.buf = make([]byte, firstBuffer)
		return
	}
	full := b.end == len(b.buf)
	if !full && b.pos+n <= len(b.buf) {
		return
	}
	b.flushTo(b.base + int64(b.pos))
	into := b.buf
	if full && len(b.buf) < readBuffer {
		into = make([]byte, readBuffer)
	} else if full && b.pos == 0 {
		into = make([]byte, min(2*len(b.buf), maxBuffer))
	}
	copy(into, b.buf[b.pos:b.end])
	b.base += int64(b.pos)
	b.end -= b.pos
	b.pos, b.mark = 0, 0
	b.buf = into
}

// skip consumes n bytes without keeping them.
func (b *buffer) skip(n int64) error {
	for {
		have := int64(b.end - b.pos)
		if have >= n {
			b.pos += int(n)
			return nil
		}
		b.pos = b.end
		n -= have
		if err := b.need(1); err != nil {
			return err
		}
	}
}

// flushTo gives the sink everything before offset off, which must be in the
// buffer.
func (b *buffer) flushTo(off int64) {
	to := int(off - b.base)
	if b.sink != nil && to > b.mark {
		b.sink(b.buf[b.mark:to])
	}
	b.mark = to
}

// drain consumes the rest of the stream and returns what ended it, nil for the
// stream's end.
func (b *buffer) drain() error {
	for {
		b.pos = b.end
		if err := b.need(1); err != nil {
			b.flushTo(b.base + int64(b.end))
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

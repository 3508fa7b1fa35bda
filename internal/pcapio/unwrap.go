package pcapio

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Names of the wrappers that Unwrap recognises.
const (
	Gzip = "gzip"
	Zstd = "zstd"
)

// Budget bounds what a compressed file may unwrap to. A field that is 0 takes
// its value from DefaultBudget().
type Budget struct {
	Bytes  int64 // at most so many bytes in all
	Ratio  int64 // at most so many bytes for each compressed byte …
	Free   int64 // … once there are more than so many
	Window int64 // largest zstd window, which is what unwrapping it costs in memory
}

// DefaultBudget lets every honest capture pass: packets differ at least in their
// times, so that files of them rarely compress to less than a hundredth, and
// `zstd --ultra -20` needs a window of 32 MiB.
func DefaultBudget() Budget {
	return Budget{Bytes: 64 << 30, Ratio: 500, Free: 256 << 20, Window: 32 << 20}
}

func (b Budget) withDefaults() Budget {
	or := func(v, d int64) int64 {
		if v <= 0 {
			return d
		}
		return v
	}
	d := DefaultBudget()
	return Budget{
		Bytes:  or(b.Bytes, d.Bytes),
		Ratio:  or(b.Ratio, d.Ratio),
		Free:   or(b.Free, d.Free),
		Window: or(b.Window, d.Window),
	}
}

// peekSize is how much Unwrap reads to see what a stream is; a multiple of a
// page, so that the reads after it stay aligned.
const peekSize = 4096

// compressedBuffer is how much compressed data is read at once.
const compressedBuffer = 64 << 10

// Payload is the content of a file without its wrapper. Its Read returns
// io.ErrUnexpectedEOF when the compressed data ends early, a *FormatError when
// it is damaged, a *BudgetError when it is too much, and otherwise what the
// source returned.
type Payload struct {
	// Wrapper is "", Gzip or Zstd.
	Wrapper string
	// Ignored is true when bytes follow the compressed data that belong to
	// nothing; known at the end of the payload.
	Ignored bool

	head   []byte
	src    *source
	decode io.Reader
	close  func()
	budget Budget
	out    int64
	err    error
}

// source counts what was read and remembers how it ended, so that a decoder's
// complaint can be told from a failure to read.
type source struct {
	r   io.Reader
	n   int64
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// Unwrap recognises gzip (of one or many members) and zstd by content and
// returns the content; any other stream is returned as it is. Memory is bounded
// by b.Window and about 1 MiB. The error is what r returned; a wrapper that is
// damaged from the start shows when the payload is read. Close does not close r.
func Unwrap(r io.Reader, b Budget) (*Payload, error) {
	head := make([]byte, peekSize)
	n, err := io.ReadAtLeast(r, head, 4)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	p := &Payload{head: head[:n], budget: b.withDefaults()}
	p.src = &source{r: r}
	if err != nil { // fewer than 4 bytes: there is no more to come
		p.src.r = bytes.NewReader(nil)
	}
	switch {
	case isGzip(p.head):
		p.Wrapper = Gzip
	case isZstd(p.head):
		p.Wrapper = Zstd
	default:
		return p, nil
	}
	p.src.r = io.MultiReader(bytes.NewReader(p.head), p.src.r)
	in := bufio.NewReaderSize(p.src, compressedBuffer)
	if p.Wrapper == Gzip {
		p.decode = &members{in: in, payload: p}
		return p, nil
	}
	d, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(uint64(p.budget.Window)), zstd.WithDecodeBuffersBelow(0))
	if err != nil {
		return nil, fmt.Errorf("unwrap zstd: %w", err)
	}
	p.decode, p.close = d, d.Close
	return p, nil
}

func isGzip(b []byte) bool {
	return len(b) >= 3 && b[0] == 0x1f && b[1] == 0x8b && b[2] == 8 // 8: deflate, the only method
}

// isZstd recognises a zstd frame and the skippable frame that some writers begin
// with (RFC 8878, sections 3.1.1 and 3.1.2).
func isZstd(b []byte) bool {
	if len(b) < 4 {
		return false
	}
	m := u32(b, false)
	return m == 0xfd2fb528 || m&^0xf == 0x184d2a50
}

// Read implements io.Reader.
func (p *Payload) Read(b []byte) (int, error) {
	if p.Wrapper == "" {
		if len(p.head) > 0 {
			n := copy(b, p.head)
			p.head = p.head[n:]
			p.out += int64(n)
			return n, nil
		}
		n, err := p.src.Read(b)
		p.out += int64(n)
		return n, err
	}
	if p.err != nil {
		return 0, p.err
	}
	n, err := p.decode.Read(b)
	p.out += int64(n)
	if reason := p.overBudget(); reason != "" {
		err = &BudgetError{Wrapper: p.Wrapper, Reason: reason}
	} else if err != nil {
		err = p.decodeError(err)
	}
	p.err = err
	return n, err
}

// Size returns how many bytes Read has delivered so far.
func (p *Payload) Size() int64 { return p.out }

// Close frees the decoder.
func (p *Payload) Close() error {
	if p.close != nil {
		p.close()
	}
	return nil
}

func (p *Payload) overBudget() string {
	switch {
	case p.out > p.budget.Bytes:
		return fmt.Sprintf("has more than %d bytes", p.budget.Bytes)
	case p.out > p.budget.Free && p.out/p.budget.Ratio > p.src.n:
		return fmt.Sprintf("has more than %d times the bytes of the file", p.budget.Ratio)
	}
	return ""
}

// decodeError says whether a decoder stopped because of its source, because of
// the budget, or because of the data.
func (p *Payload) decodeError(err error) error {
	switch {
	case p.src.err != nil:
		return p.src.err
	case errors.Is(err, io.EOF):
		return io.EOF
	case errors.Is(err, io.ErrUnexpectedEOF):
		return io.ErrUnexpectedEOF
	case errors.Is(err, zstd.ErrWindowSizeExceeded):
		return &BudgetError{Wrapper: p.Wrapper, Reason: fmt.Sprintf("needs a window of more than %d bytes", p.budget.Window)}
	case errors.Is(err, zstd.ErrMagicMismatch) && p.out > 0:
		p.Ignored = true
		return io.EOF
	}
	return &FormatError{Offset: p.out, Problem: fmt.Sprintf("the %s data is damaged: %v", p.Wrapper, err)}
}

// members reads the members of a gzip file one after the other, and ends
// without an error before bytes that are no member, as gzip(1) does.
type members struct {
	in      *bufio.Reader
	payload *Payload
	z       *gzip.Reader
	open    bool
}

func (m *members) Read(b []byte) (int, error) {
	for {
		if !m.open {
			if err := m.next(); err != nil {
				return 0, err
			}
		}
		n, err := m.z.Read(b)
		if !errors.Is(err, io.EOF) {
			return n, err
		}
		m.open = false
		if n > 0 {
			return n, nil
		}
	}
}

func (m *members) next() error {
	head, err := m.in.Peek(3)
	if m.z != nil && !isGzip(head) {
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		// One or two bytes may be the start of a member that was cut off.
		if len(head) == 3 || len(head) > 0 && head[0] != 0x1f {
			m.payload.Ignored = true
		} else if len(head) > 0 {
			return io.ErrUnexpectedEOF
		}
		return io.EOF
	}
	if m.z == nil {
		m.z, err = gzip.NewReader(m.in)
	} else {
		err = m.z.Reset(m.in)
	}
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	m.z.Multistream(false)
	m.open = true
	return nil
}

package body

import (
	"bufio"
	"errors"
	"io"
	"iter"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"

	"capagent/enrich/indicator"
)

// What decoding may cost. Bodies beyond are not reported.
const (
	// MaxRatio is how many bytes each byte of a coded body may become once there
	// are more than FreeDecoded of them.
	MaxRatio = 300
	// FreeDecoded see MaxRatio.
	FreeDecoded = 4 << 20
	// MaxDecoded is how large one body may become.
	MaxDecoded = 1 << 30
	// AnalysisRatio is how many bytes all coded bytes of an analysis may become on
	// average, AnalysisFree how many more they may be. So the time that decoding
	// and hashing take stays within a multiple of the capture's size.
	AnalysisRatio = 16
	// AnalysisFree see AnalysisRatio.
	AnalysisFree = 1 << 30
)

// What a decoder takes: its window, its tables, what it writes into and the stack
// that it runs on.
const (
	deflateMemory = 96 << 10
	brotliMemory  = 3 << 20  // its window comes on top of it, with the output
	brotliWindow  = 24 << 20 // 16 MiB at most; half as much again while it grows
	zstdWindow    = 8 << 20  // RFC 9659 allows no larger one
	zstdMemory    = zstdWindow + 1<<20
	outSize       = 16 << 10
)

var (
	errBomb    = errors.New("decodes to too much")
	errStopped = errors.New("stopped")
)

// decoder is a coroutine that reads what it is given and hands on what it
// decodes: the decoders of others want to read, and here is only what came.
type decoder struct {
	set  *indicator.Set
	emit func([]byte)

	in      []byte // not yet read; somebody else's, and only while it runs
	eof     bool
	yield   func(struct{}) bool
	next    func() (struct{}, bool)
	stop    func()
	err     error
	over    bool
	read    int64
	written int64
	taken   int
	window  int // how much may be taken yet while the output grows
}

// newDecoder returns nil when there is no memory for it.
func newDecoder(c coding, set *indicator.Set, emit func([]byte)) *decoder {
	d := &decoder{set: set, emit: emit, taken: deflateMemory}
	switch c {
	case brotliCoding:
		d.taken, d.window = brotliMemory, brotliWindow
	case zstdCoding:
		d.taken = zstdMemory
	}
	if !set.Take(d.taken, LimitDecoders) {
		return nil
	}
	d.next, d.stop = iter.Pull(func(yield func(struct{}) bool) {
		d.yield = yield
		d.err = d.run(c)
		d.over = true
	})
	return d
}

// write decodes p, and says whether the body is still of interest.
func (d *decoder) write(p []byte) bool {
	d.read += int64(len(p))
	d.set.Spend(-AnalysisRatio*int64(len(p)), AnalysisFree, LimitDecoded)
	if d.over {
		return true // after the end: not part of the file
	}
	d.in = p
	d.next()
	d.in = nil
	return !errors.Is(d.err, errBomb)
}

func (d *decoder) end() bool {
	if !d.over {
		d.eof = true
		d.next()
	}
	return !errors.Is(d.err, errBomb)
}

// short says whether the body ended before its coding did.
func (d *decoder) short() bool {
	return errors.Is(d.err, io.ErrUnexpectedEOF) || errors.Is(d.err, io.EOF)
}

// failed says whether the body broke the rules of its coding.
func (d *decoder) failed() bool { return d.err != nil && !d.short() }

func (d *decoder) close() {
	d.stop()
	d.set.Give(d.taken)
	d.taken = 0
}

// Read gives the coroutine what was written, and waits for more.
func (d *decoder) Read(p []byte) (int, error) {
	for len(d.in) == 0 {
		if d.eof {
			return 0, io.EOF
		}
		if !d.yield(struct{}{}) {
			d.eof = true
			return 0, errStopped
		}
	}
	n := copy(p, d.in)
	d.in = d.in[n:]
	return n, nil
}

// run decodes until the end of the stream.
func (d *decoder) run(c coding) error {
	r, err := d.open(c)
	if err != nil {
		return err
	}
	out := make([]byte, outSize)
	for {
		n, err := r.Read(out)
		if n > 0 {
			if !d.allowed(n) {
				return errBomb
			}
			d.emit(out[:n])
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

func (d *decoder) open(c coding) (io.Reader, error) {
	switch c {
	case brotliCoding:
		return brotli.NewReader(d), nil
	case zstdCoding:
		z, err := zstd.NewReader(d, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, err
		}
		return z, nil
	}
	r := bufio.NewReaderSize(d, 1<<10)
	if err := skipHeader(r); err != nil {
		return nil, err
	}
	return flate.NewReader(r), nil
}

// allowed says whether n bytes more may come out of this body.
func (d *decoder) allowed(n int) bool {
	d.written += int64(n)
	if d.written > FreeDecoded && (d.written > MaxDecoded || d.written/MaxRatio > d.read) {
		d.set.Reached(LimitBomb)
		return false
	}
	if !d.set.Spend(int64(n), AnalysisFree, LimitDecoded) {
		return false
	}
	if more := min(2*n, d.window); more > 0 {
		if !d.set.Take(more, LimitDecoders) {
			return false
		}
		d.taken += more
		d.window -= more
	}
	return true
}

// skipHeader reads the header of gzip (RFC 1952, 2.3) or zlib (RFC 1950, 2.2), if
// there is one. Checksums at the end are not looked at, as tshark does not.
func skipHeader(r *bufio.Reader) error {
	head, err := r.Peek(2)
	if err != nil {
		return err
	}
	switch {
	case head[0] == 0x1f && head[1] == 0x8b:
		return skipGzip(r)
	case head[0]&0x8f == 8 && (uint(head[0])<<8|uint(head[1]))%31 == 0 && head[1]&0x20 == 0:
		_, err = r.Discard(2)
	}
	return err
}

func skipGzip(r *bufio.Reader) error {
	var head [10]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	flags := head[3]
	if flags&4 != 0 { // FEXTRA
		if _, err := io.ReadFull(r, head[:2]); err != nil {
			return err
		}
		if _, err := r.Discard(int(head[0]) | int(head[1])<<8); err != nil {
			return err
		}
	}
	for _, text := range []byte{8, 16} { // FNAME, FCOMMENT
		for end := flags&text == 0; !end; {
			c, err := r.ReadByte()
			if err != nil {
				return err
			}
			end = c == 0
		}
	}
	if flags&2 != 0 { // FHCRC
		_, err := r.Discard(2)
		return err
	}
	return nil
}

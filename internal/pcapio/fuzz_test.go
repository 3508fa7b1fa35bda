package pcapio_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"capagent/internal/pcapio"
)

// seed gives a fuzz target the corpus, as far as it is small.
func seed(f *testing.F, add func(c corpusFile)) {
	for _, c := range corpus() {
		if len(c.data) <= 4096 {
			add(c)
		}
	}
}

// kind reduces an error to what a caller can tell; "" for none.
func kind(err error) string {
	if err == nil {
		return ""
	}
	for _, k := range []error{io.EOF, io.ErrUnexpectedEOF, pcapio.ErrTruncated, pcapio.ErrFormat, pcapio.ErrNotCapture, pcapio.ErrOverBudget, pcapio.ErrNoSplit} {
		if errors.Is(err, k) {
			return k.Error()
		}
	}
	return "unexpected: " + err.Error()
}

func FuzzReader(f *testing.F) {
	seed(f, func(c corpusFile) { f.Add(c.data) })
	f.Fuzz(func(t *testing.T, data []byte) {
		read := func(r io.Reader) (packets []pcapio.Packet, end error) {
			rd, err := pcapio.NewReader(r)
			if err != nil {
				return nil, err
			}
			for {
				var p pcapio.Packet
				before := rd.Offset()
				if err := rd.Next(&p); err != nil {
					if again := rd.Next(&p); !errors.Is(again, err) {
						t.Fatalf("ended with %v, then %v", err, again)
					}
					return packets, err
				}
				if rd.Offset() <= before || rd.Offset() > int64(len(data)) {
					t.Fatalf("offset %d after %d of %d", rd.Offset(), before, len(data))
				}
				if len(p.Data) != int(p.CapLen) && len(data) <= 1<<20 {
					t.Fatalf("%d bytes of %d", len(p.Data), p.CapLen)
				}
				p.Data = bytes.Clone(p.Data)
				packets = append(packets, p)
			}
		}
		packets, end := read(bytes.NewReader(data))
		switch kind(end) {
		case "EOF", cut, bad, foreign:
		default:
			t.Fatalf("ended with %v", end)
		}
		again, end2 := read(iotest.OneByteReader(bytes.NewReader(data)))
		if wrong := differ(packets, again); wrong != "" || kind(end) != kind(end2) {
			t.Fatalf("read byte by byte: %s; ends with %v, not %v", wrong, end2, end)
		}
	})
}

func FuzzUnwrap(f *testing.F) {
	seed(f, func(c corpusFile) { f.Add(c.data) })
	f.Fuzz(func(t *testing.T, data []byte) {
		const most = 1 << 20
		unwrap := func(r io.Reader) ([]byte, error) {
			p, err := pcapio.Unwrap(r, pcapio.Budget{Bytes: most, Window: 1 << 20})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			b, err := io.ReadAll(p)
			if p.Wrapper == "" && !bytes.Equal(b, data) {
				t.Fatal("changed what nothing wraps")
			}
			return b, err
		}
		b, err := unwrap(bytes.NewReader(data))
		switch kind(err) {
		case "", "unexpected EOF", bad, over:
		default:
			t.Fatalf("ended with %v", err)
		}
		if len(b) > most+512<<10 && !errors.Is(err, pcapio.ErrOverBudget) {
			t.Fatalf("%d bytes came", len(b))
		}
		again, err2 := unwrap(iotest.OneByteReader(bytes.NewReader(data)))
		if err == nil && !bytes.Equal(b, again) || kind(err) != kind(err2) {
			t.Fatalf("read byte by byte: %d bytes and %v, not %d and %v", len(again), err2, len(b), err)
		}
	})
}

func FuzzPlan(f *testing.F) {
	seed(f, func(c corpusFile) { f.Add(c.data, int64(1), int64(0)); f.Add(c.data, int64(0), int64(200)) })
	f.Fuzz(func(t *testing.T, data []byte, packets, size int64) {
		limits := pcapio.Limits{Packets: packets, Bytes: size}
		pieces, err := pcapio.Plan(bytes.NewReader(data), limits)
		switch kind(err) {
		case "":
		case foreign, "cannot be split":
			return
		default:
			t.Fatalf("ended with %v", err)
		}
		if wrong := checkPieces(data, limits, pieces); wrong != "" {
			t.Fatal(wrong)
		}
	})
}

package pcapio_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"capagent/internal/pcapio"
)

// gzipOf compresses data followed by zeros.
func gzipOf(t testing.TB, data []byte, zeros int64) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.Copy(z, &endless{bytes.NewReader(data), zeros}); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUnwrapGivesTheContentHoweverTheSourceReads(t *testing.T) {
	sources := map[string]func(io.Reader) io.Reader{
		"at once":            func(r io.Reader) io.Reader { return r },
		"byte by byte":       iotest.OneByteReader,
		"half by half":       iotest.HalfReader,
		"with the end early": iotest.DataErrReader,
	}
	for _, c := range wrapped() {
		want := payloadOf(c.data)
		for name, source := range sources {
			p, err := pcapio.Unwrap(source(bytes.NewReader(c.data)), pcapio.Budget{Bytes: 1 << 20})
			if err != nil {
				t.Fatal(err)
			}
			got, _ := io.ReadAll(p)
			if !bytes.Equal(got, want) || p.Size() != int64(len(want)) {
				t.Errorf("%s %s: %d bytes, want %d", c.name, name, len(got), len(want))
			}
			if p.Wrapper == "" {
				t.Errorf("%s %s: no wrapper seen", c.name, name)
			}
			_ = p.Close()
		}
	}
}

func TestUnwrapLeavesOtherStreamsAsTheyAre(t *testing.T) {
	for _, data := range [][]byte{nil, []byte("a"), []byte("abc"), []byte("abcd"), bytes.Repeat([]byte("text"), 5000), {0x1f, 0x8b}} {
		p, err := pcapio.Unwrap(iotest.DataErrReader(bytes.NewReader(data)), pcapio.Budget{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(p)
		if !bytes.Equal(got, data) || err != nil || p.Wrapper != "" || p.Size() != int64(len(data)) {
			t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
		}
	}
}

func TestTheDefaultBudgetEndsABomb(t *testing.T) {
	p, err := pcapio.Unwrap(bytes.NewReader(gzipOf(t, smallPcap(), 300<<20)), pcapio.Budget{})
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, p)
	const want = "over budget: the gzip content has more than 500 times the bytes of the file"
	if err == nil || err.Error() != want || n < 256<<20 || n > 257<<20 {
		t.Errorf("%d bytes, then %v", n, err)
	}
}

func TestWhatEndsAPayload(t *testing.T) {
	file := smallPcap()
	bomb := gzipOf(t, file, 10<<20)
	broken := errors.New("input/output error")
	behind := func(data []byte) io.Reader { return io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken)) }
	tests := map[string]struct {
		r      io.Reader
		budget pcapio.Budget
		want   error
	}{
		"a read error inside gzip":        {behind(gzipStored(file)[:50]), pcapio.Budget{}, broken},
		"a read error behind gzip":        {behind(gzipStored(file)), pcapio.Budget{}, broken},
		"a read error inside zstd":        {behind(zstdImage(0, file, 0)[:50]), pcapio.Budget{}, broken},
		"too many bytes":                  {bytes.NewReader(bomb), pcapio.Budget{Bytes: 1 << 20}, pcapio.ErrOverBudget},
		"too high a ratio":                {bytes.NewReader(bomb), pcapio.Budget{Free: 1 << 20}, pcapio.ErrOverBudget},
		"a high ratio of few bytes":       {bytes.NewReader(bomb), pcapio.Budget{}, nil},
		"an allowed ratio":                {bytes.NewReader(bomb), pcapio.Budget{Free: 1 << 20, Ratio: 2000}, nil},
		"a zstd window over the budget":   {bytes.NewReader(zstdImage(11<<3, file, 0)), pcapio.Budget{Window: 1 << 20}, pcapio.ErrOverBudget},
		"a zstd window within the budget": {bytes.NewReader(zstdImage(11<<3, file, 0)), pcapio.Budget{}, nil},
		"gzip that ends early":            {bytes.NewReader(gzipStored(file)[:50]), pcapio.Budget{}, io.ErrUnexpectedEOF},
		"a second member of one byte":     {bytes.NewReader(append(gzipStored(file), 0x1f)), pcapio.Budget{}, io.ErrUnexpectedEOF},
		"a damaged second member":         {bytes.NewReader(append(gzipStored(file), 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0, 0xff)), pcapio.Budget{}, pcapio.ErrFormat},
	}
	for name, c := range tests {
		p, err := pcapio.Unwrap(c.r, c.budget)
		if err == nil {
			_, err = io.Copy(io.Discard, p)
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

package upload

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"
)

func TestAheadGivesWhatItsSourceGives(t *testing.T) {
	broken := errors.New("broken")
	rapid.Check(t, func(t *rapid.T) {
		data := bytes.Repeat([]byte("0123456789abcdef"), rapid.IntRange(0, 100_000).Draw(t, "blocks"))
		src := io.Reader(bytes.NewReader(data))
		want := error(nil)
		if rapid.Bool().Draw(t, "fails") {
			src, want = io.MultiReader(src, iotest.ErrReader(broken)), broken
		}
		if rapid.Bool().Draw(t, "halves") {
			src = iotest.HalfReader(src)
		}
		s := &source{Reader: src}
		a := newAhead(s)
		stop := rapid.IntRange(0, 2*len(data)+1).Draw(t, "stop")
		got, err := io.ReadAll(io.LimitReader(a, int64(stop)))
		if !bytes.Equal(got, data[:min(stop, len(data))]) || stop > len(data) && !errors.Is(err, want) {
			t.Fatalf("%d bytes of %d, %v", len(got), len(data), err)
		}
		if first, second := a.Close(), a.Close(); first != nil || second != nil || s.closed != 1 {
			t.Fatalf("closed %d times", s.closed)
		}
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrClosed) {
			t.Fatalf("after Close: %v", err)
		}
	})
}

func TestAheadThatIsNeverReadReadsNothing(t *testing.T) {
	s := &source{Reader: iotest.ErrReader(errors.New("was read"))}
	if err := newAhead(s).Close(); err != nil || s.closed != 1 || s.reads != 0 {
		t.Errorf("%v, %+v", err, s)
	}
}

type source struct {
	io.Reader
	reads, closed int
}

func (s *source) Read(p []byte) (int, error) { s.reads++; return s.Reader.Read(p) }
func (s *source) Close() error               { s.closed++; return nil }

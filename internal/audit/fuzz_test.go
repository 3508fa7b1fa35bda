package audit

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"capagent/internal/ledger"
)

var thorough = flag.Bool("thorough", false, "try everything, not a sample: every system call, many kills, many changes")

// testdata/log is a log of version 1 of the format. Its lines were made without
// this package, and never change.
const fixtureHead = "5cd4a9b26e6e6e2ea8be604d24c8cfc6a9b5a0a55ae3119f01219a2552761644"

var fixtureNames = []string{"audit-000000000001.log", Name}

func fixture(t testing.TB) (files [][]byte, k known) {
	t.Helper()
	for _, name := range fixtureNames {
		b, err := os.ReadFile(filepath.Join("testdata", "log", name))
		ok(t, err)
		files = append(files, b)
	}
	return files, known{seq: 6, head: fixtureHead}
}

func TestTheFormatStays(t *testing.T) {
	_, k := fixture(t)
	r := verifyIn(t, filepath.Join("testdata", "log"), k)
	same(t, r, Result{Files: 2, Lines: 6, Seq: 6, Head: fixtureHead, Last: "2025-03-04T05:06:07.000000005Z"})
}

// FuzzParse: whatever a line holds, it is read without a panic, and one that is
// taken for a line is a line again when it is written.
func FuzzParse(f *testing.F) {
	files, _ := fixture(f)
	for raw := range bytes.Lines(bytes.Join(files, nil)) {
		f.Add(bytes.TrimSuffix(raw, []byte("\n")))
	}
	f.Add([]byte(`{"seq":1,"time":"2025-01-01T00:00:00.000000000Z","event":"x","data":null,"prev":"` + genesis + `"}`))
	f.Add([]byte(`{"seq":-1}`))
	f.Add([]byte(`[1]`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		line, err := parse(raw)
		if err != nil {
			return
		}
		if line.Seq < 1 || line.Event == "" || len(line.Prev) != 64 {
			t.Fatalf("%+v", line)
		}
		again, err := line.bytes()
		if err != nil {
			t.Fatalf("%+v: %v", line, err)
		}
		if len(again) < maxLine {
			if _, err := parse(again[:len(again)-1]); err != nil {
				t.Fatalf("%s: %v", again, err)
			}
		}
	})
}

// FuzzVerify: whatever the files of a log hold is read without a panic, and
// nothing but the log that was written is in order.
func FuzzVerify(f *testing.F) {
	files, k := fixture(f)
	f.Add(files[0], files[1])
	f.Add(files[1], files[0])
	f.Add(files[0], []byte{})
	f.Add([]byte("\n\n\n"), []byte("{}\n"))
	f.Fuzz(func(t *testing.T, archive, log []byte) {
		v := newVerifier()
		v.anchored, v.seq, v.head = true, k.seq, k.head
		ok(t, v.read(t.Context(), fixtureNames[0], bytes.NewReader(archive), false))
		ok(t, v.read(t.Context(), fixtureNames[1], bytes.NewReader(log), true))
		v.end()
		rest, whole := bytes.CutPrefix(log, files[1])
		whole = whole && bytes.Equal(archive, files[0]) && bytes.IndexByte(rest, '\n') < 0
		if v.OK() != whole {
			t.Fatalf("broken %v, and it is whole: %v", v.Broken, whole)
		}
	})
}

// memory is a ledger's part in the log, without a ledger.
type memory struct {
	known
	last int64
}

func (m *memory) EventsWritten(_ context.Context, seq int64, head string) error {
	for len(m.pending) > 0 && m.pending[0].Seq <= seq {
		m.pending = m.pending[1:]
	}
	m.seq, m.head = seq, head
	return nil
}

func (m *memory) AdoptAudit(context.Context, int64, string) error { return errors.New("not here") }

func (m *memory) Note(_ context.Context, name string, _ any) error {
	m.last++
	m.pending = append(m.pending, ledger.Event{Seq: m.last, Time: time.Unix(0, m.last), Name: name, Data: []byte("{}")})
	return nil
}

// TestDrainAfterAnyMutilation: whatever was done to a log, the next events get into
// it, and nothing but what was recorded is taken for right.
func TestDrainAfterAnyMutilation(t *testing.T) {
	files, k := fixture(t)
	log := files[1]
	rng := rand.New(rand.NewPCG(1, 2))
	rounds := 300
	if *thorough {
		rounds = 20_000
	}
	kinds := map[string]int{}
	for _, b := range [][]byte{log, {}, log[:len(log)-1], append(bytes.Clone(log), log...), append(bytes.Clone(log), "torn"...), make([]byte, 3*maxLine)} {
		kinds[mutilated(t, files[0], log, b, k)]++
	}
	for range rounds {
		kinds[mutilated(t, files[0], log, mutilate(rng, log), k)]++
	}
	t.Log(kinds)
}

// mutilate changes b a few times.
func mutilate(rng *rand.Rand, b []byte) []byte {
	b = bytes.Clone(b)
	for range 1 + rng.IntN(3) {
		from := rng.IntN(len(b) + 1)
		to := from + rng.IntN(len(b)-from+1)
		switch rng.IntN(6) {
		case 0:
			b = b[:from]
		case 1:
			b = slices.Delete(b, from, to)
		case 2:
			b = append(b, b[from:to]...)
		case 3:
			clear(b[from:to])
		case 4:
			b = append(b, make([]byte, rng.IntN(100))...)
		case 5:
			if from < len(b) {
				b[from] ^= 1 << rng.IntN(8)
			}
		}
	}
	return b
}

// mutilated drains two events into the log b, and says what that was.
func mutilated(t *testing.T, archive, log, b []byte, k known) string {
	t.Helper()
	dir := t.TempDir()
	ok(t, os.WriteFile(filepath.Join(dir, fixtureNames[0]), archive, 0o600))
	ok(t, os.WriteFile(filepath.Join(dir, Name), b, 0o600))
	m := &memory{k, k.seq}
	for _, name := range []string{"next", "later"} {
		ok(t, m.Note(t.Context(), name, nil))
		ok(t, New(m, Options{Dir: dir}).Drain(t.Context()))
	}
	written, err := os.ReadFile(filepath.Join(dir, Name))
	ok(t, err)
	r := verifyIn(t, dir, m)
	rest, intact := bytes.CutPrefix(b, log)
	intact = intact && lastLine(rest).seq == 0
	// A last newline that is missing comes back, and the break is noted.
	mended := bytes.Equal(b, log[:len(log)-1])
	if r.OK() != (mended || intact) {
		t.Fatalf("broken %v after\n%q", r.Broken, b)
	}
	noted := map[string]int{}
	for _, n := range r.Noted {
		if n.Seq > k.seq {
			noted[n.Event]++
		}
	}
	// Drain looks at the end only; Verify at everything.
	rest, recorded := after(b, k.head)
	quiet := recorded && lastLine(rest).seq == 0
	if quiet != (noted[eventBreak] == 0) || noted[eventBreak] > 1 || len(m.pending) > 0 {
		t.Fatalf("%v noted; broken %v after\n%q", noted, r.Broken, b)
	}
	if quiet && (len(rest) > 0) != (noted[eventTorn] == 1) {
		t.Fatalf("%v noted after\n%q", noted, b)
	}
	for _, name := range []string{`"event":"next"`, `"event":"later"`} {
		if !bytes.Contains(written, []byte(name)) {
			t.Fatalf("no %s after\n%q", name, b)
		}
	}
	return fmt.Sprintf("ok %v, noted %v", r.OK(), noted)
}

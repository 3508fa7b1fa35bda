package ledger

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"
)

// example makes the example ledger and returns its path and bytes.
func example(t testing.TB) (path string, content []byte) {
	t.Helper()
	path = newPath(t)
	l := open(t, path, Options{Now: newClock().Now})
	makeExample(t, l)
	ok(t, l.Close())
	content, err := os.ReadFile(path)
	ok(t, err)
	return path, content
}

func restore(t testing.TB, path string, content []byte) {
	t.Helper()
	ok(t, os.RemoveAll(filepath.Dir(path)))
	ok(t, os.MkdirAll(filepath.Dir(path), 0o700))
	ok(t, os.WriteFile(path+".lock", []byte(markReady), 0o600))
	ok(t, os.WriteFile(path, content, 0o600))
}

// rows are all captures, for comparison.
func rows(t testing.TB, l *Ledger) (all []Capture, err error) {
	t.Helper()
	for c, err := range l.List(t.Context(), Filter{}) {
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

func TestADamagedLedgerIsSetAsideAndReplaced(t *testing.T) {
	path, good := example(t)
	for _, tt := range []struct {
		name   string
		damage func([]byte) []byte
	}{
		{"not a database", func([]byte) []byte { return []byte("these are the notes of somebody\n") }},
		{"text as long as a database", func(b []byte) []byte { return bytes.Repeat([]byte("x"), len(b)) }},
		{"zeros", func(b []byte) []byte { return make([]byte, len(b)) }},
		{"empty", func([]byte) []byte { return nil }},
		{"one byte", func(b []byte) []byte { return b[:1] }},
		{"half a header", func(b []byte) []byte { return b[:50] }},
		{"half a page", func(b []byte) []byte { return b[:2048] }},
		{"one page", func(b []byte) []byte { return b[:4096] }},
		{"all but the last page", func(b []byte) []byte { return b[:len(b)-4096] }},
		{"a zeroed first page", func(b []byte) []byte { clear(b[:4096]); return b }},
		{"a zeroed second page", func(b []byte) []byte { clear(b[4096:8192]); return b }},
		{"a zeroed last page", func(b []byte) []byte { clear(b[len(b)-4096:]); return b }},
		{"an unknown format version", func(b []byte) []byte { b[18] = 9; return b }},
		{"the version of no ledger", func(b []byte) []byte { clear(b[60:64]); return b }},
		{"another application", func(b []byte) []byte { b[68]++; return b }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bad := tt.damage(bytes.Clone(good))
			restore(t, path, bad)
			// A reader doesn't look at every page, so it may not notice.
			r, err := Open(t.Context(), path, Options{ReadOnly: true})
			if err == nil {
				ok(t, r.Close())
			} else if len(bad) > 0 && !errors.Is(err, ErrDamaged) {
				t.Errorf("for reading: %v", err)
			}
			if len(aside(t, path)) > 0 {
				t.Fatal("reading set the file aside")
			}
			var log bytes.Buffer
			clk := newClock()
			l := open(t, path, Options{Now: clk.Now, Log: zerolog.New(&log)})
			if !l.Rebuilt().Equal(clk.now) {
				t.Errorf("rebuilt %v", l.Rebuilt())
			}
			if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "set_aside") {
				t.Errorf("log: %s", &log)
			}
			names := aside(t, path)
			want := path + ".damaged-20250304T050607.000Z"
			if len(names) != 1 || names[0] != want {
				t.Fatalf("set aside: %q, want %q", names, want)
			}
			kept, err := os.ReadFile(want)
			ok(t, err)
			if !bytes.Equal(kept, bad) {
				t.Error("the damaged file was changed")
			}
			// The new ledger works, and everything counts as sent before.
			id := register(t, l, found("/a", "a"))[0].ID
			same(t, begin(t, l, id, "cloudshark"), Begun{Outcome: Claimed, Restarted: true, Attempt: 1})
			ok(t, l.Close())
			l = open(t, path, Options{})
			if !l.Rebuilt().Equal(clk.now) || len(aside(t, path)) != 1 {
				t.Errorf("next start: rebuilt %v, set aside %q", l.Rebuilt(), aside(t, path))
			}
			ok(t, l.Close())
			l = open(t, path, Options{ReadOnly: true})
			if !l.Rebuilt().Equal(clk.now) {
				t.Errorf("for reading: rebuilt %v", l.Rebuilt())
			}
		})
	}
}

func TestAFlippedByteNeverPanics(t *testing.T) {
	path, good := example(t)
	l := open(t, path, Options{})
	want, err := rows(t, l)
	ok(t, err)
	ok(t, l.Close())
	rng := rand.New(rand.NewPCG(1, 2))
	var intact, changed, replaced, refused int
	for i := 16; i < 140; i++ {
		at := i // every byte of the header after its name
		if i >= 100 {
			at = rng.IntN(len(good))
		}
		bad := bytes.Clone(good)
		bad[at] ^= byte(1 + rng.IntN(255))
		restore(t, path, bad)
		l, err := Open(t.Context(), path, Options{})
		switch {
		case errors.Is(err, ErrNewer) && at >= 60 && at < 64, err != nil && strings.Contains(err.Error(), "another program") && at >= 68 && at < 72:
			refused++
			continue
		case err != nil:
			t.Errorf("byte %d: %v", at, err)
			continue
		}
		got, err := rows(t, l)
		switch {
		case !l.Rebuilt().IsZero():
			replaced++
			if len(aside(t, path)) != 1 || len(got) > 0 {
				t.Errorf("byte %d: %d rows, set aside %q", at, len(got), aside(t, path))
			}
		case err != nil:
			t.Errorf("byte %d: opened with a row that can't be read: %v", at, err)
		case cmp.Equal(got, want):
			intact++
		default:
			changed++ // inside a value: SQLite has no checksums
		}
		// It takes new work in any case.
		if r, err := l.Register(t.Context(), []Found{found("/new", "new")}); err != nil {
			t.Errorf("byte %d: %v", at, err)
		} else if _, err := l.Begin(t.Context(), r[0].ID, "x"); err != nil {
			t.Errorf("byte %d: %v", at, err)
		}
		if _, err := l.Counts(t.Context()); err != nil {
			t.Errorf("byte %d: %v", at, err)
		}
		ok(t, l.Close())
	}
	t.Logf("intact %d, set aside %d, refused %d, a value changed %d", intact, replaced, refused, changed)
	if intact == 0 || replaced == 0 {
		t.Error("the test tries nothing")
	}
}

func TestATruncatedLedgerIsIntactOrSetAside(t *testing.T) {
	path, good := example(t)
	rng := rand.New(rand.NewPCG(3, 4))
	for range 25 {
		size := rng.IntN(len(good))
		restore(t, path, good[:size])
		l, err := Open(t.Context(), path, Options{})
		if err != nil {
			t.Errorf("%d bytes: %v", size, err)
			continue
		}
		if l.Rebuilt().IsZero() {
			t.Errorf("%d of %d bytes were taken for a whole ledger", size, len(good))
		}
		ok(t, l.Close())
	}
}

func TestATornLogLosesAtMostItsEnd(t *testing.T) {
	// The log of a process that was killed.
	path := newPath(t)
	c := start(t, "write", path, "x")
	for range 30 {
		c.line()
	}
	c.kill()
	db, err := os.ReadFile(path)
	ok(t, err)
	wal, err := os.ReadFile(path + "-wal")
	ok(t, err)
	rng := rand.New(rand.NewPCG(5, 6))
	for range 20 {
		bad := bytes.Clone(wal)
		at := rng.IntN(len(bad))
		if rng.IntN(2) == 0 {
			bad = bad[:at]
		} else {
			clear(bad[at:min(at+512, len(bad))])
		}
		restore(t, path, db)
		ok(t, os.WriteFile(path+"-wal", bad, 0o600))
		l, err := Open(t.Context(), path, Options{})
		if err != nil {
			t.Errorf("at %d of %d: %v", at, len(wal), err)
			continue
		}
		got, err := rows(t, l)
		ok(t, err)
		for i, c := range got {
			if c.ID != int64(i+1) {
				t.Errorf("at %d: row %d is capture %d", at, i, c.ID)
			}
		}
		ok(t, l.Close())
	}
}

func TestAListThatIsNoLongerJSONHidesNothingElse(t *testing.T) {
	l := open(t, newPath(t), Options{})
	register(t, l, found("/a", "a"), found("/b", "b"))
	force(t, l, `UPDATE captures SET tags = '["x",' WHERE id = 1`)
	got, err := rows(t, l)
	ok(t, err)
	if len(got) != 2 {
		t.Fatalf("%d rows", len(got))
	}
	same(t, got[0].Tags, []string{`["x",`})
}

func TestALostLedgerIsNoticed(t *testing.T) {
	path, _ := example(t)
	ok(t, os.Remove(path))
	l := open(t, path, Options{})
	if l.Rebuilt().IsZero() {
		t.Error("a removed ledger was taken for a first start: what was sent would be sent again")
	}
}

func TestAnOldLogIsNotPlayedIntoANewLedger(t *testing.T) {
	for _, remove := range [][]string{{""}, {"", ".lock"}} {
		path := newPath(t)
		c := start(t, "write", path, "x")
		for range 10 {
			c.line()
		}
		c.kill()
		for _, suffix := range remove {
			ok(t, os.Remove(path+suffix))
		}
		l := open(t, path, Options{})
		got, err := rows(t, l)
		ok(t, err)
		if len(got) > 0 || l.Rebuilt().IsZero() {
			t.Errorf("%d rows, rebuilt %v", len(got), l.Rebuilt())
		}
		if names := aside(t, path); len(names) == 0 || !strings.HasSuffix(names[len(names)-1], "-wal") {
			t.Errorf("set aside %q", names)
		}
	}
}

func TestASettingAsideThatWasCutShortIsEnded(t *testing.T) {
	path, good := example(t)
	for _, tt := range []struct {
		name string
		cut  func(aside string)
	}{
		{"before the first rename", func(string) {}},
		{"after the file's rename", func(aside string) { ok(t, os.Rename(path, aside)) }},
		{"after the empty file was made", func(aside string) {
			ok(t, os.Rename(path, aside))
			ok(t, os.WriteFile(path, nil, 0o600))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			restore(t, path, good[:5000])
			ok(t, os.WriteFile(path+".lock", []byte(markDamaged+"20250101T000000.000Z"), 0o600))
			tt.cut(path + ".damaged-20250101T000000.000Z")
			l := open(t, path, Options{})
			if l.Rebuilt().IsZero() {
				t.Error("not said to be rebuilt")
			}
			register(t, l, found("/a", "a"))
			ok(t, l.Close())
			names := aside(t, path)
			kept, err := os.ReadFile(names[0])
			ok(t, err)
			if !bytes.Equal(kept, good[:5000]) {
				t.Errorf("%q holds %d bytes", names, len(kept))
			}
			l = open(t, path, Options{})
			if got, _ := rows(t, l); len(got) != 1 {
				t.Error("set aside once more")
			}
		})
	}
}

func TestADamagedLedgerThatIsInUseStays(t *testing.T) {
	path := newPath(t)
	l := open(t, path, Options{})
	register(t, l, found("/a", "a"))
	_, err := l.w.ExecContext(t.Context(), `PRAGMA wal_checkpoint(TRUNCATE)`)
	ok(t, err)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	ok(t, err)
	_, err = f.WriteAt(make([]byte, 4096), 0)
	ok(t, errors.Join(err, f.Close()))
	// Another process, because SQLite shares what it knows within one.
	c := start(t, "write", path, "x")
	c.line()
	c.lines.Scan()
	if text := c.lines.Text(); !strings.Contains(text, "damaged") || !strings.Contains(text, "another process has it open") {
		t.Errorf("the child says %q", text)
	}
	c.wait()
	if names := aside(t, path); len(names) > 0 {
		t.Errorf("set aside under a running process: %q", names)
	}
}

func TestWhatIsNotDamageIsNotSetAside(t *testing.T) {
	t.Run("a directory in its place", func(t *testing.T) {
		path := newPath(t)
		ok(t, os.MkdirAll(path, 0o700))
		if _, err := Open(t.Context(), path, Options{}); err == nil || len(aside(t, path)) > 0 {
			t.Errorf("%v, %q", err, aside(t, path))
		}
	})
	t.Run("a ledger that another program has locked", func(t *testing.T) {
		path, _ := example(t)
		db := openDB(path, "_txlock=exclusive")
		defer db.Close()
		tx, err := db.BeginTx(t.Context(), nil)
		ok(t, err)
		time.AfterFunc(300*time.Millisecond, func() { _ = tx.Rollback() })
		l := open(t, path, Options{})
		checkExample(t, l, len(migrations))
	})
	t.Run("no permission", func(t *testing.T) {
		if os.Getuid() == 0 || runtime.GOOS == "windows" {
			t.Skip("rights don't bind root")
		}
		path, _ := example(t)
		ok(t, os.Chmod(path, 0))
		if _, err := Open(t.Context(), path, Options{}); !errors.Is(err, fs.ErrPermission) || len(aside(t, path)) > 0 {
			t.Errorf("%v, %q", err, aside(t, path))
		}
	})
}

package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// sqlite3CLI runs SQLite's own program, the oracle for what other processes see.
func sqlite3CLI(t testing.TB, path string, query string) string {
	t.Helper()
	if _, err := exec.LookPath("sqlite3"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	out, err := exec.Command("sqlite3", "-readonly", "-cmd", ".timeout 5000", path, query).CombinedOutput()
	if err != nil {
		t.Fatalf("sqlite3: %v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestANewLedgerIsPrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("rights are inherited from the directory")
	}
	path := newPath(t)
	l := open(t, path, Options{})
	mustClaim(t, l, register(t, l, found("/a", "a"))[0].ID, "x")
	err := filepath.WalkDir(filepath.Dir(path), func(p string, d fs.DirEntry, err error) error {
		ok(t, err)
		info, err := d.Info()
		ok(t, err)
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v", p, info.Mode())
		}
		return nil
	})
	ok(t, err)
}

func TestEveryWriteIsSynced(t *testing.T) {
	l := open(t, newPath(t), Options{})
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "30000"} {
		var got string
		ok(t, l.w.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got))
		if got != want {
			t.Errorf("%s is %s, want %s", pragma, got, want)
		}
	}
}

func TestPathsAndNamesMayHoldAnyBytes(t *testing.T) {
	dir := "a b?c#d%41&e;f'g\"h+ü"
	switch runtime.GOOS {
	case "linux":
		dir += "\xff\xfe\n\x1b"
	case "windows":
		dir = "a b#d%41&e;f'g+ü"
	}
	path := filepath.Join(t.TempDir(), dir, "ledger.db")
	l := open(t, path, Options{})
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	odd := "/evidence/\xff\xfe\x80-\xc3(/\n\x1b[31m.pcap"
	f := found(odd, "a")
	f.Name, f.Comment, f.Case, f.Keylog = "\xffname", "zero\x00byte \xf0\x28", "\xc0case", "/k\xff"
	f.Tags, f.LinkTypes = []string{"bad\xff\xfetag"}, nil
	r := register(t, l, f)[0]
	c := get(t, l, r.ID)
	same(t, c, r.Capture)
	if c.Path != odd || c.Name != f.Name || c.Comment != f.Comment || c.Case != f.Case || c.Keylog != f.Keylog {
		t.Errorf("%q, %q, %q, %q", c.Path, c.Name, c.Case, c.Comment)
	}
	if len(c.Tags) != 1 || c.Tags[0] != "bad\uFFFDtag" {
		t.Errorf("tags %q", c.Tags)
	}
	// The same bytes are the same file, others are another one.
	again := register(t, l, f)[0]
	if again.New || again.ID != r.ID {
		t.Errorf("%+v", again)
	}
	f.Path = strings.ToValidUTF8(odd, "\uFFFD")
	if other := register(t, l, f)[0]; !other.New {
		t.Error("another path was taken for the same")
	}
	if got := sqlite3CLI(t, path, `SELECT hex(path) FROM captures WHERE id = 1`); got != fmt.Sprintf("%X", odd) {
		t.Errorf("sqlite3 reads %s", got)
	}
	n := 0
	for _, err := range l.List(t.Context(), Filter{Case: "\xc0case"}) {
		ok(t, err)
		n++
	}
	if n != 2 {
		t.Errorf("%d listed by case", n)
	}
}

func TestTimesKeepTheirNanosecondsAndZero(t *testing.T) {
	l := open(t, newPath(t), Options{})
	far := time.Date(30000, 1, 1, 0, 0, 0, 0, time.UTC)
	zone := time.FixedZone("x", 3600)
	for i, tt := range []struct{ in, want time.Time }{
		{time.Time{}, time.Time{}},
		{time.Unix(0, 0), time.Unix(0, 0).UTC()},
		{time.Unix(-5, 7), time.Unix(-5, 7).UTC()},
		{time.Date(2025, 1, 1, 0, 0, 0, 999999999, zone), time.Date(2024, 12, 31, 23, 0, 0, 999999999, time.UTC)},
		{far, latest},
		{far.AddDate(-35000, 0, 0), earliest},
	} {
		f := found(strconv.Itoa(i), "a")
		f.First, f.Last = tt.in, tt.in
		r := register(t, l, f)[0]
		c := get(t, l, r.ID)
		same(t, c.First, tt.want)
		same(t, c, r.Capture)
	}
}

func TestAMissingLedgerCanNotBeRead(t *testing.T) {
	path := newPath(t)
	_, err := Open(t.Context(), path, Options{ReadOnly: true})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Dir(path)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("reading made the directory: %v", err)
	}
	ok(t, os.MkdirAll(filepath.Dir(path), 0o700))
	ok(t, os.WriteFile(path, nil, 0o600))
	if _, err := Open(t.Context(), path, Options{ReadOnly: true}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("empty file: %v", err)
	}
}

func TestReadersSeeWhatWritersCommit(t *testing.T) {
	path := newPath(t)
	w := open(t, path, Options{})
	r := open(t, path, Options{ReadOnly: true})
	child := start(t, "write", path, "child")
	child.line()
	for i := range 5 {
		reg := register(t, w, found("/"+strconv.Itoa(i), "x"))[0]
		same(t, get(t, r, reg.ID), reg.Capture)
		if got := sqlite3CLI(t, path, fmt.Sprintf(`SELECT state FROM captures WHERE id = %d`, reg.ID)); got != "queued" {
			t.Errorf("sqlite3 reads %q", got)
		}
		line, _ := child.line()
		id, name, _ := strings.Cut(line, " ")
		n, _ := strconv.ParseInt(id, 10, 64)
		if c := get(t, r, n); c.Path != name {
			t.Errorf("%q, the child wrote %q", c.Path, name)
		}
	}
	for name, err := range map[string]error{
		"register": second(r.Register(t.Context(), []Found{found("/z", "z")})),
		"begin":    second(r.Begin(t.Context(), 1, "x")),
		"pause":    r.SetPause(t.Context(), Pause{}),
	} {
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := r.r.ExecContext(t.Context(), `DELETE FROM captures`); err == nil {
		t.Error("a reader can write")
	}
	if _, err := w.r.ExecContext(t.Context(), `DELETE FROM captures`); err == nil {
		t.Error("the writer's reading connections can write")
	}
}

func TestALedgerWithoutALogCanBeRead(t *testing.T) {
	path := newPath(t)
	w := open(t, path, Options{})
	id := register(t, w, found("/a", "a"))[0].ID
	ok(t, w.Close())
	if exists(path + "-wal") {
		t.Fatal("the log is still there")
	}
	r := open(t, path, Options{ReadOnly: true})
	get(t, r, id)
	ok(t, r.Close())

	t.Run("also on a read-only medium", func(t *testing.T) {
		if os.Getuid() == 0 || runtime.GOOS == "windows" {
			t.Skip("rights don't bind root")
		}
		dir := filepath.Dir(path)
		ok(t, os.Chmod(dir, 0o500))
		defer os.Chmod(dir, 0o700)
		get(t, open(t, path, Options{ReadOnly: true}), id)
	})
}

func TestManyMayStartAtOnce(t *testing.T) {
	path := newPath(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			l, err := Open(context.Background(), path, Options{})
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := l.Register(context.Background(), []Found{found(strconv.Itoa(i), "x")}); err != nil {
				t.Error(err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	l := open(t, path, Options{})
	s, err := l.Counts(t.Context())
	ok(t, err)
	if s.States[Queued].Captures != 8 || !l.Rebuilt().IsZero() {
		t.Errorf("%+v, rebuilt %v", s, l.Rebuilt())
	}
}

func TestANewerLedgerIsRefusedAndLeftAlone(t *testing.T) {
	path := newPath(t)
	l := open(t, path, Options{})
	register(t, l, found("/a", "a"))
	force(t, l, fmt.Sprintf(`PRAGMA user_version = %d`, len(migrations)+1))
	ok(t, l.Close())
	before, err := os.ReadFile(path)
	ok(t, err)
	for _, ro := range []bool{false, true} {
		_, err := Open(t.Context(), path, Options{ReadOnly: ro})
		if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "newer version") {
			t.Errorf("%v", err)
		}
	}
	after, err := os.ReadFile(path)
	ok(t, err)
	if !bytes.Equal(before, after) || len(aside(t, path)) > 0 {
		t.Error("the file was touched")
	}
}

func TestAnotherProgramsDatabaseIsLeftAlone(t *testing.T) {
	path := newPath(t)
	ok(t, os.MkdirAll(filepath.Dir(path), 0o700))
	db := openDB(path)
	_, err := db.ExecContext(t.Context(), `CREATE TABLE bookmarks (url TEXT)`)
	ok(t, errors.Join(err, db.Close()))
	_, err = Open(t.Context(), path, Options{})
	if err == nil || !strings.Contains(err.Error(), "another program") || len(aside(t, path)) > 0 {
		t.Errorf("%v, set aside %v", err, aside(t, path))
	}
}

func aside(t testing.TB, path string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*.damaged-*"))
	ok(t, err)
	return names
}

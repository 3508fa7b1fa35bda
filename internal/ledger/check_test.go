package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"testing"
)

// spoil overwrites a ledger's file from a page on, behind its back.
func spoil(t *testing.T, path string, page, pages int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	ok(t, err)
	_, err = f.WriteAt(bytes.Repeat([]byte("spoilt! "), pages*512), int64(page-1)*4096)
	ok(t, errors.Join(err, f.Close()))
}

// root is the first page of a table.
func root(t *testing.T, l *Ledger, table string) (page int) {
	t.Helper()
	ok(t, l.r.QueryRowContext(t.Context(), `SELECT rootpage FROM sqlite_schema WHERE name = ?`, table).Scan(&page))
	return page
}

func TestDamageThatAnyCallMeetsIsSetAsideByTheNextOpen(t *testing.T) {
	for name, call := range map[string]func(l *Ledger) error{
		"get":  func(l *Ledger) error { return second(l.Get(t.Context(), 1)) },
		"list": func(l *Ledger) error { return second(rows(t, l)) },
		"look up": func(l *Ledger) error {
			return second(l.Lookup(t.Context(), "1"))
		},
		"register": func(l *Ledger) error { return second(l.Register(t.Context(), []Found{found("/new", "n")})) },
		"begin":    func(l *Ledger) error { return second(l.Begin(t.Context(), 1, "cloudshark")) },
		"due":      func(l *Ledger) error { return second(l.Due(t.Context(), dest, nil, 1)) },
		"counts":   func(l *Ledger) error { return second(l.Counts(t.Context())) },
		"check":    func(l *Ledger) error { return l.Check(t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			l := open(t, path, Options{})
			var all []Found
			for i := range 400 {
				all = append(all, found("/"+strconv.Itoa(i), strconv.Itoa(i)))
			}
			register(t, l, all...)
			first := min(root(t, l, "captures"), root(t, l, "counts"), root(t, l, "captures_due"))
			ok(t, l.Close())
			l = open(t, path, Options{})
			info, err := os.Stat(path)
			ok(t, err)
			spoil(t, path, first, int(info.Size()/4096)-first+1)
			if err := call(l); !errors.Is(err, ErrDamaged) || Trouble(err) != "damaged" {
				t.Fatal(err)
			}
			if mark, err := l.guard.mark(); mark != markSuspect || err != nil {
				t.Errorf("mark %q, %v", mark, err)
			}
			ok(t, l.Close())
			l = open(t, path, Options{})
			if l.Rebuilt().IsZero() || len(aside(t, path)) == 0 {
				t.Error("not set aside")
			}
			if mark, _ := l.guard.mark(); mark != markReady {
				t.Errorf("mark %q", mark)
			}
		})
	}
}

func TestASuspectLedgerThatIsWholeStays(t *testing.T) {
	path, _ := example(t)
	ok(t, os.WriteFile(path+".lock", []byte(markSuspect), 0o600))
	l := open(t, path, Options{})
	checkExample(t, l, len(migrations))
	if mark, _ := l.guard.mark(); mark != markReady || !l.Rebuilt().IsZero() {
		t.Errorf("mark %q, rebuilt %v", mark, l.Rebuilt())
	}
	ok(t, l.Close())
	ok(t, os.WriteFile(path+".lock", []byte(markSuspect), 0o600))
	ok(t, os.Remove(path))
	if open(t, path, Options{}).Rebuilt().IsZero() {
		t.Error("a suspect ledger that is gone was taken for a first start")
	}
}

// TestALargeLedgersDamageIsFoundByCheck: Open does not read all of it.
func TestALargeLedgersDamageIsFoundByCheck(t *testing.T) {
	path, _ := example(t)
	l := open(t, path, Options{})
	page := root(t, l, "steps")
	ok(t, l.Remember(t.Context(), []KnownFile{{Path: "/padding", Stamp: strings.Repeat("x", checkedAtOpen)}}))
	ok(t, l.Close())
	force1 := func(query string) {
		db := openDB(path)
		_, err := db.ExecContext(t.Context(), query)
		ok(t, errors.Join(err, db.Close()))
	}
	// An index without one of its rows: nothing but reading all of it tells.
	force1(fmt.Sprintf(`PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = %d WHERE name = 'steps_waiting'`, page))
	l = open(t, path, Options{})
	if !l.Rebuilt().IsZero() {
		t.Fatal("Open read all of it, or took it for damage")
	}
	checked, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Check(checked); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
	if mark, _ := l.guard.mark(); mark != markReady {
		t.Errorf("an interrupted check says %q", mark)
	}
	if err := l.Check(t.Context()); !errors.Is(err, ErrDamaged) {
		t.Errorf("checked: %v", err)
	}
	ok(t, l.Close())
	if open(t, path, Options{}).Rebuilt().IsZero() {
		t.Error("not set aside")
	}
}

func TestALargeLedgersEdgesAreRead(t *testing.T) {
	for _, cut := range []bool{false, true} {
		path, _ := example(t)
		l := open(t, path, Options{})
		page := root(t, l, "steps")
		ok(t, l.Remember(t.Context(), []KnownFile{{Path: "/padding", Stamp: strings.Repeat("x", checkedAtOpen)}}))
		ok(t, l.Close())
		if cut {
			ok(t, os.Truncate(path, checkedAtOpen+4096))
		} else {
			spoil(t, path, page, 1)
		}
		if open(t, path, Options{}).Rebuilt().IsZero() {
			t.Errorf("cut %v: not noticed", cut)
		}
	}
}

func TestWholeLedgersPassTheCheck(t *testing.T) {
	path, _ := example(t)
	for _, ro := range []bool{false, true} {
		l := open(t, path, Options{ReadOnly: ro})
		ok(t, l.Check(t.Context()))
	}
}

func TestTroubleNamesWhatTheMachineLacks(t *testing.T) {
	path, _ := example(t)
	l := open(t, path, Options{})
	register(t, l, found("/a", "a"))
	// Another program holds the lock, and this one won't wait.
	other := openDB(path, "_txlock=immediate")
	defer other.Close()
	tx, err := other.BeginTx(t.Context(), nil)
	ok(t, err)
	defer func() { _ = tx.Rollback() }()
	force(t, l, `PRAGMA busy_timeout = 1`)
	if err := second(l.Register(t.Context(), []Found{found("/b", "b")})); Trouble(err) != "busy" {
		t.Errorf("locked: %q: %v", Trouble(err), err)
	}
	_, err = l.r.ExecContext(t.Context(), `DELETE FROM files`)
	if Trouble(err) != "read_only" {
		t.Errorf("reader: %q: %v", Trouble(err), err)
	}
	for err, want := range map[error]string{
		nil:                             "",
		errors.New("x"):                 "",
		context.Canceled:                "",
		ErrBusy:                         "",
		ErrNotFound:                     "",
		fs.ErrNotExist:                  "",
		fs.ErrPermission:                "read_only",
		fmt.Errorf("x: %w", ErrDamaged): "damaged",
		errors.Join(os.ErrPermission, ErrDamaged): "damaged",
	} {
		if got := Trouble(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
	for want, errnos := range map[string][]error{"disk_full": errnoFull, "read_only": errnoReadOnly, "io": errnoIO, "files": errnoFiles, "busy": errnoBusy} {
		for _, errno := range errnos {
			if got := Trouble(fmt.Errorf("x: %w", &fs.PathError{Op: "write", Path: "/x", Err: errno})); got != want {
				t.Errorf("%v: %q, want %q", errno, got, want)
			}
		}
	}
}

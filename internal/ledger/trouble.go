package ledger

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	sqlite3 "modernc.org/sqlite/lib"
)

// Trouble says in one word what is wrong with the machine when err is a matter of
// that, and "" when it is not: "disk_full", "read_only" (or not permitted), "io"
// (a failing disk), "files" (too many open), "damaged" (the ledger) or "busy". It
// understands the ledger's errors and those of plain files.
func Trouble(err error) string {
	if err == nil {
		return ""
	}
	for _, t := range []struct {
		name string
		is   func(error) bool
	}{
		{"damaged", func(err error) bool { return isDamage(err) || errors.Is(err, ErrDamaged) }},
		{"disk_full", func(err error) bool { return codeIn(err, sqlite3.SQLITE_FULL) || errnoIn(err, errnoFull) }},
		{"files", func(err error) bool { return errnoIn(err, errnoFiles) }},
		{"read_only", func(err error) bool {
			return codeIn(err, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH) ||
				errors.Is(err, fs.ErrPermission) || errnoIn(err, errnoReadOnly)
		}},
		{"io", func(err error) bool {
			return codeIn(err, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) || errnoIn(err, errnoIO)
		}},
		{"busy", func(err error) bool {
			return codeIn(err, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL) || errnoIn(err, errnoBusy)
		}},
	} {
		if t.is(err) {
			return t.name
		}
	}
	return ""
}

func codeIn(err error, codes ...int) bool {
	c := code(err)
	for _, want := range codes {
		if c == want {
			return true
		}
	}
	return false
}

func errnoIn(err error, errnos []error) bool {
	for _, want := range errnos {
		if errors.Is(err, want) {
			return true
		}
	}
	return false
}

// explained adds the system's reason to an error of which SQLite only says that
// reading, writing or opening failed: what else can't be read or written there now.
func (l *Ledger) explained(err error) error {
	if !codeIn(err, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) {
		return err
	}
	if why := l.probe(); why != nil {
		return fmt.Errorf("%w: %w", err, why)
	}
	return err
}

// probe opens the ledger's file, and makes one beside it that is as large as what
// SQLite needs at once.
func (l *Ledger) probe() error {
	f, err := os.Open(l.path)
	if err != nil {
		return err
	}
	_ = f.Close()       // it was only a try
	if l.guard == nil { // open for reading only
		return nil
	}
	name := l.path + ".probe"
	f, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 64<<10))
	_ = f.Close()
	_ = os.Remove(name) // the next probe takes it over
	return err
}

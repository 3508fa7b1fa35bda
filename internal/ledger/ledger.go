// Package ledger is the SQLite database that holds every capture's state: the
// only truth about what was sent, written in one place.
//
// What it promises: when a call returns without an error, what it wrote
// survives kill -9 and a power cut (WAL, synchronous=FULL). A step is claimed
// by one living process at a time, and a claim ends with its process. The
// states of captures and steps change in one function, by one table
// (transitions.go).
//
// Limits: the ledger must lie on a local file system (WAL needs shared memory
// and file locks). Several processes may use one ledger. Damage to the
// structure of the file is found at Open (of a large one by Check) and the file
// is set aside; SQLite
// keeps no checksum of values, so a bit that flips inside a text or a number is
// not noticed here (the content hash is checked again when a capture is sent).
//
// The package imports nothing else of the module.
package ledger

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"
	sqlite3 "modernc.org/sqlite/lib"
)

// MaxWait bounds every NotBefore. A longer wait is shortened to it, and a
// stored one that lies further ahead than this can only come of a clock that
// jumped: it is ignored.
const MaxWait = 24 * time.Hour

// The errors that callers tell apart with errors.Is.
var (
	ErrNotFound   = errors.New("no such capture")
	ErrAmbiguous  = errors.New("more than one capture matches")
	ErrReadOnly   = errors.New("the ledger is open for reading only")
	ErrDamaged    = errors.New("the ledger is damaged")
	ErrNewer      = errors.New("the ledger was written by a newer version of capagent")
	ErrNotClaimed = errors.New("the step is not claimed by this process")
	ErrBusy       = errors.New("a process is working on the capture")
	ErrPlanned    = errors.New("parts are already recorded")
)

// Options say how a ledger is opened. The zero value opens for writing, logs
// nothing and uses the system's clock.
type Options struct {
	ReadOnly bool
	Log      zerolog.Logger
	Now      func() time.Time
}

// Ledger is an open ledger. Its methods may be called from any goroutine.
type Ledger struct {
	path     string
	log      zerolog.Logger
	now      func() time.Time
	w        *sql.DB     // one connection; nil when open for reading only
	compiled *statements // of w
	r        reader      // a few connections that can't write
	guard    *guard      // nil when open for reading only
	rebuilt  time.Time
	seen     sightings

	mu     sync.Mutex
	owner  *owner             // this ledger's lock file, made by the first claim
	active map[claim]struct{} // the steps that this Ledger is working on
}

// claim names one step of one capture.
type claim struct {
	capture int64
	step    string
}

// Rebuilt returns when this ledger replaced one that was damaged or lost, zero
// if it never did. Sessions from before that moment are not recorded here, so
// every Begin of such a ledger says Restarted.
func (l *Ledger) Rebuilt() time.Time { return l.rebuilt }

// Path returns the absolute path of the ledger's file.
func (l *Ledger) Path() string { return l.path }

// Close ends this process's claims, which then count as found started, and
// closes the files. Calls still under way must have returned. Closing again does
// nothing.
func (l *Ledger) Close() error {
	errs := []error{l.closeSightings()}
	if l.r.DB != nil {
		errs = append(errs, l.r.close())
	}
	if l.w != nil {
		if l.compiled != nil {
			errs = append(errs, l.compiled.close())
		}
		errs = append(errs, l.w.Close())
	}
	l.mu.Lock()
	own := l.owner
	l.owner = nil
	clear(l.active)
	l.mu.Unlock()
	if own != nil {
		errs = append(errs, own.release())
	}
	if l.guard != nil {
		errs = append(errs, l.guard.close())
		l.guard = nil
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close ledger %q: %w", l.path, err)
	}
	return nil
}

// write runs f in one immediate transaction and commits it durably. ctx ends
// the wait for this process's own connection only: a transaction that has begun
// runs to its end, so that its outcome is never in doubt. It waits at most
// busyTimeout for other processes.
func (l *Ledger) write(ctx context.Context, f func(ctx context.Context, tx *txn) error) error {
	if l.w == nil {
		return ErrReadOnly
	}
	if err := transact(ctx, l.w, l.compiled, f); err != nil {
		return l.noted(err)
	}
	return nil
}

// transact is write for any database of one connection.
func transact(ctx context.Context, db *sql.DB, compiled *statements, f func(ctx context.Context, tx *txn) error) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	tx := &txn{statements: compiled}
	defer func() {
		_ = conn.Close() // hands the connection back; nothing is pending
		for _, query := range tx.met {
			compiled.compile(ctx, query)
		}
	}()
	if tx.Tx, err = conn.BeginTx(ctx, nil); err != nil {
		settle(ctx, conn)
		return err
	}
	if err := f(ctx, tx); err != nil {
		if rollback := tx.Rollback(); rollback != nil {
			settle(ctx, conn) // SQLite rolled back by itself, or could not
		}
		return err
	}
	if err := tx.Commit(); err != nil {
		settle(ctx, conn)
		return err
	}
	return nil
}

// settle makes sure that a connection whose transaction failed is in none: it is
// the only one that writes. One that can't be brought out of its transaction is
// dropped, and the next write opens another.
func settle(ctx context.Context, conn *sql.Conn) {
	_, err := conn.ExecContext(ctx, "ROLLBACK")
	if err != nil && code(err) != sqlite3.SQLITE_ERROR { // which says that there is no transaction
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	}
}

// noted returns err, with the system's reason where SQLite doesn't say it. Where it speaks of damage it is ErrDamaged, and the guard is
// marked: the next one who has the ledger alone reads all of it, and sets it
// aside when that finds damage too.
func (l *Ledger) noted(err error) error {
	if !isDamage(err) {
		return l.explained(err)
	}
	if l.guard != nil {
		if mark := l.guard.setMark(markSuspect); mark != nil {
			l.log.Error().Err(mark).Str("ledger", l.path).Msg("the ledger's damage can't be marked")
		}
	}
	if errors.Is(err, ErrDamaged) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrDamaged, err)
}

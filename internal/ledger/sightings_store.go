package ledger

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	sqlite3 "modernc.org/sqlite/lib"
)

// sightingsID marks the file as a capagent store of sightings ("cpsg").
const sightingsID = 0x63707367

// sightingsSchema makes a store. A capture gets a seq each time that its sightings
// are recorded; seqs that are gone from sights count for nothing wherever they
// still lie in blocks. Blocks belong to segments, each of a range of seqs:
//
// A capture begins as a segment of level 0. When there are enough segments of a
// level, they become one of the next level, a slice with each capture that is
// recorded: the new one is "building" (upto is the last key that is in it) and
// not read until it is whole; the old ones name it as their heir, are read until
// then, and are "dead" from then on. The blocks of the dead are deleted in slices,
// too. Each level has its own table of blocks, in which what is oldest goes first,
// so that whole pages become free.
//
// alone in keys is how many sightings a block holds when all are of its key; stale
// says that seqs of the segment may be gone.
const sightingsSchema = `
CREATE TABLE meta (
	key   TEXT PRIMARY KEY,
	value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE sights (
	seq     INTEGER PRIMARY KEY AUTOINCREMENT,
	capture INTEGER NOT NULL UNIQUE,
	base    INTEGER NOT NULL,
	last    INTEGER NOT NULL,
	count   INTEGER NOT NULL
) STRICT;
CREATE INDEX sights_last ON sights(last);
CREATE TABLE segments (
	id    INTEGER PRIMARY KEY AUTOINCREMENT,
	level INTEGER NOT NULL CHECK (level BETWEEN 0 AND 3),
	state TEXT NOT NULL CHECK (state IN ('building', 'ready', 'dead')),
	low   INTEGER NOT NULL,
	high  INTEGER NOT NULL,
	last  INTEGER NOT NULL,
	stale INTEGER NOT NULL DEFAULT 0,
	heir  INTEGER NOT NULL DEFAULT 0,
	upto  BLOB
) STRICT;
CREATE TABLE keys (
	segment INTEGER NOT NULL,
	key     BLOB NOT NULL,
	block   INTEGER NOT NULL,
	alone   INTEGER NOT NULL,
	PRIMARY KEY (segment, key, block)
) STRICT, WITHOUT ROWID;
CREATE TABLE blocks0 (id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
CREATE TABLE blocks1 (id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
CREATE TABLE blocks2 (id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
CREATE TABLE blocks3 (id INTEGER PRIMARY KEY, data BLOB NOT NULL) STRICT;
`

const sightingsVersion = 1

// sightStore is the open store of sightings.
type sightStore struct {
	codec
	path     string
	guard    *guard      // nil when open for reading only
	w        *sql.DB     // one connection; nil when open for reading only
	compiled *statements // of w
	r        reader
}

// sightings is what a Ledger has of the store: nothing until it is used.
type sightings struct {
	mu    sync.RWMutex // held for reading while the store is used
	store *sightStore
}

// SightingsPath is the file that sightings are kept in.
func (l *Ledger) SightingsPath() string { return filepath.Join(filepath.Dir(l.path), "sightings.db") }

// withSightings runs f with the store, which is opened when it is not. It is nil
// where nothing was recorded yet, for reading only.
func (l *Ledger) withSightings(ctx context.Context, f func(*sightStore) error) error {
	l.seen.mu.RLock()
	if l.seen.store == nil {
		l.seen.mu.RUnlock()
		if err := l.openSightings(ctx); err != nil {
			return fmt.Errorf("open %q: %w", l.SightingsPath(), err)
		}
		l.seen.mu.RLock()
	}
	s := l.seen.store
	err := f(s)
	l.seen.mu.RUnlock()
	if isDamage(err) {
		return l.damagedSightings(s, err)
	}
	return err
}

// damagedSightings closes a store in which damage was met. The next use that has it
// alone sets it aside.
func (l *Ledger) damagedSightings(s *sightStore, err error) error {
	l.seen.mu.Lock()
	defer l.seen.mu.Unlock()
	if s == l.seen.store && s != nil && s.guard != nil {
		err = errors.Join(err, s.guard.setMark(markSuspect), s.close())
		l.seen.store = nil
	}
	return fmt.Errorf("%w: %w", errSightings, err)
}

// errSightings says that damage is in the store of sightings, not in the ledger.
var errSightings = errors.New("the store of sightings is damaged")

func (l *Ledger) closeSightings() error {
	l.seen.mu.Lock()
	defer l.seen.mu.Unlock()
	if l.seen.store == nil {
		return nil
	}
	err := l.seen.store.close()
	l.seen.store = nil
	return err
}

func (l *Ledger) openSightings(ctx context.Context) error {
	l.seen.mu.Lock()
	defer l.seen.mu.Unlock()
	if l.seen.store != nil {
		return nil // another goroutine was first
	}
	s := &sightStore{path: l.SightingsPath()}
	var err error
	if s.codec, err = newCodec(); err != nil {
		return err
	}
	there := true
	if l.w == nil {
		there, err = l.sightingsToRead(ctx, s)
	} else {
		err = l.sightingsToWrite(ctx, s)
	}
	if err != nil || !there {
		return errors.Join(err, s.close())
	}
	l.seen.store = s
	return nil
}

// identity tells this ledger from one that takes its place: captures of another one
// have other numbers.
func (l *Ledger) identity(ctx context.Context) (string, error) {
	const query = `SELECT value FROM meta WHERE key = 'identity'`
	var id string
	err := l.r.QueryRowContext(ctx, query).Scan(&id)
	if !errors.Is(err, sql.ErrNoRows) || l.w == nil {
		return id, err
	}
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails, by its documentation
	err = l.write(ctx, func(ctx context.Context, tx *txn) error {
		_, err := tx.ExecContext(ctx, `INSERT OR IGNORE INTO meta (key, value) VALUES ('identity', ?)`, hex.EncodeToString(raw[:]))
		return err
	})
	if err == nil {
		err = l.r.QueryRowContext(ctx, query).Scan(&id)
	}
	return id, err
}

// sightingsToRead opens the store for reading; there is false when there is none
// of this ledger.
func (l *Ledger) sightingsToRead(ctx context.Context, s *sightStore) (there bool, err error) {
	id, err := l.identity(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	info, serr := os.Stat(s.path)
	switch {
	case err != nil:
		return false, l.noted(err)
	case errors.Is(serr, fs.ErrNotExist) || serr == nil && info.Size() == 0:
		return false, nil
	case serr != nil:
		return false, serr
	}
	if err := checkHeader(s.path); err != nil {
		return false, err
	}
	s.r = newReader(openDB(s.path, "mode=ro"))
	owner, err := sightingsOwner(ctx, s.r.DB)
	if isUnreachable(err) && !exists(s.path+"-wal") {
		_ = s.r.close()
		s.r = newReader(openDB(s.path, "mode=ro", "immutable=1")) // as for the ledger
		owner, err = sightingsOwner(ctx, s.r.DB)
	}
	s.r.SetMaxOpenConns(2 * readers)
	return owner == id, err
}

// sightingsToWrite opens the store, and makes it where there is none, or a damaged
// one, or one of another ledger, which are set aside.
func (l *Ledger) sightingsToWrite(ctx context.Context, s *sightStore) error {
	id, err := l.identity(ctx)
	if err != nil {
		return err
	}
	var alone bool
	if s.guard, alone, err = enter(ctx, s.path); err != nil {
		return err
	}
	if alone {
		if err := l.prepareSightings(ctx, s, id); err != nil {
			return err
		}
		if err := s.guard.share(ctx); err != nil {
			return err
		}
	}
	s.w = openDB(s.path, "_txlock=immediate", "_pragma=journal_mode(WAL)", "_pragma=synchronous(FULL)",
		"_pragma=cache_size(-8192)", "_pragma=temp_store(MEMORY)", "_pragma=journal_size_limit(67108864)")
	s.w.SetMaxOpenConns(1)
	s.compiled = newStatements(s.w)
	s.r = newReader(openDB(s.path, "_pragma=query_only(1)"))
	s.r.SetMaxOpenConns(2 * readers)
	owner, err := sightingsOwner(ctx, s.w)
	if err == nil && owner != id {
		err = errors.New("it belongs to another ledger, and another process has it open; stop that first")
	}
	return err
}

func (l *Ledger) prepareSightings(ctx context.Context, s *sightStore, id string) error {
	mark, err := s.guard.mark()
	if err != nil {
		return err
	}
	owner, cause := "", error(nil)
	info, err := os.Stat(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0:
		if mark == "" && !exists(s.path+"-wal") {
			return s.create(ctx, id)
		}
		cause = errors.New("the file is missing or empty")
	case err != nil:
		return err
	case mark == markSuspect:
		cause = errors.New("damage was met in it")
	case mark != markReady && mark != "":
		cause = errors.New("an earlier repair was interrupted")
	default:
		if cause = checkHeader(s.path); cause == nil {
			db := openDB(s.path)
			owner, cause = sightingsOwner(ctx, db)
			_ = db.Close() // it was only read
		}
		if cause == nil && owner != id {
			cause = errors.New("it belongs to another ledger")
		} else if cause == nil {
			return s.guard.setMark(markReady)
		} else if !isDamage(cause) {
			return cause
		}
	}
	stamp := l.stamp()
	if err := s.guard.setMark(markDamaged + stamp); err != nil {
		return err
	}
	aside, err := setAside(s.path, stamp)
	if err != nil {
		return err
	}
	l.log.Error().Str("sightings", s.path).Str("set_aside", aside).Err(cause).
		Msg("the store of sightings is begun anew; captures inspected before are found again once they are inspected again")
	return s.create(ctx, id)
}

// create makes an empty store, whole or not at all.
func (s *sightStore) create(ctx context.Context, id string) error {
	f, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close(), syncDir(filepath.Dir(s.path))); err != nil {
		return err
	}
	db := openDB(s.path, "_txlock=immediate", "_pragma=synchronous(FULL)")
	db.SetMaxOpenConns(1)
	err = func() error {
		// In this order, which the driver does not keep.
		for _, pragma := range []string{`PRAGMA auto_vacuum = INCREMENTAL`, `PRAGMA journal_mode = WAL`} {
			if err := tryQuery(ctx, db, pragma); err != nil {
				return err
			}
		}
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // does nothing after the commit
		_, err1 := tx.ExecContext(ctx, sightingsSchema)
		_, err2 := tx.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", sightingsID, sightingsVersion))
		_, err3 := tx.ExecContext(ctx, `INSERT INTO meta (key, value) VALUES ('ledger', ?)`, id)
		if err := errors.Join(err1, err2, err3); err != nil {
			return err
		}
		return tx.Commit()
	}()
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	return s.guard.setMark(markReady)
}

// sightingsOwner returns the identity of the ledger whose sightings a file holds. It
// reads both ends of every table, for damage that shows there.
func sightingsOwner(ctx context.Context, db *sql.DB) (id string, err error) {
	var app, version int
	err = db.QueryRowContext(ctx, `SELECT (SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version)`).
		Scan(&app, &version)
	switch {
	case err != nil:
		return "", err
	case app != sightingsID || version < 1:
		return "", fmt.Errorf("%w: application %#x, version %d", errStructure, app, version)
	case version > sightingsVersion:
		return "", fmt.Errorf("%w: version %d, this program knows %d", ErrNewer, version, sightingsVersion)
	}
	for _, t := range []string{
		"sights ORDER BY seq", "segments ORDER BY id", "keys ORDER BY segment",
		"blocks0 ORDER BY id", "blocks1 ORDER BY id", "blocks2 ORDER BY id", "blocks3 ORDER BY id",
	} {
		for _, end := range []string{" ASC", " DESC"} {
			if err := tryQuery(ctx, db, `SELECT * FROM `+t+end+` LIMIT 1`); err != nil {
				return "", structural(err)
			}
		}
	}
	err = db.QueryRowContext(ctx, `SELECT value FROM meta WHERE key = 'ledger'`).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		err = fmt.Errorf("%w: it belongs to no ledger", errStructure)
	}
	return id, structural(err)
}

// structural is err, which is damage when it says that a table is missing.
func structural(err error) error {
	if code(err) == sqlite3.SQLITE_ERROR {
		return fmt.Errorf("%w: %w", errStructure, err)
	}
	return err
}

func (s *sightStore) close() error {
	var errs []error
	s.codec.close()
	if s.r.DB != nil {
		errs = append(errs, s.r.close())
	}
	if s.w != nil {
		errs = append(errs, s.compiled.close(), s.w.Close())
	}
	if s.guard != nil {
		errs = append(errs, s.guard.close())
	}
	return errors.Join(errs...)
}

// writeSightings runs f in one transaction, as write does for the ledger.
func (l *Ledger) writeSightings(ctx context.Context, f func(ctx context.Context, s *sightStore, tx *txn) error) error {
	if l.w == nil {
		return ErrReadOnly
	}
	return l.withSightings(ctx, func(s *sightStore) error {
		return transact(ctx, s.w, s.compiled, func(ctx context.Context, tx *txn) error { return f(ctx, s, tx) })
	})
}

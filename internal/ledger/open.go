package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	sqlite "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	busyTimeout   = 30 * time.Second // how long a write waits for other processes' writes
	readers       = 4
	checkedAtOpen = 32 << 20 // bytes of a ledger that Open reads as a whole, in some 0.3 s
)

// Open opens the ledger at path, and makes it with its directory when it is
// missing. A damaged ledger is set aside as <path>.damaged-<UTC> and replaced by
// an empty one (see Rebuilt), unless another process has it open. A ledger over
// 32 MiB is not read as a whole, so that a start never takes long: Check does
// that, and what it or any other call meets is set aside by the next Open.
//
// For reading only, nothing is made or repaired: a missing ledger is an error
// that is fs.ErrNotExist, and ErrDamaged is returned only where damage is noticed
// without reading it all. A ledger of a newer version is ErrNewer and is left alone. A ledger that is busy, not permitted, on a
// full or failing disk is an error and never taken for damage.
func Open(ctx context.Context, path string, opts Options) (*Ledger, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open ledger %q: %w", path, err)
	}
	l := &Ledger{path: abs, log: opts.Log, now: opts.Now, active: map[claim]struct{}{}}
	if l.now == nil {
		l.now = time.Now
	}
	if opts.ReadOnly {
		err = l.openReadOnly(ctx)
	} else {
		err = l.open(ctx)
	}
	if isDamage(err) && !errors.Is(err, ErrDamaged) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		err = l.explained(err)
		return nil, errors.Join(fmt.Errorf("open ledger %q: %w", abs, err), l.Close())
	}
	return l, nil
}

func (l *Ledger) open(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(l.path), 0o700); err != nil {
		return err
	}
	var alone bool
	var err error
	if l.guard, alone, err = enter(ctx, l.path); err != nil {
		return err
	}
	if alone {
		if err := l.prepare(ctx); err != nil {
			return err
		}
		if err := l.guard.share(ctx); err != nil {
			return err
		}
	}
	// The cache and the memory for what a statement may take back save a quarter
	// of the time where thousands of captures are registered at once.
	l.w = openDB(l.path, "_txlock=immediate", "_pragma=journal_mode(WAL)", "_pragma=synchronous(FULL)",
		"_pragma=cache_size(-8192)", "_pragma=temp_store(MEMORY)")
	l.w.SetMaxOpenConns(1)
	l.compiled = newStatements(l.w)
	l.r = newReader(openDB(l.path, "_pragma=query_only(1)"))
	l.r.SetMaxOpenConns(readers)
	version, err := inspect(ctx, l.w)
	switch {
	case isDamage(err):
		return l.noted(fmt.Errorf("%w, and another process has it open; stop that first: %w", ErrDamaged, err))
	case err != nil:
		return err
	case version != len(migrations):
		return fmt.Errorf("version %d, this program needs %d; another process of an older version has it open", version, len(migrations))
	}
	var mode string
	if err := l.w.QueryRowContext(ctx, `PRAGMA journal_mode`).Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("the file system can't hold a write-ahead log (journal mode is %q); use a local disk", mode)
	}
	l.compiled.compile(ctx, insertEvent)
	return l.readRebuilt(ctx)
}

// prepare checks, repairs, makes and migrates the file. It runs while no other
// process has the ledger open, and leaves none of its own connections open.
func (l *Ledger) prepare(ctx context.Context) error {
	mark, err := l.guard.mark()
	if err != nil {
		return err
	}
	if stamp, ok := strings.CutPrefix(mark, markDamaged); ok {
		// A setting aside was cut short.
		return l.replace(ctx, stamp, errors.New("an earlier repair was interrupted"))
	}
	info, err := os.Stat(l.path)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return fmt.Errorf("not a regular file (%s)", info.Mode().Type())
	case errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0:
		if mark != "" || exists(l.path+"-wal") {
			return l.replace(ctx, l.stamp(), errors.New("the file is missing or empty"))
		}
		return l.create(ctx, time.Time{})
	case err != nil:
		return err
	}
	err = l.check(ctx, info.Size(), mark)
	if isDamage(err) {
		return l.replace(ctx, l.stamp(), err)
	}
	if err != nil || mark == markReady {
		return err
	}
	return l.guard.setMark(markReady)
}

// check looks for damage in an existing file and migrates an older version.
func (l *Ledger) check(ctx context.Context, size int64, mark string) error {
	if err := checkHeader(l.path); err != nil {
		return err
	}
	db := openDB(l.path, "_txlock=immediate", "_pragma=synchronous(FULL)")
	defer func() { _ = db.Close() }() // every write was committed
	db.SetMaxOpenConns(1)
	version, err := inspect(ctx, db)
	if err != nil {
		return err
	}
	switch {
	case version == 0:
	case mark == markSuspect:
		l.log.Warn().Str("ledger", l.path).Msg("damage was met in the ledger; all of it is checked")
		err = structure(ctx, db, "integrity_check")
	case size <= checkedAtOpen || version < len(migrations):
		err = structure(ctx, db, "quick_check")
	default:
		err = edges(ctx, db)
	}
	if err != nil {
		return err
	}
	if version == len(migrations) {
		return nil
	}
	l.log.Info().Str("ledger", l.path).Int("from", version).Int("to", len(migrations)).
		Msg("the ledger of an older version is brought up to date; a large one takes a minute")
	if err := migrate(ctx, db, version, time.Time{}); err != nil {
		return err
	}
	_, err = inspect(ctx, db)
	return err
}

// create makes an empty ledger. Nothing but an empty or a whole ledger is left
// after a crash: the schema is one transaction.
func (l *Ledger) create(ctx context.Context, rebuilt time.Time) error {
	f, err := os.OpenFile(l.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close(), syncDir(filepath.Dir(l.path))); err != nil {
		return err
	}
	db := openDB(l.path, "_txlock=immediate", "_pragma=journal_mode(WAL)", "_pragma=synchronous(FULL)")
	db.SetMaxOpenConns(1)
	if err := errors.Join(migrate(ctx, db, 0, rebuilt), db.Close()); err != nil {
		return err
	}
	return l.guard.setMark(markReady)
}

// replace sets the file aside and makes an empty ledger. The mark comes first:
// a crash between two renames must not let a new file meet an old log, which
// SQLite would play back into it.
func (l *Ledger) replace(ctx context.Context, stamp string, cause error) error {
	if err := l.guard.setMark(markDamaged + stamp); err != nil {
		return err
	}
	aside, err := setAside(l.path, stamp)
	if err != nil {
		return err
	}
	l.log.Error().Str("ledger", l.path).Str("set_aside", aside).Err(cause).
		Msg("the ledger was damaged or lost and is rebuilt; sessions are looked up before anything is sent again")
	return l.create(ctx, l.now())
}

// setAside renames the files of a database and returns their new name.
func setAside(path, stamp string) (aside string, err error) {
	aside = path + ".damaged-" + stamp
	for _, suffix := range []string{"-wal", "-shm", ""} {
		err := renameNew(path+suffix, aside+suffix)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("set aside: %w", err)
		}
	}
	return aside, syncDir(filepath.Dir(path))
}

func (l *Ledger) stamp() string { return l.now().UTC().Format("20060102T150405.000Z") }

// renameNew renames from to a name that is free: to itself, or to with a number.
// Only the holder of the guard does this, so the name stays free.
func renameNew(from, to string) error {
	if !exists(from) {
		return fs.ErrNotExist
	}
	name := to
	for n := 2; exists(name); n++ {
		name = to + "." + strconv.Itoa(n)
	}
	return os.Rename(from, name)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func (l *Ledger) openReadOnly(ctx context.Context) error {
	info, err := os.Stat(l.path)
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return fmt.Errorf("nothing is recorded yet: %w", fs.ErrNotExist)
	}
	if err := checkHeader(l.path); err != nil {
		return err
	}
	l.r = newReader(openDB(l.path, "mode=ro"))
	version, err := inspect(ctx, l.r.DB)
	if isUnreachable(err) && !exists(l.path+"-wal") {
		// A read-only medium: the log can't be made, and nobody can be writing.
		_ = l.r.close()
		l.r = newReader(openDB(l.path, "mode=ro", "immutable=1"))
		version, err = inspect(ctx, l.r.DB)
	}
	l.r.SetMaxOpenConns(readers)
	switch {
	case err != nil:
		return err
	case version == 0:
		return fmt.Errorf("nothing is recorded yet: %w", fs.ErrNotExist)
	case version < len(migrations):
		return fmt.Errorf("version %d is older than this program's %d; open it once for writing", version, len(migrations))
	}
	return l.readRebuilt(ctx)
}

func (l *Ledger) readRebuilt(ctx context.Context) error {
	var text string
	err := l.r.QueryRowContext(ctx, `SELECT value FROM meta WHERE key = 'rebuilt'`).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		// Whenever it was, it was rebuilt; say the earliest time that isn't zero.
		n = 0
	}
	l.rebuilt = time.Unix(0, n).UTC()
	return nil
}

// openDB never fails: database/sql connects at the first use.
func openDB(path string, params ...string) *sql.DB {
	params = append(params,
		fmt.Sprintf("_pragma=busy_timeout(%d)", busyTimeout.Milliseconds()), "_pragma=foreign_keys(1)")
	db, err := sql.Open("sqlite", uri(path)+"?"+strings.Join(params, "&"))
	if err != nil {
		panic(err) // the driver is linked in
	}
	return db
}

// uri returns a path, which may hold any bytes, as a URI that SQLite decodes to
// exactly these bytes (https://sqlite.org/uri.html).
func uri(path string) string {
	var b strings.Builder
	b.WriteString("file://")
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		b.WriteByte('/') // C:/x becomes file:///C:/x
	}
	for _, c := range []byte(path) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("/-_.:", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// code returns SQLite's primary result code.
func code(err error) int { return extendedCode(err) & 0xff }

func extendedCode(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return sqlite3.SQLITE_OK
}

func isUnreachable(err error) bool {
	c := code(err)
	return c == sqlite3.SQLITE_CANTOPEN || c == sqlite3.SQLITE_READONLY
}

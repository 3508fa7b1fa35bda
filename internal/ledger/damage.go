package ledger

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	sqlite3 "modernc.org/sqlite/lib"
)

// errStructure is damage that we found ourselves, not SQLite.
var errStructure = errors.New("not the structure of a ledger")

// isDamage says whether err speaks of the file's content. Everything else
// (busy, no permission, I/O errors, a full disk) may be over tomorrow.
func isDamage(err error) bool {
	switch code(err) {
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT:
		return true
	}
	return errors.Is(err, errStructure)
}

// checkHeader looks at what SQLite does not call damage: a file too short for a
// header is empty for it, an unknown format version makes it read-only, and an
// unknown schema format is a plain error (https://sqlite.org/fileformat.html 1.3).
func checkHeader(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	var h [100]byte
	_, err = io.ReadFull(f, h[:])
	err = errors.Join(err, f.Close())
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: the header is cut short", errStructure)
	case err != nil:
		return err
	case !bytes.HasPrefix(h[:], []byte("SQLite format 3\x00")):
		return fmt.Errorf("%w: not a database", errStructure)
	case binary.BigEndian.Uint32(h[44:]) > 4:
		return fmt.Errorf("%w: unknown schema format", errStructure)
	case h[18] < 1 || h[18] > 2 || h[19] < 1 || h[19] > 2:
		return fmt.Errorf("%w: unknown format version", errStructure)
	}
	return nil
}

// inspect returns the ledger's version, 0 for an empty database, and errors for
// a newer one, for a foreign database and for one without our tables.
func inspect(ctx context.Context, db *sql.DB) (version int, err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }() // only hands it back
	// One statement, so that it is one state of the file.
	var app, tables, ours int
	err = conn.QueryRowContext(ctx, `SELECT
		(SELECT application_id FROM pragma_application_id), (SELECT user_version FROM pragma_user_version),
		(SELECT count(*) FROM sqlite_schema), (SELECT count(*) FROM sqlite_schema WHERE name = 'captures')`).
		Scan(&app, &version, &tables, &ours)
	switch {
	case err != nil:
		return 0, err
	case app == 0 && version == 0 && tables == 0:
		return 0, nil
	case app != applicationID && tables > 0 && ours == 0:
		return 0, errors.New("this is another program's database, not a ledger of capagent")
	case app != applicationID || version < 1 || tables == 0:
		return 0, fmt.Errorf("%w: application %#x, version %d, %d tables and indexes", errStructure, app, version, tables)
	case version > len(migrations):
		return version, fmt.Errorf("%w: version %d, this program knows %d", ErrNewer, version, len(migrations))
	case version < len(migrations):
		return version, nil
	}
	for _, probe := range schemaProbe {
		err := tryQuery(ctx, conn, probe)
		if code(err) == sqlite3.SQLITE_ERROR { // no such table or column
			return version, fmt.Errorf("%w: %w", errStructure, err)
		}
		if err != nil {
			return version, err
		}
	}
	return version, nil
}

// tryQuery reads what a query finds and says how that went.
func tryQuery(ctx context.Context, q querier, query string) error {
	rows, err := q.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // Err says what went wrong
	for rows.Next() {                   // that it can be read is all
	}
	return rows.Err()
}

// Check reads the whole ledger and looks for damage to its structure, which is
// then ErrDamaged; the next Open that has the ledger alone sets it aside. It takes
// seconds per million captures, disturbs nobody, and ends with ctx.
func (l *Ledger) Check(ctx context.Context) error {
	if err := structure(ctx, l.r.DB, "quick_check"); err != nil {
		return fmt.Errorf("check ledger %q: %w", l.path, l.noted(err))
	}
	return nil
}

// structure reads every page and looks for damage: with quick_check to the
// structure of tables and indexes, with integrity_check also to what they hold of
// each other.
func structure(ctx context.Context, db *sql.DB, check string) error {
	var result string
	if err := db.QueryRowContext(ctx, `PRAGMA `+check+`(1)`).Scan(&result); err != nil {
		return err
	}
	if result != "ok" {
		return fmt.Errorf("%w: %s", errStructure, result)
	}
	return nil
}

// edges reads the first and the last row of every table.
func edges(ctx context.Context, db *sql.DB) error {
	for _, t := range []struct{ table, key string }{
		{"captures", "id"},
		{"steps", "rowid"},
		{"parts", "capture"},
		{"files", "path"},
		{"events", "seq"},
		{"counts", "state"},
		{"pauses", "destination"},
		{"meta", "key"},
	} {
		for _, end := range []string{"ASC", "DESC"} {
			if err := tryQuery(ctx, db, `SELECT * FROM `+t.table+` ORDER BY `+t.key+` `+end+` LIMIT 1`); err != nil {
				return err
			}
		}
	}
	return nil
}

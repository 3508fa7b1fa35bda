package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// KnownFile is what is remembered of a file in a watched folder, so that it is
// not read again as long as its stamp stays.
type KnownFile struct {
	Path      string // may hold any bytes
	Stamp     string // what the watcher tells its versions by; never empty
	Capture   int64  // what it was registered as, 0 when it is no capture
	State     State  // of that capture; "" when Capture is 0
	SessionID string // of that capture
}

const knownFiles = `SELECT f.path, f.stamp, f.capture, coalesce(c.state, ''), coalesce(c.session_id, '')
	FROM files f LEFT JOIN captures c ON c.id = f.capture`

func knownFields(k *KnownFile) []any {
	return []any{&k.Path, &k.Stamp, &k.Capture, &k.State, &k.SessionID}
}

// Recall returns what is remembered of a file, and whether anything is.
func (l *Ledger) Recall(ctx context.Context, path string) (KnownFile, bool, error) {
	var k KnownFile
	err := l.r.QueryRowContext(ctx, knownFiles+` WHERE f.path = ?`, path).Scan(knownFields(&k)...)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return KnownFile{}, false, nil
	case err != nil:
		return KnownFile{}, false, fmt.Errorf("recall %q: %w", path, l.noted(err))
	}
	return k, true, nil
}

// Remember remembers files, in place of what was known of the same paths.
// Captures are remembered by Register (Found.Stamp); this is for the other files.
func (l *Ledger) Remember(ctx context.Context, files []KnownFile) error {
	err := l.write(ctx, func(ctx context.Context, tx *txn) error {
		for _, f := range files {
			if err := remember(ctx, tx, f.Path, f.Stamp, f.Capture); err != nil {
				return fmt.Errorf("%q: %w", f.Path, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remember %d files: %w", len(files), err)
	}
	return nil
}

func remember(ctx context.Context, tx *txn, path, stamp string, capture int64) error {
	if stamp == "" {
		return errors.New("no stamp")
	}
	_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO files (path, stamp, capture) VALUES (?, ?, ?)`, path, stamp, capture)
	return err
}

// Forget forgets files; it is no error when nothing was known of them.
func (l *Ledger) Forget(ctx context.Context, paths ...string) error {
	err := l.write(ctx, func(ctx context.Context, tx *txn) error {
		for _, path := range paths {
			if _, err := tx.ExecContext(ctx, `DELETE FROM files WHERE path = ?`, path); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("forget %d files: %w", len(paths), err)
	}
	return nil
}

// Files returns at most limit remembered files in the order of their paths, from
// the first that follows after; "" for the first page.
func (l *Ledger) Files(ctx context.Context, after string, limit int) ([]KnownFile, error) {
	known, err := collect(ctx, l.r, knownFields, knownFiles+` WHERE f.path > ? ORDER BY f.path LIMIT ?`, after, max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("remembered files: %w", l.noted(err))
	}
	return known, nil
}

// HasPath says whether a capture at path is recorded.
func (l *Ledger) HasPath(ctx context.Context, path string) (bool, error) {
	var known bool
	err := l.r.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM captures WHERE path = ?)`, path).Scan(&known)
	if err != nil {
		return false, fmt.Errorf("look up %q: %w", path, l.noted(err))
	}
	return known, nil
}

package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// Owned returns how many files of the agent's own there are, and their bytes:
// those of owned captures that are not purged. Its cost does not grow with the
// ledger.
func (l *Ledger) Owned(ctx context.Context) (Count, error) {
	var c Count
	err := l.r.QueryRowContext(ctx, `SELECT coalesce(sum(captures), 0), coalesce(sum(bytes), 0) FROM counts
		WHERE owned = 1 AND state <> 'purged'`).Scan(&c.Captures, &c.Bytes)
	if err != nil {
		return Count{}, fmt.Errorf("count the agent's own files: %w", l.noted(err))
	}
	return c, nil
}

// Expendable returns at most limit owned captures whose files may be deleted: the
// done ones that have a session or hold no packet and are to be brought nowhere
// else, or with held those that are
// held instead. They are those whose last packet is older than before (one
// without packets counts from when it was registered), or all when before is
// zero, oldest first. Its cost does not grow with the ledger.
func (l *Ledger) Expendable(ctx context.Context, before time.Time, held bool, limit int) ([]Capture, error) {
	index, which := "captures_expendable", `state = 'done' AND (session_id <> '' OR packets = 0)
		AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.capture = captures.id AND d.state = 'pending')`
	if held {
		index, which = "captures_held", `state = 'held'`
	}
	args := []any{max(limit, 0)}
	if !before.IsZero() {
		which += ` AND coalesce(last_packet, created) < ?2`
		args = append(args, stamp(before))
	}
	captures, err := collect(ctx, l.r, captureFields, `SELECT `+captureColumns+` FROM captures INDEXED BY `+index+`
		WHERE owned = 1 AND `+which+` ORDER BY coalesce(last_packet, created), id LIMIT ?1`, args...)
	if err != nil {
		return nil, fmt.Errorf("captures that may be deleted: %w", l.noted(err))
	}
	return captures, nil
}

// SetPath records where a capture's file is about to be moved, before it is.
func (l *Ledger) SetPath(ctx context.Context, id int64, path string) error {
	err := l.write(ctx, func(ctx context.Context, tx *txn) error {
		if path == "" {
			return errors.New("no path")
		}
		var old string
		err := tx.QueryRowContext(ctx, `SELECT path FROM captures WHERE id = ?`, id).Scan(&old)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return ErrNotFound
		case err != nil || old == path:
			return err
		}
		now := l.now()
		if _, err := tx.ExecContext(ctx, `UPDATE captures SET path = ?, updated = ? WHERE id = ?`, path, stamp(now), id); err != nil {
			return err
		}
		return emit(ctx, tx, now, EventMoved, id, movedData{From: newEventPath(old), To: newEventPath(path)})
	})
	if err != nil {
		return fmt.Errorf("set the path of capture %d: %w", id, err)
	}
	return nil
}

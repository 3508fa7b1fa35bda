package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

func partFields(p *Part) []any {
	return []any{
		&p.Number, &p.Of, &p.Prefix, &p.Offset, &p.Length, &p.Size, &p.SHA256, &p.SHA1, &p.Packets,
		(*stamp)(&p.First), (*stamp)(&p.Last), &p.Name, &p.SessionID, &p.PossibleDuplicate,
	}
}

// Parts returns the uploads that were planned for a capture, in order; none
// before PlanParts.
func (l *Ledger) Parts(ctx context.Context, id int64) ([]Part, error) {
	parts, err := collect(ctx, l.r, partFields, `SELECT `+partColumns+` FROM parts WHERE capture = ? ORDER BY number`, id)
	if err != nil {
		return nil, fmt.Errorf("parts of capture %d: %w", id, l.noted(err))
	}
	return parts, nil
}

// PlanParts records the uploads of a capture before the first of them, so that
// after a crash the same parts with the same names are looked for. It returns
// what it recorded: where another capture of the same content and destination
// has parts, these, with the sessions that they have, since one of them may have
// arrived under its name. Where the capture has parts already it changes nothing
// and returns ErrPlanned.
func (l *Ledger) PlanParts(ctx context.Context, id int64, parts []Part) ([]Part, error) {
	err := l.write(ctx, func(ctx context.Context, tx *txn) error {
		row, err := readCaptureRow(ctx, tx, id)
		if err != nil {
			return err
		}
		var planned bool
		err = tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM parts WHERE capture = ?)`, id).Scan(&planned)
		if err != nil {
			return err
		}
		if planned {
			return ErrPlanned
		}
		twins, err := collect(ctx, tx, partFields, `SELECT `+partColumns+` FROM parts WHERE capture = (
			SELECT min(capture) FROM parts JOIN captures ON captures.id = capture WHERE captures.sha256 = ? AND destination = ?) ORDER BY number`,
			row.sha256, row.destination)
		if err != nil {
			return err
		}
		if len(twins) > 0 {
			parts = twins
		}
		for i, p := range parts {
			if p.Number != i+1 || p.Of != len(parts) {
				return fmt.Errorf("part %d of %d at place %d of %d", p.Number, p.Of, i+1, len(parts))
			}
			prefix := p.Prefix
			if prefix == nil {
				prefix = []byte{} // nil would be NULL
			}
			_, err := tx.ExecContext(ctx, `INSERT INTO parts (capture, `+partColumns+`) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
				id, p.Number, p.Of, prefix, p.Offset, p.Length, p.Size, p.SHA256, p.SHA1, p.Packets,
				stamp(p.First), stamp(p.Last), p.Name, p.SessionID, p.PossibleDuplicate)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("plan parts of capture %d: %w", id, err)
	}
	return parts, nil
}

// FinishPart records a part's session. The same again changes nothing; another
// session for the same part is an error. A possible duplicate marks the capture
// too. Like Finish it works when ctx is over.
func (l *Ledger) FinishPart(ctx context.Context, id int64, number int, sessionID string, possibleDuplicate bool) error {
	err := l.write(context.WithoutCancel(ctx), func(ctx context.Context, tx *txn) error {
		if sessionID == "" {
			return errors.New("no session id")
		}
		var old string
		err := tx.QueryRowContext(ctx, `SELECT session_id FROM parts WHERE capture = ? AND number = ?`, id, number).Scan(&old)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return ErrNotFound
		case err != nil:
			return err
		case old != "" && old != sessionID:
			return fmt.Errorf("it has session %q already, not %q", old, sessionID)
		}
		_, err = tx.ExecContext(ctx, `UPDATE parts SET session_id = ?, possible_duplicate = possible_duplicate OR ?
			WHERE capture = ? AND number = ?`, sessionID, possibleDuplicate, id, number)
		if err != nil {
			return err
		}
		if old == "" {
			data := partData{Number: number, Session: text(sessionID), PossibleDuplicate: possibleDuplicate}
			if err := emit(ctx, tx, l.now(), EventPart, id, data); err != nil {
				return err
			}
		}
		if !possibleDuplicate {
			return nil
		}
		_, err = tx.ExecContext(ctx, `UPDATE captures SET possible_duplicate = 1, updated = ? WHERE id = ?`, stamp(l.now()), id)
		return err
	})
	if err != nil {
		return fmt.Errorf("finish part %d of capture %d: %w", number, id, err)
	}
	return nil
}

package ledger

import (
	"context"
	"fmt"
)

// Explain records what looking a capture's indicators up has come to: the tags of
// its session, a few lines of its findings, and how many indicators nobody has
// answered for yet.
func (l *Ledger) Explain(ctx context.Context, id int64, tags []string, threats string, unanswered int) error {
	err := l.write(ctx, func(ctx context.Context, tx *txn) error {
		if _, err := readCaptureRow(ctx, tx, id); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE captures SET tags = ?2, threats = ?3, unanswered = ?4 WHERE id = ?1`,
			id, list(validTexts(tags)), threats, max(unanswered, 0))
		return err
	})
	if err != nil {
		return fmt.Errorf("explain capture %d: %w", id, err)
	}
	return nil
}

// Unanswered returns at most limit captures with indicators that nobody has answered
// for yet, the newest first.
func (l *Ledger) Unanswered(ctx context.Context, limit int) ([]int64, error) {
	ids, err := l.ids(ctx, `SELECT id FROM captures INDEXED BY captures_unanswered WHERE unanswered > 0 ORDER BY id DESC LIMIT ?`, limit)
	if err != nil {
		return nil, fmt.Errorf("captures that are to be explained: %w", l.noted(err))
	}
	return ids, nil
}

// Unacted returns at most limit captures with a session and findings for which the
// act of that name is not over, the oldest first.
func (l *Ledger) Unacted(ctx context.Context, act string, limit int) ([]int64, error) {
	ids, err := l.ids(ctx, `SELECT DISTINCT c.id FROM captures c INDEXED BY captures_flagged JOIN findings f ON f.capture = c.id AND f.gone = 0
		WHERE c.findings > 0 AND c.session_id <> '' AND c.state IN ('done', 'purged') AND NOT EXISTS
			(SELECT 1 FROM acts a WHERE a.finding = f.id AND a.name = ?1 AND a.state IN ('done', 'failed'))
		ORDER BY c.id LIMIT ?2`, act, limit)
	if err != nil {
		return nil, fmt.Errorf("captures with findings: %w", l.noted(err))
	}
	return ids, nil
}

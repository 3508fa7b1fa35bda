package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
)

// Explained is what looking up a capture's indicators and machines has come to.
type Explained struct {
	Tags       []string // of its session
	Threats    string   // a few lines of its findings
	Machines   string   // a few lines of its machines
	Devices    []byte   // all that is known of them, as JSON of at most MaxDevices bytes
	Unanswered int      // how many indicators nobody has answered for yet
}

// MaxDevices is how many bytes are kept of the machines of a capture.
const MaxDevices = 256 << 10

// Explain records what a capture was explained by.
func (l *Ledger) Explain(ctx context.Context, id int64, e Explained) error {
	if len(e.Devices) > MaxDevices || len(e.Devices) > 0 && !json.Valid(e.Devices) {
		return fmt.Errorf("explain capture %d: its machines are %d bytes, or no JSON", id, len(e.Devices))
	}
	err := l.write(ctx, func(ctx context.Context, tx *txn) error {
		if _, err := readCaptureRow(ctx, tx, id); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE captures SET tags = ?2, threats = ?3, unanswered = ?4, machines = ?5, devices = ?6 WHERE id = ?1`,
			id, list(validTexts(e.Tags)), e.Threats, max(e.Unanswered, 0), text(e.Machines), string(e.Devices))
		return err
	})
	if err != nil {
		return fmt.Errorf("explain capture %d: %w", id, err)
	}
	return nil
}

// Devices returns what is known of the machines of a capture, as Explain was given
// it; nil when nothing is.
func (l *Ledger) Devices(ctx context.Context, id int64) ([]byte, error) {
	var devices string
	err := l.r.QueryRowContext(ctx, `SELECT devices FROM captures WHERE id = ?`, id).Scan(&devices)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("machines of capture %d: %w", id, l.noted(err))
	}
	if devices == "" {
		return nil, nil
	}
	return []byte(devices), nil
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

package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// SetState moves a capture for a reason outside its steps: purged before its
// file is deleted, held, released, quarantined. A failed capture is queued by
// Retry alone, which also opens its steps. While a living process is on one of
// the capture's steps the error is ErrBusy.
func (l *Ledger) SetState(ctx context.Context, id int64, to State, reason string) error {
	err := l.write(ctx, func(ctx context.Context, tx *txn) error {
		started, err := startedSteps(ctx, tx, id)
		if err != nil {
			return err
		}
		for _, s := range started {
			alive, pid, err := l.alive(claim{id, s.Name}, s.owner)
			if err != nil {
				return err
			}
			if alive {
				return fmt.Errorf("%w: process %d, step %s", ErrBusy, pid, s.Name)
			}
		}
		return move(ctx, tx, l.now(), id, "", func(c *captureRow, _ *stepRow) (stepAction, error) {
			if c.state == to {
				return leaveStep, &TransitionError{Capture: id, From: string(c.state), To: string(to)}
			}
			if c.state == Failed && to == Queued {
				return leaveStep, errors.New("a failed capture is queued by Retry")
			}
			c.state, c.reason = to, reason
			return leaveStep, nil
		})
	})
	if err != nil {
		return fmt.Errorf("set capture %d to %s: %w", id, to, err)
	}
	return nil
}

func startedSteps(ctx context.Context, tx *txn, id int64) ([]stepRow, error) {
	return collect(ctx, tx, func(s *stepRow) []any { return []any{&s.Name, &s.owner} },
		`SELECT name, owner FROM steps WHERE capture = ? AND state = ?`, id, StepStarted)
}

// Retry queues failed captures again, opens their failed steps, drops the plan of
// their parts unless one of them was uploaded, and lifts the wait of queued ones; attempts and the last error stay visible. Held
// and sealed captures that are named are released. Without ids it takes all that are failed or wait. It returns how many captures it changed; captures in other states
// are left alone, an unknown id is ErrNotFound.
func (l *Ledger) Retry(ctx context.Context, ids ...int64) (int, error) {
	n := 0
	if len(ids) > 0 {
		err := l.write(ctx, func(ctx context.Context, tx *txn) error {
			var err error
			n, err = retry(ctx, tx, l.now(), ids, true)
			return err
		})
		if err != nil {
			return 0, fmt.Errorf("retry: %w", err)
		}
		return n, nil
	}
	// In batches: one transaction over everything would keep others waiting.
	for after := int64(0); ; {
		var batch []int64
		err := l.write(ctx, func(ctx context.Context, tx *txn) error {
			var err error
			batch, err = collect(ctx, tx, func(id *int64) []any { return []any{id} }, retryable, after, Failed, Queued, pageSize)
			if err != nil {
				return err
			}
			m, err := retry(ctx, tx, l.now(), batch, false)
			n += m
			return err
		})
		if err != nil {
			return n, fmt.Errorf("retry: %w", err)
		}
		if len(batch) < pageSize {
			return n, nil
		}
		after = batch[len(batch)-1]
	}
}

const retryable = `SELECT id FROM captures c WHERE id > ? AND (state = ? OR state = ? AND
	EXISTS (SELECT 1 FROM steps s WHERE s.capture = c.id AND s.not_before IS NOT NULL)) ORDER BY id LIMIT ?`

func retry(ctx context.Context, tx *txn, now time.Time, ids []int64, named bool) (n int, err error) {
	for _, id := range ids {
		changed := false
		err := move(ctx, tx, now, id, "", func(c *captureRow, _ *stepRow) (stepAction, error) {
			if c.state == Failed || named && (c.state == Held || c.state == Sealed) {
				c.state, c.reason, changed = Queued, "", true
			}
			return leaveStep, nil
		})
		if err != nil {
			return n, fmt.Errorf("capture %d: %w", id, err)
		}
		if changed {
			// Refused as it was: it may have to be cut otherwise now.
			_, err := tx.ExecContext(ctx, `DELETE FROM parts WHERE capture = ?1 AND NOT EXISTS (
				SELECT 1 FROM parts WHERE capture = ?1 AND session_id <> '')`, id)
			if err != nil {
				return n, err
			}
		}
		steps, err := collect(ctx, tx, func(s *string) []any { return []any{s} },
			`SELECT s.name FROM steps s JOIN captures c ON c.id = s.capture WHERE s.capture = ? AND c.state = ?
			AND (s.state = ? OR s.state = ? AND s.not_before IS NOT NULL)`, id, Queued, StepFailed, StepPending)
		if err != nil {
			return n, err
		}
		for _, step := range steps {
			changed = true
			err := move(ctx, tx, now, id, step, func(_ *captureRow, s *stepRow) (stepAction, error) {
				s.State, s.NotBefore = StepPending, time.Time{}
				return changeStep, nil
			})
			if err != nil {
				return n, err
			}
		}
		if changed {
			n++
		}
	}
	return n, nil
}

// Pause says that a destination is closed to every capture.
type Pause struct {
	Destination   string
	Class, Reason string
	Since, Until  time.Time // Until zero: until someone or something changes it
}

// SetPause records a pause, in place of the destination's last one.
func (l *Ledger) SetPause(ctx context.Context, p Pause) error {
	err := l.write(context.WithoutCancel(ctx), func(ctx context.Context, tx *txn) error {
		_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO pauses (destination, class, reason, since, until) VALUES (?, ?, ?, ?, ?)`,
			p.Destination, p.Class, p.Reason, stamp(p.Since), stamp(p.Until))
		return err
	})
	if err != nil {
		return fmt.Errorf("pause %s: %w", p.Destination, err)
	}
	return nil
}

// ClearPause ends a destination's pause; it is no error when there is none.
func (l *Ledger) ClearPause(ctx context.Context, destination string) error {
	err := l.write(ctx, func(ctx context.Context, tx *txn) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM pauses WHERE destination = ?`, destination)
		return err
	})
	if err != nil {
		return fmt.Errorf("end the pause of %s: %w", destination, err)
	}
	return nil
}

// Pauses returns all pauses that are recorded, also those whose Until is over.
func (l *Ledger) Pauses(ctx context.Context) ([]Pause, error) {
	pauses, err := collect(ctx, l.r, func(p *Pause) []any {
		return []any{&p.Destination, &p.Class, &p.Reason, (*stamp)(&p.Since), (*stamp)(&p.Until)}
	}, `SELECT destination, class, reason, since, until FROM pauses ORDER BY destination`)
	if err != nil {
		return nil, fmt.Errorf("read pauses: %w", l.noted(err))
	}
	return pauses, nil
}

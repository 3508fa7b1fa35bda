package ledger

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// EventDelivered is a delivery that ended.
const EventDelivered = "delivered"

// DeliveryState is where a delivery stands.
type DeliveryState string

// The states of a delivery. It is pending until it ends; a person may have one that
// ended tried again.
const (
	DeliveryPending DeliveryState = "pending"
	DeliveryDone    DeliveryState = "done"
	DeliverySkipped DeliveryState = "skipped" // it is not wanted any more
	DeliveryFailed  DeliveryState = "failed"
)

// Delivery is a capture that is brought to another place besides its session.
type Delivery struct {
	Capture     int64
	Destination string // of which kind: "cado"
	State       DeliveryState
	Note        string          // what came of it, for people
	Link        string          // to what was made of it there
	Progress    json.RawMessage // how far it has come, for whoever carries it out: an object of at most MaxProgress bytes
	Attempts    int
	Class       string // of the last failure
	Error       string
	NotBefore   time.Time
	Updated     time.Time
}

// MaxProgress bounds Delivery.Progress.
const MaxProgress = 64 << 10

const deliveryColumns = `capture, destination, state, note, link, progress, attempts, class, error, not_before, updated`

func deliveryFields(d *Delivery) []any {
	return []any{
		&d.Capture, &d.Destination, &d.State, &d.Note, &d.Link, (*eventData)(&d.Progress), &d.Attempts, &d.Class, &d.Error,
		(*stamp)(&d.NotBefore), (*stamp)(&d.Updated),
	}
}

type deliveredData struct {
	Destination string        `json:"destination"`
	State       DeliveryState `json:"state"`
	Note        string        `json:"note,omitempty"`
	Link        string        `json:"link,omitempty"`
	Error       string        `json:"error,omitempty"`
}

// Deliver has a capture brought to a destination once it has a session. It changes
// nothing for a delivery that is known already, unless that was skipped.
func (l *Ledger) Deliver(ctx context.Context, capture int64, destination string) error {
	err := l.write(ctx, func(ctx context.Context, tx *txn) error {
		if _, err := readCaptureRow(ctx, tx, capture); err != nil {
			return err
		}
		return deliver(ctx, tx, l.now(), capture, destination)
	})
	if err != nil {
		return fmt.Errorf("deliver capture %d to %s: %w", capture, destination, err)
	}
	return nil
}

func deliver(ctx context.Context, tx *txn, now time.Time, capture int64, destination string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO deliveries (capture, destination, state, updated) VALUES (?1, ?2, 'pending', ?3)
		ON CONFLICT (capture, destination) DO UPDATE SET state = 'pending', updated = ?3 WHERE state = 'skipped'`, capture, destination, stamp(now))
	return err
}

// SetDelivery records how a delivery stands. One that ended stays as it is.
func (l *Ledger) SetDelivery(ctx context.Context, d Delivery) error {
	if len(d.Progress) == 0 {
		d.Progress = json.RawMessage("{}")
	}
	if len(d.Progress) > MaxProgress || d.Progress[0] != '{' || !json.Valid(d.Progress) {
		return fmt.Errorf("delivery of capture %d to %s: its progress is %d bytes, or no JSON object", d.Capture, d.Destination, len(d.Progress))
	}
	err := l.write(context.WithoutCancel(ctx), func(ctx context.Context, tx *txn) error {
		now := l.now()
		changed, err := tx.ExecContext(ctx, `UPDATE deliveries SET state = ?3, note = ?4, link = ?5, progress = ?6, attempts = ?7, class = ?8, error = ?9,
			not_before = ?10, updated = ?11 WHERE capture = ?1 AND destination = ?2 AND state = 'pending'`,
			d.Capture, d.Destination, d.State, text(d.Note), text(d.Link), string(d.Progress), d.Attempts, d.Class, text(d.Error), stamp(d.NotBefore), stamp(now))
		if err != nil {
			return err
		}
		if n, err := changed.RowsAffected(); err != nil || n == 0 || d.State == DeliveryPending {
			return err
		}
		return emit(ctx, tx, now, EventDelivered, d.Capture, deliveredData{d.Destination, d.State, text(d.Note), text(d.Link), text(d.Error)})
	})
	if err != nil {
		return fmt.Errorf("delivery of capture %d to %s: %w", d.Capture, d.Destination, err)
	}
	return nil
}

// Redeliver has deliveries that failed, or wait for their next attempt, tried at once, of
// one capture or of all (0), and returns how many there were.
func (l *Ledger) Redeliver(ctx context.Context, capture int64) (n int64, err error) {
	err = l.write(ctx, func(ctx context.Context, tx *txn) error {
		changed, err := tx.ExecContext(ctx, `UPDATE deliveries SET state = 'pending', attempts = 0, class = '', error = '', not_before = NULL, updated = ?2
			WHERE (capture = ?1 OR ?1 = 0) AND (state = 'failed' OR state = 'pending' AND not_before IS NOT NULL)`, capture, stamp(l.now()))
		if err == nil {
			n, err = changed.RowsAffected()
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("redeliver: %w", err)
	}
	return n, nil
}

// SkipDeliveries ends all that are pending for a destination that is not wanted any
// more, and returns how many there were.
func (l *Ledger) SkipDeliveries(ctx context.Context, destination, why string) (n int64, err error) {
	err = l.write(ctx, func(ctx context.Context, tx *txn) error {
		changed, err := tx.ExecContext(ctx, `UPDATE deliveries SET state = 'skipped', note = ?2, updated = ?3 WHERE destination = ?1 AND state = 'pending'`,
			destination, text(why), stamp(l.now()))
		if err == nil {
			n, err = changed.RowsAffected()
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("skip deliveries to %s: %w", destination, err)
	}
	return n, nil
}

// Deliveries returns those of a capture.
func (l *Ledger) Deliveries(ctx context.Context, capture int64) ([]Delivery, error) {
	all, err := collect(ctx, l.r, deliveryFields, `SELECT `+deliveryColumns+` FROM deliveries WHERE capture = ? ORDER BY destination`, capture)
	if err != nil {
		return nil, fmt.Errorf("deliveries of capture %d: %w", capture, l.noted(err))
	}
	return all, nil
}

// DueDeliveries returns at most limit deliveries that can be carried out now, of
// captures with a session, the oldest first, and when the next one is due; zero when
// none is.
func (l *Ledger) DueDeliveries(ctx context.Context, destination string, limit int) (due []Delivery, next time.Time, err error) {
	const open = ` FROM deliveries d INDEXED BY deliveries_open JOIN captures c ON c.id = d.capture
		WHERE d.destination = ?1 AND d.state = 'pending' AND c.session_id <> '' AND c.state IN ('done', 'purged')`
	now := stamp(l.now())
	due, err = collect(ctx, l.r, deliveryFields, `SELECT d.capture, d.destination, d.state, d.note, d.link, d.progress, d.attempts, d.class, d.error, d.not_before, d.updated`+
		open+` AND (d.not_before IS NULL OR d.not_before <= ?2) ORDER BY d.capture LIMIT ?3`, destination, now, max(limit, 0))
	if err == nil {
		err = l.r.QueryRowContext(ctx, `SELECT min(d.not_before)`+open+` AND d.not_before > ?2`, destination, now).Scan((*stamp)(&next))
	}
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("deliveries to %s: %w", destination, l.noted(err))
	}
	return due, next, nil
}

// DeliveryCounts returns how many deliveries stand where.
func (l *Ledger) DeliveryCounts(ctx context.Context, destination string) (map[DeliveryState]int64, error) {
	type row struct {
		DeliveryState
		n int64
	}
	rows, err := collect(ctx, l.r, func(r *row) []any { return []any{&r.DeliveryState, &r.n} },
		`SELECT state, count(*) FROM deliveries WHERE destination = ? GROUP BY state`, destination)
	if err != nil {
		return nil, fmt.Errorf("count deliveries to %s: %w", destination, l.noted(err))
	}
	counts := map[DeliveryState]int64{}
	for _, r := range rows {
		counts[r.DeliveryState] = r.n
	}
	return counts, nil
}

package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// The events of triggers.
const (
	EventTrigger    = "trigger"     // somebody asked for a window
	EventTriggerEnd = "trigger_end" // it was carried out, as far as could be
)

// Trigger asks for the packets of a window of time.
type Trigger struct {
	ID       int64     // from 1
	Asked    time.Time // when
	From, To time.Time // the window, both included
	By       string    // who asked, for people
	Reason   string    // why; "" when nobody said
	Source   string    // of the captures that are meant; "" for all
	Ended    time.Time // zero: still to be carried out
	TriggerResult
}

// TriggerResult is what became of a trigger. Its lists are bounded by MaxTriggered.
type TriggerResult struct {
	Captures []int64 `json:"captures"` // that were made or released
	Segments []int64 `json:"segments"` // that those were made of
	Note     string  `json:"note"`     // what is to be known of them, "" when nothing
	Error    string  `json:"error"`    // why there is no capture
}

// MaxTriggered bounds the lists of a TriggerResult, of which what is too much is
// left out.
const MaxTriggered = 1000

const triggerColumns = `id, asked, start, stop, asker, reason, source, ended, result`

// resultText is a TriggerResult as it lies in the ledger.
type resultText struct{ to *TriggerResult }

func (r resultText) Scan(v any) error {
	s, ok := v.(string)
	if !ok {
		return fmt.Errorf("result is stored as %T", v)
	}
	*r.to = TriggerResult{}
	if s != "" && json.Unmarshal([]byte(s), r.to) != nil {
		*r.to = TriggerResult{Error: "what became of it can't be read"} // one flipped bit is no reason to fail
	}
	return nil
}

func triggerFields(t *Trigger) []any {
	return []any{
		&t.ID, (*stamp)(&t.Asked), (*stamp)(&t.From), (*stamp)(&t.To), &t.By, &t.Reason, &t.Source, (*stamp)(&t.Ended), resultText{&t.TriggerResult},
	}
}

type triggerData struct {
	Trigger int64     `json:"trigger"`
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	By      string    `json:"by"`
	Reason  string    `json:"reason,omitempty"`
	Source  string    `json:"source,omitempty"`
}

type triggerEndData struct {
	Trigger int64 `json:"trigger"`
	TriggerResult
}

// AddTrigger records a trigger that is to be carried out, and returns it with its
// number. Each is recorded with an event in the same transaction.
func (l *Ledger) AddTrigger(ctx context.Context, t Trigger) (Trigger, error) {
	t.Asked, t.From, t.To, t.Ended = inRange(t.Asked), inRange(t.From), inRange(t.To), time.Time{}
	t.By, t.Reason, t.Source, t.TriggerResult = text(t.By), text(t.Reason), text(t.Source), TriggerResult{}
	err := l.write(ctx, func(ctx context.Context, tx *txn) error {
		err := tx.QueryRowContext(ctx, `INSERT INTO triggers (asked, start, stop, asker, reason, source) VALUES (?, ?, ?, ?, ?, ?) RETURNING id`,
			stamp(t.Asked), stamp(t.From), stamp(t.To), t.By, t.Reason, t.Source).Scan(&t.ID)
		if err != nil {
			return err
		}
		return emit(ctx, tx, l.now(), EventTrigger, 0, triggerData{t.ID, t.From, t.To, t.By, t.Reason, t.Source})
	})
	if err != nil {
		return t, fmt.Errorf("record a trigger: %w", err)
	}
	return t, nil
}

// EndTrigger records what became of a trigger. One that has ended stays as it is.
func (l *Ledger) EndTrigger(ctx context.Context, id int64, r TriggerResult) error {
	r.Captures, r.Segments = firstOf(r.Captures), firstOf(r.Segments)
	r.Note, r.Error = text(r.Note), text(r.Error)
	result, err := json.Marshal(r)
	if err != nil {
		return err
	}
	err = l.write(context.WithoutCancel(ctx), func(ctx context.Context, tx *txn) error {
		done, err := tx.ExecContext(ctx, `UPDATE triggers SET ended = ?, result = ? WHERE id = ? AND ended IS NULL`, stamp(l.now()), string(result), id)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); n == 0 || err != nil {
			return err
		}
		return emit(ctx, tx, l.now(), EventTriggerEnd, 0, triggerEndData{id, r})
	})
	if err != nil {
		return fmt.Errorf("record the end of trigger %d: %w", id, err)
	}
	return nil
}

func firstOf(ids []int64) []int64 {
	return slices.Concat([]int64{}, ids[:min(len(ids), MaxTriggered)]) // never null in JSON
}

// Trigger returns a trigger, or an error that is ErrNotFound.
func (l *Ledger) Trigger(ctx context.Context, id int64) (Trigger, error) {
	var t Trigger
	err := l.r.QueryRowContext(ctx, `SELECT `+triggerColumns+` FROM triggers WHERE id = ?`, id).Scan(triggerFields(&t)...)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return t, fmt.Errorf("trigger %d: %w", id, l.noted(err))
	}
	return t, nil
}

// Triggers returns those that are to be carried out, and those that were asked
// for since a time (zero: all), the first one first.
func (l *Ledger) Triggers(ctx context.Context, since time.Time) ([]Trigger, error) {
	if since.IsZero() {
		since = earliest
	}
	triggers, err := collect(ctx, l.r, triggerFields, `SELECT `+triggerColumns+` FROM triggers WHERE ended IS NULL OR asked >= ? ORDER BY id`, stamp(since))
	if err != nil {
		return nil, fmt.Errorf("read triggers: %w", l.noted(err))
	}
	return triggers, nil
}

// Overlapping returns at most limit captures with packets between two times, both
// included, whose file may still be there: all of the agent's own, and held ones
// of others. The order is that of their numbers. Its cost grows with those that
// are held, queued or failed, not with the ledger.
func (l *Ledger) Overlapping(ctx context.Context, from, to time.Time, limit int) ([]Capture, error) {
	captures, err := collect(ctx, l.r, captureFields, `SELECT `+captureColumns+` FROM captures WHERE id IN (
		SELECT id FROM captures INDEXED BY captures_held
			WHERE owned = 1 AND state = 'held' AND coalesce(last_packet, created) >= ?1 AND first_packet <= ?2
		UNION SELECT id FROM captures INDEXED BY captures_expendable
			WHERE owned = 1 AND state = 'done' AND (session_id <> '' OR packets = 0) AND coalesce(last_packet, created) >= ?1 AND first_packet <= ?2
		UNION SELECT id FROM captures INDEXED BY captures_state
			WHERE (state = 'held' AND owned = 0 OR state IN ('queued', 'failed') AND owned = 1) AND last_packet >= ?1 AND first_packet <= ?2)
		ORDER BY id LIMIT ?3`, stamp(from), stamp(to), max(limit, 0))
	if err != nil {
		return nil, fmt.Errorf("captures of a time: %w", l.noted(err))
	}
	return captures, nil
}

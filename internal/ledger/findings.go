package ledger

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// What one capture has at most.
const (
	MaxFindings    = 1000
	MaxFindingData = 64 << 10 // bytes of a finding's Data
)

// Finding is an indicator of a capture with a verdict that counts.
type Finding struct {
	ID int64 // set by the ledger; it stays the same when the finding is set again
	VerdictKey
	Frame      int64 // the first
	Count      int64
	Rating     float64 // of the verdict that counts, as is Confidence
	Confidence int
	Data       json.RawMessage // all that is known, a JSON object
	Found      time.Time       // when it was set first
	Acts       map[string]Act  // what was begun for it, by name; nil when nothing was
}

// ActState is where an act stands. One that was never begun has no state.
type ActState string

// The states of an act.
const (
	ActPending ActState = "pending" // it was begun and did not happen; Error says why
	ActStarted ActState = "started" // it may have happened
	ActDone    ActState = "done"
	ActFailed  ActState = "failed" // it will not happen
)

// Act is something that is done for a finding on the other side, once: an
// annotation, an observation.
type Act struct {
	State   ActState
	Error   string
	Updated time.Time
}

const findingColumns = `id, type, value, frame, count, rating, confidence, data, found`

func findingFields(f *Finding) []any {
	return []any{&f.ID, &f.Type, &f.Value, &f.Frame, &f.Count, &f.Rating, &f.Confidence, (*eventData)(&f.Data), (*stamp)(&f.Found)}
}

func checkFinding(f Finding) error {
	if err := checkVerdictKey("any", f.VerdictKey); err != nil {
		return err
	}
	switch {
	case len(f.Data) > MaxFindingData:
		return fmt.Errorf("the finding of %.40q has %d bytes", f.Value, len(f.Data))
	case len(f.Data) == 0 || f.Data[0] != '{' || !json.Valid(f.Data):
		return fmt.Errorf("the finding of %.40q is no JSON object", f.Value)
	}
	return nil
}

// findingData is a finding as the audit log tells it.
type findingData struct {
	Type       string  `json:"type"`
	Value      string  `json:"value"`
	Frame      int64   `json:"first_frame"`
	Rating     float64 `json:"rating"`
	Confidence int     `json:"confidence"`
	Change     string  `json:"change"` // "new", "changed" or "gone"
}

func newFindingData(f Finding, change string) findingData {
	return findingData{f.Type, text(f.Value), f.Frame, f.Rating, f.Confidence, change}
}

// SetFindings makes these the findings of a capture, at most MaxFindings, each
// indicator once. What was begun for one of them before stays known, also while it
// is none of them: nothing is done twice.
func (l *Ledger) SetFindings(ctx context.Context, capture int64, findings []Finding) error {
	if len(findings) > MaxFindings {
		return fmt.Errorf("set findings of capture %d: %d of them, more than %d", capture, len(findings), MaxFindings)
	}
	set := make(map[VerdictKey]bool, len(findings))
	for _, f := range findings {
		err := checkFinding(f)
		if err == nil && set[f.VerdictKey] {
			err = fmt.Errorf("the same indicator twice: %.40q", f.Value)
		}
		if err != nil {
			return fmt.Errorf("set findings of capture %d: %w", capture, err)
		}
		set[f.VerdictKey] = true
	}
	err := l.write(ctx, func(ctx context.Context, tx *txn) error {
		if _, err := readCaptureRow(ctx, tx, capture); err != nil {
			return err
		}
		before, err := collect(ctx, tx, findingFields, `SELECT `+findingColumns+` FROM findings WHERE capture = ? AND gone = 0`, capture)
		if err != nil {
			return err
		}
		was := make(map[VerdictKey]Finding, len(before))
		for _, f := range before {
			was[f.VerdictKey] = f
			if !set[f.VerdictKey] {
				if err := dropFinding(ctx, tx, l.now(), capture, f); err != nil {
					return err
				}
			}
		}
		for _, f := range findings {
			if err := putFinding(ctx, tx, l.now(), capture, f, was); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `UPDATE captures SET findings = ?2 WHERE id = ?1 AND findings <> ?2`, capture, len(findings))
		return err
	})
	if err != nil {
		return fmt.Errorf("set findings of capture %d: %w", capture, err)
	}
	return nil
}

func putFinding(ctx context.Context, tx *txn, now time.Time, capture int64, f Finding, was map[VerdictKey]Finding) error {
	old, known := was[f.VerdictKey]
	_, err := tx.ExecContext(ctx, `INSERT INTO findings (capture, type, value, frame, count, rating, confidence, data, found)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (capture, type, value) DO UPDATE SET
		frame = excluded.frame, count = excluded.count, rating = excluded.rating, confidence = excluded.confidence,
		data = excluded.data, gone = 0`,
		capture, f.Type, f.Value, f.Frame, f.Count, f.Rating, f.Confidence, string(f.Data), inRange(now).UnixNano())
	if err != nil {
		return err
	}
	switch {
	case !known:
		return emit(ctx, tx, now, EventFinding, capture, newFindingData(f, "new"))
	case old.Rating != f.Rating || old.Confidence != f.Confidence:
		return emit(ctx, tx, now, EventFinding, capture, newFindingData(f, "changed"))
	}
	return nil
}

func dropFinding(ctx context.Context, tx *txn, now time.Time, capture int64, f Finding) error {
	if _, err := tx.ExecContext(ctx, `UPDATE findings SET gone = 1 WHERE id = ?`, f.ID); err != nil {
		return err
	}
	return emit(ctx, tx, now, EventFinding, capture, newFindingData(f, "gone"))
}

// Findings returns those of a capture, the worst first, with what was begun for them.
func (l *Ledger) Findings(ctx context.Context, capture int64) ([]Finding, error) {
	findings, err := collect(ctx, l.r, findingFields, `SELECT `+findingColumns+` FROM findings
		WHERE capture = ? AND gone = 0 ORDER BY rating DESC, confidence DESC, frame, id`, capture)
	if err != nil {
		return nil, fmt.Errorf("findings of capture %d: %w", capture, l.noted(err))
	}
	type row struct {
		finding int64
		name    string
		Act
	}
	acts, err := collect(ctx, l.r, func(r *row) []any {
		return []any{&r.finding, &r.name, &r.State, &r.Error, (*stamp)(&r.Updated)}
	}, `SELECT finding, name, state, error, updated FROM acts WHERE finding IN (SELECT id FROM findings WHERE capture = ? AND gone = 0)`, capture)
	if err != nil {
		return nil, fmt.Errorf("findings of capture %d: %w", capture, l.noted(err))
	}
	at := make(map[int64]int, len(findings))
	for i, f := range findings {
		at[f.ID] = i
	}
	for _, a := range acts {
		i, ok := at[a.finding]
		if !ok {
			continue // set between the two queries
		}
		if findings[i].Acts == nil {
			findings[i].Acts = map[string]Act{}
		}
		findings[i].Acts[a.name] = a.Act
	}
	return findings, nil
}

// BeginAct records the intent to do something for a finding on the other side, and
// returns where that stood before: "" or ActPending: it did not happen, do it now;
// ActStarted: it may have happened, ask the other side before; ActDone, ActFailed:
// leave it, nothing was recorded. Two processes can't tell their acts apart: whoever
// calls it has claimed the capture's step to which the act belongs.
func (l *Ledger) BeginAct(ctx context.Context, finding int64, name string) (before ActState, err error) {
	err = l.write(ctx, func(ctx context.Context, tx *txn) error {
		before = ""
		err := tx.QueryRowContext(ctx, `SELECT state FROM acts WHERE finding = ? AND name = ?`, finding, name).Scan(&before)
		if err != nil && !errors.Is(err, sql.ErrNoRows) || before == ActDone || before == ActFailed || before == ActStarted {
			return err
		}
		return setAct(ctx, tx, finding, name, Act{State: ActStarted, Updated: l.now()})
	})
	if err != nil {
		return "", fmt.Errorf("begin %q for finding %d: %w", clip(name, maxEventName), finding, err)
	}
	return before, nil
}

// ErrNotBegun says that an act was ended that is not started.
var ErrNotBegun = errors.New("the act is not started")

// EndAct records how an act that was begun ended: done, pending when it certainly
// did not happen and is to be tried again, or failed when it never will. Like Finish
// it works when ctx is over.
func (l *Ledger) EndAct(ctx context.Context, finding int64, name string, state ActState, reason string) error {
	err := l.write(context.WithoutCancel(ctx), func(ctx context.Context, tx *txn) error {
		if state != ActDone && state != ActPending && state != ActFailed {
			return fmt.Errorf("an act does not end as %q", state)
		}
		var before ActState
		err := tx.QueryRowContext(ctx, `SELECT state FROM acts WHERE finding = ? AND name = ?`, finding, name).Scan(&before)
		if errors.Is(err, sql.ErrNoRows) || err == nil && before != ActStarted {
			return ErrNotBegun
		}
		if err != nil {
			return err
		}
		return setAct(ctx, tx, finding, name, Act{state, text(reason), l.now()})
	})
	if err != nil {
		return fmt.Errorf("end %q for finding %d: %w", clip(name, maxEventName), finding, err)
	}
	return nil
}

func setAct(ctx context.Context, tx *txn, finding int64, name string, a Act) error {
	_, err := tx.ExecContext(ctx, `INSERT OR REPLACE INTO acts (finding, name, state, error, updated) VALUES (?, ?, ?, ?, ?)`,
		finding, name, a.State, a.Error, inRange(a.Updated).UnixNano())
	return err
}

// Flagging returns at most limit findings, one of each indicator that a capture was
// flagged for, the worst first.
func (l *Ledger) Flagging(ctx context.Context, limit int) ([]Finding, error) {
	findings, err := collect(ctx, l.r, findingFields, `SELECT `+findingColumns+` FROM findings
		WHERE id IN (SELECT max(id) FROM findings WHERE gone = 0 GROUP BY type, value)
		ORDER BY rating DESC, confidence DESC, id LIMIT ?`, limit)
	if err != nil {
		return nil, fmt.Errorf("findings of all captures: %w", l.noted(err))
	}
	return findings, nil
}

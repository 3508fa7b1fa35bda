package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"
)

// The tables of what may follow what. "" is a capture or step that has no row
// yet. Nothing else ever changes a state.
var (
	captureMoves = map[State][]State{
		"":          {StateOpen, Sealed, Held, Queued, Done, Quarantined},
		StateOpen:   {Sealed, Quarantined, Failed},
		Sealed:      {Held, Queued, Done, Quarantined, Failed},
		Held:        {Queued, Done, Purged, Quarantined, Failed}, // purged: nothing released it in time
		Queued:      {Held, Done, Quarantined, Failed},
		Failed:      {Queued, Quarantined},
		Quarantined: {Queued, Held, Done}, // a newer version understands it
		Done:        {Purged},
		Purged:      {},
	}
	stepMoves = map[StepState][]StepState{
		"":          {StepPending, StepDone},
		StepPending: {StepPending, StepStarted, StepSkipped},                       // pending again: a wait is lifted
		StepStarted: {StepStarted, StepPending, StepDone, StepSkipped, StepFailed}, // started again: taken over from a dead process
		StepFailed:  {StepPending},
		StepDone:    {},
		StepSkipped: {},
	}
)

// TransitionError is a change of state that the tables do not allow.
type TransitionError struct {
	Capture  int64
	Step     string // "" when the capture's own state was to change
	From, To string // From is "" for a row that doesn't exist yet
}

func (e *TransitionError) Error() string {
	what := fmt.Sprintf("capture %d", e.Capture)
	if e.Step != "" {
		what += fmt.Sprintf(", step %q", e.Step)
	}
	return fmt.Sprintf("%s can't go from %q to %q", what, e.From, e.To)
}

func checkCapture(id int64, from, to State) error {
	if slices.Contains(captureMoves[from], to) {
		return nil
	}
	return &TransitionError{Capture: id, From: string(from), To: string(to)}
}

func checkStep(id int64, step string, from, to StepState) error {
	if slices.Contains(stepMoves[from], to) {
		return nil
	}
	return &TransitionError{Capture: id, Step: step, From: string(from), To: string(to)}
}

// captureRow is what a move reads and may change of a capture.
type captureRow struct {
	id                  int64
	sha256, destination string // read only
	state               State
	reason              string
	begun               bool
	result              Result // of which Skipped and Note belong to the step
}

// stepRow is a step with what only the ledger needs to know of it.
type stepRow struct {
	Step
	owner string
	begun bool
}

// stepAction says what a move's function decided for the step.
type stepAction bool

const (
	leaveStep  stepAction = false
	changeStep stepAction = true
)

// move is the one function that changes the state of captures and steps. It
// reads the capture and, unless the name is "", the step; lets edit change both;
// checks the changes against the tables; and writes them, with their events.
func move(ctx context.Context, tx *txn, now time.Time, id int64, step string,
	edit func(c *captureRow, s *stepRow) (stepAction, error),
) error {
	before, err := readCaptureRow(ctx, tx, id)
	if err != nil {
		return err
	}
	s, known, err := readStepRow(ctx, tx, id, step)
	if err != nil {
		return err
	}
	c, from := before, s.State
	action, err := edit(&c, &s)
	if err != nil {
		return err
	}
	if action == changeStep {
		if err := checkStep(id, step, from, s.State); err != nil {
			return err
		}
		if !known {
			const insert = `INSERT INTO steps (capture, name, state) VALUES (?, ?, ?)`
			if _, err := tx.ExecContext(ctx, insert, id, step, StepPending); err != nil {
				return err
			}
		}
		_, err := tx.ExecContext(ctx, `UPDATE steps SET state = ?, attempts = ?, not_before = ?, class = ?, error = ?,
			note = ?, owner = ?, begun = ?, updated = ? WHERE capture = ? AND name = ?`,
			s.State, s.Attempts, stamp(s.NotBefore), s.Class, s.Error, s.Note, s.owner, s.begun, stamp(now), id, step)
		if err != nil {
			return err
		}
		if err := emit(ctx, tx, now, EventStep, id, newStepData(&s, before.result, c.result)); err != nil {
			return err
		}
	}
	if c == before {
		return nil
	}
	if c.state != before.state {
		if err := checkCapture(id, before.state, c.state); err != nil {
			return err
		}
		data := stateData{From: before.state, To: c.state, Reason: text(c.reason)}
		if err := emit(ctx, tx, now, EventState, id, data); err != nil {
			return err
		}
	}
	return updateCapture(ctx, tx, now, before, c)
}

// updateCapture writes what changed and no more: each column that an UPDATE names
// costs the writing of every index that has it.
func updateCapture(ctx context.Context, tx *txn, now time.Time, before, c captureRow) error {
	set, args := "updated = ?", []any{stamp(now)}
	change := func(differs bool, column string, value any) {
		if differs {
			set += ", " + column + " = ?"
			args = append(args, value)
		}
	}
	was, is := before.result, c.result
	change(c.state != before.state, "state", c.state)
	change(c.reason != before.reason, "reason", c.reason)
	change(c.begun != before.begun, "begun", c.begun)
	change(is.SessionName != was.SessionName, "session_name", is.SessionName)
	change(is.SessionID != was.SessionID, "session_id", is.SessionID)
	change(is.SessionURL != was.SessionURL, "session_url", is.SessionURL)
	change(is.DuplicateOf != was.DuplicateOf, "duplicate_of", is.DuplicateOf)
	change(is.PossibleDuplicate != was.PossibleDuplicate, "possible_duplicate", is.PossibleDuplicate)
	_, err := tx.ExecContext(ctx, `UPDATE captures SET `+set+` WHERE id = ?`, append(args, c.id)...)
	return err
}

func readCaptureRow(ctx context.Context, tx *txn, id int64) (captureRow, error) {
	c := captureRow{id: id}
	err := tx.QueryRowContext(ctx, `SELECT sha256, destination, state, reason, begun, session_name, session_id,
		session_url, duplicate_of, possible_duplicate FROM captures WHERE id = ?`, id).
		Scan(&c.sha256, &c.destination, &c.state, &c.reason, &c.begun, &c.result.SessionName, &c.result.SessionID,
			&c.result.SessionURL, &c.result.DuplicateOf, &c.result.PossibleDuplicate)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	return c, err
}

// readStepRow returns a pending step where none is recorded: a step needs no
// row until something happens to it.
func readStepRow(ctx context.Context, tx *txn, id int64, step string) (s stepRow, known bool, err error) {
	s = stepRow{Step: Step{Capture: id, Name: step, State: StepPending}}
	if step == "" {
		return s, false, nil
	}
	err = tx.QueryRowContext(ctx, `SELECT `+stepColumns+`, owner, begun FROM steps WHERE capture = ? AND name = ?`, id, step).
		Scan(append(stepFields(&s.Step), &s.owner, &s.begun)...)
	if errors.Is(err, sql.ErrNoRows) {
		return s, false, nil
	}
	return s, err == nil, err
}

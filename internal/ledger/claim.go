package ledger

import (
	"context"
	"fmt"
	"os"
	"time"
)

// Outcome is the answer of Begin.
type Outcome uint8

// The outcomes of Begin.
const (
	Claimed   Outcome = iota + 1 // the step is started and belongs to this process until Finish or Fail
	Busy                         // a living process is on it, or on another capture of the same content
	Finished                     // the step has ended, or the capture is done, purged, failed or quarantined
	Duplicate                    // another capture of the same content has a session already
	Waiting                      // NotBefore is still to come
)

func (o Outcome) String() string {
	if int(o) < len(outcomes) {
		return outcomes[o]
	}
	return ""
}

var outcomes = [...]string{Claimed: "claimed", Busy: "busy", Finished: "finished", Duplicate: "duplicate", Waiting: "waiting"}

// Begun is what Begin found.
type Begun struct {
	Outcome
	// Restarted, with Claimed: an earlier attempt may have reached the other
	// side, so look there before acting. It is set when the step was begun
	// before (by a process that died, or with an end that is not known to be the
	// end over there), when that is so for another capture of the same content
	// (Other), and always in a rebuilt ledger.
	Restarted bool
	Attempt   int       // with Claimed: 1 for the first
	Other     int64     // the capture of equal content and destination that is done, being sent, or was begun before; 0: none
	PID       int       // with Busy: the process, 0 when not known
	Failed    time.Time // with Claimed: when the attempt before this one failed; zero when none did
	NotBefore time.Time
}

// Begin claims one step of one capture before it acts, in one durable
// transaction. Only Claimed allows to act, and must be followed by Finish or
// Fail. Duplicate leaves the step pending: record it with Finish and a skipped
// Result that names Other.
func (l *Ledger) Begin(ctx context.Context, id int64, step string) (Begun, error) {
	return l.begin(ctx, id, step, false)
}

// BeginNow is Begin without regard to NotBefore: a person asked for it.
func (l *Ledger) BeginNow(ctx context.Context, id int64, step string) (Begun, error) {
	return l.begin(ctx, id, step, true)
}

func (l *Ledger) begin(ctx context.Context, id int64, step string, ignoreWait bool) (Begun, error) {
	var b Begun
	key := claim{id, step}
	err := l.write(ctx, func(ctx context.Context, tx *txn) error {
		own, err := l.ownerID()
		if err != nil {
			return err
		}
		now := l.now()
		return move(ctx, tx, now, id, step, func(c *captureRow, s *stepRow) (stepAction, error) {
			var release bool
			b, release, err = l.judge(ctx, tx, c, s)
			if err != nil {
				return leaveStep, err
			}
			if b.Outcome == Claimed && !ignoreWait && s.NotBefore.After(now) && s.NotBefore.Sub(now) <= MaxWait {
				b = Begun{Outcome: Waiting, NotBefore: s.NotBefore}
			}
			switch {
			case b.Outcome == Claimed:
				if s.Class != "" {
					b.Failed = s.Updated
				}
				s.State, s.owner, s.begun, s.NotBefore = StepStarted, own, true, time.Time{}
				s.Attempts++
				b.Attempt = s.Attempts
				c.begun = true
				l.setActive(key, true)
				return changeStep, nil
			case release: // the dead process's claim ends here
				s.State, s.owner = StepPending, ""
				return changeStep, nil
			}
			return leaveStep, nil
		})
	})
	if err != nil {
		if b.Outcome == Claimed {
			l.setActive(key, false)
		}
		return Begun{}, fmt.Errorf("begin %s of capture %d: %w", step, id, err)
	}
	return b, nil
}

// judge says how Begin ends, apart from waiting. release: the step was found
// started by a dead process.
func (l *Ledger) judge(ctx context.Context, tx *txn, c *captureRow, s *stepRow) (b Begun, release bool, err error) {
	switch c.state {
	case StateOpen:
		return b, false, fmt.Errorf("the capture is still being written")
	case Done, Purged, Failed, Quarantined:
		return Begun{Outcome: Finished}, false, nil
	}
	switch s.State {
	case StepDone, StepSkipped, StepFailed:
		return Begun{Outcome: Finished}, false, nil
	case StepStarted:
		alive, pid, err := l.alive(claim{c.id, s.Name}, s.owner)
		if err != nil {
			return b, false, err
		}
		if alive {
			return Begun{Outcome: Busy, PID: pid}, false, nil
		}
		release = true
	}
	b = Begun{Outcome: Claimed, Restarted: s.begun || !l.rebuilt.IsZero()}
	if c.sha256 == "" {
		return b, release, nil
	}
	others, err := readOthers(ctx, tx, c, s.Name)
	if err != nil {
		return b, release, err
	}
	for _, o := range others {
		if o.hasSession && c.result.SessionID == "" {
			return Begun{Outcome: Duplicate, Other: o.id}, release, nil
		}
	}
	for _, o := range others {
		if o.state == StepStarted {
			alive, pid, err := l.alive(claim{o.id, s.Name}, o.owner)
			if err != nil {
				return b, release, err
			}
			if alive {
				return Begun{Outcome: Busy, Other: o.id, PID: pid}, release, nil
			}
		}
		if o.begun && !b.Restarted {
			b.Restarted = true
		}
		if o.begun && b.Other == 0 {
			b.Other = o.id
		}
	}
	return b, release, nil
}

// other is another capture of equal content and destination of which some step
// was ever begun, and its step of the same name.
type other struct {
	id         int64
	hasSession bool
	state      StepState
	owner      string
	begun      bool
}

func readOthers(ctx context.Context, tx *txn, c *captureRow, step string) ([]other, error) {
	return collect(ctx, tx, func(o *other) []any { return []any{&o.id, &o.hasSession, &o.state, &o.owner, &o.begun} },
		`SELECT c.id, c.session_id <> '' AND c.duplicate_of = 0,
			coalesce(s.state, ''), coalesce(s.owner, ''), coalesce(s.begun, 0)
		FROM captures c LEFT JOIN steps s ON s.capture = c.id AND s.name = ?
		WHERE c.begun = 1 AND c.sha256 = ? AND c.destination = ? AND c.id <> ? ORDER BY c.id`,
		step, c.sha256, c.destination, c.id)
}

// alive says whether the owner of a started step is still on it.
func (l *Ledger) alive(key claim, id string) (alive bool, pid int, err error) {
	l.mu.Lock()
	own, active := l.owner, false
	_, active = l.active[key]
	l.mu.Unlock()
	if own != nil && own.id == id {
		// Not active: this process gave it up, but could not record that.
		return active, os.Getpid(), nil
	}
	return ownerAlive(l.path, id)
}

func (l *Ledger) ownerID() (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.owner == nil {
		own, err := newOwner(l.path, l.now())
		if err != nil {
			return "", err
		}
		l.owner = own
	}
	return l.owner.id, nil
}

func (l *Ledger) setActive(key claim, on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if on {
		l.active[key] = struct{}{}
	} else {
		delete(l.active, key)
	}
}

// mine says whether a step is started and this Ledger claimed it.
func (l *Ledger) mine(s *stepRow) error {
	if s.State != StepStarted {
		return nil // the table of transitions says what is wrong
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.owner == nil || l.owner.id != s.owner {
		return ErrNotClaimed
	}
	return nil
}

// Finish records that a step ended well, with what it brought, and moves the
// capture to another state unless to is "". A step that was claimed ends as done,
// or as skipped when the Result says so; one that is still pending can be skipped
// only. The reason of a capture that is now held, quarantined or failed is the
// Result's Note; otherwise it is cleared. It is recorded even when ctx is over:
// what happened outside must not be forgotten. Whatever it returns, this process's
// claim has ended; after an error the step counts as found started.
func (l *Ledger) Finish(ctx context.Context, id int64, step string, r Result, to State) error {
	err := l.end(ctx, id, step, func(c *captureRow, s *stepRow, _ time.Time) error {
		if r.DuplicateOf == id {
			return fmt.Errorf("a capture can't be a duplicate of itself")
		}
		s.State, s.owner, s.Note, s.Class, s.Error, s.NotBefore = StepDone, "", r.Note, "", "", time.Time{}
		if r.Skipped {
			s.State = StepSkipped
		}
		c.result.SessionName = or(r.SessionName, c.result.SessionName)
		c.result.SessionID = or(r.SessionID, c.result.SessionID)
		c.result.SessionURL = or(r.SessionURL, c.result.SessionURL)
		c.result.DuplicateOf = or(r.DuplicateOf, c.result.DuplicateOf)
		c.result.PossibleDuplicate = r.PossibleDuplicate || c.result.PossibleDuplicate
		c.reason = ""
		if to != "" {
			c.state = to
		}
		if c.state == Held || c.state == Quarantined || c.state == Failed {
			c.reason = r.Note
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("finish %s of capture %d: %w", step, id, err)
	}
	return nil
}

// or returns v, or old when v is zero.
func or[T comparable](v, old T) T {
	var zero T
	if v == zero {
		return old
	}
	return v
}

// StepFailure is how a step that was claimed failed.
type StepFailure struct {
	Class, Text string
	Permanent   bool      // the step and its capture are failed until Retry
	Uncounted   bool      // the attempt failed for no fault of the capture and does not count
	NotBefore   time.Time // zero: at once; at most MaxWait from now
	// Release: the attempt was interrupted by us and does not count, so that
	// somebody's Ctrl-C never uses up a capture's attempts. Class, Text and
	// NotBefore are ignored and the last real failure stays visible. The next
	// claim is still Restarted: bytes may have left.
	Release bool
}

// Fail records that a claimed step did not end well: it is pending again, or
// failed together with its capture. Text becomes the capture's Reason. Like
// Finish it works when ctx is over and ends the claim in any case.
func (l *Ledger) Fail(ctx context.Context, id int64, step string, f StepFailure) error {
	err := l.end(ctx, id, step, func(c *captureRow, s *stepRow, now time.Time) error {
		if s.State != StepStarted {
			return &TransitionError{Capture: id, Step: step, From: string(s.State), To: string(StepFailed)}
		}
		s.State, s.owner = StepPending, ""
		if f.Release {
			s.Attempts--
			return nil
		}
		if f.Uncounted {
			s.Attempts--
		}
		s.Class, s.Error = f.Class, f.Text
		c.reason = f.Text
		if f.Permanent {
			s.State, s.NotBefore, c.state = StepFailed, time.Time{}, Failed
			return nil
		}
		s.NotBefore = f.NotBefore
		if limit := now.Add(MaxWait); s.NotBefore.After(limit) {
			s.NotBefore = limit
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("record failure of %s of capture %d: %w", step, id, err)
	}
	return nil
}

// end is the common part of Finish and Fail.
func (l *Ledger) end(ctx context.Context, id int64, step string, edit func(c *captureRow, s *stepRow, now time.Time) error) error {
	defer l.setActive(claim{id, step}, false)
	return l.write(context.WithoutCancel(ctx), func(ctx context.Context, tx *txn) error {
		now := l.now()
		return move(ctx, tx, now, id, step, func(c *captureRow, s *stepRow) (stepAction, error) {
			if err := l.mine(s); err != nil {
				return leaveStep, err
			}
			return changeStep, edit(c, s, now)
		})
	})
}

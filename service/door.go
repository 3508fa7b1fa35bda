package service

import (
	"context"
	"slices"
	"sync"
	"time"

	"capagent/internal/failure"
	"capagent/internal/ledger"
)

// Patience bounds what a Door does about failures.
type Patience struct {
	First, Longest time.Duration // between attempts at one capture
	Probe          time.Duration // before the first probe of a destination that failed; doubled each time
	ProbeLongest   time.Duration
	PauseProbe     time.Duration // the same for one that refused (bad token, quota): nobody mends that in a second
	PauseLongest   time.Duration
	Parked         int // attempts after which a capture is parked when others get through meanwhile
	ParkedAlone    int // the same when there was no other to compare with, or the network was the cause
}

// Daemon is the patience of an agent that runs for months.
var Daemon = Patience{
	First: time.Second, Longest: 15 * time.Minute,
	Probe: time.Second, ProbeLongest: 2 * time.Minute,
	PauseProbe: 30 * time.Second, PauseLongest: 10 * time.Minute,
	Parked: 10, ParkedAlone: 100,
}

// DoorState says whether a destination takes captures.
type DoorState string

// The states of a Door.
const (
	DoorOpen    DoorState = "open"
	DoorPaused  DoorState = "paused"
	DoorProbing DoorState = "probing" // it answers again; one capture goes first
)

// Door is the policy of the daemon: it knows whether the destination takes
// captures, and who is to blame for a failure. A failure that is not the
// capture's own pauses the destination for all captures, so that a dead server
// meets one question now and then, not a backlog. When the pause is over the
// owner asks Probe, and after that one capture goes first; a success opens the
// door. A capture that fails while others get through is parked after a while.
type Door struct {
	patience    Patience
	destination string
	ask         func(context.Context) error

	mu          sync.Mutex
	state       DoorState
	cause       *failure.Error // of the pause
	since       time.Time      // of the first failure after the last success
	until       time.Time      // of the pause
	failures    int            // in a row, of the destination
	lastFailed  int64          // the capture that failed last
	lastSuccess time.Time
	changed     chan struct{} // closed and replaced when the state changes
}

// NewDoor returns the door of a destination. ask finds out whether the
// destination answers, without effect there.
func NewDoor(p Patience, destination string, ask func(context.Context) error) *Door {
	return &Door{patience: p, destination: destination, ask: ask, state: DoorOpen, changed: make(chan struct{})}
}

// Resume takes up a pause that an earlier process recorded. A pause without an
// end, or one that lies absurdly far ahead, is probed at once.
func (d *Door) Resume(p ledger.Pause) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.since, d.until = p.Since, p.Until
	if time.Until(p.Until) > ledger.MaxWait {
		d.until = time.Time{}
	}
	d.cause = &failure.Error{Kind: failure.Pause, Class: p.Class, Err: errorText(p.Reason)}
	d.set(DoorPaused)
}

// DoorStatus is a Door at a moment.
type DoorStatus struct {
	State DoorState
	Cause *failure.Error // nil when open
	Since time.Time      // of the first failure; zero when open
	Until time.Time      // when the destination is asked again
}

// Status returns the door's state and a channel that is closed when it changes.
func (d *Door) Status() (DoorStatus, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return DoorStatus{State: d.state, Cause: d.cause, Since: d.since, Until: d.until}, d.changed
}

// Probe asks the destination, whose pause is over or passed over. The pause goes
// on, longer, when it does not answer well; otherwise one capture may try.
func (d *Door) Probe(ctx context.Context) (*ledger.Pause, error) {
	err := d.ask(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		d.set(DoorProbing)
		return nil, nil
	}
	return d.pause(failure.As(err)), nil
}

func (d *Door) closedBy() *failure.Error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state == DoorPaused {
		return forOthers(d.cause)
	}
	return nil
}

func (d *Door) waits() bool { return false }

func (d *Door) succeeded(ledger.Capture) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lastSuccess, d.lastFailed = time.Now(), 0
	d.failures, d.cause, d.since, d.until = 0, nil, time.Time{}, time.Time{}
	d.set(DoorOpen)
}

// ownClasses are failures that say nothing of the destination.
var ownClasses = []string{"unreadable", "changed", "panic", "unknown"}

func (d *Door) failed(f *failure.Error, c ledger.Capture, attempt Attempt) ruling {
	d.mu.Lock()
	defer d.mu.Unlock()
	v := ruling{next: time.Now().Add(max(delay(d.patience.First, d.patience.Longest, 2, attempt.Ever), f.RetryAfter))}
	own := slices.Contains(ownClasses, f.Class)
	others := !attempt.Before.IsZero() && !d.lastSuccess.Before(attempt.Before)
	switch {
	case f.Kind == failure.Permanent:
		v.permanent = true
		if !own && d.state != DoorOpen { // it judged a capture, so it works
			d.failures, d.cause, d.since, d.until = 0, nil, time.Time{}, time.Time{}
			d.set(DoorOpen)
		}
		return v
	case f.Kind == failure.Pause, f.RetryAfter > 0:
		v.uncounted = true
		v.pause = d.pause(f)
	case own, c.ID == d.lastFailed, others:
		// Nobody else has the trouble: this capture waits, the others go on.
		if d.state == DoorProbing {
			d.set(DoorOpen)
		}
	default:
		v.uncounted = true
		v.pause = d.pause(f)
	}
	d.lastFailed = c.ID
	most := d.patience.ParkedAlone
	if others && f.Class != "network" { // on a bad line the large ones fail, for no fault of theirs
		most = d.patience.Parked
	}
	v.permanent = !v.uncounted && attempt.Ever >= most
	return v
}

// pause closes the door until the next probe and returns what to record.
func (d *Door) pause(f *failure.Error) *ledger.Pause {
	now := time.Now()
	d.failures++
	if d.since.IsZero() {
		d.since = now
	}
	first, longest := d.patience.Probe, d.patience.ProbeLongest
	if f.Kind == failure.Pause {
		first, longest = d.patience.PauseProbe, d.patience.PauseLongest
	}
	d.cause = f
	d.until = now.Add(min(max(delay(first, longest, 2, d.failures), f.RetryAfter), ledger.MaxWait))
	d.set(DoorPaused)
	return &ledger.Pause{
		Destination: d.destination, Class: f.Class, Reason: forOthers(f).Error(),
		Since: d.since.UTC(), Until: d.until.UTC(),
	}
}

// set changes the state, and tells those who wait for that. A pause that is
// renewed is a change too.
func (d *Door) set(s DoorState) {
	if d.state == s && s != DoorPaused {
		return
	}
	d.state = s
	close(d.changed)
	d.changed = make(chan struct{})
}

type errorText string

func (e errorText) Error() string { return string(e) }

// Hurry ends a pause now: something was changed, and it is worth a question.
func (d *Door) Hurry() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state == DoorPaused {
		d.until = time.Time{}
		d.set(DoorPaused)
	}
}

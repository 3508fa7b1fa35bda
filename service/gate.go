package service

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"capagent/internal/failure"
	"capagent/internal/ledger"
)

// Retrying bounds what a Gate does about failures that may pass.
type Retrying struct {
	First    time.Duration // delay before the second attempt; the later ones grow from it, with jitter
	Longest  time.Duration // no delay is longer
	Attempts int           // of one capture, in this process
	Patience time.Duration // how long a destination may fail without a success between
}

// OneShot is the patience of a person who waits at a terminal.
var OneShot = Retrying{First: 500 * time.Millisecond, Longest: 10 * time.Second, Attempts: 6, Patience: 30 * time.Second}

// Gate is the policy of a command that somebody waits for. It closes the
// destination to every capture: at once for a failure of kind Pause, and after
// patience runs out while nothing succeeds. One capture that always fails closes
// nothing as long as others get through. What is closed stays closed.
type Gate struct {
	retrying Retrying

	mu     sync.Mutex
	since  time.Time // first failure after the last success
	closed *failure.Error
}

// NewGate returns an open gate.
func NewGate(r Retrying) *Gate { return &Gate{retrying: r} }

func (g *Gate) closedBy() *failure.Error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

func (g *Gate) waits() bool { return true }

func (g *Gate) succeeded(ledger.Capture) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.since = time.Time{}
}

func (g *Gate) failed(f *failure.Error, c ledger.Capture, attempt Attempt) ruling {
	now := time.Now()
	v := ruling{
		next:      now.Add(max(delay(g.retrying.First, g.retrying.Longest, 1.5, attempt.InProcess), f.RetryAfter)),
		permanent: f.Kind == failure.Permanent,
	}
	if v.permanent {
		return v
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.since.IsZero() {
		g.since = now
	}
	if g.closed == nil && (f.Kind == failure.Pause || v.next.Sub(g.since) > g.retrying.Patience) {
		g.closed = forOthers(f)
	}
	if f.Kind == failure.Pause {
		v.pause = &ledger.Pause{Destination: c.Destination, Class: f.Class, Reason: f.Error(), Since: now.UTC()}
	}
	v.again = g.closed == nil && attempt.InProcess < g.retrying.Attempts
	return v
}

// delay returns how long to wait after the nth failure: first, then factor times
// as long each time, never more than longest, each half as much more or less.
func delay(first, longest time.Duration, factor float64, n int) time.Duration {
	delays := backoff.NewExponentialBackOff()
	delays.InitialInterval, delays.MaxInterval, delays.Multiplier = first, longest, factor
	for range min(n, 64) - 1 {
		delays.NextBackOff()
	}
	return delays.NextBackOff()
}

// forOthers says f to captures that never met it: the cause, without the name
// of the one that did.
func forOthers(f *failure.Error) *failure.Error {
	cause := errors.Unwrap(f.Err)
	if cause == nil {
		cause = f.Err
	}
	other := *f
	other.Err = fmt.Errorf("not sent: %w", cause)
	return &other
}

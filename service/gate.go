package service

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"capagent/internal/failure"
)

// gate closes a destination to every capture: at once for a failure of kind
// Pause, and after patience runs out while nothing succeeds. One capture that
// always fails closes nothing as long as others get through.
type gate struct {
	patience time.Duration
	now      func() time.Time

	mu     sync.Mutex
	since  time.Time // first failure after the last success
	closed *failure.Error
}

// closedBy returns what closed the gate, or nil.
func (g *gate) closedBy() *failure.Error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

func (g *gate) succeeded() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.since = time.Time{}
}

// failed takes note of a failure and reports whether the gate is now closed.
// next is when the capture wants to be tried again.
func (g *gate) failed(f *failure.Error, next time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.since.IsZero() {
		g.since = g.now()
	}
	if g.closed == nil && (f.Kind == failure.Pause || next.Sub(g.since) > g.patience) {
		g.closed = forOthers(f)
	}
	return g.closed != nil
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

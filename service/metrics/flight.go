package metrics

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	answerTimeout = 5 * time.Second // of the agent, to one question
	endTimeout    = 5 * time.Second // for calls to notice that Run ends
)

var (
	errSlow   = fmt.Errorf("the agent did not answer within %v", answerTimeout)
	errEnding = errors.New("the agent ends")
)

// calls counts what has to end before Run does.
type calls struct {
	mu      sync.Mutex
	closing bool
	under   sync.WaitGroup
}

// enter counts a call, unless it comes too late.
func (c *calls) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing {
		c.under.Add(1)
	}
	return !c.closing
}

func (c *calls) leave() { c.under.Done() }

// ended waits for the last call, for a while.
func (c *calls) ended() error {
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	done := make(chan struct{})
	go func() {
		c.under.Wait()
		close(done)
	}()
	timer := time.NewTimer(endTimeout)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
		return errors.New("metrics: a call did not end in time")
	}
}

// flight asks the agent one question. Who asks while an answer is under way gets
// that one, so that an agent that hangs is asked once, however often it is scraped.
type flight[T any] struct {
	calls *calls
	ask   func() (T, error)

	mu  sync.Mutex
	now *answer[T]
}

type answer[T any] struct {
	done  chan struct{}
	value T
	err   error
}

// newFlight returns a flight for as long as ctx is not done.
func newFlight[T any](ctx context.Context, c *calls, ask func(context.Context) (T, error)) *flight[T] {
	return &flight[T]{calls: c, ask: func() (v T, err error) {
		ctx, cancel := context.WithTimeout(ctx, answerTimeout)
		defer cancel()
		defer func() {
			if cause := recover(); cause != nil { // to be measured must not be the agent's end
				err = fmt.Errorf("panic: %v", cause)
			}
		}()
		return ask(ctx)
	}}
}

// get returns the answer, or an error when it does not come in time.
func (f *flight[T]) get(ctx context.Context) (none T, err error) {
	timer := time.NewTimer(answerTimeout)
	defer timer.Stop()
	a := f.join()
	if a == nil {
		return none, errEnding
	}
	select {
	case <-a.done:
		return a.value, a.err
	case <-timer.C:
		return none, errSlow
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// join returns the answer that is under way, and sees to it that one is.
func (f *flight[T]) join() *answer[T] {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.now != nil {
		return f.now
	}
	if !f.calls.enter() {
		return nil
	}
	a := &answer[T]{done: make(chan struct{})}
	f.now = a
	go func() {
		defer f.calls.leave()
		a.value, a.err = f.ask()
		f.mu.Lock()
		f.now = nil
		f.mu.Unlock()
		close(a.done)
	}()
	return a
}

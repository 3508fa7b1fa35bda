package service

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/service/metrics/observe"
)

// ErrNotNow says that a capture is not to be tried at this moment: another
// process is on it, or its time has not come.
var ErrNotNow = errors.New("not now")

// Pipeline takes captures through the steps, in order. It alone claims, retries
// and records: a step only acts. Process may be called from several goroutines.
type Pipeline struct {
	Ledger *ledger.Ledger
	Steps  []Step
	Log    zerolog.Logger

	observer *observe.Observer // nil: nobody counts

	policy Policy
	paused atomic.Bool // a pause may be recorded
}

// Policy decides what failures mean for the attempts that follow. A person at a
// terminal (Gate) and a daemon (Door) have different patience.
type Policy interface {
	// closedBy returns why no capture is tried now, or nil.
	closedBy() *failure.Error
	// waits says whether a claim is waited for, however long its time is off.
	waits() bool
	succeeded(c ledger.Capture)
	// failed judges a failure of c; attempt counts from 1.
	failed(f *failure.Error, c ledger.Capture, attempt Attempt) ruling
}

// Attempt counts the attempts at one step of one capture.
type Attempt struct {
	InProcess int       // by this call
	Ever      int       // as the ledger counts them
	Before    time.Time // when the last one before this failed, zero when none did
}

// ruling is what follows a failure.
type ruling struct {
	next      time.Time // no attempt before
	permanent bool      // the capture is parked
	uncounted bool      // the capture is not to blame
	again     bool      // wait until next, then try again
	pause     *ledger.Pause
}

// NewPipeline returns a Pipeline over steps.
func NewPipeline(l *ledger.Ledger, policy Policy, log zerolog.Logger, steps ...Step) *Pipeline {
	p := &Pipeline{Ledger: l, Steps: steps, Log: log, policy: policy}
	p.paused.Store(true) // by an earlier process
	return p
}

// Closed returns why the destination takes no more captures, or nil.
func (p *Pipeline) Closed() error {
	if f := p.policy.closedBy(); f != nil {
		return f
	}
	return nil
}

// Process takes capture id through every step that it has not been through and
// returns its record as it then is. The error is the failure that stopped it,
// as recorded: the capture is then failed (failure.Permanent) or still queued. A
// capture that was parked before, or by another process, is an error too: no
// error means a session.
func (p *Pipeline) Process(ctx context.Context, id int64) (ledger.Capture, error) {
	var stopped error
	for i, step := range p.Steps {
		var to ledger.State // the capture moves on only behind the last step
		if i == len(p.Steps)-1 {
			to = ledger.Done
		}
		if stopped = p.step(ctx, id, step, to); stopped != nil {
			break
		}
	}
	c, err := p.Ledger.Get(context.WithoutCancel(ctx), id)
	if stopped == nil && err == nil && c.SessionID == "" {
		stopped = Parked(c)
	}
	return c, errors.Join(stopped, err)
}

// Parked is the failure of a capture that has no session and that nothing is
// going to send.
func Parked(c ledger.Capture) *failure.Error {
	reason := c.Reason
	if reason == "" {
		reason = "the capture is " + string(c.State)
	}
	f := &failure.Error{Kind: failure.Permanent, Class: "parked", Err: errors.New(reason)}
	if c.State == ledger.Failed {
		f.Hint = "`capagent retry` with its ID tries it again"
	}
	return f
}

// Each processes the captures ids with so many workers, in order. ended is told
// of each by its index, from several goroutines. Failures are the captures'
// own: the error is that of a cancelled ctx.
func (p *Pipeline) Each(ctx context.Context, ids []int64, workers int, ended func(i int, c ledger.Capture, err error)) error {
	var group errgroup.Group
	group.SetLimit(max(1, workers))
	for i, id := range ids {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			c, err := p.Process(ctx, id)
			ended(i, c, err)
			return nil
		})
	}
	_ = group.Wait() // no function returns an error
	return ctx.Err()
}

// step runs one step until it ends, or the policy wants no further attempt.
func (p *Pipeline) step(ctx context.Context, id int64, step Step, to ledger.State) error {
	for attempt := 1; ; attempt++ {
		if err := p.Closed(); err != nil {
			return err
		}
		begun, err := p.claim(ctx, id, step.Name())
		if err != nil {
			return err
		}
		switch begun.Outcome {
		case ledger.Finished:
			return nil
		case ledger.Duplicate:
			return p.adopt(ctx, id, begun.Other, step.Name(), to)
		}
		again, err := p.attempt(ctx, id, step, begun, to, attempt)
		if !again {
			return err
		}
	}
}

// claim begins a step. A patient policy waits while another process (or another
// goroutine) is sending the same content, and passes over a wait that an earlier
// process recorded: a person asks for the capture now.
func (p *Pipeline) claim(ctx context.Context, id int64, step string) (ledger.Begun, error) {
	const look = 200 * time.Millisecond
	begin := p.Ledger.Begin
	if p.policy.waits() {
		begin = p.Ledger.BeginNow
	}
	for {
		begun, err := begin(ctx, id, step)
		busy := begun.Outcome == ledger.Busy || begun.Outcome == ledger.Waiting
		if err != nil || !busy {
			return begun, err
		}
		if !p.policy.waits() {
			return begun, ErrNotNow
		}
		p.Log.Debug().Int64("capture", id).Int64("other", begun.Other).Msg("the same content is being sent; waiting for that")
		if err := wait(ctx, look); err != nil {
			return begun, err
		}
	}
}

// attempt runs a claimed step once and records how it went. again says that it
// waited and wants another turn.
func (p *Pipeline) attempt(ctx context.Context, id int64, step Step, begun ledger.Begun, to ledger.State, attempt int) (again bool, err error) {
	record := context.WithoutCancel(ctx)
	c, err := p.Ledger.Get(record, id)
	if err != nil {
		// The claim must not outlive this attempt.
		return false, errors.Join(err, p.Ledger.Fail(record, id, step.Name(), ledger.StepFailure{Release: true}))
	}
	log := p.Log.With().Int64("capture", id).Str("step", step.Name()).Int("attempt", begun.Attempt).Logger()
	began := time.Now()
	result, err := p.act(ctx, step, c, begun.Restarted, log)
	if ctx.Err() == nil { // else it was not let end
		p.observer.Step(step.Name(), outcome(result, err), time.Since(began))
	}
	if err == nil {
		p.reopen(record, c)
		log.Debug().Str("session", result.SessionID).Str("note", result.Note).Msg("step done")
		return false, p.Ledger.Finish(record, id, step.Name(), result, to)
	}
	if ctx.Err() != nil {
		return false, errors.Join(ctx.Err(), p.Ledger.Fail(record, id, step.Name(), ledger.StepFailure{Release: true}))
	}
	f := failure.As(err)
	v := p.policy.failed(f, c, Attempt{InProcess: attempt, Ever: begun.Attempt, Before: begun.Failed})
	log.Debug().Str("class", f.Class).Stringer("kind", f.Kind).Time("not_before", v.next).Msg(f.Error())
	err = errors.Join(
		p.Ledger.Fail(record, id, step.Name(), ledger.StepFailure{
			Class: f.Class, Text: f.Error(), Permanent: v.permanent, NotBefore: v.next, Uncounted: v.uncounted,
		}),
		p.pause(record, v.pause))
	if err != nil || !v.again {
		return false, errors.Join(f, err)
	}
	delay := time.Until(v.next)
	log.Warn().Str("class", f.Class).Dur("delay", delay).Msg(f.Error() + "; trying again")
	return true, wait(ctx, delay)
}

// outcome is how a step ended, in a word.
func outcome(r ledger.Result, err error) string {
	switch {
	case err != nil:
		return failure.As(err).Kind.String()
	case r.Skipped:
		return "skipped"
	default:
		return "done"
	}
}

// pause records, for everyone who asks later, that a destination is closed.
func (p *Pipeline) pause(ctx context.Context, pause *ledger.Pause) error {
	if pause == nil {
		return nil
	}
	p.paused.Store(true)
	return p.Ledger.SetPause(ctx, *pause)
}

// reopen takes note of a success, and takes back what was recorded with pause.
func (p *Pipeline) reopen(ctx context.Context, c ledger.Capture) {
	p.policy.succeeded(c)
	if !p.paused.CompareAndSwap(true, false) {
		return
	}
	if err := p.Ledger.ClearPause(ctx, c.Destination); err != nil {
		p.Log.Warn().Err(err).Msg("the pause stays recorded")
	}
}

// A step must end within leastDeadline and the time that the capture takes at
// slowest bytes a second: nothing hangs for ever, and no thin line is cut off.
const (
	leastDeadline = time.Hour
	slowest       = 4 << 10
)

// act looks before it repeats, and turns a panic into the step's own failure.
func (p *Pipeline) act(ctx context.Context, step Step, c ledger.Capture, restarted bool, log zerolog.Logger) (result ledger.Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, leastDeadline+time.Duration(c.Size/slowest)*time.Second)
	defer cancel()
	defer func() {
		if cause := recover(); cause != nil {
			log.Error().Bytes("stack", debug.Stack()).Msgf("panic: %v", cause)
			err = &failure.Error{
				Kind: failure.Permanent, Class: "panic",
				Hint: "please report this with the log; the capture is kept",
				Err:  fmt.Errorf("step %s of capture %d: panic: %v", step.Name(), c.ID, cause),
			}
		}
	}()
	if finder, ok := step.(Finder); ok && restarted {
		result, found, err := finder.Find(ctx, c)
		if err != nil || found {
			return result, err
		}
	}
	return step.Run(ctx, c)
}

// adopt gives capture id the session of the capture that has the same content.
func (p *Pipeline) adopt(ctx context.Context, id, other int64, step string, to ledger.State) error {
	o, err := p.Ledger.Get(ctx, other)
	if err != nil {
		return err
	}
	return p.Ledger.Finish(ctx, id, step, ledger.Result{
		Skipped: true, Note: fmt.Sprintf("same content as capture %d", other), DuplicateOf: other,
		SessionName: o.SessionName, SessionID: o.SessionID, SessionURL: o.SessionURL,
	}, to)
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

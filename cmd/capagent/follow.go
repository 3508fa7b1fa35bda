package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/internal/quote"
	"capagent/service"
	"capagent/service/control"
	"capagent/upload"
)

// follower tells what becomes of captures that the agent sends.
type follower struct {
	app    *app
	client *control.Client
	before control.DestinationState // as it was when the agent was asked
	left   []followed               // that have not ended, in the order of their numbers
	next   int                      // in left: where to look next
	moving bool                     // one of them is being uploaded, or has ended just now
	bar    *progress
	total  int64 // bytes of those that have ended
	drawn  int64
	tally  tally
}

// followed is what is kept of each capture: there may be very many.
type followed struct {
	id, size int64
	path     string
}

const lookAgain = 250 * time.Millisecond

// retryThere has the agent send captures, and follows them.
func (a *app) retryThere(ctx context.Context, client *control.Client, args []string, all bool) error {
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	f := &follower{app: a, client: client}
	if status.Agent != nil {
		f.before = status.Agent.Destination
	}
	var ids []int64
	if len(args) == 1 {
		v, err := client.Show(ctx, args[0])
		if err != nil {
			return fmt.Errorf("retry %s: %w", quote.Path(args[0]), err)
		}
		if to := deref(v.Destination); to != status.Destination {
			return meantFor(args[0], to)
		}
		ids = []int64{*v.ID}
		f.add(v)
	} else if err := f.addAll(ctx, status.Destination, all); err != nil {
		return err
	}
	if len(f.left) == 0 {
		a.say("nothing is queued")
		return nil
	}
	if _, err := client.Retry(ctx, ids, all); err != nil {
		return stopped(ctx, fmt.Errorf("retry: %w", err)) // it may have been asked
	}
	return f.run(ctx)
}

func (f *follower) add(v service.View) {
	f.left = append(f.left, followed{*v.ID, v.Size, v.Path})
}

func (f *follower) addAll(ctx context.Context, destination string, all bool) error {
	filter := ledger.Filter{States: []ledger.State{ledger.Queued}, Destination: destination}
	if all {
		filter.States = append(filter.States, ledger.Failed)
	}
	for v, err := range f.client.List(ctx, filter) {
		if err != nil {
			return err
		}
		f.add(v)
	}
	return nil
}

// run follows until all have ended, the destination refuses, or --wait is over:
// so long may nothing be on its way.
func (f *follower) run(ctx context.Context) error {
	var bytes int64
	for _, c := range f.left {
		bytes += c.size
	}
	f.bar = f.app.newProgress("uploading", bytes)
	defer f.bar.clear()
	over := time.NewTimer(f.app.flags.wait)
	defer over.Stop()
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for {
		f.bar.describe(fmt.Sprintf("the agent sends, %d to go", len(f.left)))
		door, err := f.look(ctx)
		if f.moving {
			over.Reset(f.app.flags.wait)
		}
		if err == nil && len(f.left) > 0 && !f.refused(door) {
			select {
			case <-ctx.Done():
				err = ctx.Err()
			case <-again.C:
				continue
			case <-over.C:
			}
		}
		if err == nil && len(f.left) > 0 {
			err = f.giveUp(ctx, door)
		}
		f.bar.clear()
		if err != nil {
			return stopped(ctx, err)
		}
		return f.tally.err()
	}
}

// look tells of captures that have ended since, and returns how the agent's
// destination fares.
func (f *follower) look(ctx context.Context) (control.DestinationState, error) {
	var door control.DestinationState
	status, err := f.client.Status(ctx)
	if err != nil {
		return door, err
	}
	if f.next >= len(f.left) {
		f.next = 0
	}
	window := f.left[f.next:min(f.next+control.MaxIDs, len(f.left))]
	ids := make([]int64, len(window))
	for i, c := range window {
		ids[i] = c.id
	}
	queued := make(map[int64]bool, len(window))
	for v, err := range f.client.List(ctx, ledger.Filter{IDs: ids, States: []ledger.State{ledger.Queued}}) {
		if err != nil {
			return door, err
		}
		queued[*v.ID] = true
	}
	f.moving = false
	kept := f.next
	for _, c := range window {
		if queued[c.id] {
			f.left[kept] = c
			kept++
		} else if err := f.ended(ctx, c); err != nil {
			return door, err
		}
	}
	f.left = slices.Delete(f.left, kept, f.next+len(window))
	f.next = kept
	if status.Agent != nil {
		door = status.Agent.Destination
		f.draw(status.Agent.Uploading)
	}
	return door, nil
}

// ended reports one capture that is not queued any more.
func (f *follower) ended(ctx context.Context, c followed) error {
	v, err := f.client.Show(ctx, fmt.Sprint(c.id))
	if err != nil {
		return err
	}
	f.total += c.size
	f.moving = true
	return f.report(c, v, becameOf(v))
}

func (f *follower) report(c followed, v service.View, failed error) error {
	f.bar.clear()
	f.tally.add(failed)
	return f.app.report(c.path, v, failed)
}

// becameOf is the failure of a capture that has ended, nil where it has a session.
func becameOf(v service.View) error {
	if v.SessionURL != nil && (v.State == ledger.Done || v.State == ledger.Purged) {
		return nil
	}
	f := service.Parked(ledger.Capture{State: v.State, Reason: deref(v.Error)})
	if last := lastFailed(v); last != nil && v.State == ledger.Failed {
		f.Class, f.Hint = deref(last.Class), upload.Hint(deref(last.Class))
	}
	return f
}

// lastFailed returns the step that stands in a capture's way.
func lastFailed(v service.View) *service.StepView {
	for i := len(v.Steps) - 1; i >= 0; i-- {
		if v.Steps[i].Class != nil {
			return &v.Steps[i]
		}
	}
	return nil
}

// refused says that the destination takes nothing until somebody mends
// something, and has said so since the agent was asked.
func (f *follower) refused(d control.DestinationState) bool {
	renewed := f.before.State != service.DoorPaused || deref(d.Until) != deref(f.before.Until)
	return d.State == service.DoorPaused && deref(d.Kind) == failure.Pause.String() && renewed
}

// giveUp says of every capture that is left why it is still queued.
func (f *follower) giveUp(ctx context.Context, door control.DestinationState) error {
	queued := 0
	for _, c := range f.left {
		v, err := f.client.Show(ctx, fmt.Sprint(c.id))
		if err != nil {
			return err
		}
		failed := becameOf(v)
		if v.State == ledger.Queued {
			failed = stillQueued(v, door)
			queued++
		}
		if err := f.report(c, v, failed); err != nil {
			return err
		}
	}
	if queued > 0 {
		f.app.say("%s queued; the agent goes on trying", count(queued, "capture"))
	}
	return nil
}

// stillQueued is why a capture was not sent: for what it met itself, or for what
// keeps all of them.
func stillQueued(v service.View, door control.DestinationState) error {
	class, text, hint := "queued", "not sent yet; it is queued", ""
	if last := lastFailed(v); last != nil && v.Error != nil {
		class, text = deref(last.Class), *v.Error
		hint = upload.Hint(class)
	}
	if door.State == service.DoorPaused && class != deref(door.Class) {
		class, text, hint = deref(door.Class), deref(door.Reason), deref(door.Hint)
	}
	return &failure.Error{Class: class, Hint: hint, Err: errors.New(text)}
}

// draw moves the bar to what has ended and what is on its way, and notes whether
// anything is.
func (f *follower) draw(uploading []control.Uploading) {
	sent := f.total
	for _, u := range uploading {
		if i, ours := slices.BinarySearchFunc(f.left, u.ID, func(c followed, id int64) int { return cmp.Compare(c.id, id) }); ours {
			sent += min(deref(u.Sent), f.left[i].size)
			f.moving = true
		}
	}
	if sent > f.drawn {
		f.bar.add(sent - f.drawn)
		f.drawn = sent
	}
}

// stopped says what the end of following means: never the end of sending.
func stopped(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return exitWith(exitInterrupted, errors.New("interrupted; the agent goes on, and `capagent ls` lists the links"))
	case errors.Is(err, control.ErrNoAgent), errors.Is(err, control.ErrGone):
		return exitWith(exitQueued, errors.New("the agent has stopped; it goes on with what is queued when it runs again"))
	default:
		return err
	}
}

package cloudshare

import (
	"context"
	"errors"
	"fmt"
	"time"

	"capagent/internal/failure"
)

// running is one environment that is being preserved.
type running struct {
	sight
	p        *Preserver
	id       string
	reason   string
	progress func(Step)
}

// tell reports a step. What is done to an environment is in the log, too.
func (r *running) tell(name, state, text string) {
	r.progress(Step{name, state, text})
	if name != StepCheck && state != Skipped && state != Begun {
		r.p.log.Info().Str("environment", r.id).Str("step", name).Str("state", state).Str("reason", r.reason).Msg("CloudShare: " + text)
	}
}

// failed reports that a step failed.
func (r *running) failed(name string, err error) error {
	r.tell(name, Failed, err.Error())
	return about(name, err)
}

func (r *running) all(ctx context.Context) error {
	var problem error
	if r.resumes {
		r.tell(StepPostpone, Skipped, "done before")
		r.tell(StepExtend, Skipped, "done before")
	} else {
		for _, step := range []func(context.Context) error{r.postpone, r.extend} {
			err := step(ctx)
			if err != nil && !goesOn(err) {
				return err
			}
			problem = first(problem, err)
		}
	}
	if err := r.snapshot(ctx); err != nil {
		return first(problem, err)
	}
	if problem != nil && r.p.conf.Suspend {
		r.tell(StepSuspend, Skipped, "not after a step that failed")
		return problem
	}
	return first(problem, r.suspend(ctx))
}

func (r *running) postpone(ctx context.Context) error {
	if err := r.p.put(ctx, postponeInactivity, r.id); err != nil {
		return r.failed(StepPostpone, err)
	}
	r.tell(StepPostpone, Done, "the suspension for inactivity is postponed")
	return nil
}

// extend extends the lease where it ends soon. Only a later end is a success: it is read
// again whatever CloudShare answered.
func (r *running) extend(ctx context.Context) error {
	text, needed := r.p.lease(r.env)
	if !needed {
		r.tell(StepExtend, Skipped, text)
		return nil
	}
	asked := r.p.put(ctx, extendLease, r.id)
	if asked != nil && goesOn(asked) {
		return r.failed(StepExtend, asked)
	}
	after, err := r.p.environment(ctx, r.id)
	switch {
	case err != nil:
		return r.failed(StepExtend, first(asked, err))
	case after.Expires.After(r.env.Expires):
		r.tell(StepExtend, Done, "it expires "+stamp(after.Expires)+" instead of "+stamp(r.env.Expires))
		return nil
	case asked != nil:
		return r.failed(StepExtend, asked)
	}
	return r.failed(StepExtend, fail(ClassNoChange, errors.New("CloudShare took the request, and it expires "+stamp(after.Expires)+" as before")))
}

// snapshot takes one, once: its name is on the disk before CloudShare is asked, and whoever
// finds the name there looks for the snapshot before asking.
func (r *running) snapshot(ctx context.Context) error {
	if r.resumes {
		r.tell(StepSnapshot, Begun, "looking for "+r.record.Snapshot+", which was begun before")
		sent := r.record.Begun
		if now := r.p.now(); sent.After(now) {
			sent = now
		}
		if found, err := r.confirm(ctx, sent, false); err != nil || found {
			return err
		}
		if len(r.list) >= maxKept {
			return r.failed(StepSnapshot, fail(ClassWouldEvict, fmt.Errorf("there are %d snapshots: one more would displace the oldest", len(r.list))))
		}
	} else {
		now := r.p.now()
		r.record = record{Snapshot: newName(r.p.c.theirNow()), Begun: now, Reason: r.reason}
		if err := r.keep(r.record); err != nil {
			return r.failed(StepSnapshot, err)
		}
	}
	r.tell(StepSnapshot, Begun, "taking "+r.record.Snapshot)
	sent := r.p.now()
	asked := r.p.take(ctx, r.id, r.record.Snapshot, "capagent: "+r.reason)
	if status := statusOf(asked); status >= 400 && status < 500 { // surely not taken
		return r.failed(StepSnapshot, first(r.keep(record{}), asked))
	}
	if ctx.Err() != nil {
		return r.failed(StepSnapshot, canceled(ctx.Err()))
	}
	found, err := r.confirm(ctx, sent, true)
	if err == nil && !found {
		text := "it is not among the environment's snapshots"
		if asked != nil {
			text += ": " + failure.As(asked).Error()
		}
		err = r.failed(StepSnapshot, fail(ClassUnconfirmed, errors.New(r.record.Snapshot+": "+text)))
	}
	return err
}

func (r *running) keep(one record) error { return r.state.set(r.p.path, r.id, one, r.p.now()) }

// confirm waits until no snapshot is being taken, and says whether ours is there. A
// failure is reported.
func (r *running) confirm(ctx context.Context, sent time.Time, waits bool) (bool, error) {
	begun := r.p.now()
	var trouble error // that is hoped to pass
	for ; ; waits = true {
		if waits {
			if err := r.pause(ctx, trouble); err != nil {
				return false, r.failed(StepSnapshot, err)
			}
		}
		found, busy, err := r.there(ctx)
		now := r.p.now()
		switch {
		case err != nil && (failure.As(err).Kind != failure.Retry || ctx.Err() != nil):
			return false, r.failed(StepSnapshot, err)
		case found:
			return true, r.confirmed()
		case now.Sub(begun) >= r.p.patience:
			return false, r.failed(StepSnapshot, fail(ClassUnconfirmed, first(err, fmt.Errorf("%s is still being taken after %s", r.record.Snapshot, r.p.patience))))
		case err == nil && !busy && now.Sub(sent) >= r.p.settle:
			return false, nil
		}
		if trouble = err; waits {
			r.tell(StepSnapshot, Begun, "waiting for "+r.record.Snapshot+": "+now.Sub(begun).Round(time.Second).String()+" so far")
		}
	}
}

// pause waits until the next look.
func (r *running) pause(ctx context.Context, trouble error) error {
	wait := r.p.poll
	if f := failure.As(trouble); f != nil {
		wait = max(wait, min(f.RetryAfter, r.p.patience))
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return canceled(ctx.Err())
	}
}

// there reads whether our snapshot is there, and whether one is being taken.
func (r *running) there(ctx context.Context) (found, busy bool, err error) {
	e, err := r.p.environment(ctx, r.id)
	if err != nil {
		return false, false, err
	}
	r.env = e
	if e.Status == statusSnapshot {
		return false, true, nil
	}
	list, err := r.p.snapshots(ctx, r.id)
	if err != nil {
		return false, false, err
	}
	r.list = list
	return r.has(r.record.Snapshot), false, nil
}

func (r *running) confirmed() error {
	r.record.Done = r.p.now()
	if err := r.keep(r.record); err != nil {
		return r.failed(StepSnapshot, err)
	}
	text := fmt.Sprintf("%s is there (%d of %d)", r.record.Snapshot, len(r.list), maxKept)
	for _, one := range r.list {
		if one.Name == r.record.Snapshot && one.IsDefault {
			text += "; CloudShare made it the default, although it was asked not to: new labs begin with it until that is undone in its console"
		}
	}
	r.tell(StepSnapshot, Done, text)
	return nil
}

// suspend is the last step. What is known of the environment was read after the snapshot.
func (r *running) suspend(ctx context.Context) error {
	if why := r.p.staysUp(&r.env); why != "" {
		r.tell(StepSuspend, Skipped, why)
		return nil
	}
	if err := r.p.put(ctx, suspendEnvironment, r.id); err != nil {
		return r.failed(StepSuspend, err)
	}
	r.tell(StepSuspend, Done, "CloudShare suspends the environment")
	return nil
}

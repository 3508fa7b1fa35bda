package service

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"capagent/enrich/cado"
	"capagent/internal/failure"
	"capagent/internal/instance"
	"capagent/internal/ledger"
)

// Deliverer brings captures to another place than CloudShark, once they have a
// session, or does something there because of one. It is called again after a crash
// with the Progress that was saved last, and must not do anything twice.
type Deliverer interface {
	// Name is that of its deliveries: "cado".
	Name() string
	// Wants says of which captures it is told: of all, or of those with findings.
	Wants() (all, flagged bool)
	// Deliver goes on with a delivery, and sets its Note, Link and Progress. An error of
	// kind Retry says when to come again, by RetryAfter; nil that it is over.
	Deliver(ctx context.Context, c ledger.Capture, d *ledger.Delivery, save func() error) error
	Close()
}

// deliverers are those that are configured.
func (a *Agent) deliverers(version string) error {
	if cfg := a.Config; cfg.Cado.URL != "" && cfg.Cado.Import != cado.Never {
		c, err := newImporting(a, version)
		if err != nil {
			return err
		}
		a.Deliverers = append(a.Deliverers, c)
	}
	if cfg := a.Config.CloudShare; cfg.APIID != "" && cfg.PreserveFlagged {
		keep, err := NewPreserver(a.Config, version, a.log)
		if err != nil {
			return err
		}
		a.Deliverers = append(a.Deliverers, &preserving{a, keep})
	}
	if cfg := a.Config.CloudTrax; cfg.Key != "" && len(cfg.BlockOn) > 0 {
		a.Deliverers = append(a.Deliverers, &blocking{a, a.blocks, cfg.BlockOn})
	}
	return nil
}

// errNotWanted ends a delivery that there is no reason for.
var errNotWanted = errors.New("not wanted")

// ClassRunning is a delivery that goes on over there: no failure.
const ClassRunning = "running"

// How deliveries are tried again.
const (
	deliverAgain  = time.Minute // doubled with each failure
	deliverRarely = time.Hour
	deliverPause  = 5 * time.Minute // when the destination takes nothing from anybody
	deliverMost   = 50              // failures until a person is needed
	deliverAtOne  = 20
)

// Deliveries names those that a capture is registered for whose life begins in that
// state.
func (a *Agent) Deliveries(state ledger.State) (names []string) {
	if state == ledger.Quarantined || state == ledger.Done || state == ledger.Failed {
		return nil
	}
	for _, d := range a.Deliverers {
		if all, _ := d.Wants(); all {
			names = append(names, d.Name())
		}
	}
	return names
}

// deliverFlagged records, before the findings are, what they are the reason for.
func (a *Agent) deliverFlagged(ctx context.Context, id int64, findings int) error {
	if findings == 0 {
		return nil
	}
	for _, d := range a.Deliverers {
		if all, flagged := d.Wants(); flagged && !all {
			if err := a.Ledger.Deliver(ctx, id, d.Name()); err != nil {
				return err
			}
		}
	}
	return nil
}

// Delivering says that a capture's file is still needed.
func (a *Agent) Delivering(ctx context.Context, id int64) bool {
	list, err := a.Ledger.Deliveries(ctx, id)
	return err != nil || slices.ContainsFunc(list, func(d ledger.Delivery) bool { return d.State == ledger.DeliveryPending })
}

// Undeliverable ends the deliveries to what is not configured any more.
func (a *Agent) Undeliverable(ctx context.Context) error {
	for _, name := range []string{deliverCado, deliverPreserve, deliverBlock} {
		if slices.ContainsFunc(a.Deliverers, func(d Deliverer) bool { return d.Name() == name }) {
			continue
		}
		n, err := a.Ledger.SkipDeliveries(ctx, name, "it is not configured any more")
		if err != nil {
			return err
		}
		if n > 0 {
			a.log.Warn().Str("class", name).Int64("captures", n).Msg("what was to be delivered is not, since it is not configured any more")
		}
	}
	return nil
}

// Delivered is told of each delivery that was tried: err is why it did not end, nil
// when it did, well or not.
type Delivered func(c ledger.Capture, d ledger.Delivery, err error)

// DeliverDue carries out what is due for one deliverer, one after the other, and
// returns when to come again; zero when there is nothing to wait for. Where another
// process is at it, it leaves it to that one.
func (a *Agent) DeliverDue(ctx context.Context, by Deliverer, told Delivered) (next time.Time, err error) {
	err = Alone(a.Config, by.Name(), func() error {
		var err error
		next, err = a.deliverDue(ctx, by, told)
		return err
	})
	var taken *instance.TakenError
	if errors.As(err, &taken) {
		return time.Now().Add(deliverAgain), nil
	}
	return next, err
}

// Alone runs f while no other process does something at that platform for this state
// directory; the error is an *instance.TakenError when one does.
func Alone(cfg Config, platform string, f func() error) error {
	lock, err := instance.Lock(filepath.Join(cfg.StateDir(), "deliveries", platform), time.Now())
	if err != nil {
		return fmt.Errorf("%s: %w", platform, err)
	}
	return errors.Join(f(), lock.Release())
}

func (a *Agent) deliverDue(ctx context.Context, by Deliverer, told Delivered) (next time.Time, err error) {
	if until := a.rests.until(by.Name()); time.Now().Before(until) {
		return until, nil // whatever has come meanwhile: it did not answer a moment ago
	}
	for ctx.Err() == nil {
		due, later, err := a.Ledger.DueDeliveries(ctx, by.Name(), deliverAtOne)
		if err != nil || len(due) == 0 {
			return later, err
		}
		for _, d := range due {
			pause, err := a.deliver(ctx, by, d, told)
			a.rests.set(by.Name(), pause)
			if err != nil || !pause.IsZero() {
				return pause, err
			}
		}
	}
	return next, ctx.Err()
}

// HurryDeliveries has those tried at once that rest because their destination did not
// answer.
func (a *Agent) HurryDeliveries() { a.rests.clear() }

// rests are destinations that are left alone for a while.
type rests struct {
	mu   sync.Mutex
	over map[string]time.Time
}

func (r *rests) until(name string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.over[name]
}

func (r *rests) set(name string, until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over == nil {
		r.over = map[string]time.Time{}
	}
	r.over[name] = until
}

func (r *rests) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = nil
}

// deliver goes on with one delivery. The time says that no other should be tried
// before; the error is that of the ledger.
func (a *Agent) deliver(ctx context.Context, by Deliverer, d ledger.Delivery, told Delivered) (pause time.Time, err error) {
	c, err := a.Ledger.Get(ctx, d.Capture)
	if err != nil {
		return pause, err
	}
	failed := by.Deliver(ctx, c, &d, func() error { return a.Ledger.SetDelivery(ctx, d) })
	if ctx.Err() != nil {
		return pause, ctx.Err() // what was saved is known
	}
	now := time.Now()
	f := &failure.Error{}
	if failed != nil {
		f = failure.As(failed)
	}
	if f.Class != ClassRunning && failed != nil && !errors.Is(failed, errNotWanted) {
		d.Attempts++
		d.Class, d.Error = f.Class, f.Error()
	} else {
		d.Class, d.Error = "", ""
	}
	switch {
	case failed == nil:
		d.State = ledger.DeliveryDone
	case errors.Is(failed, errNotWanted):
		d.State, failed = ledger.DeliverySkipped, nil
	case f.Kind == failure.Permanent || d.Attempts >= deliverMost:
		d.State, failed = ledger.DeliveryFailed, nil
	case f.Kind == failure.Pause:
		pause = now.Add(deliverPause)
		d.NotBefore = pause
	default:
		d.NotBefore = now.Add(again(f, d.Attempts))
		if f.Class == ClassRunning {
			break
		}
		pause = now.Add(min(deliverAgain, again(f, d.Attempts))) // it concerns all, more often than not
	}
	if err := a.Ledger.SetDelivery(ctx, d); err != nil {
		return pause, err
	}
	told(c, d, failed)
	if d.State != ledger.DeliveryPending {
		return pause, a.Purge(ctx, c)
	}
	return pause, nil
}

// again is how long to wait after so many failures.
func again(f *failure.Error, attempts int) time.Duration {
	if f.RetryAfter > 0 {
		return f.RetryAfter
	}
	return min(deliverAgain<<min(max(attempts-1, 0), 10), deliverRarely)
}

// DeliverNow carries out what is due, and follows it for as long as that: for commands
// beside which no agent runs. It returns what is left.
func (a *Agent) DeliverNow(ctx context.Context, follow time.Duration, told Delivered) (left int64, err error) {
	until := time.Now().Add(follow)
	for _, by := range a.Deliverers {
		for {
			next, err := a.DeliverDue(ctx, by, told)
			if err != nil {
				return left, err
			}
			if next.IsZero() || next.After(until) {
				break
			}
			if err := wait(ctx, max(time.Until(next), 10*time.Millisecond)); err != nil {
				return left, err
			}
		}
		counts, err := a.Ledger.DeliveryCounts(ctx, by.Name())
		if err != nil {
			return left, err
		}
		left += counts[ledger.DeliveryPending]
	}
	return left, nil
}

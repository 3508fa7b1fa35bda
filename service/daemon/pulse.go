package daemon

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// How long a loop may be silent before it counts as stuck. What a loop waits for
// (packets, work) has an end by itself, so that silence is no idleness.
const (
	silentCapture = 2 * time.Minute  // it is woken by the kernel several times a second; a disk may stall
	silentSender  = 10 * time.Minute // it looks for work every half minute, and may ask a dead server
)

// pulse knows whether the loops go on on which everything depends. It is what the
// service manager's watchdog is fed by.
type pulse struct {
	mu    sync.Mutex
	loops map[*loop]struct{}
}

// loop is one of them.
type loop struct {
	p    *pulse
	name string
	most time.Duration
	last atomic.Int64
}

// begin has a loop watched until its end.
func (p *pulse) begin(name string, most time.Duration) *loop {
	l := &loop{p: p, name: name, most: most}
	l.beat()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.loops == nil {
		p.loops = map[*loop]struct{}{}
	}
	p.loops[l] = struct{}{}
	return l
}

// beat says that the loop goes on. It costs a few nanoseconds besides the clock.
func (l *loop) beat() { l.last.Store(time.Now().UnixNano()) }

func (l *loop) end() {
	l.p.mu.Lock()
	defer l.p.mu.Unlock()
	delete(l.p.loops, l)
}

// stuck returns the loop that is silent for longer than it may be, or nil.
func (p *pulse) stuck(now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.loops {
		if silent := now.Sub(time.Unix(0, l.last.Load())); silent > l.most {
			return fmt.Errorf("%s does not go on: silent for %v", l.name, silent.Round(time.Second))
		}
	}
	return nil
}

// feed tells the watchdog, twice in its time, that the agent is alive, while it is.
func (d *Daemon) feed(ctx context.Context) {
	if d.opts.Watchdog <= 0 || d.opts.Alive == nil {
		return
	}
	tick := time.NewTicker(d.opts.Watchdog / 2)
	defer tick.Stop()
	for {
		if err := d.Healthy(ctx); err == nil {
			d.opts.Alive()
		} else if ctx.Err() == nil {
			d.log.Error().Err(err).Str("class", "stuck").Msg("the watchdog is not fed")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Healthy returns why the agent can't go on by itself, nil while it does: a loop that
// is stuck, or a ledger that does not answer.
func (d *Daemon) Healthy(ctx context.Context) error {
	if err := d.pulse.stuck(time.Now()); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, silentCapture)
	defer cancel()
	if _, err := d.ledger.Counts(ctx); ctx.Err() != nil && err != nil {
		return fmt.Errorf("the ledger does not answer: %w", err)
	}
	return nil // that it fails is a problem that status tells, and no restart helps
}

package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"capagent/capture"
	"capagent/service"
	"capagent/service/control"
)

// captures are the live ones. They outlive generations: a reload goes on with
// those whose configuration stays, without losing a packet.
type captures struct {
	d     *Daemon
	open  capture.Opener
	flows capture.Flows // the agent's own connections
	ready chan struct{} // closed when what a killed agent left is completed

	running sync.WaitGroup // lives, also of captures that are no more in all
	mu      sync.Mutex
	all     []*live // in the configuration's order
	ended   bool
}

// set has these captures run and no others. It does not wait for those that end.
func (c *captures) set(want []service.CaptureConfig) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	before := map[string]*live{} // by name
	for _, l := range c.all {
		before[l.name] = l
	}
	c.all = nil
	var begin []*live
	for _, cfg := range want {
		l := before[cfg.Label()]
		if l != nil && l.config == cfg {
			delete(before, l.name)
			c.all = append(c.all, l)
			continue
		}
		next := newLive(c, cfg)
		if l != nil {
			next.after = l.done
		}
		c.all, begin = append(c.all, next), append(begin, next)
	}
	for _, l := range before {
		l.stop()
	}
	for _, l := range begin {
		ctx, stop := context.WithCancel(context.WithoutCancel(c.d.parent))
		l.stop = stop
		c.running.Go(func() {
			defer stop()
			l.run(ctx)
		})
	}
}

// end ends all captures for good; the channel is closed when their last files
// are sealed.
func (c *captures) end() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	for _, l := range c.all {
		l.stop()
	}
	done := make(chan struct{})
	go func() { c.running.Wait(); close(done) }()
	return done
}

func (c *captures) list() []*live {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all
}

// Rotate ends the open file of one capture, or of all when name is "", and
// returns when what was captured before is recorded.
func (d *Daemon) Rotate(ctx context.Context, name string) ([]control.Rotated, error) {
	all := d.captures.list()
	if len(all) == 0 {
		return nil, &control.Error{Status: 404, Text: "no live capture is configured", Hint: "[[capture]] in the configuration makes one"}
	}
	var some []*live
	var names []string
	for _, l := range all {
		names = append(names, l.name)
		if name == "" || l.name == name {
			some = append(some, l)
		}
	}
	if len(some) == 0 {
		return nil, &control.Error{Status: 404, Text: "no live capture has this name", Hint: fmt.Sprintf("there are %q", names)}
	}
	out := make([]control.Rotated, len(some))
	errs := make([]error, len(some))
	var asked sync.WaitGroup
	for i, l := range some {
		asked.Go(func() { out[i], errs[i] = l.rotateNow(ctx) })
	}
	asked.Wait()
	return out, errors.Join(errs...)
}

// rotateAll is Rotate for a signal.
func (d *Daemon) rotateAll(ctx context.Context) {
	ctx, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	all, err := d.Rotate(ctx, "")
	if err != nil {
		d.log.Warn().Err(err).Msg("not rotated")
	}
	for _, r := range all {
		d.log.Info().Str("name", r.Name).Int("files", r.Files).Msg("rotated")
	}
}

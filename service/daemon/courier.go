package daemon

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/service"
)

// courierIdle is how long nothing is looked for when nothing calls.
const courierIdle = 10 * time.Minute

// courier carries deliveries out: one destination does not wait for another.
type courier struct {
	agent    *service.Agent
	log      zerolog.Logger
	problems *problems
	troubled func(error)
	ended    func(ctx context.Context, c ledger.Capture) // its file may not be needed any more

	wake []chan struct{} // by deliverer
}

func newCourier(a *service.Agent, log zerolog.Logger) *courier {
	c := &courier{agent: a, log: log}
	for range a.Deliverers {
		c.wake = append(c.wake, make(chan struct{}, 1))
	}
	return c
}

// poke has all look for work now.
func (c *courier) poke() {
	for _, wake := range c.wake {
		poke(wake)
	}
}

// run works until ctx is done.
func (c *courier) run(ctx context.Context) {
	if err := c.agent.Undeliverable(ctx); err != nil && ctx.Err() == nil {
		c.troubled(err)
	}
	var group sync.WaitGroup
	for i, by := range c.agent.Deliverers {
		group.Go(func() { c.carry(ctx, by, c.wake[i]) })
	}
	group.Wait()
}

func (c *courier) carry(ctx context.Context, by service.Deliverer, wake <-chan struct{}) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-timer.C:
		}
		next, err := c.agent.DeliverDue(ctx, by, func(capture ledger.Capture, d ledger.Delivery, err error) { c.told(ctx, capture, d, err) })
		pause := courierIdle
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			c.troubled(err)
			pause = time.Minute
		case !next.IsZero():
			pause = max(time.Until(next), 10*time.Millisecond)
		}
		timer.Reset(min(pause, courierIdle))
	}
}

// told notes how a delivery stands: one message, however many captures wait.
func (c *courier) told(ctx context.Context, capture ledger.Capture, d ledger.Delivery, err error) {
	f := failure.As(err)
	switch {
	case err != nil && f.Class == service.ClassRunning:
		c.problems.clear("delivery", d.Destination)
		return
	case err != nil:
		c.problems.raise("delivery", d.Destination, "captures wait to be delivered: "+f.Error(), f.Hint)
		return
	}
	c.problems.clear("delivery", d.Destination)
	event := c.log.Info()
	if d.State == ledger.DeliveryFailed {
		event = c.log.Error().Str("class", d.Class).Str("cause", d.Error)
	}
	event.Int64("capture", capture.ID).Str("destination", d.Destination).Str("state", string(d.State)).Str("link", d.Link).Msg("delivered: " + d.Note)
	c.ended(context.WithoutCancel(ctx), capture)
}

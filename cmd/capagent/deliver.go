package main

import (
	"context"
	"time"

	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/internal/quote"
	"capagent/service"
)

// followFor is how long a command follows what it has begun somewhere else. What takes
// longer goes on there; the agent, or the next command, sees its end.
const followFor = 2 * time.Minute

// deliver brings what has its session now to where else it is wanted. That it can't is
// no failure of the upload: it is told, and tried again.
func (a *app) deliver(ctx context.Context, agent *service.Agent) {
	if len(agent.Deliverers) == 0 || ctx.Err() != nil {
		return
	}
	said := map[string]bool{}
	left, err := agent.DeliverNow(ctx, followFor, func(c ledger.Capture, d ledger.Delivery, err error) {
		switch f := failure.As(err); {
		case d.State == ledger.DeliveryDone:
			a.say("%s: %s: %s", d.Destination, quote.Path(c.Name), quote.Text(d.Note))
		case d.State == ledger.DeliveryFailed:
			a.say("%s: %s: failed: %s", d.Destination, quote.Path(c.Name), quote.Text(d.Error))
		case err != nil && f.Class != service.ClassRunning && !said[f.Error()]:
			said[f.Error()] = true
			a.say("%s: %s", d.Destination, quote.Text(f.Error()))
			if f.Hint != "" {
				a.hint("%s", f.Hint)
			}
		}
	})
	if err != nil && ctx.Err() == nil {
		a.complain(err)
	}
	if left > 0 {
		a.say("%s to be delivered; the agent goes on with it, and so does `capagent retry`", count(int(left), "capture"))
	}
}

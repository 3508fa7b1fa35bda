package daemon

import (
	"context"
	"errors"

	"capagent/service/metrics"
)

// meter tells metrics by the configuration of a generation until ctx is done, once the
// one before it has ended: they may have the same address.
func (d *Daemon) meter(ctx context.Context, g *generation) {
	select {
	case d.metering <- struct{}{}:
		defer func() { <-d.metering }()
	case <-ctx.Done():
		return
	}
	err := metrics.New(metrics.Options{
		Config: g.config.Metrics, Status: d.Status, Observer: d.observer, Redactor: d.opts.Redactor, Log: d.log,
		Healthy: func() error { return d.Healthy(ctx) },
		Ready: func() error {
			d.mu.Lock()
			defer d.mu.Unlock()
			if d.draining {
				return errors.New("the agent ends")
			}
			return nil
		},
		Trouble: func(part string, err error) {
			if err == nil {
				d.problems.clear("metrics", part)
			} else {
				d.problems.raise("metrics", part, "metrics can't be told: "+err.Error(), "it is tried again")
			}
		},
	}).Run(ctx)
	if err != nil {
		d.log.Warn().Err(err).Str("class", "metrics").Msg("metrics did not end as they should")
	}
}

package daemon

import (
	"context"
	"slices"
	"sync"
	"time"

	"capagent/service"
	"capagent/service/control"
)

// lookAtSchedules is how long schedules are left alone at most: the clock may be set.
const lookAtSchedules = time.Minute

// schedules let live captures run at their times only.
type schedules struct {
	d    *Daemon
	wake chan struct{}

	mu     sync.Mutex
	config service.Config
	paused []string // captures that wait for their time
}

// set goes on with another configuration.
func (s *schedules) set(cfg service.Config) {
	s.mu.Lock()
	s.config = cfg
	s.mu.Unlock()
	s.apply(time.Now())
	poke(s.wake)
}

// run begins and ends captures as their times come, until ctx is done.
func (s *schedules) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		}
		now := time.Now()
		wait := lookAtSchedules
		if next := s.apply(now); !next.IsZero() {
			wait = min(wait, max(next.Sub(now), 10*time.Millisecond))
		}
		timer.Reset(wait)
	}
}

// apply has those captures run whose time it is, and returns when that changes.
func (s *schedules) apply(now time.Time) (next time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var some []service.CaptureConfig
	var paused []string
	for _, c := range s.config.Capture {
		runs, change := s.config.Scheduled(c.Label(), now)
		if runs {
			some = append(some, c)
		} else {
			paused = append(paused, c.Label())
		}
		if !change.IsZero() && (next.IsZero() || change.Before(next)) {
			next = change
		}
		if was := slices.Contains(s.paused, c.Label()); was == runs && !change.IsZero() {
			s.d.log.Info().Str("name", c.Label()).Bool("runs", runs).Time("until", change).Msg("schedule")
		}
	}
	s.paused = paused
	s.d.captures.set(some)
	return next
}

// waiting are the captures that wait for their time, as others see them.
func (s *schedules) waiting() (out []control.Capture) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.config.Capture {
		if runs, next := s.config.Scheduled(c.Label(), time.Now()); !runs {
			out = append(out, control.Capture{Name: c.Label(), State: control.Scheduled, Interfaces: c.Interfaces(), Filter: c.Filter, Next: when(next)})
		}
	}
	return out
}

package daemon

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/service"
)

const (
	lookers   = 4           // captures that are looked up at a time; each waits max_delay at most
	lateEvery = time.Minute // what was not answered is asked again, and findings without annotation are looked for
	lateMost  = 20 * time.Minute
	lateAtOne = 20 // captures
	// maxListed is how many indicators, and machines, of captures that wait to be looked up stay in
	// memory. Those of others are read from the ledger when their turn comes.
	maxListed = 200_000
)

// looker has captures looked up before they are queued or held, asks again of what
// was not answered, and puts findings onto the packets of sessions.
type looker struct {
	agent     *service.Agent
	door      *service.Door
	log       zerolog.Logger
	problems  *problems
	troubled  func(error)
	decided   func() // a capture may be due now
	flagged   func() // a capture that was sent may have a finding more
	lowDemand bool   // captures need the processor more

	annotate chan struct{}
	wake     chan struct{}

	mu     sync.Mutex
	queue  []looking
	listed int
}

// looking is a capture that waits to be looked up.
type looking struct {
	c     ledger.Capture
	what  *service.Contents // nil: the ledger, or the file, has it
	since time.Time
}

func newLooker(a *service.Agent, door *service.Door, log zerolog.Logger) *looker {
	return &looker{
		agent: a, door: door, log: log, lowDemand: len(a.Config.Capture) > 0,
		annotate: make(chan struct{}, 1), wake: make(chan struct{}, 1),
	}
}

// put has a capture looked up.
func (l *looker) put(c ledger.Capture, what service.Contents) {
	l.mu.Lock()
	one := looking{c, &what, time.Now()}
	if l.listed+what.Size() > maxListed {
		one.what = nil
	} else {
		l.listed += what.Size()
	}
	l.queue = append(l.queue, one)
	l.mu.Unlock()
	poke(l.wake)
}

func (l *looker) take() (looking, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		return looking{}, false
	}
	one := l.queue[0]
	l.queue[0] = looking{}
	l.queue = l.queue[1:]
	if one.what != nil {
		l.listed -= one.what.Size()
	}
	if len(l.queue) > 0 {
		poke(l.wake)
	}
	return one, true
}

// run works until ctx is done.
func (l *looker) run(ctx context.Context) {
	l.resume(ctx)
	var parts sync.WaitGroup
	for range lookers {
		parts.Go(func() {
			if l.lowDemand {
				lowPriority()
			}
			l.look(ctx)
		})
	}
	parts.Go(func() { l.later(ctx) })
	parts.Wait()
}

// resume takes up what an earlier process, or configuration, has left.
func (l *looker) resume(ctx context.Context) {
	for c, err := range l.agent.Ledger.List(ctx, ledger.Filter{States: []ledger.State{ledger.Sealed}, Destination: l.agent.Destination()}) {
		if err != nil {
			l.troubled(err)
			return
		}
		if c.Reason == service.SealedReason {
			l.mu.Lock()
			l.queue = append(l.queue, looking{c, nil, time.Now()})
			l.mu.Unlock()
			poke(l.wake)
		}
	}
}

func (l *looker) look(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		}
		for one, ok := l.take(); ok && ctx.Err() == nil; one, ok = l.take() {
			if err := l.one(ctx, one); err != nil && ctx.Err() == nil {
				l.troubled(err)
			}
		}
	}
}

// one looks a capture up, and says where it goes.
func (l *looker) one(ctx context.Context, one looking) error {
	findings := 0
	if l.agent.Explains() {
		if one.what == nil {
			what, err := l.agent.Contents(ctx, one.c)
			if err != nil {
				return err
			}
			one.what = &what
		}
		result, err := l.agent.Explain(ctx, one.c, *one.what, one.since)
		if err != nil {
			return err
		}
		l.told(result.Err)
		l.named(result.Unnamed)
		if findings = len(result.Findings); findings > 0 {
			worst := result.Findings[0]
			l.log.Warn().Int64("capture", one.c.ID).Int("findings", findings).Str("type", worst.Indicator.Type.String()).
				Str("indicator", worst.Indicator.Value).Float64("rating", worst.Worst().Rating).Msg("a capture holds what is known to be bad")
		}
	}
	if err := l.agent.Decide(ctx, one.c.ID, findings); err != nil {
		var moved *ledger.TransitionError
		if errors.As(err, &moved) || errors.Is(err, ledger.ErrBusy) {
			return nil // a person, or another process, was faster
		}
		return err
	}
	l.decided()
	return nil
}

// told notes whether the sources answer: one message, however many captures.
func (l *looker) told(err error) {
	if err == nil {
		l.problems.clear("lookup", "")
		return
	}
	l.problems.raise("lookup", "", "not all indicators are answered for: "+err.Error(), failure.As(err).Hint)
}

// named notes whether those that have names for machines answer.
func (l *looker) named(err error) {
	if err == nil {
		l.problems.clear("machines", "")
		return
	}
	l.problems.raise("machines", "", "not all machines have their names: "+err.Error(), failure.As(err).Hint)
}

// later asks again of what was not answered, and annotates.
func (l *looker) later(ctx context.Context) {
	pause := lateEvery
	timer := time.NewTimer(0)
	defer timer.Stop()
	var hunts <-chan time.Time
	if every := l.agent.Config.Hunt.Every.Std(); every > 0 {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		hunts = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-hunts:
			l.hunt(ctx)
			continue
		case <-l.annotate:
			l.annotations(ctx)
			continue
		case <-timer.C:
		}
		l.annotations(ctx)
		if l.late(ctx) {
			pause = lateEvery
		} else {
			pause = min(2*pause, lateMost)
		}
		timer.Reset(pause)
	}
}

// hunt looks up again what all captures held.
func (l *looker) hunt(ctx context.Context) {
	h, err := l.agent.Hunt(ctx, func(c ledger.Capture, f service.FindingView) {
		l.log.Warn().Str("class", "hunt").Int64("capture", c.ID).Str("type", f.Type).Str("indicator", f.Indicator).Float64("rating", f.Rating).
			Msg("a capture held what is known to be bad by now")
	})
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		l.troubled(err)
	}
	l.told(h.Err)
	l.flagged()
	l.log.Info().Int("indicators", h.Indicators).Int("findings", h.New).Int("unanswered", h.Unanswered).Msg("hunted")
	l.decided()
}

// late asks of some captures again; false says that the sources still don't answer.
func (l *looker) late(ctx context.Context) bool {
	if !l.agent.LooksUp() {
		return true
	}
	ids, err := l.agent.Ledger.Unanswered(ctx, lateAtOne)
	if err != nil {
		l.troubled(err)
		return false
	}
	for _, id := range ids {
		result, err := l.agent.Late(ctx, id)
		if ctx.Err() != nil {
			return true
		}
		if err != nil {
			l.troubled(err)
			return false
		}
		l.told(result.Err)
		if result.Err != nil {
			return false
		}
		l.decided()
	}
	if len(ids) > 0 {
		l.flagged()
		l.annotations(ctx)
	}
	return true
}

// annotations puts findings onto packets, while the destination takes what it is
// given, and writes back what was found.
func (l *looker) annotations(ctx context.Context) {
	if status, _ := l.door.Status(); status.State == service.DoorPaused {
		return
	}
	l.each(ctx, service.Annotation, func(id int64) bool {
		err := l.agent.Annotate(ctx, id)
		if err != nil && ctx.Err() == nil {
			l.log.Warn().Err(err).Str("class", "annotate").Int64("capture", id).Msg("findings are not on the packets of their session yet; it is tried again")
		}
		return err == nil
	})
	if l.agent.Reports == nil {
		return
	}
	l.each(ctx, service.Observation, func(id int64) bool {
		err := l.agent.Report(ctx, id)
		if err != nil && ctx.Err() == nil {
			l.told(err)
		}
		return err == nil
	})
}

// each does something for all captures for which that act is not over, until it fails.
func (l *looker) each(ctx context.Context, act string, do func(id int64) bool) {
	for {
		ids, err := l.agent.Ledger.Unacted(ctx, act, lateAtOne)
		if err != nil {
			l.troubled(err)
			return
		}
		for _, id := range ids {
			if !do(id) {
				return
			}
		}
		if len(ids) < lateAtOne {
			return
		}
	}
}

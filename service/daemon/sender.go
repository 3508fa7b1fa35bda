package daemon

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"capagent/internal/ledger"
	"capagent/service"
)

// How long the sender does nothing when nothing calls it. What other processes
// queue is found within that time.
const (
	idleLook = 30 * time.Second
	coolDown = 2 * time.Second // before a capture is taken up again that could not be tried
)

// sender takes queued captures through the pipeline, the oldest first, as many
// at a time as the destination is to have. It alone decides what is tried when.
type sender struct {
	pipeline    *service.Pipeline
	door        *service.Door
	destination string
	room        int
	yield       bool // captures need the processor more
	log         zerolog.Logger
	// troubled is told of errors that are the machine's, not a capture's.
	troubled func(error)
	// ended is told of every capture that was tried, from several goroutines.
	ended func(ctx context.Context, c ledger.Capture, err error)

	pulse *pulse // nil: nobody watches
	wake  chan struct{}
	done  chan int64

	mu     sync.Mutex
	flying map[int64]flight
	cool   map[int64]time.Time // not to be taken up before
}

// flight is a capture on its way.
type flight struct {
	name  string
	size  int64
	since time.Time
}

func newSender(a *service.Agent, door *service.Door, log zerolog.Logger) *sender {
	room := max(1, a.Config.CloudShark.Concurrency)
	return &sender{
		yield: len(a.Config.Capture) > 0, pipeline: a.Pipeline, door: door, destination: a.Destination(), room: room, log: log,
		wake: make(chan struct{}, 1), done: make(chan int64, room),
		flying: map[int64]flight{}, cool: map[int64]time.Time{},
	}
}

// poke has the sender look for work now.
func (s *sender) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run sends until take is done and then waits for what is on its way; work ends
// that too.
func (s *sender) run(take, work context.Context) {
	var flights sync.WaitGroup
	defer flights.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	heart := s.pulse.begin("the sender", silentSender)
	defer heart.end()
	for {
		heart.beat()
		_, changed := s.door.Status()
		pause := s.fill(take, work, &flights)
		timer.Reset(pause)
		select {
		case <-take.Done():
			return
		case id := <-s.done:
			s.landed(id)
		case <-s.wake:
		case <-changed:
		case <-timer.C:
		}
	}
}

// fill starts as many captures as there is room for and returns how long nothing
// else is to be done, unless something happens.
func (s *sender) fill(take, work context.Context, flights *sync.WaitGroup) time.Duration {
	room, pause := s.admitted(take)
	if room <= 0 {
		return pause
	}
	except := s.busy()
	ids, err := s.pipeline.Ledger.Due(take, s.destination, except, room)
	if err != nil {
		if take.Err() == nil {
			s.troubled(err)
		}
		return coolDown
	}
	for _, id := range ids {
		s.launch(work, id, flights)
	}
	if len(ids) == room {
		return idleLook
	}
	next, err := s.pipeline.Ledger.NextDue(take, s.destination)
	if err != nil || next.IsZero() {
		next = time.Now().Add(idleLook)
	}
	return min(max(s.nextCool(next), 10*time.Millisecond), idleLook)
}

// admitted returns how many captures may start now, or how long none may. It
// asks the destination when a pause is over.
func (s *sender) admitted(ctx context.Context) (room int, pause time.Duration) {
	status, _ := s.door.Status()
	if status.State == service.DoorPaused {
		if left := time.Until(status.Until); left > 0 {
			return 0, min(left, idleLook)
		}
		recorded, err := s.door.Probe(ctx)
		if err != nil {
			return 0, coolDown // ctx is over
		}
		if recorded != nil {
			if err := s.pipeline.Ledger.SetPause(ctx, *recorded); err != nil {
				s.troubled(err)
			}
			return 0, time.Until(recorded.Until)
		}
		status, _ = s.door.Status()
	}
	room = s.room
	if status.State == service.DoorProbing {
		room = 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return room - len(s.flying), idleLook
}

func (s *sender) launch(ctx context.Context, id int64, flights *sync.WaitGroup) {
	s.mu.Lock()
	s.flying[id] = flight{since: time.Now()}
	s.mu.Unlock()
	flights.Go(func() {
		if s.yield {
			lowPriority()
		}
		// Its name is for those who ask what is going on.
		if c, err := s.pipeline.Ledger.Get(ctx, id); err == nil {
			s.mu.Lock()
			s.flying[id] = flight{c.Name, c.Size, s.flying[id].since}
			s.mu.Unlock()
		}
		c, err := s.pipeline.Process(ctx, id)
		if err != nil {
			s.mu.Lock()
			s.cool[id] = time.Now().Add(coolDown)
			s.mu.Unlock()
		}
		if !errors.Is(err, service.ErrNotNow) {
			s.ended(context.WithoutCancel(ctx), c, err)
		}
		select {
		case s.done <- id:
		case <-ctx.Done():
		}
	})
}

func (s *sender) landed(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.flying, id)
}

// busy returns the captures that are not to be started now.
func (s *sender) busy() []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	out := make([]int64, 0, len(s.flying)+len(s.cool))
	for id := range s.flying {
		out = append(out, id)
	}
	for id, until := range s.cool {
		if !until.After(now) {
			delete(s.cool, id)
		} else if _, flies := s.flying[id]; !flies {
			out = append(out, id)
		}
	}
	return out
}

// nextCool returns how long until next, or until a capture has cooled down.
func (s *sender) nextCool(next time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, until := range s.cool {
		if until.Before(next) {
			next = until
		}
	}
	return time.Until(next)
}

// inFlight returns the captures on their way.
func (s *sender) inFlight() map[int64]flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[int64]flight, len(s.flying))
	for id, f := range s.flying {
		out[id] = f
	}
	return out
}

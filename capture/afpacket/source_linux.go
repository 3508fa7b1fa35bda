package afpacket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"capagent/capture"
	"capagent/internal/packet"
)

// source is a capture.Source of rings.
type source struct {
	o       capture.Options
	ctx     context.Context // bounds the look-up of names when a filter is compiled again
	compile compiler
	links   *links
	wake    *waker
	unwatch func() // of the flows that are left out

	// The reader's own.
	ports    []*port
	polled   []unix.PollFd
	nextLook time.Time
	draining bool
	deadline time.Time // of the drain

	restAfter time.Duration

	mu     sync.Mutex
	rings  []*ring // replaced as a whole, so that the reader needs no lock to read it
	flows  []capture.Flow
	ifaces []packet.Interface
	stats  []packet.Stats
	ended  bool // counted for the last time
	closed bool
}

// Read is capture.Source's.
func (s *source) Read(batch []packet.Packet) (int, error) {
	for _, r := range s.rings {
		r.giveBack()
	}
	if len(batch) == 0 {
		return 0, nil
	}
	now := time.Now()
	for idle := now.Add(capture.Idle); ; now = time.Now() {
		if s.wake.ended.Load() && !s.draining {
			if err := s.startDrain(now); err != nil {
				return 0, err
			}
		}
		if !s.draining && !now.Before(s.nextLook) {
			s.look(now)
		}
		if n := s.fill(batch); n > 0 {
			return n, nil
		}
		s.rest(now)
		until := idle
		switch {
		case s.draining && s.drained(now):
			s.finish()
			return 0, io.EOF
		case s.draining:
			until = s.deadline
		case !now.Before(idle):
			return 0, nil
		case s.nextLook.Before(idle.Add(-retryEvery / 2)): // else it can wait for the next Read
			until = s.nextLook
		}
		if err := s.wait(until.Sub(now)); err != nil {
			return 0, err
		}
	}
}

// fill takes what is ready: of one ring, or of all by time.
func (s *source) fill(batch []packet.Packet) (n int) {
	if len(s.rings) == 1 {
		if r := s.rings[0]; r.ready() {
			return r.take(batch, anyTime)
		}
		return 0
	}
	for n < len(batch) {
		var first *ring
		next, then := int64(anyTime), int64(anyTime) // the first packet's time, and that of the first of another ring
		for _, r := range s.rings {
			if !r.ready() {
				continue
			}
			if t := r.head(); t < next || first == nil {
				first, next, then = r, t, next
			} else {
				then = min(then, t)
			}
		}
		if first == nil {
			break
		}
		n += first.take(batch[n:], then)
		if first.spent {
			break // its next block may hold what comes before the others' packets
		}
	}
	return n
}

// wait returns when a packet may be there, at the end of the context, and after
// d at the latest.
func (s *source) wait(d time.Duration) error {
	s.polled = s.polled[:0]
	if !s.draining {
		s.polled = append(s.polled, unix.PollFd{Fd: int32(s.wake.fd), Events: unix.POLLIN})
	}
	wakes := len(s.polled)
	for _, r := range s.rings {
		fd := int32(r.fd)
		if r.mute {
			fd = -1
		}
		s.polled = append(s.polled, unix.PollFd{Fd: fd, Events: unix.POLLIN})
	}
	ms := (max(d, 0) + time.Millisecond - 1) / time.Millisecond // never less than d: no spinning
	if _, err := unix.Poll(s.polled, int(ms)); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("poll: %w", err)
	}
	for i, r := range s.rings {
		if s.polled[wakes+i].Revents&unix.POLLIN != 0 {
			if err := r.wake(); err != nil {
				return err
			}
		}
		if s.polled[wakes+i].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) == 0 {
			continue
		}
		// ENETDOWN mostly: the interface went down or away. Reading the error
		// clears it; if poll goes on to complain, it is not asked for a while.
		e, err := unix.GetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_ERROR)
		r.mute = err != nil || e == 0
		s.failed(r, unix.Errno(e))
	}
	return nil
}

// startDrain shuts the rings.
func (s *source) startDrain(now time.Time) error {
	s.draining = true
	s.deadline = now.Add(drainTime(s.o.Retire))
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rings {
		if err := r.attach(refuseAll); err != nil {
			return err
		}
	}
	return nil
}

// drainTime is after which the kernel has handed over every block.
func drainTime(retire time.Duration) time.Duration { return 3*retire + 200*time.Millisecond }

// drained says whether every packet was handed over, or none can come any more.
func (s *source) drained(now time.Time) bool {
	if !now.Before(s.deadline) {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rings {
		s.count(r)
		if r.taken < r.received {
			return false
		}
	}
	return true
}

// count adds what the kernel counted. The lock must be held.
func (s *source) count(r *ring) {
	k := r.count()
	s.stats[r.iface].Received += k.Received
	s.stats[r.iface].Dropped += k.Dropped
}

// finish counts for the last time.
func (s *source) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rings {
		if !s.ended {
			s.count(r)
		}
	}
	s.ended = true
}

// Interfaces is capture.Source's.
func (s *source) Interfaces() []packet.Interface {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ifaces)
}

// Stats is capture.Source's.
func (s *source) Stats() []packet.Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		for _, r := range s.rings {
			s.count(r)
		}
	}
	return slices.Clone(s.stats)
}

// leaveOut puts flows into every ring's filter.
func (s *source) leaveOut(flows []capture.Flow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flows = flows
	if s.ended || s.wake.ended.Load() {
		return // the rings are shut, or will be
	}
	for _, r := range s.rings {
		if r.ending.IsZero() {
			_ = r.use(r.base, flows) // what fails leaves the old program
		}
	}
}

// Close is capture.Source's.
func (s *source) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	if s.unwatch != nil {
		s.unwatch()
	}
	if s.wake != nil {
		s.wake.close()
	}
	if s.links != nil {
		s.links.close()
	}
	s.finish()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rings {
		r.close()
	}
	s.rings = nil
	return nil
}

// waker makes the end of a context a file that poll sees.
type waker struct {
	fd    int
	ended atomic.Bool
	stop  func() bool
	told  chan struct{}
}

func newWaker(ctx context.Context) (*waker, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	w := &waker{fd: fd, told: make(chan struct{})}
	w.stop = context.AfterFunc(ctx, func() {
		defer close(w.told)
		w.ended.Store(true)
		one := [8]byte{1, 0, 0, 0, 0, 0, 0, 1} // not 0 in any byte order
		_, _ = unix.Write(w.fd, one[:])
	})
	return w, nil
}

func (w *waker) close() {
	if !w.stop() {
		<-w.told
	}
	_ = unix.Close(w.fd)
}

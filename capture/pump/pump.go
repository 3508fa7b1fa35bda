// Package pump makes a capture.Source of engines that hand over one packet at a
// time and block meanwhile (Npcap, BSD's bpf): each is read by a goroutine of its
// own, which copies packets into chunks of a bounded buffer. An engine that blocks
// longer than it should holds up neither the packets that came before nor the end.
package pump

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"capagent/capture"
	"capagent/internal/packet"
)

// Reader is one open interface. Its methods but Stats are called by one goroutine.
type Reader interface {
	// Next returns the next packet; Data is valid until the next call. ErrNothing
	// says that none came for a while, at most the time for which it was opened.
	Next() (packet.Packet, error)
	// Stats counts since it was opened.
	Stats() packet.Stats
	Close() error
}

// ErrNothing is no failure.
var ErrNothing = errors.New("no packet came")

// Line is an interface and its open Reader.
type Line struct {
	Interface packet.Interface
	Reader    Reader
}

const (
	chunkBytes   = 1 << 20
	chunkPackets = 4096
	chunkAge     = 100 * time.Millisecond // after which a chunk that is not full is taken
	fewestChunks = 4                      // for each line: one is filled, one is read, two wait
	grace        = time.Second            // for engines to notice the end
)

// ErrStuck says that an engine did not come back from its last Next.
var ErrStuck = errors.New("the capture engine does not answer")

// chunk is a piece of the buffer: packets whose Data lies in bytes.
type chunk struct {
	bytes   []byte
	packets []packet.Packet
	next    int // the first packet that was not handed over yet
	home    *line
}

// line is a Line at work.
type line struct {
	Line
	index uint32
	free  chan *chunk // its own: a busy one can't take the others' buffer
	mu    sync.Mutex
	now   *chunk // that is filled; nil: none
}

// source implements capture.Source.
type source struct {
	ctx    context.Context //nolint:containedctx // the source lives as long as it, see capture.Opener
	cancel context.CancelFunc
	lines  []*line
	full   chan *chunk
	ended  chan struct{} // closed when every line's goroutine is gone
	timer  *time.Timer
	now    *chunk    // that is read
	over   time.Time // when the reader saw the end of ctx

	mu     sync.Mutex
	failed error
}

// Open starts reading lines, which it owns from now on. buffer is the memory in
// bytes for all of them.
func Open(ctx context.Context, lines []Line, buffer int64) capture.Source {
	ctx, cancel := context.WithCancel(ctx)
	each := max(fewestChunks, int(buffer/chunkBytes)/len(lines))
	s := &source{
		ctx: ctx, cancel: cancel, full: make(chan *chunk, each*len(lines)), ended: make(chan struct{}), timer: time.NewTimer(chunkAge),
	}
	var group sync.WaitGroup
	for i, l := range lines {
		w := &line{Line: l, index: uint32(i), free: make(chan *chunk, each)}
		for range each {
			w.free <- &chunk{bytes: make([]byte, 0, chunkBytes), packets: make([]packet.Packet, 0, chunkPackets), home: w}
		}
		s.lines = append(s.lines, w)
		group.Go(func() { s.fill(w) })
	}
	go func() {
		group.Wait()
		close(s.ended)
	}()
	return s
}

// fill reads l until the context or the line ends.
func (s *source) fill(l *line) {
	for s.ctx.Err() == nil {
		p, err := l.Reader.Next()
		if errors.Is(err, ErrNothing) {
			continue
		}
		if err != nil {
			s.fail(fmt.Errorf("capture on %s: %w", l.Interface.Name, err))
			return
		}
		if !s.add(l, p) {
			return
		}
	}
}

// add copies p, of which at most MaxSnapLen bytes were captured. It waits while
// the whole buffer is full, and returns false when the context ends meanwhile.
func (s *source) add(l *line, p packet.Packet) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now == nil {
		l.mu.Unlock() // the reader takes chunks of others while this one waits
		select {
		case c := <-l.free:
			l.mu.Lock()
			c.bytes, c.packets, c.next = c.bytes[:0], c.packets[:0], 0
			l.now = c
		case <-s.ctx.Done():
			l.mu.Lock()
			return false
		}
	}
	c := l.now
	p.Data = p.Data[:min(len(p.Data), capture.MaxSnapLen)]
	at := len(c.bytes)
	c.bytes = append(c.bytes, p.Data...)
	p.Data = c.bytes[at:len(c.bytes):len(c.bytes)]
	p.Interface = l.index
	c.packets = append(c.packets, p)
	if len(c.packets) == chunkPackets || len(c.bytes)+capture.MaxSnapLen > chunkBytes {
		s.full <- c // has room for every chunk there is
		l.now = nil
	}
	return true
}

func (s *source) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = err
	}
	s.cancel()
}

// Read implements capture.Source.
func (s *source) Read(batch []packet.Packet) (int, error) {
	if s.now != nil && s.now.next == len(s.now.packets) {
		s.now.home.free <- s.now
		s.now = nil
	}
	if s.now == nil {
		if err := s.take(); s.now == nil {
			return 0, err
		}
	}
	n := copy(batch, s.now.packets[s.now.next:])
	s.now.next += n
	return n, nil
}

// take waits for the next chunk; none and no error mean that nothing came.
func (s *source) take() error {
	for until := time.Now().Add(capture.Idle); time.Until(until) > 0; {
		select {
		case s.now = <-s.full:
			return nil
		default:
		}
		over := s.isOver()
		if s.steal(); s.now != nil {
			return nil
		}
		if over {
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.failed != nil {
				return s.failed
			}
			return io.EOF
		}
		s.timer.Reset(min(chunkAge, time.Until(until)))
		select {
		case s.now = <-s.full:
			return nil
		case <-s.ended:
		case <-s.timer.C:
		}
	}
	return nil
}

// isOver says that no packet comes any more.
func (s *source) isOver() bool {
	select {
	case <-s.ended:
		return true
	default:
	}
	if s.ctx.Err() == nil {
		return false
	}
	if s.over.IsZero() {
		s.over = time.Now()
	}
	return time.Since(s.over) >= grace
}

// steal takes a chunk that is not full. Full ones come first: they are older.
func (s *source) steal() {
	for _, l := range s.lines {
		l.mu.Lock()
		select {
		case s.now = <-s.full:
		default:
			if l.now != nil && len(l.now.packets) > 0 {
				s.now, l.now = l.now, nil
			}
		}
		l.mu.Unlock()
		if s.now != nil {
			return
		}
	}
}

// Interfaces implements capture.Source.
func (s *source) Interfaces() []packet.Interface {
	all := make([]packet.Interface, len(s.lines))
	for i, l := range s.lines {
		all[i] = l.Interface
	}
	return all
}

// Stats implements capture.Source.
func (s *source) Stats() []packet.Stats {
	all := make([]packet.Stats, len(s.lines))
	for i, l := range s.lines {
		all[i] = l.Reader.Stats()
	}
	return all
}

// Close implements capture.Source. The engines of lines that are stuck can't be
// closed.
func (s *source) Close() error {
	s.cancel()
	s.timer.Reset(grace)
	defer s.timer.Stop()
	select {
	case <-s.ended:
	case <-s.timer.C:
		return ErrStuck
	}
	var errs []error
	for _, l := range s.lines {
		errs = append(errs, l.Reader.Close())
	}
	return errors.Join(errs...)
}

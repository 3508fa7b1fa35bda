package pump_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"capagent/capture"
	"capagent/capture/pump"
	"capagent/internal/packet"
)

// wire brings packets that count up, in one buffer that it uses again.
type wire struct {
	packets, n int
	pause      time.Duration // before each packet
	stuck      chan struct{} // after the packets Next blocks until it is closed; nil: it does not
	err        error         // at the end; nil: nothing comes any more
	buf        [capture.MaxSnapLen]byte
	closed     bool
}

func (w *wire) Next() (packet.Packet, error) {
	if w.n == w.packets {
		if w.err != nil {
			return packet.Packet{}, w.err
		}
		if w.stuck != nil {
			<-w.stuck
		}
		time.Sleep(50 * time.Millisecond)
		return packet.Packet{}, pump.ErrNothing
	}
	time.Sleep(w.pause)
	binary.BigEndian.PutUint64(w.buf[:], uint64(w.n))
	size := 60 + w.n%1400
	if w.n%1000 == 999 {
		size = len(w.buf)
	}
	w.n++
	return packet.Packet{Time: int64(w.n), Data: w.buf[:size], Length: uint32(size)}, nil
}
func (w *wire) Stats() packet.Stats { return packet.Stats{Received: uint64(w.packets)} }
func (w *wire) Close() error        { w.closed = true; return nil }

func lines(wires ...*wire) []pump.Line {
	var all []pump.Line
	for _, w := range wires {
		all = append(all, pump.Line{Interface: packet.Interface{Name: "w", LinkType: 1}, Reader: w})
	}
	return all
}

// drain reads to the end and checks that each line's packets come whole and in order.
func drain(t *testing.T, s capture.Source, each func(seen []uint64)) ([]uint64, error) {
	t.Helper()
	seen := make([]uint64, len(s.Interfaces()))
	batch := make([]packet.Packet, 100)
	for {
		n, err := s.Read(batch)
		if err != nil {
			return seen, err
		}
		for _, p := range batch[:n] {
			if got := binary.BigEndian.Uint64(p.Data); got != seen[p.Interface] {
				t.Fatalf("packet %d of line %d came where %d was due", got, p.Interface, seen[p.Interface])
			}
			if int(p.Length) != len(p.Data) {
				t.Fatalf("length %d, %d bytes", p.Length, len(p.Data))
			}
			seen[p.Interface]++
		}
		if each != nil {
			each(seen)
		}
	}
}

func TestEveryPacketComesOnceAndInOrder(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	a, b := &wire{packets: 50_000}, &wire{packets: 20_000}
	s := pump.Open(ctx, lines(a, b), 8<<20)
	_, err := drain(t, s, func(seen []uint64) {
		if seen[0] == 50_000 && seen[1] == 20_000 {
			cancel()
		}
	})
	if !errors.Is(err, io.EOF) {
		t.Fatalf("ended with %v", err)
	}
	if err := s.Close(); err != nil || !a.closed || !b.closed {
		t.Fatalf("closing: %v %v %v", err, a.closed, b.closed)
	}
}

func TestAFewPacketsDoNotWaitForMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := pump.Open(ctx, lines(&wire{packets: 100, pause: 30 * time.Millisecond}), 8<<20)
		began := time.Now()
		batch := make([]packet.Packet, 100)
		n, err := s.Read(batch)
		if n == 0 || err != nil || time.Since(began) > 200*time.Millisecond {
			t.Errorf("after %v: %d packets, %v", time.Since(began), n, err)
		}
		cancel()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestSilenceIsNoEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := pump.Open(t.Context(), lines(&wire{}), 8<<20)
		for range 3 {
			began := time.Now()
			if n, err := s.Read(make([]packet.Packet, 1)); n != 0 || err != nil || time.Since(began) != capture.Idle {
				t.Errorf("after %v: %d packets, %v", time.Since(began), n, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestAFailureComesAfterThePackets(t *testing.T) {
	broken := errors.New("unplugged")
	s := pump.Open(t.Context(), lines(&wire{packets: 5000, err: broken}), 8<<20)
	seen, err := drain(t, s, nil)
	if !errors.Is(err, broken) || seen[0] != 5000 {
		t.Errorf("%d packets, then %v", seen[0], err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestAnEngineThatIsStuckHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		w := &wire{packets: 10, stuck: make(chan struct{})}
		s := pump.Open(ctx, lines(w), 8<<20)
		time.AfterFunc(3*time.Second, cancel)
		began := time.Now()
		seen, err := drain(t, s, nil)
		if !errors.Is(err, io.EOF) || seen[0] != 10 || time.Since(began) > 5*time.Second {
			t.Errorf("after %v: %d packets, %v", time.Since(began), seen[0], err)
		}
		if err := s.Close(); !errors.Is(err, pump.ErrStuck) {
			t.Errorf("closing: %v", err)
		}
		close(w.stuck)
		time.Sleep(time.Second) // its goroutine ends
	})
}

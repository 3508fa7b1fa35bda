package afpacket_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"capagent/capture"
	"capagent/capture/afpacket"
	"capagent/capture/filter"
	"capagent/internal/packet"
	"capagent/internal/traffic"
)

func TestMain(m *testing.M) {
	if role := os.Getenv("AFPACKET_TEST_ROLE"); role != "" {
		os.Exit(play(role))
	}
	goleak.VerifyTestMain(m)
}

func newPair(t testing.TB, o traffic.Options) *traffic.Pair {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip(err)
	}
	o.Prefix = "crg_"
	p, err := traffic.NewPair(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// record is a packet that was kept.
type record struct {
	packet.Packet
	number int64 // of the sender's; -1: none
}

const magic = "\xca\x9a\x6e\x27capt"

func numberOf(b []byte) int64 {
	at := bytes.Index(b[:min(len(b), 160)], []byte(magic))
	if at < 0 || at+16 > len(b) {
		return -1
	}
	return int64(binary.BigEndian.Uint64(b[at+8:]))
}

// session is a source that is being read.
type session struct {
	t      testing.TB
	src    capture.Source
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	records []record
	bad     []string
	events  []capture.Event
	reads   int
	err     error
}

type opener func(context.Context, capture.Options) (capture.Source, error)

// with opens with one program for every link.
func with(program ...bpf.RawInstruction) opener {
	return func(ctx context.Context, o capture.Options) (capture.Source, error) {
		return afpacket.OpenWith(ctx, o, func(filter.Options) []bpf.RawInstruction { return program })
	}
}

type settings struct {
	capture.Options
	open  opener // nil: Open
	from  string // "tx": the sending side; else the receiving one
	batch int
	stall func() // before each read
	count bool   // records are counted and checked, not kept
}

// begin opens a source inside of p and reads it until stop.
func begin(t testing.TB, p *traffic.Pair, c settings) *session {
	t.Helper()
	s := &session{t: t, done: make(chan struct{})}
	if c.open == nil {
		c.open = afpacket.Open
	}
	if c.batch == 0 {
		c.batch = 256
	}
	c.Event = func(e capture.Event) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.events = append(s.events, e)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	side := traffic.RX
	if c.from == "tx" {
		side = traffic.TX
	}
	opened := make(chan error)
	go func() {
		defer close(s.done)
		if err := p.Do(side, func() error {
			src, err := c.open(ctx, c.Options)
			s.src = src
			opened <- err
			if err != nil {
				return nil
			}
			s.read(c)
			return nil
		}); err != nil {
			t.Error(err)
		}
	}()
	if err := <-opened; err != nil {
		cancel()
		<-s.done
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.cancel()
		<-s.done
		if err := s.src.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *session) read(c settings) {
	batch := make([]packet.Packet, c.batch)
	for {
		if c.stall != nil {
			c.stall()
		}
		n, err := s.src.Read(batch)
		s.mu.Lock()
		s.reads++
		for _, p := range batch[:n] {
			if int(p.Length) < len(p.Data) {
				s.bad = append(s.bad, "longer than it was")
			}
			r := record{p, numberOf(p.Data)}
			if c.count {
				r.Data = nil
			} else {
				r.Data = bytes.Clone(p.Data)
			}
			s.records = append(s.records, r)
		}
		s.err = err
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// wait returns when ok says so, and fails after a while.
func (s *session) wait(what string, ok func() bool) {
	s.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		s.mu.Lock()
		fine := ok()
		s.mu.Unlock()
		if fine {
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.t.Fatalf("%s did not come; %d packets, events %v, error %v", what, len(s.records), s.events, s.err)
}

func (s *session) waitEvent(k capture.EventKind, n int) {
	s.t.Helper()
	s.wait(string(k), func() bool { return s.countEvents(k) >= n })
}

func (s *session) countEvents(k capture.EventKind) (n int) {
	for _, e := range s.events {
		if e.Kind == k {
			n++
		}
	}
	return n
}

// stop ends the capture and returns what came, the drain included.
func (s *session) stop() []record {
	s.t.Helper()
	s.cancel()
	<-s.done
	if !errors.Is(s.err, io.EOF) {
		s.t.Errorf("the end is %v, want EOF", s.err)
	}
	if len(s.bad) > 0 {
		s.t.Errorf("%d bad packets: %s", len(s.bad), s.bad[0])
	}
	return s.records
}

// numbers are those of the sender, in the order in which they came.
func numbers(records []record) (list []int64) {
	for _, r := range records {
		if r.number >= 0 {
			list = append(list, r.number)
		}
	}
	return list
}

// wantAll fails unless the numbers 0 to n-1 came, each once; and in this order
// if ordered.
func wantAll(t testing.TB, records []record, n uint64, ordered bool) {
	t.Helper()
	got := numbers(records)
	if !ordered {
		slices.Sort(got)
	}
	for i, v := range got {
		if int64(i) != v {
			t.Fatalf("packet %d is number %d (%d came, %d were sent)", i, v, len(got), n)
		}
	}
	if uint64(len(got)) != n {
		t.Fatalf("%d packets came, %d were sent", len(got), n)
	}
}

func send(t testing.TB, p *traffic.Pair, l traffic.Load) traffic.Sent {
	t.Helper()
	sent, err := p.Send(context.Background(), l)
	if err != nil {
		t.Fatal(err)
	}
	return sent
}

func run(t testing.TB, p *traffic.Pair, side traffic.Side, name string, args ...string) string {
	t.Helper()
	out, err := p.Command(context.Background(), side, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return string(out)
}

// rx are the options for what p's receiving side sees.
func rx() capture.Options {
	return capture.Options{Interfaces: []string{traffic.RX.Interface()}, Buffer: 8 << 20, Retire: 20 * time.Millisecond}
}

// openFails returns the error of opening o.
func openFails(t testing.TB, p *traffic.Pair, o capture.Options) (err error) {
	t.Helper()
	_ = p.Do(traffic.RX, func() error {
		var src capture.Source
		if src, err = afpacket.Open(t.Context(), o); err == nil {
			_ = src.Close()
		}
		return nil
	})
	return err
}

func (s *session) readCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

// sendFrames sends frames to the receiving side as they are.
func sendFrames(t testing.TB, p *traffic.Pair, frames [][]byte) {
	t.Helper()
	if err := p.Do(traffic.TX, func() error {
		i, err := net.InterfaceByName("vethtx")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, f := range frames {
			if err := unix.Sendto(fd, f, 0, &unix.SockaddrLinklayer{Ifindex: i.Index}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

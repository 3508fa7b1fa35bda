package afpacket_test

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/bpf"

	"capagent/capture"
	"capagent/capture/afpacket"
	"capagent/internal/packet"
	"capagent/internal/traffic"
)

func TestEveryPacketOnceInOrder(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	for name, c := range map[string]settings{
		"small": {batch: 64}, "one at a time": {batch: 1}, "large batch": {batch: 5000},
	} {
		t.Run(name, func(t *testing.T) {
			c.Options = rx()
			s := begin(t, p, c)
			sent := send(t, p, traffic.Load{Size: 200, Count: 20_000, Rate: 200_000})
			got := s.stop()
			wantAll(t, got, sent.Packets, true)
			for i, r := range got {
				if len(r.Data) != 200 || r.Length != 200 {
					t.Fatalf("packet %d: %d of %d bytes, want 200", i, len(r.Data), r.Length)
				}
				if i > 0 && r.Time < got[i-1].Time {
					t.Fatalf("packet %d came before the one ahead of it", i)
				}
			}
			if off := time.Since(time.Unix(0, got[0].Time)); off < 0 || off > time.Minute {
				t.Errorf("the first packet came %v ago", off)
			}
			if st := s.src.Stats(); len(st) != 1 || st[0] != (packet.Stats{Received: sent.Packets}) {
				t.Errorf("stats %+v, want %d received", st, sent.Packets)
			}
		})
	}
}

func TestStopHandsOverTheOpenBlock(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	c := settings{Options: rx()}
	c.Retire = 2 * time.Second // nothing comes out by itself
	s := begin(t, p, c)
	sent := send(t, p, traffic.Load{Size: 100, Count: 500})
	begun := time.Now()
	wantAll(t, s.stop(), sent.Packets, true)
	if d := time.Since(begun); d > 3*time.Second {
		t.Errorf("the end took %v", d)
	}
}

func TestStopWakesTheReader(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	c := settings{Options: rx()}
	c.Retire = 2 * time.Second
	s := begin(t, p, c)
	begun := time.Now()
	if got := s.stop(); len(got) != 0 {
		t.Errorf("%d packets from an idle interface", len(got))
	}
	if d := time.Since(begun); d > time.Second { // nothing is in the ring: no retire time to wait for
		t.Errorf("the end took %v", d)
	}
}

func TestAStalledReadersDropsAreCountedExactly(t *testing.T) {
	p := newPair(t, traffic.Options{})
	goOn := make(chan struct{})
	c := settings{Options: rx(), stall: func() { <-goOn }}
	c.Buffer = 1 << 20
	s := begin(t, p, c)
	sent := send(t, p, traffic.Load{Size: 1000, Count: 20_000})
	before := s.src.Stats()[0]
	close(goOn)
	s.wait("what the ring held", func() bool { return uint64(len(s.records)) >= before.Received })
	more := send(t, p, traffic.Load{Size: 1000, Count: 100, Rate: 1000, First: sent.Packets})
	got := s.stop()
	st := s.src.Stats()[0]
	if before.Dropped == 0 || st.Received+st.Dropped != sent.Packets+more.Packets || uint64(len(got)) != st.Received {
		t.Errorf("sent %d, then %d; stats %+v, then %+v; %d came", sent.Packets, more.Packets, before, st, len(got))
	}
}

func TestNothingUnfilteredAtTheStart(t *testing.T) {
	p := newPair(t, traffic.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	flooded := make(chan struct{})
	go func() {
		defer close(flooded)
		_, _ = p.Send(ctx, traffic.Load{Size: 100, Duration: time.Minute, Flows: 2})
	}()
	defer func() { cancel(); <-flooded }()
	// UDP from port 10001: every second packet.
	odd := with(
		bpf.RawInstruction{Op: 0x28, K: 34},
		bpf.RawInstruction{Op: 0x15, Jf: 1, K: 10001},
		bpf.RawInstruction{Op: 0x6, K: 262144},
		bpf.RawInstruction{Op: 0x6},
	)
	for range 10 {
		c := settings{Options: rx(), open: odd}
		s := begin(t, p, c)
		s.wait("a packet", func() bool { return len(s.records) > 0 })
		got := s.stop()
		for i, r := range got {
			if r.number%2 != 1 {
				t.Fatalf("packet %d of %d is number %d, which the filter refuses", i, len(got), r.number)
			}
			if i > 0 && r.number != got[i-1].number+2 {
				t.Fatalf("packet %d of %d is number %d after %d", i, len(got), r.number, got[i-1].number)
			}
		}
		if st := s.src.Stats()[0]; st != (packet.Stats{Received: uint64(len(got))}) {
			t.Errorf("stats %+v for %d packets", st, len(got))
		}
	}
}

func TestSnapLenIsCutInTheKernel(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	for _, tc := range []struct {
		snap, size, want uint32
		tags             []traffic.Tag
	}{
		{128, 1000, 128, nil},
		{128, 100, 100, nil},
		{128, 1000, 128, []traffic.Tag{{TCI: 5}}},
		{128, 126, 126, []traffic.Tag{{TCI: 5}}},
		{13, 1000, 13, []traffic.Tag{{TCI: 5}}},
		{8, 1000, 8, []traffic.Tag{{TCI: 5}}},
		{1, 1000, 1, nil},
	} {
		c := settings{Options: rx()}
		c.SnapLen = tc.snap
		s := begin(t, p, c)
		send(t, p, traffic.Load{Size: int(tc.size), Count: 10, Tags: tc.tags})
		got := s.stop()
		if len(got) != 10 {
			t.Errorf("%+v: %d packets", tc, len(got))
		}
		for _, r := range got {
			if len(r.Data) != int(tc.want) || r.Length != tc.size {
				t.Errorf("%+v: %d of %d bytes", tc, len(r.Data), r.Length)
				break
			}
		}
	}
	c := settings{Options: rx()}
	c.SnapLen, c.Interfaces = 60, []string{"any"}
	s := begin(t, p, c)
	send(t, p, traffic.Load{Size: 1000, Count: 10})
	for _, r := range s.stop() {
		if len(r.Data) != 60 || r.Length != 1000-14+20 {
			t.Errorf("cooked: %d of %d bytes", len(r.Data), r.Length)
		}
	}
}

func TestSeveralInterfacesAreMergedByTime(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	run(t, p, traffic.RX, "ip", "link", "add", "more0", "type", "veth", "peer", "name", "more1")
	run(t, p, traffic.RX, "ip", "link", "set", "more0", "up")
	run(t, p, traffic.RX, "ip", "link", "set", "more1", "up")
	gate := make(chan struct{})
	c := settings{Options: rx(), stall: func() { <-gate }}
	c.Interfaces = []string{"vethrx", "more1"}
	s := begin(t, p, c)
	const each = 2000 // of a block of their own
	other := make(chan error)
	go func() {
		other <- p.Do(traffic.RX, func() error {
			_, err := traffic.Send(context.Background(), "more0", traffic.Load{Size: 90, Count: each, Rate: 50_000})
			return err
		})
	}()
	send(t, p, traffic.Load{Size: 80, Count: each, Rate: 50_000})
	if err := <-other; err != nil {
		t.Fatal(err)
	}
	time.Sleep(5 * c.Retire) // the kernel has handed over the blocks
	close(gate)
	got := s.stop()
	var from [2][]record
	turns := 0
	for i, r := range got {
		if r.number >= 0 && len(r.Data) != 80+10*int(r.Interface) {
			t.Fatalf("packet of %d bytes from interface %d", len(r.Data), r.Interface)
		}
		from[r.Interface] = append(from[r.Interface], r)
		if i == 0 {
			continue
		}
		if r.Interface != got[i-1].Interface {
			turns++
		}
		if r.Time < got[i-1].Time {
			t.Fatalf("packet %d came %d ns before the one ahead of it", i, got[i-1].Time-r.Time)
		}
	}
	wantAll(t, from[0], each, true)
	wantAll(t, from[1], each, true)
	if turns < 20 {
		t.Errorf("%d turns between the interfaces: the test tells nothing", turns)
	}
	if in := s.src.Interfaces(); len(in) != 2 || in[0].Name != "vethrx" || in[1].Name != "more1" || in[0].LinkType != 1 || len(in[0].MAC) != 6 {
		t.Errorf("interfaces %+v", in)
	}
	st := s.src.Stats()
	if len(st) != 2 || st[0].Received != uint64(len(from[0])) || st[1].Received != uint64(len(from[1])) {
		t.Errorf("stats %+v", st)
	}
}

// Each retire time uses up a block: there are enough of them for seconds.
func TestAStallAtALowRateLosesNothing(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	gate := make(chan struct{})
	s := begin(t, p, settings{Options: capture.Options{Interfaces: []string{"vethrx"}}, stall: func() { <-gate }})
	sent := send(t, p, traffic.Load{Size: 100, Rate: 1000, Duration: 5 * time.Second})
	close(gate)
	wantAll(t, s.stop(), sent.Packets, true)
}

func TestFanout(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	c := settings{Options: rx()}
	c.Fanout = 3
	s := begin(t, p, c)
	sent := send(t, p, traffic.Load{Size: 100, Count: 10_000, Rate: 100_000})
	wantAll(t, s.stop(), sent.Packets, false)
	if st := s.src.Stats(); len(st) != 1 || st[0].Received != sent.Packets {
		t.Errorf("stats %+v", st)
	}
}

// Fragments come as they are, not put together, and all through one ring.
func TestFanoutKeepsFragments(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	c := settings{Options: rx()}
	c.Fanout = 2
	s := begin(t, p, c)
	var frames [][]byte
	for id := range byte(20) {
		for part := range byte(2) {
			f := []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 44, 0, id, 0x20 * (1 - part), 3 * part, 64, 17, 0, 0, 10, 99, 0, 1, 10, 99, 0, 2}
			frames = append(frames, append(f, make([]byte, 24)...))
			var sum uint32
			for i := 14; i < 34; i += 2 {
				sum += uint32(f[i])<<8 | uint32(f[i+1])
			}
			sum = ^(sum>>16 + sum&0xffff)
			copy(frames[len(frames)-1][24:], []byte{byte(sum >> 8), byte(sum)})
		}
	}
	sendFrames(t, p, frames)
	got := s.stop()
	if len(got) != len(frames) {
		t.Fatalf("%d packets for %d", len(got), len(frames))
	}
	for i, r := range got {
		if !bytes.Equal(r.Data, frames[i]) {
			t.Fatalf("packet %d is\n% x, was\n% x", i, r.Data, frames[i])
		}
	}
}

func TestCloseWithoutAnEnd(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	if err := p.Do(traffic.RX, func() error {
		flows := &capture.Flows{}
		o := rx()
		o.Own = flows
		src, err := afpacket.Open(context.Background(), o)
		if err != nil {
			return err
		}
		send(t, p, traffic.Load{Size: 100, Count: 10})
		if err := errors.Join(src.Close(), src.Close()); err != nil {
			return err
		}
		flows.Add(capture.Flow{Local: netip.MustParseAddrPort("10.0.0.1:1"), Remote: netip.MustParseAddrPort("10.0.0.2:2")})
		if st, in := src.Stats(), src.Interfaces(); len(st) != 1 || st[0].Received != 10 || len(in) != 1 {
			t.Errorf("stats %+v, interfaces %+v", st, in)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestBadOptions(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	for name, o := range map[string]capture.Options{
		"none":   {},
		"any":    {Interfaces: []string{"any", "lo"}},
		"twice":  {Interfaces: []string{"lo", "lo"}},
		"buffer": {Interfaces: []string{"lo"}, Buffer: 1 << 50},
		"less":   {Interfaces: []string{"lo"}, Buffer: -1},
		"fanout": {Interfaces: []string{"lo"}, Fanout: 65},
		"retire": {Interfaces: []string{"lo"}, Retire: time.Hour},
	} {
		if err := openFails(t, p, o); err == nil {
			t.Errorf("%s: opened", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}

package afpacket_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"capagent/capture"
	"capagent/capture/filter"
	"capagent/internal/packet"
	"capagent/internal/traffic"
)

var (
	recreations = flag.Int("afpacket.recreations", 10, "how often the interface is removed and created again under load")
	idle        = flag.Duration("afpacket.idle", time.Second, "for how long the cost of doing nothing is measured")
)

func (s *session) event(k capture.EventKind) (last capture.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		if e.Kind == k {
			last = e
		}
	}
	return last
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

func TestRemovedAndCreatedAgainUnderLoad(t *testing.T) {
	p := newPair(t, traffic.Options{})
	c := settings{Options: rx(), count: true}
	s := begin(t, p, c)
	asked := make(chan struct{})
	go func() { // as a status line does
		defer close(asked)
		for before := (packet.Stats{}); ; {
			select {
			case <-s.done:
				return
			case <-time.After(time.Millisecond):
			}
			st := s.src.Stats()
			if len(st) != len(s.src.Interfaces()) || st[0].Received < before.Received || st[0].Dropped < before.Dropped {
				t.Errorf("stats %+v after %+v", st, before)
			}
			before = st[0]
		}
	}()
	defer func() { <-asked }()
	var files, routines int
	for i := range *recreations {
		ctx, cancel := context.WithCancel(t.Context())
		flooded := make(chan struct{})
		go func() {
			defer close(flooded)
			_, _ = p.Send(ctx, traffic.Load{Size: 500, Duration: time.Minute, Rate: 100_000, First: uint64(i) << 32})
		}()
		s.wait("load", func() bool {
			n := len(s.records)
			return n > 1000 && s.records[n-1].number>>32 == int64(i)
		})
		if err := p.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
		cancel()
		<-flooded
		s.waitEvent(capture.Gone, i+1)
		if err := p.Create(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.waitEvent(capture.Back, i+1)
		if e := s.event(capture.Back); e.Gap <= 0 || e.Gap > 10*time.Second || e.Interface != "vethrx" {
			t.Errorf("event %+v", e)
		}
		if i == 2 {
			files, routines = openFiles(t), runtime.NumGoroutine()
		}
	}
	s.wait("the old rings' end", func() bool { return *recreations < 4 || openFiles(t) <= files })
	if n := runtime.NumGoroutine(); *recreations > 3 && n > routines {
		t.Errorf("%d goroutines, %d at the start", n, routines)
	}
	got := s.stop()
	seen := map[int64]int64{}
	for _, r := range got {
		life, n := r.number>>32, r.number&(1<<32-1)
		if before, ok := seen[life]; ok && n != before+1 {
			t.Fatalf("life %d: number %d comes after %d", life, n, before)
		}
		seen[life] = n
	}
	if len(seen) != *recreations || len(s.src.Interfaces()) != 1 {
		t.Errorf("packets of %d lives of %d, interfaces %+v", len(seen), *recreations, s.src.Interfaces())
	}
	if st := s.src.Stats()[0]; st.Received != uint64(len(got)) {
		t.Errorf("stats %+v for %d packets", st, len(got))
	}
}

func TestDownAndUp(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	s := begin(t, p, settings{Options: rx()})
	send(t, p, traffic.Load{Size: 100, Count: 100})
	for i := range 3 {
		run(t, p, traffic.RX, "ip", "link", "set", "vethrx", "down")
		s.waitEvent(capture.Down, i+1)
		run(t, p, traffic.RX, "ip", "link", "set", "vethrx", "up")
		s.waitEvent(capture.Up, i+1)
	}
	if e := s.event(capture.Up); e.Gap <= 0 || e.Gap > 10*time.Second {
		t.Errorf("event %+v", e)
	}
	send(t, p, traffic.Load{Size: 100, Count: 100, First: 100})
	wantAll(t, s.stop(), 200, true)
	if n := len(s.events); n != 6 {
		t.Errorf("events %+v", s.events)
	}
}

func TestDownAndUpFasterThanAnybodyLooks(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	gate := make(chan struct{})
	s := begin(t, p, settings{Options: rx(), stall: func() { <-gate }})
	gate <- struct{}{}
	s.wait("a first look", func() bool { return s.reads == 1 })
	run(t, p, traffic.RX, "ip", "link", "set", "vethrx", "down")
	run(t, p, traffic.RX, "ip", "link", "set", "vethrx", "up")
	close(gate)
	s.waitEvent(capture.Up, 1)
	send(t, p, traffic.Load{Size: 100, Count: 10})
	wantAll(t, s.stop(), 10, true)
	if len(s.events) != 2 {
		t.Errorf("events %+v", s.events)
	}
}

func TestDownAtTheStart(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	run(t, p, traffic.RX, "ip", "link", "set", "vethrx", "down")
	s := begin(t, p, settings{Options: rx()})
	s.waitEvent(capture.Down, 1)
	run(t, p, traffic.RX, "ip", "link", "set", "vethrx", "up")
	s.waitEvent(capture.Up, 1)
	send(t, p, traffic.Load{Size: 100, Count: 100})
	wantAll(t, s.stop(), 100, true)
}

func TestRenamed(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	s := begin(t, p, settings{Options: rx()})
	send(t, p, traffic.Load{Size: 100, Count: 100})
	run(t, p, traffic.RX, "ip", "link", "property", "add", "dev", "vethrx", "altname", "other") // is no new name
	run(t, p, traffic.RX, "sh", "-c", "ip link set vethrx down; ip link set vethrx name uplink; ip link set uplink up")
	s.waitEvent(capture.Renamed, 1)
	s.waitEvent(capture.Up, 1)
	send(t, p, traffic.Load{Size: 100, Count: 100, First: 100})
	wantAll(t, s.stop(), 200, true)
	if e := s.event(capture.Renamed); e.Interface != "uplink" || e.Was != "vethrx" {
		t.Errorf("event %+v", e)
	}
	if in := s.src.Interfaces(); len(in) != 1 || in[0].Name != "uplink" {
		t.Errorf("interfaces %+v", in)
	}
	if s.countEvents(capture.Gone) > 0 {
		t.Errorf("events %+v", s.events)
	}
}

// An interface that comes back as another kind of link is another interface of
// the capture.
func TestCreatedAgainWithAnotherLinkType(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	s := begin(t, p, settings{Options: rx()})
	send(t, p, traffic.Load{Size: 100, Count: 10})
	s.wait("packets", func() bool { return len(s.records) == 10 })
	if err := p.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.waitEvent(capture.Gone, 1)
	tun := tunnel(t, p, "vethrx")
	s.waitEvent(capture.Back, 1)
	run(t, p, traffic.RX, "ip", "link", "set", "vethrx", "up")
	ip4 := []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2, 0, 8, 0, 0}
	for range 5 {
		if _, err := unix.Write(tun, ip4); err != nil {
			t.Fatal(err)
		}
	}
	s.wait("packets of the second life", func() bool {
		return slices.ContainsFunc(s.records, func(r record) bool { return r.Interface == 1 && len(r.Data) == 28 })
	})
	s.stop()
	in := s.src.Interfaces()
	if len(in) != 2 || in[0].LinkType != 1 || in[1].LinkType != 101 || in[1].Name != "vethrx" {
		t.Errorf("interfaces %+v", in)
	}
	if st := s.src.Stats(); len(st) != 2 || st[0].Received != 10 || st[1].Received < 5 {
		t.Errorf("stats %+v", st)
	}
}

// Another interface with the number of the one that was removed is not it.
func TestReplacedByOneWithItsIndex(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	gate := make(chan struct{}) // shut: nobody looks meanwhile
	s := begin(t, p, settings{Options: rx(), stall: func() { <-gate }})
	gate <- struct{}{}
	s.wait("a first look", func() bool { return s.reads == 1 })
	index := strings.TrimSpace(run(t, p, traffic.RX, "cat", "/sys/class/net/vethrx/ifindex"))
	run(t, p, traffic.RX, "ip", "link", "add", "more0", "type", "veth", "peer", "name", "more1")
	batch := filepath.Join(t.TempDir(), "batch")
	commands := "link del vethrx\nlink add vethrx index " + index + " type veth peer name more2\nlink set vethrx up\nlink set more2 up\n"
	if err := os.WriteFile(batch, []byte(commands), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, p, traffic.RX, "ip", "-batch", batch)
	close(gate)
	s.waitEvent(capture.Back, 1)
	if err := p.Do(traffic.RX, func() error {
		_, err := traffic.Send(context.Background(), "more2", traffic.Load{Size: 100, Count: 10})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	wantAll(t, s.stop(), 10, true)
}

// The type of an interface can change while it is down.
func TestLinkTypeChanges(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	tun := tunnel(t, p, "tun0")
	up := func(hatype int) {
		t.Helper()
		run(t, p, traffic.RX, "ip", "link", "set", "tun0", "down")
		if err := unix.IoctlSetInt(tun, unix.TUNSETLINK, hatype); err != nil {
			t.Fatal(err)
		}
		run(t, p, traffic.RX, "ip", "link", "set", "tun0", "up")
	}
	write := func(b []byte) {
		t.Helper()
		if _, err := unix.Write(tun, b); err != nil {
			t.Fatal(err)
		}
	}
	ip4 := []byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 1, 0, 2, 0, 8, 0, 0}
	up(unix.ARPHRD_PPP)
	c := settings{Options: rx()}
	c.Interfaces = []string{"tun0"}
	s := begin(t, p, c)
	write(ip4)
	s.wait("a packet", func() bool { return slices.ContainsFunc(s.records, func(r record) bool { return len(r.Data) == 48 }) })
	up(unix.ARPHRD_NONE)
	s.waitEvent(capture.Back, 1)
	write(ip4)
	s.wait("another", func() bool {
		return slices.ContainsFunc(s.records, func(r record) bool { return r.Interface == 1 && bytes.Equal(r.Data, ip4) })
	})
	got := s.stop()
	if in := s.src.Interfaces(); len(in) != 2 || in[0].LinkType != 276 || in[1].LinkType != 101 {
		t.Errorf("interfaces %+v", in)
	}
	cooked := slices.DeleteFunc(slices.Clone(got), func(r record) bool { return r.Interface == 1 })
	lines := tshark(t, pcapFile(t, 276, cooked), "sll.etype", "sll.hatype", "ip.dst", "_ws.malformed")
	if !slices.Contains(lines, "0x0800\t512\t10.0.0.2\t") {
		t.Errorf("tshark shows %q", lines)
	}
}

// What comes back as a link on which the filter means nothing is not captured
// unfiltered; it is waited for one that fits.
func TestCreatedAgainWhereTheFilterDoesNotFit(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	c := settings{Options: rx()}
	c.Filter = "ether src 02:00:00:00:00:01"
	s := begin(t, p, c)
	send(t, p, traffic.Load{Size: 100, Count: 10})
	if err := p.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.waitEvent(capture.Gone, 1)
	tunnel(t, p, "vethrx")
	s.waitEvent(capture.Gone, 2)
	var bad *filter.Error
	if e := s.event(capture.Gone); !errors.As(e.Err, &bad) {
		t.Errorf("event %+v", e)
	}
	time.Sleep(time.Second) // it is said once
	run(t, p, traffic.RX, "ip", "link", "del", "vethrx")
	if err := p.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.waitEvent(capture.Back, 1)
	send(t, p, traffic.Load{Size: 100, Count: 10, First: 10})
	wantAll(t, s.stop(), 20, true)
	if n := s.countEvents(capture.Gone); n != 2 || len(s.src.Interfaces()) != 1 {
		t.Errorf("events %+v, interfaces %+v", s.events, s.src.Interfaces())
	}
}

// tunnel makes a TUN interface, for as long as the test runs.
func tunnel(t *testing.T, p *traffic.Pair, name string) (fd int) {
	t.Helper()
	if err := p.Do(traffic.RX, func() (err error) {
		if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
		ifr, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		return unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}); errors.Is(err, fs.ErrNotExist) {
		t.Skip("no TUN here")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func TestNoSuchInterface(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	err := openFails(t, p, capture.Options{Interfaces: []string{"eth\n9"}})
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), `"eth\n9"`) || !strings.Contains(err.Error(), "vethrx") {
		t.Errorf("%v", err)
	}
}

func TestAliveButBlind(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	c := settings{Options: rx(), open: with( // UDP from port 10001: of the second flow
		bpf.RawInstruction{Op: 0x28, K: 34},
		bpf.RawInstruction{Op: 0x15, Jf: 1, K: 10001},
		bpf.RawInstruction{Op: 0x6, K: 262144},
		bpf.RawInstruction{Op: 0x6},
	)}
	c.Blind = 600 * time.Millisecond
	s := begin(t, p, c)
	time.Sleep(1200 * time.Millisecond)
	send(t, p, traffic.Load{Size: 100, Rate: 100, Duration: 2500 * time.Millisecond, Flows: 1})
	s.waitEvent(capture.Blind, 1)
	send(t, p, traffic.Load{Size: 100, Count: 2, Flows: 2})
	s.waitEvent(capture.Seeing, 1)
	s.stop()
	if len(s.events) != 2 { // nothing while it was idle, and blind once
		t.Errorf("events %+v", s.events)
	}
}

func TestAFilterIsNotBlindness(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	c := settings{Options: rx(), open: with(bpf.RawInstruction{Op: 0x6})}
	c.Blind, c.Filter = 100*time.Millisecond, "less 1"
	s := begin(t, p, c)
	send(t, p, traffic.Load{Size: 100, Rate: 100, Duration: 1300 * time.Millisecond})
	s.stop()
	if len(s.events) != 0 {
		t.Errorf("events %+v", s.events)
	}
}

func TestIdleCostsNothing(t *testing.T) {
	p := newPair(t, traffic.Options{})
	s := begin(t, p, settings{Options: rx()})
	usage := func() time.Duration {
		var ru unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &ru); err != nil {
			t.Fatal(err)
		}
		return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
	}
	const spinning = 10 // percent; the log has the exact figures
	measure := func(what string) {
		t.Helper()
		span := *idle
		before, reads := usage(), s.readCount()
		time.Sleep(span)
		share := float64(usage()-before) / float64(span) * 100
		t.Logf("%s: %.3f %% of a core, %d reads", what, share, s.readCount()-reads)
		if share > spinning {
			t.Errorf("%s: %.3f %% of a core", what, share)
		}
		if n := s.readCount() - reads; n > 5*(1+int(span/time.Second)) {
			t.Errorf("%s: %d reads in %v", what, n, span)
		}
	}
	time.Sleep(200 * time.Millisecond)
	measure("idle")
	run(t, p, traffic.RX, "ip", "link", "set", "vethrx", "down")
	s.waitEvent(capture.Down, 1)
	measure("down")
	if err := p.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.waitEvent(capture.Gone, 1)
	time.Sleep(time.Second)
	measure("gone")
	s.stop()
}

package traffic_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"capagent/internal/traffic"

	"golang.org/x/sys/unix"
)

func pair(t *testing.T, o traffic.Options) *traffic.Pair {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skip(err)
	}
	p, err := traffic.NewPair(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		for _, side := range []traffic.Side{traffic.TX, traffic.RX} {
			if _, err := os.Stat("/run/netns/" + p.Namespace(side)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is still there (%v)", p.Namespace(side), err)
			}
		}
	})
	return p
}

func counters(t *testing.T, p *traffic.Pair, side traffic.Side) traffic.Counters {
	t.Helper()
	c, err := p.Counters(side)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNothingIsOnTheWireButWhatIsSent(t *testing.T) {
	p := pair(t, traffic.Options{})
	for name, l := range map[string]traffic.Load{
		"small":     {Size: 60, Count: 1000},
		"mixed":     {Count: 1200, Flows: 7},
		"large":     {Size: 9014, Count: 100},
		"one":       {Size: 64, Count: 1, Flows: 1},
		"slow":      {Size: 64, Count: 5, Rate: 1000},
		"tagged":    {Size: 100, Count: 100, Tags: []traffic.Tag{{TPID: 0x88a8, TCI: 7}, {TCI: 9}}},
		"injected":  {Size: 1500, Count: 100_000, XDP: true},
		"injected1": {Size: 60, Count: 1, XDP: true},
	} {
		before := counters(t, p, traffic.RX)
		sent, err := p.Send(t.Context(), l)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		after := counters(t, p, traffic.RX)
		if sent.Packets != l.Count {
			t.Errorf("%s: sent %d packets, want %d", name, sent.Packets, l.Count)
		}
		if l.XDP { // above the driver: veth does not count them
			continue
		}
		if got := after.RxPackets - before.RxPackets; got != l.Count {
			t.Errorf("%s: %d packets arrived, want %d", name, got, l.Count)
		}
		if got := after.RxBytes - before.RxBytes; got != sent.Bytes {
			t.Errorf("%s: %d bytes arrived, %d sent", name, got, sent.Bytes)
		}
	}
}

// What tcpdump writes of a load is judged right, in either mode of sending.
func TestFilesAreJudged(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		t.Skip(err)
	}
	for name, l := range map[string]traffic.Load{
		"veth":     {Size: 200, Count: 5000, First: 1 << 40, Rate: 100_000},
		"mix":      {Count: 5000, Rate: 100_000},
		"tagged":   {Size: 200, Count: 500, Tags: []traffic.Tag{{TPID: 0x88a8, TCI: 7}, {TCI: 9}}},
		"injected": {Size: 1500, Count: 5000, First: 1000, XDP: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // tcpdump hands packets over once a second
			p := pair(t, traffic.Options{})
			file := filepath.Join(t.TempDir(), "out.pcap")
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			dump := p.Command(ctx, traffic.RX, "tcpdump", "-Z", "root", "-n", "-B", "32768", "-i", traffic.RX.Interface(),
				"-c", strconv.FormatUint(l.Count, 10), "-w", file) // ends with the last one
			said, err := dump.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := dump.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := said.Read(make([]byte, 1000)); err != nil { // "listening on"
				t.Fatal(err)
			}
			sent, err := p.Send(t.Context(), l)
			if err != nil {
				t.Fatal(err)
			}
			if err := dump.Wait(); err != nil {
				t.Fatal(err)
			}
			r, err := traffic.Check(file)
			if err != nil {
				t.Fatal(err)
			}
			want := traffic.Result{
				Packets: l.Count, Distinct: l.Count, First: l.First, Last: l.First + l.Count - 1,
				Other: r.Other, TimeBack: r.TimeBack, Bytes: sent.Bytes,
			}
			if r != want {
				t.Errorf("got  %+v\nwant %+v", r, want)
			}
			if r.Missing(sent.Packets) != 0 || r.Other != 0 {
				t.Errorf("%d missing, %d others", r.Missing(sent.Packets), r.Other)
			}
		})
	}
}

func TestSendEndsInTime(t *testing.T) {
	p := pair(t, traffic.Options{})
	if _, err := p.Send(t.Context(), traffic.Load{Size: 64}); err == nil {
		t.Error("a load without an end was sent")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	for _, l := range []traffic.Load{{Size: 64, Rate: 0.01, Count: 2}, {Size: 64, Count: 1 << 40}, {Size: 64, Duration: time.Hour, XDP: true}} {
		if _, err := p.Send(ctx, l); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%+v: %v", l, err)
		}
	}
	sent, err := p.Send(t.Context(), traffic.Load{Size: 64, Duration: 30 * time.Millisecond, Rate: 10_000})
	if err != nil || sent.Packets < 10 || sent.Packets > 301 {
		t.Errorf("%+v, %v", sent, err)
	}
}

func TestInterfacesComeAndGo(t *testing.T) {
	p := pair(t, traffic.Options{})
	first := traffic.Load{Size: 64, Duration: time.Minute, Rate: 10_000}
	failed := make(chan error, 1)
	go func() {
		_, err := p.Send(t.Context(), first)
		failed <- err
	}()
	for counters(t, p, traffic.RX).RxPackets == 0 {
		time.Sleep(time.Millisecond) // it is another system that is waited for
	}
	if err := p.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-failed; err == nil {
		t.Error("the sender saw nothing of it")
	}
	if _, err := p.Counters(traffic.RX); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("counters of a removed interface: %v", err)
	}
	if err := p.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Send(t.Context(), traffic.Load{Size: 64, Count: 10}); err != nil {
		t.Fatal(err)
	}
	if got := counters(t, p, traffic.RX).RxPackets; got != 10 {
		t.Errorf("%d packets arrived, want 10", got)
	}
}

func TestInsideIsInside(t *testing.T) {
	p := pair(t, traffic.Options{Addresses: [2]netip.Prefix{netip.MustParsePrefix("10.99.0.1/24"), netip.MustParsePrefix("10.99.0.2/24")}})
	list := func(side traffic.Side) string {
		out, err := p.Command(t.Context(), side, "ip", "-o", "address").CombinedOutput()
		if err != nil {
			t.Fatal(err, string(out))
		}
		return string(out)
	}
	for side, address := range map[traffic.Side]string{traffic.TX: "10.99.0.1/24", traffic.RX: "10.99.0.2/24"} {
		if got := list(side); !strings.Contains(got, address) || strings.Contains(got, "fe80") || strings.Contains(got, "eth0") {
			t.Errorf("%s has\n%s", side, got)
		}
	}
	var before, inside, after unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &before); err != nil {
		t.Fatal(err)
	}
	if err := p.Do(traffic.RX, func() error { return unix.Stat("/proc/thread-self/ns/net", &inside) }); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat("/proc/thread-self/ns/net", &after); err != nil {
		t.Fatal(err)
	}
	if inside.Ino == before.Ino || after.Ino != before.Ino {
		t.Errorf("before %d, inside %d, after %d", before.Ino, inside.Ino, after.Ino)
	}
	wrong := errors.New("wrong")
	if err := p.Do(traffic.TX, func() error { return wrong }); !errors.Is(err, wrong) {
		t.Error(err)
	}
}

func TestOffloadsAreOffUnlessAskedFor(t *testing.T) {
	if _, err := exec.LookPath("ethtool"); err != nil {
		t.Skip(err)
	}
	for _, want := range []bool{false, true} {
		p := pair(t, traffic.Options{Offloads: want})
		for _, side := range []traffic.Side{traffic.TX, traffic.RX} {
			out, err := p.Command(t.Context(), side, "ethtool", "-k", side.Interface()).Output()
			if err != nil {
				t.Fatal(err)
			}
			for _, feature := range []string{"rx-checksumming", "tx-checksumming", "tx-tcp-segmentation", "tx-tcp6-segmentation", "generic-segmentation-offload", "generic-receive-offload"} {
				state := "off"
				if want {
					state = "on"
				}
				if !strings.Contains(string(out), feature+": "+state) {
					t.Errorf("%s: %s is not %s", side, feature, state)
				}
			}
		}
	}
}

// A run that was killed leaves its namespaces; the next one removes them, and
// nobody else's.
func TestLeftoversAreRemoved(t *testing.T) {
	const prefix = "cbn_sweep_"
	live := pair(t, traffic.Options{Prefix: prefix})
	ended := exec.Command("true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	dead := prefix + strconv.Itoa(ended.Process.Pid) + "_1_1_rx"
	reused := prefix + strconv.Itoa(os.Getpid()) + "_1_1_tx" // this process began later
	foreign := prefix + "mine"
	for _, name := range []string{dead, reused, foreign} {
		if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
			t.Fatal(err, string(out))
		}
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", name).Run() })
	}
	left := exec.Command("ip", "netns", "exec", dead, "sleep", "60")
	if err := left.Start(); err != nil {
		t.Fatal(err)
	}
	for inside := ""; inside == ""; { // until it is in there
		out, err := exec.Command("ip", "netns", "pids", dead).Output()
		if err != nil {
			t.Fatal(err)
		}
		inside = strings.TrimSpace(string(out))
	}
	if err := traffic.Sweep(t.Context(), prefix); err != nil {
		t.Fatal(err)
	}
	if err := left.Wait(); err == nil { // it would be after 60 s
		t.Error("what ran in a leftover went on")
	}
	for name, want := range map[string]bool{dead: false, reused: false, foreign: true, live.Namespace(traffic.TX): true, live.Namespace(traffic.RX): true} {
		if _, err := os.Stat("/run/netns/" + name); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

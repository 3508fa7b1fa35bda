package filtertest

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"capagent/capture/filter"
)

var (
	flagTrials   = flag.Int("filter.trials", 20000, "trials of TestRandomTrials")
	flagSeed     = flag.Uint64("filter.seed", 1, "seed of TestRandomTrials")
	flagPackets  = flag.Int("filter.packets", 100, "packets for each filter")
	flagLink     = flag.String("filter.link", "", "the only link type, as libpcap names it")
	flagDamage   = flag.Int("filter.damage", 5, "of 100 expressions, how many are damaged")
	flagStrict   = flag.Bool("filter.strict", false, "count what libpcap decides otherwise with its optimiser than without")
	flagCaptures = flag.String("filter.captures", "", "folder of capture files whose packets are tried too")
	flagLibrary  = flag.String("filter.libpcap", "", "file of the libpcap to judge by; the system's without it")
)

// oracle starts a libpcap for a test.
func oracle(t testing.TB) *Oracle {
	t.Helper()
	if _, err := exec.LookPath("cc"); err != nil {
		t.Skip("no C compiler to reach libpcap with")
	}
	o, err := NewOracle(context.Background(), t.TempDir(), *flagLibrary)
	if err != nil {
		t.Skipf("no libpcap: %v", err)
	}
	t.Cleanup(func() { _ = o.Close() })
	return o
}

// judge is a judge of package filter.
func judge(t testing.TB) *Judge {
	t.Helper()
	return &Judge{Oracle: oracle(t), Compile: Ours, Kernel: kernel(t), Strict: *flagStrict, Real: captures(t)}
}

// captures are the packets of -filter.captures.
func captures(t testing.TB) map[int][]Frame {
	if *flagCaptures == "" {
		return nil
	}
	all, err := Captures(*flagCaptures)
	if err != nil {
		t.Fatal(err)
	}
	for link, frames := range all {
		t.Logf("%d packets of %s from %s", len(frames), LinkName(link), *flagCaptures)
	}
	return all
}

// show prints disagreements so that they can go to testdata/regressions.txt.
func show(t testing.TB, bad []*Disagreement) {
	for _, d := range bad {
		t.Errorf("%v\n\t%s", d, Line(d))
	}
}

func TestRandomTrials(t *testing.T) {
	var links []int
	for _, l := range Links {
		if *flagLink == LinkName(l) {
			links = []int{l}
		}
	}
	var (
		mu    sync.Mutex
		total Tally
		next  int
		wg    sync.WaitGroup
	)
	for range min(2, runtime.NumCPU()) {
		c := &Campaign{Judge: judge(t), Seed: *flagSeed, Packets: *flagPackets, Links: links, Damage: *flagDamage}
		wg.Go(func() {
			for {
				mu.Lock()
				i := next
				next++
				done := total.Trials >= *flagTrials || total.Filters > 20+*flagTrials*2 || len(total.Bad) >= 60
				mu.Unlock()
				if done {
					return
				}
				var one Tally
				if err := c.Run(i, &one); err != nil {
					t.Log(err)
				}
				mu.Lock()
				total.Add(&one)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("seed %d: %v", *flagSeed, &total)
	show(t, total.Bad)
}

// scaled is n in a short run and more of it in a long one.
func scaled(n int) int { return n * min(10, max(1, *flagTrials/20000)) }

// manPage are the expressions of pcap-filter(7) and the like.
func manPage(t testing.TB) []string {
	t.Helper()
	b, err := os.ReadFile("testdata/manpage.txt")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(b)), "\n")
}

func TestManPage(t *testing.T) {
	list := manPage(t)
	if len(list) != 164 { // 161 that libpcap 1.10 takes, two of 1.11, and one that none takes
		t.Fatalf("%d expressions, want 164", len(list))
	}
	j := judge(t)
	var total Tally
	right := 0
	for i, expr := range list {
		before := len(total.Bad)
		judgeOne(t, j, Case{Expr: expr, LinkType: LinkEthernet}, uint64(i), scaled(150), &total)
		if len(total.Bad) == before {
			right++
		}
	}
	t.Logf("man page: %d of %d right on Ethernet; %v", right, len(list), &total)
	show(t, total.Bad)
	var others Tally
	for _, link := range Links[1:] {
		for i, expr := range list {
			judgeOne(t, j, Case{Expr: expr, LinkType: link}, uint64(i), scaled(40), &others)
		}
	}
	t.Logf("man page on the other link types: %v", &others)
	show(t, others.Bad)
	if os.Geteuid() != 0 {
		return
	}
	var live Tally // as root only: libpcap opens an interface
	for i, expr := range list {
		judgeOne(t, j, Case{Expr: expr, LinkType: LinkEthernet, Target: filter.Live}, uint64(i), scaled(40), &live)
		judgeOne(t, j, Case{Expr: expr, LinkType: LinkSLL, Target: filter.LiveCooked}, uint64(i), scaled(40), &live)
		judgeOne(t, j, Case{Expr: expr, LinkType: LinkSLL2, Target: filter.LiveCooked}, uint64(i), scaled(40), &live)
	}
	t.Logf("man page on live sockets: %v", &live)
	show(t, live.Bad)
}

func judgeOne(t testing.TB, j *Judge, c Case, seed uint64, n int, into *Tally) {
	t.Helper()
	if err := j.One(c, seed, n, into); err != nil {
		t.Error(err)
	}
}

// TestRegressions tries what was wrong once.
func TestRegressions(t *testing.T) {
	b, err := os.ReadFile("testdata/regressions.txt")
	if err != nil {
		t.Fatal(err)
	}
	j := judge(t)
	for _, line := range strings.Split(string(b), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		c, f, err := ParseLine(line)
		if err != nil {
			t.Fatal(err)
		}
		if c.Target != filter.File && os.Geteuid() != 0 {
			continue
		}
		pair, bad, err := j.Pair(c)
		if bad == nil && err == nil && f.Data != nil {
			_, bad = pair.Try(f)
		}
		if bad != nil && j.Known(bad) == "" {
			t.Error(bad)
		}
		if err != nil && !errors.Is(err, errBoth) {
			t.Error(err)
		}
	}
}

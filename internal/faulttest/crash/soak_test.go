//go:build linux

package crash

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"capagent/internal/faulttest"
)

var soakFlag = flag.Duration("crash.soak", 0, "how long the network is bad, half a minute at least; an hour shows leaks")

// phase is a time with one kind of network.
type phase struct {
	name  string
	share int // of the whole time
	down  bool
	begin func(s *soak) error
	every func(s *soak) error // every second
}

var phases = []phase{
	// A backlog that is sent at once needs more than anything else: so that what
	// comes later is measured against it, there is one early, too.
	{name: "server down at first", share: 2, down: true, begin: func(s *soak) error { s.sandbox.Stop(); return nil }},
	{name: "good", share: 2, begin: func(s *soak) error { return s.sandbox.Restart(s.ctx) }},
	{name: "20 % of the packets lost", share: 4, begin: func(s *soak) error { return s.network.Lose(20) }},
	{name: "1 Mbit/s", share: 4, begin: func(s *soak) error { return s.network.Slow("1mbit") }},
	{name: "5 % of the packets reset", share: 4, begin: func(s *soak) error { return s.network.Reset(50) }},
	{name: "server restarts", share: 4, every: (*soak).restart},
	{name: "nothing comes through", share: 2, down: true, begin: func(s *soak) error { return s.network.Swallow() }},
	{name: "server down", share: 2, down: true, begin: func(s *soak) error { s.sandbox.Stop(); return nil }},
	{name: "good again", share: 2, begin: func(s *soak) error { return s.sandbox.Restart(s.ctx) }},
}

// TestBadNetworks has captures come in all the time while the network is bad in
// one way after the other. Nothing is lost or sent twice, nobody is called more
// often than once a second while nobody answers, and the agent does not grow.
func TestBadNetworks(t *testing.T) {
	if *soakFlag == 0 {
		t.Skip("-crash.soak says how long")
	}
	if err := faulttest.CanDisturb(); err != nil {
		t.Skip(err)
	}
	dir, remove, err := memory()
	if err != nil {
		t.Fatal(err)
	}
	defer remove()
	s := &soak{ctx: t.Context(), random: rand.New(rand.NewPCG(seed(t), 9))}
	if err := s.run(program(t), dir, *soakFlag); err != nil {
		t.Error(err)
	}
	t.Logf("\n%s", s.table())
}

type soak struct {
	ctx     context.Context
	random  *rand.Rand
	sandbox *faulttest.Sandbox
	network faulttest.Network
	agent   *faulttest.Agent
	feeder  *faulttest.Feeder
	process *faulttest.Process
	rows    []soakRow
	next    time.Time // of the server's restart
}

// soakRow is what was seen in one phase.
type soakRow struct {
	name              string
	took              time.Duration
	dropped, sessions int
	attempts          int
	perSecond         float64
	cpu               time.Duration
	first, last, most faulttest.Vitals
}

func (s *soak) run(bin, dir string, whole time.Duration) (err error) {
	if s.sandbox, err = faulttest.StartSandbox(s.ctx, bin, filepath.Join(dir, "sandbox")); err != nil {
		return err
	}
	defer func() { s.sandbox.Stop() }()
	s.network.Port = s.sandbox.URL[strings.LastIndexByte(s.sandbox.URL, ':')+1:]
	defer func() { err = errors.Join(err, s.network.Clear()) }()
	w := faulttest.Watch{Path: filepath.Join(dir, "watch"), After: "delete"}
	s.agent = &faulttest.Agent{Program: bin, Dir: dir, StateDir: filepath.Join(dir, "state"), Watches: []faulttest.Watch{w}, Settle: 100 * time.Millisecond, Extra: "timeout = \"20s\"\n"}
	if err := s.agent.Configure(s.sandbox.URL, s.sandbox.TokenFile); err != nil {
		return err
	}
	s.feeder = faulttest.NewFeeder(w, dir, s.random.Uint64()%1_000_000)
	if s.process, err = s.agent.Run(s.ctx); err != nil {
		return err
	}
	defer s.process.Kill()
	if err := s.process.WaitReady(10 * time.Second); err != nil {
		return err
	}
	shares := 0
	for _, p := range phases {
		shares += p.share
	}
	for _, p := range phases {
		if err := s.phase(p, whole*time.Duration(p.share)/time.Duration(shares)); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return errors.Join(s.finish(), s.flat(whole))
}

func (s *soak) phase(p phase, length time.Duration) error {
	if err := s.network.Clear(); err != nil {
		return err
	}
	if p.begin != nil {
		if err := p.begin(s); err != nil {
			return err
		}
	}
	row := soakRow{name: p.name, dropped: len(s.feeder.Dropped())}
	before, err := s.sandbox.Sessions()
	if err != nil {
		return err
	}
	if row.first, err = s.process.Vitals(); err != nil {
		return fmt.Errorf("%w: %s", err, s.process.Ending())
	}
	row.most = row.first
	began := time.Now()
	tick := time.NewTicker(time.Second / 2)
	defer tick.Stop()
	for n := 0; time.Since(began) < length; n++ {
		if err := s.moment(p, n, &row); err != nil {
			return err
		}
		<-tick.C
	}
	row.took = time.Since(began)
	after, err := s.sandbox.Sessions()
	if err != nil {
		return err
	}
	row.dropped, row.sessions = len(s.feeder.Dropped())-row.dropped, len(after)-len(before)
	if row.attempts, err = s.network.Attempts(); err != nil {
		return err
	}
	row.perSecond = float64(row.attempts) / row.took.Seconds()
	row.cpu = row.last.CPU - row.first.CPU
	s.rows = append(s.rows, row)
	// The first attempts of captures that are on their way are no spinning.
	if p.down && float64(row.attempts) > row.took.Seconds()+4 {
		return fmt.Errorf("%d connections in %v while nobody answers, want at most one a second", row.attempts, row.took.Round(time.Second))
	}
	return nil
}

// moment is what happens every half second: a capture, a large one at times, a
// burst now and then.
func (s *soak) moment(p phase, n int, row *soakRow) error {
	ways := []string{faulttest.Closed, faulttest.Renamed, faulttest.MovedIn, faulttest.Slow, faulttest.Zipped}
	count := 1
	switch {
	case n%60 == 59:
		s.feeder.Drop(faulttest.Big)
	case n%40 == 39:
		count = 20
	}
	for range count {
		s.feeder.Drop(ways[s.random.IntN(len(ways))])
	}
	if p.every != nil && n%2 == 0 {
		if err := p.every(s); err != nil {
			return err
		}
	}
	v, err := s.process.Vitals()
	if err != nil {
		return fmt.Errorf("%w: %s", err, s.process.Ending())
	}
	row.last = v
	row.most.RSS, row.most.Files = max(row.most.RSS, v.RSS), max(row.most.Files, v.Files)
	row.most.Threads, row.most.Goroutines = max(row.most.Threads, v.Threads), max(row.most.Goroutines, v.Goroutines)
	return nil
}

// restart restarts the server every few seconds.
func (s *soak) restart() error {
	if time.Now().Before(s.next) {
		return nil
	}
	s.next = time.Now().Add(time.Duration(2+s.random.IntN(10)) * time.Second)
	return s.sandbox.Restart(s.ctx)
}

// finish waits until everything has arrived and judges.
func (s *soak) finish() error {
	if err := s.feeder.Wait(); err != nil {
		return err
	}
	began := time.Now()
	for {
		done, err := faulttest.Settled(s.ctx, s.agent, s.sandbox, s.feeder)
		if err != nil {
			return err
		}
		if done || time.Since(began) > 5*time.Minute {
			break
		}
		time.Sleep(200 * time.Millisecond)
	}
	last, err := s.process.Vitals()
	if err != nil {
		return err
	}
	s.rows = append(s.rows, soakRow{name: "what was left", took: time.Since(began), last: last, most: last})
	if err := s.process.Stop(25 * time.Second); err != nil {
		return err
	}
	v := faulttest.Judge(s.ctx, s.agent, s.sandbox, s.feeder)
	if s.process.ExitCode() != 0 || s.process.Crash() != "" {
		v.Broken = append(v.Broken, s.process.Ending())
	}
	if !v.OK() {
		return fmt.Errorf("%v\n%s", v, s.process.Tail(40))
	}
	return nil
}

// flat compares the phases: what was needed in the first half must do for the
// second.
func (s *soak) flat(whole time.Duration) error {
	var early, late faulttest.Vitals
	for i, row := range s.rows {
		to := &early
		if i >= len(s.rows)/2 {
			to = &late
		}
		to.RSS, to.Files, to.Goroutines = max(to.RSS, row.most.RSS), max(to.Files, row.most.Files), max(to.Goroutines, row.most.Goroutines)
	}
	var errs []error
	if late.RSS > 100<<20 {
		errs = append(errs, fmt.Errorf("%d MB of memory", late.RSS>>20))
	}
	if whole < 10*time.Minute {
		return errors.Join(errs...) // too short to tell growth from warming up
	}
	if late.RSS > early.RSS+early.RSS/5 {
		errs = append(errs, fmt.Errorf("memory grew from %d to %d kB", early.RSS>>10, late.RSS>>10))
	}
	if late.Files > early.Files+4 {
		errs = append(errs, fmt.Errorf("open files grew from %d to %d", early.Files, late.Files))
	}
	if late.Goroutines > early.Goroutines+10 {
		errs = append(errs, fmt.Errorf("goroutines grew from %d to %d", early.Goroutines, late.Goroutines))
	}
	return errors.Join(errs...)
}

func (s *soak) table() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "phase\ttook\tdropped\tsessions\tconnections\ta second\tCPU\tRSS kB\tmost\tfiles\tmost\tthreads\tgoroutines\t")
	for _, r := range s.rows {
		fmt.Fprintf(w, "%s\t%v\t%d\t%d\t%d\t%.2f\t%v\t%d\t%d\t%d\t%d\t%d\t%d\t\n", r.name, r.took.Round(time.Second), r.dropped, r.sessions,
			r.attempts, r.perSecond, r.cpu, r.last.RSS>>10, r.most.RSS>>10, r.last.Files, r.most.Files, r.most.Threads, r.most.Goroutines)
	}
	_ = w.Flush() // into memory
	return b.String()
}

//go:build linux

package crash

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"capagent/internal/faulttest"
)

var (
	killsFlag = flag.Int("crash.kills", 24, "kills in total")
	afterFlag = flag.String("crash.after", "keep,delete,move,copy", "what becomes of sent files, in turn; copy keeps them and sends copies")
	readyFlag = flag.Duration("crash.ready", 5*time.Second, "the longest that a start may take until the agent is ready; a second on a machine that does nothing else")
	roundFlag = flag.Int("crash.round", 50, "kills between two verdicts")
)

// serverFaults are what the sandbox may do during a round. None is by far the
// most frequent, or nothing would ever get done.
var serverFaults = []string{"", "", "", "", "accept-drop:times=3", "accept-hang:times=2", "busy:times=2", "reset-mid-body:bytes=200,times=3", "error:times=2", "truncated-json:times=2"}

// TestKills kills the daemon at random moments while captures arrive, and starts
// it again, many times over. In the end every capture is in exactly one session,
// and every file is where it belongs.
func TestKills(t *testing.T) {
	bin := program(t)
	random := rand.New(rand.NewPCG(seed(t), 3))
	stats, errs := killRounds(t.Context(), bin, random, *killsFlag, *afterFlag)
	report(t, errs)
	t.Log(stats)
	checkStarts(t, stats)
}

func checkStarts(t *testing.T, stats *killStats) {
	t.Helper()
	if worst := stats.starts.worst(); worst > *readyFlag {
		t.Errorf("ready %v after a start, want at most %v", worst, *readyFlag)
	}
}

// killRounds kills so often, in rounds. after lists what becomes of sent files,
// faults is what the server does all the time; without any it does some by chance.
func killRounds(ctx context.Context, bin string, random *rand.Rand, kills int, after string, faults ...string) (*killStats, []error) {
	stats := &killStats{began: time.Now()}
	rounds := shares(kills, min(*roundFlag, max(1, kills / *workersFlag)))
	seeds := seedsOf(random, len(rounds))
	return stats, each(len(rounds), func(i int) error {
		dir, remove, err := memory()
		if err != nil {
			return err
		}
		defer remove()
		r := &round{bin: bin, strict: true, after: afterOf(after, i), stats: stats, random: rand.New(rand.NewPCG(seeds[i], 4)), always: faults}
		if err := r.run(ctx, dir, seeds[i], rounds[i]); err != nil {
			return fmt.Errorf("round %d (after = %q, seed %d): %w", i, r.after, seeds[i], err)
		}
		return nil
	})
}

// afterOf is what becomes of sent files in round i.
func afterOf(list string, i int) string {
	all := strings.Split(list, ",")
	return all[i%len(all)]
}

// watchFor returns the folder of a round.
func watchFor(after, path, sent string) faulttest.Watch {
	switch after {
	case "copy":
		return faulttest.Watch{Path: path, After: "keep", Copy: true}
	case "move":
		return faulttest.Watch{Path: path, After: after, To: sent}
	default:
		return faulttest.Watch{Path: path, After: after}
	}
}

// shares splits n into parts of at most most.
func shares(n, most int) []int {
	var out []int
	for ; n > 0; n -= most {
		out = append(out, min(n, most))
	}
	return out
}

func seedsOf(random *rand.Rand, n int) []uint64 {
	out := make([]uint64, n)
	for i := range out {
		out[i] = random.Uint64() % 1_000_000
	}
	return out
}

// round is one sandbox, one state, one folder and many lives.
type round struct {
	bin     string
	after   string
	kills   int
	strict  bool     // no file may be taken early
	always  []string // faults of the server; none: some by chance
	random  *rand.Rand
	stats   *killStats
	sandbox *faulttest.Sandbox
	agent   *faulttest.Agent
	feeder  *faulttest.Feeder
}

func (r *round) run(ctx context.Context, dir string, seed uint64, kills int) error {
	var err error
	if r.sandbox, err = faulttest.StartSandbox(ctx, r.bin, filepath.Join(dir, "sandbox"), r.faults()...); err != nil {
		return err
	}
	defer func() { r.sandbox.Stop() }()
	w := watchFor(r.after, filepath.Join(dir, "watch"), filepath.Join(dir, "sent"))
	if r.agent, err = faulttest.NewAgent(r.bin, filepath.Join(dir, "agent"), r.sandbox, w); err != nil {
		return err
	}
	r.feeder = faulttest.NewFeeder(w, dir, seed)
	for n := 0; r.kills < kills; n++ {
		if n%10 == 9 {
			if err := r.sandbox.Restart(ctx, r.faults()...); err != nil {
				return err
			}
		}
		if err := r.life(ctx); err != nil {
			return fmt.Errorf("life %d: %w", n+1, err)
		}
	}
	return r.finish(ctx)
}

func (r *round) faults() []string {
	if r.always != nil {
		return r.always
	}
	if f := serverFaults[r.random.IntN(len(serverFaults))]; f != "" {
		return []string{f}
	}
	return nil
}

// life starts the daemon, drops captures, and kills it at some moment: while it
// starts, while it has nothing to do, or in the middle of a burst.
func (r *round) life(ctx context.Context) error {
	if r.random.IntN(3) == 0 {
		r.drop(1 + r.random.IntN(6)) // they are there when it starts
	}
	p, err := r.agent.Run(ctx)
	if err != nil {
		return err
	}
	if r.random.IntN(4) == 0 { // while it starts
		r.sleep(60 * time.Millisecond)
	} else {
		if err := p.WaitReady(10 * time.Second); err != nil {
			p.Kill()
			return err
		}
		r.stats.started(p)
		up, err := r.company(ctx, p)
		if err != nil {
			p.Kill()
			return err
		}
		if r.random.IntN(5) > 0 {
			r.drop(1 + r.random.IntN(8))
		}
		r.sleep(200 * time.Millisecond)
		if up != nil {
			defer r.endUpload(up)
		}
	}
	return r.end(p)
}

// company has other commands run beside the daemon at times.
func (r *round) company(ctx context.Context, p *faulttest.Process) (*upload, error) {
	switch r.random.IntN(12) {
	case 0:
		return r.upload(ctx)
	case 1:
		p.Signal(syscall.SIGHUP)
	case 2:
		retry, err := faulttest.Start(r.agent.Command(ctx, "retry", "--all"))
		if err != nil {
			return nil, err
		}
		time.AfterFunc(200*time.Millisecond, retry.Kill)
	}
	return nil, nil
}

// upload is a `capagent upload -` beside the daemon.
type upload struct {
	process *faulttest.Process
	capture *faulttest.Dropped
}

func (r *round) upload(ctx context.Context) (*upload, error) {
	u := &upload{capture: r.feeder.Plan()}
	cmd := r.agent.Command(ctx, "upload", "-")
	cmd.Stdin = bytes.NewReader(faulttest.Capture(u.capture.Seed, u.capture.Size))
	var err error
	u.process, err = faulttest.Start(cmd)
	return u, err
}

// acknowledged says whether the command had ended well, with a session or with
// the capture queued.
func (u *upload) acknowledged() bool {
	code := u.process.ExitCode()
	return code == 0 || code == 75
}

// endUpload gives the command a moment more than the daemon.
func (r *round) endUpload(up *upload) {
	select {
	case <-up.process.Ended():
	case <-time.After(time.Duration(r.random.IntN(100)) * time.Millisecond):
		up.process.Kill()
	}
	if !up.acknowledged() {
		r.feeder.Unsure(up.capture)
	}
}

// end ends a life: most often with SIGKILL, sometimes after a while in which the
// process stood still, sometimes politely.
func (r *round) end(p *faulttest.Process) error {
	switch r.random.IntN(12) {
	case 0:
		if err := p.Stop(25 * time.Second); err != nil {
			return err
		}
		if p.Crash() != "" || p.ExitCode() > 0 {
			return fmt.Errorf("after SIGTERM: %s", p.Ending())
		}
		return nil
	case 1:
		if err := p.Freeze(5 * time.Second); err == nil { // it may have ended
			r.sleep(100 * time.Millisecond)
			p.Signal(syscall.SIGCONT)
			r.sleep(50 * time.Millisecond)
		}
	}
	p.Kill()
	r.kills++
	r.stats.kill()
	if p.Crash() != "" || p.ExitCode() >= 0 {
		return fmt.Errorf("it ended by itself: %s", p.Ending())
	}
	return r.noToken("the log", p.Log())
}

// noToken wants a text not to hold the token.
func (r *round) noToken(what, text string) error {
	token, err := os.ReadFile(r.sandbox.TokenFile)
	if err == nil && strings.Contains(text, strings.TrimSpace(string(token))) {
		err = fmt.Errorf("%s holds the token", what)
	}
	return err
}

// noTokenInState looks through every file of the state directory.
func (r *round) noTokenInState() error {
	return filepath.WalkDir(r.agent.StateDir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return r.noToken(path, string(data))
	})
}

func (r *round) drop(n int) {
	for range n {
		r.feeder.Any()
		if r.random.IntN(3) == 0 {
			r.sleep(20 * time.Millisecond)
		}
	}
}

func (r *round) sleep(most time.Duration) { time.Sleep(time.Duration(r.random.Int64N(int64(most)))) }

// finish lets the daemon do what is left, stops it, and judges.
func (r *round) finish(ctx context.Context) error {
	if err := r.feeder.Wait(); err != nil {
		return err
	}
	if err := r.sandbox.Restart(ctx); err != nil {
		return err
	}
	began := time.Now()
	p, err := r.agent.Run(ctx)
	if err != nil {
		return err
	}
	done := false
	for !done && time.Since(began) < time.Minute {
		time.Sleep(20 * time.Millisecond)
		if done, err = faulttest.Settled(ctx, r.agent, r.sandbox, r.feeder); err != nil {
			p.Kill()
			return err
		}
	}
	r.stats.drains.add(time.Since(began))
	if err := p.WaitReady(time.Minute); err != nil { // before that nothing hears a request to end
		return err
	}
	if err := p.Stop(25 * time.Second); err != nil {
		return err
	}
	v := faulttest.Judge(ctx, r.agent, r.sandbox, r.feeder)
	if err := errors.Join(r.noToken("the log", p.Log()), r.noTokenInState()); err != nil {
		v.Broken = append(v.Broken, err.Error())
	}
	if p.ExitCode() != 0 || p.Crash() != "" {
		v.Broken = append(v.Broken, "the last run: "+p.Ending())
	}
	if r.strict && v.Versions+v.Parked > 0 { // leases tell of every writer here
		v.Broken = append(v.Broken, fmt.Sprintf("%d early versions were taken while somebody wrote them", v.Versions+v.Parked))
	}
	r.stats.count(len(r.feeder.Dropped()), v)
	if !v.OK() {
		status, _ := r.agent.Status(ctx)
		return fmt.Errorf("%v\nstatus: %s\nlog of the last run:\n%s\ncaptures:\n%s", v, status.Raw, p.Tail(40), r.agent.Rows(ctx))
	}
	return nil
}

// killStats are the figures of a campaign.
type killStats struct {
	began  time.Time
	starts durations
	drains durations

	mu       sync.Mutex
	kills    int
	dropped  int
	sessions int
	versions int
	parked   int
	slow     string // the starts that took longer than a second
}

func (s *killStats) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kills++
}

// started notes how long a start took, and what a slow one had to say.
func (s *killStats) started(p *faulttest.Process) {
	took := p.ReadyAfter()
	s.starts.add(took)
	if took > time.Second {
		v, err := p.Vitals()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.slow += fmt.Sprintf("\nready after %v, with %v of CPU (%v):\n%s", took, v.CPU, err, p.Tail(5))
	}
}

func (s *killStats) count(dropped int, v *faulttest.Verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropped += dropped
	s.sessions += v.Sessions
	s.versions += v.Versions
	s.parked += v.Parked
}

func (s *killStats) String() string {
	took := time.Since(s.began)
	return fmt.Sprintf("%d kills in %v (%.1f/s); %d captures dropped, %d sessions (%d of early versions, and %d of those parked); ready after a start: %v; what was left at the end took %v%s",
		s.kills, took.Round(time.Millisecond), float64(s.kills)/took.Seconds(), s.dropped, s.sessions, s.versions, s.parked, &s.starts, &s.drains, s.slow)
}

// durations collects measured times.
type durations struct {
	mu  sync.Mutex
	all []time.Duration
}

func (d *durations) add(one time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all = append(d.all, one)
}

func (d *durations) worst() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.all) == 0 {
		return 0
	}
	return slices.Max(d.all)
}

func (d *durations) String() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.all) == 0 {
		return "never"
	}
	s := slices.Sorted(slices.Values(d.all))
	at := func(q float64) time.Duration { return s[int(q*float64(len(s)-1))].Round(100 * time.Microsecond) }
	return fmt.Sprintf("p50 %v, p99 %v, max %v", at(0.5), at(0.99), at(1))
}

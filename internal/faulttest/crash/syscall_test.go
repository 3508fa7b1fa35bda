//go:build linux

package crash

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"capagent/internal/faulttest"
)

var (
	syscallsFlag = flag.String("crash.syscalls", "sample", "which points to try: sample, kill (all points, killed), or all (all points, killed and with every errno)")
	livesFlag    = flag.String("crash.lives", "", "only lives whose name matches this expression")
)

// A life is one run of the program with everything that a capture can meet in it.
type life struct {
	name  string
	args  []string // the command
	after string   // for a daemon: what becomes of the file
	stdin bool     // the capture comes by standard input
	quick bool     // part of the sample
}

var lives = []life{
	{name: "import", args: []string{"import", "--quiet"}},
	{name: "stdin", args: []string{"upload", "-"}, stdin: true, quick: true},
	{name: "run, keep", args: []string{"run"}, after: "keep"},
	{name: "run, move", args: []string{"run"}, after: "move"},
	{name: "run, delete", args: []string{"run"}, after: "delete", quick: true},
}

// point is one call of a life: the Nth of its kind on one kind of file.
type point struct {
	call string
	path string
	n    int
}

func (p point) String() string { return fmt.Sprintf("%s %s #%d", p.call, p.path, p.n) }

// harm is what happens at a point.
type harm struct {
	errno syscall.Errno // 0: SIGKILL
	stays bool          // and at every later call of this kind
}

func (h harm) String() string {
	switch {
	case h.errno == 0:
		return "SIGKILL"
	case h.stays:
		return errnoName(h.errno) + " from there on"
	default:
		return errnoName(h.errno)
	}
}

// TestEverySyscall lives each life once to count the calls by which it changes
// anything outside, then once for each of them, killed there or told an error.
// Whatever happened, an undisturbed run must then end with every capture in one
// session.
func TestEverySyscall(t *testing.T) {
	if err := faulttest.HooksWork(); err != nil {
		t.Skip(err)
	}
	bin, random := program(t), rand.New(rand.NewPCG(seed(t), 2))
	only := regexp.MustCompile(*livesFlag)
	for _, l := range lives {
		if !only.MatchString(l.name) || !l.quick && *syscallsFlag == "sample" && *livesFlag == "" {
			continue
		}
		t.Run(l.name, func(t *testing.T) {
			points, err := countPoints(bin, l)
			if err != nil {
				t.Fatal(err)
			}
			cases := choose(points, random)
			t.Logf("%d points, %d cases", len(points), len(cases))
			if testing.Verbose() {
				logPoints(t, points)
			}
			report(t, runCases(t, bin, l, cases))
		})
	}
}

type oneCase struct {
	point point
	harm  harm
}

// choose returns the cases to run: all, all kills, or for a quick look each kind
// of call once, at any of its points.
func choose(points map[point]int, random *rand.Rand) []oneCase {
	list := slices.SortedFunc(maps.Keys(points), func(a, b point) int { return strings.Compare(a.sortKey(), b.sortKey()) })
	var cases []oneCase
	kinds, most := map[string]bool{}, mostOf(points)
	for _, p := range list {
		errnos := errnosFor(p.call, p.path)
		switch *syscallsFlag {
		case "all":
			cases = append(cases, oneCase{p, harm{}})
			for _, e := range errnos {
				cases = append(cases, oneCase{p, harm{errno: e}})
			}
			if len(errnos) > 0 {
				cases = append(cases, oneCase{p, harm{errno: errnos[0], stays: true}})
			}
		case "kill":
			cases = append(cases, oneCase{p, harm{}})
		default:
			if kind := p.call + " " + p.path; !kinds[kind] {
				kinds[kind] = true
				h := harm{}
				if len(errnos) > 0 && random.IntN(2) == 0 {
					h.errno = errnos[random.IntN(len(errnos))]
					h.stays = h.errno == errnos[0] && random.IntN(2) == 0
				}
				p.n = 1 + random.IntN(most[kind])
				cases = append(cases, oneCase{p, h})
			}
		}
	}
	return cases
}

func (p point) sortKey() string { return fmt.Sprintf("%s %s %06d", p.call, p.path, p.n) }

// countPoints lives the life a few times: the threads do not always come in the
// same order, and a batch is not always as large.
func countPoints(bin string, l life) (map[point]int, error) {
	all := map[point]int{}
	for i := range 3 {
		calls := map[point]int{}
		w, err := newWorld(bin, l, uint64(i))
		if err != nil {
			return nil, err
		}
		err = w.live(func(p point) faulttest.Action {
			calls[p]++
			return faulttest.Action{}
		}, 10*time.Second)
		if err == nil {
			err = w.judge()
		}
		w.close()
		if err != nil {
			return nil, fmt.Errorf("an undisturbed life of %s: %w", l.name, err)
		}
		for p := range calls {
			all[p]++
		}
	}
	return all, nil
}

// mostOf returns how many points each kind of call has.
func mostOf(points map[point]int) map[string]int {
	most := map[string]int{}
	for p := range points {
		kind := p.call + " " + p.path
		most[kind] = max(most[kind], p.n)
	}
	return most
}

// logPoints says which calls a life is made of.
func logPoints(t *testing.T, points map[point]int) {
	most := mostOf(points)
	for _, kind := range slices.Sorted(maps.Keys(most)) {
		t.Logf("%4d  %s", most[kind], kind)
	}
}

func runCases(t *testing.T, bin string, l life, cases []oneCase) []error {
	t.Helper()
	var missed, slowest atomic.Int64
	start := time.Now()
	errs := each(len(cases), func(i int) error {
		began := time.Now()
		reached, err := runCase(bin, l, cases[i], uint64(i)+100)
		if !reached {
			missed.Add(1)
		}
		slowest.Store(max(slowest.Load(), int64(time.Since(began))))
		if err != nil {
			return fmt.Errorf("%s: %s at %s: %w", l.name, cases[i].harm, cases[i].point, err)
		}
		return nil
	})
	took := time.Since(start)
	t.Logf("%d cases in %v (%.1f/s, the slowest %v), %d did not come to their point", len(cases), took.Round(time.Millisecond),
		float64(len(cases))/took.Seconds(), time.Duration(slowest.Load()).Round(time.Millisecond), missed.Load())
	if int(missed.Load()) > len(cases)/5 {
		errs = append(errs, errors.New("too many cases did not come to their point: the count is not worth much"))
	}
	return errs
}

// runCase reports whether the life came to the point.
func runCase(bin string, l life, c oneCase, seed uint64) (bool, error) {
	w, err := newWorld(bin, l, seed)
	if err != nil {
		return false, err
	}
	defer w.close()
	var reached atomic.Bool
	err = w.live(func(p point) faulttest.Action {
		again := c.harm.stays && reached.Load() && p.call == c.point.call && p.path == c.point.path
		if p != c.point && !again {
			return faulttest.Action{}
		}
		reached.Store(true)
		return faulttest.Action{Kill: c.harm.errno == 0, Errno: c.harm.errno}
	}, 1500*time.Millisecond)
	if err == nil {
		err = w.judge()
	}
	return reached.Load(), err
}

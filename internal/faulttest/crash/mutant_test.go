//go:build linux

package crash

import (
	"cmp"
	"errors"
	"flag"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"capagent/internal/faulttest"
)

var mutantsFlag = flag.Bool("crash.mutants", false, "build agents that are wrong in one place, and see the campaigns notice")

// A harness that can't fail shows nothing. Each mutant is a capagent that breaks
// one rule, and the campaign that must notice.
func TestMutantsAreCaught(t *testing.T) {
	if !*mutantsFlag {
		t.Skip("-crash.mutants builds and tries them (a minute)")
	}
	for _, m := range []struct {
		name   string
		patch  []faulttest.Patch
		notice func(t *testing.T, bin string, random *rand.Rand) []error
		says   string // what one of the errors must hold
	}{
		{
			"never looks before it repeats: kills",
			[]faulttest.Patch{neverLooks},
			dropping, "twice",
		},
		{
			"never looks before it repeats: system calls",
			[]faulttest.Patch{neverLooks},
			importCalls, "twice",
		},
		{
			"the ledger does not sync",
			[]faulttest.Patch{{
				File: "internal/ledger/open.go",
				Old:  `l.w = openDB(l.path, "_txlock=immediate", "_pragma=journal_mode(WAL)", "_pragma=synchronous(FULL)"`,
				New:  `l.w = openDB(l.path, "_txlock=immediate", "_pragma=journal_mode(WAL)", "_pragma=synchronous(OFF)"`,
			}},
			cuts, "lost|twice",
		},
		{
			"the spool's folder is not synced",
			[]faulttest.Patch{{File: "service/syncdir_unix.go", Old: "return d.Sync()", New: "return nil"}},
			cuts, "the disk has not.*/spool/",
		},
		{
			"files are deleted before they are sent",
			[]faulttest.Patch{
				{File: "service/daemon/after.go", Old: "case c.State != ledger.Done && c.State != ledger.Purged || c.SessionID == \"\":", New: "case false:"},
				{File: "service/retention/after.go", Old: "if c.SessionID == \"\" || c.State != ledger.Done && !purged || rule.Action", New: "if _ = purged; rule.Action"},
				{File: "service/retention/after.go", Old: "	if c.State != ledger.Purged {\n		if err := a.Ledger.SetState", New: "	if false {\n		if err := a.Ledger.SetState"},
			},
			deleting, "lost",
		},
		{
			"files are deleted before that is recorded",
			[]faulttest.Patch{{File: "service/retention/after.go", Old: recordThenRemove, New: removeThenRecord}},
			deletingCalls, "without a record",
		},
		{
			"files are taken while somebody writes them",
			[]faulttest.Patch{{File: "capture/watch/settle_linux.go", Old: "	case errors.Is(err, unix.EAGAIN):\n		return f, written, nil", New: "	case errors.Is(err, unix.EAGAIN):\n		return f, closed, nil"}},
			plainKills, "early",
		},
		{
			"a dead server is called again and again",
			[]faulttest.Patch{{File: "service/door.go", Old: "Probe: time.Second, ProbeLongest: 2 * time.Minute", New: "Probe: time.Millisecond, ProbeLongest: 2 * time.Millisecond"}},
			badNetworks, "at most one a second",
		},
		{
			"what could not be recorded is forgotten",
			[]faulttest.Patch{{File: "service/daemon/intake.go", Old: "againLater = 30 * time.Second", New: "againLater = 24 * time.Hour"}},
			fullQuota, "waited",
		},
		{
			"the sender is not told of a new capture",
			[]faulttest.Patch{{File: "service/daemon/generation.go", Old: "	g.sender.poke()\n	d.keeper.pokeAudit()\n}", New: "	d.keeper.pokeAudit()\n}"}},
			latency, "is not sent",
		},
	} {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			errs := m.notice(t, mutant(t, m.patch...), rand.New(rand.NewPCG(seed(t), 7)))
			for _, err := range errs {
				if regexp.MustCompile(m.says).MatchString(err.Error()) {
					t.Logf("caught, %d times: %.300v", len(errs), err)
					return
				}
			}
			t.Errorf("not caught: %v", errs)
		})
	}
}

var neverLooks = faulttest.Patch{
	File: "service/pipeline.go",
	Old:  "finder, ok := step.(Finder); ok && restarted {",
	New:  "finder, ok := step.(Finder); ok && restarted && false {",
}

const (
	recordThenRemove = `	if c.State != ledger.Purged {
		if err := a.Ledger.SetState(ctx, c.ID, ledger.Purged, "deleted after the upload"); err != nil {
			return err
		}
	}
	a.done("recorded")
	if err := a.remove(src, seen); err != nil {
		return err
	}
`
	removeThenRecord = `	if err := a.remove(src, seen); err != nil {
		return err
	}
	a.done("recorded")
	if c.State != ledger.Purged {
		if err := a.Ledger.SetState(ctx, c.ID, ledger.Purged, "deleted after the upload"); err != nil {
			return err
		}
	}
`
)

func dropping(t *testing.T, bin string, random *rand.Rand) []error {
	_, errs := killRounds(t.Context(), bin, random, 10, "keep", "accept-drop")
	return errs
}

func plainKills(t *testing.T, bin string, random *rand.Rand) []error {
	_, errs := killRounds(t.Context(), bin, random, 10, "keep")
	return errs
}

func deleting(t *testing.T, bin string, random *rand.Rand) []error {
	_, errs := killRounds(t.Context(), bin, random, 10, "delete")
	return errs
}

func importCalls(t *testing.T, bin string, _ *rand.Rand) []error {
	return ledgerCalls(t, bin, "import")
}

func deletingCalls(t *testing.T, bin string, _ *rand.Rand) []error {
	return ledgerCalls(t, bin, "run, delete")
}

// ledgerCalls kills a life at each write of the ledger in its second half.
func ledgerCalls(t *testing.T, bin, name string) []error {
	l := lives[slices.IndexFunc(lives, func(l life) bool { return l.name == name })]
	points, err := countPoints(bin, l)
	if err != nil {
		return []error{err}
	}
	most := mostOf(points)
	var cases []oneCase
	for p := range points {
		if strings.HasSuffix(p.path, "-wal") && p.call == "pwrite64" && p.n > most[p.call+" "+p.path]/2 {
			cases = append(cases, oneCase{point: p})
		}
	}
	return runCases(t, bin, l, cases)
}

func badNetworks(t *testing.T, bin string, random *rand.Rand) []error {
	if err := faulttest.CanDisturb(); err != nil {
		t.Skip(err)
	}
	s := &soak{ctx: t.Context(), random: random}
	return []error{cmp.Or(s.run(bin, t.TempDir(), 24*time.Second), errors.New("nothing"))}
}

func fullQuota(t *testing.T, bin string, _ *rand.Rand) []error {
	one := troubles[slices.IndexFunc(troubles, func(one trouble) bool { return one.name == "quota" })]
	dir := t.TempDir()
	w := &troubled{dir: dir, state: filepath.Join(dir, "state"), folder: filepath.Join(dir, "watch")}
	if err := one.prepare(t, w); err != nil {
		return []error{err}
	}
	return []error{cmp.Or(w.live(t.Context(), bin, one), errors.New("nothing"))}
}

func latency(t *testing.T, bin string, random *rand.Rand) []error {
	_, _, err := latencies(t.Context(), bin, random, 3)
	return []error{cmp.Or(err, errors.New("nothing"))}
}

func cuts(t *testing.T, bin string, random *rand.Rand) []error {
	_, errs := cutRounds(t.Context(), bin, random, 24)
	return errs
}

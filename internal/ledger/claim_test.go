package ledger

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestAClaimEndsWithItsProcess(t *testing.T) {
	path := newPath(t)
	l := open(t, path, Options{})
	id := register(t, l, found("/a", "a"))[0].ID
	c := start(t, "claim", path, strconv.FormatInt(id, 10), "cloudshark")
	if line, _ := c.line(); line != "claimed false 1" {
		t.Fatalf("child: %q", line)
	}
	same(t, begin(t, l, id, "cloudshark"), Begun{Outcome: Busy, PID: c.cmd.Process.Pid})
	if err := l.Finish(t.Context(), id, "cloudshark", Result{}, Done); !errors.Is(err, ErrNotClaimed) {
		t.Fatalf("finished another process's step: %v", err)
	}
	if err := l.Fail(t.Context(), id, "cloudshark", StepFailure{}); !errors.Is(err, ErrNotClaimed) {
		t.Fatalf("failed another process's step: %v", err)
	}
	if err := l.SetState(t.Context(), id, Quarantined, "x"); !errors.Is(err, ErrBusy) {
		t.Fatalf("moved a capture that is being sent: %v", err)
	}
	if n := ownerFiles(t, path); n != 2 {
		t.Fatalf("%d owner files, want the child's and ours", n)
	}
	c.kill()
	same(t, begin(t, l, id, "cloudshark"), Begun{Outcome: Claimed, Restarted: true, Attempt: 2})
	if n := ownerFiles(t, path); n != 1 {
		t.Errorf("%d owner files, the dead one should be gone", n)
	}
	ok(t, l.Close())
	if n := ownerFiles(t, path); n != 0 {
		t.Errorf("%d owner files after Close", n)
	}
	l = open(t, path, Options{})
	same(t, begin(t, l, id, "cloudshark"), Begun{Outcome: Claimed, Restarted: true, Attempt: 3})
}

func TestANewOwnerSweepsUpAfterTheDead(t *testing.T) {
	path := newPath(t)
	l := open(t, path, Options{})
	id := register(t, l, found("/a", "a"))[0].ID
	for range 3 {
		c := start(t, "claim", path, strconv.FormatInt(id, 10), "cloudshark")
		c.line()
		c.kill()
	}
	mustClaim(t, l, id, "cloudshark")
	if n := ownerFiles(t, path); n != 1 {
		t.Errorf("%d owner files", n)
	}
}

func ownerFiles(t testing.TB, path string) int {
	t.Helper()
	files, err := os.ReadDir(path + ".owners")
	ok(t, err)
	return len(files)
}

func TestEachStepIsClaimedOnceAcrossProcesses(t *testing.T) {
	path := newPath(t)
	l := open(t, path, Options{})
	var all []Found
	const n = 120
	for i := range n {
		all = append(all, found("/"+strconv.Itoa(i), strconv.Itoa(i)))
	}
	register(t, l, all...)
	procs := []*child{start(t, "once", path), start(t, "once", path), start(t, "once", path)}
	seen := map[string]int{}
	for i, p := range procs {
		for {
			line, more := p.line()
			if !more {
				break
			}
			if id, restarted, _ := strings.Cut(line, " "); restarted != "false" {
				t.Errorf("process %d took capture %s over", i, id)
			} else {
				seen[id]++
			}
		}
		p.wait()
	}
	for id, times := range seen {
		if times != 1 {
			t.Errorf("capture %s was claimed %d times", id, times)
		}
	}
	if len(seen) != n {
		t.Errorf("%d of %d captures claimed", len(seen), n)
	}
}

func TestTheSameContentIsSentOnce(t *testing.T) {
	l := open(t, newPath(t), Options{})
	elsewhere := found("/c", "same")
	elsewhere.Destination = "https://other.example"
	r := register(t, l, found("/a", "same"), found("/b", "same"), elsewhere, found("/d", "different"))
	a, b := r[0].ID, r[1].ID
	mustClaim(t, l, a, "cloudshark")
	same(t, begin(t, l, b, "cloudshark"), Begun{Outcome: Busy, Other: a, PID: os.Getpid()})
	same(t, mustClaim(t, l, r[2].ID, "cloudshark"), Begun{Outcome: Claimed, Attempt: 1})
	same(t, mustClaim(t, l, r[3].ID, "cloudshark"), Begun{Outcome: Claimed, Attempt: 1})
	ok(t, l.Finish(t.Context(), a, "cloudshark", Result{SessionID: "0123456789ab"}, Done))
	same(t, begin(t, l, b, "cloudshark"), Begun{Outcome: Duplicate, Other: a})
	ok(t, l.Finish(t.Context(), b, "cloudshark", Result{Skipped: true, Note: "sent as a", SessionID: "0123456789ab", DuplicateOf: a}, Done))
	if c := get(t, l, b); c.State != Done || c.DuplicateOf != a || c.SessionID != "0123456789ab" {
		t.Errorf("%+v", c)
	}
	// A third one is told of the original, not of the duplicate.
	e := register(t, l, found("/e", "same"))[0].ID
	same(t, begin(t, l, e, "cloudshark"), Begun{Outcome: Duplicate, Other: a})
	c, err := l.Lookup(t.Context(), "0123456789ab")
	ok(t, err)
	if c.ID != a {
		t.Errorf("the session is looked up as capture %d", c.ID)
	}
}

func TestAnAttemptOfTheSameContentMakesTheNextOneLook(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(l *Ledger, id int64) error
	}{
		{"failed for now", func(l *Ledger, id int64) error {
			return l.Fail(t.Context(), id, "cloudshark", StepFailure{Class: "network"})
		}},
		{"failed for good", func(l *Ledger, id int64) error {
			return l.Fail(t.Context(), id, "cloudshark", StepFailure{Class: "x", Permanent: true})
		}},
		{"interrupted", func(l *Ledger, id int64) error {
			return l.Fail(t.Context(), id, "cloudshark", StepFailure{Release: true})
		}},
		{"given up without a record", func(l *Ledger, id int64) error {
			l.setActive(claim{id, "cloudshark"}, false)
			return nil
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := open(t, newPath(t), Options{})
			r := register(t, l, found("/a", "same"), found("/b", "same"))
			mustClaim(t, l, r[0].ID, "cloudshark")
			ok(t, tt.end(l, r[0].ID))
			same(t, begin(t, l, r[1].ID, "cloudshark"), Begun{Outcome: Claimed, Restarted: true, Attempt: 1, Other: r[0].ID})
		})
	}
}

func TestFilesWithoutAHashAreNotTheSame(t *testing.T) {
	l := open(t, newPath(t), Options{})
	a, b := found("/a", ""), found("/b", "")
	a.SHA256, b.SHA256 = "", ""
	r := register(t, l, a, b)
	mustClaim(t, l, r[0].ID, "cloudshark")
	same(t, mustClaim(t, l, r[1].ID, "cloudshark"), Begun{Outcome: Claimed, Attempt: 1})
}

func TestAFailedAttemptWaits(t *testing.T) {
	clk := newClock()
	l := open(t, newPath(t), Options{Now: clk.Now})
	id := register(t, l, found("/a", "a"))[0].ID
	mustClaim(t, l, id, "cloudshark")
	later := clk.now.Add(time.Hour)
	ok(t, l.Fail(t.Context(), id, "cloudshark", StepFailure{Class: "busy", Text: "server says 503", NotBefore: later}))
	c := get(t, l, id)
	if c.State != Queued || c.Reason != "server says 503" {
		t.Fatalf("%+v", c)
	}
	same(t, begin(t, l, id, "cloudshark"), Begun{Outcome: Waiting, NotBefore: later})
	failed := clk.now
	clk.now = later
	same(t, mustClaim(t, l, id, "cloudshark"), Begun{Outcome: Claimed, Restarted: true, Attempt: 2, Failed: failed})

	t.Run("but not when a person asks", func(t *testing.T) {
		ok(t, l.Fail(t.Context(), id, "cloudshark", StepFailure{Class: "busy", Text: "again", NotBefore: clk.now.Add(time.Hour)}))
		b, err := l.BeginNow(t.Context(), id, "cloudshark")
		ok(t, err)
		same(t, b, Begun{Outcome: Claimed, Restarted: true, Attempt: 3, Failed: clk.now})
	})
	t.Run("and does not count when the capture is not to blame", func(t *testing.T) {
		ok(t, l.Fail(t.Context(), id, "cloudshark", StepFailure{Class: "network", Text: "refused", Uncounted: true}))
		same(t, mustClaim(t, l, id, "cloudshark"), Begun{Outcome: Claimed, Restarted: true, Attempt: 3, Failed: clk.now})
	})
	t.Run("at most a day", func(t *testing.T) {
		ok(t, l.Fail(t.Context(), id, "cloudshark", StepFailure{Class: "busy", NotBefore: clk.now.Add(1e9 * time.Second)}))
		same(t, begin(t, l, id, "cloudshark"), Begun{Outcome: Waiting, NotBefore: clk.now.Add(MaxWait)})
	})
	t.Run("and not because the clock fell back to 1970", func(t *testing.T) {
		was := clk.now
		clk.now = time.Unix(60, 0)
		defer func() { clk.now = was }()
		mustClaim(t, l, id, "cloudshark")
		ok(t, l.Fail(t.Context(), id, "cloudshark", StepFailure{Class: "busy", NotBefore: was.Add(MaxWait)}))
	})
	t.Run("success clears the reason and keeps the attempts", func(t *testing.T) {
		mustClaim(t, l, id, "cloudshark")
		ok(t, l.Finish(t.Context(), id, "cloudshark", Result{SessionID: "0123456789ab", Note: "sent"}, Done))
		if c := get(t, l, id); c.Reason != "" || c.State != Done {
			t.Errorf("%+v", c)
		}
		steps, err := l.Steps(t.Context(), id)
		ok(t, err)
		same(t, steps[1], Step{Capture: id, Name: "cloudshark", State: StepDone, Attempts: 5, Note: "sent", Updated: clk.now})
	})
}

func TestAPermanentFailureIsParkedUntilRetry(t *testing.T) {
	l := open(t, newPath(t), Options{})
	r := register(t, l, found("/a", "a"), found("/b", "b"), found("/c", "c"), found("/d", "d"))
	a, b, d := r[0].ID, r[1].ID, r[3].ID
	mustClaim(t, l, a, "cloudshark")
	ok(t, l.Fail(t.Context(), a, "cloudshark", StepFailure{Class: "too_large", Text: "over the limit", Permanent: true}))
	if c := get(t, l, a); c.State != Failed || c.Reason != "over the limit" {
		t.Fatalf("%+v", c)
	}
	same(t, begin(t, l, a, "cloudshark"), Begun{Outcome: Finished})
	mustClaim(t, l, b, "cloudshark")
	ok(t, l.Fail(t.Context(), b, "cloudshark", StepFailure{Class: "network", Text: "reset", NotBefore: time.Now().Add(time.Hour)}))
	mustClaim(t, l, d, "cloudshark")
	ok(t, l.Finish(t.Context(), d, "cloudshark", Result{}, Done))
	if err := l.SetState(t.Context(), a, Queued, ""); err == nil {
		t.Fatal("SetState queued a failed capture whose step is still failed")
	}
	n, err := l.Retry(t.Context())
	ok(t, err)
	if n != 2 {
		t.Errorf("%d changed, want the failed and the waiting one", n)
	}
	steps, err := l.Steps(t.Context(), a)
	ok(t, err)
	if s := steps[1]; s.State != StepPending || s.Attempts != 1 || s.Error != "over the limit" || s.Class != "too_large" {
		t.Errorf("%+v", s)
	}
	for _, id := range []int64{a, b} {
		again := mustClaim(t, l, id, "cloudshark")
		again.Failed = time.Time{}
		same(t, again, Begun{Outcome: Claimed, Restarted: true, Attempt: 2})
	}

	ok(t, l.Fail(t.Context(), a, "cloudshark", StepFailure{Text: "x", Permanent: true}))
	ok(t, l.Fail(t.Context(), b, "cloudshark", StepFailure{Text: "x", Permanent: true}))
	n, err = l.Retry(t.Context(), b, d)
	ok(t, err)
	if n != 1 || get(t, l, a).State != Failed || get(t, l, b).State != Queued || get(t, l, d).State != Done {
		t.Errorf("%d changed", n)
	}
	if _, err := l.Retry(t.Context(), b, 4711); !errors.Is(err, ErrNotFound) {
		t.Errorf("%v", err)
	}
}

func TestRetryOfManyTakesThemAll(t *testing.T) {
	l := open(t, newPath(t), Options{})
	var all []Found
	for i := range 2*pageSize + 1 {
		all = append(all, found("/"+strconv.Itoa(i), strconv.Itoa(i)))
	}
	register(t, l, all...)
	force(t, l, `UPDATE captures SET state = 'failed'`)
	n, err := l.Retry(t.Context())
	ok(t, err)
	if n != len(all) {
		t.Errorf("%d of %d", n, len(all))
	}
	s, err := l.Counts(t.Context())
	ok(t, err)
	if s.States[Queued].Captures != int64(len(all)) {
		t.Errorf("%+v", s)
	}
}

func TestAnInterruptedAttemptDoesNotCount(t *testing.T) {
	l := open(t, newPath(t), Options{})
	id := register(t, l, found("/a", "a"))[0].ID
	mustClaim(t, l, id, "cloudshark")
	ok(t, l.Fail(t.Context(), id, "cloudshark", StepFailure{Class: "network", Text: "reset"}))
	mustClaim(t, l, id, "cloudshark")
	ok(t, l.Fail(t.Context(), id, "cloudshark", StepFailure{Class: "interrupted", Text: "interrupted", Release: true}))
	steps, err := l.Steps(t.Context(), id)
	ok(t, err)
	if s := steps[1]; s.Attempts != 1 || s.Class != "network" || s.State != StepPending {
		t.Errorf("%+v", s)
	}
	if c := get(t, l, id); c.Reason != "reset" || c.State != Queued {
		t.Errorf("%+v", c)
	}
	again := mustClaim(t, l, id, "cloudshark")
	again.Failed = time.Time{}
	same(t, again, Begun{Outcome: Claimed, Restarted: true, Attempt: 2})
}

func TestWhatHappenedIsRecordedAfterTheContextEnded(t *testing.T) {
	l := open(t, newPath(t), Options{})
	r := register(t, l, found("/a", "a"), found("/b", "b"))
	ctx, cancel := context.WithCancel(t.Context())
	mustClaim(t, l, r[0].ID, "cloudshark")
	mustClaim(t, l, r[1].ID, "cloudshark")
	planParts(t, l, r[0].ID, []Part{{Number: 1, Of: 1}})
	cancel()
	ok(t, l.FinishPart(ctx, r[0].ID, 1, "0123456789ab", false))
	ok(t, l.Finish(ctx, r[0].ID, "cloudshark", Result{SessionID: "0123456789ab"}, Done))
	ok(t, l.Fail(ctx, r[1].ID, "cloudshark", StepFailure{Release: true}))
	if _, err := l.Begin(ctx, r[1].ID, "cloudshark"); !errors.Is(err, context.Canceled) {
		t.Errorf("begun after the end: %v", err)
	}
	if get(t, l, r[0].ID).State != Done {
		t.Error("the upload is not recorded")
	}
}

func TestFinishRefusesWhatMakesNoSense(t *testing.T) {
	l := open(t, newPath(t), Options{})
	id := register(t, l, found("/a", "a"))[0].ID
	ctx := t.Context()
	var te *TransitionError
	if err := l.Finish(ctx, id, "cloudshark", Result{}, Done); !errors.As(err, &te) {
		t.Errorf("done without a claim: %v", err)
	}
	if err := l.Fail(ctx, id, "cloudshark", StepFailure{}); !errors.As(err, &te) {
		t.Errorf("failed without a claim: %v", err)
	}
	mustClaim(t, l, id, "cloudshark")
	if err := l.Finish(ctx, id, "cloudshark", Result{}, Purged); !errors.As(err, &te) {
		t.Errorf("queued to purged: %v", err)
	}
	// That ended the claim, and nothing was written.
	same(t, mustClaim(t, l, id, "cloudshark"), Begun{Outcome: Claimed, Restarted: true, Attempt: 2})
	if err := l.Finish(ctx, id, "cloudshark", Result{DuplicateOf: id}, Done); err == nil {
		t.Error("its own duplicate")
	}
	for name, err := range map[string]error{
		"begin":  second(l.Begin(ctx, 99, "x")),
		"finish": l.Finish(ctx, 99, "x", Result{}, ""),
		"state":  l.SetState(ctx, 99, Done, ""),
		"get":    second(l.Get(ctx, 99)),
		"parts":  second(l.PlanParts(ctx, 99, []Part{{Number: 1, Of: 1}})),
		"part":   l.FinishPart(ctx, id, 1, "s", false),
	} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestDeletingIsRecordedFirst(t *testing.T) {
	l := open(t, newPath(t), Options{})
	id := register(t, l, found("/a", "a"))[0].ID
	var te *TransitionError
	if err := l.SetState(t.Context(), id, Purged, "x"); !errors.As(err, &te) {
		t.Fatalf("purged a queued capture: %v", err)
	}
	mustClaim(t, l, id, "cloudshark")
	ok(t, l.Finish(t.Context(), id, "cloudshark", Result{}, Done))
	ok(t, l.SetState(t.Context(), id, Purged, "older than 30d"))
	if c := get(t, l, id); c.State != Purged || c.Reason != "older than 30d" {
		t.Errorf("%+v", c)
	}
	if err := l.SetState(t.Context(), id, Purged, "again"); !errors.As(err, &te) {
		t.Errorf("purged twice: %v", err)
	}
}

func TestAnOwnerNameInTheLedgerLeadsNowhereElse(t *testing.T) {
	path := newPath(t)
	l := open(t, path, Options{})
	id := register(t, l, found("/a", "a"))[0].ID
	victim := filepath.Join(filepath.Dir(path), "victim")
	ok(t, os.WriteFile(victim, nil, 0o600))
	force(t, l, `INSERT INTO steps (capture, name, state, owner, begun) VALUES (?, 'cloudshark', 'started', '../victim', 1)`, id)
	same(t, mustClaim(t, l, id, "cloudshark"), Begun{Outcome: Claimed, Restarted: true, Attempt: 1})
	if _, err := os.Stat(victim); err != nil {
		t.Error(err)
	}
}

// Many goroutines meet every query for the first time at once.
func TestConcurrentFirstUseOfALedger(t *testing.T) {
	for range 20 {
		l := open(t, filepath.Join(t.TempDir(), "l.db"), Options{})
		var many []Found
		for i := range 16 {
			many = append(many, Found{Path: fmt.Sprint("/", i), State: Queued, Inspection: Inspection{SHA256: fmt.Sprint(i)}})
		}
		rows, err := l.Register(t.Context(), many)
		ok(t, err)
		var wg sync.WaitGroup
		for _, r := range rows {
			wg.Go(func() {
				if _, err := l.Begin(t.Context(), r.ID, "x"); err != nil {
					t.Error(err)
				}
				if err := l.Finish(t.Context(), r.ID, "x", Result{}, Done); err != nil {
					t.Error(err)
				}
				if c, err := l.Get(t.Context(), r.ID); err != nil || c.State != Done {
					t.Errorf("%v: %s", err, c.State)
				}
			})
		}
		wg.Wait()
		ok(t, l.Close())
	}
}

package service

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"capagent/internal/failure"
	"capagent/internal/ledger"
)

// scripted is a step that does what a test tells it, and remembers the calls.
type scripted struct {
	mu    sync.Mutex
	calls []string
	run   func(c ledger.Capture, n int) (ledger.Result, error)
	find  func(c ledger.Capture) (ledger.Result, bool, error)
	n     int
}

func (s *scripted) Name() string { return "scripted" }

func (s *scripted) Run(_ context.Context, c ledger.Capture) (ledger.Result, error) {
	s.mu.Lock()
	s.n++
	n := s.n
	s.calls = append(s.calls, fmt.Sprintf("run %s", c.Name))
	s.mu.Unlock()
	return s.run(c, n)
}

func (s *scripted) Find(_ context.Context, c ledger.Capture) (ledger.Result, bool, error) {
	s.mu.Lock()
	s.calls = append(s.calls, fmt.Sprintf("find %s", c.Name))
	s.mu.Unlock()
	if s.find == nil {
		return ledger.Result{}, false, nil
	}
	return s.find(c)
}

func session(id string) ledger.Result {
	return ledger.Result{SessionID: id, SessionURL: "https://cs.example/captures/" + id, SessionName: id + ".pcap"}
}

// rig is a real ledger in a directory of its own, with captures named by their content.
func rig(t *testing.T, step Step, contents ...string) (*Pipeline, []int64) {
	t.Helper()
	l, err := ledger.Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"), ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	var found []ledger.Found
	for i, content := range contents {
		found = append(found, ledger.Found{
			Source: "test", Path: fmt.Sprintf("/evidence/%d", i), Name: content, Destination: "https://cs.example",
			State: ledger.Queued, Inspection: ledger.Inspection{SHA256: fmt.Sprintf("%064x", content), Packets: 1},
		})
	}
	known, err := l.Register(t.Context(), found)
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]int64, len(known))
	for i, r := range known {
		ids[i] = r.ID
	}
	return NewPipeline(l, NewGate(OneShot), zerolog.Nop(), step), ids
}

func retryError(text string) error {
	return &failure.Error{Class: "network", Err: errors.New(text)}
}

func TestAFailureThatPassesIsTriedAgainAfterALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		step := &scripted{run: func(_ ledger.Capture, n int) (ledger.Result, error) {
			if n < 3 {
				return ledger.Result{}, retryError("reset")
			}
			return session("aaaaaaaaaaaa"), nil
		}}
		p, ids := rig(t, step, "a")
		start := time.Now()
		c, err := p.Process(t.Context(), ids[0])
		if err != nil || c.State != ledger.Done || c.SessionID != "aaaaaaaaaaaa" || c.Reason != "" {
			t.Errorf("%v: %+v", err, c)
		}
		want := []string{"run a", "find a", "run a", "find a", "run a"}
		if !slices.Equal(step.calls, want) {
			t.Errorf("calls %q, want %q", step.calls, want)
		}
		if d := time.Since(start); d < OneShot.First/2 || d > 5*time.Second {
			t.Errorf("two delays took %v", d)
		}
	})
}

func TestWhatWasFoundIsNotSentAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		step := &scripted{
			run:  func(ledger.Capture, int) (ledger.Result, error) { return ledger.Result{}, retryError("reply lost") },
			find: func(ledger.Capture) (ledger.Result, bool, error) { return session("bbbbbbbbbbbb"), true, nil },
		}
		p, ids := rig(t, step, "a")
		c, err := p.Process(t.Context(), ids[0])
		if err != nil || c.State != ledger.Done || c.SessionID != "bbbbbbbbbbbb" {
			t.Errorf("%v: %+v", err, c)
		}
		if want := []string{"run a", "find a"}; !slices.Equal(step.calls, want) {
			t.Errorf("calls %q, want %q", step.calls, want)
		}
	})
}

func TestNothingIsRepeatedBlindWhenTheLookFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		step := &scripted{
			run: func(ledger.Capture, int) (ledger.Result, error) { return ledger.Result{}, retryError("reply lost") },
			find: func(ledger.Capture) (ledger.Result, bool, error) {
				return ledger.Result{}, false, retryError("no answer")
			},
		}
		p, ids := rig(t, step, "a")
		c, err := p.Process(t.Context(), ids[0])
		if err == nil || c.State != ledger.Queued || c.Reason != "no answer" {
			t.Errorf("%v: %+v", err, c)
		}
		if runs := strings.Count(strings.Join(step.calls, " "), "run"); runs != 1 {
			t.Errorf("calls %q", step.calls)
		}
	})
}

func TestOnePoisonousCaptureBlocksNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		step := &scripted{run: func(c ledger.Capture, n int) (ledger.Result, error) {
			if c.Name == "poison" {
				return ledger.Result{}, retryError("500")
			}
			return session(fmt.Sprintf("%012x", n)), nil
		}}
		contents := []string{"poison"}
		for i := range 30 {
			contents = append(contents, fmt.Sprint(i))
		}
		p, ids := rig(t, step, contents...)
		var mu sync.Mutex
		failed := 0
		err := p.Each(t.Context(), ids, 2, func(_ int, _ ledger.Capture, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed++
			}
		})
		if err != nil || failed != 1 || p.Closed() != nil {
			t.Errorf("%v; %d failed; closed: %v", err, failed, p.Closed())
		}
	})
}

func TestADeadServerClosesTheDoorAfterThePatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		step := &scripted{run: func(ledger.Capture, int) (ledger.Result, error) { return ledger.Result{}, retryError("refused") }}
		var contents []string
		for i := range 200 {
			contents = append(contents, fmt.Sprint(i))
		}
		p, ids := rig(t, step, contents...)
		start := time.Now()
		if err := p.Each(t.Context(), ids, 2, func(int, ledger.Capture, error) {}); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d > OneShot.Patience+OneShot.Longest {
			t.Errorf("gave up after %v only", d)
		}
		s, err := p.Ledger.Counts(t.Context())
		if err != nil || s.States[ledger.Queued].Captures != 200 {
			t.Errorf("%v: %+v", err, s)
		}
	})
}

func TestAClosedDestinationIsToldOnceAndRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := true
		step := &scripted{run: func(c ledger.Capture, n int) (ledger.Result, error) {
			if closed {
				return ledger.Result{}, &failure.Error{Kind: failure.Pause, Class: "bad_token", Err: fmt.Errorf("upload %q: %w", c.Name, errors.New("token is missing"))}
			}
			return session(fmt.Sprintf("%012x", n)), nil
		}}
		p, ids := rig(t, step, "a", "b")
		_, errA := p.Process(t.Context(), ids[0])
		_, errB := p.Process(t.Context(), ids[1])
		if errA == nil || errB == nil || strings.Contains(errB.Error(), `"a"`) || !strings.Contains(errB.Error(), "token is missing") {
			t.Errorf("%v; %v", errA, errB)
		}
		if len(step.calls) != 1 {
			t.Errorf("calls %q", step.calls)
		}
		pauses, err := p.Ledger.Pauses(t.Context())
		if err != nil || len(pauses) != 1 || pauses[0].Class != "bad_token" {
			t.Errorf("%v: %+v", err, pauses)
		}
		// The next process finds the door open.
		closed = false
		p = NewPipeline(p.Ledger, NewGate(OneShot), zerolog.Nop(), step)
		if _, err := p.Process(t.Context(), ids[1]); err != nil {
			t.Error(err)
		}
		if pauses, err := p.Ledger.Pauses(t.Context()); err != nil || len(pauses) != 0 {
			t.Errorf("%v: %+v", err, pauses)
		}
	})
}

func TestAPanicIsTheCapturesOwnFailure(t *testing.T) {
	step := &scripted{run: func(c ledger.Capture, _ int) (ledger.Result, error) {
		if c.Name == "a" {
			panic("index out of range")
		}
		return session("cccccccccccc"), nil
	}}
	p, ids := rig(t, step, "a", "b")
	a, errA := p.Process(t.Context(), ids[0])
	b, errB := p.Process(t.Context(), ids[1])
	if a.State != ledger.Failed || failure.As(errA).Class != "panic" || b.State != ledger.Done || errB != nil {
		t.Errorf("%v: %+v; %v: %+v", errA, a, errB, b)
	}
}

func TestEqualContentIsSentOnce(t *testing.T) {
	step := &scripted{run: func(ledger.Capture, int) (ledger.Result, error) { return session("dddddddddddd"), nil }}
	p, ids := rig(t, step, "same", "same", "same", "same")
	var mu sync.Mutex
	var got []ledger.Capture
	err := p.Each(t.Context(), ids, 4, func(_ int, c ledger.Capture, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			t.Error(err)
		}
		got = append(got, c)
	})
	if err != nil || len(step.calls) != 1 {
		t.Errorf("%v; calls %q", err, step.calls)
	}
	duplicates := 0
	for _, c := range got {
		if c.SessionID != "dddddddddddd" || c.State != ledger.Done {
			t.Errorf("%+v", c)
		}
		if c.DuplicateOf != 0 {
			duplicates++
		}
	}
	if duplicates != 3 {
		t.Errorf("%d duplicates", duplicates)
	}
}

func TestAnInterruptionKeepsTheCaptureQueued(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	step := &scripted{run: func(ledger.Capture, int) (ledger.Result, error) {
		cancel()
		return ledger.Result{}, context.Canceled
	}}
	p, ids := rig(t, step, "a")
	c, err := p.Process(ctx, ids[0])
	if !errors.Is(err, context.Canceled) || c.State != ledger.Queued {
		t.Errorf("%v: %+v", err, c)
	}
	// And the next one looks first.
	step.run = func(ledger.Capture, int) (ledger.Result, error) { return session("eeeeeeeeeeee"), nil }
	if _, err := p.Process(t.Context(), ids[0]); err != nil {
		t.Error(err)
	}
	if want := []string{"run a", "find a", "run a"}; !slices.Equal(step.calls, want) {
		t.Errorf("calls %q, want %q", step.calls, want)
	}
}

func TestAnAbsurdRetryAfterIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		step := &scripted{run: func(ledger.Capture, int) (ledger.Result, error) {
			return ledger.Result{}, &failure.Error{Class: "busy", RetryAfter: 300 * 24 * time.Hour, Err: errors.New("busy")}
		}}
		p, ids := rig(t, step, "a")
		start := time.Now()
		c, err := p.Process(t.Context(), ids[0])
		if err == nil || c.State != ledger.Queued || time.Since(start) > time.Minute {
			t.Errorf("%v after %v: %+v", err, time.Since(start), c)
		}
		steps, err := p.Ledger.Steps(t.Context(), ids[0])
		if err != nil {
			t.Fatal(err)
		}
		last := steps[len(steps)-1]
		if wait := time.Until(last.NotBefore); wait < time.Hour || wait > ledger.MaxWait {
			t.Errorf("not before %v from now", wait)
		}
		// A person who asks again is not put off.
		step.run = func(ledger.Capture, int) (ledger.Result, error) { return session("ffffffffffff"), nil }
		p = NewPipeline(p.Ledger, NewGate(OneShot), zerolog.Nop(), step)
		if c, err := p.Process(t.Context(), ids[0]); err != nil || c.State != ledger.Done {
			t.Errorf("%v: %+v", err, c)
		}
	})
}

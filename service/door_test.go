package service

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"capagent/internal/failure"
	"capagent/internal/ledger"
)

// doored is a pipeline under a Door, with a server that a test switches.
type doored struct {
	*Pipeline
	door  *Door
	asked int
	down  error // what the server answers to a probe
}

func newDoored(t *testing.T, step Step, contents ...string) (*doored, []int64) {
	t.Helper()
	d := &doored{}
	p, ids := rig(t, step, contents...)
	d.door = NewDoor(Daemon, "https://cs.example", func(context.Context) error {
		d.asked++
		return d.down
	})
	d.Pipeline = NewPipeline(p.Ledger, d.door, zerolog.Nop(), step)
	return d, ids
}

// turn sleeps through the door's pause and asks.
func (d *doored) turn(t *testing.T) {
	t.Helper()
	s, _ := d.door.Status()
	time.Sleep(time.Until(s.Until))
	if _, err := d.door.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestADeadServerMeetsOneQuestionNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := true
		step := &scripted{run: func(_ ledger.Capture, n int) (ledger.Result, error) {
			if down {
				return ledger.Result{}, retryError("refused")
			}
			return session(fmt.Sprintf("%012x", n)), nil
		}}
		d, ids := newDoored(t, step, "a", "b", "c")
		d.down = retryError("refused")
		start := time.Now()
		if _, err := d.Process(t.Context(), ids[0]); err == nil {
			t.Error("no error")
		}
		if _, err := d.Process(t.Context(), ids[1]); err == nil {
			t.Error("a paused destination took a capture")
		}
		for time.Since(start) < time.Hour {
			d.turn(t)
		}
		if len(step.calls) != 1 || d.asked < 25 || d.asked > 60 {
			t.Errorf("%d attempts, %d questions in an hour", len(step.calls), d.asked)
		}
		down, d.down = false, nil
		d.turn(t)
		for _, id := range ids {
			if c, err := d.Process(t.Context(), id); err != nil || c.State != ledger.Done {
				t.Errorf("%v: %+v", err, c)
			}
		}
		if s, _ := d.door.Status(); s.State != DoorOpen || s.Cause != nil {
			t.Errorf("%+v", s)
		}
		if pauses, err := d.Ledger.Pauses(t.Context()); err != nil || len(pauses) != 0 {
			t.Errorf("%v: %v", err, pauses)
		}
	})
}

func TestTheServersWaitHoldsForAllCapturesAndAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		step := &scripted{run: func(ledger.Capture, int) (ledger.Result, error) {
			return ledger.Result{}, &failure.Error{Class: "busy", RetryAfter: 20 * time.Minute, Err: errors.New("busy")}
		}}
		d, ids := newDoored(t, step, "a", "b")
		_, _ = d.Process(t.Context(), ids[0])
		pauses, err := d.Ledger.Pauses(t.Context())
		if err != nil || len(pauses) != 1 {
			t.Fatalf("%v: %v", err, pauses)
		}
		if wait := time.Until(pauses[0].Until); wait != 20*time.Minute {
			t.Errorf("until %v from now", wait)
		}
		again := NewDoor(Daemon, "https://cs.example", nil)
		again.Resume(pauses[0])
		if s, _ := again.Status(); s.State != DoorPaused || time.Until(s.Until) != 20*time.Minute || s.Cause.Class != "busy" {
			t.Errorf("%+v", s)
		}
		pauses[0].Until = time.Now().Add(1000 * time.Hour) // the clock jumped
		again.Resume(pauses[0])
		if s, _ := again.Status(); time.Until(s.Until) > 0 {
			t.Errorf("%+v", s)
		}
	})
}

// A capture that fails while others get through waits alone, and is parked.
func TestAPoisonousCaptureIsParkedWhileOthersGetThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		step := &scripted{run: func(c ledger.Capture, n int) (ledger.Result, error) {
			if c.Name == "poison" {
				return ledger.Result{}, &failure.Error{Class: "server_error", Err: errors.New("reset")}
			}
			return session(fmt.Sprintf("%012x", n)), nil
		}}
		contents := []string{"poison"}
		for i := range 40 {
			contents = append(contents, fmt.Sprint(i))
		}
		d, ids := newDoored(t, step, contents...)
		start, tries := time.Now(), 0
		var c ledger.Capture
		for _, id := range ids[1:] {
			var err error
			c, err = d.Process(t.Context(), ids[0])
			if c.State == ledger.Failed {
				break
			}
			if !errors.Is(err, ErrNotNow) {
				tries++
			}
			if s, _ := d.door.Status(); s.State == DoorPaused {
				if tries > 1 {
					t.Errorf("try %d paused the destination", tries)
				}
				d.turn(t)
			}
			if c, err := d.Process(t.Context(), id); err != nil {
				t.Errorf("%v: %+v", err, c)
			}
			steps, _ := d.Ledger.Steps(t.Context(), ids[0])
			time.Sleep(max(time.Until(steps[len(steps)-1].NotBefore), 0))
		}
		if c.State != ledger.Failed || c.Reason != "reset" || tries < Daemon.Parked-1 || tries > Daemon.Parked+1 {
			t.Errorf("%d tries in %v: %+v", tries, time.Since(start), c)
		}
	})
}

// An outage uses up nobody's attempts.
func TestAnOutageParksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		step := &scripted{run: func(ledger.Capture, int) (ledger.Result, error) {
			return ledger.Result{}, &failure.Error{Kind: failure.Pause, Class: "quota", Err: errors.New("quota reached")}
		}}
		d, ids := newDoored(t, step, "a", "b")
		for i := range 300 {
			d.turn(t)
			_, _ = d.Process(t.Context(), ids[i%2])
		}
		for _, id := range ids {
			c, err := d.Ledger.Get(t.Context(), id)
			if err != nil || c.State != ledger.Queued {
				t.Errorf("%v: %+v", err, c)
			}
		}
	})
}

// What is wrong with one file says nothing of the server.
func TestAnUnreadableFilePausesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		step := &scripted{run: func(ledger.Capture, int) (ledger.Result, error) {
			return ledger.Result{}, &failure.Error{Class: "unreadable", Err: errors.New("input/output error")}
		}}
		d, ids := newDoored(t, step, "a")
		c, err := d.Process(t.Context(), ids[0])
		if s, _ := d.door.Status(); s.State != DoorOpen || err == nil || c.State != ledger.Queued {
			t.Errorf("%v: %+v; %+v", err, s, c)
		}
		// Its time has not come.
		if _, err := d.Process(t.Context(), ids[0]); !errors.Is(err, ErrNotNow) {
			t.Errorf("%v", err)
		}
	})
}

// On a bad line a large capture fails while small ones get through: it is not
// parked for that.
func TestABadLineParksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		step := &scripted{run: func(c ledger.Capture, n int) (ledger.Result, error) {
			if c.Name == "large" {
				return ledger.Result{}, retryError("connection reset")
			}
			return session(fmt.Sprintf("%012x", n)), nil
		}}
		contents := []string{"large"}
		for i := range 40 {
			contents = append(contents, fmt.Sprint(i))
		}
		d, ids := newDoored(t, step, contents...)
		for _, id := range ids[1:] {
			_, _ = d.Process(t.Context(), ids[0])
			if s, _ := d.door.Status(); s.State == DoorPaused {
				d.turn(t)
			}
			if c, err := d.Process(t.Context(), id); err != nil {
				t.Errorf("%v: %+v", err, c)
			}
			time.Sleep(20 * time.Minute)
		}
		if c, err := d.Ledger.Get(t.Context(), ids[0]); err != nil || c.State != ledger.Queued {
			t.Errorf("%v: %+v", err, c)
		}
	})
}

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows/svc"
)

// underTest runs Execute with a manager that the test plays.
type underTest struct {
	requests chan svc.ChangeRequest
	changes  chan svc.Status
	begun    chan func() // what tells that the agent is ready
	finish   chan error
	told     []string
	crashed  int
	result   chan uint32
}

func startUnderSCM(t *testing.T) *underTest {
	u := &underTest{
		requests: make(chan svc.ChangeRequest), changes: make(chan svc.Status, 100), begun: make(chan func(), 1),
		finish: make(chan error), result: make(chan uint32, 1),
	}
	s := &underSCM{
		ctx: t.Context(), tick: 20 * time.Millisecond,
		told:  func(_ bool, text string) { u.told = append(u.told, text) },
		crash: func(code int) { u.crashed = code },
		work: func(ready func()) func(context.Context) error {
			return func(ctx context.Context) error {
				u.begun <- ready
				select {
				case <-ctx.Done():
					return <-u.finish
				case err := <-u.finish:
					return err
				}
			}
		},
	}
	go func() {
		_, code := s.Execute(nil, u.requests, u.changes)
		u.result <- code
	}()
	return u
}

func (u *underTest) until(t *testing.T, state svc.State) svc.Status {
	t.Helper()
	for {
		select {
		case s := <-u.changes:
			if s.State == state {
				return s
			}
		case <-time.After(patience):
			t.Fatalf("the state %d is not told", state)
		}
	}
}

func TestOnWindowsTheServiceManagerIsToldOfEachStep(t *testing.T) {
	u := startUnderSCM(t)
	first := u.until(t, svc.StartPending)
	if later := u.until(t, svc.StartPending); later.CheckPoint <= first.CheckPoint {
		t.Errorf("no other check point: %v, %v", first, later)
	}
	(<-u.begun)()
	if s := u.until(t, svc.Running); s.Accepts != accepted {
		t.Errorf("%+v", s)
	}
	u.requests <- svc.ChangeRequest{Cmd: svc.Interrogate, CurrentStatus: svc.Status{State: svc.Running}}
	u.until(t, svc.Running)
	u.requests <- svc.ChangeRequest{Cmd: svc.Stop}
	first = u.until(t, svc.StopPending)
	if later := u.until(t, svc.StopPending); later.CheckPoint <= first.CheckPoint || later.WaitHint == 0 {
		t.Errorf("no other check point: %v, %v", first, later)
	}
	u.finish <- nil
	if code := <-u.result; code != 0 || u.crashed != 0 {
		t.Errorf("ended with %d, crashed with %d", code, u.crashed)
	}
}

func TestOnWindowsTheMachinesEndIsAStop(t *testing.T) {
	for _, end := range []svc.Cmd{svc.PreShutdown, svc.Shutdown} {
		u := startUnderSCM(t)
		(<-u.begun)()
		u.until(t, svc.Running)
		u.requests <- svc.ChangeRequest{Cmd: end}
		first := u.until(t, svc.StopPending)
		u.requests <- svc.ChangeRequest{Cmd: svc.Stop} // one is enough
		for range 3 {
			later := u.until(t, svc.StopPending)
			if later.CheckPoint <= first.CheckPoint {
				t.Errorf("%d: check points go back: %v, %v", end, first, later)
			}
			first = later
		}
		u.finish <- nil
		if code := <-u.result; code != 0 || u.crashed != 0 {
			t.Errorf("%d: ended with %d, crashed with %d", end, code, u.crashed)
		}
	}
}

func TestOnWindowsAWrongConfigurationIsNoCrash(t *testing.T) {
	u := startUnderSCM(t)
	<-u.begun
	u.finish <- exitWith(exitConfig, errors.New("agent.toml:1:1: wrong"))
	if code := <-u.result; code != exitConfig || u.crashed != 0 || !strings.Contains(strings.Join(u.told, " "), "wrong") {
		t.Errorf("ended with %d, crashed with %d, told %q", code, u.crashed, u.told)
	}
	u = startUnderSCM(t)
	<-u.begun
	u.finish <- errors.New("the disk is gone")
	if code := <-u.result; code != exitFailed || u.crashed != exitFailed {
		t.Errorf("ended with %d, crashed with %d", code, u.crashed)
	}
}

func TestOnWindowsTheLogIsBegunAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.log")
	log := &rolling{path: path, most: 20}
	for range 3 {
		if _, err := log.Write([]byte("ten bytes\n")); err != nil {
			t.Fatal(err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	old, err1 := os.ReadFile(path + ".1")
	now, err2 := os.ReadFile(path)
	if err := errors.Join(err1, err2); err != nil || len(old) != 20 || len(now) != 10 {
		t.Errorf("%d and %d bytes, %v", len(old), len(now), err)
	}
}

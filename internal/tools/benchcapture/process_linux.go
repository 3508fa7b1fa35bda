package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"capagent/internal/faulttest"

	"golang.org/x/sys/unix"
)

const (
	startsWithin = 20 * time.Second // netsniff-ng takes a while for large rings
	endsWithin   = 30 * time.Second // what is buffered goes to the disk
	hangsFor     = 5 * time.Second
	pollEvery    = 100 * time.Millisecond
)

// start starts a command bound to a processor, which everything that it starts
// inherits.
func start(cmd *exec.Cmd, cpu int) (run *faulttest.Process, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // bound: not for others any more
		if err = bind(cpu); err == nil {
			run, err = faulttest.Start(cmd)
		}
	}()
	<-done
	return run, err
}

// bind binds the thread to a processor, or to none if it is < 0.
func bind(cpu int) error {
	if cpu < 0 {
		return nil
	}
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("bind to processor %d: %w", cpu, err)
	}
	return nil
}

// waitReady waits until the tool has a packet socket and no more to set up.
func waitReady(ctx context.Context, run *faulttest.Process) error {
	return waitUntil(ctx, run, startsWithin, func() bool {
		sockets, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/packet", run.PID())) // its namespace's
		return bytes.Count(sockets, []byte("\n")) > 1
	})
}

// waitCalm waits until the tool has nothing more to do.
func waitCalm(ctx context.Context, run *faulttest.Process, most time.Duration) error {
	return waitUntil(ctx, run, most, func() bool { return true })
}

// waitUntil waits until ready holds while the tool does nothing.
func waitUntil(ctx context.Context, run *faulttest.Process, most time.Duration, ready func() bool) error {
	limit := time.After(most)
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for calm, before := 0, time.Duration(0); calm < 4; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-run.Ended():
			return fmt.Errorf("ended by itself: %s", said(run))
		case <-limit:
			return fmt.Errorf("not ready after %v: %s", most, said(run))
		case <-tick.C:
		}
		now := cpuTime(run.PID())
		if ready() && now-before < 2*time.Millisecond {
			calm++
		} else {
			calm = 0
		}
		before = now
	}
	return nil
}

// stop ends the tool as a user would. One that hangs is killed after a while,
// which is an error unless it is known for that.
func stop(run *faulttest.Process, hangs bool) error {
	most := endsWithin
	if hangs {
		most = hangsFor
	}
	run.Signal(unix.SIGINT)
	select {
	case <-run.Ended():
	case <-time.After(most):
		run.Kill()
		if hangs {
			return nil
		}
		return fmt.Errorf("still running %v after SIGINT: %s", most, said(run))
	}
	if code := run.ExitCode(); code != 0 && code != 130 { // interrupted is how it was meant
		return fmt.Errorf("failed at its end: %s", said(run))
	}
	return nil
}

// said is how the tool ended and the last that it said, safe to show.
func said(run *faulttest.Process) string {
	text := strings.Join(strings.Fields(run.Ending()), " ")
	if run.ExitCode() < 0 {
		text += " " + strings.Join(strings.Fields(run.Tail(5)), " ")
	}
	return strconv.Quote(text[:min(len(text), 400)])
}

// cpuTime is what all threads used so far, to the nanosecond, those that ended left
// out.
func cpuTime(pid int) time.Duration {
	var sum time.Duration
	paths, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid)) // the pattern is right
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // a thread that ended
		}
		first, _, _ := strings.Cut(string(text), " ")
		ns, _ := strconv.ParseInt(first, 10, 64)
		sum += time.Duration(ns)
	}
	return sum
}

// status is a figure of /proc/PID/status: of kB in bytes, others as they are.
func status(pid int, name string) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		if key != name {
			continue
		}
		fields := strings.Fields(value)
		if len(fields) == 0 {
			return 0
		}
		n, _ := strconv.ParseInt(fields[0], 10, 64)
		if len(fields) > 1 && fields[1] == "kB" {
			n <<= 10
		}
		return n
	}
	return 0
}

// userTime is in clock ticks of 10 ms, of the whole process.
func userTime(pid int) time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 12 {
		return 0
	}
	n, _ := strconv.ParseInt(fields[11], 10, 64)
	return time.Duration(n) * tick
}

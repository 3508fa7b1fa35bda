package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// threads are a process's, by number, at one moment.
type threads struct {
	all  time.Duration // with those that have ended
	nice int           // of those that nobody changed
	each map[int]thread
	// watchdog is the second thread of a Go program (sysmon in its runtime). It is
	// awake while goroutines are in system calls, and does not capture.
	watchdog int
}

type thread struct {
	nice int
	cpu  time.Duration
}

// cost is where a process's time went. The agent's reader has a thread of its own
// that is less nice than others, and what can wait has nicer ones.
type cost struct {
	reader   time.Duration // that thread
	usual    time.Duration // those of usual priority
	watchdog time.Duration // but for this
	low      time.Duration
}

// urgent is all but what is of low priority.
func (c cost) urgent() time.Duration { return c.reader + c.usual + c.watchdog }

func threadsOf(pid int) threads {
	// A program begins with the priority of who started it. Its first thread may
	// have another one by now: Go runs what it likes there.
	t := threads{all: processTime(pid), each: map[int]thread{}}
	if raw, err := unix.Getpriority(unix.PRIO_PROCESS, 0); err == nil {
		t.nice = 20 - raw // the system call's way to avoid negative numbers
	}
	dirs, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid)) // the pattern is right
	for _, dir := range dirs {
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		spent, failed := os.ReadFile(filepath.Join(dir, "schedstat"))
		if err != nil || failed != nil {
			continue // it ended
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) < 17 {
			continue
		}
		nice, _ := strconv.Atoi(fields[16])
		id, _ := strconv.Atoi(filepath.Base(dir))
		if id != pid && (t.watchdog == 0 || id < t.watchdog) {
			t.watchdog = id
		}
		first, _, _ := strings.Cut(string(spent), " ")
		ns, _ := strconv.ParseInt(first, 10, 64)
		t.each[id] = thread{nice, time.Duration(ns)}
	}
	return t
}

// since is what was spent from before to t.
func (t threads) since(before threads) (c cost) {
	for id, now := range t.each {
		used := now.cpu - before.each[id].cpu
		switch {
		case id == t.watchdog:
			c.watchdog = used
		case now.nice < t.nice:
			c.reader += used
		case now.nice == t.nice:
			c.usual += used
		}
	}
	c.low = max(0, t.all-before.all-c.urgent())
	return c
}

// processTime is what a process's threads used, also those that have ended.
func processTime(pid int) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|2), &ts); err != nil { // clock_getcpuclockid(3)
		return 0
	}
	return time.Duration(ts.Nano())
}

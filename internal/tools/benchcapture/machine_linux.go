package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the kernel's unit in /proc (USER_HZ).
const tick = 10 * time.Millisecond

// spent is what all processors did since the system began.
type spent struct{ user, system, steal time.Duration }

func machineTime() spent {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return spent{}
	}
	line, _, _ := strings.Cut(string(text), "\n")
	at := func(i int) time.Duration {
		fields := strings.Fields(line)
		if i >= len(fields) {
			return 0
		}
		n, _ := strconv.ParseInt(fields[i], 10, 64)
		return time.Duration(n) * tick
	}
	return spent{user: at(1) + at(2), system: at(3) + at(6) + at(7), steal: at(8)}
}

// waitQuiet waits until others use less than a fifth of one processor, or for
// so long.
func waitQuiet(ctx context.Context, most time.Duration) error {
	const look = 700 * time.Millisecond
	for limit := time.Now().Add(most); time.Now().Before(limit); {
		before := machineTime()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(look):
		}
		after := machineTime()
		busy := after.user + after.system + after.steal - before.user - before.system - before.steal
		if busy < look/5 {
			return nil
		}
	}
	return nil
}

// machine is the first line of the tables, as in docs/benchmarks.md.
func machine() string {
	var name unix.Utsname
	_ = unix.Uname(&name) // the line goes without
	return fmt.Sprintf("%s, %d cores, %s, Linux %s, %s", processor(), runtime.NumCPU(), runtime.GOOS+"/"+runtime.GOARCH,
		unix.ByteSliceToString(name.Release[:]), time.Now().UTC().Format(time.DateOnly))
}

func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

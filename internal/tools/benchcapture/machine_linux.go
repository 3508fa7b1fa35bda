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

// waitQuiet waits until others use less than a fifth of one processor and no disk
// works, or for so long. The file of the run before is deleted when its file
// system says so, and many disks are told of each block then, for seconds: that
// must not be the next tool's loss.
func waitQuiet(ctx context.Context, most time.Duration) error {
	const look = 700 * time.Millisecond
	if most > 0 {
		unix.Sync()
	}
	for limit := time.Now().Add(most); time.Now().Before(limit); {
		before, disks := machineTime(), diskSectors()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(look):
		}
		after := machineTime()
		busy := after.user + after.system + after.steal - before.user - before.system - before.steal
		if busy < look/5 && diskSectors()-disks < quietSectors {
			return nil
		}
	}
	return nil
}

// quietSectors is what a system writes now and then, in sectors of 512 bytes.
const quietSectors = 4 << 20 / 512

// diskSectors is how much all disks have read, written and discarded so far.
func diskSectors() (n uint64) {
	text, err := os.ReadFile("/proc/diskstats")
	if err != nil {
		return 0 // then it is no help
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		for _, i := range []int{5, 9, 16} { // Documentation/admin-guide/iostats.rst
			if i < len(fields) {
				sectors, _ := strconv.ParseUint(fields[i], 10, 64)
				n += sectors
			}
		}
	}
	return n
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

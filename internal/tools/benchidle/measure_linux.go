package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the kernel's unit in /proc (USER_HZ). What it tells for a whole process is
// scaled to the nanoseconds that its scheduler counted, so short looks at the clock
// are in it, too.
const tick = 10 * time.Millisecond

// memory is in bytes. rss and child count what the kernel counts, also the program's
// pages, which both have in common; of rss, ring is the packet socket's. pss is of both
// together, each page counted once, and without the ring.
type memory struct{ rss, ring, child, pss int64 }

// reading is what an agent and its child have used so far, and use.
type reading struct {
	at      time.Time
	cpu     time.Duration
	wakeups int64 // voluntary context switches of all threads
	written int64 // bytes to disks
	memory
}

// read looks at a process and at those that it started.
func read(pid int) (r reading, err error) {
	r.at = time.Now()
	for _, p := range family(pid) {
		dir := fmt.Sprintf("/proc/%d/", p)
		stat, err := os.ReadFile(dir + "stat")
		if err != nil {
			return r, err
		}
		r.cpu += cpuOf(stat)
		r.written += figure(dir+"io", "write_bytes")
		rss, pss := figure(dir+"smaps_rollup", "Rss"), figure(dir+"smaps_rollup", "Pss")
		if p != pid {
			r.child, r.pss = r.child+rss, r.pss+pss
		} else if r.ring, err = ringOf(dir + "smaps"); err != nil {
			return r, err
		} else {
			r.rss, r.pss = rss, r.pss+pss-r.ring
		}
		tasks, _ := filepath.Glob(dir + "task/*/status") // the pattern is right
		for _, t := range tasks {
			r.wakeups += figure(t, "voluntary_ctxt_switches")
		}
	}
	return r, nil
}

// family is a process and those that it started.
func family(pid int) []int {
	all := []int{pid}
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is right
	for _, l := range lists {
		text, _ := os.ReadFile(l) // a thread that ended has none
		for _, f := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(f); err == nil {
				all = append(all, family(child)...)
			}
		}
	}
	return all
}

// cpuOf reads /proc/PID/stat (proc_pid_stat(5)).
func cpuOf(stat []byte) time.Duration {
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[11], 10, 64)
	system, _ := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick
}

// figure is the value of a name in a file of lines "name: value", of kB in bytes; 0
// where there is none.
func figure(file, name string) int64 {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		if fields := strings.Fields(value); key == name && len(fields) > 0 {
			n, _ := strconv.ParseInt(fields[0], 10, 64)
			if len(fields) > 1 && fields[1] == "kB" {
				n <<= 10
			}
			return n
		}
	}
	return 0
}

// ringOf sums what of /proc/PID/smaps is the packet socket's memory.
func ringOf(file string) (n int64, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	in := false
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		switch {
		case len(fields) >= 5 && strings.Contains(fields[0], "-"): // the head of a mapping
			in = len(fields) > 5 && strings.HasPrefix(fields[5], "socket:")
		case in && len(fields) == 3 && fields[0] == "Rss:":
			kb, _ := strconv.ParseInt(fields[1], 10, 64)
			n += kb << 10
		}
	}
	return n, nil
}

// watch looks at all agents at the same time.
func (b *bench) watch(ctx context.Context) error {
	if err := b.wait(ctx, b.settle); err != nil {
		return err
	}
	for _, a := range b.agents {
		var err error
		if a.from, err = read(a.PID()); err != nil {
			return err
		}
	}
	for end := time.Now().Add(b.length); time.Now().Before(end); {
		if err := b.wait(ctx, min(b.every, time.Until(end))); err != nil {
			return err
		}
		for _, a := range b.agents {
			var err error
			if a.to, err = read(a.PID()); err != nil {
				return err
			}
			a.most.rss, a.most.ring = max(a.most.rss, a.to.rss), max(a.most.ring, a.to.ring)
			a.most.child, a.most.pss = max(a.most.child, a.to.child), max(a.most.pss, a.to.pss)
		}
	}
	return nil
}

func (b *bench) wait(ctx context.Context, d time.Duration) error {
	end := time.After(max(d, time.Millisecond))
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-end:
	}
	for _, a := range b.agents {
		select {
		case <-a.Ended():
			return fmt.Errorf("%s: ended: %s", a.name, a.Ending())
		default:
		}
	}
	return nil
}

func (b *bench) table(out io.Writer) error {
	fmt.Fprintf(out, "%s: %v, one look every %v.\n\n", machine(), b.length, b.every)
	fmt.Fprint(out, "| how | CPU, % of a core | RSS MB | of it the ring | RSS MB of the child | PSS MB of both, no ring | wakeups a second | bytes written |\n|---|---|---|---|---|---|---|---|\n")
	var bad []error
	for _, a := range b.agents {
		span := a.to.at.Sub(a.from.at)
		cpu := 100 * float64(a.to.cpu-a.from.cpu) / float64(span)
		fmt.Fprintf(out, "| %s | %.3f | %s | %s | %s | %s | %.1f | %d |\n", a.name, cpu, inMB(a.most.rss), inMB(a.most.ring), inMB(a.most.child), inMB(a.most.pss),
			float64(a.to.wakeups-a.from.wakeups)/span.Seconds(), a.to.written-a.from.written)
		if cpu > b.maxCPU {
			bad = append(bad, fmt.Errorf("%s: %.3f %% of a core, more than %g", a.name, cpu, b.maxCPU))
		}
		if most := max(a.most.rss, a.most.child); most > b.maxRSS*1e6 {
			bad = append(bad, fmt.Errorf("%s: %s MB resident, more than %d", a.name, inMB(most), b.maxRSS))
		}
	}
	return errors.Join(bad...)
}

func inMB(n int64) string { return fmt.Sprintf("%.1f", float64(n)/1e6) }

// machine is the first line, as in docs/benchmarks.md.
func machine() string {
	var name unix.Utsname
	_ = unix.Uname(&name) // the line goes without
	processor := runtime.GOARCH
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			processor = strings.TrimSpace(value)
			break
		}
	}
	return fmt.Sprintf("%s, %d cores, %s, Linux %s, %s", processor, runtime.NumCPU(), runtime.GOOS+"/"+runtime.GOARCH,
		unix.ByteSliceToString(name.Release[:]), time.Now().UTC().Format(time.DateOnly))
}

// Command bench measures capagent beside what a user would pick instead, all in
// one run on one machine, and prints the table for docs/benchmarks.md. Figures
// are whole processes': wall and processor time by the clock and by rusage,
// memory as the kernel's high-water mark (Linux). A command that is not installed
// is left out, and said so.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

func main() {
	big := flag.Int64("size", 1<<30, "bytes of the big capture")
	small := flag.Int("files", 1000, "number of small captures")
	runs := flag.Int("runs", 5, "counted runs of each command")
	binary := flag.String("capagent", "./capagent", "the program to measure")
	flag.Parse()
	if err := bench(context.Background(), *binary, *big, *small, *runs); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, binary string, big int64, small, runs int) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	// In memory where that is possible: the disk is not what is measured.
	place := "/dev/shm"
	if info, err := os.Stat(place); err != nil || !info.IsDir() {
		place = ""
	}
	dir, err := os.MkdirTemp(place, "capagent-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	b := &bencher{ctx: ctx, dir: dir, capagent: binary, runs: runs}
	fmt.Printf("%s, %d cores, %s, %s\n\n", processor(), runtime.NumCPU(), runtime.GOOS+"/"+runtime.GOARCH, time.Now().UTC().Format(time.DateOnly))
	if err := b.captures(big, small); err != nil {
		return err
	}
	if err := b.inspect(); err != nil {
		return err
	}
	return b.upload()
}

type bencher struct {
	ctx           context.Context
	dir, capagent string
	runs          int

	big, small string // a file, a folder

	bigBytes, smallBytes int64
}

// row is one line of a table: the medians over all counted runs.
type row struct {
	wall, cpu time.Duration
	rss       int64
	missing   bool
}

// command is one candidate. before runs uncounted ahead of each run.
type command struct {
	name   string
	args   []string
	env    []string
	before func() error
	codes  []int // exit codes that are right; 0 when empty
}

// compare runs the candidates in turn (A B C A B C …), so that all of them meet
// the same noise, and prints their table. The first one is the measure.
func (b *bencher) compare(title string, bytes int64, cmds ...command) error {
	samples := make([][]row, len(cmds))
	for run := range b.runs + 1 {
		for i, c := range cmds {
			r, err := b.once(c)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if run > 0 { // the first one warms the caches
				samples[i] = append(samples[i], r)
			}
		}
	}
	fmt.Printf("## %s\n\n| command | wall s | MB/s | cpu s | RSS MB | speed to the first |\n|---|---|---|---|---|---|\n", title)
	var base float64
	for i, c := range cmds {
		m := median(samples[i])
		if m.missing {
			fmt.Printf("| %s | not installed | | | | |\n", c.name)
			continue
		}
		wall := m.wall.Seconds()
		if base == 0 {
			base = wall
		}
		fmt.Printf("| %s | %.2f | %.0f | %.2f | %.1f | %.2f |\n", c.name, wall, float64(bytes)/1e6/wall, m.cpu.Seconds(), float64(m.rss)/1e6, base/wall)
	}
	fmt.Println()
	return nil
}

func (b *bencher) once(c command) (row, error) {
	path, err := exec.LookPath(c.args[0])
	if err != nil {
		return row{missing: true}, nil // the table says so
	}
	if c.before != nil {
		if err := c.before(); err != nil {
			return row{}, err
		}
	}
	cmd := exec.CommandContext(b.ctx, path, c.args[1:]...)
	cmd.Env = append(os.Environ(), c.env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return row{}, err
	}
	resident := watchRSS(cmd.Process.Pid)
	err = cmd.Wait()
	wall := time.Since(start)
	if cmd.ProcessState == nil || !slices.Contains(append(c.codes, 0), cmd.ProcessState.ExitCode()) {
		return row{}, fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return row{wall: wall, cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), rss: resident()}, nil
}

// watchRSS follows the kernel's high-water mark of a process. The one in rusage
// would begin with the memory of the parent that forked it.
func watchRSS(pid int) (highest func() int64) {
	stop, result := make(chan struct{}), make(chan int64)
	go func() {
		var most int64
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			most = max(most, highWater(pid))
			select {
			case <-tick.C:
			case <-stop:
				result <- most
				return
			}
		}
	}()
	return func() int64 {
		close(stop)
		return <-result
	}
}

// highWater reads VmHWM, in bytes; 0 where there is no such thing.
func highWater(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			return kib << 10
		}
	}
	return 0
}

func median(rows []row) row {
	mid := func(value func(row) int64) int64 {
		v := make([]int64, len(rows))
		for i, r := range rows {
			v[i] = value(r)
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	return row{
		wall:    time.Duration(mid(func(r row) int64 { return int64(r.wall) })),
		cpu:     time.Duration(mid(func(r row) int64 { return int64(r.cpu) })),
		rss:     mid(func(r row) int64 { return r.rss }),
		missing: rows[0].missing,
	}
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

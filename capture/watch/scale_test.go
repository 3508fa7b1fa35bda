//go:build linux

package watch_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"capagent/capture/watch"
	"capagent/internal/config"
)

var scale = flag.Int("watch.files", 2_000, "files in the large folder")

// cpu returns the processor time that this process has used.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	must(t, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func heap() uint64 {
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestLargeFolder is not parallel to others: it tells what it used.
func TestLargeFolder(t *testing.T) {
	dir := t.TempDir()
	for i := range *scale {
		sub := filepath.Join(dir, fmt.Sprint(i/1000))
		if i%1000 == 0 {
			must(t, os.Mkdir(sub, 0o700))
		}
		write(t, filepath.Join(sub, fmt.Sprintf("capture-2026-11-22-%06d.pcap", i)), "text")
	}
	empty := heap()
	taken := 0
	began, used := time.Now(), cpu(t)
	r := start(t, dir, func(o *watch.Options) {
		o.Take = func(context.Context, watch.File) { taken++ }
	})
	r.until("all", func() bool { s := r.w.Status(); return s.Scans > 0 && s.Pending == 0 })
	t.Logf("%d files handed over in %s, %s of processor time", *scale, time.Since(began), cpu(t)-used)
	// What is kept of each file is some 40 bytes; a path would be twice that.
	if kept := int64(heap() - empty); kept > 1<<20+100*int64(*scale) {
		t.Errorf("%d bytes of memory for %d files", kept, *scale)
	} else {
		t.Logf("%d bytes of memory for each file", kept/int64(*scale))
	}
	for range 3 {
		used = cpu(t)
		r.rescan()
		t.Logf("a scan took %s, %s of processor time", r.w.Status().ScanTook, cpu(t)-used)
	}
	r.write("0/late.pcap", "late")
	r.rescan()
	r.stop()
	if taken != *scale+1 {
		t.Errorf("%d of %d files were handed over", taken, *scale+1)
	}
}

// BenchmarkCloseToTake measures from a writer's close to Take being called.
func BenchmarkCloseToTake(b *testing.B) {
	dir := b.TempDir()
	var c watch.Config
	c.SetDefaults()
	c.Path, c.Rescan = dir, config.Duration(time.Hour)
	seen := make(chan time.Time, 1)
	w := watch.New(watch.Options{Config: c, Take: func(context.Context, watch.File) { seen <- time.Now() }})
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	for w.Status().Scans == 0 {
		runtime.Gosched()
	}
	var all []time.Duration
	for i := 0; b.Loop(); i++ {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%d.pcap", i)))
		if err != nil {
			b.Fatal(err)
		}
		_, _ = f.WriteString("text")
		time.Sleep(10 * time.Millisecond) // a tick of the kernel's clock is over
		began := time.Now()
		_ = f.Close()
		all = append(all, (<-seen).Sub(began))
	}
	cancel()
	<-done
	slices.Sort(all)
	for _, p := range []int{50, 90, 99} {
		b.ReportMetric(float64(all[len(all)*p/100].Microseconds()), fmt.Sprintf("µs-p%d", p))
	}
	b.ReportMetric(float64(all[len(all)-1].Microseconds()), "µs-max")
}

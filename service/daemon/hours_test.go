package daemon

import (
	"flag"
	"os"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"capagent/internal/config"
	"capagent/internal/ledger"
	"capagent/service"
)

var liveHours = flag.Int("daemon.hours", 1, "hours of a live capture to simulate; from 24 on with seven files a minute, which are 10,080 in a day")

const (
	ringSize = 200_000
	heapMore = 32 << 20 // bytes that the simulation's own lists may take
)

// For hours, files end by their packets and by the clock: every packet is sent once,
// the spool stays a ring of its size, and the agent does not grow.
func TestHoursOfCapture(t *testing.T) {
	full := 1 // files in a minute, besides one that the minute ends
	if *liveHours >= 24 {
		full = 6
	}
	packets := full*10 + 3 // in a minute
	change := func(c *service.Config) {
		c.Capture[0].Rotate.Interval, c.Capture[0].Rotate.Aligned = config.Duration(time.Minute), true
		c.Retention.MaxSize = config.Size(ringSize)
	}
	withLive(t, change, func(t *testing.T, r *rig) (purged int) {
		var sent []uint64
		r.server.mu.Lock()
		r.server.saw = func(c ledger.Capture) { sent = append(sent, numbers(t, c.Path)...) }
		r.server.mu.Unlock()
		var goroutines int
		var heap uint64
		for hour := range *liveHours + 1 { // the first is a measure for the others
			minutes := 60
			if hour == 0 {
				minutes = 5
			}
			for range minutes {
				next := time.Now().Add(time.Minute)
				for range packets {
					r.cable.send(1)
					time.Sleep(56 * time.Second / time.Duration(packets))
				}
				time.Sleep(time.Until(next))
			}
			time.Sleep(2 * time.Minute) // for the last of them to be sent, and the oldest to go
			synctest.Wait()
			if n := r.spoolSize(t); n > ringSize {
				t.Errorf("hour %d: the spool has %d bytes", hour, n)
			}
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			if hour == 0 {
				goroutines, heap = runtime.NumGoroutine(), m.HeapAlloc
			}
			if n := runtime.NumGoroutine(); n > goroutines || m.HeapAlloc > heap+heapMore {
				t.Errorf("hour %d: %d goroutines became %d, and %d bytes of heap %d", hour, goroutines, n, heap, m.HeapAlloc)
			}
		}
		reasons := map[string]int{}
		all := r.lives(t)
		for _, c := range all {
			reasons[c.Live.Reason]++
			if c.State == ledger.Purged {
				purged += int(c.Packets)
			} else if c.State != ledger.Done {
				t.Errorf("%+v", c)
			}
		}
		for i, n := range sent {
			if n != uint64(i) {
				t.Fatalf("packet %d was sent behind %d", n, i-1)
			}
		}
		minutes := *liveHours*60 + 5
		if len(sent) != int(r.cable.next) || len(sent) != minutes*packets || reasons["packets"] != minutes*full || reasons["interval"] != minutes || len(all) != minutes*(full+1) {
			t.Errorf("%d packets of %d were sent, in %d files: %v", len(sent), r.cable.next, len(all), reasons)
		}
		if len(r.problems.list()) > 0 || len(r.cable.opened) != 1 || purged == 0 {
			t.Errorf("opened %d times, %d packets purged; %+v", len(r.cable.opened), purged, r.problems.list())
		}
		t.Logf("%d hours: %d files, %d packets", *liveHours, len(all), len(sent))
		return purged
	})
}

func (r *rig) spoolSize(t testing.TB) (size int64) {
	t.Helper()
	entries, err := os.ReadDir(r.opts.Config.SpoolDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	return size
}

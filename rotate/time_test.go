package rotate_test

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"capagent/internal/config"
	"capagent/internal/packet"
	"capagent/rotate"
)

// capture reads a source for so long: what it brings carries the time, and
// silence lasts a quarter of a second at most. next says after how long the next
// packet comes.
func capture(r *rig, total time.Duration, next func(n int) time.Duration) (packets int) {
	until := time.Now().Add(total)
	for n := 0; ; n++ {
		due := time.Now().Add(next(n))
		for time.Now().Before(due) {
			if !time.Now().Before(until) {
				return n
			}
			time.Sleep(min(250*time.Millisecond, time.Until(due)))
			if time.Now().Before(due) {
				r.write(nil)
			}
		}
		r.write([]packet.Packet{{Time: time.Now().UnixNano(), Data: make([]byte, 60), Length: 60}})
	}
}

func TestADayOfAlignedIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rotate.Config{Interval: config.Duration(5 * time.Minute), Aligned: true}, newLine(ether), rotate.Options{})
		time.Sleep(time.Minute + 7*time.Second) // 00:01:07
		n := capture(r, 24*time.Hour, func(int) time.Duration { return 7300 * time.Millisecond })
		all := r.end()
		if len(all) != 289 {
			t.Errorf("%d files in a day", len(all))
		}
		packets := 0
		for i, s := range all {
			packets += int(s.Packets)
			slot := s.First.Truncate(5 * time.Minute)
			if s.Last.Sub(slot) >= 5*time.Minute || i > 0 && !slot.Equal(all[i-1].First.Truncate(5*time.Minute).Add(5*time.Minute)) {
				t.Errorf("file %d: %s to %s", i, s.First, s.Last)
			}
			if s.Reason != rotate.Interval && i < len(all)-1 || s.Jumps != nil {
				t.Errorf("%+v", s)
			}
		}
		if packets != n {
			t.Errorf("%d packets of %d", packets, n)
		}
	})
}

func TestAQuietLineEndsItsInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rotate.Config{Interval: config.Duration(5 * time.Minute), Aligned: true}, newLine(ether), rotate.Options{})
		time.Sleep(time.Minute)
		start := time.Now()
		// One packet, an hour of silence, one packet.
		capture(r, 3*time.Hour, func(n int) time.Duration { return []time.Duration{0, time.Hour, 24 * time.Hour}[n] })
		all := r.end()
		if len(all) != 2 {
			t.Fatalf("empty intervals made files: %+v", all)
		}
		for i, s := range all {
			over := start.Truncate(5 * time.Minute).Add(5*time.Minute + time.Duration(i)*time.Hour)
			if late := s.Ended.Sub(over); late < 0 || late > 1500*time.Millisecond {
				t.Errorf("sealed %s after the interval", late)
			}
		}
	})
}

func TestAnIntervalCountsFromTheFirstPacket(t *testing.T) {
	r := newRig(t, rotate.Config{Interval: config.Duration(time.Minute)}, newLine(ether), rotate.Options{})
	r.write(numbered(1000, 0, 1795309323e9, 250e6)) // 250 s in one batch
	all := r.end()
	if len(all) != 5 {
		t.Fatalf("%d files", len(all))
	}
	for i, s := range all[:4] {
		if s.Packets != 240 || !s.First.Equal(time.Unix(1795309323+60*int64(i), 0)) {
			t.Errorf("file %d: %d packets from %s", i, s.Packets, s.First)
		}
	}
}

// hands are a clock that somebody sets.
type hands struct {
	wall  time.Time
	since time.Duration
}

func (h *hands) tick(d time.Duration) { h.wall, h.since = h.wall.Add(d), h.since+d }

func TestAClockThatIsSet(t *testing.T) {
	const minute = time.Minute
	for name, by := range map[string]time.Duration{
		"an hour forward":     time.Hour,
		"an hour back":        -time.Hour,
		"10 s back":           -10 * time.Second,
		"back to 1970":        -56 * 365 * 24 * time.Hour,
		"thirty years onward": 30 * 365 * 24 * time.Hour,
	} {
		for _, aligned := range []bool{false, true} {
			h := &hands{wall: time.Date(2026, 11, 22, 3, 0, 30, 0, time.UTC)}
			r := &rig{t: t, dir: t.TempDir()}
			var err error
			r.Rotator, err = rotate.NewByClock(rotate.Options{
				Dir: r.dir, Name: "eth0", Source: newLine(ether), Writer: small, Sealed: func(s rotate.Sealed) { r.sealed = append(r.sealed, s) },
				Config: rotate.Config{Interval: config.Duration(minute), Aligned: aligned, Format: "pcapng"},
			}, func() (time.Time, time.Duration) { return h.wall, h.since })
			if err != nil {
				t.Fatal(err)
			}
			// Ten minutes, a packet a second; after five the clock is set.
			var opened time.Duration
			files := uint64(0)
			for n := range 600 {
				if n == 300 {
					h.wall = h.wall.Add(by)
				}
				h.tick(time.Second)
				r.write([]packet.Packet{{Time: h.wall.UnixNano(), Data: make([]byte, 60), Length: 60}})
				if f := r.Totals().Files; f != files {
					files, opened = f, h.since
				}
				if open := h.since - opened; open > minute+10*time.Second {
					t.Fatalf("%s: a file is open for %s", name, open)
				}
			}
			packets, jumps := 0, 0
			for _, s := range r.end() {
				packets += int(s.Packets)
				jumps += len(s.Jumps)
				if len(s.Jumps) == 1 && s.Jumps[0].By != by {
					t.Errorf("%s: %s", name, s.Jumps[0])
				}
			}
			if n := len(r.sealed); packets != 600 || jumps != 1 || n < 10 || n > 12 {
				t.Errorf("%s, aligned %v: %d packets, %d files, %d jumps", name, aligned, packets, n, jumps)
			}
		}
	}
}

// Two interfaces whose cards stamp with clocks that are an hour apart.
func TestStampsOfTwoClocks(t *testing.T) {
	h := &hands{wall: time.Date(2026, 11, 22, 3, 0, 30, 0, time.UTC)}
	files := 0
	r, err := rotate.NewByClock(rotate.Options{
		Dir: t.TempDir(), Name: "eth0", Source: newLine(ether), Writer: small, Sealed: func(rotate.Sealed) { files++ },
		Config: rotate.Config{Interval: config.Duration(time.Minute), Format: "pcapng"},
	}, func() (time.Time, time.Duration) { return h.wall, h.since })
	if err != nil {
		t.Fatal(err)
	}
	for n := range 6000 {
		h.tick(100 * time.Millisecond)
		at := h.wall.Add(time.Duration(n%2) * time.Hour)
		if err := r.Write([]packet.Packet{{Time: at.UnixNano()}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(); err != nil || files > 21 { // two a minute
		t.Errorf("%d files in ten minutes, %v", files, err)
	}
}

// Who follows a file hears of it on a quiet line, too: each Pulse its counts are in
// it, and it stays a good file.
func TestAQuietFileHasAPulse(t *testing.T) {
	for _, format := range []string{"pcapng", "pcap"} {
		t.Run(format, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var part, path string
				o := rotate.Options{Pulse: 20 * time.Second, Begun: func(p, q string, first time.Time) {
					if part, path = p, q; !first.Equal(time.Now()) {
						t.Errorf("begun at %s", first)
					}
				}}
				r := newRig(t, rotate.Config{Interval: config.Duration(time.Hour), Format: format}, newLine(ether), o)
				var sizes []int64
				capture(r, 65*time.Second, func(n int) time.Duration { return time.Duration(n) * time.Hour })
				for range 4 {
					capture(r, 20*time.Second, func(int) time.Duration { return time.Hour })
					synctest.Wait()
					info, err := os.Stat(part)
					if err != nil {
						t.Fatal(err)
					}
					sizes = append(sizes, info.Size())
				}
				all := r.end()
				if len(all) != 1 || all[0].Path != path || all[0].Packets != 1 {
					t.Errorf("%+v, begun as %s", all, path)
				}
				for i, size := range sizes[1:] {
					if grows := size > sizes[i]; grows != (format == "pcapng") {
						t.Errorf("%d bytes after %d", size, sizes[i])
					}
				}
			})
		})
	}
}

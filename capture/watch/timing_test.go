package watch_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"capagent/capture/watch"
	"capagent/internal/config"
)

// simulated is a folder that is watched in simulated time, by scans and quiet
// times alone.
type simulated struct {
	t     *testing.T
	dir   string
	w     *watch.Watcher
	begin time.Time

	mu    sync.Mutex
	taken []string // "name@seconds since the beginning"
}

func simulate(t *testing.T, test func(s *simulated), change ...func(*watch.Options)) {
	t.Helper()
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "folder")
	must(t, os.Mkdir(dir, 0o700))
	synctest.Test(t, func(t *testing.T) {
		s := &simulated{t: t, dir: dir, begin: time.Now()}
		var c watch.Config
		c.SetDefaults()
		c.Path = dir
		o := watch.Options{Config: c, NoEvents: true}
		watch.JudgeByQuietTime(&o)
		o.Take = func(_ context.Context, f watch.File) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.taken = append(s.taken, fmt.Sprintf("%s@%g", f.Name, f.Seen.Sub(s.begin).Seconds()))
		}
		for _, f := range change {
			f(&o)
		}
		s.w = watch.New(o)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.w.Run(ctx) }()
		synctest.Wait()
		test(s)
		cancel()
		must(t, <-done)
	})
}

func (s *simulated) write(name, text string) {
	s.t.Helper()
	write(s.t, filepath.Join(s.dir, name), text)
}

// at waits until so many seconds since the beginning.
func (s *simulated) at(seconds float64) {
	time.Sleep(time.Until(s.begin.Add(time.Duration(seconds * float64(time.Second)))))
	synctest.Wait()
}

func (s *simulated) expect(want ...string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.Sort(s.taken)
	slices.Sort(want)
	if !slices.Equal(s.taken, want) {
		s.t.Errorf("at %gs handed over %q, want %q", time.Since(s.begin).Seconds(), s.taken, want)
	}
}

func TestScansFindWhatNoEventTells(t *testing.T) {
	simulate(t, func(s *simulated) {
		s.write("a", "a")
		s.at(29)
		s.expect()
		s.at(40)
		s.expect("a@32") // found at 30, quiet for 2
		s.at(125)
		s.write("a", "b")
		s.at(200)
		s.expect("a@32", "a@152")
		s.write("c", "c")
		s.w.Rescan()
		s.at(205)
		s.expect("a@32", "a@152", "c@202")
		if st := s.w.Status(); st.State != watch.Polling || st.Files != 2 || st.Pending != 0 {
			s.t.Errorf("status %+v", st)
		}
	})
}

func TestGrowingFileIsTakenWhenItCeases(t *testing.T) {
	simulate(t, func(s *simulated) {
		s.write("x", "")
		s.w.Rescan()
		for i := range 100 {
			s.at(float64(i))
			s.write("x", fmt.Sprint("text", i))
		}
		s.expect()
		s.at(110)
		s.expect("x@102.2") // last changed at 99, seen at 100.2, quiet for 2
	})
}

func TestTimesOfFilesMeanNothing(t *testing.T) {
	simulate(t, func(s *simulated) {
		for _, year := range []int{1970, 1999, 2000, 2026, 2200} {
			name := fmt.Sprint(year)
			s.write(name, name)
			when := time.Date(year, 2, 3, 4, 5, 6, 7, time.UTC)
			must(s.t, os.Chtimes(filepath.Join(s.dir, name), when, when))
		}
		s.at(40)
		s.expect("1970@32", "1999@32", "2000@32", "2026@32", "2200@32")
	})
}

func TestMissingFolderIsLookedForEverySecond(t *testing.T) {
	simulate(t, func(s *simulated) {
		away := s.dir + " away"
		s.write("x", "x")
		must(s.t, os.Rename(s.dir, away))
		s.at(31)
		if st := s.w.Status(); st.State != watch.Unavailable || st.Error == "" {
			s.t.Errorf("status %+v", st)
		}
		s.at(100.5)
		must(s.t, os.Rename(away, s.dir))
		s.at(110)
		s.expect("x@103")
	})
}

func TestAgainComesAfterItsTime(t *testing.T) {
	simulate(t, func(s *simulated) {
		s.write("x", "x")
		s.at(33)
		s.expect("x@32")
		s.w.Again(filepath.Join(s.dir, "x"), 100*time.Second)
		s.at(120)
		s.write("x", "changed") // no reason to come earlier
		s.w.Rescan()
		s.at(200)
		s.expect("x@32", "x@135")
	})
}

func TestBlockedOwner(t *testing.T) {
	simulate(t, func(s *simulated) {
		s.write("x", "x")
		s.at(40)
		for i := range 50 {
			s.write(fmt.Sprint(i), "text")
		}
		s.at(1000)
		if st := s.w.Status(); st.Pending < 50 || st.Scans < 20 || st.Files != 51 {
			s.t.Errorf("status %+v", st)
		}
	}, func(o *watch.Options) {
		o.Take = func(ctx context.Context, _ watch.File) { <-ctx.Done() } // Run ends all the same
	})
}

func TestBlockedOwnerCostsLittleMemory(t *testing.T) {
	simulate(t, func(s *simulated) {
		for i := range 3000 {
			s.write(fmt.Sprint(i), "text")
		}
		s.at(100)
		if st := s.w.Status(); st.Pending < 1000 || st.Pending > 1400 {
			s.t.Errorf("status %+v", st)
		}
	}, watch.JudgeByLease, func(o *watch.Options) {
		o.Take = func(ctx context.Context, _ watch.File) { <-ctx.Done() }
	})
}

func TestFileThatNeverRestsIsHandedOverNowAndThen(t *testing.T) {
	simulate(t, func(s *simulated) {
		for i := range 1200 {
			s.write("ring.pcap", fmt.Sprint("text", i))
			s.at(float64(i))
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		// Found every 30 s, and waited for during ten quiet times.
		if n := len(s.taken); n < 10 || n > 60 {
			s.t.Errorf("handed over %d times in 20 minutes", n)
		}
	}, watch.JudgeByLease)
}

func TestOwnerThatCantTellWhatIsKnown(t *testing.T) {
	asked := 0
	simulate(t, func(s *simulated) {
		s.write("x", "x")
		s.at(3600)
		s.expect()
	}, func(o *watch.Options) {
		o.Known = func(context.Context, string) (watch.Stamp, error) {
			asked++
			return "", errors.New("database is locked")
		}
	})
	if asked < 30 || asked > 120 {
		t.Errorf("asked %d times in an hour", asked)
	}
}

func TestFileThatWasGoneIsAskedForAgain(t *testing.T) {
	asked := 0
	simulate(t, func(s *simulated) {
		s.write("x", "x")
		s.write("y", "y")
		s.at(100)
		must(s.t, os.Remove(filepath.Join(s.dir, "x")))
		s.at(200)
		s.write("x", "x")
		s.at(300)
		s.expect("x@32", "y@32", "x@212")
	}, func(o *watch.Options) {
		o.Known = func(context.Context, string) (watch.Stamp, error) {
			asked++
			return "", nil
		}
	})
	if asked != 3 {
		t.Errorf("asked %d times", asked)
	}
}

func TestOneDay(t *testing.T) {
	simulate(t, func(s *simulated) {
		var want []string
		for hour := range 24 {
			name := fmt.Sprintf("%d.pcap", hour)
			s.at(float64(hour)*3600 + 5)
			s.write(name, name)
			want = append(want, fmt.Sprintf("%s@%d", name, hour*3600+32))
			if hour > 2 {
				must(s.t, os.Remove(filepath.Join(s.dir, fmt.Sprintf("%d.pcap", hour-3))))
			}
		}
		s.at(25 * 3600)
		s.expect(want...)
		if st := s.w.Status(); st.Files != 3 || st.Scans < 2500 {
			s.t.Errorf("status %+v", st)
		}
	}, func(o *watch.Options) { o.Config.Rescan = config.Duration(30 * time.Second) })
}

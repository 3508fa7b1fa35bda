package logs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"capagent/internal/logs"
)

// locked is a buffer that one goroutine reads while another one writes.
type locked struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// rig is a logger whose Limiter runs, in a bubble of synctest.
type rig struct {
	zerolog.Logger
	out  locked
	stop func()
}

func newRig() *rig {
	r := &rig{}
	log, limiter := logs.New(logs.Options{Out: &r.out})
	r.Logger = log
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { limiter.Run(ctx) })
	r.stop = func() {
		cancel()
		run.Wait()
		_ = limiter.Close()
	}
	return r
}

// line is what the tests look at in a line.
type line struct {
	Level, Class, Message string
	Destination, Folder   string
	Capture               int64
	Time                  time.Time
	Repeated, Others      int
}

func (r *rig) lines(t *testing.T) []line {
	t.Helper()
	var all []line
	for _, text := range strings.SplitAfter(r.out.String(), "\n") {
		if text == "" {
			continue
		}
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		all = append(all, l)
	}
	return all
}

// Row 45 of the fault matrix: a destination is down for an hour, every second
// another capture fails, and in between there is news.
func TestAnHourOfFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		begun := time.Now()
		for i := range 3600 {
			r.Warn().Str("class", "network").Str("destination", "https://a").Int64("capture", int64(i)).Msgf("no route for capture %d", i)
			if i%600 == 0 {
				r.Info().Int64("capture", int64(i)).Msg("sealed")
			}
			time.Sleep(time.Second)
		}
		r.stop()
		news, failures, stoodFor := 0, 0, 0
		for _, l := range r.lines(t) {
			if l.Level == "info" {
				news++
				continue
			}
			failures++
			stoodFor += max(1, l.Repeated)
		}
		if failures > 61 || failures < 60 {
			t.Errorf("%d lines for one cause in an hour; want 60 or 61", failures)
		}
		if stoodFor != 3600 {
			t.Errorf("they stand for %d failures, not 3600", stoodFor)
		}
		if news != 6 {
			t.Errorf("%d lines of news; want 6", news)
		}
		first, last := r.lines(t)[0], r.lines(t)[len(r.lines(t))-1]
		if !first.Time.Equal(begun) || first.Repeated != 0 {
			t.Errorf("the first failure was said at %v with repeated %d; want at once (%v)", first.Time, first.Repeated, begun)
		}
		if last.Capture != 3599 {
			t.Errorf("the last line is of capture %d; want the last failure, 3599", last.Capture)
		}
	})
}

func TestTheMinuteEndsWithTheLastLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		defer r.stop()
		for i := range 3 {
			r.Error().Str("class", "disk_full").Int64("capture", int64(i)).Msg("no space left")
			time.Sleep(10 * time.Second)
		}
		if n := len(r.lines(t)); n != 1 {
			t.Fatalf("%d lines within the minute; want 1", n)
		}
		time.Sleep(31 * time.Second)
		synctest.Wait()
		got := r.lines(t)
		if len(got) != 2 || got[1].Repeated != 2 || got[1].Capture != 2 || got[1].Level != "error" {
			t.Fatalf("after the minute: %+v", got)
		}
		// A whole minute of rest, and the next one is news again.
		time.Sleep(61 * time.Second)
		r.Error().Str("class", "disk_full").Int64("capture", 9).Msg("no space left")
		if got := r.lines(t); len(got) != 3 || got[2].Capture != 9 || got[2].Repeated != 0 {
			t.Errorf("after a minute of rest: %+v", got)
		}
	})
}

func TestWhatIsOneCause(t *testing.T) {
	log := func(r *rig, level zerolog.Level, class, field, value, message string) {
		e := r.WithLevel(level)
		if class != "" {
			e.Str("class", class)
		}
		e.Str(field, value).Msg(message)
	}
	for _, tc := range []struct {
		name string
		say  func(r *rig)
		want int
	}{
		{"a thousand captures, one class", func(r *rig) {
			for i := range 1000 {
				log(r, zerolog.WarnLevel, "network", "path", fmt.Sprintf("/spool/%d.pcap", i), fmt.Sprintf("file %d: refused", i))
			}
		}, 1},
		{"two watched folders", func(r *rig) {
			for i := range 10 {
				log(r, zerolog.WarnLevel, "permission", "folder", fmt.Sprintf("/watch/%d", i%2), "can't be read")
			}
		}, 2},
		{"two destinations", func(r *rig) {
			for i := range 10 {
				log(r, zerolog.WarnLevel, "network", "destination", fmt.Sprintf("https://%d", i%2), "down")
			}
		}, 2},
		{"a warning and an error", func(r *rig) {
			log(r, zerolog.WarnLevel, "network", "note", "1", "down")
			log(r, zerolog.ErrorLevel, "network", "note", "2", "down")
		}, 2},
		{"two messages without a class", func(r *rig) {
			for i := range 10 {
				log(r, zerolog.WarnLevel, "", "note", fmt.Sprint(i), fmt.Sprintf("message %d", i%2))
			}
		}, 2},
		{"two messages that nobody classified", func(r *rig) {
			for i := range 10 {
				log(r, zerolog.WarnLevel, "unknown", "note", fmt.Sprint(i), fmt.Sprintf("message %d", i%2))
			}
		}, 2},
		{"a message is no class", func(r *rig) {
			log(r, zerolog.WarnLevel, "network", "note", "1", "x")
			log(r, zerolog.WarnLevel, "", "note", "1", "network")
		}, 2},
		{"a message that looks like fields", func(r *rig) {
			log(r, zerolog.WarnLevel, "", "note", `","class":"x`, `","class":"network","message":"a`)
			log(r, zerolog.WarnLevel, "", "note", `","class":"x`, `","class":"network","message":"b`)
		}, 2},
		{"fields in other fields", func(r *rig) {
			for i := range 2 {
				r.Warn().Dict("of", zerolog.Dict().Str("class", fmt.Sprint(i)).Strs("destination", []string{"}", "]", `"`})).
					Str("class", "network").Msg("down")
			}
		}, 1},
		{"news is never limited", func(r *rig) {
			for range 10 {
				r.Info().Str("class", "network").Msg("uploaded")
				r.Debug().Msg("uploaded")
				r.Log().Msg("uploaded")
			}
		}, 30},
		{"a line too long to keep", func(r *rig) {
			for range 3 {
				log(r, zerolog.WarnLevel, "network", "text", strings.Repeat("x", 17<<10), "down")
			}
		}, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig()
				defer r.stop()
				tc.say(r)
				if got := r.lines(t); len(got) != tc.want {
					t.Errorf("%d lines at once; want %d: %+v", len(got), tc.want, got)
				}
			})
		})
	}
}

// However many causes there are, the lines of a minute are bounded and every one
// is accounted for.
func TestMoreCausesThanAreToldApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const told, all = 256, 5000
		r := newRig()
		for i := range all {
			r.Warn().Msgf("cause %d", i)
		}
		if n := len(r.lines(t)); n != told+1 {
			t.Errorf("%d lines at once; want %d and one for the others", n, told)
		}
		time.Sleep(62 * time.Second)
		synctest.Wait()
		got := r.lines(t)
		if last := got[len(got)-1]; len(got) != told+2 || last.Others != all-told-1 || last.Repeated != 0 {
			t.Errorf("after the minute: %d lines, the last is %+v", len(got), last)
		}
		// The minute is over for those that rest, so there is room again.
		r.Warn().Msg("something new")
		if now := r.lines(t); len(now) != len(got)+1 {
			t.Errorf("a new cause made %d lines", len(now)-len(got))
		}
		r.stop()
	})
}

func TestCloseSaysWhatWasHeldBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log, limiter := logs.New(logs.Options{Out: &out})
		for range 5 {
			log.Warn().Msg("down")
		}
		for range 2 { // closing again does nothing
			if err := limiter.Close(); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			log.Warn().Msg("down") // passes: nobody flushes any more
		}
		got := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(got) != 4 || !strings.Contains(got[1], `"repeated":4}`) {
			t.Errorf("got %q", got)
		}
	})
}

// A Limiter that nobody runs must still let the first line and a line per minute
// through.
func TestNobodyRunsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log, _ := logs.New(logs.Options{Out: &out})
		for range 300 {
			log.Warn().Msg("down")
			time.Sleep(time.Second)
		}
		if n := strings.Count(out.String(), "\n"); n != 5 {
			t.Errorf("%d lines in 5 minutes; want 5", n)
		}
	})
}

func TestConsoleSaysRepeated(t *testing.T) {
	var out bytes.Buffer
	log, limiter := logs.New(logs.Options{Out: &out, Format: logs.Console})
	for range 3 {
		log.Warn().Msg("down")
	}
	_ = limiter.Close()
	if got := strings.Split(strings.TrimSpace(out.String()), "\n"); len(got) != 2 || !strings.HasSuffix(got[1], "down repeated=2") {
		t.Errorf("got %q", got)
	}
}

func TestManyGoroutines(t *testing.T) {
	var out bytes.Buffer
	log, limiter := logs.New(logs.Options{Out: &out})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 500 {
				log.Warn().Str("class", "network").Msg("down")
				log.Info().Int("goroutine", i).Msg("news")
			}
		})
	}
	all.Wait()
	_ = limiter.Close()
	if n := strings.Count(out.String(), "\n"); n != 4000+2 {
		t.Errorf("%d lines; want 4002", n)
	}
}

func TestAStormAllocatesLittle(t *testing.T) {
	log, _ := logs.New(logs.Options{Out: io.Discard})
	one := func() { log.Warn().Str("class", "network").Int64("capture", 12345).Msg("down") }
	if n := testing.AllocsPerRun(1000, one); n > 1 {
		t.Errorf("%v allocations a line; want the time's only", n)
	}
}

// What the Limiter makes of a line must stay a line, and the cause must be found
// in whatever zerolog writes.
func FuzzLimiter(f *testing.F) {
	f.Add("network", "https://a", "down")
	f.Add(`"`, `\`, "\x00}\n{")
	f.Add("", "\xff\u2028", `","class":"x"`)
	f.Fuzz(func(t *testing.T, class, destination, message string) {
		var out bytes.Buffer
		log, limiter := logs.New(logs.Options{Out: &out})
		for i := range 3 {
			log.Warn().Int("capture", i).Str("class", class).Str("destination", destination).RawJSON("raw", []byte(`[{"a":"}"}]`)).Msg(message)
		}
		_ = limiter.Close()
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(class)+len(destination)+len(message) > 2<<10 {
			return // may be too long to be limited
		}
		if len(lines) != 2 {
			t.Fatalf("%d lines: %q", len(lines), lines)
		}
		for _, text := range lines {
			if !json.Valid([]byte(text)) {
				t.Fatalf("not JSON: %q", text)
			}
		}
	})
}

package daemon

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"capagent/internal/config"
	"capagent/internal/ledger"
	"capagent/service"
	"capagent/service/control"
)

// withHeld runs f with an agent that holds what its one capture takes.
func withHeld(t *testing.T, change func(*service.Config), f func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, zerolog.Nop(), holding(change))
		synctest.Wait()
		defer func() {
			if err := r.end(); err != nil {
				t.Error(err)
			}
		}()
		f(t, r)
	})
}

func holding(change func(*service.Config)) func(*service.Config) {
	return func(c *service.Config) {
		c.Watch, c.Capture = nil, []service.CaptureConfig{capturing("lan")}
		c.Policy.Upload = service.UploadTriggered
		if change != nil {
			change(c)
		}
	}
}

func window(before, after time.Duration) control.TriggerRequest {
	b, a := config.Duration(before), config.Duration(after)
	return control.TriggerRequest{Before: &b, After: &a, Reason: "slow", By: "test"}
}

func (r *rig) trigger(t testing.TB, ask control.TriggerRequest) control.Trigger {
	t.Helper()
	v, err := r.Trigger(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (r *rig) carried(t testing.TB, id int64) ledger.Trigger {
	t.Helper()
	v, err := r.ledger.Trigger(t.Context(), id)
	if err != nil || v.Ended.IsZero() {
		t.Fatalf("%+v, %v", v, err)
	}
	return v
}

func (r *rig) of(t testing.TB, source string) (all []ledger.Capture) {
	t.Helper()
	for c, err := range r.ledger.List(t.Context(), ledger.Filter{Source: source}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// A window holds the packets of its time and no others, from before and after it
// was asked for; what it was cut from stays.
func TestATriggerReleasesItsWindow(t *testing.T) {
	withHeld(t, nil, func(t *testing.T, r *rig) {
		r.server.set(errRefused) // the file is looked at before it is sent
		for range 20 {
			r.cable.send(5)
			time.Sleep(time.Second)
		}
		asked := time.Now()
		v := r.trigger(t, window(10*time.Second, 5*time.Second))
		for range 10 {
			time.Sleep(time.Second)
			r.cable.send(5)
		}
		time.Sleep(time.Second)
		got := r.carried(t, v.ID)
		if got.Error != "" || len(got.Captures) != 1 || got.Note != "" || got.Ended.Sub(v.To) > 2*time.Second || got.Ended.Before(v.To) {
			t.Fatalf("%+v", got)
		}
		c := r.of(t, service.SourceTrigger)[0]
		in := numbers(t, c.Path)
		want := r.cable.between(asked.Add(-10*time.Second), asked.Add(5*time.Second))
		if !slices.Equal(in, want) || len(in) < 60 {
			t.Errorf("%d packets, want %d: %v, %v", len(in), len(want), in, want)
		}
		if !strings.HasPrefix(c.Comment, "slow (") || !strings.Contains(c.Comment, "asked for by test") || c.Live == nil || c.Live.Reason != "trigger" || c.Live.Interfaces[0].Name != "eth0" || !c.Owned {
			t.Errorf("%+v, %+v", c, c.Live)
		}
		for _, held := range r.of(t, "capture:lan") {
			if held.State != ledger.Held || held.Reason == "" {
				t.Errorf("%+v", held)
			}
		}
		r.server.set(nil)
		time.Sleep(5 * time.Minute)
		if r.server.count() != 1 {
			t.Errorf("%d sessions", r.server.count())
		}
	})
}

// What reaches back before what is there gives what there is, and says so; where
// nothing is, it says that.
func TestAWindowOfWhatIsNotThere(t *testing.T) {
	withHeld(t, nil, func(t *testing.T, r *rig) {
		time.Sleep(time.Hour)
		v := r.trigger(t, window(time.Minute, 0))
		time.Sleep(5 * time.Second)
		if got := r.carried(t, v.ID); got.Error == "" || len(got.Captures) != 0 {
			t.Errorf("%+v", got)
		}
		r.cable.send(5)
		v = r.trigger(t, window(time.Hour, 0))
		time.Sleep(5 * time.Second)
		if got := r.carried(t, v.ID); got.Error != "" || len(got.Captures) != 1 || !strings.Contains(got.Note, "the first packet that is there") {
			t.Errorf("%+v", got)
		}
	})
}

func TestTriggersAreLimited(t *testing.T) {
	withHeld(t, func(c *service.Config) { c.Policy.MaxPerHour = 2 }, func(t *testing.T, r *rig) {
		first := time.Now()
		r.trigger(t, window(time.Minute, 0))
		time.Sleep(20 * time.Minute)
		r.triggers.signalled(t.Context(), os.Interrupt) // counts, too
		time.Sleep(20 * time.Minute)
		_, err := r.Trigger(t.Context(), window(time.Minute, 0))
		var told *control.Error
		if !errors.As(err, &told) || told.Status != http.StatusTooManyRequests || told.RetryAfter.Round(time.Second) != 20*time.Minute ||
			!strings.Contains(told.Text, first.Add(time.Hour).UTC().Format(time.RFC3339)) {
			t.Fatalf("%+v", err)
		}
		time.Sleep(21 * time.Minute)
		r.trigger(t, window(time.Minute, 0))
		for _, ask := range []control.TriggerRequest{
			window(0, 0), window(30*24*time.Hour, 0), {Capture: "wan"}, {Reason: strings.Repeat("x", 2000)},
		} {
			if _, err := r.Trigger(t.Context(), ask); !errors.As(err, &told) || told.Status == http.StatusTooManyRequests {
				t.Errorf("%+v: %v", ask, err)
			}
		}
	})
}

// A trigger is carried out by the next agent where the first one ended before.
func TestATriggerOutlivesTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := t.TempDir()
		r := start(t, zerolog.Nop(), holding(func(c *service.Config) { c.Agent.StateDir = state }))
		synctest.Wait()
		r.server.set(errRefused)
		r.cable.send(25)
		v := r.trigger(t, window(time.Minute, time.Minute))
		time.Sleep(time.Second)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		// What a crash may leave of it.
		if err := os.WriteFile(filepath.Join(state, "spool", nameOf(ledger.Trigger{ID: v.ID, From: v.From})), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		r = r.again(t, state, zerolog.Nop(), holding(nil))
		time.Sleep(15 * time.Second)
		got := r.carried(t, v.ID)
		made := r.of(t, service.SourceTrigger)
		if got.Error != "" || len(made) != 1 || got.Captures[0] != made[0].ID || made[0].Packets != 25 {
			t.Errorf("%+v, %+v", got, made)
		}
		if err := r.end(); err != nil {
			t.Error(err)
		}
	})
}

// The spool is a ring of what is held, but for what a window needs.
func TestWhatIsHeldIsARing(t *testing.T) {
	withHeld(t, func(c *service.Config) { c.Retention.MaxSize = config.Size(50_000) }, func(t *testing.T, r *rig) {
		r.server.set(errRefused)
		for range 20 {
			r.cable.send(10)
			time.Sleep(time.Second)
		}
		time.Sleep(time.Minute)
		purged := func() (n int) {
			for i, c := range r.of(t, "capture:lan") {
				if c.State == ledger.Purged {
					if n++; n-1 != i {
						t.Errorf("%d went before an older one", i)
					}
				}
			}
			return n
		}
		before := purged()
		if before < 14 || before > 17 || r.problem("spool_full") != nil {
			t.Errorf("%d were purged, %+v", before, r.problems.list())
		}
		v := r.trigger(t, window(10*time.Minute, 10*time.Minute))
		for range 20 {
			r.cable.send(10)
			time.Sleep(time.Second)
		}
		if n := purged(); n != before {
			t.Errorf("%d were purged that the window needs", n-before)
		}
		time.Sleep(20 * time.Minute)
		if got := r.carried(t, v.ID); len(got.Captures) != 1 {
			t.Errorf("%+v", got)
		}
		if n := purged(); n <= before {
			t.Errorf("%d are purged", n)
		}
	})
}

// Captures in watched folders are held, too, and released whole.
func TestWatchedFilesAreHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, zerolog.Nop(), func(c *service.Config) { c.Policy.Upload = service.UploadTriggered })
		r.put(t, "a.pcap", 1)
		time.Sleep(time.Minute)
		all := r.of(t, "watch:"+r.folder)
		if len(all) != 1 || all[0].State != ledger.Held {
			t.Fatalf("%+v", all)
		}
		v, err := r.ledger.Overlapping(t.Context(), all[0].First, all[0].Last, 10)
		if err != nil || len(v) != 1 {
			t.Errorf("%+v, %v", v, err)
		}
		result, err := r.triggers.release(t.Context(), ledger.Trigger{ID: 1, From: all[0].First, To: all[0].Last})
		if err != nil || len(result.Captures) != 1 || result.Captures[0] != all[0].ID {
			t.Errorf("%+v, %v", result, err)
		}
		r.current().sender.poke()
		time.Sleep(time.Minute)
		if r.server.count() != 1 {
			t.Errorf("%d sessions", r.server.count())
		}
		if err := r.end(); err != nil {
			t.Error(err)
		}
	})
}

// A log's lines ask for windows: through renames and cuts of the file, in the
// words of the template, and not too often.
func TestALogLineIsATrigger(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "app.log")
	write := func(text string, flags int) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|flags, 0o600)
		if err == nil {
			_, err = f.WriteString(text)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	write("ERROR of yesterday\n", os.O_APPEND)
	change := func(c *service.Config) {
		var one service.TriggerConfig
		one.SetDefaults()
		one.Name, one.File, one.Pattern, one.Reason = "app", path, "ERROR|CRIT", "saw {line}"
		one.Cooldown = config.Duration(time.Minute)
		c.Trigger = []service.TriggerConfig{one}
		c.Policy.MaxPerHour = 0
	}
	withHeld(t, change, func(t *testing.T, r *rig) {
		reasons := func() (all []string) {
			triggers, err := r.ledger.Triggers(t.Context(), time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			for _, one := range triggers {
				if one.By != "log: app" {
					t.Errorf("%+v", one)
				}
				all = append(all, one.Reason)
			}
			return all
		}
		var want []string
		expect := func(more ...string) {
			t.Helper()
			time.Sleep(2 * time.Minute)
			want = append(want, more...)
			if got := reasons(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%q, want %q", got, want)
			}
		}
		expect()
		write("fine\nan ERR", os.O_APPEND)
		expect()
		write("OR here\nERROR again, at once\n", os.O_APPEND)
		expect("saw an ERROR here")
		write("ERROR \x1b[31m\xff\n", os.O_APPEND)
		expect("saw ERROR \\x1b[31m\uFFFD")
		// Renamed, with a last line, and made anew.
		write("ERROR last", os.O_APPEND)
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
		write("CRIT new\nand more\n", os.O_APPEND)
		expect("saw CRIT new")
		write("CRIT cut\n", os.O_TRUNC) // shorter than what was there
		expect("saw CRIT cut")
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		expect()
		write(strings.Repeat("x", 1<<20)+"ERROR is too far\nERROR "+strings.Repeat("y", 1<<20)+"\n", os.O_APPEND)
		expect("saw ERROR " + strings.Repeat("y", shownLine-6))
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		expect()
		if r.problem("trigger_log") == nil {
			t.Errorf("%+v", r.problems.list())
		}
	})
}

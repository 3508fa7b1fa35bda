package daemon

import (
	"errors"
	"flag"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"capagent/internal/config"
	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/service"
)

var simulated = flag.Int("daemon.days", 3, "days to simulate")

// Days pass, the server is away for hours again and again, and once for a day:
// every file gets its session, nobody is asked more than once a second, and
// nothing piles up.
func TestDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Ten minutes between scans, or looking at a month's files would be all
		// that this test does.
		r := start(t, zerolog.Nop(), func(c *service.Config) { c.Watch[0].Rescan = config.Duration(10 * time.Minute) })
		r.put(t, "first.pcap", -1) // with which the store of sightings is opened
		time.Sleep(time.Hour)
		synctest.Wait()
		before := runtime.NumGoroutine()
		files := 1
		for hour := range *simulated * 24 {
			switch {
			case hour%24 == 20, hour == 24:
				r.server.set(errRefused)
			case hour%24 == 23, hour == 48:
				r.server.set(nil)
			}
			r.put(t, fmt.Sprintf("%d.pcap", hour), hour)
			files++
			time.Sleep(time.Hour)
		}
		r.server.set(nil)
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := r.server.count(); n != files {
			t.Errorf("%d sessions of %d files", n, files)
		}
		for sha, n := range r.server.sessions {
			if n != 1 {
				t.Errorf("%d sessions of %s", n, sha)
			}
		}
		for i, at := range r.server.refused {
			if i >= 2 && at.Sub(r.server.refused[i-2]) < time.Second {
				t.Errorf("three attempts within a second, at %v", at)
			}
		}
		if after := runtime.NumGoroutine(); after > before {
			t.Errorf("%d goroutines became %d", before, after)
		}
		t.Logf("%d days, %d files, %d attempts and questions", *simulated, files, r.server.attempts)
		if err := r.end(); err != nil {
			t.Error(err)
		}
	})
}

// After an outage the oldest packets go first, whatever their files are called.
func TestTheOldestGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, zerolog.Nop(), func(c *service.Config) { c.CloudShark.Concurrency = 1 })
		r.server.set(errRefused)
		for i := range 20 {
			r.put(t, fmt.Sprintf("%02d.pcap", i), 100-i)
		}
		time.Sleep(time.Hour)
		r.server.set(nil)
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := r.server.count(); n != 20 {
			t.Fatalf("%d sessions", n)
		}
		if !slices.IsSortedFunc(r.server.order, func(a, b string) int { return strings.Compare(b, a) }) {
			t.Errorf("order: %q", r.server.order)
		}
		if err := r.end(); err != nil {
			t.Error(err)
		}
	})
}

// What a crash left in the state directory is taken up.
func TestARestartGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, zerolog.Nop(), nil)
		r.server.set(errRefused)
		for i := range 5 {
			r.put(t, fmt.Sprintf("%d.pcap", i), i)
		}
		time.Sleep(10 * time.Minute)
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		state := r.opts.Config.StateDir()
		r.server.set(nil)
		r = r.again(t, state, zerolog.Nop(), nil)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := r.server.count(); n != 5 {
			t.Errorf("%d sessions", n)
		}
		s, err := r.ledger.Counts(t.Context())
		if err != nil || s.States[ledger.Done].Captures != 5 {
			t.Errorf("%v: %+v", err, s)
		}
		if err := r.end(); err != nil {
			t.Error(err)
		}
	})
}

// What hangs for ever does not keep the agent from ending.
func TestTheEndComesWhateverHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, zerolog.Nop(), nil)
		r.server.hang = make(chan struct{})
		r.put(t, "a.pcap", 1)
		time.Sleep(time.Minute)
		asked := time.Now()
		if err := r.end(); !errors.Is(err, errStuck) {
			t.Errorf("%v", err)
		}
		if took := time.Since(asked); took > time.Second+giveUp {
			t.Errorf("it took %v", took)
		}
		close(r.server.hang)
		synctest.Wait()
		if err := r.ledger.Close(); err != nil {
			t.Error(err)
		}
	})
}

// What was on its way as the configuration was reloaded, and fails, is taken up by the
// new configuration at once.
func TestAReloadTakesUpWhatFailsAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, zerolog.Nop(), nil)
		r.server.hang = make(chan struct{})
		r.put(t, "a.pcap", 1)
		time.Sleep(time.Minute)
		if err := r.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // the new sender has looked, and found it on its way
		r.server.set(&failure.Error{Kind: failure.Pause, Class: "bad-token", Err: errors.New("wrong token")})
		close(r.server.hang)
		synctest.Wait()
		r.server.set(nil)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if n := r.server.count(); n != 1 {
			t.Errorf("%d sessions after five seconds", n)
		}
		if err := r.end(); err != nil {
			t.Error(err)
		}
	})
}

package daemon

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"capagent/capture"
	"capagent/internal/config"
	"capagent/internal/ledger"
	"capagent/service"
	"capagent/service/control"
)

// withLive runs f with an agent that has one capture, and looks in the end that each
// packet that was sent is kept once, but for lost.
func withLive(t *testing.T, change func(*service.Config), f func(t *testing.T, r *rig) (lost int)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := start(t, zerolog.Nop(), func(c *service.Config) {
			c.Watch, c.Capture = nil, []service.CaptureConfig{capturing("lan")}
			if change != nil {
				change(c)
			}
		})
		synctest.Wait()
		end := sync.OnceValue(r.end)
		defer end() // for when f gives up; otherwise it was looked at
		lost := f(t, r)
		if err := end(); err != nil {
			t.Error(err)
		}
		if kept := r.kept(t); len(kept)+lost != int(r.cable.next) {
			t.Errorf("%d of %d packets are kept, %d lost", len(kept), r.cable.next, lost)
		}
	})
}

func (r *rig) lives(t testing.TB) []ledger.Capture {
	t.Helper()
	var all []ledger.Capture
	for c, err := range r.ledger.List(t.Context(), ledger.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		if c.Live == nil || !c.Owned {
			t.Errorf("%+v", c)
			continue
		}
		all = append(all, c)
	}
	return all
}

func (r *rig) problem(class string) *Problem {
	for _, p := range r.problems.list() {
		if p.Class == class {
			return &p
		}
	}
	return nil
}

func (r *rig) state(t testing.TB) control.Status {
	t.Helper()
	s, err := r.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFilesBecomeSessions(t *testing.T) {
	withLive(t, nil, func(t *testing.T, r *rig) int {
		r.cable.send(25)
		time.Sleep(time.Minute)
		c := r.state(t).Agent.Captures[0]
		if c.Packets != 25 || c.Files != 2 || c.Open == nil || c.Open.Packets != 5 || c.State != control.Capturing {
			t.Errorf("%+v", c)
		}
		all, err := r.Rotate(t.Context(), "")
		if err != nil || len(all) != 1 || all[0] != (control.Rotated{Name: "lan", Files: 1}) {
			t.Errorf("%+v, %v", all, err)
		}
		if n := len(r.lives(t)); n != 3 { // recorded when Rotate returns
			t.Errorf("%d captures", n)
		}
		if _, err := r.Rotate(t.Context(), "wan"); err == nil {
			t.Error("there is no capture of this name")
		}
		time.Sleep(time.Minute)
		for i, c := range r.lives(t) {
			if c.State != ledger.Done || c.Source != "capture:lan" || c.Live.Interfaces[0].Name != "eth0" || c.Live.Received == 0 {
				t.Errorf("%d: %+v, %+v", i, c, c.Live)
			}
		}
		return 0 // and none was purged after its upload
	})
}

// A reload loses no packet of a capture that stays as it is.
func TestAReloadGoesOnCapturing(t *testing.T) {
	withLive(t, nil, func(t *testing.T, r *rig) int {
		r.cable.send(5)
		r.load.CloudShark.Concurrency = 5
		if err := r.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.cable.send(5)
		time.Sleep(time.Second)
		if n := len(r.lives(t)); n != 1 || len(r.cable.opened) != 1 {
			t.Errorf("%d captures, opened %d times", n, len(r.cable.opened))
		}
		r.cable.send(5)
		changed := capturing("lan")
		changed.Filter = "udp"
		r.load.Capture = []service.CaptureConfig{changed, capturing("other")}
		if err := r.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		if all := r.lives(t); len(all) != 2 || all[1].Live.Reason != "ended" || len(r.cable.opened) != 3 {
			t.Errorf("%d captures, opened %d times", len(all), len(r.cable.opened))
		}
		r.load.Capture = nil
		if err := r.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if !r.cable.now.closed.Load() || len(r.state(t).Agent.Captures) != 0 {
			t.Error("it still captures")
		}
		if _, err := r.Rotate(t.Context(), ""); err == nil {
			t.Error("nothing is there to rotate")
		}
		return 0
	})
}

// What can't be opened is tried again and again, and what is missing is told.
func TestACaptureThatCantBeOpenedIsTriedAgain(t *testing.T) {
	withLive(t, nil, func(t *testing.T, r *rig) int {
		r.cable.send(3)
		r.cable.set(fmt.Errorf("capture from %q: no such interface (%w)", "eth0", fs.ErrNotExist))
		r.cable.now.dead <- fs.ErrClosed
		time.Sleep(10 * time.Minute)
		p := r.problem("capture_open")
		if p == nil || !strings.Contains(p.Text, "no such interface") || !strings.Contains(p.Hint, "as soon as it is there") {
			t.Fatalf("%+v", p)
		}
		if r.cable.tries < 20 || r.cable.tries > 30 {
			t.Errorf("%d tries in ten minutes", r.cable.tries)
		}
		if c := r.state(t).Agent.Captures[0]; c.State != control.Waiting || c.Since != nil || c.Problem == nil || c.Packets != 3 {
			t.Errorf("%+v", c)
		}
		if all, err := r.Rotate(t.Context(), "lan"); err != nil || all[0].Problem == nil {
			t.Errorf("%+v, %v", all, err)
		}
		r.cable.set(nil)
		time.Sleep(time.Minute)
		if p := r.problem("capture_open"); p != nil {
			t.Errorf("%+v", p)
		}
		r.cable.send(10)
		time.Sleep(time.Second)
		all := r.lives(t)
		if len(all) != 2 || len(all[1].Live.Gaps) != 1 {
			t.Fatalf("%+v", all)
		}
		if g := all[1].Live.Gaps[0]; g.To.Sub(g.From) < 10*time.Minute || g.To.Sub(g.From) > 11*time.Minute {
			t.Errorf("%+v", g)
		}
		return 0
	})
}

func TestInterfacesThatGoAndComeBack(t *testing.T) {
	withLive(t, nil, func(t *testing.T, r *rig) int {
		r.cable.send(3)
		r.cable.tell(capture.Event{Kind: capture.Gone, Interface: "eth0"})
		time.Sleep(time.Hour)
		if p := r.problem("capture_gone"); p == nil || !strings.Contains(*r.state(t).Agent.Captures[0].Problem, "eth0 is gone") {
			t.Errorf("%+v", p)
		}
		r.cable.tell(capture.Event{Kind: capture.Back, Interface: "eth0", Gap: time.Hour})
		r.cable.send(7)
		r.cable.tell(capture.Event{Kind: capture.Down, Interface: "eth0"})
		r.cable.tell(capture.Event{Kind: capture.Renamed, Interface: "wan0", Was: "eth0"})
		time.Sleep(time.Second)
		if p := r.problem("capture_down"); p == nil || p.About != "lan wan0" {
			t.Errorf("%+v", p)
		}
		all := r.lives(t)
		if len(all) != 1 || len(all[0].Live.Gaps) != 1 || all[0].Live.Gaps[0].Cause != "the interface was gone" || r.problem("capture_gone") != nil {
			t.Fatalf("%+v", all)
		}
		r.cable.send(1)
		r.load.Capture = nil
		if err := r.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if all = r.lives(t); len(all) != 2 || len(all[1].Live.Gaps) != 1 || all[1].Live.Gaps[0].Interface != "wan0" {
			t.Errorf("%+v", all)
		}
		if left := r.problems.list(); len(left) > 0 {
			t.Errorf("%+v", left)
		}
		return 0
	})
}

// A crash between a seal and its record, and one in the middle of a file.
func TestWhatACrashLeftIsRecordedWithItsSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := t.TempDir()
		spool := filepath.Join(state, "spool")
		if err := os.Mkdir(spool, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string][]byte{
			"lan_20231114T221320.000000Z_000000.pcap":      tiny(0),
			"lan_20231114T221321.000000Z_000001.pcap.part": append(tiny(1), 1, 2, 3),
			"stdin-123.pcap": tiny(2),
		} {
			if err := os.WriteFile(filepath.Join(spool, name), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r := start(t, zerolog.Nop(), func(c *service.Config) { c.Agent.StateDir = state })
		time.Sleep(time.Minute)
		got := map[string]string{}
		for c, err := range r.ledger.List(t.Context(), ledger.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			got[c.Name] = fmt.Sprintf("%s %s %d %t", c.Source, c.State, c.Packets, c.Live != nil && c.Live.Recovered)
		}
		want := map[string]string{
			"lan_20231114T221320.000000Z_000000.pcap": "capture:lan done 1 true",
			"lan_20231114T221321.000000Z_000001.pcap": "capture:lan done 1 true",
			"stdin-123.pcap": "recovered purged 1 false",
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v", got)
		}
		if err := r.end(); err != nil {
			t.Error(err)
		}
	})
}

// The spool is a ring: what is sent makes room for what comes, the oldest first;
// what is not sent never goes.
func TestLiveCapturesAreARing(t *testing.T) {
	change := func(c *service.Config) { c.Retention.MaxSize = config.Size(100_000) }
	withLive(t, change, func(t *testing.T, r *rig) int {
		r.server.set(errRefused)
		for range 20 {
			r.cable.send(10)
		}
		time.Sleep(10 * time.Minute)
		if all := r.lives(t); len(all) != 20 || r.problem("spool_full") == nil {
			t.Errorf("%d captures, %+v", len(all), r.problems.list())
		}
		for _, c := range r.lives(t) {
			if c.State != ledger.Queued {
				t.Errorf("%+v", c)
			}
		}
		r.server.set(nil)
		time.Sleep(10 * time.Minute)
		purged := 0
		for i, c := range r.lives(t) {
			if c.State == ledger.Purged {
				purged++
				if i != purged-1 {
					t.Errorf("%d went before an older one", i)
				}
			}
		}
		if purged < 11 || purged > 13 || r.problem("spool_full") != nil {
			t.Errorf("%d were purged, %+v", purged, r.problems.list())
		}
		return purged * 10
	})
}

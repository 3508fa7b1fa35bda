package daemon

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"capagent/internal/faulttest"
	"capagent/service"
)

// A full disk stops only what it must, and that goes on by itself.
func TestAFullSpoolIsWaitedOut(t *testing.T) {
	if err := faulttest.CanMount(); err != nil {
		t.Skip(err)
	}
	state := t.TempDir()
	spool := filepath.Join(state, "spool")
	unmount, err := faulttest.Tmpfs(spool, "size=4m")
	if err != nil {
		t.Fatal(err)
	}
	defer unmount()
	change := func(c *service.Config) { c.Agent.StateDir, c.Retention.MinFree = state, 0 }
	withLive(t, change, func(t *testing.T, r *rig) int {
		r.cable.send(10)
		if err := os.WriteFile(filepath.Join(spool, "others"), make([]byte, 4<<20-256<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 30 {
			r.cable.send(100)
			time.Sleep(time.Second)
		}
		p := r.problem("capture_write")
		if p == nil || p.Hint == "" {
			t.Fatalf("%+v, %+v", r.problems.list(), r.state(t).Agent.Captures[0])
		}
		before := r.state(t).Agent.Captures[0]
		if before.Lost == 0 || before.Problem == nil {
			t.Errorf("%+v", before)
		}
		if err := os.Remove(filepath.Join(spool, "others")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if p := r.problem("capture_write"); p != nil {
			t.Errorf("%+v", p)
		}
		r.cable.send(100)
		time.Sleep(time.Minute)
		c := r.state(t).Agent.Captures[0]
		if c.Packets+c.Lost != r.cable.next || c.Lost != before.Lost {
			t.Errorf("%+v, then %+v", before, c)
		}
		told := uint64(0)
		for _, one := range r.lives(t) {
			for _, g := range one.Live.Gaps {
				told += g.Packets
			}
		}
		if told != c.Lost {
			t.Errorf("the files tell of %d lost packets, %d are", told, c.Lost)
		}
		return int(c.Lost)
	})
}

// A spool that can't be written stops the writing, and the writing goes on by
// itself.
func TestAReadOnlySpoolIsWaitedOut(t *testing.T) {
	if err := faulttest.CanMount(); err != nil {
		t.Skip(err)
	}
	state := t.TempDir()
	spool := filepath.Join(state, "spool")
	unmount, err := faulttest.Tmpfs(spool, "size=64m")
	if err != nil {
		t.Fatal(err)
	}
	defer unmount()
	change := func(c *service.Config) { c.Agent.StateDir, c.Retention.MinFree = state, 0 }
	withLive(t, change, func(t *testing.T, r *rig) int {
		r.cable.send(10)
		time.Sleep(time.Minute)
		if err := faulttest.ReadOnly(spool, true); err != nil {
			t.Fatal(err)
		}
		r.cable.send(50)
		time.Sleep(time.Minute)
		if p := r.problem("capture_write"); p == nil || p.Count < 10 {
			t.Errorf("%+v", p)
		}
		if err := faulttest.ReadOnly(spool, false); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if p := r.problem("capture_write"); p != nil {
			t.Errorf("%+v", p)
		}
		r.cable.send(10)
		time.Sleep(time.Minute)
		all := r.lives(t)
		if n := len(all); n != 2 || len(all[1].Live.Gaps) != 1 || all[1].Live.Gaps[0].Packets != 50 {
			t.Errorf("%d captures: %+v", n, all[n-1].Live)
		}
		return 50
	})
}

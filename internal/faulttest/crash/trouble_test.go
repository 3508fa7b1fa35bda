//go:build linux

package crash

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"capagent/internal/faulttest"
)

var slowFlag = flag.Bool("crash.slow", false, "also the tests that wait for the agent to try again (a minute)")

// trouble is something that is wrong with the machine for a while.
type trouble struct {
	name  string
	class string // of the problem that the agent tells of meanwhile, "" when it goes on all the same
	after string
	// prepare may give state and folder a place of their own and returns what
	// starts and what ends the trouble, and what to clean up.
	prepare func(t *testing.T, w *troubled) error
}

// troubled is an agent in trouble.
type troubled struct {
	dir, state, folder string
	to                 string // where sent files go, if not beside folder
	behind             string // where captures are dropped, if not in folder
	hook               faulttest.Hook
	begin, end         func() error
}

func tmpfsFor(t *testing.T, dir, options string) error {
	unmount, err := faulttest.Tmpfs(dir, options)
	if err == nil {
		t.Cleanup(unmount)
	}
	return err
}

// fill writes into a file until the disk is full.
func fill(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for size := 64 << 10; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(bytes.Repeat([]byte{1}, size))
		}
	}
	if !errors.Is(err, syscall.ENOSPC) {
		return err
	}
	return nil
}

// failing has calls below the state directory answered with an error.
func failing(errno syscall.Errno, calls ...string) func(*testing.T, *troubled) error {
	return func(_ *testing.T, w *troubled) error {
		var on atomic.Bool
		w.hook = func(c faulttest.Call) faulttest.Action {
			if on.Load() && strings.HasPrefix(c.Path, w.state) {
				for _, call := range calls {
					if c.Name == call {
						return faulttest.Action{Errno: errno}
					}
				}
			}
			return faulttest.Action{}
		}
		w.begin = func() error { on.Store(true); return nil }
		w.end = func() error { on.Store(false); return nil }
		return nil
	}
}

var troubles = []trouble{
	{name: "the disk of the state is full", class: "disk_full", after: "delete", prepare: func(t *testing.T, w *troubled) error {
		filler := filepath.Join(w.state, "filler")
		w.begin, w.end = func() error { return fill(filler) }, func() error { return os.Remove(filler) }
		return tmpfsFor(t, w.state, "size=4m")
	}},
	{name: "no inode is left", after: "delete", prepare: func(t *testing.T, w *troubled) error {
		many := filepath.Join(w.state, "many")
		w.begin = func() error {
			if err := os.MkdirAll(many, 0o700); err != nil {
				return err
			}
			for n := 0; ; n++ {
				if err := os.WriteFile(filepath.Join(many, fmt.Sprint(n)), nil, 0o600); errors.Is(err, syscall.ENOSPC) {
					return nil
				} else if err != nil {
					return err
				}
			}
		}
		w.end = func() error { return os.RemoveAll(many) }
		return tmpfsFor(t, w.state, "size=64m,nr_inodes=200")
	}},
	{name: "quota", class: "disk_full", after: "keep", prepare: failing(syscall.EDQUOT, "write", "pwrite64", "ftruncate", "fallocate", "openat", "open", "mkdirat")},
	{name: "read-only state", class: "read_only", after: "keep", prepare: failing(syscall.EROFS, "write", "pwrite64", "ftruncate", "fallocate", "openat", "open", "mkdirat", "unlink", "unlinkat", "renameat")},
	{name: "fsync fails", class: "io", after: "keep", prepare: failing(syscall.EIO, "fsync", "fdatasync")},
	{name: "writing fails", class: "io", after: "delete", prepare: failing(syscall.EIO, "write", "pwrite64")},
	{name: "sent files can't be deleted", class: "after", after: "delete", prepare: func(t *testing.T, w *troubled) error {
		w.begin = func() error { return faulttest.Immutable(w.folder, true) }
		w.end = func() error { return faulttest.Immutable(w.folder, false) }
		d, err := faulttest.NewDisk(filepath.Join(w.dir, "disk.img"), w.folder, "ext4", "")
		if err == nil {
			t.Cleanup(func() { _ = faulttest.Immutable(w.folder, false); _ = d.Close() })
		}
		return err
	}},
	{name: "the folder is read-only", class: "after", after: "move", prepare: func(t *testing.T, w *troubled) error {
		w.begin = func() error { return faulttest.ReadOnly(w.folder, true) }
		w.end = func() error { return faulttest.ReadOnly(w.folder, false) }
		return tmpfsFor(t, w.folder, "size=64m")
	}},
	{name: "the folder for sent files fails to sync", class: "after", after: "move", prepare: func(t *testing.T, w *troubled) error {
		b, err := faulttest.NewBadFS(w.dir)
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = b.Close() })
		w.to = filepath.Join(b.Mount, "sent")
		w.begin = func() error { b.FailFsyncs(syscall.EIO); return nil }
		w.end = func() error { b.FailFsyncs(0); return nil }
		return nil
	}},
	{name: "the folder for sent files is on a full disk", class: "after", after: "move", prepare: func(t *testing.T, w *troubled) error {
		disk := filepath.Join(w.dir, "disk")
		w.to = filepath.Join(disk, "sent")
		filler := filepath.Join(disk, "filler")
		w.begin, w.end = func() error { return fill(filler) }, func() error { return os.Remove(filler) }
		return tmpfsFor(t, disk, "size=4m")
	}},
	{name: "files can't be read", class: "unreadable", after: "keep", prepare: func(t *testing.T, w *troubled) error {
		b, err := faulttest.NewBadFS(w.dir)
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = b.Close() })
		w.folder = b.Mount
		w.begin = func() error { b.FailReads(syscall.EIO); return nil }
		w.end = func() error { b.FailReads(0); return nil }
		return nil
	}},
	{name: "files appear without events", after: "keep", prepare: func(t *testing.T, w *troubled) error {
		b, err := faulttest.NewBadFS(w.dir)
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = b.Close() })
		w.folder, w.behind = b.Mount, b.Behind
		w.begin, w.end = func() error { return nil }, func() error { return nil }
		return nil
	}},
	{name: "no watch is left", after: "keep", prepare: func(_ *testing.T, w *troubled) error {
		w.hook = func(c faulttest.Call) faulttest.Action {
			if c.Name == "inotify_add_watch" {
				return faulttest.Action{Errno: syscall.ENOSPC}
			}
			return faulttest.Action{}
		}
		w.begin, w.end = func() error { return nil }, func() error { return nil }
		return nil
	}},
}

// TestTroublePasses has captures come in while something is wrong with the
// machine. The agent says what it is and goes on by itself when it is over, and
// nothing is lost.
func TestTroublePasses(t *testing.T) {
	if !*slowFlag {
		t.Skip("-crash.slow runs it")
	}
	if err := errors.Join(faulttest.CanMount("ext4"), faulttest.HooksWork()); err != nil {
		t.Skip(err)
	}
	bin := program(t)
	for _, one := range troubles {
		t.Run(one.name, func(t *testing.T) {
			t.Parallel()
			dir, remove, err := memory()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(remove)
			w := &troubled{dir: dir, state: filepath.Join(dir, "state"), folder: filepath.Join(dir, "watch")}
			if err := one.prepare(t, w); err != nil {
				t.Fatal(err)
			}
			if err := w.live(t.Context(), bin, one); err != nil {
				t.Error(err)
			}
		})
	}
}

func (w *troubled) live(ctx context.Context, bin string, one trouble) error {
	sandbox, err := faulttest.StartSandbox(ctx, bin, filepath.Join(w.dir, "sandbox"))
	if err != nil {
		return err
	}
	defer sandbox.Stop()
	watch := faulttest.Watch{Path: filepath.Join(w.folder, "in"), After: one.after}
	if one.after == "move" {
		watch.To = cmp.Or(w.to, filepath.Join(w.folder, "sent"))
	}
	agent := &faulttest.Agent{Program: bin, Dir: w.dir, StateDir: w.state, Watches: []faulttest.Watch{watch}, Settle: 50 * time.Millisecond, Rescan: time.Second}
	if err := agent.Configure(sandbox.URL, sandbox.TokenFile); err != nil {
		return err
	}
	feeder := faulttest.NewFeeder(watch, w.folder, 1)
	if w.behind != "" {
		feeder = faulttest.NewFeeder(faulttest.Watch{Path: filepath.Join(w.behind, "in"), After: one.after}, w.behind, 1)
	}
	hook := w.hook
	if hook == nil {
		hook = func(faulttest.Call) faulttest.Action { return faulttest.Action{} }
	}
	p, err := faulttest.StartHooked(agent.Command(ctx, "run"), hook)
	if err != nil {
		return err
	}
	defer p.Kill()
	settled := func() (bool, error) { return faulttest.Settled(ctx, agent, sandbox, feeder) }
	has := func(want bool) func() (bool, error) {
		return func() (bool, error) {
			s, err := agent.Status(ctx)
			return err == nil && s.Has(one.class) == want, nil //nolint:nilerr // status itself may be in the trouble
		}
	}
	if err := p.WaitReady(10 * time.Second); err != nil {
		return err
	}
	feeder.Drop(faulttest.Closed)
	if err := until(p.Process, "the first capture", 10*time.Second, settled); err != nil {
		return err
	}
	// What lies in a folder that becomes read-only was there before.
	early := one.class == "after"
	drop := func() {
		for _, way := range []string{faulttest.Closed, faulttest.Renamed, faulttest.Zipped} {
			feeder.Drop(way)
		}
	}
	if early {
		sandbox.Stop()
		drop()
		time.Sleep(500 * time.Millisecond) // for them to be read; nothing depends on it
	}
	if err := w.begin(); err != nil {
		return err
	}
	if early {
		err = sandbox.Restart(ctx)
	} else {
		drop()
	}
	if err != nil {
		return err
	}
	lines := p.Lines()
	if one.class != "" {
		if err := until(p.Process, "the problem "+one.class+" in the status", 20*time.Second, has(true)); err != nil {
			return err
		}
	}
	time.Sleep(2 * time.Second)
	if n := p.Lines() - lines; n > 60 {
		return fmt.Errorf("%d lines were logged about it\n%s", n, p.Tail(60))
	}
	if err := w.end(); err != nil {
		return err
	}
	if err := until(p.Process, "everything to be sent", time.Minute, settled); err != nil {
		return err
	}
	if one.class != "" {
		if err := until(p.Process, "the problem to go", time.Minute, has(false)); err != nil {
			return err
		}
	}
	if err := p.Stop(25 * time.Second); err != nil {
		return err
	}
	v := faulttest.Judge(ctx, agent, sandbox, feeder)
	if p.ExitCode() != 0 || p.Crash() != "" || !v.OK() {
		return fmt.Errorf("%v\n%s", v, p.Ending())
	}
	return nil
}

// until waits for something to be so.
func until(p *faulttest.Process, what string, most time.Duration, so func() (bool, error)) error {
	for end := time.Now().Add(most); ; time.Sleep(100 * time.Millisecond) {
		if ok, err := so(); ok || err != nil {
			return err
		}
		select {
		case <-p.Ended():
			return fmt.Errorf("waiting for %s: it ended: %s", what, p.Ending())
		default:
		}
		if time.Now().After(end) {
			return fmt.Errorf("waited %v for %s\n%s", most, what, p.Tail(40))
		}
	}
}

package retention

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"capagent/internal/disk"
	"capagent/internal/failure"
	"capagent/internal/ledger"
)

// tmpfs mounts a file system of its own.
func tmpfs(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); errors.Is(err, syscall.EPERM) {
		t.Skip("needs root to mount")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func (r *rig) remount(dir string, flags uintptr) {
	r.t.Helper()
	r.ok(syscall.Mount("", dir, "", syscall.MS_REMOUNT|flags, ""))
}

func TestAFullSpoolGetsRoom(t *testing.T) {
	r := newRig(t)
	r.dir = tmpfs(t, "size=8m")
	mib := make([]byte, 1<<20)
	var err error
	for i := 0; err == nil; i++ {
		path := r.path(fmt.Sprintf("%d.pcap", i))
		copy(mib, path)
		if err = os.WriteFile(path, mib, 0o600); err != nil {
			r.ok(os.Remove(path))
			break
		}
		r.register(path, string(mib), ledger.Done)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	report := r.sweep(r.keeper(Config{MinFree: 3 << 20}))
	free, _, _, err := disk.Free(r.dir)
	if report.Purged != 3 || report.Over() || free < 3<<20 || err != nil {
		t.Errorf("reported %+v, %d bytes are free, %v", report, free, err)
	}
	if exists(filepath.Join(r.dir, "0.pcap")) || !exists(filepath.Join(r.dir, "3.pcap")) {
		t.Error("not the oldest were deleted")
	}
}

// Where nothing can be deleted, no more is recorded as deleted than can be made
// good later.
func TestAReadOnlySpool(t *testing.T) {
	r := newRig(t)
	r.dir = tmpfs(t, "size=8m")
	for i := range 20 {
		r.add(fmt.Sprintf("%02d.pcap", i), kilo(fmt.Sprint(i)), ledger.Done)
	}
	k := r.keeper(Config{MaxSize: 1})
	r.remount(r.dir, syscall.MS_RDONLY)
	for sweep := 1; sweep <= 12; sweep++ {
		if _, err := k.Sweep(t.Context()); err == nil || ledger.Trouble(err) != "read_only" && sweep <= maxLeft {
			t.Fatalf("sweep %d: %v", sweep, err)
		}
		c, err := r.Counts(t.Context())
		r.ok(err)
		if want := int64(min(sweep, maxLeft)); c.States[ledger.Purged].Captures != want {
			t.Fatalf("sweep %d: %d captures are purged; want %d", sweep, c.States[ledger.Purged].Captures, want)
		}
	}
	r.remount(r.dir, 0)
	r.sweep(k)
	if left := files(t, r.dir); len(left) != 0 {
		t.Errorf("%d files are left", len(left))
	}
}

// across returns a job whose folders are on two file systems.
func across(t *testing.T, options string) *job {
	j := newJob(t, Move)
	j.dir = tmpfs(t, "size=8m")
	j.rule.Root, j.rule.MoveTo = j.path("in"), filepath.Join(tmpfs(t, options), "out")
	r := j.rig
	r.ok(os.MkdirAll(j.rule.Root, 0o700))
	return j
}

func TestMoveToAnotherFileSystem(t *testing.T) {
	j := across(t, "size=8m")
	j.file("sub/a.pcap", "content")
	before, err := os.Stat(j.seen)
	j.ok(err)
	j.act()
	j.is(nil, map[string]string{"sub/a.pcap": "content"})
	after, err := os.Stat(filepath.Join(j.rule.MoveTo, "sub/a.pcap"))
	if err != nil || after.Mode() != before.Mode() || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("it was %v of %v and is %v, %v", before.Mode(), before.ModTime(), after, err)
	}
}

func TestMovesThatFail(t *testing.T) {
	big := string(make([]byte, 2<<20))
	for _, tc := range []struct {
		name, class string
		prepare     func(j *job)
		mend        func(j *job)
	}{
		{
			"the target is read-only", "read_only",
			func(j *job) { j.remount(filepath.Dir(j.rule.MoveTo), syscall.MS_RDONLY) },
			func(j *job) { j.remount(filepath.Dir(j.rule.MoveTo), 0) },
		},
		{
			"the target is full", "disk_full",
			func(j *job) {
				_ = os.WriteFile(filepath.Join(filepath.Dir(j.rule.MoveTo), "full"), make([]byte, 7<<20), 0o600)
			},
			func(j *job) { j.ok(os.Remove(filepath.Join(filepath.Dir(j.rule.MoveTo), "full"))) },
		},
		{
			"the watched folder is read-only", "read_only",
			func(j *job) { j.remount(j.dir, syscall.MS_RDONLY) },
			func(j *job) { j.remount(j.dir, 0) },
		},
		{
			"the watched folder is not there", "after",
			func(j *job) { j.ok(os.Rename(j.rule.Root, j.rule.Root+"-away")) },
			func(j *job) { j.ok(os.Rename(j.rule.Root+"-away", j.rule.Root)) },
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			j := across(t, "size=8m")
			c := j.file("sub/a.pcap", big)
			tc.prepare(j)
			for range 2 { // a second try changes nothing
				err := j.try()
				var f *failure.Error
				if !errors.As(err, &f) || f.Kind != failure.Retry || f.Class != tc.class || f.Hint == "" {
					t.Fatalf("got %v (%+v)", err, f)
				}
				if got := j.get(c.ID); got.Path != c.Path || got.State != ledger.Done {
					t.Errorf("the capture is %s at %s", got.State, got.Path)
				}
				if litter := files(t, filepath.Dir(j.rule.MoveTo)); len(litter) > 1 || len(litter) == 1 && litter["full"] == "" {
					t.Errorf("%d files at the target", len(litter))
				}
			}
			tc.mend(j)
			j.act()
			j.is(nil, map[string]string{"sub/a.pcap": big})
		})
	}
}

func TestADeletionThatFails(t *testing.T) {
	j := across(t, "size=8m")
	j.rule.Action = Delete
	j.file("a.pcap", "content")
	j.remount(j.dir, syscall.MS_RDONLY)
	var f *failure.Error
	if err := j.try(); !errors.As(err, &f) || f.Class != "read_only" {
		t.Errorf("got %v", err)
	}
	j.remount(j.dir, 0)
	j.act()
	j.is(nil, nil)
}

// The copy is in place and the original can't be deleted.
func TestAMoveThatEndsHalfWay(t *testing.T) {
	j := across(t, "size=8m")
	c := j.file("a.pcap", "content")
	j.after.step = func(name string) {
		if name == "arrived" {
			j.remount(j.dir, syscall.MS_RDONLY)
		}
	}
	var f *failure.Error
	if err := j.try(); !errors.As(err, &f) || f.Class != "read_only" {
		t.Errorf("got %v", err)
	}
	j.remount(j.dir, 0)
	j.after.step = nil
	j.act()
	j.is(nil, map[string]string{"a.pcap": "content"})
	if got := j.get(c.ID).Path; got != filepath.Join(j.rule.MoveTo, "a.pcap") {
		t.Errorf("the capture is at %s", got)
	}
}

// The file changes while it is copied: what was not uploaded stays where it is.
func TestAFileThatChangesWhileItIsCopied(t *testing.T) {
	for step, out := range map[string]map[string]string{
		"began to copy": nil,
		"copied":        {"a.pcap": "content"},
		"arrived":       {"a.pcap": "content"},
	} {
		j := across(t, "size=8m")
		c := j.file("a.pcap", "content")
		j.after.step = func(name string) {
			if name == step {
				j.ok(os.WriteFile(j.seen, []byte("CONTENT"), 0o600))
			}
		}
		j.act()
		j.is(map[string]string{"a.pcap": "CONTENT"}, out)
		want := c.Path
		if out != nil {
			want = filepath.Join(j.rule.MoveTo, "a.pcap")
		}
		if got := j.get(c.ID).Path; got != want {
			t.Errorf("%s: the capture is at %s", step, got)
		}
	}
}

func TestDyingOnTheWayToAnotherFileSystem(t *testing.T) {
	everyDeath(t, func(t *testing.T) *job { return across(t, "size=8m") })
}

func TestAFIFOInItsPlace(t *testing.T) {
	j := newJob(t, Delete)
	j.file("a.pcap", "content")
	j.ok(os.Remove(j.seen))
	j.ok(syscall.Mkfifo(j.seen, 0o600))
	j.act()
	if !exists(j.seen) {
		t.Error("the FIFO was deleted")
	}
}

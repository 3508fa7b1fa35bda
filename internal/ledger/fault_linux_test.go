package ledger

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

var thorough = flag.Bool("thorough", false, "fail every system call of a run in every way, not some")

func init() { children["persist"] = childPersist }

// childPersist opens a ledger and takes captures through their life, each call
// until it works. It says every failure with its trouble, and ends with an error
// when a write that failed can be seen.
func childPersist(path string, args []string) error {
	ctx := context.Background()
	runtime.LockOSThread() // strace counts the calls of each thread
	fmt.Println("started")
	try := func(what string, call func() error) error {
		for range 200 {
			err := call()
			if err == nil {
				return nil
			}
			if errors.Is(err, errSeen) {
				return err
			}
			fmt.Println("failed", what, Trouble(err), strings.ReplaceAll(err.Error(), "\n", "; "))
		}
		return fmt.Errorf("%s never works again", what)
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	var l *Ledger
	err = try("open", func() (err error) { l, err = Open(ctx, path, Options{}); return err })
	for i := range n {
		f := found("/"+strconv.Itoa(i), strconv.Itoa(i))
		var id int64
		for _, step := range []struct {
			name   string
			call   func() error
			unseen func(Capture) bool
		}{
			{"register", func() error {
				r, err := l.Register(ctx, []Found{f})
				if err == nil {
					id = r[0].ID
				}
				return err
			}, func(Capture) bool { return false }},
			{"begin", func() error {
				b, err := l.Begin(ctx, id, "cloudshark")
				if err == nil && b.Outcome != Claimed {
					return fmt.Errorf("%w: %v", errSeen, b)
				}
				return err
			}, func(c Capture) bool { return c.State == Queued }},
			{"move", func() error { return l.SetPath(ctx, id, "/moved"+f.Path) }, func(c Capture) bool { return c.Path == f.Path }},
			{"finish", func() error {
				l.setActive(claim{id, "cloudshark"}, true) // Finish gives up the claim, also when it fails
				return l.Finish(ctx, id, "cloudshark", Result{SessionID: "s"}, Done)
			}, func(c Capture) bool { return c.State == Queued }},
		} {
			if err != nil {
				break
			}
			err = try(step.name, func() error {
				failed := step.call()
				if failed == nil {
					return nil
				}
				return errors.Join(failed, try("look", func() error {
					for c, err := range l.List(ctx, Filter{SHA256: f.SHA256}) {
						if err != nil {
							return err
						}
						if !step.unseen(c) {
							return fmt.Errorf("%w: %s: %w", errSeen, step.name, failed)
						}
					}
					return nil
				}))
			})
		}
		if err == nil {
			fmt.Println("acked", i)
		}
	}
	if err == nil {
		err = try("close", l.Close)
	}
	return err
}

var errSeen = errors.New("a write that failed can be seen")

// TestTheLedgerWorksAgainWhenTheDiskDoes fails a few system calls in a row, from
// the Nth on, for every N (or some of them) and kind of error.
func TestTheLedgerWorksAgainWhenTheDiskDoes(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip(err)
	}
	const captures = 3
	for _, tt := range []struct {
		calls  string
		errnos []string
	}{
		{"pwrite64", []string{"ENOSPC", "EIO", "EROFS"}},
		{"fsync,fdatasync", []string{"EIO", "ENOSPC"}},
		{"ftruncate", []string{"EIO", "EROFS"}},
		{"pread64", []string{"EIO"}},
		{"open,openat", []string{"EMFILE", "EROFS", "ENOSPC"}},
	} {
		count := strings.Count(persist(t, captures, "-e", "trace="+tt.calls).trace, "\n")
		stride := 1
		if !*thorough {
			stride, tt.errnos = max(1, count/3), tt.errnos[:1]
		}
		for _, errno := range tt.errnos {
			failed, n := 0, 1
			for ; n <= count; n += stride {
				inject := fmt.Sprintf("inject=%s:error=%s:when=%d..%d", tt.calls, errno, n, n+3)
				p := persist(t, captures, "-e", "trace="+tt.calls, "-e", inject)
				failed += p.check(t, inject, captures)
			}
			t.Logf("%s: %s: %d of %d calls failed at, %d failures said", tt.calls, errno, (n-1)/stride, count, failed)
			if failed == 0 {
				t.Errorf("%s: %s: nothing was tried", tt.calls, errno)
			}
		}
	}
}

type persisted struct {
	path, out, trace string
	started          bool
}

func persist(t *testing.T, captures int, strace ...string) persisted {
	t.Helper()
	self, err := os.Executable()
	ok(t, err)
	dir := t.TempDir()
	trace := filepath.Join(dir, "trace")
	args := append([]string{"-f", "--seccomp-bpf", "-qq", "-o", trace}, strace...)
	cmd := exec.Command("strace", append(args, self, strconv.Itoa(captures))...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CAPAGENT_TEST_CHILD=persist")
	out, err := cmd.CombinedOutput()
	started := bytes.Contains(out, []byte("started"))
	if err != nil && started {
		t.Fatalf("strace %q: %v\n%s", strace, err, out)
	}
	text, err := os.ReadFile(trace)
	ok(t, err)
	return persisted{filepath.Join(dir, "state", "ledger.db"), string(out), string(text), started}
}

// check holds the ledger of a run to what the run said of it, and returns how
// many failures that were. A run that failed before it began is none.
func (p persisted) check(t *testing.T, what string, captures int) (failed int) {
	t.Helper()
	if !p.started {
		return 0
	}
	l, err := Open(t.Context(), p.path, Options{})
	ok(t, err)
	defer func() { ok(t, l.Close()) }()
	if !l.Rebuilt().IsZero() || len(aside(t, p.path)) > 0 {
		t.Errorf("%s: taken for damage\n%s", what, p.out)
	}
	all, err := rows(t, l)
	ok(t, err)
	for _, c := range all {
		if c.State != Done || c.SessionID == "" || !strings.HasPrefix(c.Path, "/moved/") {
			t.Errorf("%s: %+v", what, c)
		}
	}
	if len(all) != captures || strings.Count(p.out, "acked") != captures {
		t.Errorf("%s: %d captures\n%s", what, len(all), p.out)
	}
	ok(t, l.Check(t.Context()))
	for line := range strings.Lines(p.out) {
		if text, bad := strings.CutPrefix(line, "failed "); bad {
			failed++
			if _, trouble, _ := strings.Cut(text, " "); strings.HasPrefix(trouble, " ") {
				t.Errorf("%s: said without its trouble: %s", what, text)
			}
		}
	}
	return failed
}

// mountTmpfs returns a small file system of its own.
func mountTmpfs(t *testing.T, options string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root mounts")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skip(err) // a container without the right
	}
	t.Cleanup(func() { ok(t, unix.Unmount(dir, unix.MNT_DETACH)) })
	return dir
}

func TestAFullDiskLosesNothingAndIsOver(t *testing.T) {
	dir := mountTmpfs(t, "size=2m")
	path := filepath.Join(dir, "state", "ledger.db")
	l := open(t, path, Options{})
	fill := func(from int) (to int, err error) {
		for i := from; ; i++ {
			if _, err := l.Register(t.Context(), []Found{found("/"+strconv.Itoa(i), "x")}); err != nil {
				return i, err
			}
		}
	}
	ballast := filepath.Join(dir, "ballast")
	ok(t, os.WriteFile(ballast, bytes.Repeat([]byte("x"), 1<<20), 0o600))
	n, err := fill(0)
	if Trouble(err) != "disk_full" {
		t.Fatalf("%q: %v", Trouble(err), err)
	}
	// Reading goes on; every write fails alike.
	s, err := l.Counts(t.Context())
	ok(t, err)
	if got := s.States[Queued].Captures; got != int64(n) {
		t.Errorf("%d captures, %d were acknowledged", got, n)
	}
	ok(t, second(l.Due(t.Context(), dest, nil, 5)))
	for range 20 {
		if _, err := l.Begin(t.Context(), 1, "cloudshark"); err != nil && Trouble(err) != "disk_full" {
			t.Errorf("%q: %v", Trouble(err), err)
		}
	}
	ok(t, os.Remove(ballast))
	m, err := fill(n)
	if m <= n || Trouble(err) != "disk_full" {
		t.Fatalf("%d, then %d: %v", n, m, err)
	}
	s, err = l.Counts(t.Context())
	ok(t, err)
	if got := s.States[Queued].Captures; got != int64(m) {
		t.Errorf("%d captures, %d were acknowledged", got, m)
	}
	ok(t, l.Check(t.Context()))
}

func TestAReadOnlyDiskIsNoDamage(t *testing.T) {
	dir := mountTmpfs(t, "size=8m")
	path := filepath.Join(dir, "state", "ledger.db")
	l := open(t, path, Options{})
	register(t, l, found("/a", "a"))
	ok(t, l.Close())
	remount := func(flags uintptr) { ok(t, unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT|flags, "")) }
	remount(unix.MS_RDONLY)
	if _, err := Open(t.Context(), path, Options{}); Trouble(err) != "read_only" {
		t.Errorf("%q: %v", Trouble(err), err)
	}
	get(t, open(t, path, Options{ReadOnly: true}), 1)
	remount(0)
	l = open(t, path, Options{})
	register(t, l, found("/b", "b"))
	if !l.Rebuilt().IsZero() {
		t.Error("taken for damage")
	}
}

func TestInodesThatRanOutAreAFullDisk(t *testing.T) {
	dir := mountTmpfs(t, "size=8m,nr_inodes=4")
	if _, err := Open(t.Context(), filepath.Join(dir, "state", "ledger.db"), Options{}); Trouble(err) != "disk_full" {
		t.Errorf("%q: %v", Trouble(err), err)
	}
}

func TestTooManyOpenFilesAreSaid(t *testing.T) {
	l := open(t, newPath(t), Options{})
	register(t, l, found("/a", "a"))
	var limit unix.Rlimit
	ok(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	low := limit
	low.Cur = 3
	ok(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &low))
	_, plain := os.Open(os.DevNull)
	_, err := Open(t.Context(), l.Path(), Options{ReadOnly: true})
	ok(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	for _, err := range []error{plain, err} {
		if err == nil || Trouble(err) != "files" {
			t.Errorf("%q: %v", Trouble(err), err)
		}
	}
	get(t, l, 1)
}

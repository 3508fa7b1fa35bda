package watch_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"capagent/capture/watch"
	"capagent/internal/config"
)

// childEnv names the test that a child process runs, with other rights or limits.
const childEnv = "CAPAGENT_WATCH_CHILD"

// inChild runs the calling test in another process that change prepares. It
// reports true in the process that shall do the testing.
func inChild(t *testing.T, change func(*exec.Cmd)) bool {
	t.Helper()
	if os.Getenv(childEnv) == t.Name() {
		return true
	}
	dir := roomForAll(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), childEnv+"="+t.Name(), "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	change(cmd)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v: %s", err, out)
	}
	return false
}

// asNobody takes all rights from a child.
func asNobody(cmd *exec.Cmd) {
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
}

// roomForAll makes a folder that every user can write to.
func roomForAll(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "watch")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o777))
	return dir
}

const maxQueued = "/proc/sys/fs/inotify/max_queued_events"

// TestOverflow makes the queue of this watcher's events short; the limit is the
// machine's, so it is put back as soon as the queue exists.
func TestOverflow(t *testing.T) {
	old, err := os.ReadFile(maxQueued)
	must(t, err)
	if os.WriteFile(maxQueued, []byte("64"), 0) != nil {
		t.Skip("only root can make the queue of events short")
	}
	restore := func() {
		if err := os.WriteFile(maxQueued, old, 0); err != nil {
			t.Error(err)
		}
	}
	defer restore()
	r := start(t, t.TempDir())
	restore()
	n := 0
	for bursts := 0; r.w.Status().Scans == 1; bursts++ {
		if bursts == 20 {
			t.Fatal("the queue never overflowed")
		}
		burst(t, r.dir, n, 2000)
		n += 2000
		r.until("all", func() bool { return len(r.names()) >= n })
	}
	r.rescan()
	if got := len(r.names()); got != n {
		t.Errorf("%d files were handed over %d times", n, got)
	}
	if s := r.w.Status(); s.Scans > 20 {
		t.Errorf("%d scans", s.Scans)
	}
}

// burst makes files in a way that leaves no processor to readers of events,
// unless the scheduler insists.
func burst(t *testing.T, dir string, first, n int) {
	t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for i := range n {
		path, err := unix.BytePtrFromString(filepath.Join(dir, fmt.Sprintf("%06d.pcap", first+i)))
		must(t, err)
		at := unix.AT_FDCWD
		fd, _, errno := unix.RawSyscall6(unix.SYS_OPENAT, uintptr(at), uintptr(unsafe.Pointer(path)), unix.O_CREAT|unix.O_WRONLY, 0o600, 0, 0)
		if errno != 0 {
			t.Fatal(errno)
		}
		_, _, _ = unix.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(path)), 4)
		_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, fd, 0, 0)
	}
}

// TestLimitOfWatchedFolders runs where only few folders can be watched.
func TestLimitOfWatchedFolders(t *testing.T) {
	t.Parallel()
	if !inChild(t, func(cmd *exec.Cmd) {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}) {
		return
	}
	setLimit := func(n string) { must(t, os.WriteFile("/proc/sys/user/max_inotify_watches", []byte(n), 0)) }
	setLimit("7")
	dir := t.TempDir()
	for i := range 5 {
		must(t, os.Mkdir(filepath.Join(dir, fmt.Sprint(i)), 0o700))
	}
	r := start(t, dir, func(o *watch.Options) { o.Config.Rescan = config.Duration(time.Second) })
	for i := range 5 {
		r.write(fmt.Sprintf("%d/x", i), "x")
		r.expect(fmt.Sprintf("%d/x", i), "x")
	}
	if s := r.w.Status(); s.State != watch.Polling || !strings.Contains(s.Error, "max_user_watches") {
		t.Errorf("status %+v", s)
	}
	setLimit("1000")
	r.until("watching", func() bool { return r.w.Status().State == watch.Watching })
	r.stop()
	if n := strings.Count(r.log.String(), "max_user_watches"); n != 1 {
		t.Errorf("said %d times: %s", n, r.log.String())
	}
}

// TestTooManyOpenFiles runs where there are no descriptors left for a while.
func TestTooManyOpenFiles(t *testing.T) {
	t.Parallel()
	if !inChild(t, func(*exec.Cmd) {}) {
		return
	}
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o700))
	write(t, filepath.Join(dir, "sub/x"), "x")
	var most syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &most))
	few := most
	few.Cur = 3 // all of them are in use
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few))
	defer func() { _ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &most) }()
	r := start(t, dir, func(o *watch.Options) { o.Config.Rescan = config.Duration(time.Second) })
	if s := r.w.Status(); s.State == watch.Watching {
		t.Errorf("status %+v", s)
	}
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &most))
	r.expect("sub/x", "x")
	r.until("watching", func() bool { return r.w.Status().State == watch.Watching })
	r.write("sub/y", "y")
	r.expect("sub/y", "y")
	if got := r.refusals(); len(got) > 0 {
		t.Errorf("refused %q", got)
	}
}

// TestWithoutTheRightToALease runs as a user who owns nothing.
func TestWithoutTheRightToALease(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 && os.Getenv(childEnv) == "" {
		t.Skip("only root can make files of two users")
	}
	dir := roomForAll(t)
	if !inChild(t, func(cmd *exec.Cmd) {
		asNobody(cmd)
		path := filepath.Join(dir, "of root")
		write(t, path, "text")
		must(t, os.Chmod(path, 0o644))
		cmd.Env = append(cmd.Env, "CAPAGENT_WATCH_DIR="+dir)
	}) {
		return
	}
	r := start(t, os.Getenv("CAPAGENT_WATCH_DIR"))
	r.expect("of root", "text")
}

// TestWriterIsNotHeldUp has a process open a file for writing again and again
// while it is looked at.
func TestWriterIsNotHeldUp(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir())
	path := r.path("x")
	var longest time.Duration
	for i := range 3000 {
		begin := time.Now()
		fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CREAT, 0o600)
		must(t, err)
		longest = max(longest, time.Since(begin))
		_, err = unix.Write(fd, fmt.Append(nil, i))
		must(t, err)
		must(t, unix.Close(fd))
		r.w.Again(path, 0)
	}
	t.Logf("opening took %s at most", longest)
	r.until("the last", func() bool {
		all := r.contents("x")
		return len(all) > 0 && all[len(all)-1] == "2999"
	})
}

// TestMountedFolder mounts another file system over the watched folder.
func TestMountedFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o700))
	mount := func() error { return unix.Mount("none", filepath.Join(dir, "sub"), "tmpfs", 0, "size=1m") }
	unmount := func() error { return unix.Unmount(filepath.Join(dir, "sub"), 0) }
	if mount() != nil {
		t.Skip("only root can mount")
	}
	t.Cleanup(func() { _ = unmount() })
	r := start(t, dir)
	r.write("sub/x", "x")
	r.expect("sub/x", "x")
	r.until("it is let go", func() bool { return unmount() == nil })
	r.rescan()
	must(t, mount())
	r.write("sub/x", "y")
	r.rescan() // mounting is no event
	r.expect("sub/x", "x", "y")
	r.write("sub/z", "z")
	r.expect("sub/z", "z")
	must(t, unmount())
}

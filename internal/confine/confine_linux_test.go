package confine_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"capagent/internal/confine"
)

// tried is what a confined process could do.
type tried struct {
	State  confine.State
	Errors map[string]string // "" is success
}

// There is no way back, so it is tried in a process of its own.
func TestMain(m *testing.M) {
	if dirs := os.Getenv("CONFINE"); dirs != "" {
		inside(strings.Split(dirs, ":"))
		return
	}
	if dir := os.Getenv("SOCKETS"); dir != "" {
		sockets(dir)
		return
	}
	os.Exit(m.Run())
}

func inside(dirs []string) {
	allowed, other := dirs[0], dirs[1]
	there, ready, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() { // a thread from before
		runtime.LockOSThread()
		close(there)
		<-ready
		done <- os.WriteFile(filepath.Join(other, "thread"), nil, 0o600)
		done <- unix.Unshare(0)
	}()
	<-there
	_ = os.WriteFile(filepath.Join(other, "before"), []byte("evidence"), 0o600)
	out := tried{State: confine.Self(confine.Bounds{Writable: []string{filepath.Join(allowed, "not", "there", "yet")}}), Errors: map[string]string{}}
	said := func(name string, err error) {
		out.Errors[name] = ""
		if err != nil {
			out.Errors[name] = err.Error()
		}
	}
	close(ready)
	said("another thread's file", <-done)
	said("another thread's namespace", <-done)
	said("make below", os.MkdirAll(filepath.Join(allowed, "not", "there", "yet"), 0o700))
	said("write below", os.WriteFile(filepath.Join(allowed, "not", "a"), []byte("x"), 0o600))
	said("move below", os.Rename(filepath.Join(allowed, "not", "a"), filepath.Join(allowed, "b")))
	said("write to nowhere", os.WriteFile(os.DevNull, []byte("x"), 0))
	_, err := os.ReadFile(filepath.Join(other, "before"))
	said("read elsewhere", err)
	said("make elsewhere", os.WriteFile(filepath.Join(other, "new"), nil, 0o600))
	said("cut short elsewhere", os.Truncate(filepath.Join(other, "before"), 0))
	said("delete elsewhere", os.Remove(filepath.Join(other, "before")))
	said("move out", os.Rename(filepath.Join(allowed, "b"), filepath.Join(other, "b")))
	said("start a program", unix.Exec("/nowhere/program", nil, nil)) // Landlock alone would look for it
	said("look into a process", unix.PtraceDetach(os.Getpid()))
	said("another namespace", unix.Unshare(0)) // without a filter this does nothing, with success
	time.Sleep(time.Millisecond)               // the runtime's own calls go on
	_ = json.NewEncoder(os.Stdout).Encode(out)
}

// sockets is what the child that opens packet sockets could do.
func sockets(dir string) {
	out := tried{Errors: map[string]string{}}
	said := func(name string, err error) {
		out.Errors[name] = ""
		if err != nil {
			out.Errors[name] = err.Error()
		}
	}
	open := func(family int) error {
		fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		return errors.Join(err, closed(fd))
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)
	said("before", errors.Join(err, open(unix.AF_PACKET)))
	said("confine", confine.PacketSockets())
	said("packet socket", open(unix.AF_PACKET))
	said("hand it over", unix.Sendmsg(pair[0], []byte{0}, unix.UnixRights(pair[1]), nil, 0))
	said("internet socket", open(unix.AF_INET))
	said("netlink socket", open(unix.AF_NETLINK))
	said("another pair", func() error { _, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET, 0); return err }())
	_, err = os.ReadFile("/proc/self/status")
	said("read a file", err)
	said("write a file", os.WriteFile(filepath.Join(dir, "new"), nil, 0o600))
	said("start a program", unix.Exec("/nowhere/program", nil, nil))
	said("another namespace", unix.Unshare(0))
	said("signal its parent", unix.Kill(os.Getppid(), 0))
	for range 100 { // threads, timers, the collector
		go time.Sleep(time.Millisecond)
	}
	runtime.GC()
	time.Sleep(5 * time.Millisecond)
	_ = json.NewEncoder(os.Stdout).Encode(out)
}

func closed(fd int) error {
	if fd < 0 {
		return nil
	}
	return unix.Close(fd)
}

func TestTheChildCanOpenPacketSocketsAndNothingElse(t *testing.T) {
	t.Parallel()
	got := inAnother(t, "SOCKETS="+t.TempDir())
	if why := got.Errors["confine"]; why != "" {
		t.Skip(why)
	}
	t.Log(got.Errors)
	may := map[string]bool{"before": true, "confine": true, "packet socket": true, "hand it over": true}
	for name, told := range got.Errors {
		switch {
		case name == "packet socket" && told != got.Errors["before"]: // without the right neither can
			t.Errorf("%s: %s", name, told)
		case name == "hand it over" && told != "":
			t.Errorf("%s: %s", name, told)
		case !may[name] && !strings.Contains(told, "not permitted"):
			t.Errorf("%s: %q", name, told)
		}
	}
}

// inAnother runs this program anew and returns what it could do.
func inAnother(t *testing.T, variable string) (got tried) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), variable)
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		t.Fatal(err, string(text))
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestAConfinedProcessCanDoOnlyWhatItNeeds(t *testing.T) {
	t.Parallel()
	allowed, other := t.TempDir(), t.TempDir()
	got := inAnother(t, "CONFINE="+allowed+":"+other)
	t.Log(got.State)
	if got.State.Reason != "" {
		t.Log("not everything can be seen here: " + got.State.Reason)
	}
	may := map[string]bool{"make below": true, "write below": true, "move below": true, "write to nowhere": true, "read elsewhere": true}
	for name, told := range got.Errors {
		files := !strings.Contains(name, "program") && !strings.Contains(name, "process") && !strings.Contains(name, "namespace")
		switch {
		case may[name] && told != "":
			t.Errorf("%s: %s", name, told)
		case !may[name] && told == "" && (files && got.State.Landlock > 0 || !files && got.State.Seccomp):
			t.Errorf("%s: could be done", name)
		case !may[name] && told != "" && !strings.Contains(told, "permi") && !strings.Contains(told, "cross-device"):
			t.Errorf("%s: failed for another reason: %s", name, told)
		}
	}
	if b, err := os.ReadFile(filepath.Join(other, "before")); err != nil || string(b) != "evidence" {
		t.Errorf("evidence is %q, %v", b, err)
	}
}

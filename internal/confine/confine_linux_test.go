package confine_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
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
	os.Exit(m.Run())
}

func inside(dirs []string) {
	allowed, other := dirs[0], dirs[1]
	ready, done := make(chan struct{}), make(chan error)
	go func() { // a goroutine, and by that mostly a thread, from before
		<-ready
		done <- os.WriteFile(filepath.Join(other, "thread"), nil, 0o600)
	}()
	_ = os.WriteFile(filepath.Join(other, "before"), []byte("evidence"), 0o600)
	out := tried{State: confine.Self(confine.Bounds{Writable: []string{filepath.Join(allowed, "not", "there", "yet")}}), Errors: map[string]string{}}
	said := func(name string, err error) {
		out.Errors[name] = ""
		if err != nil {
			out.Errors[name] = err.Error()
		}
	}
	close(ready)
	said("another thread", <-done)
	said("make below", os.MkdirAll(filepath.Join(allowed, "not", "there", "yet"), 0o700))
	said("write below", os.WriteFile(filepath.Join(allowed, "not", "a"), []byte("x"), 0o600))
	said("move below", os.Rename(filepath.Join(allowed, "not", "a"), filepath.Join(allowed, "b")))
	_, err := os.ReadFile(filepath.Join(other, "before"))
	said("read elsewhere", err)
	said("make elsewhere", os.WriteFile(filepath.Join(other, "new"), nil, 0o600))
	said("cut short elsewhere", os.Truncate(filepath.Join(other, "before"), 0))
	said("delete elsewhere", os.Remove(filepath.Join(other, "before")))
	said("move out", os.Rename(filepath.Join(allowed, "b"), filepath.Join(other, "b")))
	said("start a program", exec.Command("/bin/true").Run()) //nolint:noctx // it must not start
	said("look into a process", unix.PtraceAttach(1))
	said("another namespace", unix.Unshare(unix.CLONE_NEWUSER))
	time.Sleep(time.Millisecond) // the runtime's own calls go on
	_ = json.NewEncoder(os.Stdout).Encode(out)
}

func TestAConfinedProcessCanDoOnlyWhatItNeeds(t *testing.T) {
	t.Parallel()
	allowed, other := t.TempDir(), t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), "CONFINE="+allowed+":"+other)
	cmd.Stderr = os.Stderr
	text, err := cmd.Output()
	if err != nil {
		t.Fatal(err, string(text))
	}
	var got tried
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	t.Log(got.State)
	if got.State.Reason != "" {
		t.Log("not everything can be seen here: " + got.State.Reason)
	}
	may := map[string]bool{"make below": true, "write below": true, "move below": true, "read elsewhere": true}
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

//go:build unix

package local_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"capagent/internal/failure"
	"capagent/service/control/local"
)

func TestOnlyOwnerAndGroupMayConnect(t *testing.T) {
	// A umask of nothing is the worst that can be.
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	w := transports(t)["socket"]
	cfg := local.DefaultConfig()
	// Whoever waits for the socket to appear never sees it open to everybody.
	stop := make(chan struct{})
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if info, err := os.Stat(w.Socket); err == nil && info.Mode().Perm()&0o007 != 0 {
				t.Errorf("seen with %v", info.Mode())
				return
			}
		}
	})
	for range 50 {
		l, err := local.Listen(t.Context(), w, cfg)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(w.Socket)
		if err != nil || info.Mode() != fs.ModeSocket|0o660 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	watcher.Wait()
	if info, err := os.Stat(filepath.Dir(w.Socket)); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info.Mode(), err)
	}

	file := transports(t)["loopback"]
	l, err := local.Listen(t.Context(), file, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Stat(file.TokenFile); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

func TestTheSocketGetsItsGroup(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving a file to a group needs root")
	}
	w := transports(t)["socket"]
	cfg := local.DefaultConfig()
	for group, gid := range map[string]uint32{"daemon": 1, "4711": 4711} {
		cfg.Group = group
		l, err := local.Listen(t.Context(), w, cfg)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(w.Socket)
		if err != nil || info.Sys().(*syscall.Stat_t).Gid != gid {
			t.Errorf("%s: %v", group, err)
		}
		_ = l.Close()
	}
	cfg.Group = "nobody-knows"
	if _, err := local.Listen(t.Context(), w, cfg); err == nil || !strings.Contains(err.Error(), "no group nobody-knows") {
		t.Errorf("%v", err)
	}
}

// asUser runs this test again as somebody without rights, who may only connect.
const asUser = "CAPAGENT_TEST_SOCKET"

func TestWhoeverMayNotConnectIsToldWhatToDo(t *testing.T) {
	if path := os.Getenv(asUser); path != "" {
		_, _, err := greet(t.Context(), local.Where{Socket: path})
		var f *failure.Error
		if !errors.As(err, &f) || f.Class != "no_permission" || !strings.Contains(f.Hint, os.Getenv(asUser+"_HINT")) {
			t.Errorf("%v: %+v", err, f)
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("becoming somebody else needs root")
	}
	w := transports(t)["socket"]
	cfg := local.DefaultConfig()
	cfg.Group = "daemon"
	l, err := local.Listen(t.Context(), w, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	state := filepath.Dir(filepath.Dir(w.Socket))
	program := filepath.Join(state, "test")
	text, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(program, text, 0o755), os.Chmod(program, 0o755)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(state, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		dir  fs.FileMode
		hint string
	}{
		{0o755, "as a member of the group daemon"},
		{0o700, "as the agent's own user"}, // the socket can't even be looked at
	} {
		if err := os.Chmod(filepath.Dir(w.Socket), tc.dir); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), program, "-test.run", "^"+t.Name()+"$")
		cmd.Dir = "/"
		cmd.Env = append(os.Environ(), asUser+"="+w.Socket, asUser+"_HINT="+tc.hint)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

func TestASocketThatAnswersIsNotTaken(t *testing.T) {
	w := transports(t)["socket"]
	cfg := local.DefaultConfig()
	first, err := local.Listen(t.Context(), w, cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if l, err := local.Listen(t.Context(), w, cfg); err == nil || !strings.Contains(err.Error(), "another agent listens there") {
		t.Errorf("%v, %v", l, err)
	}
	if conn, err := net.Dial("unix", w.Socket); err != nil {
		t.Error(err)
	} else {
		_ = conn.Close()
	}
}

func TestAPrivateDirectoryOfSomebodyElseIsRefused(t *testing.T) {
	w := transports(t)["private socket"]
	cfg := local.DefaultConfig()
	dir := filepath.Dir(w.Socket)
	check := func(what string) {
		t.Helper()
		if l, err := local.Listen(t.Context(), w, cfg); err == nil {
			_ = l.Close()
			t.Errorf("%s: the agent listens", what)
		}
		if _, err := local.Find(w); err == nil || errors.Is(err, local.ErrNoAgent) {
			t.Errorf("%s: the client says %v", what, err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(dir, 0o700))
	must(os.Chmod(dir, 0o777))
	check("writable by all")
	must(os.Symlink(t.TempDir(), dir))
	check("a link")
	if os.Geteuid() == 0 {
		must(os.Mkdir(dir, 0o700))
		must(os.Chown(dir, 65534, -1))
		check("another user's")
	}
}

//go:build linux

package faulttest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestMain(m *testing.M) {
	os.Exit(Main(m))
}

func TestHooksSeeAndChangeCalls(t *testing.T) {
	if err := HooksWork(); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	script := `echo one > a; echo two > b; mv a c; rm b; echo "ended $?" >&2`
	var mu sync.Mutex
	run := func(hook Hook) ([]Call, *Hooked) {
		t.Helper()
		for _, name := range []string{"a", "b", "c"} {
			_ = os.Remove(filepath.Join(dir, name))
		}
		var calls []Call
		cmd := exec.Command("/bin/sh", "-c", script)
		cmd.Dir = dir
		h, err := StartHooked(cmd, func(c Call) Action {
			mu.Lock()
			defer mu.Unlock()
			calls = append(calls, c)
			return hook(c)
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Wait(); err != nil {
			t.Fatal(err)
		}
		return calls, h
	}

	calls, h := run(func(Call) Action { return Action{} })
	if h.ExitCode() != 0 {
		t.Fatal(h.Ending())
	}
	seen := map[string]bool{}
	for _, c := range calls {
		seen[c.Name+" "+filepath.Base(c.Path)] = true
	}
	for _, want := range []string{"openat a", "write a", "openat b", "write b", "unlinkat b"} {
		if !seen[want] {
			t.Errorf("not seen: %s in %v", want, calls)
		}
	}

	_, h = run(func(c Call) Action {
		if c.Name == "write" && strings.HasSuffix(c.Path, "/b") {
			return Action{Kill: true}
		}
		return Action{}
	})
	if b, err := os.ReadFile(filepath.Join(dir, "b")); h.ExitCode() != -1 || err != nil || len(b) != 0 {
		t.Errorf("killed before the write: exit %d, %q, %v", h.ExitCode(), b, err)
	}

	_, h = run(func(c Call) Action {
		if c.Name == "unlinkat" {
			return Action{Errno: syscall.EROFS}
		}
		return Action{}
	})
	if h.ExitCode() != 0 || !strings.Contains(h.Log(), "Read-only file system") || !strings.Contains(h.Log(), "ended 1") {
		t.Errorf("errno: %s", h.Ending())
	}
}

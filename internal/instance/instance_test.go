package instance_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capagent/internal/instance"
)

var start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.FixedZone("", 3600))

func lock(t *testing.T, dir string) *instance.Instance {
	t.Helper()
	i, err := instance.Lock(dir, start)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func release(t *testing.T, i *instance.Instance) {
	t.Helper()
	if err := i.Release(); err != nil {
		t.Fatal(err)
	}
}

func TestTheSecondIsToldOfTheFirst(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there", "yet")
	first := lock(t, dir)
	if _, unclean := first.Unclean(); unclean {
		t.Error("a new state directory was left unclean")
	}
	_, err := instance.Lock(dir, start)
	var taken *instance.TakenError
	if !errors.As(err, &taken) || taken.PID != os.Getpid() || !taken.Since.Equal(start) || taken.StateDir != dir {
		t.Fatalf("the second got %v", err)
	}
	want := fmt.Sprintf("another agent runs on state directory %q: process %d, since 2026-11-21T11:00:00Z", dir, os.Getpid())
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	release(t, first)
	second := lock(t, dir)
	if last, unclean := second.Unclean(); unclean {
		t.Errorf("unclean after a release: %+v", last)
	}
	release(t, second)
}

func TestTwoDirectoriesAreTwo(t *testing.T) {
	a, b := lock(t, t.TempDir()), lock(t, t.TempDir())
	release(t, a)
	release(t, b)
}

func TestWhateverTheFileHolds(t *testing.T) {
	for _, tc := range []struct {
		content string
		unclean bool
		last    instance.Holder
	}{
		{"", false, instance.Holder{}},
		{strings.Repeat(" ", 47) + "\n", false, instance.Holder{}},
		{"4711 2026-11-21T11:00:00Z\n", true, instance.Holder{PID: 4711, Since: start.UTC()}},
		{"4711 yesterday\n", true, instance.Holder{PID: 4711}},
		{"-1 2026-11-21T11:00:00Z\n", true, instance.Holder{}},
		{"\x00\x00\x00\x00", true, instance.Holder{}}, // a power cut
		{strings.Repeat("x", 1<<20), true, instance.Holder{}},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "agent.lock")
		if err := os.WriteFile(path, []byte(tc.content), 0o600); err != nil {
			t.Fatal(err)
		}
		i := lock(t, dir)
		if last, unclean := i.Unclean(); unclean != tc.unclean || last != tc.last {
			t.Errorf("%.30q: %+v, unclean is %v", tc.content, last, unclean)
		}
		if now, err := os.ReadFile(path); err != nil || strings.TrimSpace(string(now)) != fmt.Sprintf("%d 2026-11-21T11:00:00Z", os.Getpid()) {
			t.Errorf("%.30q became %q, %v", tc.content, now, err)
		}
		release(t, i)
	}
}

const inChild = "CAPAGENT_TEST_INSTANCE"

// TestMain is the other agent when the environment says so: it holds the
// directory until it is killed.
func TestMain(m *testing.M) {
	dir := os.Getenv(inChild)
	if dir == "" {
		os.Exit(m.Run())
	}
	_, err := instance.Lock(dir, start)
	fmt.Println("locked", err)
	_, _ = bufio.NewReader(os.Stdin).ReadByte() // until the parent ends
}

func TestTheLockEndsWithItsProcess(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), inChild+"="+dir)
		stdin, err := child.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = stdin.Close() }()
		stdout, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		if said, err := bufio.NewReader(stdout).ReadString('\n'); said != "locked <nil>\n" {
			t.Fatalf("the child said %q, %v", said, err)
		}
		var taken *instance.TakenError
		if _, err := instance.Lock(dir, start); !errors.As(err, &taken) || taken.PID != child.Process.Pid {
			t.Errorf("beside process %d: %v", child.Process.Pid, err)
		}
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait()
		i := lock(t, dir)
		if last, unclean := i.Unclean(); !unclean || last.PID != child.Process.Pid {
			t.Errorf("after the kill: %+v, unclean is %v", last, unclean)
		}
		release(t, i)
	}
}

func TestWhatCantBeLocked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := instance.Lock(file, start)
	var taken *instance.TakenError
	if err == nil || errors.As(err, &taken) || !strings.Contains(err.Error(), "lock state directory") {
		t.Errorf("got %v", err)
	}
}

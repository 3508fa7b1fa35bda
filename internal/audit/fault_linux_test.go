package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"capagent/internal/ledger"
)

// The test binary is also the process that is killed and whose calls fail: with
// CAPAGENT_TEST_EVENTS it makes so many events, and drains them until it works.
func TestMain(m *testing.M) {
	n, err := strconv.Atoi(os.Getenv("CAPAGENT_TEST_EVENTS"))
	if err != nil {
		os.Exit(m.Run())
	}
	runtime.LockOSThread() // strace counts the calls of each thread
	fmt.Println("started")
	if err := child(n); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func child(n int) error {
	ctx := context.Background()
	try := func(what string, call func() error) error {
		for range 50 {
			err := call()
			if err == nil {
				return nil
			}
			fmt.Println("failed", what, ledger.Trouble(err), err)
		}
		return errors.New(what + " never works again")
	}
	var l *ledger.Ledger
	err := try("open", func() (err error) { l, err = ledger.Open(ctx, "ledger.db", ledger.Options{}); return err })
	log := New(l, Options{Dir: ".", Host: "h", Version: "v", MaxSize: 2000})
	for i := 0; i < n && err == nil; i++ {
		if err = try("note", func() error { return l.Note(ctx, "count", map[string]int{"i": i}) }); err == nil && i%3 == 2 {
			err = try("drain", func() error { return log.Drain(ctx) })
		}
		fmt.Println("noted", i)
	}
	if err == nil {
		err = try("close", l.Close)
	}
	return err
}

func childCommand(t *testing.T, dir string, events int, before ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	ok(t, err)
	args := append(before, self)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), fmt.Sprintf("CAPAGENT_TEST_EVENTS=%d", events))
	return cmd
}

// check demands that after a last Drain the log is whole and has every event once.
func check(t *testing.T, dir string, counts []string) Result {
	t.Helper()
	d := reopen(t, dir, Options{})
	ok(t, d.ledger.Note(t.Context(), "end", nil))
	ok(t, d.Drain(t.Context()))
	r := d.whole(t)
	var got []string
	old, err := archives(dir)
	ok(t, err)
	for _, file := range append(old, Name) {
		for raw := range bytes.Lines(d.read(t, file)) {
			if _, data, found := strings.Cut(string(raw), `"event":"count","data":{"i":`); found {
				i, _, _ := strings.Cut(data, "}")
				got = append(got, i)
			}
		}
	}
	if counts != nil {
		same(t, got, counts)
	}
	ok(t, d.ledger.Close())
	return r
}

func TestKillsLoseNoEventAndLeaveAWholeLog(t *testing.T) {
	dir := t.TempDir()
	torn, rounds := 0, 25
	if *thorough {
		rounds = 500
	}
	acked := 0
	for range rounds {
		cmd := childCommand(t, dir, 1_000_000)
		out, err := cmd.StdoutPipe()
		ok(t, err)
		ok(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for left := rand.IntN(20); lines.Scan(); left-- {
			if strings.HasPrefix(lines.Text(), "noted") {
				acked++
			}
			if left == 0 { // at some moment of the next writes
				time.AfterFunc(time.Duration(rand.IntN(5000))*time.Microsecond, func() { _ = cmd.Process.Kill() })
			}
		}
		_ = cmd.Wait()
		// Verify sees a whole log at any moment, also before the next process.
		l, err := ledger.Open(t.Context(), filepath.Join(dir, "ledger.db"), ledger.Options{})
		ok(t, err)
		if r := verifyIn(t, dir, l); !r.OK() {
			t.Fatalf("%v", r.Broken)
		}
		ok(t, l.Close())
	}
	r := check(t, dir, nil)
	for _, n := range r.Noted {
		if n.Event != eventTorn {
			t.Errorf("%s", n.Data)
		}
		torn++
	}
	if r.Lines < int64(acked) || acked == 0 {
		t.Errorf("%d lines, %d were acknowledged", r.Lines, acked)
	}
	t.Logf("%d kills, %d acknowledged events, %d lines, %d of them torn writes", rounds, acked, r.Lines, torn)
}

func TestTheLogGoesOnWhenTheDiskDoes(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip(err)
	}
	const events = 24
	var want []string
	for i := range events {
		want = append(want, strconv.Itoa(i))
	}
	run := func(args ...string) (dir, out, trace string) {
		dir = t.TempDir()
		file := filepath.Join(dir, "trace")
		before := append([]string{"strace", "-f", "--seccomp-bpf", "-qq", "-o", file}, args...)
		b, err := childCommand(t, dir, events, before...).CombinedOutput()
		if err != nil && bytes.Contains(b, []byte("started")) {
			t.Fatalf("%q: %v\n%s", args, err, b)
		}
		text, err := os.ReadFile(file)
		ok(t, err)
		return dir, string(b), string(text)
	}
	for _, tt := range []struct {
		calls  string
		errnos []string
	}{
		{"pwrite64", []string{"ENOSPC", "EIO"}},
		{"fsync", []string{"EIO"}},
		{"ftruncate", []string{"EIO"}},
		{"rename,renameat,renameat2", []string{"EACCES"}},
		{"open,openat", []string{"EMFILE", "ENOSPC"}},
		{"getdents64", []string{"EIO"}},
	} {
		_, _, trace := run("-e", "trace="+tt.calls)
		count := strings.Count(trace, "\n")
		stride := 1
		if !*thorough {
			stride, tt.errnos = max(1, count/3), tt.errnos[:1]
		}
		for _, errno := range tt.errnos {
			failures, tried := 0, 0
			for n := 1; n <= count; n += stride {
				inject := fmt.Sprintf("inject=%s:error=%s:when=%d..%d", tt.calls, errno, n, n+2)
				dir, out, _ := run("-e", "trace="+tt.calls, "-e", inject)
				if !strings.Contains(out, "started") {
					continue
				}
				tried++
				failures += strings.Count(out, "failed")
				if strings.Contains(out, "failed drain  ") {
					t.Errorf("%s: said without its trouble:\n%s", inject, out)
				}
				if r := check(t, dir, want); len(r.Noted) > 0 && r.Noted[0].Event != eventTorn {
					t.Errorf("%s: %s", inject, r.Noted[0].Data)
				}
			}
			t.Logf("%s: %s: %d of %d calls, %d failures", tt.calls, errno, tried, count, failures)
		}
	}
}

func TestAFullDiskLosesNoEvent(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root mounts")
	}
	logs := t.TempDir()
	if err := unix.Mount("tmpfs", logs, "tmpfs", 0, "size=256k"); err != nil {
		t.Skip(err) // a container without the right
	}
	t.Cleanup(func() { ok(t, unix.Unmount(logs, unix.MNT_DETACH)) })
	l, err := ledger.Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"), ledger.Options{})
	ok(t, err)
	t.Cleanup(func() { ok(t, l.Close()) })
	log := New(l, Options{Dir: logs})
	note := func(n int) {
		for range n {
			ok(t, l.Note(t.Context(), "x", map[string]string{"x": strings.Repeat("x", 1000)}))
		}
	}
	ballast := filepath.Join(logs, "ballast")
	ok(t, os.WriteFile(ballast, make([]byte, 200<<10), 0o600))
	note(3)
	ok(t, log.Drain(t.Context()))
	note(100)
	for range 3 {
		if err := log.Drain(t.Context()); ledger.Trouble(err) != "disk_full" {
			t.Fatal(err)
		}
		if r, err := Verify(t.Context(), logs, l); err != nil || !r.OK() {
			t.Fatalf("%v, %v", r.Broken, err)
		}
	}
	events, err := l.Events(t.Context(), 1000)
	ok(t, err)
	if len(events) != 100 {
		t.Errorf("%d events wait", len(events))
	}
	ok(t, os.Remove(ballast))
	ok(t, log.Drain(t.Context()))
	if r, err := Verify(t.Context(), logs, l); err != nil || !r.OK() || r.Lines != 103 || r.Noted != nil {
		t.Fatalf("%+v, %v", r, err)
	}
}

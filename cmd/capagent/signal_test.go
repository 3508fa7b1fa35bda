//go:build unix

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// eventually waits for cond, which something outside brings about.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			t.Fatalf("%s: did not happen", what)
		case <-tick.C:
		}
	}
}

// Ctrl-C in `tcpdump -w - | capagent upload -` reaches both: tcpdump ends, and
// what it captured is uploaded.
func TestInterruptEndsStandardInputNotTheUpload(t *testing.T) {
	t.Parallel()
	s := startSandbox(t)
	state := t.TempDir()
	cmd := program(t.Context(), []string{"CAPAGENT_AGENT_STATE_DIR=" + state}, "--config", s.Config, "upload", "-")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdin.Write(smallCapture(1)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "spooling", func() bool {
		parts, _ := filepath.Glob(filepath.Join(state, "spool", "*.part"))
		if len(parts) != 1 {
			return false
		}
		info, err := os.Stat(parts[0])
		return err == nil && info.Size() > 0
	})
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	// The rest of the pipe arrives after the signal, as tcpdump's last packets do.
	if _, err := stdin.Write(smallCapture(1)[24:]); err != nil {
		t.Fatal(err)
	}
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(stdout.String(), "/captures/") {
		t.Errorf("%v\n%s%s", err, &stdout, &stderr)
	}
	if left, _ := filepath.Glob(filepath.Join(state, "spool", "*")); len(left) != 0 {
		t.Errorf("left in the spool: %q", left)
	}
}

// An import that is interrupted says so, accounts for what it did, and goes on
// where it stopped.
func TestInterruptedImportGoesOn(t *testing.T) {
	t.Parallel()
	s := startSandbox(t, "--fault", "slow:skip=5,bytes=20")
	evidence, dir := t.TempDir(), t.TempDir()
	if err := makeCaptures(evidence, 20); err != nil {
		t.Fatal(err)
	}
	manifest := filepath.Join(dir, "m.csv")
	cmd := program(t.Context(), nil, "--config", s.Config, "import", "--manifest", manifest, evidence)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first uploads", func() bool { return countSessions(t, s.Dir) == 5 })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitInterrupted || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("%v: exit code %d\n%s", err, cmd.ProcessState.ExitCode(), &stderr)
	}
	text, err := os.ReadFile(manifest)
	// The answers to the last two may still be on their way: the next import finds them.
	queued, done := bytes.Count(text, []byte(",queued,")), bytes.Count(text, []byte(",done,"))
	if err != nil || queued+done != 20 || done < 3 || done > 5 {
		t.Errorf("%v\n%s", err, text)
	}

	s.stop()
	again := startSandboxIn(t, s.Dir, "--listen", strings.TrimPrefix(s.URL, "http://"))
	if o := runProgram(t, nil, "--config", again.Config, "import", evidence); o.code != 0 {
		t.Errorf("exit code %d\n%s", o.code, o.stderr)
	}
	if n := countSessions(t, s.Dir); n != 20 {
		t.Errorf("%d sessions", n)
	}
}

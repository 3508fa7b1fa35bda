//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait of these tests; nothing is measured by it.
const patience = 30 * time.Second

// agentProcess is `capagent run` as a process of its own.
type agentProcess struct {
	t   *testing.T
	cmd *exec.Cmd

	mu    sync.Mutex
	lines []map[string]any
	more  chan struct{} // closed and replaced when a line comes, and at the end
	ended chan struct{}
}

// startDaemon runs the daemon and waits until it is ready. It is killed at the
// end of the test if it still runs.
func startDaemon(t *testing.T, config string, args ...string) *agentProcess {
	t.Helper()
	a := launchDaemon(t, config, args...)
	a.wait("ready")
	return a
}

func launchDaemon(t *testing.T, config string, args ...string) *agentProcess {
	t.Helper()
	a := &agentProcess{t: t, more: make(chan struct{}), ended: make(chan struct{})}
	a.cmd = program(t.Context(), nil, append([]string{"--config", config, "run"}, args...)...)
	stderr, err := a.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.cmd.Process.Kill(); <-a.ended })
	go a.read(stderr)
	return a
}

func (a *agentProcess) read(stderr io.Reader) {
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := map[string]any{}
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			line = map[string]any{"message": lines.Text()}
		}
		a.tell(func() { a.lines = append(a.lines, line) })
	}
	_ = a.cmd.Wait()
	close(a.ended)
	a.tell(func() {})
}

func (a *agentProcess) tell(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
	close(a.more)
	a.more = make(chan struct{})
}

// until waits until found says yes to the lines so far.
func (a *agentProcess) until(what string, found func(lines []map[string]any) bool) {
	a.t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond) // what is waited for need not be a line
	defer tick.Stop()
	for {
		a.mu.Lock()
		lines, more := a.lines, a.more
		a.mu.Unlock()
		if found(lines) {
			return
		}
		select {
		case <-more:
		case <-tick.C:
		case <-a.ended:
			if a.mu.Lock(); found(a.lines) {
				a.mu.Unlock()
				return
			}
			a.mu.Unlock()
			a.t.Fatalf("the agent ended without %q:\n%s", what, a.log())
		case <-deadline:
			a.t.Fatalf("no %q:\n%s", what, a.log())
		}
	}
}

// wait waits for a line whose message contains text.
func (a *agentProcess) wait(text string) { a.t.Helper(); a.waitN(text, 1) }

func (a *agentProcess) waitN(text string, n int) {
	a.t.Helper()
	a.until(text, func(lines []map[string]any) bool {
		seen := 0
		for _, l := range lines {
			if message, _ := l["message"].(string); strings.Contains(message, text) {
				seen++
			}
		}
		return seen >= n
	})
}

func (a *agentProcess) log() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	var b strings.Builder
	for _, l := range a.lines {
		text, _ := json.Marshal(l)
		fmt.Fprintf(&b, "%s\n", text)
	}
	return b.String()
}

func (a *agentProcess) signal(s syscall.Signal) {
	a.t.Helper()
	if err := a.cmd.Process.Signal(s); err != nil {
		a.t.Fatal(err)
	}
}

// stop ends the agent and returns its exit code.
func (a *agentProcess) stop() int {
	a.t.Helper()
	a.signal(syscall.SIGTERM)
	select {
	case <-a.ended:
	case <-time.After(patience):
		a.t.Fatalf("the agent does not end:\n%s", a.log())
	}
	return a.cmd.ProcessState.ExitCode()
}

// agentConfig adds tables to the configuration of a sandbox, and returns its
// path and the watched folder.
func agentConfig(t *testing.T, s sandboxProcess, watch, more string) (config, folder string) {
	t.Helper()
	dir := t.TempDir()
	folder = filepath.Join(dir, "incoming")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	base, err := os.ReadFile(s.Config)
	if err != nil {
		t.Fatal(err)
	}
	config = filepath.Join(dir, "agent.toml")
	text := fmt.Sprintf("%s\n[[watch]]\npath = %q\n%s\n%s", base, folder, watch, more)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return config, folder
}

func put(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// waitSessions waits until the sandbox has so many sessions.
func waitSessions(t *testing.T, s sandboxProcess, n int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for countSessions(t, s.Dir) < n {
		if time.Now().After(deadline) {
			t.Fatalf("%d sessions, want %d", countSessions(t, s.Dir), n)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestTheAgentUploadsWhatAppears(t *testing.T) {
	t.Parallel()
	s := startSandbox(t)
	config, folder := agentConfig(t, s, "", "")
	put(t, filepath.Join(folder, "before.pcap"), smallCapture(1))
	a := startDaemon(t, config)
	put(t, filepath.Join(folder, "written.pcap"), smallCapture(2))
	put(t, filepath.Join(folder, "new", "sub", "folder.pcap"), smallCapture(3))
	put(t, filepath.Join(folder, ".hidden"), smallCapture(4))
	if err := os.Rename(filepath.Join(folder, ".hidden"), filepath.Join(folder, "renamed.pcap")); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(folder, "no-suffix"), smallCapture(5))
	put(t, filepath.Join(folder, "notes.txt"), []byte("not a capture"))
	put(t, filepath.Join(folder, "empty.pcap"), smallCapture(6)[:24])
	put(t, filepath.Join(folder, "broken.pcap"), []byte("not a capture"))
	waitSessions(t, s, 5)
	a.wait("not understood")

	// The same name with other content is another capture.
	put(t, filepath.Join(folder, "written.pcap"), smallCapture(7))
	waitSessions(t, s, 6)

	a.until("all recorded", func([]map[string]any) bool {
		states := map[string]int{}
		for _, c := range captures(t, config) {
			states[c.State]++
		}
		return states["done"] == 7 && states["quarantined"] == 1
	})
	if code := a.stop(); code != 0 {
		t.Errorf("exit %d:\n%s", code, a.log())
	}
	if n := countSessions(t, s.Dir); n != 6 {
		t.Errorf("%d sessions", n)
	}
	for _, name := range []string{"empty.pcap", "broken.pcap", "before.pcap"} {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			t.Error(err)
		}
	}
}

type listed struct {
	ID         int64  `json:"id"`
	State      string `json:"state"`
	Path       string `json:"path"`
	Error      string `json:"error"`
	SessionURL string `json:"session_url"`
}

// captures is what `ls --json` says.
func captures(t *testing.T, config string) []listed {
	t.Helper()
	out, err := program(t.Context(), nil, "--config", config, "ls", "--json").Output()
	if err != nil {
		t.Fatalf("ls: %v", err)
	}
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var c listed
		if err := dec.Decode(&c); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		all = append(all, c)
	}
}

func TestASecondAgentNamesTheFirst(t *testing.T) {
	t.Parallel()
	s := startSandbox(t)
	config, _ := agentConfig(t, s, "", "")
	first := startDaemon(t, config)
	out, err := program(t.Context(), nil, "--config", config, "run").CombinedOutput()
	if err == nil || !strings.Contains(string(out), fmt.Sprint("process ", first.cmd.Process.Pid)) {
		t.Errorf("%v\n%s", err, out)
	}
	if code := first.stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
	third := startDaemon(t, config)
	if code := third.stop(); code != 0 {
		t.Errorf("exit %d:\n%s", code, third.log())
	}
}

func TestAfterTheUploadFilesAreDeletedOrMoved(t *testing.T) {
	t.Parallel()
	for _, after := range []string{"delete", "move"} {
		t.Run(after, func(t *testing.T) {
			s := startSandbox(t)
			config, folder := agentConfig(t, s, fmt.Sprintf("after = %q", after), "")
			a := startDaemon(t, config)
			put(t, filepath.Join(folder, "sub", "a.pcap"), smallCapture(1))
			put(t, filepath.Join(folder, "empty.pcap"), smallCapture(2)[:24])
			gone := filepath.Join(folder, "sub", "a.pcap")
			a.until("the file is gone", func([]map[string]any) bool {
				_, err := os.Stat(gone)
				return os.IsNotExist(err)
			})
			if after == "move" {
				a.until("the file is moved", func([]map[string]any) bool {
					_, err := os.Stat(filepath.Join(folder, "done", "sub", "a.pcap"))
					return err == nil
				})
			}
			if code := a.stop(); code != 0 {
				t.Errorf("exit %d:\n%s", code, a.log())
			}
			if _, err := os.Stat(filepath.Join(folder, "empty.pcap")); err != nil {
				t.Errorf("an empty capture was touched: %v", err)
			}
			if n := countSessions(t, s.Dir); n != 1 {
				t.Errorf("%d sessions", n)
			}
		})
	}
}

func TestAReloadKeepsTheLastGoodConfiguration(t *testing.T) {
	t.Parallel()
	s := startSandbox(t)
	config, folder := agentConfig(t, s, "", "")
	a := startDaemon(t, config)
	good, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, append([]byte("nonsense = 1\n"), good...), 0o600); err != nil {
		t.Fatal(err)
	}
	a.signal(syscall.SIGHUP)
	a.wait("not reloaded")
	put(t, filepath.Join(folder, "a.pcap"), smallCapture(1))
	waitSessions(t, s, 1)

	other := filepath.Join(t.TempDir(), "other")
	put(t, filepath.Join(other, "b.pcap"), smallCapture(2))
	if err := os.WriteFile(config, fmt.Appendf(good, "\n[[watch]]\npath = %q\n", other), 0o600); err != nil {
		t.Fatal(err)
	}
	a.signal(syscall.SIGHUP)
	a.waitN("reloaded", 2)
	waitSessions(t, s, 2)
	put(t, filepath.Join(folder, "c.pcap"), smallCapture(3))
	waitSessions(t, s, 3)
	if code := a.stop(); code != 0 {
		t.Errorf("exit %d:\n%s", code, a.log())
	}
}

func TestABadTokenPausesUntilTheConfigurationIsMended(t *testing.T) {
	t.Parallel()
	s := startSandbox(t)
	config, folder := agentConfig(t, s, "", "")
	good, err := os.ReadFile(s.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.TokenFile, []byte(strings.Repeat("0", 32)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := startDaemon(t, config)
	for i := range 5 {
		put(t, filepath.Join(folder, fmt.Sprintf("%d.pcap", i)), smallCapture(i))
	}
	a.wait("paused")
	if err := os.WriteFile(s.TokenFile, good, 0o600); err != nil {
		t.Fatal(err)
	}
	a.signal(syscall.SIGHUP)
	waitSessions(t, s, 5)
	if code := a.stop(); code != 0 {
		t.Errorf("exit %d:\n%s", code, a.log())
	}
}

// systemd starts the agent with Type=notify: it is told when the agent is ready,
// what it does, that it is alive, and that it stops.
func TestTheServiceManagerIsTold(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("systemd runs on Linux")
	}
	s := startSandbox(t)
	config, _ := agentConfig(t, s, "", "")
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "200000")
	a := startDaemon(t, config)
	told := func(want string) {
		t.Helper()
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				t.Fatalf("%q was not told: %v\n%s", want, err, a.log())
			}
			if strings.HasPrefix(string(buf[:n]), want) {
				return
			}
		}
	}
	told("READY=1")
	for range 3 {
		told("WATCHDOG=1")
	}
	a.signal(syscall.SIGTERM)
	told("STATUS=stopping")
	told("STOPPING=1")
}

// restart takes up a sandbox that was stopped, at its address.
func restart(t *testing.T, s sandboxProcess) sandboxProcess {
	t.Helper()
	return startSandboxIn(t, s.Dir, "--listen", strings.TrimPrefix(s.URL, "http://"))
}

// With copies, a ring that is overwritten while the server is away loses nothing.
func TestARingIsCopiedBeforeItIsOverwritten(t *testing.T) {
	t.Parallel()
	s := startSandbox(t)
	config, folder := agentConfig(t, s, "copy = true", "")
	spool := filepath.Join(s.Dir, "state", "spool")
	s.stop()
	a := startDaemon(t, config)
	for turn := range 4 {
		put(t, filepath.Join(folder, "ring.pcap0"), smallCapture(turn))
		a.waitN("registered", turn+1)
	}
	copies, err := os.ReadDir(spool)
	if err != nil || len(copies) != 4 {
		t.Errorf("%v: %d copies", err, len(copies))
	}
	s = restart(t, s)
	a.signal(syscall.SIGHUP) // or it would ask when the pause is over
	waitSessions(t, s, 4)
	a.until("the copies are gone", func([]map[string]any) bool {
		left, err := os.ReadDir(spool)
		return err == nil && len(left) == 0
	})
	if _, err := os.Stat(filepath.Join(folder, "ring.pcap0")); err != nil {
		t.Error(err)
	}
	if code := a.stop(); code != 0 {
		t.Errorf("exit %d:\n%s", code, a.log())
	}
}

// What a crash left in the spool between its seal and its record is taken up;
// what was cut short is not.
func TestWhatACrashLeftInTheSpoolIsTakenUp(t *testing.T) {
	t.Parallel()
	s := startSandbox(t)
	config, _ := agentConfig(t, s, "", "")
	spool := filepath.Join(s.Dir, "state", "spool")
	put(t, filepath.Join(spool, "stdin-1.pcap"), smallCapture(1))
	put(t, filepath.Join(spool, "copy-2.pcap.part"), smallCapture(2)[:40])
	a := startDaemon(t, config)
	waitSessions(t, s, 1)
	a.until("the spool is empty", func([]map[string]any) bool {
		left, err := os.ReadDir(spool)
		return err == nil && len(left) == 0
	})
	if code := a.stop(); code != 0 {
		t.Errorf("exit %d:\n%s", code, a.log())
	}
}

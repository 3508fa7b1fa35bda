package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/windows"
)

// patience bounds every wait of these tests; nothing is measured by it.
const patience = time.Minute

// text is what a process has said so far.
type text struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *text) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *text) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// site is a sandbox, a configuration that watches a folder, and an agent.
type site struct {
	t              *testing.T
	sandbox        sandboxProcess
	config, folder string
	agent          *exec.Cmd
	log            *text
}

func newSite(t *testing.T, watch string) *site {
	t.Helper()
	s := &site{t: t, sandbox: startSandbox(t)}
	dir := t.TempDir()
	s.config, s.folder = filepath.Join(dir, "agent.toml"), filepath.Join(dir, "incoming")
	base, err := os.ReadFile(s.sandbox.Config)
	s.ok(err)
	s.ok(os.Mkdir(s.folder, 0o755))
	s.ok(os.WriteFile(s.config, fmt.Appendf(base, "\n[[watch]]\npath = %q\nsettle = \"300ms\"\nrescan = \"2s\"\n%s\n", s.folder, watch), 0o600))
	return s
}

func (s *site) ok(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// start runs the agent in a process group of its own, which is what a console
// event can be sent to.
func (s *site) start() {
	s.t.Helper()
	s.log = &text{}
	cmd := program(s.t.Context(), nil, "--config", s.config, "run", "--log-level", "debug")
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NEW_PROCESS_GROUP}
	cmd.Stderr = s.log
	s.ok(cmd.Start())
	s.agent = cmd
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if s.t.Failed() {
			s.t.Logf("%s", s.log)
		}
	})
	s.until("ready", func() bool { return strings.Contains(s.log.String(), "ready") })
}

func (s *site) until(what string, cond func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for !cond() {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: did not happen\n%s", what, s.log)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *site) put(name string, seed int) string {
	s.t.Helper()
	path := filepath.Join(s.folder, name)
	s.ok(os.MkdirAll(filepath.Dir(path), 0o755))
	s.ok(os.WriteFile(path, smallCapture(seed), 0o644))
	return path
}

func (s *site) sessions(n int) {
	s.t.Helper()
	s.until(fmt.Sprint(n, " sessions"), func() bool { return countSessions(s.t, s.sandbox.Dir) >= n })
}

// exactly waits until nothing is queued and fails unless there are n sessions.
func (s *site) exactly(n int) {
	s.t.Helper()
	s.sessions(n)
	s.until("nothing queued", func() bool { return s.states()["queued"] == 0 })
	if got := countSessions(s.t, s.sandbox.Dir); got != n {
		s.t.Errorf("%d sessions, want %d", got, n)
	}
}

func (s *site) capagent(args ...string) (string, error) {
	out, err := program(s.t.Context(), nil, append([]string{"--config", s.config}, args...)...).CombinedOutput()
	return string(out), err
}

// states counts what `ls` says.
func (s *site) states() map[string]int {
	s.t.Helper()
	out, err := s.capagent("ls", "--json")
	if err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	n := map[string]int{}
	for dec := json.NewDecoder(strings.NewReader(out)); dec.More(); {
		var c struct {
			State string `json:"state"`
		}
		s.ok(dec.Decode(&c))
		n[c.State]++
	}
	return n
}

func gone(path string) bool {
	_, err := os.Lstat(path)
	return os.IsNotExist(err)
}

// hold opens a file so that others may do with it only what share says.
func (s *site) hold(path string, access, share uint32) windows.Handle {
	s.t.Helper()
	name, err := windows.UTF16PtrFromString(path)
	s.ok(err)
	h, err := windows.CreateFile(name, access, share, nil, windows.OPEN_EXISTING, windows.FILE_ATTRIBUTE_NORMAL, 0)
	s.ok(err)
	return h
}

func TestOnWindowsTheAgentUploadsWhatIsComplete(t *testing.T) {
	s := newSite(t, "")
	s.put("before.pcap", 1)
	s.start()
	written := s.put("written.pcap", 2)
	s.ok(os.Rename(s.put("hidden.tmp.pcap~", 3), filepath.Join(s.folder, "renamed.pcap")))
	s.put(strings.Repeat("long folder ", 12)+`x\`+strings.Repeat("long name ", 14)+".pcap", 4)
	s.put(`sub\Ünï cödé & (1) 100%.pcap`, 5)
	s.exactly(5)

	// The same name with other content is another capture.
	s.put("written.pcap", 6)
	s.exactly(6)

	// A file that has a writer is not complete, however long it is left alone.
	held, err := os.Create(filepath.Join(s.folder, "held.pcap"))
	s.ok(err)
	_, err = held.Write(smallCapture(7))
	s.ok(err)
	s.put("later.pcap", 8)
	s.exactly(7)
	time.Sleep(3 * time.Second) // ten times settle, and a scan: nothing is to be seen
	s.exactly(7)
	s.ok(held.Close())
	s.exactly(8)

	// What is open elsewhere for reading is uploaded all the same.
	s.ok(os.Rename(written, written+".old.pcap"))
	s.exactly(8)
	if n := s.states()["done"]; n < 8 {
		t.Errorf("%d done", n)
	}
}

func TestOnWindowsWhatIsOpenElsewhereIsDealtWithLater(t *testing.T) {
	for _, after := range []string{"delete", "move"} {
		t.Run(after, func(t *testing.T) {
			s := newSite(t, fmt.Sprintf("after = %q", after))
			path := s.put(`sub\a.pcap`, 1)
			// A virus scanner: others may read, nobody may rename or delete.
			h := s.hold(path, windows.GENERIC_READ, windows.FILE_SHARE_READ)
			s.start()
			s.exactly(1)
			s.until("it is told", func() bool { return strings.Contains(s.log.String(), "a file that was sent stays") })
			if gone(path) {
				t.Fatal("it is gone")
			}
			s.ok(windows.CloseHandle(h))
			_, err := s.capagent("reload")
			s.ok(err)
			s.until("it is gone", func() bool { return gone(path) })
			if after == "move" {
				text, err := os.ReadFile(filepath.Join(s.folder, "done", "sub", "a.pcap"))
				if err != nil || !bytes.Equal(text, smallCapture(1)) {
					t.Errorf("%d bytes, %v", len(text), err)
				}
			}
			s.exactly(1)
		})
	}
}

// A file that can't even be read now is read when it can be.
func TestOnWindowsAFileThatIsLockedIsReadLater(t *testing.T) {
	s := newSite(t, "")
	h := s.hold(s.put("locked.pcap", 1), windows.GENERIC_READ, 0)
	s.start()
	s.put("other.pcap", 2)
	s.exactly(1)
	s.ok(windows.CloseHandle(h))
	s.exactly(2)
}

func TestOnWindowsTheAgentIsSpokenToAndStopped(t *testing.T) {
	s := newSite(t, "")
	s.start()
	if out, err := s.capagent("run"); err == nil || !strings.Contains(out, fmt.Sprint("process ", s.agent.Process.Pid)) {
		t.Errorf("a second agent: %v\n%s", err, out)
	}
	s.put("a.pcap", 1)
	s.exactly(1)
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"ls"}, {"show", "1"}, {"retry", "--all"}, {"reload"}} {
		out, err := s.capagent(args...)
		if err != nil || out == "" {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	if out, _ := s.capagent("status", "--json"); !strings.Contains(out, fmt.Sprintf(`"pid":%d`, s.agent.Process.Pid)) {
		t.Errorf("status does not come from the agent: %s", out)
	}

	// Killed, it begins anew and does nothing twice.
	s.ok(s.agent.Process.Kill())
	_ = s.agent.Wait()
	s.put("b.pcap", 2)
	s.start()
	s.exactly(2)
	if !strings.Contains(s.log.String(), "did not end by itself") {
		t.Error("the kill went unnoticed")
	}
}

func TestOnWindowsCtrlBreakStopsTheAgent(t *testing.T) {
	s := newSite(t, "")
	s.start()
	if err := windows.GenerateConsoleCtrlEvent(windows.CTRL_BREAK_EVENT, uint32(s.agent.Process.Pid)); err != nil {
		t.Skipf("no console to send an event by: %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.agent.Wait() }()
	select {
	case err := <-ended:
		if text := s.log.String(); err != nil || !strings.Contains(text, "stopped") || strings.Contains(text, "reload") {
			t.Errorf("%v", err)
		}
	case <-time.After(patience):
		t.Fatal("Ctrl-Break does not stop it")
	}
	s.start()
	if strings.Contains(s.log.String(), "did not end by itself") {
		t.Error("it was stopped, not killed")
	}
}

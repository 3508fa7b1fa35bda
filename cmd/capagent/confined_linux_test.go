package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"capagent/service/control"
)

// confinedAgent is an agent that watches a folder that it only reads, kept, and one that
// it empties, emptied, which is a link into real. All of them are side by side with what
// is somebody else's, and none is where temporary files are.
type confinedAgent struct {
	*agentProcess
	sandbox                     sandboxProcess
	config, kept, emptied, real string
}

func startConfined(t *testing.T, change func([]byte) []byte) confinedAgent {
	t.Helper()
	base := shortDir(t) // the control socket may end up in TMPDIR
	c := confinedAgent{
		sandbox: startSandbox(t), kept: filepath.Join(base, "kept", "pcaps"),
		emptied: filepath.Join(base, "links", "emptied"), real: filepath.Join(base, "emptied", "pcaps"),
	}
	for _, dir := range []string{c.kept, filepath.Dir(c.emptied), c.real, filepath.Join(base, "tmp")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(c.real, c.emptied); err != nil {
		t.Fatal(err)
	}
	c.config = filepath.Join(base, "agent.toml")
	text := fmt.Appendf(readFile(t, c.sandbox.Config), "\n[[watch]]\npath = %q\n[[watch]]\npath = %q\nafter = \"delete\"\n", c.kept, c.emptied)
	if change != nil {
		text = change(text)
	}
	writeFile(t, c.config, text, 0o600)
	t.Setenv("TMPDIR", filepath.Join(base, "tmp"))
	c.agentProcess = startDaemon(t, c.config)
	return c
}

// confined is what status says of it.
func (c confinedAgent) confined() control.Confined {
	c.t.Helper()
	out, err := program(c.t.Context(), nil, "--config", c.config, "status", "--json").Output()
	if err != nil {
		c.t.Fatalf("%v\n%s", err, out)
	}
	var v control.Status
	if err := json.Unmarshal(out, &v); err != nil || v.Agent == nil || v.Agent.Confined == nil {
		c.t.Fatalf("%v\n%s", err, out)
	}
	return *v.Agent.Confined
}

func TestTheAgentConfinesItself(t *testing.T) {
	c := startConfined(t, nil)
	state := c.confined()
	if state.Landlock == 0 || !state.Seccomp || state.Reason != nil {
		t.Skipf("not everything can be had here: %+v", state)
	}
	for _, of := range threads(t, c.cmd.Process.Pid) {
		if of["NoNewPrivs"] != "1" || of["Seccomp"] != "2" {
			t.Errorf("thread %s: no new privileges %s, seccomp %s", of["Pid"], of["NoNewPrivs"], of["Seccomp"])
		}
	}
	writable := strings.Join(state.Writable, "\n") + "\n"
	if !strings.Contains(writable, filepath.Dir(c.real)+"\n") || strings.Contains(writable, filepath.Dir(c.kept)) {
		t.Errorf("writable: %s", writable)
	}

	// It does its work.
	put(t, filepath.Join(c.kept, "kept.pcap"), smallCapture(1))
	put(t, filepath.Join(c.real, "gone.pcap"), smallCapture(2))
	waitSessions(t, c.sandbox, 2)
	c.until("the file is gone", func([]map[string]any) bool {
		_, err := os.Lstat(filepath.Join(c.real, "gone.pcap"))
		return errors.Is(err, fs.ErrNotExist)
	})

	// A folder that it gave up at its start stays so, whatever the configuration says.
	before := readFile(t, c.config)
	writeFile(t, c.config, []byte(strings.Replace(string(before), fmt.Sprintf("%q\n", c.kept), fmt.Sprintf("%q\nafter = \"delete\"\n", c.kept), 1)), 0o600)
	out, err := program(t.Context(), nil, "--config", c.config, "reload").CombinedOutput()
	if err == nil || !strings.Contains(string(out), c.kept+" can't be changed: the agent confined itself at its start; restart it") {
		t.Errorf("%v\n%s", err, out)
	}
	writeFile(t, c.config, before, 0o600)

	// Nor can it follow a link that somebody turns to what is not its own: the kernel
	// refuses.
	other := filepath.Join(filepath.Dir(c.config), "other", "pcaps")
	put(t, filepath.Join(other, "evidence.pcap"), smallCapture(3))
	if err := errors.Join(os.Remove(c.emptied), os.Symlink(other, c.emptied)); err != nil {
		t.Fatal(err)
	}
	if out, err := program(t.Context(), nil, "--config", c.config, "reload").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	waitSessions(t, c.sandbox, 3)
	c.until("permission denied", func(lines []map[string]any) bool {
		text := fmt.Sprint(lines)
		return strings.Contains(text, "permission denied") && strings.Contains(text, "when this was another folder or none; restart it")
	})
	if _, err := os.Lstat(filepath.Join(other, "evidence.pcap")); err != nil {
		t.Error(err)
	}
	if code := c.stop(); code != 0 {
		t.Errorf("exit %d:\n%s", code, c.log())
	}
}

// byCommand is a configuration whose token a command prints.
func byCommand(text []byte) []byte {
	return regexp.MustCompile(`(?m)^token_file = "(.*)"`).ReplaceAll(text, []byte(`token_command = "cat $1"`))
}

func TestTheAgentIsNotConfinedWhereItCanNotBe(t *testing.T) {
	for name, tc := range map[string]struct {
		change func([]byte) []byte
		reason string
	}{
		"by its configuration": {func(text []byte) []byte {
			return bytes.Replace(text, []byte("[agent]\n"), []byte("[agent]\nconfine = false\n"), 1)
		}, "[agent] confine is false"},
		"a secret's command": {byCommand, "a program is to be started while the agent runs, by cloudshark.token_command"},
	} {
		t.Run(name, func(t *testing.T) {
			c := startConfined(t, tc.change)
			state := c.confined()
			if state.Landlock != 0 || state.Seccomp || len(state.Writable) > 0 || state.Reason == nil || *state.Reason != tc.reason {
				t.Errorf("%+v", state)
			}
			c.wait("not confined")
			if out, err := program(t.Context(), nil, "--config", c.config, "reload").CombinedOutput(); err != nil {
				t.Errorf("reload: %v\n%s", err, out)
			}
		})
	}
}

// A command that comes with a reload can't be run any more, and that is said.
func TestAConfinedAgentRunsNoCommand(t *testing.T) {
	c := startConfined(t, nil)
	if !c.confined().Seccomp {
		t.Skip("no seccomp here")
	}
	writeFile(t, c.config, byCommand(readFile(t, c.config)), 0o600)
	c.signal(syscall.SIGHUP)
	c.until("restart it", func(lines []map[string]any) bool {
		return strings.Contains(fmt.Sprint(lines), "a running agent that confined itself starts no programs, so restart it")
	})
}

// threads is /proc/PID/task/*/status.
func threads(t *testing.T, pid int) (all []map[string]string) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(files) == 0 {
		t.Fatal(pid, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // a thread that has ended
		}
		one := map[string]string{}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, ":")
			one[key] = strings.TrimSpace(value)
		}
		all = append(all, one)
	}
	return all
}

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"capagent/internal/traffic"
)

// ordinary builds the program as it is shipped: without cgo, whose threads can't be
// made to drop anything.
func ordinary(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "capagent")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("go build: %v\n%s", err, out)
	}
	return path
}

// rights are the effective capabilities of each thread of a process.
func rights(t *testing.T, pid string) (all []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/" + pid + "/task/*/status")
	if err != nil || len(files) == 0 {
		t.Fatal(pid, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // a thread that has ended
		}
		for line := range strings.Lines(string(text)) {
			if value, ok := strings.CutPrefix(line, "CapEff:"); ok {
				all = append(all, strings.TrimSpace(value))
			}
		}
	}
	return all
}

// TestTheRightToCaptureIsKeptApart: the agent of a user with CAP_NET_RAW gives it to a
// child that has no environment, has no capability itself, and captures everything, also
// when the interface comes back.
func TestTheRightToCaptureIsKeptApart(t *testing.T) {
	t.Parallel()
	t.Run("by dropping it", func(t *testing.T) { keptApart(t) })
	// A service's filter of system calls may not let it: then it starts anew without.
	t.Run("by starting anew", func(t *testing.T) {
		keptApart(t, "strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=capset", "-e", "inject=capset:error=EPERM")
	})
}

// agentApart is an agent of a user with CAP_NET_RAW that captures from vethrx, and its
// child.
type agentApart struct {
	*exec.Cmd
	pair              *traffic.Pair
	log               *output
	state, pid, child string
}

func startApart(t *testing.T, under ...string) agentApart {
	t.Helper()
	for _, tool := range append([]string{"setpriv"}, under[:min(len(under), 1)]...) {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	p := pair(t, traffic.Options{})
	dir, err := os.MkdirTemp("", "apart")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	const nobody = 65534
	exe, state, config := ordinary(t, dir), filepath.Join(dir, "state"), filepath.Join(dir, "agent.toml")
	writeFile(t, config, fmt.Appendf(nil, "[agent]\nstate_dir = %q\n[cloudshark]\nurl = \"https://127.0.0.1:9\"\ntoken = \"0123456789abcdef0123456789abcdef\"\n[[capture]]\nname = \"lan\"\ninterface = \"vethrx\"\n", state), 0o600)
	for _, path := range []string{dir, config} {
		if err := os.Chown(path, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	var log output
	args := slices.Concat([]string{"--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps", "+net_raw", "--ambient-caps", "+net_raw"},
		under, []string{exe, "--config", config, "run"})
	agent := p.Command(t.Context(), traffic.RX, "setpriv", args...)
	agent.Env = append(os.Environ(), "HOME="+dir, "A_SECRET=hunter2")
	agent.Stderr = &log
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = agent.Process.Kill(); _ = agent.Wait() })
	for end := time.Now().Add(patience); !strings.Contains(log.String(), `"message":"capturing"`); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(log.String())
		}
	}
	out, err := exec.CommandContext(t.Context(), "pgrep", "-f", "packet-sockets").Output()
	child := ""
	for _, pid := range strings.Fields(string(out)) {
		if link, _ := os.Readlink("/proc/" + pid + "/exe"); link == exe {
			child = pid
		}
	}
	if err != nil || child == "" {
		t.Fatalf("there is no child: %v\n%s", err, log.String())
	}
	return agentApart{agent, p, &log, state, strconv.Itoa(parentOf(t, child)), child}
}

func keptApart(t *testing.T, under ...string) {
	a := startApart(t, under...)
	for _, r := range rights(t, a.pid) {
		if r != "0000000000000000" {
			t.Errorf("the agent has %s", r)
		}
	}
	for _, r := range rights(t, a.child) {
		if r != "0000000000002000" { // CAP_NET_RAW
			t.Errorf("the child has %s", r)
		}
	}
	if env, err := os.ReadFile("/proc/" + a.child + "/environ"); err != nil || len(env) > 0 {
		t.Errorf("the child's environment: %q, %v", env, err)
	}
	const packets = 1000
	if _, err := a.pair.Send(t.Context(), traffic.Load{Size: 128, Rate: 10_000, Count: packets}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond) // the kernel hands over what it still holds
	kill(t, a.pid, syscall.SIGTERM)
	if err := a.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, a.log.String())
	}
	files, err := filepath.Glob(filepath.Join(a.state, "spool", "*.pcapng"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err, a.log.String())
	}
	if seen, err := traffic.Check(files...); err != nil || seen.Distinct != packets {
		t.Errorf("%d of %d packets, %v", seen.Distinct, packets, err)
	}
	if _, err := os.Stat("/proc/" + a.child); err == nil {
		t.Error("the child outlives the agent")
	}
	if bytes.Contains([]byte(a.log.String()), []byte("hunter2")) {
		t.Error("a secret is in the log")
	}
}

func kill(t *testing.T, pid string, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(number(t, pid), s); err != nil {
		t.Fatal(err)
	}
}

// number is the process that pid names.
func number(t *testing.T, pid string) int {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil || n <= 1 {
		t.Fatal(pid, err)
	}
	return n
}

// TestTheAgentEndsWithTheChildThatMayCapture: it can't have another one. It seals what it
// captured and fails, so that the service manager starts both again.
func TestTheAgentEndsWithTheChildThatMayCapture(t *testing.T) {
	a := startApart(t)
	if of := threads(t, number(t, a.child)); len(of) == 0 || of[0]["Seccomp"] != "2" || of[0]["NoNewPrivs"] != "1" {
		t.Errorf("the child is not confined: %v", of)
	}
	const packets = 100
	if _, err := a.pair.Send(t.Context(), traffic.Load{Size: 128, Rate: 10_000, Count: packets}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond) // the kernel hands over what it still holds
	kill(t, a.child, syscall.SIGKILL)
	late := time.AfterFunc(patience, func() { _ = a.Process.Kill() })
	err := a.Wait()
	late.Stop()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != exitFailed {
		t.Errorf("%v\n%s", err, a.log.String())
	}
	said := 0
	for line := range strings.Lines(a.log.String()) {
		if strings.Contains(line, "the process that may open packet sockets has ended") {
			said++
		}
	}
	if said != 1 {
		t.Errorf("said %d times:\n%s", said, a.log.String())
	}
	files, err := filepath.Glob(filepath.Join(a.state, "spool", "*.pcapng"))
	if seen, err := traffic.Check(files...); err != nil || seen.Distinct != packets {
		t.Errorf("%d of %d packets, %v", seen.Distinct, packets, err)
	}
	if err != nil {
		t.Error(err)
	}
}

// parentOf is the parent of a process.
func parentOf(t *testing.T, pid string) int {
	t.Helper()
	text, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	n, err := strconv.Atoi(strings.Fields(rest)[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

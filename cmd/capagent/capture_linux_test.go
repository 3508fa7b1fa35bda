package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"capagent/internal/traffic"
)

// pair returns two namespaces joined by a cable; capagent runs in the second.
func pair(t *testing.T, o traffic.Options) *traffic.Pair {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	o.Prefix = "cmd_"
	p, err := traffic.NewPair(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// inside is program, in the namespace that captures.
func inside(t *testing.T, p *traffic.Pair, args ...string) (cmd *exec.Cmd, stdout, stderr *output) {
	t.Helper()
	cmd = p.Command(t.Context(), traffic.RX, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	stdout, stderr = &output{}, &output{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd, stdout, stderr
}

// output is what a process has printed so far; it may still run.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// listening waits until a packet socket is open in the capturing namespace.
func listening(t *testing.T, p *traffic.Pair) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		var text []byte
		if err := p.Do(traffic.RX, func() (err error) {
			text, err = os.ReadFile("/proc/thread-self/net/packet")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		// The interface's index stands in a line when the socket is bound.
		if lines := strings.Split(strings.TrimSpace(string(text)), "\n"); len(lines) > 1 && strings.Contains(lines[1], " 0003 ") {
			return
		}
	}
	t.Fatal("nobody captures")
}

func TestCaptureUntilInterrupted(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"x.pcap", "x.pcapng"} {
		t.Run(name, func(t *testing.T) {
			p := pair(t, traffic.Options{})
			path := filepath.Join(t.TempDir(), name)
			cmd, stdout, stderr := inside(t, p, "capture", "-i", "vethrx", "--no-upload", "--write", path, "--json")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			listening(t, p)
			sent, err := p.Send(t.Context(), traffic.Load{Size: 512, Rate: 20_000, Count: 10_000})
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil { // at once: what the kernel holds is still taken
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Fatalf("%v\n%s", err, stderr)
			}
			var got captureResult
			if err := json.Unmarshal([]byte(stdout.String()), &got); err != nil {
				t.Fatalf("%v: %s", err, stdout)
			}
			if got.Packets != sent.Packets || got.Dropped != 0 || got.End != "stopped" || got.Interfaces[0].Received != sent.Packets {
				t.Errorf("sent %d: %s", sent.Packets, stdout)
			}
			seen, err := traffic.Check(path)
			if err != nil || seen.Distinct != sent.Packets || seen.Doubled != 0 {
				t.Errorf("in the file: %+v, %v", seen, err)
			}
			opensWithoutWarning(t, path)
		})
	}
}

// opensWithoutWarning has Wireshark's tools read the file.
func opensWithoutWarning(t *testing.T, path string) {
	t.Helper()
	if _, err := exec.LookPath("capinfos"); err != nil {
		return
	}
	for _, args := range [][]string{{"capinfos", path}, {"tshark", "-r", path, "-c", "1000"}} {
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		var complaints bytes.Buffer
		cmd.Stderr = &complaints
		err := cmd.Run()
		text := strings.TrimSpace(strings.ReplaceAll(complaints.String(), `Running as user "root" and group "root". This could be dangerous.`, ""))
		if err != nil || text != "" {
			t.Errorf("%s: %v\n%s", args[0], err, text)
		}
	}
}

func TestCaptureStopsByItself(t *testing.T) {
	t.Parallel()
	p := pair(t, traffic.Options{})
	for name, tc := range map[string]struct {
		args    []string
		end     string
		packets uint64 // 0: some
	}{
		"packets":  {[]string{"--packets", "500"}, "packets", 500},
		"size":     {[]string{"--size", "100kB"}, "size", 190}, // 24 bytes and 190 records of 16 and 512
		"duration": {[]string{"--duration", "500ms"}, "stopped", 0},
		"filter":   {[]string{"--packets", "10", "-f", "udp src port 10007"}, "packets", 10},
		"snaplen":  {[]string{"--packets", "10", "--snaplen", "60"}, "packets", 10},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.pcap")
			cmd, stdout, stderr := inside(t, p, append([]string{"capture", "-i", "vethrx", "--no-upload", "--write", path, "--json"}, tc.args...)...)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			listening(t, p)
			if _, err := p.Send(t.Context(), traffic.Load{Size: 512, Rate: 10_000, Count: 7000, Flows: 256}); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Fatalf("%v\n%s", err, stderr)
			}
			var got captureResult
			if err := json.Unmarshal([]byte(stdout.String()), &got); err != nil {
				t.Fatalf("%v: %s", err, stdout)
			}
			if string(got.End) != tc.end || tc.packets > 0 && got.Packets != tc.packets || got.Packets == 0 {
				t.Errorf("%s", stdout)
			}
		})
	}
}

func TestCaptureWithoutTheRight(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("rights can be taken away by root only")
	}
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	for _, tc := range []struct {
		args []string
		code int
		text string
	}{
		{[]string{"capture", "-i", "lo", "--no-upload", "--write", filepath.Join(dir, "x.pcap")}, exitPermission, "sudo setcap cap_net_raw+ep"},
		{[]string{"interfaces"}, exitOK, "sudo setcap cap_net_raw+ep"},
	} {
		cmd := program(t.Context(), nil, tc.args...)
		cmd.Args = append([]string{"setpriv", "--bounding-set=-net_raw", cmd.Path}, tc.args...)
		cmd.Path, _ = exec.LookPath("setpriv")
		out, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != tc.code || !strings.Contains(string(out), tc.text) {
			t.Errorf("%s: exit %d\n%s", tc.args[0], code, out)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

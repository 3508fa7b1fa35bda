package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// program returns the command that runs capagent as a process of its own.
func program(ctx context.Context, env []string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(append(os.Environ(), asProgram+"=1"), env...)
	return cmd
}

type sandboxProcess struct {
	URL       string `json:"url"`
	Config    string `json:"config"`
	TokenFile string `json:"token_file"`
	Dir       string `json:"dir"`

	ThreatConnect sandboxThreatConnect `json:"threatconnect"`

	stop func()
}

// startSandbox runs `capagent sandbox` until the test ends.
func startSandbox(t *testing.T, args ...string) sandboxProcess {
	t.Helper()
	return startSandboxIn(t, t.TempDir(), append([]string{"--listen", "127.0.0.1:0"}, args...)...)
}

// startSandboxIn takes up the folder of a sandbox that was stopped.
func startSandboxIn(t *testing.T, dir string, args ...string) sandboxProcess {
	t.Helper()
	cmd := program(t.Context(), nil, append([]string{"sandbox", "--json", "--dir", dir}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	t.Cleanup(stop)
	s := sandboxProcess{stop: stop}
	if err := json.NewDecoder(out).Decode(&s); err != nil {
		t.Fatalf("sandbox: %v\n%s", err, &stderr)
	}
	return s
}

// makeCaptures makes n distinct captures in nested folders, some with names
// that nobody would choose.
func makeCaptures(dir string, n int) error {
	hostile := []string{"new\nline", "esc\x1b[31m", "bad\xff\xfeutf8", "-dash", "quo\"te", "  spaces  ", `back\slash`, "=1+1", strings.Repeat("x", 240)}
	for i := range n {
		folder := filepath.Join(dir, fmt.Sprintf("%02d", i%37), fmt.Sprintf("%d", i%5))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		name := fmt.Sprintf("%05d.pcap", i)
		if i%50 == 0 {
			name = fmt.Sprintf("%s%d.pcap", hostile[i/50%len(hostile)], i)
		}
		if err := os.WriteFile(filepath.Join(folder, name), smallCapture(i), 0o444); err != nil {
			return err
		}
	}
	return nil
}

// smallCapture is a pcap of a few packets that is different for each seed.
func smallCapture(seed int) []byte {
	b := []byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0}
	le := func(v uint32) { b = append(b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24)) }
	for p := range 1 + seed%7 {
		const size = 60
		le(uint32(1_760_000_000 - seed)) // later files hold earlier packets: the order is worth a test
		le(uint32(p))
		le(size)
		le(size)
		packet := make([]byte, size)
		copy(packet, fmt.Sprintf("\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02\x88\xb5 capture %d packet %d", seed, p))
		b = append(b, packet...)
	}
	return b
}

func countSessions(t *testing.T, dir string) int {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "captures", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

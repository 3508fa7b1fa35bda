//go:build linux

package faulttest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Sandbox is `capagent sandbox` as a process of its own, which no fault of the
// agent's side reaches. It keeps its address over restarts.
type Sandbox struct {
	URL       string `json:"url"`
	TokenFile string `json:"token_file"`
	Dir       string `json:"dir"`

	program string
	proc    *Process
	known   map[string]Session // by id; a session never changes
}

// Session is one session as the sandbox stored it.
type Session struct {
	ID       string    `json:"id"`
	Filename string    `json:"filename"`
	Size     int64     `json:"size"`
	SHA256   string    `json:"sha256"`
	Format   string    `json:"format"`
	Gzip     bool      `json:"gzip"`
	Created  time.Time `json:"created"`
	Comments string    `json:"comments"`

	Path string `json:"-"` // of the bytes
}

// StartSandbox runs the sandbox over dir with faults armed, see `capagent
// sandbox --faults`.
func StartSandbox(ctx context.Context, program, dir string, faults ...string) (*Sandbox, error) {
	s := &Sandbox{program: program, Dir: dir, known: map[string]Session{}}
	return s, s.start(ctx, "127.0.0.1:0", faults)
}

// Restart starts the sandbox again with other faults, at the same address.
func (s *Sandbox) Restart(ctx context.Context, faults ...string) error {
	s.Stop()
	var err error
	for range 50 { // the address may be taken for a moment
		if err = s.start(ctx, strings.TrimPrefix(s.URL, "http://"), faults); err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

func (s *Sandbox) start(ctx context.Context, address string, faults []string) error {
	args := []string{"--json", "--log-level", "info", "sandbox", "--dir", s.Dir, "--listen", address}
	for _, f := range faults {
		args = append(args, "--fault", f)
	}
	cmd := exec.CommandContext(ctx, s.program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if s.proc, err = Start(cmd); err != nil {
		return err
	}
	if err := json.NewDecoder(out).Decode(s); err != nil {
		s.proc.Kill()
		return fmt.Errorf("sandbox: %w: %s", err, s.proc.Ending())
	}
	return nil
}

// Stop kills the sandbox: what it acknowledged, it has.
func (s *Sandbox) Stop() {
	if s.proc != nil {
		s.proc.Kill()
	}
}

// Process is the sandbox's, whose log has a line for each request.
func (s *Sandbox) Process() *Process { return s.proc }

// Sessions returns the sessions there are.
func (s *Sandbox) Sessions() ([]Session, error) {
	dir := filepath.Join(s.Dir, "captures")
	names, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var list []Session
	for _, name := range names {
		id := strings.TrimSuffix(filepath.Base(name), ".json")
		known, ok := s.known[id]
		if !ok {
			if known, err = readSession(name); err != nil {
				return nil, err
			}
		}
		// The record comes first; the session exists with its bytes.
		if _, err := os.Stat(known.Path); err != nil {
			continue
		}
		s.known[id] = known
		list = append(list, known)
	}
	return list, nil
}

func readSession(name string) (Session, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return Session{}, err
	}
	var one Session
	if err := json.Unmarshal(data, &one); err != nil {
		return Session{}, fmt.Errorf("session %s: %w", name, err)
	}
	one.Path = strings.TrimSuffix(name, ".json") + "." + one.Format
	if one.Gzip {
		one.Path += ".gz"
	}
	return one, nil
}

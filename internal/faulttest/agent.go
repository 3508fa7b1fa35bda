//go:build linux

package faulttest

import (
	"bytes"
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

// Agent is a configuration of capagent and the places that it names.
type Agent struct {
	Program  string
	Dir      string // holds agent.toml
	StateDir string
	Watches  []Watch
	Settle   time.Duration
	Rescan   time.Duration // 0: the default
	Extra    string        // more lines for [cloudshark]
	Tail     string        // more tables
}

// Watch is one watched folder.
type Watch struct {
	Path  string
	After string // keep, move or delete
	To    string // where moved captures go
	Copy  bool   // send a copy; with keep only
}

// NewAgent writes the configuration of an agent that sends to the sandbox's URL.
func NewAgent(program, dir string, s *Sandbox, watches ...Watch) (*Agent, error) {
	a := &Agent{Program: program, Dir: dir, StateDir: filepath.Join(dir, "state"), Watches: watches, Settle: 50 * time.Millisecond}
	return a, a.Configure(s.URL, s.TokenFile)
}

// Configure writes agent.toml and makes the watched folders.
func (a *Agent) Configure(url, tokenFile string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "[agent]\nname = \"fault\"\nstate_dir = %q\n\n[log]\nlevel = \"info\"\nformat = \"json\"\n\n", a.StateDir)
	fmt.Fprintf(&b, "[cloudshark]\nurl = %q\ntoken_file = %q\n%s\n", url, tokenFile, a.Extra)
	for _, w := range a.Watches {
		if err := os.MkdirAll(w.Path, 0o700); err != nil {
			return err
		}
		fmt.Fprintf(&b, "[[watch]]\npath = %q\nrecursive = true\nsettle = %q\nafter = %q\n", w.Path, a.Settle, w.After)
		if w.Copy {
			b.WriteString("copy = true\n")
		}
		if a.Rescan > 0 {
			fmt.Fprintf(&b, "rescan = %q\n", a.Rescan)
		}
		if w.To != "" {
			fmt.Fprintf(&b, "move_to = %q\n", w.To)
		}
	}
	b.WriteString(a.Tail)
	if err := os.MkdirAll(a.Dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(a.Config(), []byte(b.String()), 0o600)
}

// Config is the path of agent.toml.
func (a *Agent) Config() string { return filepath.Join(a.Dir, "agent.toml") }

// Ledger is the path of the agent's database.
func (a *Agent) Ledger() string { return filepath.Join(a.StateDir, "ledger.db") }

// Command is capagent with this configuration. It dies with the test.
func (a *Agent) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, a.Program, append([]string{"--config", a.Config()}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Run starts the daemon.
func (a *Agent) Run(ctx context.Context) (*Process, error) { return Start(a.Command(ctx, "run")) }

// Status is what `capagent status --json` says.
type Status struct {
	Captures map[string]struct {
		Captures int64
		Bytes    int64
	} `json:"captures"`
	Agent *struct {
		State    string `json:"state"`
		Problems []struct {
			Class string `json:"class"`
			Text  string `json:"text"`
		} `json:"problems"`
	} `json:"agent"`
	Raw string `json:"-"`
}

// Has says whether the agent tells of a problem of this class.
func (s Status) Has(class string) bool {
	if s.Agent == nil {
		return false
	}
	for _, p := range s.Agent.Problems {
		if p.Class == class {
			return true
		}
	}
	return false
}

// Count is how many captures are in state.
func (s Status) Count(state string) int64 { return s.Captures[state].Captures }

// Rows is what `ls --json` says of every capture, for people who look for what
// went wrong.
func (a *Agent) Rows(ctx context.Context) string {
	out, err := a.Command(ctx, "ls", "--json").CombinedOutput()
	if err != nil {
		return fmt.Sprintf("%s%v", out, err)
	}
	return string(out)
}

// Status asks the agent how it is.
func (a *Agent) Status(ctx context.Context) (Status, error) {
	out, err := a.Command(ctx, "--json", "status").Output()
	if err != nil {
		return Status{}, fmt.Errorf("status: %w\n%s", err, stderrOf(err))
	}
	s := Status{Raw: string(out)}
	if err := json.Unmarshal(out, &s); err != nil {
		return s, fmt.Errorf("status: %w\n%s", err, out)
	}
	return s, nil
}

// Listed is one line of `capagent ls --json`.
type Listed struct {
	ID        int64   `json:"id"`
	Path      string  `json:"path"`
	State     string  `json:"state"`
	SHA256    string  `json:"sha256"`
	SessionID string  `json:"session_id"`
	Error     *string `json:"error"`
}

// List asks the agent for all captures that it knows.
func (a *Agent) List(ctx context.Context) ([]Listed, error) {
	out, err := a.Command(ctx, "--json", "ls").Output()
	if err != nil {
		return nil, fmt.Errorf("ls: %w\n%s", err, stderrOf(err))
	}
	var all []Listed
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var one Listed
		if err := dec.Decode(&one); err != nil {
			return nil, fmt.Errorf("ls: %w", err)
		}
		all = append(all, one)
	}
	return all, nil
}

// Verify has the agent check its own records. With loose, files may be gone or
// cut short: a power cut does that to what was not synced.
func (a *Agent) Verify(ctx context.Context, loose bool) error {
	out, err := a.Command(ctx, "verify").CombinedOutput()
	if err != nil && loose && bytes.Contains(out, []byte("ledger: whole")) && bytes.Contains(out, []byte("unbroken")) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("verify: %w\n%s", err, out)
	}
	return nil
}

func stderrOf(err error) string {
	if e, ok := err.(*exec.ExitError); ok { //nolint:errorlint // Output returns it as it is
		return string(e.Stderr)
	}
	return ""
}

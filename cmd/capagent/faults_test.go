//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"capagent/upload/cloudsharktest"
)

// outcome is what a user gets to see of one command.
type outcome struct {
	code           int
	stdout, stderr string
}

func runProgram(t *testing.T, env []string, args ...string) outcome {
	t.Helper()
	cmd := program(t.Context(), env, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// faultCase is a fault that strikes once, what the user is told then, and what
// is left to do for the capture to become exactly one session.
type faultCase struct {
	fault string
	code  int    // of the upload that meets it
	text  string // on stderr
	class string // in the ledger
	next  string // "retry", "retry ID" when the capture is parked, "" when the upload got through by itself
}

var faultCases = []faultCase{
	{"bad-token:times=1", exitPermission, "API Token is missing or invalid", "bad_token", "retry"},
	{"login:times=1", exitPermission, "login", "login_needed", "retry"},
	{"forbidden:times=1", exitPermission, "cannot execute API method", "no_permission", "retry"},
	{"quota:times=1", exitQueued, "quota", "quota", "retry"},
	{"redirect:times=1", exitUnavailable, "redirect", "redirect", "retry"},
	{"too-large:times=1", exitFailed, "too large", "too_large", "retry ID"},
	{"too-large:times=1,code=400", exitFailed, "too large", "too_large", "retry ID"},
	{"not-capture:times=1", exitFailed, "not", "not_capture", "retry ID"},
	{"busy:times=1,retry_after=3600", exitQueued, "busy", "busy", "retry"},
	{"error:times=1", 0, "", "", ""},
	{"busy:times=1,retry_after=0", 0, "", "", ""},
	{"html-200:times=1", 0, "", "", ""},
	{"truncated-json:times=1", 0, "", "", ""},
	{"bad-id:times=1", 0, "", "", ""},
	{"huge-reply:times=1", 0, "", "", ""},
	{"echo-token:times=1", -1, "", "", "retry"},
	{"reset-mid-body:times=1", 0, "", "", ""},
	{"accept-drop:times=1", 0, "", "", ""},
	{"accept-hang:times=1", 0, "", "", ""},
	{"hang:times=1", 0, "", "", ""},
	{"hang-early:times=1", 0, "", "", ""},
	{"slow-reply:times=1", 0, "", "", ""},
	{"slow:times=1", 0, "", "", ""},
	{"no-sha1", 0, "", "", ""},
}

// Whatever the server does, the user reads what happened, the file stays as it
// is, and in the end there is exactly one session.
func TestFaults(t *testing.T) {
	t.Parallel()
	met := map[string]bool{}
	for _, tc := range faultCases {
		name, _, _ := strings.Cut(tc.fault, ":")
		met[name] = true
		t.Run(tc.fault, func(t *testing.T) {
			t.Parallel()
			meetFault(t, tc)
		})
	}
	for _, f := range cloudsharktest.FaultNames() {
		if !met[f.Name] && f.Name != "status" { // status is what all others are made of
			t.Errorf("no case for the fault %q", f.Name)
		}
	}
}

func meetFault(t *testing.T, tc faultCase) {
	s := startSandbox(t, "--fault", tc.fault)
	file := filepath.Join(t.TempDir(), "evidence.pcap")
	content := smallCapture(1)
	if err := os.WriteFile(file, content, 0o444); err != nil {
		t.Fatal(err)
	}
	token, err := os.ReadFile(s.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"CAPAGENT_CLOUDSHARK_TIMEOUT=1s"}
	all := ""
	run := func(args ...string) outcome {
		o := runProgram(t, env, append([]string{"--config", s.Config}, args...)...)
		all += o.stdout + o.stderr
		return o
	}
	first := run("upload", file)
	if tc.code >= 0 && first.code != tc.code || !strings.Contains(strings.ToLower(first.stderr), strings.ToLower(tc.text)) {
		t.Errorf("exit code %d, want %d; stderr, want %q:\n%s", first.code, tc.code, tc.text, first.stderr)
	}
	if tc.class != "" {
		var shown struct {
			State string `json:"state"`
			Steps []struct{ Name, Class string }
		}
		if err := json.Unmarshal([]byte(run("--json", "show", "1").stdout), &shown); err != nil {
			t.Fatal(err)
		}
		if last := shown.Steps[len(shown.Steps)-1]; last.Class != tc.class {
			t.Errorf("class %q in state %s, want %q", last.Class, shown.State, tc.class)
		}
		if _, hint, ok := strings.Cut(first.stderr, "hint: "); !ok || strings.TrimSpace(hint) == "" {
			t.Errorf("no hint:\n%s", first.stderr)
		}
	}
	switch tc.next {
	case "retry":
		if o := run("retry"); first.code != 0 && (o.code != 0 || !strings.Contains(o.stdout, "/captures/")) {
			t.Errorf("retry: exit code %d\n%s%s", o.code, o.stdout, o.stderr)
		}
	case "retry ID":
		if o := run("retry", "1"); o.code != 0 || !strings.Contains(o.stdout, "/captures/") {
			t.Errorf("retry 1: exit code %d\n%s%s", o.code, o.stdout, o.stderr)
		}
	default:
		if !strings.Contains(first.stdout, "/captures/") {
			t.Errorf("no link: %s%s", first.stdout, first.stderr)
		}
	}
	if n := countSessions(t, s.Dir); n != 1 {
		t.Errorf("%d sessions", n)
	}
	if now, err := os.ReadFile(file); err != nil || !bytes.Equal(now, content) {
		t.Errorf("the file changed: %v", err)
	}
	if strings.Contains(strings.ToLower(all), strings.TrimSpace(string(token))) {
		t.Errorf("the token was printed:\n%s", all)
	}
}

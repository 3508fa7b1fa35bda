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
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// canary is the token of every sandbox in the scripts. It must not be found in
// anything that they produce, but in the file that holds it.
const canary = "c0ffee00deadbeefc0ffee00deadbeef"

// TestScripts runs testdata/script/*.txtar: what a user types and sees.
func TestScripts(t *testing.T) {
	examples, err := filepath.Abs("../../examples/captures")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("EXAMPLES", examples)
			e.Setenv("GORACE", os.Getenv("GORACE"))
			e.Setenv("HOME", filepath.Join(e.WorkDir, "home"))
			e.Setenv("CAPAGENT_AGENT_STATE_DIR", filepath.Join(e.WorkDir, "state"))
			e.Setenv(record, filepath.Join(e.WorkDir, "record"))
			e.Defer(func() { findCanary(t, e.WorkDir) })
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"sandbox":  scriptSandbox,
			"sessions": scriptSessions,
			"jsonkeys": scriptJSONKeys,
			"mkcaps":   scriptMakeCaptures,
			"sight":    scriptSight,
			"remember": scriptRemember,
		},
		Condition: func(cond string) (bool, error) {
			if name, ok := strings.CutPrefix(cond, "need:"); ok {
				_, err := exec.LookPath(name)
				if err != nil && os.Getenv("CI") != "" {
					return false, fmt.Errorf("%s must be installed in CI", name)
				}
				return err == nil, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		RequireExplicitExec: true,
	})
}

// findCanary looks for the token in every file that a script left behind: all
// that was said, arguments, ledger with its log, sandbox, manifests.
func findCanary(t *testing.T, dir string) {
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.HasSuffix(path, "token") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		if bytes.Contains(bytes.ToLower(text), []byte(canary)) {
			t.Errorf("the token stands in %s", path)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// sandbox [ARGS...] starts `capagent sandbox` for the rest of the script and
// points the configuration at it. Its captures are in $SANDBOX/captures.
func scriptSandbox(ts *testscript.TestScript, neg bool, args []string) {
	dir := ts.MkAbs("sandbox")
	ts.Check(os.MkdirAll(dir, 0o700))
	token := filepath.Join(dir, "token")
	ts.Check(os.WriteFile(token, []byte(canary+"\n"), 0o600))
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, os.Args[0], append([]string{"sandbox", "--json", "--listen", "127.0.0.1:0", "--dir", dir}, args...)...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	ts.Check(cmd.Start())
	ts.Defer(func() { cancel(); _ = cmd.Wait() })
	var ready sandboxReady
	if err := json.NewDecoder(out).Decode(&ready); err != nil {
		ts.Fatalf("sandbox: %v\n%s", err, &stderr)
	}
	ts.Setenv("SANDBOX", dir)
	ts.Setenv("URL", ready.URL)
	ts.Setenv("CAPAGENT_CLOUDSHARK_URL", ready.URL)
	ts.Setenv("CAPAGENT_CLOUDSHARK_TOKEN_FILE", token)
}

// sessions N wants N sessions in the sandbox.
func scriptSessions(ts *testscript.TestScript, neg bool, args []string) {
	found, err := filepath.Glob(filepath.Join(ts.Getenv("SANDBOX"), "captures", "*.json"))
	ts.Check(err)
	if got := fmt.Sprint(len(found)); got != args[0] {
		ts.Fatalf("%s sessions, want %s", got, args[0])
	}
}

// jsonkeys FILE KEY... wants every line of FILE to be an object with the keys.
func scriptJSONKeys(ts *testscript.TestScript, neg bool, args []string) {
	lines := strings.Split(strings.TrimSpace(ts.ReadFile(args[0])), "\n")
	for _, line := range lines {
		var object map[string]json.RawMessage
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			ts.Fatalf("%v: %s", err, line)
		}
		for _, key := range args[1:] {
			if _, ok := object[key]; !ok {
				ts.Fatalf("no %q in %s", key, line)
			}
		}
	}
}

// mkcaps DIR N makes N small captures, some with hostile names.
func scriptMakeCaptures(ts *testscript.TestScript, neg bool, args []string) {
	var n int
	if _, err := fmt.Sscan(args[1], &n); err != nil {
		ts.Fatalf("mkcaps: %v", err)
	}
	ts.Check(makeCaptures(ts.MkAbs(args[0]), n))
}

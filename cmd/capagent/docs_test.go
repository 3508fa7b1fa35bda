//go:build unix

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// docFiles are the pages whose commands are run.
var docFiles = []string{"README.md", "docs/cado.md", "docs/capture.md", "docs/cloudshare.md", "docs/cloudtrax.md", "docs/commands.md", "docs/configuration.md", "docs/daemon.md", "docs/doctor.md", "docs/find.md", "docs/import.md", "docs/indicators.md", "docs/recorder.md", "docs/sandbox.md", "docs/threatconnect.md"}

// notHere are commands that other tests run, or that only a person can.
var notHere = regexp.MustCompile(`^(make (demo|test)\b|capagent sandbox (--dir|$))`)

var shBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// TestCommandsInTheDocs runs every line of every sh block of the docs, in order,
// in a folder that has what they speak of, against a sandbox. Each must succeed.
func TestCommandsInTheDocs(t *testing.T) {
	t.Parallel()
	for _, file := range docFiles {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join("..", "..", file))
			if err != nil {
				t.Fatal(err)
			}
			var lines []string
			for _, block := range shBlock.FindAllSubmatch(text, -1) {
				for line := range strings.Lines(string(block[1])) {
					line, _, _ = strings.Cut(line, "   #")
					lines = append(lines, strings.TrimSpace(line))
				}
			}
			runLines(t, lines, platformPages[filepath.Base(file)])
		})
	}
}

// platformPages speak of what the sandbox's whole configuration has.
var platformPages = map[string]bool{"cado.md": true, "cloudshare.md": true, "cloudtrax.md": true}

func runLines(t *testing.T, lines []string, platforms bool) {
	dir, env := docsFolder(t)
	if platforms {
		env = append(env, "CAPAGENT_CONFIG="+filepath.Join(dir, "sandbox", "agent.toml"))
	}
	ran := 0
	for _, line := range lines {
		if line == "" || notHere.MatchString(line) {
			continue
		}
		if strings.HasPrefix(line, "export ") {
			continue // the sandbox's address and token are set in their place
		}
		ran++
		if background, ok := strings.CutSuffix(line, "&"); ok {
			startAgentLine(t, dir, env, background)
			continue
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-c", line)
		cmd.Dir, cmd.Env = dir, env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s\n%v\n%s", line, err, out)
		}
	}
	if ran == 0 {
		t.Error("the page shows no command")
	}
}

// startAgentLine runs a line that starts the agent, and waits until it answers.
func startAgentLine(t *testing.T, dir string, env []string, line string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "exec "+line)
	cmd.Dir, cmd.Env = dir, env
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	deadline := time.Now().Add(patience)
	for {
		status := exec.CommandContext(t.Context(), "sh", "-c", "capagent status --json")
		status.Dir, status.Env = dir, env
		out, err := status.Output()
		if err == nil && bytes.Contains(out, []byte(`"agent":{`)) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: no agent answers: %v\n%s", line, err, out)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// docsFolder has captures, a tree of evidence, keys, a sandbox, and programs
// called capagent, tcpdump (which captures nothing, but writes a capture) and jq.
func docsFolder(t *testing.T) (dir string, env []string) {
	t.Helper()
	dir = t.TempDir()
	s := startSandboxIn(t, filepath.Join(dir, "sandbox"), "--listen", "127.0.0.1:0")
	bin := filepath.Join(dir, "bin")
	examples, err := filepath.Abs("../../examples/captures")
	if err != nil {
		t.Fatal(err)
	}
	copyFile := func(from, to string) {
		text, err := os.ReadFile(filepath.Join(examples, from))
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, to), text, 0o600)
	}
	copyFile("incident.pcapng", "trace.pcapng")
	for _, name := range []string{"dns.pcap", "web.pcap", "branch-office/copy-of-web.pcap", "yesterday.pcap.gz", "empty.pcap"} {
		copyFile(name, filepath.Join("evidence", name))
	}
	// The pages of one command speak of captures that another page made.
	copyFile("web.pcap", "web.pcap")
	keys := "CLIENT_RANDOM " + strings.Repeat("00", 32) + " " + strings.Repeat("11", 48) + "\n"
	writeFile(t, filepath.Join(dir, "tls-keys.log"), []byte(keys), 0o600)
	// Not every machine has an interface called eth0, and something to capture.
	noise := "{ [ \"$1\" != capture ] || for i in {1..30}; do echo > /dev/udp/127.0.0.1/53; : <> /dev/tcp/127.0.0.1/443; sleep 0.1; done; } >/dev/null 2>&1 &\n"
	writeFile(t, filepath.Join(bin, "curl"), []byte("#!/bin/sh\nexec sleep 0.5\n"), 0o700)
	writeFile(t, filepath.Join(bin, "capagent"), []byte("#!/bin/bash\n"+noise+"set -- \"${@/#eth0/lo}\"\n"+asProgram+"=1 exec "+os.Args[0]+` "$@"`+"\n"), 0o700)
	writeFile(t, filepath.Join(bin, "tcpdump"), []byte("#!/bin/sh\nexec cat '"+examples+"/vlan.pcap'\n"), 0o700)
	if _, err := exec.LookPath("jq"); err != nil {
		writeFile(t, filepath.Join(bin, "jq"), []byte("#!/bin/sh\nexec grep -q session_url\n"), 0o700)
	}
	env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "HOME="+dir, "CAPAGENT_AGENT_STATE_DIR="+filepath.Join(dir, "state"),
		"CAPAGENT_CLOUDSHARK_URL="+s.URL, "CAPAGENT_CLOUDSHARK_TOKEN_FILE="+s.TokenFile,
		"CAPAGENT_THREATCONNECT_URL="+s.ThreatConnect.URL, "CAPAGENT_THREATCONNECT_ACCESS_ID="+s.ThreatConnect.AccessID,
		"CAPAGENT_THREATCONNECT_SECRET_KEY_FILE="+s.ThreatConnect.SecretFile)
	// What was there before the page begins: capture 1.
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "capagent"), "upload", "web.pcap")
	cmd.Dir, cmd.Env = dir, env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	return dir, env
}

func writeFile(t *testing.T, path string, text []byte, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, mode); err != nil {
		t.Fatal(err)
	}
}

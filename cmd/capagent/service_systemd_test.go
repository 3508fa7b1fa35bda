package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capagent/capture/watch"
	"capagent/internal/config"
	"capagent/service"
)

func TestTheUnitSaysWhatTheAgentNeeds(t *testing.T) {
	t.Parallel()
	text, err := unitText("/opt/cap agent/capagent", []string{"--config", "/etc/100%.toml", "run"}, []string{"/srv/pcap", "/home/me/my pcaps"})
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"Type=notify", "User=capagent", "StateDirectory=capagent", "AmbientCapabilities=CAP_NET_RAW", "CapabilityBoundingSet=CAP_NET_RAW",
		"NoNewPrivileges=yes", "RestartPreventExitStatus=77 78", "WantedBy=multi-user.target",
		`ExecStart="/opt/cap agent/capagent" --config /etc/100%%.toml run`,
		`ExecReload="/opt/cap agent/capagent" --config /etc/100%%.toml reload`,
		"ReadWritePaths=-/srv/pcap", `ReadWritePaths="-/home/me/my pcaps"`, "ProtectHome=read-only",
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %s in:\n%s", line, text)
		}
	}
	if strings.Contains(text, "%!") {
		t.Errorf("a verb has no value:\n%s", text)
	}
	plain, err := unitText("/usr/local/bin/capagent", []string{"run"}, nil)
	if err != nil || !strings.Contains(plain, "ProtectHome=yes\n") || strings.Contains(plain, "ReadWritePaths") {
		t.Errorf("%v\n%s", err, plain)
	}
}

// A service that the command installs is bound as one that the package brings.
func TestTheUnitIsThePackages(t *testing.T) {
	t.Parallel()
	packaged, err := os.ReadFile("../../packaging/systemd/capagent.service")
	if err != nil {
		t.Fatal(err)
	}
	want := regexp.MustCompile(`(?m)^Documentation=.*\n`).ReplaceAllString(string(packaged), "") // what the package brings besides
	got, err := unitText("/usr/bin/capagent", []string{"run"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(want, "\n"), strings.Split(got, "\n")); diff != "" {
		t.Error(diff)
	}
}

// A path must neither end a line of the unit nor mean something to who renders it.
func TestWhatCanNotStandInAUnitIsRefused(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"", "/opt/a\nUser=root", "/opt/{{Path}}", "/opt/\x1b"} {
		if text, err := unitText(path, []string{"run"}, nil); err == nil {
			t.Errorf("%q: %s", path, text)
		}
	}
	for in, want := range map[string]string{
		"/a": "/a", "/a b": `"/a b"`, `/a"b`: `"/a\"b"`, `/a\b`: `"/a\\b"`, "/$HOME": "/$$HOME", "/%h": "/%%h",
	} {
		if got, err := unitWord(in); err != nil || got != want {
			t.Errorf("%q: %s, %v; want %s", in, got, err, want)
		}
	}
}

func TestWhatTheUnitMayWrite(t *testing.T) {
	t.Parallel()
	cfg := service.Config{Loaded: &config.Loaded{}, Agent: service.AgentConfig{StateDir: "/srv/state"}, Watch: []watch.Config{
		{Path: "/a", After: watch.AfterKeep}, {Path: "/b", After: watch.AfterDelete}, {Path: "/c", After: watch.AfterMove, MoveTo: "/d"},
	}}
	if got := strings.Join(writes(cfg), " "); got != "/b /c /d /srv/state" {
		t.Errorf("got %s", got)
	}
	cfg.Agent.StateDir, cfg.Watch = "/var/lib/capagent", nil
	if got := writes(cfg); len(got) != 0 {
		t.Errorf("got %s", got)
	}
}

func TestAUnitIsNotInstalledTwice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if at := installedUnit([]string{dir}); at != "" {
		t.Errorf("found %s", at)
	}
	// A unit that is masked, a link to nowhere, is there, too.
	if err := os.Symlink("/nowhere", filepath.Join(dir, "capagent.service")); err != nil {
		t.Skip(err)
	}
	if at := installedUnit([]string{t.TempDir(), dir}); at != filepath.Join(dir, "capagent.service") {
		t.Errorf("found %q", at)
	}
}

// systemd itself reads the unit, in a tree of its own.
func TestSystemdUnderstandsTheUnit(t *testing.T) {
	t.Parallel()
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "my capagent")
	writeUnit(t, program, "#!/bin/sh\n", 0o755)
	text, err := unitText(program, []string{"--config", filepath.Join(dir, "a b%.toml"), "run"}, []string{dir, "/srv/my pcaps"})
	if err != nil {
		t.Fatal(err)
	}
	unit := filepath.Join(dir, "capagent.service")
	writeUnit(t, unit, text, 0o644)
	out, err := exec.CommandContext(t.Context(), analyze, "verify", "--recursive-errors=no", unit).CombinedOutput()
	if err != nil || strings.Contains(string(out), "capagent.service") {
		t.Errorf("verify: %v\n%s", err, out)
	}
	out, err = exec.CommandContext(t.Context(), analyze, "security", "--offline=true", "--threshold=16", "--no-pager", unit).CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil {
		t.Errorf("security: %v: %s", err, lines[len(lines)-1])
	}
	t.Log(lines[len(lines)-1])
}

func writeUnit(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

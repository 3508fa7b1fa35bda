package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"capagent/internal/secret"
)

// prepared runs `service prepare` with a %ProgramData% of its own.
func prepared(t *testing.T, g given) (text string, told []string, err error) {
	t.Helper()
	a := &app{stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}, redactor: secret.NewRedactor()}
	err = a.prepare(t.Context(), g, func(_ bool, text string) { told = append(told, text) })
	data, _ := os.ReadFile(filepath.Join(programData(), "agent.toml"))
	return string(data), told, err
}

func TestOnWindowsAnInstallationIsConfiguredByItsProperties(t *testing.T) {
	root := t.TempDir()
	t.Setenv("ProgramData", root)
	tokenFile, inbox := filepath.Join(root, "token"), filepath.Join(root, "in")
	if err := os.WriteFile(tokenFile, []byte(canary+"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	g := given{url: "https://cloudshark.example ", tokenFile: tokenFile + " ", watch: inbox + `\ `}
	text, _, err := prepared(t, g)
	if err != nil || strings.Contains(text, canary) {
		t.Fatalf("%v\n%s", err, text)
	}
	a := &app{stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}, redactor: secret.NewRedactor(), configPath: filepath.Join(programData(), "agent.toml")}
	cfg, err := a.fullConfig(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if cfg.CloudShark.Token.Reveal() != canary || cfg.CloudShark.URL != "https://cloudshark.example" || len(cfg.Watch) != 1 || cfg.StateDir() != filepath.Join(programData(), "state") {
		t.Errorf("%+v", cfg.CloudShark)
	}
	if _, err := os.Stat(inbox); err != nil {
		t.Error(err)
	}

	// An upgrade with other properties: what is there stays, and that is told.
	g.url = "https://other.example"
	again, told, err := prepared(t, g)
	if err != nil || again != text || !strings.Contains(strings.Join(told, "\n"), "stays as it is") {
		t.Errorf("%v, %q\n%s", err, told, again)
	}
}

func TestOnWindowsAWrongPropertyLeavesNothing(t *testing.T) {
	for _, g := range []given{
		{url: "ftp://cloudshark.example"}, {url: "https://a'b"}, {tokenFile: `C:\not\there`}, {watch: "C:\\a\"b"},
	} {
		t.Setenv("ProgramData", t.TempDir())
		if text, _, err := prepared(t, g); err == nil || text != "" {
			t.Errorf("%+v: %v\n%s", g, err, text)
		}
		if left, _ := filepath.Glob(filepath.Join(programData(), "*.new")); len(left) > 0 {
			t.Errorf("%+v: %q", g, left)
		}
	}
}

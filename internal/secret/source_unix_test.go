//go:build unix

package secret

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func TestFIFOIsRefusedWithoutWaiting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Resolve(t.Context(), Source{Key: "x", File: path}); err == nil || !strings.Contains(err.Error(), "regular") {
		t.Errorf("got %v", err)
	}
}

// The oracle is the shell itself, over words without the characters that it
// expands.
func TestWordsMatchTheShells(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		line := "a" + rapid.StringMatching(`[ab \\'"]{0,12}`).Draw(t, "line")
		got, err := splitWords(line, true)
		if err != nil {
			t.Skip("the shell would ask for more")
		}
		out, err := exec.Command(sh, "-c", `printf '%s\n' `+line).Output()
		if err != nil {
			t.Fatal(err)
		}
		if want := string(out); want != strings.Join(got, "\n")+"\n" {
			t.Errorf("splitWords(%q) = %q; the shell has %q", line, got, want)
		}
	})
}

func TestProgramOfTheWorkingDirectoryIsNotRunByItsBareName(t *testing.T) {
	t.Chdir(filepath.Dir(write(t, canary, "#!/bin/sh\necho x\n", 0o755)))
	t.Setenv("PATH", ".")
	_, err := Resolve(t.Context(), Source{Key: "x", Command: canary})
	if err == nil || !strings.Contains(err.Error(), "relative to current directory") || leaks(err.Error()) {
		t.Errorf("got %v", err)
	}
}

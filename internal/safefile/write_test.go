package safefile_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"capagent/internal/safefile"
)

func TestWriteReplacesTheWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.json")
	for _, text := range []string{"a long first content", "short", ""} {
		if err := safefile.Write(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%q %v", got, err)
		}
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Error(list)
	}
	if err := safefile.Write(filepath.Join(dir, "none", "x"), nil); err == nil {
		t.Error("written into nothing")
	}
}

func TestWriteModeLetsOthersRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.prom")
	if err := safefile.WriteMode(path, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o644 {
		t.Error(info, err)
	}
}

func TestWriteFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	other, path := filepath.Join(dir, "other"), filepath.Join(dir, "state.json")
	if err := os.WriteFile(other, []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, path); err != nil {
		t.Skip(err)
	}
	if err := safefile.Write(path, []byte("new")); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(other); string(got) != "other" {
		t.Errorf("%q", got)
	}
	// Where a directory is in the way, nothing stays behind.
	in := filepath.Join(dir, "in")
	if err := os.MkdirAll(filepath.Join(in, "way", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := safefile.Write(filepath.Join(in, "way"), nil); err == nil {
		t.Error("a directory is replaced")
	}
	if list, _ := os.ReadDir(in); len(list) != 1 {
		t.Error(list)
	}
}

package disk_test

import (
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"capagent/internal/disk"
)

func TestFree(t *testing.T) {
	free, total, inodes, err := disk.Free(t.TempDir())
	if err != nil || free == 0 || total < free || inodes == 0 {
		t.Errorf("free %d of %d bytes, %d inodes, %v", free, total, inodes, err)
	}
	missing := filepath.Join(t.TempDir(), "missing")
	if _, _, _, err := disk.Free(missing); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("of a missing directory: %v", err)
	}
}

func TestBallast(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ballast")
	b := disk.NewBallast(path, 1<<20)

	if released, err := b.Release(); released || err != nil {
		t.Errorf("released what was never there: %v, %v", released, err)
	}
	if held, err := b.Restore(math.MaxUint64); held || err != nil {
		t.Errorf("restored without room: %v, %v", held, err)
	}
	for range 2 { // doing it again changes nothing
		if held, err := b.Restore(0); !held || err != nil {
			t.Fatalf("not restored: %v, %v", held, err)
		}
	}
	info, err := os.Lstat(path)
	if err != nil || info.Size() != 1<<20 || runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		t.Errorf("the file is %v, %v", info, err)
	}
	if held, err := b.Restore(math.MaxUint64); !held || err != nil {
		t.Errorf("what is there needs no room: %v, %v", held, err)
	}

	// The rest of one that a crash cut short is made whole.
	if err := os.Truncate(path, 10); err != nil {
		t.Fatal(err)
	}
	if held, err := b.Restore(0); !held || err != nil {
		t.Errorf("not made whole: %v, %v", held, err)
	}
	if info, err := os.Lstat(path); err != nil || info.Size() != 1<<20 {
		t.Errorf("made whole: %v, %v", info, err)
	}
	if released, err := b.Release(); !released || err != nil {
		t.Errorf("not released: %v, %v", released, err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("the file is still there: %v", err)
	}
}

// What lies in the ballast's place is not followed.
func TestBallastFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	precious, path := filepath.Join(dir, "precious"), filepath.Join(dir, "ballast")
	if err := os.WriteFile(precious, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(precious, path); err != nil {
		t.Skip(err)
	}
	if held, err := disk.NewBallast(path, 1<<20).Restore(0); !held || err != nil {
		t.Errorf("not restored: %v, %v", held, err)
	}
	if content, err := os.ReadFile(precious); err != nil || string(content) != "precious" {
		t.Errorf("the link's target holds %d bytes, %v", len(content), err)
	}
}

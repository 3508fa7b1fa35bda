package disk_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"capagent/internal/disk"
)

// tmpfs mounts a small file system.
func tmpfs(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); errors.Is(err, syscall.EPERM) {
		t.Skip("needs root to mount")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func TestBallastOnAFullDisk(t *testing.T) {
	dir := tmpfs(t, "size=16m")
	b := disk.NewBallast(filepath.Join(dir, "ballast"), 0)
	if held, err := b.Restore(0); !held || err != nil {
		t.Fatalf("not restored: %v, %v", held, err)
	}
	if free, total, _, err := disk.Free(dir); total != 16<<20 || free > 8<<20 || err != nil {
		t.Errorf("with the ballast %d of %d bytes are free, %v", free, total, err)
	}
	full := filepath.Join(dir, "full")
	if err := os.WriteFile(full, make([]byte, 16<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	record := filepath.Join(dir, "record")
	if err := os.WriteFile(record, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("written to a full disk: %v", err)
	}
	if released, err := b.Release(); !released || err != nil {
		t.Fatalf("not released: %v, %v", released, err)
	}
	if err := os.WriteFile(record, make([]byte, 1<<20), 0o600); err != nil {
		t.Errorf("behind the release: %v", err)
	}
	if held, err := b.Restore(0); held || err != nil {
		t.Errorf("restored while the disk is full: %v, %v", held, err)
	}
	if err := os.Remove(full); err != nil {
		t.Fatal(err)
	}
	if held, err := b.Restore(8 << 20); held || err != nil {
		t.Errorf("restored with 15 MiB free, of which 8 MiB must stay: %v, %v", held, err)
	}
	if held, err := b.Restore(4 << 20); !held || err != nil {
		t.Errorf("not restored with 15 MiB free, of which 4 MiB must stay: %v, %v", held, err)
	}
}

func TestBallastThatDoesNotFitIsNotThere(t *testing.T) {
	dir := tmpfs(t, "size=16m,nr_inodes=3")
	for i := range 2 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, inodes, err := disk.Free(dir); inodes != 0 || err != nil {
		t.Errorf("%d inodes are free, %v", inodes, err)
	}
	path := filepath.Join(dir, "ballast")
	if held, err := disk.NewBallast(path, 0).Restore(0); held || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("restored without an inode: %v, %v", held, err)
	}
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("something stayed: %v", err)
	}
}

// The room is really taken, not only promised: blocks stand behind every byte.
func TestBallastHasBlocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ballast")
	if held, err := disk.NewBallast(path, 1<<20).Restore(0); !held || err != nil {
		t.Fatalf("not restored: %v, %v", held, err)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(path, &st); err != nil || st.Blocks*512 < 1<<20 {
		t.Errorf("%d bytes of blocks, %v", st.Blocks*512, err)
	}
}

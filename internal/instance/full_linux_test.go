package instance_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"capagent/internal/instance"
)

// An agent on a full disk is the one that can make room: it must start, and must
// still tell a crash from an end.
func TestAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); errors.Is(err, syscall.EPERM) {
		t.Skip("needs root to mount")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	release(t, lock(t, dir))
	if err := os.WriteFile(filepath.Join(dir, "full"), make([]byte, 64<<10), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	running := lock(t, dir)
	said, err := os.ReadFile(filepath.Join(dir, "agent.lock"))
	if err != nil || len(said) == 0 || said[0] == ' ' {
		t.Errorf("the lock file says %q, %v", said, err)
	}
	release(t, running)
	fresh := filepath.Join(dir, "fresh")
	if err := os.Mkdir(fresh, 0o700); err != nil {
		t.Fatal(err)
	}
	i, err := instance.Lock(fresh, start)
	if err != nil {
		t.Fatalf("on a directory that was never locked: %v", err)
	}
	_ = i.Release() // says that nothing could be written, and gives the lock back
	_ = lock(t, fresh).Release()
}

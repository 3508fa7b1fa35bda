//go:build linux

package faulttest

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestBadFSFailsAndKeepsQuiet(t *testing.T) {
	if err := CanMount(); err != nil {
		t.Skip(err)
	}
	b, err := NewBadFS(t.TempDir())
	check(t, err)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	notify, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	check(t, err)
	defer unix.Close(notify)
	_, err = unix.InotifyAddWatch(notify, b.Mount, unix.IN_ALL_EVENTS)
	check(t, err)
	check(t, os.WriteFile(filepath.Join(b.Behind, "a"), []byte("content"), 0o600))
	if n, err := unix.Read(notify, make([]byte, 4096)); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("an event of %d bytes (%v): this is no network file system", n, err)
	}
	name := filepath.Join(b.Mount, "a")
	if data, err := os.ReadFile(name); err != nil || string(data) != "content" {
		t.Errorf("%q %v", data, err)
	}
	b.FailReads(syscall.EIO)
	if _, err := os.ReadFile(name); !errors.Is(err, syscall.EIO) {
		t.Errorf("read: %v", err)
	}
	b.FailReads(0)
	if _, err := os.ReadFile(name); err != nil {
		t.Errorf("read: %v", err)
	}
	b.FailFsyncs(syscall.EIO)
	f, err := os.Create(filepath.Join(b.Mount, "b"))
	check(t, err)
	defer f.Close()
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("fsync: %v", err)
	}
}

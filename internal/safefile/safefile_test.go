//go:build unix

package safefile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestOpenRefusesWhatIsNotAFile(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	fifo := filepath.Join(dir, "fifo")
	for _, err := range []error{os.Symlink(plain, link), unix.Mkfifo(fifo, 0o600)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{link, fifo, dir, "/dev/null"} {
		f, _, err := Open(path)
		if !errors.Is(err, ErrNotRegular) {
			t.Errorf("Open(%s) = %v, %v; want ErrNotRegular", path, f, err)
		}
	}
	f, info, err := Open(plain)
	if err != nil || info.Size() != 1 {
		t.Fatalf("Open(plain) = %v, %v", info, err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOpenLeavesTheAccessTime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "evidence")
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	f, _, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	if noatime != 0 && int64(st.Atim.Sec) != old.Unix() { //nolint:unconvert // int32 on 32 bits
		t.Errorf("access time became %d", st.Atim.Sec)
	}
}

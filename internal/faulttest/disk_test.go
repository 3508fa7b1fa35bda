//go:build linux

package faulttest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A cut loses what was not synced, and nothing else.
func TestCutLosesWhatIsNotSynced(t *testing.T) {
	for _, c := range []struct{ kind, options string }{{"ext4", "commit=1000"}, {"xfs", ""}} {
		t.Run(c.kind, func(t *testing.T) {
			if err := CanMount(c.kind); err != nil {
				t.Skip(err)
			}
			dir := t.TempDir()
			d, err := NewDisk(filepath.Join(dir, "image"), filepath.Join(dir, "mount"), c.kind, c.options)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			})
			synced, lost := filepath.Join(d.Mount, "synced"), filepath.Join(d.Mount, "lost")
			f, err := os.Create(synced)
			check(t, err)
			_, err = f.WriteString("all of it")
			check(t, err)
			check(t, f.Sync())
			check(t, f.Close())
			check(t, SyncDir(d.Mount))
			check(t, os.WriteFile(lost, []byte("none of it"), 0o600))
			start := time.Now()
			check(t, d.Cut())
			check(t, Disks{d}.Restore())
			t.Logf("cut and back in %v", time.Since(start))
			if b, err := os.ReadFile(synced); err != nil || string(b) != "all of it" {
				t.Errorf("synced: %q %v", b, err)
			}
			if _, err := os.Stat(lost); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("what was not synced is there (%v): the cut cuts nothing", err)
			}
		})
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

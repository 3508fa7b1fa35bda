package confine

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"testing/synctest"
)

// A file server that is away must keep nobody from starting.
func TestADirectoryThatDoesNotAnswerIsNamed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		how := func(dir string) string {
			if dir == "/mnt/nfs" {
				<-answer
			}
			return dir
		}
		if at, silent := resolve([]string{"/a", "/mnt/nfs", "/b"}, how); silent != "/mnt/nfs" || at != nil {
			t.Errorf("%q, %q", at, silent)
		}
		close(answer)
		if at, silent := resolve([]string{"/a", "/mnt/nfs"}, how); silent != "" || len(at) != 2 {
			t.Errorf("%q, %q", at, silent)
		}
	})
}

func TestWhereSomethingIsMountedTheDirectoryAboveCounts(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("nothing is confined there, and links are other things")
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "far", "nfs"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "far", "nfs"), filepath.Join(dir, "link")); err != nil {
		t.Skip(err)
	}
	for path, want := range map[string]string{
		"far/nfs": "far", "link": "far", "far/missing": "far", "far/missing/below": "far", "missing": ".",
	} {
		if got := above(filepath.Join(dir, path)); got != filepath.Join(dir, want) {
			t.Errorf("%s: %s", path, got)
		}
	}
}

func TestWhatIsCovered(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s := State{Landlock: 3, Writable: []string{dir}}
	for path, want := range map[string]bool{
		dir: true, filepath.Join(dir, "below", "it"): true, dir + "-beside": false, filepath.Dir(dir): false,
	} {
		if s.Covers(path) != want {
			t.Errorf("%s: %v", path, !want)
		}
	}
	if !(State{}).Covers("/anything") {
		t.Error("without Landlock something is not covered")
	}
}

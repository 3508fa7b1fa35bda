package watch

import (
	"os"
	"path/filepath"
	"testing"
)

func mustAll(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A scan can meet a moved folder before the event of moving it is read.
func TestMovedFolderIsReportedUnderItsNewName(t *testing.T) {
	dir := t.TempDir()
	e, err := openEvents()
	mustAll(t, err)
	defer e.close()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	for range 50 {
		file := filepath.Join(to, "folder")
		mustAll(t, os.Mkdir(from, 0o700), e.add(from), os.Rename(from, to), e.add(to), os.Mkdir(file, 0o700))
		for seen := false; !seen; {
			for _, got := range <-e.C {
				seen = seen || got == event{file, made}
			}
		}
		e.drop(to, false)
		mustAll(t, os.RemoveAll(to))
	}
}

func TestFoldersThatAreNotMetAreLetGo(t *testing.T) {
	dir := t.TempDir()
	e, err := openEvents()
	mustAll(t, err)
	defer e.close()
	sub := filepath.Join(dir, "sub")
	mustAll(t, os.Mkdir(sub, 0o700), e.add(dir), e.add(sub))
	l := newLoop(New(Options{}))
	l.events = e
	e.begin()
	mustAll(t, e.add(dir))
	l.scanEnded(&scan{full: true})
	if _, ok := e.dirs[sub]; ok || len(e.dirs) != 1 || len(e.closes.wds) != 1 || len(e.notify.WatchList()) != 1 {
		t.Errorf("watched: %v, %v, %v", e.dirs, e.closes.wds, e.notify.WatchList())
	}
}

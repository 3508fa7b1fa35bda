//go:build linux

package watch_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"capagent/capture/watch"
	"capagent/internal/config"
)

func TestWhatIsThereAtTheStartIsHandedOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o700))
	write(t, filepath.Join(dir, "one.pcap"), "1")
	write(t, filepath.Join(dir, "a/b/two.pcap"), "2")
	r := start(t, dir)
	r.expect("one.pcap", "1")
	r.expect("a/b/two.pcap", "2")
	r.rescan()
	r.rescan()
	if got := r.names(); len(got) != 2 {
		t.Errorf("handed over again: %q", got)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.taken {
		info, err := os.Lstat(f.Path)
		if err != nil || watch.StampOf(info) != f.Stamp || f.Stamp == "" || f.Seen.IsZero() {
			t.Errorf("%+v; now %v, %v", f, info, err)
		}
	}
	if s := r.w.Status(); s.State != watch.Watching || s.Error != "" || s.Files != 2 || s.Path != dir {
		t.Errorf("status %+v", s)
	}
}

func TestFileIsTakenWhenItsLastWriterCloses(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"lease", "quiet time"} {
		t.Run(mode, func(t *testing.T) {
			r := start(t, t.TempDir(), func(o *watch.Options) {
				if mode == "quiet time" {
					watch.JudgeByQuietTime(o)
				}
			})
			one, err := os.Create(r.path("x.pcap"))
			must(t, err)
			two, err := os.OpenFile(r.path("x.pcap"), os.O_WRONLY|os.O_APPEND, 0)
			must(t, err)
			_, err = one.WriteString("half ")
			must(t, err)
			must(t, one.Close())
			r.rescan0() // must not be fooled by a scan either
			if mode == "lease" && len(r.contents("x.pcap")) > 0 {
				t.Fatal("taken under its second writer")
			}
			_, err = two.WriteString("and half")
			must(t, err)
			must(t, two.Close())
			if mode == "lease" {
				r.expect("x.pcap", "half and half")
			}
			r.until("the whole", func() bool {
				all := r.contents("x.pcap")
				return len(all) > 0 && all[len(all)-1] == "half and half"
			})
		})
	}
}

func TestClosingIsWhatMakesItFast(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), watch.LookOnlyOnEvents)
	for i := range 50 {
		name := fmt.Sprintf("%d.pcap", i)
		f, err := os.Create(r.path(name))
		must(t, err)
		_, err = f.WriteString("text")
		must(t, err)
		r.until("a look", func() bool { return r.w.Status().Pending == 1 })
		must(t, f.Close())
		r.expect(name, "text")
	}
	if n := r.w.Status().Scans; n != 1 {
		t.Errorf("%d scans", n)
	}
}

func TestChangedFileIsHandedOverAgain(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir())
	r.write("append", "one")
	r.write("same size", "one")
	r.write("replaced", "one")
	r.expect("append", "one")
	r.expect("same size", "one")
	r.expect("replaced", "one")

	f, err := os.OpenFile(r.path("append"), os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.WriteString(" two")
	must(t, err)
	must(t, f.Close())
	r.expect("append", "one", "one two")

	r.write("same size", "two")
	r.expect("same size", "one", "two")

	r.write("replaced.tmp", "two")
	must(t, os.Rename(r.path("replaced.tmp"), r.path("replaced")))
	r.expect("replaced", "one", "two")
}

func TestProgramThatOpensTheFileForEachPacket(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), func(o *watch.Options) { o.Config.Settle = config.Duration(time.Second) })
	var want strings.Builder
	for range 40 {
		f, err := os.OpenFile(r.path("x.pcap"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		must(t, err)
		_, err = f.WriteString("packet ")
		must(t, err)
		must(t, f.Close())
		want.WriteString("packet ")
		time.Sleep(20 * time.Millisecond) // what such programs do
	}
	r.last("x.pcap", want.String())
	if n := len(r.contents("x.pcap")); n > 4 {
		t.Errorf("handed over %d times", n)
	}
}

func TestEmptyFileIsGivenTime(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), func(o *watch.Options) { o.Config.Settle = config.Duration(time.Second) })
	r.write("x.pcap", "")
	r.until("a look", func() bool { return r.w.Status().Pending == 1 })
	r.write("y.pcap", "y")
	r.expect("y.pcap", "y") // so x was looked at
	r.write("x.pcap", "text")
	r.expect("x.pcap", "text")
	r.write("empty.pcap", "")
	r.expect("empty.pcap", "")
}

func TestNewAndMovedFolders(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(outside, "tree/sub"), 0o700))
	write(t, filepath.Join(outside, "tree/a"), "a")
	write(t, filepath.Join(outside, "tree/sub/b"), "b")
	write(t, filepath.Join(outside, "c"), "c")

	r := start(t, t.TempDir())
	must(t, os.Rename(filepath.Join(outside, "c"), r.path("c")))
	must(t, os.Rename(filepath.Join(outside, "tree"), r.path("tree")))
	r.expect("c", "c")
	r.expect("tree/a", "a")
	r.expect("tree/sub/b", "b")

	// A folder moved within is watched under its new name.
	must(t, os.Rename(r.path("tree"), r.path("moved")))
	r.expect("moved/a", "a")
	r.expect("moved/sub/b", "b")
	for i := range 20 {
		name := fmt.Sprintf("moved/sub/late%d", i)
		r.write(name, "late")
		r.expect(name, "late")
		r.write(name+".tmp", "renamed")
		must(t, os.Rename(r.path(name+".tmp"), r.path(name+" renamed")))
		r.expect(name+" renamed", "renamed")
		must(t, os.Mkdir(r.path(fmt.Sprintf("moved/sub/dir%d", i)), 0o700))
		name = fmt.Sprintf("moved/sub/dir%d/x", i)
		r.write(name, "x")
		r.expect(name, "x")
	}
	// One moved out is not.
	must(t, os.Rename(r.path("moved"), filepath.Join(outside, "moved")))
	write(t, filepath.Join(outside, "moved/sub/later"), "later")
	r.rescan()
	if got := r.contents("moved/sub/later"); got != nil {
		t.Errorf("taken from outside: %q", got)
	}
	// And the same name again is.
	must(t, os.MkdirAll(r.path("tree/sub"), 0o700))
	r.write("tree/sub/b", "new")
	r.expect("tree/sub/b", "b", "new")
}

func TestFilesInFoldersMadeThatMoment(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir())
	var want []string
	for i := range 200 {
		dir := fmt.Sprintf("%d/a/b/c", i)
		must(t, os.MkdirAll(r.path(dir), 0o700))
		for _, name := range []string{filepath.Dir(dir) + "/x", dir + "/y"} {
			r.write(name, "text")
			want = append(want, name)
		}
	}
	slices.Sort(want)
	r.until("all", func() bool { return len(r.names()) >= len(want) })
	if diff := cmp.Diff(want, r.names()); diff != "" {
		t.Error(diff)
	}
	if n := r.w.Status().Scans; n != 1 {
		t.Errorf("%d scans: the events were not enough", n)
	}
}

func TestSameNameRemovedAndMadeAgain(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir())
	for i := range 50 {
		text := fmt.Sprintf("%03d", i)
		r.write("x.pcap", text)
		if i%2 == 0 {
			r.until(text, func() bool {
				all := r.contents("x.pcap")
				return len(all) > 0 && all[len(all)-1] == text
			})
		}
		must(t, os.Remove(r.path("x.pcap")))
	}
	r.write("x.pcap", "last")
	r.until("the last", func() bool {
		all := r.contents("x.pcap")
		return all[len(all)-1] == "last"
	})
}

func TestFolderRemovedAndMadeAgain(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir())
	for i := range 30 {
		name := fmt.Sprintf("sub/deep/%d", i)
		must(t, os.MkdirAll(r.path("sub/deep"), 0o700))
		r.write(name, "text")
		r.expect(name, "text")
		must(t, os.RemoveAll(r.path("sub")))
	}
}

func TestWatchedFolderComesAndGoes(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	dir := filepath.Join(home, "folder")
	r := start(t, dir)
	if s := r.w.Status(); s.State != watch.Unavailable || s.Error == "" {
		t.Errorf("without the folder: %+v", s)
	}
	for i := range 3 {
		must(t, os.Mkdir(dir, 0o700))
		name := fmt.Sprintf("%d.pcap", i)
		r.write(name, name)
		r.expect(name, name)
		r.until("watching", func() bool { return r.w.Status().State == watch.Watching })
		name += " late"
		r.write(name, name)
		r.expect(name, name)
		must(t, os.RemoveAll(dir))
		r.until("unavailable", func() bool { return r.w.Status().State == watch.Unavailable })
	}
	// Another folder takes its place.
	must(t, os.Mkdir(dir, 0o700))
	r.until("watching", func() bool { return r.w.Status().State == watch.Watching })
	other := filepath.Join(home, "other")
	must(t, os.Mkdir(other, 0o700))
	write(t, filepath.Join(other, "first"), "first")
	must(t, os.Rename(dir, filepath.Join(home, "away")))
	must(t, os.Rename(other, dir))
	r.expect("first", "first")
	r.write("second", "second")
	r.expect("second", "second")
	// And a link to a folder.
	must(t, os.Rename(dir, other))
	must(t, os.Symlink(other, dir))
	r.expect("first", "first", "first") // its path is another one now
	write(t, filepath.Join(other, "third"), "third")
	r.expect("third", "third")
	r.mu.Lock()
	last := r.taken[len(r.taken)-1]
	r.mu.Unlock()
	if last.Path != filepath.Join(other, "third") {
		t.Errorf("through a link: %q", last.Path)
	}
}

func TestAgain(t *testing.T) {
	t.Parallel()
	var r *rig
	busy := 3
	r = start(t, t.TempDir(), func(o *watch.Options) {
		o.Take = func(ctx context.Context, f watch.File) {
			r.take(ctx, f)
			if busy--; busy > 0 { // from within Take
				r.w.Again(f.Path, 10*time.Millisecond)
			}
		}
	})
	r.write("x", "text")
	r.expect("x", "text", "text", "text")
	r.w.Again(r.path("x"), 0)
	r.expect("x", "text", "text", "text", "text")
	r.w.Again(r.path("gone"), 0)
	r.w.Again("/etc/passwd", 0)
	r.w.Again(r.path("x"), time.Hour)
	r.write("x", "changed") // no reason to come earlier
	r.rescan0()
	r.write("y", "y")
	r.expect("y", "y")
	if got := r.names(); len(got) != 5 {
		t.Errorf("handed over: %q", got)
	}
}

func TestKnownFilesAreNotHandedOver(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stamps := map[string]watch.Stamp{}
	for _, name := range []string{"old", "changed"} {
		path := filepath.Join(dir, name)
		write(t, path, name)
		info, err := os.Lstat(path)
		must(t, err)
		stamps[path] = watch.StampOf(info)
	}
	write(t, filepath.Join(dir, "changed"), "CHANGED")
	asked := map[string]int{}
	r := start(t, dir, func(o *watch.Options) {
		o.Known = func(_ context.Context, path string) (watch.Stamp, error) {
			asked[path]++
			if asked[path] == 1 {
				return "", fmt.Errorf("database is locked")
			}
			return stamps[path], nil
		}
	})
	r.expect("changed", "CHANGED")
	r.write("new", "new")
	r.expect("new", "new")
	r.rescan()
	r.write("new", "newer")
	r.expect("new", "new", "newer")
	r.w.Again(r.path("new"), 0)
	r.expect("new", "new", "newer", "newer")
	r.stop()
	if got := r.names(); !slices.Equal(got, []string{"changed", "new", "new", "new"}) {
		t.Errorf("handed over %q", got)
	}
	for path, n := range asked {
		if n != 2 { // the error, and once
			t.Errorf("asked %d times for %s", n, path)
		}
	}
	if n := strings.Count(r.log.String(), "database is locked"); n < 1 || n > 2 {
		t.Errorf("the error was logged %d times", n)
	}
}

func TestSlowOwnerLosesNothing(t *testing.T) {
	t.Parallel()
	var r *rig
	hold := make(chan struct{})
	r = start(t, t.TempDir(), func(o *watch.Options) {
		o.Take = func(ctx context.Context, f watch.File) {
			<-hold
			r.take(ctx, f)
		}
	})
	const n = 1500
	for i := range n {
		r.write(fmt.Sprintf("%04d", i), "text")
	}
	r.w.Rescan()
	close(hold)
	r.until("all", func() bool { return len(r.names()) >= n })
	if got := r.names(); len(slices.Compact(got)) != n || len(got) != n {
		t.Errorf("%d handed over, %d different", len(got), len(slices.Compact(got)))
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	dir := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(dir, "a/b"), 0o700))
	write(t, filepath.Join(dir, "a/b/x"), "x")
	start(t, dir).stop()
	before := descriptors(t)
	for range 20 {
		r := start(t, dir)
		r.write("a/y", "y")
		r.expect("a/b/x", "x")
		r.stop()
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

// watches counts the watches of this process that the kernel keeps.
func watches(t *testing.T) int {
	t.Helper()
	all, err := filepath.Glob("/proc/self/fdinfo/*")
	must(t, err)
	n := 0
	for _, path := range all {
		text, _ := os.ReadFile(path)
		n += strings.Count(string(text), "inotify wd:")
	}
	return n
}

// TestWatchesAreGivenBack is not parallel to others: it counts.
func TestWatchesAreGivenBack(t *testing.T) {
	outside := t.TempDir()
	before := watches(t)
	r := start(t, t.TempDir())
	for _, how := range []string{"removed", "moved away", "renamed to be hidden"} {
		must(t, os.MkdirAll(r.path("a/b/c"), 0o700))
		r.until("all are watched", func() bool { return watches(t) == before+8 }) // two for each folder
		switch how {
		case "removed":
			must(t, os.RemoveAll(r.path("a")))
		case "moved away":
			must(t, os.Rename(r.path("a"), filepath.Join(outside, "a")))
		default:
			must(t, os.Rename(r.path("a"), r.path(".a")))
		}
		r.until("only the top is watched after a folder was "+how, func() bool { return watches(t) == before+2 })
	}
	if n := r.w.Status().Scans; n != 1 {
		t.Errorf("%d scans: the events were not enough", n)
	}
	r.stop()
	if n := watches(t); n != before {
		t.Errorf("%d watches before, %d after", before, n)
	}
}

//go:build linux

package watch_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"capagent/capture/watch"
	"capagent/internal/config"
)

func TestWhatIsNoPlainFileIsRefusedOnce(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	write(t, filepath.Join(outside, "secret"), "secret")
	must(t, os.Mkdir(filepath.Join(outside, "folder"), 0o700))
	write(t, filepath.Join(outside, "folder/secret"), "secret")

	r := start(t, t.TempDir())
	r.write("plain", "plain")
	must(t, os.Symlink(filepath.Join(outside, "secret"), r.path("link.pcap")))
	must(t, os.Symlink(filepath.Join(outside, "folder"), r.path("linked")))
	must(t, os.Symlink(".", r.path("loop")))
	must(t, os.Symlink("nowhere", r.path("dangling")))
	must(t, os.Symlink("plain", r.path("unwanted.tmp")))
	must(t, unix.Mkfifo(r.path("fifo.pcap"), 0o600))
	must(t, os.Mkdir(r.path("folder.pcap"), 0o700))
	r.write("folder.pcap/inside", "inside")
	must(t, os.Link(filepath.Join(outside, "secret"), r.path("hard")))
	socket, err := net.Listen("unix", r.path("socket"))
	must(t, err)
	defer func() { _ = socket.Close() }()
	want := []string{
		"dangling: symbolic link",
		"fifo.pcap: named pipe",
		"folder.pcap: directory",
		"hard: hard link (more than one name)",
		"link.pcap: symbolic link",
		"linked: symbolic link",
		"loop: symbolic link",
		"socket: socket",
	}
	if unix.Mknod(r.path("device"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) == nil {
		want = append([]string{want[0], "device: device"}, want[1:]...)
	}
	for range 4 {
		r.rescan()
		must(t, os.Chmod(r.path("hard"), 0o600)) // it changes, and stays what it is
	}
	if diff := cmp.Diff(want, r.refusals()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"folder.pcap/inside", "plain"}, r.names()); diff != "" {
		t.Error(diff)
	}

	// With its other name gone, it is a plain file.
	must(t, os.Remove(filepath.Join(outside, "secret")))
	r.rescan()
	r.expect("hard", "secret")
	// And what was refused can become one.
	must(t, os.Remove(r.path("fifo.pcap")))
	r.write("fifo.pcap", "file")
	r.expect("fifo.pcap", "file")
}

func TestNamedPipeHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir())
	for i := range 20 {
		must(t, unix.Mkfifo(r.path(fmt.Sprintf("%d.pcap", i)), 0o600))
	}
	r.write("x", "x")
	r.expect("x", "x")
	// A writer of the pipe still finds no reader.
	if _, err := unix.Open(r.path("0.pcap"), unix.O_WRONLY|unix.O_NONBLOCK, 0); err == nil {
		t.Error("somebody reads the pipe")
	}
}

func TestFileThatGetsItsNameInTwoSteps(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), func(o *watch.Options) { o.Config.Settle = config.Duration(time.Second) })
	r.write(".x.new", "text")
	must(t, os.Link(r.path(".x.new"), r.path("x")))
	r.until("a look", func() bool { return r.w.Status().Pending == 1 })
	r.write("y", "y")
	r.expect("y", "y") // so x was looked at
	must(t, os.Remove(r.path(".x.new")))
	r.expect("x", "text")
	if got := r.refusals(); len(got) > 0 {
		t.Errorf("refused %q", got)
	}
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	if !inChild(t, asNobody) {
		return
	}
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "closed"), 0o700))
	write(t, filepath.Join(dir, "closed/x"), "x")
	must(t, os.Chmod(filepath.Join(dir, "closed"), 0))
	write(t, filepath.Join(dir, "y"), "y")
	must(t, os.Chmod(filepath.Join(dir, "y"), 0))
	r := start(t, dir)
	r.write("z", "z")
	r.expect("z", "z")
	for range 3 {
		r.rescan()
	}
	want := []string{"closed: unreadable: permission denied", "y: unreadable: permission denied"}
	if diff := cmp.Diff(want, r.refusals()); diff != "" {
		t.Error(diff)
	}
	must(t, os.Chmod(r.path("closed"), 0o700))
	must(t, os.Chmod(r.path("y"), 0o600))
	r.expect("y", "y") // there is an event for that
	r.rescan()
	r.expect("closed/x", "x")
}

func TestAnyNameWorks(t *testing.T) {
	t.Parallel()
	names := []string{
		"new\nline", "esc\x1b[31m", "invalid\xff\xfe", strings.Repeat("n", 255), " ", "-rf", `back\slash`,
		"CON", "a:b", "[x]", "*", "?", "%s%n", "ü", "u\u0308", "\u202egnp.exe", "\"quoted\"", "'", "$(reboot)",
	}
	dir := t.TempDir()
	for i, name := range names {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o700))
		if i%2 == 0 {
			write(t, filepath.Join(dir, name, name), name)
		}
	}
	r := start(t, dir)
	for i, name := range names {
		if i%2 == 1 {
			r.write(filepath.Join(name, name), name)
		}
		r.expect(filepath.Join(name, name), name)
	}
}

func TestDeepPath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// As deep as a path can be, and then deeper, which takes relative steps.
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_RDONLY, 0)
	must(t, err)
	step := strings.Repeat("d", 200)
	for range 30 {
		must(t, unix.Mkdirat(fd, step, 0o700))
		next, err := unix.Openat(fd, step, unix.O_DIRECTORY|unix.O_RDONLY, 0)
		must(t, err)
		must(t, unix.Close(fd))
		fd = next
	}
	must(t, unix.Close(fd))
	r := start(t, dir)
	r.write("x", "x")
	r.expect("x", "x")
	r.until("a word about it", func() bool {
		got := r.refusals()
		return len(got) == 1 && strings.HasSuffix(got[0], "unreadable: file name too long")
	})
}

func TestFolderSwappedForALinkLeadsNowhere(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	write(t, filepath.Join(outside, "x"), "secret")
	r := start(t, t.TempDir())
	must(t, os.Mkdir(r.path("real"), 0o700))
	r.write("real/x", "text")
	must(t, os.Symlink(outside, r.path("link")))
	for range 300 { // to hit all places between a look at the path and its use
		must(t, unix.Renameat2(unix.AT_FDCWD, r.path("real"), unix.AT_FDCWD, r.path("link"), unix.RENAME_EXCHANGE))
		r.w.Again(r.path("real/x"), 0)
		r.w.Again(r.path("link/x"), 0)
	}
	r.rescan()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.taken) == 0 {
		t.Error("nothing was taken")
	}
	secret, err := os.Lstat(filepath.Join(outside, "x"))
	must(t, err)
	for _, f := range r.taken {
		if f.Stamp == watch.StampOf(secret) {
			t.Fatalf("%q was taken through a link", f.Path)
		}
	}
}

func TestNamesThatAreTaken(t *testing.T) {
	t.Parallel()
	const all = "a.pcap A.PCAP b.pcapng .hidden .hidden.pcap x.part x.TMP x.pcap.filepart x.crdownload x.partial x~ " +
		"sub/c.pcap sub/d.txt sub/.h/e.pcap sub/deep/f.pcap .git/g.pcap done/h.pcap sub/done/i.pcap part tmp"
	for _, tc := range []struct {
		name   string
		change func(*watch.Config)
		want   string
	}{
		{"everything", func(*watch.Config) {}, "A.PCAP a.pcap b.pcapng part sub/c.pcap sub/d.txt sub/deep/f.pcap sub/done/i.pcap tmp"},
		{"one folder", func(c *watch.Config) { c.Recursive = false }, "A.PCAP a.pcap b.pcapng part tmp"},
		{"by name", func(c *watch.Config) { c.Include = []string{"*.pcap", "b.*"} }, "a.pcap b.pcapng sub/c.pcap sub/deep/f.pcap sub/done/i.pcap"},
		{"by path", func(c *watch.Config) { c.Include = []string{"sub/*.pcap", "*/*/f*"} }, "sub/c.pcap sub/deep/f.pcap"},
		{"hidden even when named", func(c *watch.Config) { c.Include = []string{".hidden*"} }, ""},
		{"another folder for done files", func(c *watch.Config) { c.After, c.MoveTo = "move", "sub/deep/../deep" }, "A.PCAP a.pcap b.pcapng done/h.pcap part sub/c.pcap sub/d.txt sub/done/i.pcap tmp"},
	} {
		for _, when := range []string{"before", "after"} {
			t.Run(tc.name+" "+when, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				fill := func() {
					for _, name := range strings.Fields(all) {
						must(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700))
						write(t, filepath.Join(dir, name), name)
					}
				}
				if when == "before" {
					fill()
				}
				r := start(t, dir, func(o *watch.Options) { tc.change(&o.Config) })
				if when == "after" {
					fill()
				}
				want := strings.Fields(tc.want)
				r.until("all", func() bool { return len(r.names()) >= len(want) })
				r.rescan()
				if diff := cmp.Diff(strings.Join(want, " "), strings.Join(r.names(), " ")); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

func TestFolderForDoneFilesIsNeverWatched(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"below", "absolute", "through a link"} {
		t.Run(how, func(t *testing.T) {
			home := t.TempDir()
			dir := filepath.Join(home, "real")
			must(t, os.Mkdir(dir, 0o700))
			must(t, os.Symlink(dir, filepath.Join(home, "link")))
			r := start(t, dir, func(o *watch.Options) {
				o.Config.After = watch.AfterMove
				switch how {
				case "absolute":
					o.Config.MoveTo = filepath.Join(dir, "done")
				case "through a link":
					o.Config.Path = filepath.Join(home, "link")
				}
			})
			r.write("x", "x")
			r.expect("x", "x")
			must(t, os.Mkdir(r.path("done"), 0o700)) // only now
			must(t, os.Rename(r.path("x"), r.path("done/x")))
			r.write("done/y", "y")
			r.rescan()
			r.write("done/z", "z")
			r.write("last", "last")
			r.expect("last", "last")
			if diff := cmp.Diff([]string{"last", "x"}, r.names()); diff != "" {
				t.Error(diff)
			}
			if got := r.refusals(); len(got) > 0 {
				t.Errorf("refused %q", got)
			}
		})
	}
}

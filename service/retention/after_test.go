package retention

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"capagent/internal/ledger"
)

// job is a watched folder with a rule, and one file in it.
type job struct {
	*rig
	after *After
	rule  Rule
	id    int64
	seen  string // where the watcher saw the file
	stamp string
}

// stampOf is like the watcher's, as far as every system has it.
func stampOf(info fs.FileInfo) string { return fmt.Sprint(info.Size(), info.ModTime().UnixNano()) }

func newJob(t *testing.T, action string) *job {
	t.Helper()
	r := newRig(t)
	j := &job{rig: r, after: &After{Ledger: r, Log: zerolog.Nop(), Stamp: stampOf}}
	j.rule = Rule{Root: filepath.Join(r.dir, "in"), Action: action, MoveTo: filepath.Join(r.dir, "out")}
	r.ok(os.MkdirAll(j.rule.Root, 0o700))
	return j
}

func shown(f *ledger.Found) { f.Owned = false }

// file makes the job's file, which is uploaded.
func (j *job) file(name, content string) ledger.Capture {
	j.t.Helper()
	return j.fileIn(name, content, ledger.Done)
}

func (j *job) fileIn(name, content string, state ledger.State) ledger.Capture {
	j.t.Helper()
	root, err := filepath.Rel(j.dir, j.rule.Root)
	j.ok(err)
	c := j.add(filepath.ToSlash(root)+"/"+name, content, state, shown)
	info, err := os.Stat(c.Path)
	j.ok(err)
	j.id, j.seen, j.stamp = c.ID, c.Path, stampOf(info)
	return c
}

// try acts on what the ledger now says of the job's capture.
func (j *job) try() error {
	return j.after.Act(context.Background(), j.get(j.id), j.rule, j.seen, j.stamp)
}

func (j *job) act() {
	j.t.Helper()
	j.ok(j.try())
}

// is fails the test unless these are the files of the watched folder and of that
// to which they are moved.
func (j *job) is(in, out map[string]string) {
	j.t.Helper()
	for dir, want := range map[string]map[string]string{j.rule.Root: in, j.rule.MoveTo: out} {
		got := map[string]string{}
		if exists(dir) {
			got = files(j.t, dir)
		}
		if len(want)+len(got) == 0 {
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			j.t.Errorf("files in %s (-want +got):\n%.2000s", dir, diff)
		}
	}
}

func TestDelete(t *testing.T) {
	j := newJob(t, Delete)
	c := j.file("sub/a.pcap", "content")
	j.ok(os.WriteFile(filepath.Join(j.rule.Root, "other.pcap"), []byte("other"), 0o600))
	for range 2 { // again: nothing is there any more
		j.act()
		j.is(map[string]string{"other.pcap": "other"}, nil)
		j.state(c, ledger.Purged)
	}
}

func TestMove(t *testing.T) {
	j := newJob(t, Move)
	c := j.file("sub/folder/a.pcap", "content")
	for range 2 {
		j.act()
		j.is(nil, map[string]string{"sub/folder/a.pcap": "content"})
		if got := j.get(c.ID); got.State != ledger.Done || got.Path != filepath.Join(j.rule.MoveTo, "sub", "folder", "a.pcap") {
			t.Errorf("the capture is %s at %s", got.State, got.Path)
		}
	}
}

// Only what has a session, and nothing but what the rule says.
func TestWhatIsNeverTouched(t *testing.T) {
	for _, action := range []string{Delete, Move, Keep, ""} {
		for _, state := range []ledger.State{
			ledger.Queued, ledger.Sealed, ledger.Held, ledger.Failed, ledger.Quarantined, empty, ledger.Done,
		} {
			if state == ledger.Done && (action == Delete || action == Move) {
				continue
			}
			j := newJob(t, action)
			c := j.fileIn("a.pcap", "content", state)
			j.act()
			j.is(map[string]string{"a.pcap": "content"}, nil)
			j.state(c, c.State)
		}
	}
}

// Of a capture in parts, the first may have a session while others wait.
func TestACaptureThatIsHalfSent(t *testing.T) {
	for _, action := range []string{Delete, Move} {
		j := newJob(t, action)
		c := j.fileIn("a.pcap", "content", ledger.Queued)
		_, err := j.Begin(t.Context(), c.ID, "cloudshark")
		j.ok(err)
		j.ok(j.Finish(t.Context(), c.ID, "cloudshark", ledger.Result{SessionID: "0123456789ab"}, ""))
		j.act()
		j.is(map[string]string{"a.pcap": "content"}, nil)
		j.state(c, ledger.Queued)
	}
}

func TestAnotherFileInItsPlace(t *testing.T) {
	for _, action := range []string{Delete, Move} {
		for _, tc := range []struct{ name, content string }{
			{"grown", "content and more"},
			{"same size", "CONTENT"},
			{"empty", ""},
		} {
			t.Run(action+" "+tc.name, func(t *testing.T) {
				j := newJob(t, action)
				c := j.file("a.pcap", "content")
				j.ok(os.WriteFile(j.seen, []byte(tc.content), 0o600))
				j.ok(os.Chtimes(j.seen, day0, day0))
				j.act()
				j.is(map[string]string{"a.pcap": tc.content}, nil)
				j.state(c, ledger.Done)
			})
		}
	}
}

func TestTheSameContentIsTheSameFile(t *testing.T) {
	for _, action := range []string{Delete, Move} {
		j := newJob(t, action)
		j.file("a.pcap", "content")
		j.ok(os.Chtimes(j.seen, day0, day0)) // touched, or copied back
		j.act()
		if exists(j.seen) {
			t.Errorf("%s: it is still there", action)
		}
		j = newJob(t, action)
		j.file("a.pcap", "content")
		j.stamp = "" // not known
		j.act()
		if exists(j.seen) {
			t.Errorf("%s, without a stamp: it is still there", action)
		}
	}
}

// Another file takes the place after the look at it.
func TestAFileThatComesInTheLastMoment(t *testing.T) {
	for _, action := range []string{Delete, Move} {
		for _, how := range []string{"replaced", "written to", "linked"} {
			t.Run(action+" "+how, func(t *testing.T) {
				j := newJob(t, action)
				j.file("a.pcap", "content")
				j.after.step = func(name string) {
					if name != "recorded" {
						return
					}
					before, err := os.Stat(j.seen)
					j.ok(err)
					switch how {
					case "replaced": // by one of the same size
						j.ok(os.WriteFile(j.seen+".new", []byte("another"), 0o600))
						j.ok(os.Rename(j.seen+".new", j.seen))
					case "written to":
						j.ok(os.WriteFile(j.seen, []byte("content and another"), 0o600))
					case "linked":
						j.ok(os.WriteFile(j.path("away"), []byte("another"), 0o600))
						j.ok(os.Remove(j.seen))
						j.ok(os.Symlink(j.path("away"), j.seen))
					}
					j.ok(os.Chtimes(j.seen, before.ModTime(), before.ModTime()))
				}
				j.act()
				if content, err := os.ReadFile(j.seen); err != nil || !strings.HasSuffix(string(content), "another") {
					t.Errorf("the file at the path holds %q, %v", content, err)
				}
				if action == Move {
					if out := files(t, j.rule.MoveTo); len(out) != 0 || j.get(j.id).Path != j.seen {
						t.Errorf("moved: %v, the capture is at %s", out, j.get(j.id).Path)
					}
				}
			})
		}
	}
}

func TestLinksLeadNowhere(t *testing.T) {
	for _, action := range []string{Delete, Move} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, late: %v", action, late), func(t *testing.T) {
				j := newJob(t, action)
				j.file("sub/a.pcap", "content")
				outside := filepath.Dir(j.path("outside/a.pcap"))
				j.ok(os.WriteFile(filepath.Join(outside, "a.pcap"), []byte("content"), 0o600))
				swap := func() {
					j.ok(os.RemoveAll(filepath.Dir(j.seen)))
					j.ok(os.Symlink(outside, filepath.Dir(j.seen)))
				}
				if late {
					j.after.step = func(name string) {
						if name == "recorded" {
							swap()
						}
					}
				} else {
					swap()
				}
				_ = j.try() // it may be an error or not
				if got := files(t, outside); got["a.pcap"] != "content" {
					t.Errorf("a file outside of the folder is gone: %v", got)
				}
			})
		}
	}
	// The other way: what would be moved out of where it is moved to.
	j := newJob(t, Move)
	j.file("sub/a.pcap", "content")
	j.ok(os.MkdirAll(j.rule.MoveTo, 0o700))
	outside := filepath.Dir(j.path("outside/x"))
	j.ok(os.Symlink(outside, filepath.Join(j.rule.MoveTo, "sub")))
	if err := j.try(); err == nil {
		t.Error("moved through a link")
	}
	if got := files(t, outside); len(got) != 0 {
		t.Errorf("outside there is %v", got)
	}
	j.is(map[string]string{"sub/a.pcap": "content"}, map[string]string{"sub": "not a file"})
}

func TestAPathThatIsNotBelowTheFolder(t *testing.T) {
	for _, action := range []string{Delete, Move} {
		j := newJob(t, action)
		j.file("a.pcap", "content")
		j.rule.Root = filepath.Dir(j.path("elsewhere/x"))
		j.act()
		if !exists(j.seen) {
			t.Errorf("%s: a file outside of the folder is gone", action)
		}
	}
}

func TestNamesThatAreTaken(t *testing.T) {
	for _, old := range []bool{false, true} {
		j := newJob(t, Move)
		j.after.old = old
		want := map[string]string{}
		for i := range 4 {
			content := fmt.Sprint("content ", i)
			c := j.file("sub/a.pcap.gz", content)
			j.act()
			name := "sub/a.pcap.gz"
			if i > 0 {
				name = fmt.Sprintf("sub/a-%d.pcap.gz", i+1)
			}
			want[name] = content
			j.is(nil, want)
			if got := j.get(c.ID).Path; got != filepath.Join(j.rule.MoveTo, filepath.FromSlash(name)) {
				t.Errorf("the capture is at %s", got)
			}
		}
	}
}

// A capture that was moved, archived by somebody, and comes again.
func TestANameThatTheLedgerHas(t *testing.T) {
	j := newJob(t, Move)
	j.file("a.pcap", "content")
	j.act()
	j.ok(os.Remove(filepath.Join(j.rule.MoveTo, "a.pcap")))
	again := j.file("a.pcap", "content")
	if again.DuplicateOf == 0 {
		t.Fatalf("the second is no duplicate: %+v", again)
	}
	j.act()
	j.is(nil, map[string]string{"a-2.pcap": "content"})
}

// The name is free when it is looked for, and taken when it is to be had.
func TestANameThatIsTakenInTheLastMoment(t *testing.T) {
	for _, old := range []bool{false, true} {
		j := newJob(t, Move)
		j.after.old = old
		j.file("a.pcap", "content")
		j.after.step = func(name string) {
			j.after.step = nil
			j.ok(os.WriteFile(filepath.Join(j.rule.MoveTo, "a.pcap"), []byte("other"), 0o600))
		}
		j.act()
		j.is(nil, map[string]string{"a.pcap": "other", "a-2.pcap": "content"})
	}
}

func TestNumbered(t *testing.T) {
	long := strings.Repeat("ä", 125) + ".pcap" // 255 bytes
	for _, tc := range []struct {
		rel  string
		n    int
		want string
	}{
		{"a.pcap", 1, "a.pcap"},
		{"a.pcap", 2, "a-2.pcap"},
		{filepath.Join("x.y", "a.pcapng.zst"), 10, filepath.Join("x.y", "a-10.pcapng.zst")},
		{"a", 2, "a-2"},
		{"a.2026.pcap", 2, "a.2026-2.pcap"},
		{long, 2, strings.Repeat("ä", 124) + "-2.pcap"},
	} {
		if got := numbered(tc.rel, tc.n); got != tc.want || len(filepath.Base(got)) > 255 {
			t.Errorf("numbered(%q, %d) = %q; want %q", tc.rel, tc.n, got, tc.want)
		}
	}
}

func TestAFolderBelowTheWatchedOne(t *testing.T) {
	j := newJob(t, Move)
	j.rule.MoveTo = filepath.Join(j.rule.Root, "done")
	c := j.file("a.pcap", "content")
	j.act()
	if got := files(t, j.rule.Root); got["done/a.pcap"] != "content" || len(got) != 1 {
		t.Errorf("moved to %v", got)
	}
	// A watcher that looks there, too, must not send files deeper and deeper.
	j.seen = j.get(c.ID).Path
	j.act()
	if got := files(t, j.rule.Root); got["done/a.pcap"] != "content" || len(got) != 1 {
		t.Errorf("moved again to %v", got)
	}
}

func TestAFileThatAnotherDestinationStillNeeds(t *testing.T) {
	for _, action := range []string{Delete, Move} {
		j := newJob(t, action)
		c := j.file("a.pcap", "content")
		j.register(c.Path, "content", ledger.Queued, shown, func(f *ledger.Found) { f.Destination = "https://other.example" })
		j.act()
		j.is(map[string]string{"a.pcap": "content"}, nil)
		j.state(c, ledger.Done)
	}
}

func TestDyingOnTheWay(t *testing.T) {
	for _, tc := range []struct {
		name, action string
		old          bool
	}{
		{"delete", Delete, false},
		{"move", Move, false},
		{"move where renaming replaces", Move, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			everyDeath(t, func(t *testing.T) *job {
				j := newJob(t, tc.action)
				j.after.old = tc.old
				return j
			})
		})
	}
}

// everyDeath lets the agent die behind each step in turn, and once more behind
// each step of the second try. The file must be in one of both places each time,
// and the third try must end well.
func everyDeath(t *testing.T, make func(t *testing.T) *job) {
	t.Helper()
	const content = "content"
	deaths := 0
	for first := 1; ; first++ {
		for second := 0; ; second++ {
			j := make(t)
			if j.rule.Action == Move { // one that is in the way
				j.ok(os.MkdirAll(filepath.Join(j.rule.MoveTo, "sub"), 0o700))
				j.ok(os.WriteFile(filepath.Join(j.rule.MoveTo, "sub", "a.pcap"), []byte("in the way"), 0o600))
			}
			c := j.file("sub/a.pcap", content)
			died := j.dieAt(first)
			if died == "" {
				if deaths < 2 {
					t.Errorf("%d steps only", deaths)
				}
				return
			}
			deaths++
			again := ""
			if second > 0 {
				again = j.dieAt(second)
			}
			name := died + ", " + again
			if j.rule.Action == Move && !j.holds(content) {
				t.Fatalf("died behind %s: the file is lost", name)
			}
			j.after.step = nil
			j.act()
			if j.rule.Action == Delete {
				j.is(nil, nil)
				j.state(c, ledger.Purged)
			} else {
				j.is(nil, map[string]string{"sub/a.pcap": "in the way", "sub/a-2.pcap": content})
				if got := j.get(c.ID).Path; got != filepath.Join(j.rule.MoveTo, "sub", "a-2.pcap") {
					t.Errorf("died behind %s: the capture is at %s", name, got)
				}
			}
			if t.Failed() {
				t.Fatalf("died behind %s", name)
			}
			if second > 0 && again == "" {
				break
			}
		}
	}
}

// dieAt acts until the nth step and returns its name, "" when there are fewer.
func (j *job) dieAt(n int) (died string) {
	j.t.Helper()
	type death struct{}
	j.after.step = func(name string) {
		if n--; n == 0 {
			died = name
			panic(death{})
		}
	}
	defer func() {
		if cause := recover(); cause != nil && cause != (death{}) {
			panic(cause)
		}
	}()
	j.act()
	return ""
}

// holds says whether a file with that content is in one of both folders.
func (j *job) holds(content string) bool {
	for _, dir := range []string{j.rule.Root, j.rule.MoveTo} {
		for _, got := range files(j.t, dir) {
			if got == content {
				return true
			}
		}
	}
	return false
}

func TestActEndsWithItsContext(t *testing.T) {
	j := newJob(t, Move)
	j.file("a.pcap", "content")
	j.ok(os.Chtimes(j.seen, time.Time{}, day0)) // has to be read
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := j.after.Act(ctx, j.get(j.id), j.rule, j.seen, j.stamp); err == nil {
		t.Error("no error")
	}
	j.is(map[string]string{"a.pcap": "content"}, nil)
}

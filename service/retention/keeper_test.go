package retention

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"capagent/internal/config"
	"capagent/internal/disk"
	"capagent/internal/ledger"
)

var _ Ledger = (*ledger.Ledger)(nil)

func (r *rig) keeper(cfg Config) *Keeper {
	return &Keeper{Ledger: r, Config: cfg, SpoolDir: r.dir, Log: zerolog.Nop(), Now: func() time.Time { return r.now }}
}

func (r *rig) sweep(k *Keeper) Report {
	r.t.Helper()
	report, err := k.Sweep(context.Background())
	r.ok(err)
	return report
}

// kilo is a thousand bytes that differ by their text.
func kilo(text string) string { return fmt.Sprintf("%-1000s", text) }

// everyKind registers a capture of each kind, of 1000 bytes each, and returns
// those that must never be deleted for room.
func (r *rig) everyKind(prefix string) (kept []ledger.Capture) {
	other := r.t.TempDir()
	outside := filepath.Join(other, "outside.pcap")
	r.ok(os.WriteFile(outside, []byte(kilo(prefix+"outside")), 0o600))
	return []ledger.Capture{
		r.add(prefix+"queued.pcap", kilo(prefix+"queued"), ledger.Queued),
		r.add(prefix+"sealed.pcap", kilo(prefix+"sealed"), ledger.Sealed),
		r.add(prefix+"held.pcap", kilo(prefix+"held"), ledger.Held),
		r.add(prefix+"failed.pcap", kilo(prefix+"failed"), ledger.Failed),
		r.add(prefix+"quarantined.pcap", kilo(prefix+"quarantined"), ledger.Quarantined),
		r.add(prefix+"shown.pcap", kilo(prefix+"shown"), ledger.Done, func(f *ledger.Found) { f.Owned = false }),
		r.register(outside, kilo(prefix+"outside"), ledger.Done),
	}
}

func TestMaxSizeDeletesTheOldestThatAreDone(t *testing.T) {
	r := newRig(t)
	kept := r.everyKind("a-")
	var done []ledger.Capture
	for i := range 6 {
		r.now = day0.Add(time.Duration(10-i) * time.Hour) // the last one is the oldest
		done = append(done, r.add(fmt.Sprintf("done-%d.pcap", i), kilo(fmt.Sprint(i)), ledger.Done))
	}
	done = append(done, r.add("empty.pcap", kilo("empty"), empty))
	// 6 of the agent's own that stay, and 7 that may go.
	report := r.sweep(r.keeper(Config{MaxSize: 9000}))
	if report.Purged != 4 || report.Freed != 4000 || report.Owned != (ledger.Count{Captures: 9, Bytes: 9000}) || report.Over() {
		t.Errorf("reported %+v", report)
	}
	for i, c := range done {
		gone := i == 5 || i == 4 || i == 3 || i == 6 // by the time of the packets
		if exists(c.Path) == gone {
			t.Errorf("%s: gone is %v", c.Name, !gone)
		}
		if gone {
			r.state(c, ledger.Purged)
		}
	}
	if c := r.get(done[5].ID); c.Reason != "deleted: the spool is over max_size (9kB)" {
		t.Errorf("the reason is %q", c.Reason)
	}
	for _, c := range kept {
		if !exists(c.Path) || r.get(c.ID).State != c.State {
			t.Errorf("%s is not as it was", c.Name)
		}
	}
	if again := r.sweep(r.keeper(Config{MaxSize: 9000})); again.Purged != 0 {
		t.Errorf("a second sweep deleted %d more", again.Purged)
	}
}

func TestWhatIsNotSentIsKeptOverEveryLimit(t *testing.T) {
	r := newRig(t)
	kept := r.everyKind("")
	done := r.add("done.pcap", kilo("done"), ledger.Done)
	for _, tc := range []struct {
		cfg  Config
		free uint64
		want string
	}{
		{Config{MaxSize: 3000}, math.MaxUint64, "the spool is over max_size (3kB) by 2.9 KiB, but 5 captures are not sent yet: nothing is deleted"},
		{Config{MinFree: 1 << 30}, 1 << 20, "the disk is 1023 MiB short of min_free (1GiB), but 5 captures are not sent yet: nothing is deleted"},
	} {
		k := r.keeper(tc.cfg)
		k.Free = func(string) (uint64, uint64, uint64, error) { return tc.free, math.MaxUint64, disk.Unknown, nil }
		report := r.sweep(k)
		if !report.Over() || report.Problem != tc.want {
			t.Errorf("got  %+v\nwant %s", report, tc.want)
		}
	}
	r.state(done, ledger.Purged)
	for _, c := range kept {
		if !exists(c.Path) || r.get(c.ID).State != c.State {
			t.Errorf("%s is not as it was", c.Name)
		}
	}
}

func TestMaxAge(t *testing.T) {
	r := newRig(t)
	kept := r.everyKind("old-")
	done, held, blank := r.add("done.pcap", kilo("done"), ledger.Done), kept[2], r.add("empty.pcap", kilo("empty"), empty)
	kept = append(kept[:2:2], kept[3:]...)
	r.now = day0.Add(20 * day)
	old := func(f *ledger.Found) { f.First, f.Last = day0.Add(-day), day0.Add(-day) }
	kept = append(
		kept,
		r.add("young-done.pcap", kilo("young done"), ledger.Done), r.add("young-held.pcap", kilo("young held"), ledger.Held),
		// Old packets that the agent was handed only now.
		r.add("old-packets-done.pcap", kilo("old packets done"), ledger.Done, old),
		r.add("old-packets-held.pcap", kilo("old packets held"), ledger.Held, old),
	)
	r.now = day0.Add(30*day + time.Hour)
	report := r.sweep(r.keeper(Config{MaxAge: config.Duration(30 * day)}))
	if report.Purged != 3 || report.Over() {
		t.Errorf("reported %+v", report)
	}
	for _, c := range []ledger.Capture{done, held, blank} {
		r.state(c, ledger.Purged)
		if exists(c.Path) {
			t.Errorf("%s is still there", c.Name)
		}
	}
	if c := r.get(held.ID); c.Reason != "deleted without an upload: nothing released it within max_age (30d)" {
		t.Errorf("the reason is %q", c.Reason)
	}
	for _, c := range kept {
		if !exists(c.Path) || r.get(c.ID).State != c.State {
			t.Errorf("%s is not as it was", c.Name)
		}
	}
}

// A machine without a battery comes up in 1970, captures, and then learns what
// time it is.
func TestAClockThatJumpsMakesNothingOld(t *testing.T) {
	r := newRig(t)
	before := r.add("before.pcap", kilo("before"), ledger.Held)
	r.now = r.now.Add(time.Hour)
	k := r.keeper(Config{MaxAge: config.Duration(30 * day)})
	r.sweep(k)
	since := r.add("since.pcap", kilo("since"), ledger.Held)
	r.now = r.now.Add(56 * 365 * day)
	if report := r.sweep(k); report.Purged != 1 {
		t.Errorf("reported %+v", report)
	}
	r.state(since, ledger.Held)
	r.state(before, ledger.Purged) // nobody can tell
}

func TestMinFree(t *testing.T) {
	for _, tc := range []struct {
		name         string
		free, inodes uint64
		want         int
	}{
		{"room", 10_000, disk.Unknown, 0},
		{"2,500 bytes short", 7_500, disk.Unknown, 3},
		{"no byte free", 0, disk.Unknown, 8},
		{"3 inodes short", 10_000, minInodes - 3, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			for i := range 8 {
				r.add(fmt.Sprintf("%d.pcap", i), kilo(fmt.Sprint(i)), ledger.Done)
			}
			k := r.keeper(Config{MinFree: 10_000})
			// A file system that says so only later: no more may go for that.
			k.Free = func(string) (uint64, uint64, uint64, error) { return tc.free, 1 << 40, tc.inodes, nil }
			report := r.sweep(k)
			if report.Purged != tc.want || report.Over() != (tc.want == 8) {
				t.Errorf("reported %+v; want %d purged", report, tc.want)
			}
			if tc.want == 8 && report.Problem != "the disk is 2.0 KiB short of min_free (10kB), and none of it is the agent's to delete" {
				t.Errorf("the problem is %q", report.Problem)
			}
		})
	}
}

func TestNothingIsDeletedWithoutLimits(t *testing.T) {
	r := newRig(t)
	c := r.add("done.pcap", kilo("done"), ledger.Done)
	r.now = r.now.Add(1000 * day)
	k := r.keeper(Config{})
	k.Free = func(string) (uint64, uint64, uint64, error) { return 0, 0, 0, nil }
	if report := r.sweep(k); report.Purged != 0 || report.Over() {
		t.Errorf("reported %+v", report)
	}
	r.state(c, ledger.Done)
}

func TestOnlyWhatWasRecordedIsDeleted(t *testing.T) {
	r := newRig(t)
	outside := t.TempDir()
	precious := filepath.Join(outside, "linked.pcap")
	r.ok(os.WriteFile(precious, []byte(kilo("linked folder")), 0o600))
	for _, tc := range []struct {
		name string
		swap func(path string)
	}{
		{"folder/linked.pcap", func(path string) {
			r.ok(os.RemoveAll(filepath.Dir(path)))
			r.ok(os.Symlink(outside, filepath.Dir(path)))
		}},
		{"link.pcap", func(path string) {
			r.ok(os.Remove(path))
			r.ok(os.Symlink(precious, path))
		}},
		{"directory.pcap", func(path string) {
			r.ok(os.Remove(path))
			r.ok(os.Mkdir(path, 0o700))
		}},
		{"long-link.pcap", func(path string) { // as long as the file was
			r.ok(os.Remove(path))
			r.ok(os.Symlink("/"+strings.Repeat("./", 499)+"x", path))
		}},
		{"size.pcap", func(path string) { r.ok(os.WriteFile(path, []byte("another file"), 0o600)) }},
	} {
		c := r.add(tc.name, kilo("of "+tc.name), ledger.Done)
		tc.swap(c.Path)
		report := r.sweep(r.keeper(Config{MaxSize: 1}))
		if report.Purged != 0 || !strings.Contains(report.Problem, "can't be deleted") || !exists(c.Path) {
			t.Errorf("%s: reported %+v", tc.name, report)
		}
		r.state(c, ledger.Done)
	}
	if !exists(precious) {
		t.Error("a file outside of the spool is gone")
	}
}

func TestASpoolNamedByALink(t *testing.T) {
	r := newRig(t)
	c := r.add("done.pcap", kilo("done"), ledger.Done)
	k := r.keeper(Config{MaxSize: 1})
	k.SpoolDir = filepath.Join(t.TempDir(), "spool")
	r.ok(os.Symlink(r.dir, k.SpoolDir))
	if report := r.sweep(k); report.Purged != 1 || exists(c.Path) {
		t.Errorf("reported %+v", report)
	}
}

func TestAFileThatIsGoneIsNoError(t *testing.T) {
	r := newRig(t)
	c := r.add("folder/done.pcap", kilo("done"), ledger.Done)
	r.ok(os.RemoveAll(filepath.Dir(c.Path)))
	if report := r.sweep(r.keeper(Config{MaxSize: 1})); report.Purged != 1 || report.Freed != 0 || report.Over() {
		t.Errorf("reported %+v", report)
	}
	k := r.keeper(Config{MaxSize: 1})
	k.SpoolDir = filepath.Join(r.dir, "never made")
	r.sweep(k)
}

// One file, two rows: the address of the CloudShark was changed while captures
// were waiting.
func TestAFileThatAnotherDestinationWaitsFor(t *testing.T) {
	r := newRig(t)
	done := r.add("a.pcap", kilo("a"), ledger.Done)
	waiting := r.register(done.Path, kilo("a"), ledger.Queued, func(f *ledger.Found) { f.Destination = "https://other.example" })
	k := r.keeper(Config{MaxSize: 1})
	if report := r.sweep(k); report.Purged != 0 || !exists(done.Path) {
		t.Errorf("reported %+v", report)
	}
	_, err := r.Begin(t.Context(), waiting.ID, "cloudshark")
	r.ok(err)
	r.ok(r.Finish(t.Context(), waiting.ID, "cloudshark", ledger.Result{SessionID: "ba9876543210"}, ledger.Done))
	if report := r.sweep(k); report.Purged != 2 || exists(done.Path) {
		t.Errorf("reported %+v", report)
	}
}

// busyLedger has a capture that a process is on.
type busyLedger struct {
	*rig
	id  int64
	err error
}

func (b busyLedger) SetState(ctx context.Context, id int64, to ledger.State, reason string) error {
	if id == b.id {
		return b.err
	}
	return b.rig.SetState(ctx, id, to, reason)
}

func TestACaptureThatIsInUseIsPassedOver(t *testing.T) {
	for _, err := range []error{ledger.ErrBusy, &ledger.TransitionError{}} {
		r := newRig(t)
		busy, free := r.add("busy.pcap", kilo("busy"), ledger.Done), r.add("free.pcap", kilo("free"), ledger.Done)
		k := r.keeper(Config{MaxSize: 1})
		k.Ledger = busyLedger{r, busy.ID, fmt.Errorf("wrapped: %w", err)}
		if report := r.sweep(k); report.Purged != 1 || !exists(busy.Path) || exists(free.Path) {
			t.Errorf("%v: reported %+v", err, report)
		}
	}
}

func TestALedgerThatCantBeWrittenDeletesNothing(t *testing.T) {
	r := newRig(t)
	c := r.add("done.pcap", kilo("done"), ledger.Done)
	k := r.keeper(Config{MaxSize: 1})
	full := errors.New("disk full")
	k.Ledger = busyLedger{r, c.ID, full}
	if _, err := k.Sweep(t.Context()); !errors.Is(err, full) || !exists(c.Path) {
		t.Errorf("got %v", err)
	}
}

func TestManyCapturesInOneSweep(t *testing.T) {
	r := newRig(t)
	const done, held, young = 110, 110, 110 // each more than a page
	for i := range done {
		r.add(fmt.Sprintf("%d/%d.pcap", i%7, i), fmt.Sprint(i), ledger.Done)
	}
	for i := range held {
		r.add(fmt.Sprintf("held-%d.pcap", i), fmt.Sprint("held", i), ledger.Held)
	}
	r.now = r.now.Add(40 * day)
	for i := range young { // by their packets, which are old, they come first
		r.add(fmt.Sprintf("young/%d.pcap", i), fmt.Sprint("young", i), ledger.Held, func(f *ledger.Found) { f.Last = day0.Add(-day) })
	}
	if report := r.sweep(r.keeper(Config{MaxAge: config.Duration(10 * day)})); report.Purged != done+held {
		t.Errorf("reported %+v", report)
	}
	if left := files(t, r.dir); len(left) != young {
		t.Errorf("%d files are left", len(left))
	}
}

func TestSweepEndsWithItsContext(t *testing.T) {
	r := newRig(t)
	c := r.add("done.pcap", kilo("done"), ledger.Done)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.keeper(Config{MaxSize: 1}).Sweep(ctx); !errors.Is(err, context.Canceled) || !exists(c.Path) {
		t.Errorf("got %v", err)
	}
}

// A crash between the record and the deletion.
func TestRecover(t *testing.T) {
	r := newRig(t)
	purge := func(c ledger.Capture) { r.ok(r.SetState(t.Context(), c.ID, ledger.Purged, "")) }
	left := r.add("folder/left.pcap", "left", ledger.Done)
	purge(left)
	purge(r.add("gone.pcap", "gone", ledger.Done))
	r.ok(os.Remove(filepath.Join(r.dir, "gone.pcap")))
	// The name of a purged capture, used again, with no row yet.
	purge(r.add("again.pcap", "old content", ledger.Done))
	r.ok(os.WriteFile(filepath.Join(r.dir, "again.pcap"), []byte("new content"), 0o600))
	// What the agent was only shown, and what another destination needs.
	purge(r.add("shown.pcap", "shown", ledger.Done, func(f *ledger.Found) { f.Owned = false }))
	needed := r.add("needed.pcap", "needed", ledger.Done)
	r.register(needed.Path, "needed", ledger.Queued, func(f *ledger.Found) { f.Destination = "https://other.example" })
	purge(needed)
	r.add("done.pcap", "done", ledger.Done)

	for _, want := range []int{1, 0} {
		if n, err := r.keeper(Config{}).Recover(t.Context()); n != want || err != nil {
			t.Errorf("recovered %d, %v; want %d", n, err, want)
		}
	}
	want := map[string]string{"again.pcap": "new content", "shown.pcap": "shown", "needed.pcap": "needed", "done.pcap": "done"}
	if diff := cmp.Diff(want, files(t, r.dir)); diff != "" {
		t.Errorf("what is left (-want +got):\n%s", diff)
	}
}

func TestConfig(t *testing.T) {
	def := DefaultConfig()
	if errs := def.Validate(); len(errs) != 0 || def.MaxSize != 0 || def.MaxAge != 0 || def.MinFree != 1<<30 {
		t.Errorf("the default is %+v, %v", def, errs)
	}
	bad := Config{MaxSize: -1, MaxAge: config.Duration(time.Second), MinFree: -1}
	var keys []string
	for _, err := range bad.Validate() {
		keys = append(keys, err.Key)
	}
	if diff := cmp.Diff([]string{"retention.max_size", "retention.max_age", "retention.min_free"}, keys); diff != "" {
		t.Error(diff)
	}
}

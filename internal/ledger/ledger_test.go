package ledger

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const dest = "https://cloudshark.example"

// open opens a ledger in a directory that doesn't exist yet, and closes it when
// the test ends.
func open(t testing.TB, path string, opts Options) *Ledger {
	t.Helper()
	l, err := Open(t.Context(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func newPath(t testing.TB) string { return filepath.Join(t.TempDir(), "state", "ledger.db") }

// clock is a clock that tests move.
type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func newClock() *clock { return &clock{time.Date(2025, 3, 4, 5, 6, 7, 8, time.UTC)} }

func hash(content string) string {
	h := sha256.Sum256([]byte(content))
	return hex.EncodeToString(h[:])
}

func found(path, content string) Found {
	return Found{
		Source: "import", Path: path, Name: filepath.Base(path), Case: "IR-1", Destination: dest, State: Queued,
		Inspection: Inspection{
			Format: "pcap", Size: int64(len(content)), PayloadSize: int64(len(content)), SHA256: hash(content), SHA1: "1" + hash(content)[:39],
			Packets: 3, PacketBytes: 180, First: time.Unix(1700000000, 123456789).UTC(), Last: time.Unix(1700000001, 1).UTC(),
			LinkTypes: []string{"EN10MB", "RAW"}, Interfaces: 2,
		},
		Tags: []string{"case:IR-1", "a b", "ü"}, Comment: "from\na disk",
	}
}

func register(t testing.TB, l *Ledger, f ...Found) []Registered {
	t.Helper()
	r, err := l.Register(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func get(t testing.TB, l *Ledger, id int64) Capture {
	t.Helper()
	c, err := l.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func begin(t testing.TB, l *Ledger, id int64, step string) Begun {
	t.Helper()
	b, err := l.Begin(t.Context(), id, step)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustClaim(t testing.TB, l *Ledger, id int64, step string) Begun {
	t.Helper()
	b := begin(t, l, id, step)
	if b.Outcome != Claimed {
		t.Fatalf("begin %s of %d: %+v, want claimed", step, id, b)
	}
	return b
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func same(t testing.TB, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("unexpected (-want +got):\n%s", d)
	}
}

func TestARegisteredCaptureIsReadBackAsItWas(t *testing.T) {
	path := newPath(t)
	clk := newClock()
	l := open(t, path, Options{Now: clk.Now})
	f := found("/evidence/a.pcap", "a")
	f.Owned, f.Truncated, f.Disorder, f.Note, f.Method, f.Keylog, f.Wrapper = true, true, 4, "cut", "post", "/k", "gzip"
	r := register(t, l, f)[0]
	if !r.New || r.ID == 0 {
		t.Fatalf("new %v, id %d", r.New, r.ID)
	}
	want := Capture{
		ID: r.ID, Source: f.Source, Path: f.Path, Name: f.Name, Case: f.Case, Destination: f.Destination, State: Queued,
		Owned: true, Inspection: f.Inspection, Tags: f.Tags, Comment: f.Comment, Method: "post", Keylog: "/k",
		Created: clk.now, Updated: clk.now,
	}
	same(t, r.Capture, want)
	same(t, get(t, l, r.ID), want)
	steps, err := l.Steps(t.Context(), r.ID)
	ok(t, err)
	same(t, steps, []Step{{Capture: r.ID, Name: StepInspect, State: StepDone, Attempts: 1, Note: "cut", Updated: clk.now}})

	t.Run("also by the next process", func(t *testing.T) {
		ok(t, l.Close())
		l := open(t, path, Options{})
		same(t, get(t, l, r.ID), want)
		if !l.Rebuilt().IsZero() {
			t.Error("rebuilt", l.Rebuilt())
		}
	})
}

func TestAnUploadGoesFromClaimToDone(t *testing.T) {
	l := open(t, newPath(t), Options{})
	id := register(t, l, found("/a", "a"))[0].ID
	same(t, mustClaim(t, l, id, "cloudshark"), Begun{Outcome: Claimed, Attempt: 1})
	if b := begin(t, l, id, "cloudshark"); b.Outcome != Busy || b.PID == 0 {
		t.Fatalf("second claim: %+v", b)
	}
	ok(t, l.Finish(t.Context(), id, "cloudshark", Result{SessionName: "n", SessionID: "0123456789ab", SessionURL: "u", Note: "sent"}, Done))
	c := get(t, l, id)
	if c.State != Done || c.SessionID != "0123456789ab" || c.SessionName != "n" || c.SessionURL != "u" {
		t.Fatalf("%+v", c)
	}
	same(t, begin(t, l, id, "cloudshark"), Begun{Outcome: Finished})
	var te *TransitionError
	if err := l.Finish(t.Context(), id, "cloudshark", Result{}, ""); !errors.As(err, &te) || te.From != "done" || te.To != "done" {
		t.Fatalf("finished twice: %v", err)
	}
}

func TestListGivesPagesInOrder(t *testing.T) {
	l := open(t, newPath(t), Options{})
	var all []Found
	for i := range 2*pageSize + 3 {
		f := found(fmt.Sprintf("/%d", i), fmt.Sprint(i))
		if i%2 == 1 {
			f.State, f.Case = Held, "other"
		}
		all = append(all, f)
	}
	regs := register(t, l, all...)
	count := func(f Filter) (n int, first, last int64) {
		for c, err := range l.List(t.Context(), f) {
			ok(t, err)
			if n++; first == 0 {
				first = c.ID
			}
			last = c.ID
		}
		return n, first, last
	}
	end := regs[len(regs)-1].ID
	for _, tt := range []struct {
		name        string
		f           Filter
		n           int
		first, last int64
	}{
		{"everything", Filter{}, 1003, 1, end},
		{"newest first", Filter{Newest: true}, 1003, end, 1},
		{"a limit over a page", Filter{Limit: 501}, 501, 1, 501},
		{"a limit of one page", Filter{Limit: 500, Newest: true}, 500, end, end - 499},
		{"one state", Filter{States: []State{Held}}, 501, 2, 1002},
		{"two states", Filter{States: []State{Held, Queued}}, 1003, 1, 1003},
		{"two states, newest first", Filter{States: []State{Held, Queued}, Newest: true}, 1003, end, 1},
		{"two states, some", Filter{States: []State{Held, Queued, Done}, Limit: 501, After: 500}, 501, 501, 1001},
		{"a state twice", Filter{States: []State{Held, Held}}, 501, 2, 1002},
		{"after a row", Filter{After: 1000}, 3, 1001, end},
		{"after a row, newest first", Filter{After: 1000, Newest: true, Limit: 600}, 600, 999, 400},
		{"after a row of a state", Filter{After: 2, States: []State{Held}, Newest: true}, 0, 0, 0},
		{"a state of a case", Filter{States: []State{Held}, Case: "other", After: 2}, 500, 4, 1002},
		{"a state without captures", Filter{States: []State{Failed}}, 0, 0, 0},
		{"a case", Filter{Case: "other", Newest: true}, 501, 1002, 2},
		{"numbers", Filter{IDs: []int64{7, 5, 99999}}, 2, 5, 7},
		{"no numbers", Filter{IDs: []int64{}}, 0, 0, 0},
		{"a source", Filter{Source: "upload"}, 0, 0, 0},
		{"a destination", Filter{Destination: dest, Limit: 1}, 1, 1, 1},
		{"a content", Filter{SHA256: hash("3")}, 1, 4, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, first, last := count(tt.f)
			if n != tt.n || first != tt.first || last != tt.last {
				t.Errorf("%d captures from %d to %d, want %d from %d to %d", n, first, last, tt.n, tt.first, tt.last)
			}
		})
	}
	t.Run("a context that is over is an error", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var got error
		for _, err := range l.List(ctx, Filter{}) {
			got = err
		}
		if !errors.Is(got, context.Canceled) {
			t.Errorf("%v", got)
		}
	})
}

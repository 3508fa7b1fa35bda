package ledger

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestAFileThatIsFoundAgain(t *testing.T) {
	for _, tt := range []struct {
		name     string
		before   State // of the row
		found    State
		after    State
		retagged bool
	}{
		{"takes the new description while it is queued", Queued, Queued, Queued, true},
		{"stays queued when it would now be held", Queued, Held, Queued, true},
		{"is queued when it was held and is now asked for", Held, Queued, Queued, true},
		{"stays held", Held, Held, Held, true},
		{"is queued when it is now understood", Quarantined, Queued, Queued, true},
		{"is held when it is now understood", Quarantined, Held, Held, true},
		{"is done when it is now known to be empty", Quarantined, Done, Done, true},
		{"stays quarantined", Quarantined, Quarantined, Quarantined, true},
		{"is as it was when it is done", Done, Queued, Done, false},
		{"is as it was when it failed", Failed, Queued, Failed, false},
		{"is as it was when it was purged", Purged, Queued, Purged, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := open(t, newPath(t), Options{})
			old := register(t, l, found("/a", "a"))[0]
			force(t, l, `UPDATE captures SET state = ?`, tt.before)
			f := found("/a", "a")
			f.State, f.Source, f.Name, f.Case, f.Tags, f.Comment, f.Keylog = tt.found, "upload", "new", "IR-2", []string{"new"}, "c", "/keys"
			r := register(t, l, f)[0]
			if r.New || r.ID != old.ID || r.State != tt.after {
				t.Errorf("%+v", r)
			}
			want := old.Capture
			want.State, want.Updated = tt.after, r.Updated
			if tt.retagged {
				want.Source, want.Name, want.Case, want.Tags, want.Comment, want.Keylog = "upload", "new", "IR-2", []string{"new"}, "c", "/keys"
			}
			same(t, r.Capture, want)
			same(t, get(t, l, r.ID), want)
		})
	}
}

func TestWhatMakesACaptureAnotherOne(t *testing.T) {
	l := open(t, newPath(t), Options{})
	path, content, elsewhere := found("/b", "a"), found("/a", "b"), found("/a", "a")
	elsewhere.Destination = "https://other.example"
	var ids []int64
	for _, r := range register(t, l, found("/a", "a"), path, content, elsewhere, found("/a", "a")) {
		ids = append(ids, r.ID)
	}
	same(t, ids, []int64{1, 2, 3, 4, 1})
}

func TestABatchIsAllOrNothing(t *testing.T) {
	l := open(t, newPath(t), Options{})
	bad := found("/bad\x1b", "b")
	bad.State = Purged
	_, err := l.Register(t.Context(), []Found{found("/a", "a"), bad})
	var te *TransitionError
	if !errors.As(err, &te) || !strings.Contains(err.Error(), `"/bad\x1b"`) {
		t.Errorf("%v", err)
	}
	s, err := l.Counts(t.Context())
	ok(t, err)
	if len(s.States) != 0 {
		t.Errorf("%+v", s)
	}
	none, err := l.Register(t.Context(), nil)
	ok(t, err)
	if len(none) != 0 {
		t.Errorf("%+v", none)
	}
}

func TestLookupFindsWhatPeopleType(t *testing.T) {
	l := open(t, newPath(t), Options{})
	r := register(t, l, found("/a", "a"), found("/b", "b"), found("/c", "b"))
	mustClaim(t, l, 1, "cloudshark")
	planParts(t, l, 1, []Part{{Number: 1, Of: 2}, {Number: 2, Of: 2}})
	ok(t, l.FinishPart(t.Context(), 1, 2, "ffffffffff02", false))
	ok(t, l.Finish(t.Context(), 1, "cloudshark", Result{SessionID: "ffffffffff01"}, Done))
	for _, tt := range []struct {
		text string
		id   int64
		err  error
	}{
		{"1", 1, nil},
		{"2", 2, nil},
		{"ffffffffff01", 1, nil},
		{"ffffffffff02", 1, nil},
		{r[0].SHA256, 1, nil},
		{r[0].SHA256[:6], 1, nil},
		{strings.ToUpper(r[0].SHA256[:9]), 1, nil},
		{r[0].SHA256[:5], 0, ErrNotFound},
		{r[1].SHA256, 0, ErrAmbiguous},
		{"99", 0, ErrNotFound},
		{"", 0, ErrNotFound},
		{"-1", 0, ErrNotFound},
		{"000000000000", 0, ErrNotFound},
		{"%", 0, ErrNotFound},
		{"x'; DROP TABLE captures; --", 0, ErrNotFound},
		{strings.Repeat("a", 1<<20), 0, ErrNotFound},
	} {
		name := tt.text[:min(len(tt.text), 20)]
		t.Run(name, func(t *testing.T) {
			c, err := l.Lookup(t.Context(), tt.text)
			if !errors.Is(err, tt.err) || c.ID != tt.id {
				t.Errorf("capture %d, %v; want %d, %v", c.ID, err, tt.id, tt.err)
			}
			if errors.Is(tt.err, ErrAmbiguous) && !strings.Contains(err.Error(), "captures 2, 3") {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestASummaryAgreesWithTheRows(t *testing.T) {
	clk := newClock()
	l := open(t, newPath(t), Options{Now: clk.Now})
	s, err := l.Counts(t.Context())
	ok(t, err)
	same(t, s, Summary{States: map[State]Count{}})
	start := clk.now
	for i, state := range []State{Held, Queued, Queued, Quarantined, Done} {
		f := found("/"+strconv.Itoa(i), strings.Repeat("x", 10+i))
		f.State, f.Size = state, int64(i)<<40
		clk.now = start.Add(time.Duration(i) * time.Hour)
		register(t, l, f)
	}
	force(t, l, `UPDATE captures SET possible_duplicate = 1 WHERE id IN (4, 5)`)
	s, err = l.Counts(t.Context())
	ok(t, err)
	same(t, s, Summary{
		States: map[State]Count{
			Held: {1, 0}, Queued: {2, 3 << 40}, Quarantined: {1, 3 << 40}, Done: {1, 4 << 40},
		},
		OldestQueued: start.Add(time.Hour), PossibleDuplicates: 2,
	})
}

func TestPartsAreRecordedBeforeTheFirstUpload(t *testing.T) {
	l := open(t, newPath(t), Options{})
	id := register(t, l, found("/a", "a"))[0].ID
	parts := []Part{
		{Number: 1, Of: 2, Prefix: []byte("head"), Offset: 0, Length: 10, Size: 14, SHA256: "1", SHA1: "2", Packets: 3, First: time.Unix(1, 2).UTC(), Last: time.Unix(3, 4).UTC(), Name: "a-1"},
		{Number: 2, Of: 2, Offset: 10, Length: 5, Size: 5, Name: "a-2"},
	}
	planParts(t, l, id, parts)
	if _, err := l.PlanParts(t.Context(), id, parts[:1]); !errors.Is(err, ErrPlanned) {
		t.Errorf("planned again: %v", err)
	}
	read := func() []Part {
		got, err := l.Parts(t.Context(), id)
		ok(t, err)
		return got
	}
	same(t, read(), parts)
	ok(t, l.FinishPart(t.Context(), id, 1, "0123456789ab", false))
	ok(t, l.FinishPart(t.Context(), id, 1, "0123456789ab", false))
	ok(t, l.FinishPart(t.Context(), id, 2, "0123456789ac", true))
	if err := l.FinishPart(t.Context(), id, 1, "aaaaaaaaaaaa", false); err == nil {
		t.Error("another session for the same part")
	}
	parts[0].SessionID, parts[1].SessionID, parts[1].PossibleDuplicate = "0123456789ab", "0123456789ac", true
	same(t, read(), parts)
	if c := get(t, l, id); !c.PossibleDuplicate || c.SessionID != "" {
		t.Errorf("%+v", c)
	}
	for _, bad := range [][]Part{{{Number: 2, Of: 2}}, {{Number: 1, Of: 2}}, {{Number: 1, Of: 2}, {Number: 1, Of: 2}}} {
		other := register(t, l, found("/other", "o"))[0].ID
		if _, err := l.PlanParts(t.Context(), other, bad); err == nil {
			t.Errorf("planned %+v", bad)
		}
	}
}

func TestAPauseIsForADestination(t *testing.T) {
	l := open(t, newPath(t), Options{})
	ctx := t.Context()
	a := Pause{Destination: "https://a", Class: "quota", Reason: "full", Since: time.Unix(1, 0).UTC(), Until: time.Unix(2, 0).UTC()}
	b := Pause{Destination: "https://b", Class: "bad_token", Reason: "404", Since: time.Unix(3, 0).UTC()}
	read := func() []Pause {
		p, err := l.Pauses(ctx)
		ok(t, err)
		return p
	}
	ok(t, l.SetPause(ctx, b))
	ok(t, l.SetPause(ctx, a))
	same(t, read(), []Pause{a, b})
	a.Class = "busy"
	ok(t, l.SetPause(ctx, a))
	same(t, read(), []Pause{a, b})
	ok(t, l.ClearPause(ctx, a.Destination))
	ok(t, l.ClearPause(ctx, "https://never"))
	same(t, read(), []Pause{b})
}

// TestAnyOrderOfCallsKeepsTheRules runs random calls from two processes' view
// (two open ledgers) and holds them against a small model.
func TestAnyOrderOfCallsKeepsTheRules(t *testing.T) {
	path := newPath(t)
	ls := []*Ledger{open(t, path, Options{}), open(t, path, Options{})}
	defer func() {
		for _, l := range ls {
			_ = l.Close()
		}
	}()
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		ctx := t.Context()
		round++
		contents := []string{"x", "x", "y"}
		var files []Found
		for i, c := range contents {
			files = append(files, found(fmt.Sprintf("/%d/%d", round, i), fmt.Sprint(round, c)))
		}
		var ids []int64
		for _, r := range register(t, ls[0], files...) {
			ids = append(ids, r.ID)
		}
		owner := map[int]int{}  // capture to the ledger that claimed it, from 1
		begun := map[int]bool{} // ever
		sent := map[string]int{}
		ended := map[int]bool{}
		idle := func() []int {
			var all []int
			for i := range ids {
				all = append(all, i)
			}
			return all
		}()
		for range rapid.IntRange(1, 16).Draw(rt, "calls") {
			i := rapid.SampledFrom(idle).Draw(rt, "capture")
			who := rapid.IntRange(1, 2).Draw(rt, "process")
			l := ls[who-1]
			twins := func(f func(j int) bool) bool {
				return slices.ContainsFunc(idle, func(j int) bool { return j != i && contents[j] == contents[i] && f(j) })
			}
			switch rapid.SampledFrom([]string{"begin", "begin", "begin", "finish", "fail", "die"}).Draw(rt, "call") {
			case "begin":
				b, err := l.Begin(ctx, ids[i], "cloudshark")
				if err != nil {
					rt.Fatal(err)
				}
				want := Claimed
				switch {
				case ended[i]:
					want = Finished
				case owner[i] != 0:
					want = Busy
				case sent[contents[i]] > 0:
					want = Duplicate
				case twins(func(j int) bool { return owner[j] != 0 }):
					want = Busy
				}
				if b.Outcome != want {
					rt.Fatalf("begin %d: %v, want %v", i, b.Outcome, want)
				}
				switch b.Outcome {
				case Claimed:
					if look := begun[i] || twins(func(j int) bool { return begun[j] }); b.Restarted != look {
						rt.Fatalf("begin %d: restarted %v, want %v", i, b.Restarted, look)
					}
					owner[i], begun[i] = who, true
				case Duplicate:
					if err := l.Finish(ctx, ids[i], "cloudshark", Result{Skipped: true, DuplicateOf: b.Other}, Done); err != nil {
						rt.Fatal(err)
					}
					ended[i] = true
				}
			case "finish":
				err := l.Finish(ctx, ids[i], "cloudshark", Result{SessionID: fmt.Sprintf("%012x", i)}, Done)
				if (err == nil) != (owner[i] == who) {
					rt.Fatalf("finish %d by %d: %v, owner %d", i, who, err, owner[i])
				}
				if err == nil {
					owner[i], ended[i] = 0, true
					sent[contents[i]]++
				}
			case "fail":
				err := l.Fail(ctx, ids[i], "cloudshark", StepFailure{Class: "x", Release: rapid.Bool().Draw(rt, "release")})
				if (err == nil) != (owner[i] == who) {
					rt.Fatalf("fail %d by %d: %v, owner %d", i, who, err, owner[i])
				}
				if err == nil {
					owner[i] = 0
				}
			case "die":
				if err := l.Close(); err != nil {
					rt.Fatal(err)
				}
				next, err := Open(context.Background(), path, Options{})
				if err != nil {
					rt.Fatal(err)
				}
				ls[who-1] = next
				for j, o := range owner {
					if o == who {
						owner[j] = 0
					}
				}
			}
		}
		for content, n := range sent {
			if n > 1 {
				rt.Fatalf("%s was sent %d times", content, n)
			}
		}
	})
}

func planParts(t testing.TB, l *Ledger, id int64, parts []Part) {
	t.Helper()
	got, err := l.PlanParts(t.Context(), id, parts)
	ok(t, err)
	if len(got) != len(parts) {
		t.Fatalf("%d parts recorded, want %d", len(got), len(parts))
	}
}

// A lost reply to one file must be looked for under the name that was sent, also
// when the next try comes from another file of the same content.
func TestEqualContentSharesItsParts(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "l.db"), Options{})
	found := []Found{
		{Path: "/a", Destination: "https://cs", State: Queued, Inspection: Inspection{SHA256: "aa"}},
		{Path: "/b", Destination: "https://cs", State: Queued, Inspection: Inspection{SHA256: "aa"}},
		{Path: "/b", Destination: "https://other", State: Queued, Inspection: Inspection{SHA256: "aa"}},
	}
	r, err := l.Register(t.Context(), found)
	ok(t, err)
	planParts(t, l, r[0].ID, []Part{{Number: 1, Of: 2, Name: "first-1"}, {Number: 2, Of: 2, Name: "first-2"}})
	ok(t, l.FinishPart(t.Context(), r[0].ID, 1, "aaaaaaaaaaaa", false))
	got, err := l.PlanParts(t.Context(), r[1].ID, []Part{{Number: 1, Of: 1, Name: "second"}})
	ok(t, err)
	if len(got) != 2 || got[0].Name != "first-1" || got[0].SessionID != "aaaaaaaaaaaa" || got[1].Name != "first-2" || got[1].SessionID != "" {
		t.Errorf("same content, same destination: %+v", got)
	}
	got, err = l.PlanParts(t.Context(), r[2].ID, []Part{{Number: 1, Of: 1, Name: "third"}})
	ok(t, err)
	if len(got) != 1 || got[0].Name != "third" {
		t.Errorf("another destination: %+v", got)
	}
}

// What was refused as it was may have to be cut otherwise.
func TestRetryDropsAPlanOfWhichNothingWasSent(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "l.db"), Options{})
	r, err := l.Register(t.Context(), []Found{
		{Path: "/a", State: Queued, Inspection: Inspection{SHA256: "aa"}},
		{Path: "/b", State: Queued, Inspection: Inspection{SHA256: "bb"}},
	})
	ok(t, err)
	for i, c := range r {
		_, err := l.Begin(t.Context(), c.ID, "x")
		ok(t, err)
		planParts(t, l, c.ID, []Part{{Number: 1, Of: 2}, {Number: 2, Of: 2}})
		if i == 1 {
			ok(t, l.FinishPart(t.Context(), c.ID, 1, "aaaaaaaaaaaa", false))
		}
		ok(t, l.Fail(t.Context(), c.ID, "x", StepFailure{Class: "too_large", Text: "too large", Permanent: true}))
	}
	_, err = l.Retry(t.Context())
	ok(t, err)
	for i, want := range []int{0, 2} {
		parts, err := l.Parts(t.Context(), r[i].ID)
		ok(t, err)
		if len(parts) != want {
			t.Errorf("capture %d: %d parts, want %d", i, len(parts), want)
		}
	}
}

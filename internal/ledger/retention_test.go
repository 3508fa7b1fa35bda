package ledger

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

func TestOnlyWhatWasSentIsExpendable(t *testing.T) {
	clk := newClock()
	l := open(t, newPath(t), Options{Now: clk.Now})
	mine := func(path string, second int64, state State) Found {
		f := foundAt(path, second)
		f.Owned, f.State, f.Last = true, state, f.First.Add(time.Second)
		return f
	}
	empty := mine("/empty", 0, Done)
	empty.Packets, empty.First, empty.Last = 0, time.Time{}, time.Time{}
	foreign := mine("/foreign", 1, Queued)
	foreign.Owned = false
	r := register(t, l, mine("/new", 9, Queued), mine("/old", 2, Queued), empty, foreign, mine("/nowhere", 1, Done),
		mine("/queued", 1, Queued), mine("/held", 5, Held), mine("/held earlier", 4, Held))
	for _, i := range []int{0, 1, 3} {
		mustClaim(t, l, r[i].ID, "cloudshark")
		ok(t, l.Finish(t.Context(), r[i].ID, "cloudshark", Result{SessionID: strconv.Itoa(i)}, Done))
	}
	expendable := func(before time.Time, held bool, limit int) (ids []int64) {
		t.Helper()
		captures, err := l.Expendable(t.Context(), before, held, limit)
		ok(t, err)
		for _, c := range captures {
			ids = append(ids, c.ID)
		}
		return ids
	}
	fresh, old, none := r[0].ID, r[1].ID, r[2].ID
	same(t, expendable(time.Time{}, false, 9), []int64{old, fresh, none})
	same(t, expendable(time.Time{}, false, 1), []int64{old})
	same(t, expendable(time.Unix(1700000010, 0), false, 9), []int64{old}) // the last packet of fresh is not before that
	same(t, expendable(time.Unix(1700000011, 0), false, 9), []int64{old, fresh})
	same(t, expendable(clk.now.Add(1), false, 9), []int64{old, fresh, none})
	same(t, expendable(time.Time{}, true, 9), []int64{r[7].ID, r[6].ID})

	ok(t, l.SetState(t.Context(), old, Purged, ""))
	same(t, expendable(time.Time{}, false, 9), []int64{fresh, none})
	have, err := l.Owned(t.Context())
	ok(t, err)
	same(t, have, Count{6, int64(len("/new/empty/nowhere/queued/held/held earlier"))})
}

// TestCountsAreThoseOfTheRows compares the counters with the rows they stand for.
func TestCountsAreThoseOfTheRows(t *testing.T) {
	l := open(t, newPath(t), Options{})
	rng := rand.New(rand.NewPCG(7, 8))
	for range 300 {
		f := found("/"+strconv.Itoa(rng.IntN(120)), "same")
		f.Owned, f.Size = rng.IntN(2) == 0, rng.Int64N(1000)
		f.State = []State{Queued, Held, Quarantined, Sealed, Done}[rng.IntN(5)]
		r, err := l.Register(t.Context(), []Found{f})
		if err == nil { // many are refused, which is part of it
			_ = l.SetState(t.Context(), r[0].ID, States[rng.IntN(len(States))], "x")
		}
	}
	got, err := l.Counts(t.Context())
	ok(t, err)
	mine, err := l.Owned(t.Context())
	ok(t, err)
	want, wantMine := map[State]Count{}, Count{}
	for c, err := range l.List(t.Context(), Filter{}) {
		ok(t, err)
		n := want[c.State]
		want[c.State] = Count{n.Captures + 1, n.Bytes + c.Size}
		if c.Owned && c.State != Purged {
			wantMine.Captures, wantMine.Bytes = wantMine.Captures+1, wantMine.Bytes+c.Size
		}
	}
	same(t, got.States, want)
	same(t, mine, wantMine)
	if len(want) < 5 {
		t.Errorf("only %v", want)
	}
}

func TestAFileThatIsMovedKeepsItsRecord(t *testing.T) {
	l := open(t, newPath(t), Options{})
	r := register(t, l, found("/in/a", "a"), found("/out/a", "a"))
	ok(t, l.SetPath(t.Context(), r[0].ID, "/out/\xffb"))
	if c := get(t, l, r[0].ID); c.Path != "/out/\xffb" || c.Name != "a" {
		t.Errorf("%+v", c)
	}
	if err := l.SetPath(t.Context(), r[0].ID, "/out/a"); err == nil {
		t.Error("two records of the same content at the same path")
	}
	if err := l.SetPath(t.Context(), 99, "/x"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	if err := l.SetPath(t.Context(), r[0].ID, ""); err == nil {
		t.Error("no path")
	}
}

func TestFilesAreRememberedByTheirPath(t *testing.T) {
	path := newPath(t)
	l := open(t, path, Options{})
	ctx := t.Context()
	f := found("/w/\xffa", "a")
	f.Stamp = "1:2"
	id := register(t, l, f, found("/w/b", "b"))[0].ID
	recall := func(path string) (KnownFile, bool) {
		t.Helper()
		k, known, err := l.Recall(ctx, path)
		ok(t, err)
		return k, known
	}
	k, known := recall("/w/\xffa")
	same(t, k, KnownFile{Path: "/w/\xffa", Stamp: "1:2", Capture: id, State: Queued})
	if _, other := recall("/w/b"); !known || other {
		t.Error("known without a stamp")
	}
	mustClaim(t, l, id, "cloudshark")
	ok(t, l.Finish(ctx, id, "cloudshark", Result{SessionID: "abc"}, Done))
	k, _ = recall("/w/\xffa")
	same(t, k, KnownFile{Path: "/w/\xffa", Stamp: "1:2", Capture: id, State: Done, SessionID: "abc"})

	// Found again, the capture is as it was, and the new stamp is remembered.
	f.Stamp = "3:4"
	register(t, l, f)
	ok(t, l.Remember(ctx, []KnownFile{{Path: "/w/c.txt", Stamp: "5"}, {Path: "/w/d.txt", Stamp: "6"}, {Path: "/w/c.txt", Stamp: "7"}}))
	all, err := l.Files(ctx, "", 10)
	ok(t, err)
	want := []KnownFile{{Path: "/w/c.txt", Stamp: "7"}, {Path: "/w/d.txt", Stamp: "6"}, {Path: "/w/\xffa", Stamp: "3:4", Capture: id, State: Done, SessionID: "abc"}}
	same(t, all, want)
	page, err := l.Files(ctx, "/w/c.txt", 1)
	ok(t, err)
	same(t, page, want[1:2])
	ok(t, l.Forget(ctx, "/w/\xffa", "/w/d.txt", "/never"))
	all, err = l.Files(ctx, "", 10)
	ok(t, err)
	same(t, all, want[:1])
	if err := l.Remember(ctx, []KnownFile{{Path: "/w/e", Stamp: "1"}, {Path: "/w/f"}}); err == nil {
		t.Error("remembered without a stamp")
	}
	if _, known := recall("/w/e"); known {
		t.Error("half of it is remembered")
	}
}

package ledger

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func dueNow(t testing.TB, l *Ledger, limit int, except ...int64) []int64 {
	t.Helper()
	ids, err := l.Due(t.Context(), dest, except, limit)
	ok(t, err)
	return append([]int64{}, ids...)
}

func nextDue(t testing.TB, l *Ledger) time.Time {
	t.Helper()
	next, err := l.NextDue(t.Context(), dest)
	ok(t, err)
	return next
}

// foundAt is found whose first packet is so many seconds after 2023.
func foundAt(path string, second int64) Found {
	f := found(path, path)
	f.First = time.Unix(1700000000+second, 0).UTC()
	return f
}

func TestDueGivesTheOldestPacketsFirst(t *testing.T) {
	clk := newClock()
	l := open(t, newPath(t), Options{Now: clk.Now})
	elsewhere, held, empty := foundAt("/elsewhere", 0), foundAt("/held", 0), foundAt("/empty", 0)
	elsewhere.Destination, held.State, empty.First = "https://other.example", Held, time.Time{}
	r := register(t, l, foundAt("/late", 9), elsewhere, held, empty, foundAt("/early", 1), foundAt("/twin", 1), foundAt("/middle", 5))
	late, blank, early, twin, middle := r[0].ID, r[3].ID, r[4].ID, r[5].ID, r[6].ID

	same(t, dueNow(t, l, 10), []int64{early, twin, middle, late, blank}) // blank: by when it was registered
	same(t, dueNow(t, l, 2), []int64{early, twin})
	same(t, dueNow(t, l, 2, early, 4711, middle), []int64{twin, late})
	same(t, dueNow(t, l, 0), []int64{})
	same(t, dueNow(t, l, -1), []int64{})

	t.Run("without those that are being worked on here", func(t *testing.T) {
		mustClaim(t, l, early, "cloudshark")
		same(t, dueNow(t, l, 2), []int64{twin, middle})
		ok(t, l.Fail(t.Context(), early, "cloudshark", StepFailure{Release: true}))
		same(t, dueNow(t, l, 2), []int64{early, twin})
	})
	t.Run("with those that a dead process had", func(t *testing.T) {
		mustClaim(t, l, early, "cloudshark")
		clear(l.active)
		same(t, dueNow(t, l, 1), []int64{early})
	})
}

func TestACaptureThatWaitsIsDueWhenItsTimeHasCome(t *testing.T) {
	clk := newClock()
	l := open(t, newPath(t), Options{Now: clk.Now})
	r := register(t, l, foundAt("/a", 1), foundAt("/b", 2), foundAt("/c", 3))
	a, b, c := r[0].ID, r[1].ID, r[2].ID
	wait := func(id int64, step string, d time.Duration) {
		t.Helper()
		mustClaim(t, l, id, step)
		ok(t, l.Fail(t.Context(), id, step, StepFailure{Class: "busy", NotBefore: clk.now.Add(d)}))
	}
	same(t, nextDue(t, l), time.Time{})
	begin := clk.now
	wait(a, "cloudshark", time.Hour)
	wait(b, "cloudshark", time.Minute)
	same(t, dueNow(t, l, 9), []int64{c})
	same(t, nextDue(t, l), begin.Add(time.Minute))

	clk.now = begin.Add(time.Minute)
	same(t, dueNow(t, l, 9), []int64{b, c})
	same(t, nextDue(t, l), begin.Add(time.Hour))

	clk.now = begin.Add(time.Hour)
	same(t, dueNow(t, l, 9), []int64{a, b, c})
	same(t, nextDue(t, l), time.Time{})

	t.Run("the longest wait of its steps counts", func(t *testing.T) {
		wait(c, "annotate", time.Minute)
		wait(c, "cloudshark", 2*time.Minute)
		same(t, nextDue(t, l), clk.now.Add(2*time.Minute))
		mustClaimNow(t, l, c, "cloudshark")
		same(t, nextDue(t, l), clk.now.Add(time.Minute))
		ok(t, l.Fail(t.Context(), c, "cloudshark", StepFailure{Release: true}))
		mustClaimNow(t, l, c, "annotate")
		ok(t, l.Finish(t.Context(), c, "annotate", Result{}, ""))
		same(t, dueNow(t, l, 9), []int64{a, b, c})
	})
	t.Run("a wait longer than any is of a clock that jumped", func(t *testing.T) {
		wait(c, "cloudshark", MaxWait)
		same(t, dueNow(t, l, 9), []int64{a, b})
		clk.now = clk.now.Add(-time.Second)
		same(t, dueNow(t, l, 9), []int64{b, c})
		same(t, nextDue(t, l), clk.now.Add(time.Second)) // a
		clk.now = clk.now.Add(time.Second)
	})
	t.Run("a failed one is not due, and is when it is tried again", func(t *testing.T) {
		mustClaim(t, l, a, "cloudshark")
		ok(t, l.Fail(t.Context(), a, "cloudshark", StepFailure{Permanent: true}))
		same(t, dueNow(t, l, 9), []int64{b})
		ok(t, second(l.Retry(t.Context())))
		same(t, dueNow(t, l, 9), []int64{a, b, c})
	})
}

func mustClaimNow(t testing.TB, l *Ledger, id int64, step string) {
	t.Helper()
	b, err := l.BeginNow(t.Context(), id, step)
	ok(t, err)
	if b.Outcome != Claimed {
		t.Fatalf("%+v", b)
	}
}

func TestManyThatWaitedGetTheirTurn(t *testing.T) {
	clk := newClock()
	l := open(t, newPath(t), Options{Now: clk.Now})
	const n = maxRipe + 50
	var all []Found
	for i := range n {
		all = append(all, foundAt(fmt.Sprintf("/%d", i), int64(n-i)))
	}
	register(t, l, all...)
	force(t, l, fmt.Sprintf(`INSERT INTO steps (capture, name, state) SELECT id, 'cloudshark', 'pending' FROM captures;
		UPDATE steps SET not_before = %d + capture WHERE name = 'cloudshark'`, clk.now.UnixNano()))
	same(t, dueNow(t, l, 1), []int64{})
	clk.now = clk.now.Add(time.Minute)
	// Of the first thousand whose wait ended, the one with the oldest packets.
	same(t, dueNow(t, l, 1), []int64{maxRipe})
	seen := map[int64]bool{}
	for ids := dueNow(t, l, 100); len(ids) > 0; ids = dueNow(t, l, 100) {
		for _, id := range ids {
			if seen[id] {
				t.Fatalf("%d twice", id)
			}
			seen[id] = true
		}
		list, err := json.Marshal(ids)
		ok(t, err)
		force(t, l, `UPDATE captures SET state = 'done' WHERE id IN (SELECT value FROM json_each(?))`, string(list))
	}
	if len(seen) != n {
		t.Errorf("%d of %d", len(seen), n)
	}
}

// TestAnOlderLedgersBacklogGoesOn: version 1 knew nothing of what is due.
func TestAnOlderLedgersBacklogGoesOn(t *testing.T) {
	path := newPath(t)
	text, err := os.ReadFile(filepath.Join("testdata", "schema1.sql"))
	ok(t, err)
	ok(t, os.MkdirAll(filepath.Dir(path), 0o700))
	db := openDB(path)
	_, err = db.ExecContext(t.Context(), string(text)+`
		INSERT INTO captures SELECT id + 100, source, path || 'x', name, case_name, destination, 'queued', reason, 1, format, wrapper, size, payload_size, sha256,
			sha1, packets, packet_bytes, first_packet - id, last_packet, disorder, link_types, interfaces, truncated, note, tags, comment, method, keylog,
			'', '', '', 0, 0, 0, created, updated FROM captures WHERE id IN (1, 2, 4);
		UPDATE captures SET state = 'done', session_id = 'abc' WHERE id = 104`)
	ok(t, err)
	ok(t, db.Close())
	clk := newClock()
	l := open(t, path, Options{Now: clk.Now})
	same(t, dueNow(t, l, 9), []int64{102, 101})
	same(t, nextDue(t, l), clk.now.Add(time.Hour))
	clk.now = clk.now.Add(time.Hour)
	same(t, dueNow(t, l, 9), []int64{102, 101, 6})
	mine, err := l.Owned(t.Context())
	ok(t, err)
	same(t, mine, Count{3, 3})
	old, err := l.Expendable(t.Context(), time.Time{}, false, 9)
	ok(t, err)
	if len(old) != 1 || old[0].ID != 104 {
		t.Errorf("%+v", old)
	}
	mustClaim(t, l, 6, "cloudshark")
	ok(t, l.Finish(t.Context(), 6, "cloudshark", Result{SessionID: "x"}, Done))
	s, err := l.Counts(t.Context())
	ok(t, err)
	same(t, s.States, map[State]Count{Done: {5, 4}, Held: {1, 1}, Quarantined: {1, 1}, Queued: {2, 2}, Failed: {1, 1}})
}

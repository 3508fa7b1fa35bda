package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func finding(value string, rating float64) Finding {
	return Finding{
		VerdictKey: VerdictKey{"host", value}, Frame: 7, Count: 3, Rating: rating, Confidence: 80,
		Data: json.RawMessage(`{"owner":"` + value + `"}`),
	}
}

func setFindings(t testing.TB, l *Ledger, id int64, f ...Finding) {
	t.Helper()
	ok(t, l.SetFindings(t.Context(), id, f))
}

func findings(t testing.TB, l *Ledger, id int64) []Finding {
	t.Helper()
	f, err := l.Findings(t.Context(), id)
	ok(t, err)
	return f
}

func findingEvents(t testing.TB, l *Ledger) (all []string) {
	t.Helper()
	events, err := l.Events(t.Context(), 100)
	ok(t, err)
	for _, e := range events {
		var d findingData
		if e.Name == EventFinding {
			ok(t, json.Unmarshal(e.Data, &d))
			all = append(all, fmt.Sprintf("%d %s %s %g", e.Capture, d.Change, d.Value, d.Rating))
		}
	}
	return all
}

func TestFindingsOfACapture(t *testing.T) {
	clk := newClock()
	l := open(t, newPath(t), Options{Now: clk.Now})
	id := register(t, l, found("/a", "a"), found("/b", "b"))[0].ID
	setFindings(t, l, id, finding("low.example", 3), finding("worst.example", 5))
	got := findings(t, l, id)
	if len(got) != 2 || got[0].Value != "worst.example" || got[0].Frame != 7 || got[0].Count != 3 || got[0].Confidence != 80 ||
		string(got[0].Data) != `{"owner":"worst.example"}` || got[0].Acts != nil || !got[0].Found.Equal(clk.now) {
		t.Errorf("%+v", got)
	}
	if c := get(t, l, id); c.Findings != 2 {
		t.Errorf("the capture has %d", c.Findings)
	}
	setFindings(t, l, id, finding("worst.example", 5), finding("low.example", 4))
	setFindings(t, l, id, finding("low.example", 4))
	setFindings(t, l, id, finding("low.example", 4))
	same(t, findingEvents(t, l), []string{
		"1 new low.example 3", "1 new worst.example 5", "1 changed low.example 4", "1 gone worst.example 5",
	})
	if c := get(t, l, id); c.Findings != 1 {
		t.Errorf("the capture has %d", c.Findings)
	}
	setFindings(t, l, id)
	if c := get(t, l, id); c.Findings != 0 || len(findings(t, l, id)) != 0 {
		t.Errorf("the capture has %d", c.Findings)
	}
}

func TestFindingsThatCanNotBe(t *testing.T) {
	l := open(t, newPath(t), Options{})
	id := register(t, l, found("/a", "a"))[0].ID
	setFindings(t, l, id, finding("a.example", 3))
	big, text := finding("b.example", 3), finding("c.example", 3)
	big.Data, text.Data = json.RawMessage(`{"x":"`+strings.Repeat("x", MaxFindingData)+`"}`), json.RawMessage(`"text"`)
	for name, set := range map[string][]Finding{
		"twice": {finding("a.example", 3), finding("a.example", 4)}, "too large": {big}, "no object": {text},
		"no type": {{VerdictKey: VerdictKey{"x", "y"}, Data: json.RawMessage(`{}`)}}, "too many": make([]Finding, MaxFindings+1),
	} {
		if err := l.SetFindings(t.Context(), id, set); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if err := l.SetFindings(t.Context(), 99, nil); !errors.Is(err, ErrNotFound) {
		t.Errorf("a capture that is none: %v", err)
	}
	if got := findings(t, l, id); len(got) != 1 || got[0].Value != "a.example" {
		t.Errorf("%+v", got)
	}
}

func TestFlaggedCapturesAreListed(t *testing.T) {
	l := open(t, newPath(t), Options{})
	held := found("/c", "c")
	held.State = Held
	r := register(t, l, found("/a", "a"), found("/b", "b"), held)
	setFindings(t, l, r[1].ID, finding("a.example", 3))
	setFindings(t, l, r[2].ID, finding("a.example", 3))
	list := func(f Filter) (ids []int64) {
		f.Flagged = true
		for c, err := range l.List(t.Context(), f) {
			ok(t, err)
			ids = append(ids, c.ID)
		}
		return ids
	}
	same(t, list(Filter{}), []int64{2, 3})
	same(t, list(Filter{Newest: true, Limit: 1}), []int64{3})
	same(t, list(Filter{States: []State{Held}}), []int64{3})
	same(t, list(Filter{States: []State{Held, Queued}}), []int64{2, 3})
	query, args, err := Filter{Flagged: true, Limit: 10}.page(10)
	ok(t, err)
	plan, err := collect(t.Context(), l.r, func(p *[4]string) []any { return []any{&p[0], &p[1], &p[2], &p[3]} }, "EXPLAIN QUERY PLAN "+query, args...)
	if ok(t, err); !strings.Contains(fmt.Sprint(plan), "captures_flagged") {
		t.Errorf("it walks over all captures: %v", plan)
	}
}

func TestAnActIsDoneOnce(t *testing.T) {
	path := newPath(t)
	l := open(t, path, Options{})
	id := register(t, l, found("/a", "a"))[0].ID
	setFindings(t, l, id, finding("a.example", 3))
	f := findings(t, l, id)[0].ID
	begin := func(name string, want ActState) {
		t.Helper()
		before, err := l.BeginAct(t.Context(), f, name)
		if ok(t, err); before != want {
			t.Errorf("%s: %q before, want %q", name, before, want)
		}
	}
	begin("annotation", "")
	begin("annotation", ActStarted)
	ok(t, l.Close())
	l = open(t, path, Options{})
	begin("annotation", ActStarted)
	begin("observation", "")
	ok(t, l.EndAct(t.Context(), f, "observation", ActFailed, "403"))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	ok(t, l.EndAct(ended, f, "annotation", ActPending, "503"))
	begin("annotation", ActPending)
	ok(t, l.EndAct(t.Context(), f, "annotation", ActDone, ""))
	begin("annotation", ActDone)
	begin("observation", ActFailed)
	for _, name := range []string{"annotation", "never"} {
		if err := l.EndAct(t.Context(), f, name, ActDone, ""); !errors.Is(err, ErrNotBegun) {
			t.Errorf("%s ended again: %v", name, err)
		}
	}
	if _, err := l.BeginAct(t.Context(), f+1, "annotation"); err == nil {
		t.Error("an act of no finding")
	}

	// Neither setting them again nor a finding that comes and goes forgets it.
	setFindings(t, l, id)
	setFindings(t, l, id, finding("b.example", 5), finding("a.example", 4))
	got := findings(t, l, id)
	if got[1].ID != f || got[1].Acts["annotation"].State != ActDone || got[1].Acts["observation"].Error != "403" || got[0].Acts != nil {
		t.Errorf("%+v", got)
	}
}

// childAct does an act for every finding, and says when it begins and has ended each.
func childAct(path string, _ []string) error {
	ctx := context.Background()
	l, err := Open(ctx, path, Options{})
	if err != nil {
		return err
	}
	all, err := l.Findings(ctx, 1)
	if err != nil {
		return err
	}
	for _, f := range all {
		before, err := l.BeginAct(ctx, f.ID, "annotation")
		if err != nil {
			return err
		}
		if before == ActDone {
			continue
		}
		fmt.Println("begun", f.ID, before == ActStarted)
		if err := l.EndAct(ctx, f.ID, "annotation", ActDone, ""); err != nil {
			return err
		}
		fmt.Println("done", f.ID, true)
	}
	return nil
}

func TestNoActIsRepeatedBlindlyAfterAKill(t *testing.T) {
	path := newPath(t)
	l := open(t, path, Options{})
	id := register(t, l, found("/a", "a"))[0].ID
	var set []Finding
	for i := range 300 {
		set = append(set, finding(fmt.Sprintf("h%d.example", i), 3))
	}
	setFindings(t, l, id, set...)
	begun, done := map[string]bool{}, map[string]bool{}
	for range 8 {
		c := start(t, "act", path)
		for lines := 1 + rand.IntN(60); ; lines-- {
			if lines == 0 {
				c.killSoon()
			}
			line, more := c.line()
			if !more {
				break
			}
			f := strings.Fields(line)
			switch {
			case len(f) != 3:
			case f[0] == "done":
				done[f[1]] = true
			case done[f[1]], begun[f[1]] && f[2] != "true":
				t.Errorf("%q after begun %v, done %v", line, begun[f[1]], done[f[1]])
				fallthrough
			default:
				begun[f[1]] = true
			}
		}
		c.wait()
	}
	if len(done) == 0 {
		t.Error("nothing was done")
	}
	open := slices.DeleteFunc(findings(t, l, id), func(f Finding) bool { return f.Acts["annotation"].State == ActDone })
	t.Logf("%d begun, %d done, %d left", len(begun), len(done), len(open))
}

func TestWhatCapturesWereFlaggedFor(t *testing.T) {
	l := open(t, newPath(t), Options{})
	var ids []int64
	for _, r := range register(t, l, found("/a", "a"), found("/b", "b"), found("/c", "c")) {
		ids = append(ids, r.ID)
	}
	setFindings(t, l, ids[0], finding("a.example", 3))
	setFindings(t, l, ids[1], finding("a.example", 4), finding("b.example", 5))
	flagging := func(limit int) (all []string) {
		t.Helper()
		got, err := l.Flagging(t.Context(), limit)
		ok(t, err)
		for _, f := range got {
			all = append(all, fmt.Sprintf("%s %g", f.Value, f.Rating))
		}
		return all
	}
	same(t, flagging(10), []string{"b.example 5", "a.example 4"})
	same(t, flagging(1), []string{"b.example 5"})
	if s, err := l.Counts(t.Context()); err != nil || s.Flagged != 2 {
		t.Errorf("%+v %v", s, err)
	}
	setFindings(t, l, ids[1])
	same(t, flagging(10), []string{"a.example 3"})
	sight(t, l, ids[1], sighting("host", "a.example", 1, 1))
	all, err := l.Sighted(t.Context())
	ok(t, err)
	same(t, all, map[int64]struct{}{ids[1]: {}})
}

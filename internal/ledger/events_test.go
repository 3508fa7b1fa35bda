package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// told returns the events as "name capture data" and takes them as written.
func told(t testing.TB, l *Ledger) (lines []string) {
	t.Helper()
	events, err := l.Events(t.Context(), 1000)
	ok(t, err)
	for _, e := range events {
		lines = append(lines, fmt.Sprintf("%s %d %s", e.Name, e.Capture, e.Data))
	}
	if len(events) > 0 {
		ok(t, l.EventsWritten(t.Context(), events[len(events)-1].Seq, "head"))
	}
	return lines
}

func TestEveryChangeIsAnEvent(t *testing.T) {
	clk := newClock()
	l := open(t, newPath(t), Options{Now: clk.Now})
	ctx := t.Context()
	if lines := told(t, l); lines != nil {
		t.Fatalf("%q", lines)
	}
	f := found("/a\xff<b>", "a")
	id := register(t, l, f)[0].ID
	sums := `"size":1,"sha256":"` + f.SHA256 + `","sha1":"` + f.SHA1 + `","source":"import","case":"IR-1"`
	for _, step := range []struct {
		name string
		do   func()
		want []string
	}{
		{"registered", func() {}, []string{`registered 1 {"path":"/a\ufffd<b>","path_base64":"L2H/PGI+",` + sums + `,"state":"queued"}`}},
		{"registered again", func() { register(t, l, f) }, []string{`registered 1 {"path":"/a\ufffd<b>","path_base64":"L2H/PGI+",` + sums + `,"state":"queued","again":true}`}},
		{"moved", func() { ok(t, l.SetPath(ctx, id, "/b")) }, []string{`moved 1 {"from":{"path":"/a\ufffd<b>","path_base64":"L2H/PGI+"},"to":{"path":"/b"}}`}},
		{"moved nowhere", func() { ok(t, l.SetPath(ctx, id, "/b")) }, nil},
		{"begun", func() { mustClaim(t, l, id, "cloudshark") }, []string{`step 1 {"step":"cloudshark","state":"started","attempts":1}`}},
		{"begun while busy", func() { begin(t, l, id, "cloudshark") }, nil},
		{"failed", func() {
			ok(t, l.Fail(ctx, id, "cloudshark", StepFailure{Class: "busy", Text: "503"}))
		}, []string{`step 1 {"step":"cloudshark","state":"pending","attempts":1,"class":"busy","error":"503"}`}},
		{"part", func() {
			planParts(t, l, id, []Part{{Number: 1, Of: 1, Name: "n"}})
			ok(t, l.FinishPart(ctx, id, 1, "s1", true))
			ok(t, l.FinishPart(ctx, id, 1, "s1", true))
		}, []string{`part 1 {"number":1,"session":"s1","possible_duplicate":true}`}},
		{"done", func() {
			mustClaim(t, l, id, "cloudshark")
			ok(t, l.Finish(ctx, id, "cloudshark", Result{SessionName: "n", SessionID: "s1", SessionURL: "u", Note: "sent"}, Done))
		}, []string{
			`step 1 {"step":"cloudshark","state":"started","attempts":2,"class":"busy","error":"503"}`,
			`step 1 {"step":"cloudshark","state":"done","attempts":2,"note":"sent","session_name":"n","session":"s1","possible_duplicate":true}`,
			`state 1 {"from":"queued","to":"done"}`,
		}},
		{"purged", func() { ok(t, l.SetState(ctx, id, Purged, "the disk is full")) }, []string{`state 1 {"from":"done","to":"purged","reason":"the disk is full"}`}},
		{"refused", func() { _ = l.SetState(ctx, id, Queued, "") }, nil},
		{"a note", func() {
			over, cancel := context.WithCancel(ctx)
			cancel()
			ok(t, l.Note(over, "gap", map[string]any{"interface": "eth0", "dropped": 7}))
			ok(t, l.Note(ctx, "start", nil))
		}, []string{`gap 0 {"dropped":7,"interface":"eth0"}`, `start 0 {}`}},
	} {
		step.do()
		if got := told(t, l); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", step.want) {
			t.Errorf("%s:\n%s\nwant\n%s", step.name, strings.Join(got, "\n"), strings.Join(step.want, "\n"))
		}
	}
}

func TestEventsAreNumberedWithoutGaps(t *testing.T) {
	path := newPath(t)
	clk := newClock()
	l := open(t, path, Options{Now: clk.Now})
	ctx := t.Context()
	for i := range 5 {
		ok(t, l.Note(ctx, "x", nil))
		if i == 3 {
			_ = l.write(ctx, func(ctx context.Context, tx *txn) error { // rolled back
				ok(t, emit(ctx, tx, clk.now, "y", 0, struct{}{}))
				return errors.New("no")
			})
		}
	}
	events, err := l.Events(ctx, 3)
	ok(t, err)
	for i, e := range events {
		same(t, e, Event{Seq: int64(i + 1), Time: clk.now, Name: "x", Data: json.RawMessage("{}")})
	}
	seq, head, err := l.AuditHead(ctx)
	ok(t, err)
	if len(events) != 3 || seq != 0 || head != "" {
		t.Errorf("%d events, head %d %q", len(events), seq, head)
	}
	ok(t, l.EventsWritten(ctx, 5, "abc"))
	ok(t, l.Close())
	l = open(t, path, Options{})
	ok(t, l.Note(ctx, "z", nil))
	events, err = l.Events(ctx, 9)
	ok(t, err)
	seq, head, err = l.AuditHead(ctx)
	ok(t, err)
	if len(events) != 1 || events[0].Seq != 6 || seq != 5 || head != "abc" {
		t.Errorf("%+v, head %d %q", events, seq, head)
	}
}

func TestARebuiltLedgerContinuesALog(t *testing.T) {
	path, _ := example(t)
	ok(t, os.Remove(path))
	l := open(t, path, Options{})
	ctx := t.Context()
	ok(t, l.Note(ctx, "a", nil))
	ok(t, l.AdoptAudit(ctx, 4711, "abc"))
	ok(t, l.Note(ctx, "b", nil))
	events, err := l.Events(ctx, 9)
	ok(t, err)
	var got []string
	for _, e := range events {
		got = append(got, fmt.Sprint(e.Seq, e.Name))
	}
	same(t, got, []string{"4712rebuilt", "4713a", "4714b"})
	ok(t, l.EventsWritten(ctx, 4714, "def"))
	ok(t, l.Note(ctx, "c", nil))
	events, err = l.Events(ctx, 9)
	ok(t, err)
	if len(events) != 1 || events[0].Seq != 4715 {
		t.Errorf("%+v", events)
	}
	seq, head, err := l.AuditHead(ctx)
	ok(t, err)
	if seq != 4714 || head != "def" {
		t.Errorf("head %d %q", seq, head)
	}
	if err := l.AdoptAudit(ctx, 5000, "x"); err == nil {
		t.Error("adopted another log")
	}
	t.Run("also when all were written", func(t *testing.T) {
		l := open(t, newPath(t), Options{})
		ok(t, l.Note(ctx, "a", nil))
		ok(t, l.AdoptAudit(ctx, 9, "abc"))
		ok(t, l.EventsWritten(ctx, 10, "def"))
		ok(t, l.Note(ctx, "b", nil))
		events, err := l.Events(ctx, 9)
		ok(t, err)
		if len(events) != 1 || events[0].Seq != 11 {
			t.Errorf("%+v", events)
		}
	})
	t.Run("also one without events", func(t *testing.T) {
		l := open(t, newPath(t), Options{})
		ok(t, l.AdoptAudit(ctx, 9, "abc"))
		ok(t, l.Note(ctx, "a", nil))
		events, err := l.Events(ctx, 9)
		ok(t, err)
		if len(events) != 1 || events[0].Seq != 10 {
			t.Errorf("%+v", events)
		}
	})
}

func TestEventsAreBounded(t *testing.T) {
	l := open(t, newPath(t), Options{})
	ctx := t.Context()
	// The longest and worst texts that anybody may hand over are no error.
	bad := strings.Repeat("\x01", 100_000) + "\xff"
	f := found("/"+bad, "a")
	f.Source, f.Case, f.Reason, f.SHA1, f.State = bad, bad, bad, bad, Held
	id := register(t, l, f)[0].ID
	ok(t, l.SetPath(ctx, id, "/b"+bad))
	ok(t, l.SetState(ctx, id, Queued, bad))
	mustClaim(t, l, id, bad)
	ok(t, l.Fail(ctx, id, bad, StepFailure{Class: bad, Text: bad}))
	mustClaim(t, l, id, bad)
	ok(t, l.Finish(ctx, id, bad, Result{Note: bad, SessionName: bad, SessionID: bad}, ""))
	events, err := l.Events(ctx, 99)
	ok(t, err)
	if len(events) != 7 {
		t.Fatalf("%d events", len(events))
	}
	for _, e := range events {
		if len(e.Data) > maxEventData || !json.Valid(e.Data) {
			t.Errorf("%s has %d bytes", e.Name, len(e.Data))
		}
	}
	for name, err := range map[string]error{
		"a large note":      l.Note(ctx, "x", map[string]string{"x": strings.Repeat("x", maxEventData)}),
		"not an object":     l.Note(ctx, "x", []int{1}),
		"what JSON can't":   l.Note(ctx, "x", func() {}),
		"no name":           l.Note(ctx, "", nil),
		"a name of foreign": l.Note(ctx, "a\nb", nil),
		"a long name":       l.Note(ctx, strings.Repeat("x", maxEventName+1), nil),
	} {
		if err == nil {
			t.Errorf("%s was noted", name)
		}
	}
	force(t, l, `UPDATE events SET data = '{"x":' WHERE seq = 1`)
	events, err = l.Events(ctx, 1)
	ok(t, err)
	same(t, string(events[0].Data), `{"unreadable":"{\"x\":"}`)
}

func TestOneProcessAtATimeWritesTheLog(t *testing.T) {
	path := newPath(t)
	l, other := open(t, path, Options{}), open(t, path, Options{})
	reader := open(t, path, Options{ReadOnly: true})
	unlock, err := reader.AuditLock(t.Context())
	ok(t, err) // there is none yet
	ok(t, unlock())
	unlock, err = l.AuditLock(t.Context())
	ok(t, err)
	for _, l := range []*Ledger{other, reader} {
		ctx, cancel := context.WithTimeout(t.Context(), 3*guardPoll)
		if _, err := l.AuditLock(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("locked twice: %v", err)
		}
		cancel()
	}
	release := unlock
	time.AfterFunc(guardPoll, func() { _ = release() })
	unlock, err = other.AuditLock(t.Context())
	ok(t, err)
	ok(t, unlock())
	unlock, err = reader.AuditLock(t.Context())
	ok(t, err)
	ok(t, unlock())
}

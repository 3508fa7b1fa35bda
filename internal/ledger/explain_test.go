package ledger

import (
	"encoding/json"
	"testing"
)

func TestWhatIsToBeExplainedAndDone(t *testing.T) {
	ctx := t.Context()
	l := open(t, newPath(t), Options{Now: newClock().Now})
	r := register(t, l, found("/a.pcap", "a"), found("/b.pcap", "b"), found("/c.pcap", "c"))
	ok(t, l.Explain(ctx, r[0].ID, Explained{Tags: []string{"threat", "rating:5"}, Threats: "1 finding"}))
	ok(t, l.Explain(ctx, r[1].ID, Explained{Unanswered: 7}))
	ok(t, l.Explain(ctx, r[2].ID, Explained{Unanswered: 3}))
	c := get(t, l, r[0].ID)
	if len(c.Tags) != 2 || c.Tags[1] != "rating:5" || c.Threats != "1 finding" {
		t.Errorf("%+v", c)
	}
	ids, err := l.Unanswered(ctx, 10)
	ok(t, err)
	same(t, ids, []int64{r[2].ID, r[1].ID})
	ok(t, l.Explain(ctx, r[1].ID, Explained{}))
	ids, err = l.Unanswered(ctx, 10)
	ok(t, err)
	same(t, ids, []int64{r[2].ID})

	finding := Finding{VerdictKey: VerdictKey{"host", "bad.example"}, Frame: 3, Count: 1, Rating: 5, Confidence: 90, Data: json.RawMessage(`{}`)}
	ok(t, l.SetFindings(ctx, r[0].ID, []Finding{finding}))
	unacted := func(want ...int64) {
		t.Helper()
		ids, err := l.Unacted(ctx, "annotation", 10)
		ok(t, err)
		same(t, append([]int64{}, ids...), append([]int64{}, want...))
	}
	unacted() // it has no session yet
	mustClaim(t, l, r[0].ID, "cloudshark")
	ok(t, l.Finish(ctx, r[0].ID, "cloudshark", Result{SessionID: "0123456789ab"}, Done))
	unacted(r[0].ID)
	findings, err := l.Findings(ctx, r[0].ID)
	ok(t, err)
	_, err = l.BeginAct(ctx, findings[0].ID, "annotation")
	ok(t, err)
	unacted(r[0].ID) // it may not have happened
	ok(t, l.EndAct(ctx, findings[0].ID, "annotation", ActDone, ""))
	unacted()
}

package ledger

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

func delivering(t testing.TB, l *Ledger) (captures []int64, next time.Time) {
	t.Helper()
	list, next, err := l.DueDeliveries(t.Context(), "cado", 10)
	ok(t, err)
	captures = []int64{}
	for _, d := range list {
		captures = append(captures, d.Capture)
	}
	return captures, next
}

// sent makes a session of a queued capture.
func sent(t testing.TB, l *Ledger, id int64) {
	t.Helper()
	_, err := l.Begin(t.Context(), id, "cloudshark")
	ok(t, err)
	ok(t, l.Finish(t.Context(), id, "cloudshark", Result{SessionID: fmt.Sprintf("%012x", id), SessionURL: "https://x/captures/1", SessionName: "n"}, Done))
}

// TestDeliveriesAreDueOnceThereIsASession, and hold their file until they end.
func TestDeliveriesAreDueOnceThereIsASession(t *testing.T) {
	clk := newClock()
	l := open(t, newPath(t), Options{Now: clk.Now})
	a, b := found("/a", "a"), found("/b", "b")
	a.Deliver, a.Owned, b.Owned = []string{"cado"}, true, true
	regs := register(t, l, a, b)
	id, other := regs[0].ID, regs[1].ID
	if ids, _ := delivering(t, l); len(ids) != 0 {
		t.Errorf("%v before there is a session", ids)
	}
	sent(t, l, id)
	sent(t, l, other)
	ids, _ := delivering(t, l)
	same(t, ids, []int64{id})
	expendable := func() (ids []int64) {
		t.Helper()
		list, err := l.Expendable(t.Context(), time.Time{}, false, 10)
		ok(t, err)
		for _, c := range list {
			ids = append(ids, c.ID)
		}
		return ids
	}
	same(t, expendable(), []int64{other})

	later := clk.now.Add(time.Minute)
	ok(t, l.SetDelivery(t.Context(), Delivery{Capture: id, Destination: "cado", State: DeliveryPending, Attempts: 1, Class: "busy", Error: "it is busy", NotBefore: later, Progress: json.RawMessage(`{"stored":true}`)}))
	ids, next := delivering(t, l)
	same(t, ids, []int64{})
	if !next.Equal(later) {
		t.Errorf("next at %v", next)
	}
	clk.now = later
	list, _, err := l.DueDeliveries(t.Context(), "cado", 10)
	ok(t, err)
	if len(list) != 1 || string(list[0].Progress) != `{"stored":true}` || list[0].Attempts != 1 || list[0].Error != "it is busy" {
		t.Errorf("%+v", list)
	}
	ok(t, l.SetDelivery(t.Context(), Delivery{Capture: id, Destination: "cado", State: DeliveryDone, Note: "stored as evidence", Link: "https://cado.example/1"}))
	ok(t, l.SetDelivery(t.Context(), Delivery{Capture: id, Destination: "cado", State: DeliveryPending})) // it stays as it is
	got, err := l.Deliveries(t.Context(), id)
	ok(t, err)
	if len(got) != 1 || got[0].State != DeliveryDone || got[0].Link != "https://cado.example/1" {
		t.Errorf("%+v", got)
	}
	same(t, expendable(), []int64{id, other})
	counts, err := l.DeliveryCounts(t.Context(), "cado")
	ok(t, err)
	same(t, counts, map[DeliveryState]int64{DeliveryDone: 1})
	ended := 0
	events, err := l.Events(t.Context(), 100)
	ok(t, err)
	for _, e := range events {
		if e.Name == EventDelivered {
			ended++
		}
	}
	if ended != 1 {
		t.Errorf("%d events of an end", ended)
	}
	// Found again, it is not delivered again.
	register(t, l, a)
	if ids, _ := delivering(t, l); len(ids) != 0 {
		t.Errorf("%v", ids)
	}
}

func TestDeliveriesEndAndAreTriedAgain(t *testing.T) {
	l := open(t, newPath(t), Options{})
	var ids []int64
	for _, r := range register(t, l, found("/a", "a"), found("/b", "b")) {
		ids = append(ids, r.ID)
		sent(t, l, r.ID)
		ok(t, l.Deliver(t.Context(), r.ID, "cado"))
		ok(t, l.Deliver(t.Context(), r.ID, "cado"))
	}
	if err := l.Deliver(t.Context(), 99, "cado"); err == nil {
		t.Error("a capture that is none")
	}
	ok(t, l.SetDelivery(t.Context(), Delivery{Capture: ids[0], Destination: "cado", State: DeliveryFailed, Error: "no"}))
	open, _ := delivering(t, l)
	same(t, open, ids[1:])
	n, err := l.SkipDeliveries(t.Context(), "cado", "not configured any more")
	if err != nil || n != 1 {
		t.Errorf("%d %v", n, err)
	}
	if open, _ := delivering(t, l); len(open) != 0 {
		t.Errorf("%v", open)
	}
	ok(t, l.Deliver(t.Context(), ids[1], "cado")) // wanted again
	ok(t, l.Deliver(t.Context(), ids[0], "cado")) // it failed: only a person has it tried again
	open, _ = delivering(t, l)
	same(t, open, ids[1:])
	if n, err := l.Redeliver(t.Context(), 0); err != nil || n != 1 {
		t.Errorf("%d %v", n, err)
	}
	open, _ = delivering(t, l)
	same(t, open, ids)
	for _, bad := range []string{"x", "[1]", `"` + string(make([]byte, MaxProgress)) + `"`} {
		if err := l.SetDelivery(t.Context(), Delivery{Capture: ids[0], Destination: "cado", State: DeliveryPending, Progress: json.RawMessage(bad)}); err == nil {
			t.Errorf("%.10q is taken", bad)
		}
	}
}

func TestMachinesOfACaptureAreKept(t *testing.T) {
	l := open(t, newPath(t), Options{})
	id := register(t, l, found("/a", "a"))[0].ID
	if d, err := l.Devices(t.Context(), id); err != nil || d != nil {
		t.Errorf("%s %v", d, err)
	}
	ok(t, l.Explain(t.Context(), id, Explained{Machines: "reception-ipad", Devices: []byte(`[{"name":"reception-ipad"}]`), Tags: []string{"a"}}))
	if d, err := l.Devices(t.Context(), id); err != nil || string(d) != `[{"name":"reception-ipad"}]` {
		t.Errorf("%s %v", d, err)
	}
	if c := get(t, l, id); c.Machines != "reception-ipad" {
		t.Errorf("%+v", c)
	}
	for _, bad := range []string{"{", string(make([]byte, MaxDevices+1))} {
		if err := l.Explain(t.Context(), id, Explained{Devices: []byte(bad)}); err == nil {
			t.Errorf("%.10q is taken", bad)
		}
	}
	if _, err := l.Devices(t.Context(), 99); err == nil {
		t.Error("machines of no capture")
	}
}

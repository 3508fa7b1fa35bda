package ledger

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the ledger of the newest schema version into testdata")

// TestLedgersOfAllVersionsOpen: testdata/schema<N>.sql is what version N wrote.
// A file in there is never changed after a release.
func TestLedgersOfAllVersionsOpen(t *testing.T) {
	newest := filepath.Join("testdata", fmt.Sprintf("schema%d.sql", len(migrations)))
	if *update {
		ok(t, os.WriteFile(newest, []byte(dumpExample(t)), 0o600))
	}
	for version := 1; version <= len(migrations); version++ {
		t.Run(strconv.Itoa(version), func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("testdata", fmt.Sprintf("schema%d.sql", version)))
			ok(t, err)
			path := newPath(t)
			ok(t, os.MkdirAll(filepath.Dir(path), 0o700))
			db := openDB(path)
			_, err = db.ExecContext(t.Context(), string(text))
			ok(t, errors.Join(err, db.Close()))
			l := open(t, path, Options{})
			if !l.Rebuilt().IsZero() {
				t.Fatal("taken for damage")
			}
			checkExample(t, l, version)
		})
	}
}

// makeExample fills a ledger with a capture in every situation.
func makeExample(t testing.TB, l *Ledger) {
	ctx := t.Context()
	plain := found("/evidence/\xffa.pcap", "a")
	held, empty, broken := found("/evidence/b.pcap", "b"), found("/evidence/c.pcap", ""), found("/evidence/d.pcap", "d")
	held.State, held.Reason = Held, "no findings"
	empty.State, empty.First, empty.Last, empty.Packets = Done, time.Time{}, time.Time{}, 0
	broken.State, broken.Reason, broken.SHA256 = Quarantined, "not a capture", ""
	twin, waiting, failed := found("/evidence/a2.pcap", "a"), found("/evidence/e.pcap", "e"), found("/evidence/f.pcap", "f")
	held.Live = &Live{
		Interfaces: []LiveInterface{{Name: "eth0", LinkType: "EN10MB", Filter: "udp", SnapLen: 262144, Received: 5, Dropped: 2}},
		Began:      time.Unix(1700000000, 5).UTC(), Reason: "packets", Received: 5, Dropped: 2,
		Gaps: []LiveGap{{Interface: "eth0", From: time.Unix(1700000000, 0).UTC(), To: time.Unix(1700000001, 0).UTC(), Packets: 3, Cause: "no space left on device"}},
	}
	plain.Summary = "3 flows"
	r := register(t, l, plain, held, empty, broken, twin, waiting, failed)
	mustClaim(t, l, r[0].ID, "cloudshark")
	planParts(t, l, r[0].ID, []Part{{Number: 1, Of: 1, Prefix: []byte{0, 1}, Offset: 24, Length: 7, Size: 9, SHA256: "s", SHA1: "t", Packets: 3, First: plain.First, Last: plain.Last, Name: "n.pcap"}})
	ok(t, l.FinishPart(ctx, r[0].ID, 1, "0123456789ab", true))
	ok(t, l.Finish(ctx, r[0].ID, "cloudshark", Result{SessionName: "n.pcap", SessionID: "0123456789ab", SessionURL: dest + "/captures/0123456789ab", PossibleDuplicate: true, Note: "sent"}, Done))
	ok(t, l.Finish(ctx, r[4].ID, "cloudshark", Result{Skipped: true, DuplicateOf: r[0].ID, SessionID: "0123456789ab"}, Done))
	mustClaim(t, l, r[5].ID, "cloudshark")
	ok(t, l.Fail(ctx, r[5].ID, "cloudshark", StepFailure{Class: "busy", Text: "503", NotBefore: l.now().Add(time.Hour)}))
	mustClaim(t, l, r[6].ID, "cloudshark")
	ok(t, l.Fail(ctx, r[6].ID, "cloudshark", StepFailure{Class: "too_large", Text: "413", Permanent: true}))
	ok(t, l.Remember(ctx, []KnownFile{{Path: "/watch/\xff.txt", Stamp: "1"}}))
	ok(t, l.Note(ctx, "start", map[string]string{"version": "2"}))
	_, err := l.AddTrigger(ctx, Trigger{Asked: l.now(), From: l.now().Add(-time.Hour), To: l.now(), By: "signal", Reason: "slow"})
	ok(t, err)
	ok(t, l.EndTrigger(ctx, 1, TriggerResult{Captures: []int64{2}}))
	answered(t, l, "tc", Verdict{VerdictKey: VerdictKey{"host", "bad.example"}, Answer: []byte(`[1]`), At: l.now()}, Verdict{VerdictKey: VerdictKey{"host", "clean.example"}, At: l.now()})
	setFindings(t, l, r[1].ID, finding("bad.example", 4.5))
	ok(t, l.Deliver(ctx, 2, "cado"))
	ok(t, l.SetDelivery(ctx, Delivery{Capture: 2, Destination: "cado", State: DeliveryPending, Error: "busy", Progress: []byte(`{"stored":true}`)}))
	ok(t, l.Explain(ctx, 2, Explained{Machines: "an iPad", Devices: []byte("[]")}))
	_, err = l.BeginAct(ctx, 1, "annotation")
	ok(t, err)
	ok(t, l.EventsWritten(ctx, 3, "0123"))
	ok(t, l.SetPause(ctx, Pause{Destination: dest, Class: "quota", Reason: "full", Since: l.now(), Until: l.now().Add(time.Hour)}))
}

func checkExample(t testing.TB, l *Ledger, version int) {
	t.Helper()
	switch live := get(t, l, 2).Live; {
	case version < 3 && live != nil, version >= 3 && (live == nil || live.Dropped != 2 || len(live.Gaps) != 1 || live.Gaps[0].Packets != 3 || live.Interfaces[0].Name != "eth0"):
		t.Errorf("of the live capture: %+v", live)
	}
	if s := get(t, l, 1).Summary; (version >= 5) != (s == "3 flows") {
		t.Errorf("summary %q", s)
	}
	triggers, err := l.Triggers(t.Context(), time.Time{})
	if ok(t, err); version >= 4 && (len(triggers) != 1 || triggers[0].Ended.IsZero() || triggers[0].Captures[0] != 2 || triggers[0].By != "signal") {
		t.Errorf("%+v", triggers)
	}
	if version >= 6 {
		var v []Verdict
		for one, err := range l.ListVerdicts(t.Context(), VerdictFilter{Known: true}) {
			ok(t, err)
			v = append(v, one)
		}
		f := findings(t, l, 2)
		if len(v) != 1 || string(v[0].Answer) != "[1]" || len(f) != 1 || f[0].Rating != 4.5 || f[0].Acts["annotation"].State != ActStarted || get(t, l, 2).Findings != 1 {
			t.Errorf("verdicts %+v, findings %+v", v, f)
		}
	}
	if version >= 8 {
		d, err := l.Deliveries(t.Context(), 2)
		ok(t, err)
		devices, err := l.Devices(t.Context(), 2)
		ok(t, err)
		if len(d) != 1 || d[0].Destination != "cado" || d[0].State != DeliveryPending || d[0].Error != "busy" || string(devices) != "[]" || get(t, l, 2).Machines != "an iPad" {
			t.Errorf("deliveries %+v, machines %s", d, devices)
		}
	}
	var states []State
	for c, err := range l.List(t.Context(), Filter{}) {
		ok(t, err)
		states = append(states, c.State)
	}
	same(t, states, []State{Done, Held, Done, Quarantined, Done, Queued, Failed})
	c := get(t, l, 1)
	if c.Path != "/evidence/\xffa.pcap" || c.SessionID != "0123456789ab" || !c.PossibleDuplicate || !c.First.Equal(time.Unix(1700000000, 123456789)) || len(c.Tags) != 3 {
		t.Errorf("%+v", c)
	}
	if !get(t, l, 3).First.IsZero() || get(t, l, 5).DuplicateOf != 1 {
		t.Error("zero time or duplicate")
	}
	parts, err := l.Parts(t.Context(), 1)
	ok(t, err)
	if len(parts) != 1 || parts[0].SessionID != "0123456789ab" || !bytes.Equal(parts[0].Prefix, []byte{0, 1}) || parts[0].Length != 7 {
		t.Errorf("%+v", parts)
	}
	pauses, err := l.Pauses(t.Context())
	ok(t, err)
	if len(pauses) != 1 || pauses[0].Class != "quota" || pauses[0].Until.IsZero() {
		t.Errorf("%+v", pauses)
	}
	summary, err := l.Counts(t.Context())
	ok(t, err)
	same(t, summary.States, map[State]Count{Done: {3, 2}, Held: {1, 1}, Quarantined: {1, 1}, Queued: {1, 1}, Failed: {1, 1}})
	steps, err := l.Steps(t.Context(), 6)
	ok(t, err)
	if len(steps) != 2 || steps[1].Class != "busy" || steps[1].Attempts != 1 || steps[1].NotBefore.IsZero() {
		t.Errorf("%+v", steps)
	}
}

// dumpExample returns the example ledger as SQL text, with SQLite's own dump.
func dumpExample(t testing.TB) string {
	path := newPath(t)
	l := open(t, path, Options{Now: newClock().Now})
	makeExample(t, l)
	checkExample(t, l, len(migrations))
	ok(t, l.Close())
	return sqlite3CLI(t, path, ".dump") +
		fmt.Sprintf("\nPRAGMA application_id = %d;\nPRAGMA user_version = %d;\nPRAGMA journal_mode = WAL;\n", applicationID, len(migrations))
}

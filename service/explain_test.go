package service

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"capagent/enrich/indicator"
	"capagent/enrich/threatconnecttest"
	"capagent/internal/ledger"
	"capagent/upload/cloudsharktest"
)

// explained is an agent that asks a list and a ThreatConnect.
type explained struct {
	*Agent
	tc   *threatconnecttest.Server
	id   int64
	list []indicator.Indicator
}

func newExplained(t *testing.T) *explained {
	t.Helper()
	cs := cloudsharktest.Start(t, cloudsharktest.Options{})
	tc := threatconnecttest.Start(t, threatconnecttest.Options{Tidy: true})
	tc.Demo()
	file := filepath.Join(t.TempDir(), "bad.txt")
	if err := os.WriteFile(file, []byte("listed.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := load(t, fmt.Sprintf("[cloudshark]\nurl = %q\ntoken = %q\n[threatconnect]\nurl = %q\naccess_id = %q\nsecret_key = %q\ntimeout = \"1s\"\n[[list]]\nname = \"company\"\nfile = %q\n",
		cs.URL, cs.Token, tc.APIURL(), tc.AccessID, tc.SecretKey, file))
	if err != nil {
		t.Fatal(err)
	}
	a, err := Open(t.Context(), cfg, "test", NewGate(OneShot), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	e := &explained{Agent: a, tc: tc}
	r, err := a.Ledger.Register(t.Context(), []ledger.Found{{Source: "upload", Path: "/c.pcap", Name: "c.pcap", Destination: a.Destination(), State: ledger.Sealed, Inspection: ledger.Inspection{
		Format: "pcap", Size: 100, PayloadSize: 100, SHA256: strings.Repeat("0", 64), SHA1: strings.Repeat("0", 40), Packets: 3, First: time.Unix(1700000000, 0).UTC(), Last: time.Unix(1700000001, 0).UTC(),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	e.id = r[0].ID
	for n, host := range []string{"listed.example", "sync.example.net", "good.example"} {
		e.list = append(e.list, indicator.Indicator{Type: indicator.Host, Value: host, Role: indicator.DNSQuestion, Count: 1, First: indicator.At{Frame: int64(n + 1), Time: 1700000000e9}, Last: 1700000000e9})
	}
	var seen []ledger.Sighting
	for _, i := range e.list {
		seen = append(seen, sighting(i))
	}
	Sight(t.Context(), a.Ledger, zerolog.Nop(), e.id, seen)
	return e
}

func (e *explained) state(t *testing.T) (found []string, c ledger.Capture) {
	t.Helper()
	c, err := e.Ledger.Get(t.Context(), e.id)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := e.Ledger.Findings(t.Context(), e.id)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		found = append(found, r.Value)
	}
	slices.Sort(found)
	return found, c
}

// TestLateAnswersUnderAnOutage: what a list says counts at once and stays through a
// ThreatConnect that is down, is asked again, and answers in the end; no tag comes twice.
func TestLateAnswersUnderAnOutage(t *testing.T) {
	e := newExplained(t)
	e.tc.SetFault(threatconnecttest.Fault{Name: "status", Status: 503})
	_, c := e.state(t)
	result, err := e.Explain(t.Context(), c, Contents{Indicators: e.list}, time.Now())
	if err != nil || result.Err == nil {
		t.Fatalf("%v, %v", err, result.Err)
	}
	for range 2 {
		found, c := e.state(t)
		if diff := cmp.Diff([]string{"listed.example"}, found); diff != "" || !strings.Contains(c.Threats, "listed") || len(c.Tags) == 0 {
			t.Errorf("%s, %q, %q", diff, c.Threats, c.Tags)
		}
		if ids, err := e.Ledger.Unanswered(t.Context(), 10); err != nil || !slices.Equal(ids, []int64{e.id}) {
			t.Errorf("%v %v", ids, err)
		}
		if result, err := e.Late(t.Context(), e.id); err != nil || result.Err == nil {
			t.Errorf("%v, %v", err, result.Err)
		}
	}
	e.tc.ClearFaults()
	for range 2 {
		if result, err := e.Late(t.Context(), e.id); err != nil || result.Err != nil {
			t.Errorf("%v, %v", err, result.Err)
		}
		found, c := e.state(t)
		if diff := cmp.Diff([]string{"listed.example", "sync.example.net"}, found); diff != "" || !strings.Contains(c.Threats, "sync") {
			t.Errorf("%s, %q", diff, c.Threats)
		}
		tags := slices.Sorted(slices.Values(c.Tags))
		if once := slices.Compact(slices.Clone(tags)); len(once) != len(tags) {
			t.Errorf("tags twice: %q", tags)
		}
	}
	if ids, err := e.Ledger.Unanswered(t.Context(), 10); err != nil || len(ids) != 0 {
		t.Errorf("%v %v", ids, err)
	}
	// What was found stays also when nobody can say it again.
	if _, err := e.Ledger.ForgetVerdicts(t.Context(), ledger.VerdictFilter{}); err != nil {
		t.Fatal(err)
	}
	e.tc.SetFault(threatconnecttest.Fault{Name: "status", Status: 503})
	if result, err := e.Late(t.Context(), e.id); err != nil || result.Err == nil {
		t.Errorf("%v, %v", err, result.Err)
	}
	if found, c := e.state(t); len(found) != 2 || c.Findings != 2 {
		t.Errorf("%q, %d", found, c.Findings)
	}
}

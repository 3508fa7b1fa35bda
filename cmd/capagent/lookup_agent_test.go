//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capagent/enrich/threatconnecttest"
	"capagent/internal/ledger"
	"capagent/service"
)

// explainedAgent is the daemon over a folder, with a ThreatConnect of the test's own.
type explainedAgent struct {
	at
	config, folder string
	tc             *threatconnecttest.Server
}

func newExplainedAgent(t *testing.T, tables string) *explainedAgent {
	t.Helper()
	e := &explainedAgent{at: at{startSandbox(t), filepath.Join(shortDir(t), "state")}, folder: t.TempDir(), tc: threatconnecttest.Start(t, threatconnecttest.Options{})}
	e.tc.Demo()
	e.config = filepath.Join(t.TempDir(), "agent.toml")
	secret := filepath.Join(t.TempDir(), "secret")
	writeFile(t, secret, []byte(e.tc.SecretKey+"\n"), 0o600)
	writeFile(t, e.config, fmt.Appendf(nil, `
[agent]
state_dir = %q
[cloudshark]
url = %q
token_file = %q
[[watch]]
path = %q
settle = "100ms"
[threatconnect]
url = %q
access_id = %q
secret_key_file = %q
timeout = "2s"
%s`, e.state, e.s.URL, e.s.TokenFile, e.folder, e.tc.APIURL(), e.tc.AccessID, secret, tables), 0o600)
	return e
}

func (e *explainedAgent) put(t *testing.T, name string) {
	t.Helper()
	writeFile(t, filepath.Join(e.folder, name), readFile(t, filepath.Join("..", "..", "examples", "captures", name)), 0o600)
}

// capture returns what is known of a file, once it is as ok wants it.
func (e *explainedAgent) capture(t *testing.T, name string, ok func(service.View) bool) service.View {
	t.Helper()
	var v service.View
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		o := e.run(t, "ls", "--json")
		for line := range strings.Lines(o.stdout) {
			if json.Unmarshal([]byte(line), &v) == nil && v.Name == name && ok(v) {
				return v
			}
		}
	}
	t.Fatalf("%s: %+v", name, v)
	return v
}

func (e *explainedAgent) notes(t *testing.T) (n int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(e.s.Dir, "captures", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		var s struct{ Annotations []any }
		if err := json.Unmarshal(readFile(t, f), &s); err != nil {
			t.Fatal(err)
		}
		n += len(s.Annotations)
	}
	return n
}

func in(state ledger.State) func(service.View) bool {
	return func(v service.View) bool { return v.State == state }
}

// TestOnlyFlaggedCapturesLeave: the clean one stays, until a person releases it; what
// was found is written back once.
func TestOnlyFlaggedCapturesLeave(t *testing.T) {
	t.Parallel()
	e := newExplainedAgent(t, "report_sightings = true\n[policy]\nupload = \"flagged\"\n")
	startDaemon(t, e.config)
	e.put(t, "incident.pcapng")
	e.put(t, "web.pcap")
	v := e.capture(t, "incident.pcapng", in(ledger.Done))
	if len(v.Findings) != 4 || v.Findings[0].Rating != 5 || v.Findings[0].FilterURL == nil {
		t.Errorf("%+v", v.Findings)
	}
	clean := e.capture(t, "web.pcap", in(ledger.Held))
	if clean.Error == nil || *clean.Error != service.FlaggedReason {
		t.Errorf("%+v", clean)
	}
	for end := time.Now().Add(patience); (e.notes(t) < 4 || len(e.tc.Incidents()) < 1) && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	if n := e.notes(t); n != 4 {
		t.Errorf("%d annotations", n)
	}
	seen := map[int64]int{}
	for _, o := range e.tc.Observations() {
		seen[o.Indicator]++
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%d observations of %d", n, id)
		}
	}
	if len(seen) < 4 || len(e.tc.Incidents()) != 1 {
		t.Errorf("%d indicators observed, %d incidents", len(seen), len(e.tc.Incidents()))
	}
	if o := e.run(t, "retry", fmt.Sprint(*clean.ID)); o.code != exitOK {
		t.Errorf("%+v", o)
	}
	e.capture(t, "web.pcap", in(ledger.Done))
	if v := e.tc.Violations(); len(v) > 0 {
		t.Errorf("%+v", v)
	}
}

// TestALookupNeverStopsAnUpload: ThreatConnect does not answer; the capture goes after
// max_delay, with one message; what it says later goes onto the packets.
func TestALookupNeverStopsAnUpload(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"hang", "html", "huge", "reset", "status:code=503", "unauthorized", "badjson"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newExplainedAgent(t, "[policy]\nmax_delay = \"1s\"\n")
			fault, err := threatconnecttest.ParseFault(name)
			if err != nil {
				t.Fatal(err)
			}
			e.tc.SetFault(fault)
			startDaemon(t, e.config)
			start := time.Now()
			e.put(t, "incident.pcapng")
			v := e.capture(t, "incident.pcapng", in(ledger.Done))
			if took := time.Since(start); took > 10*time.Second || len(v.Findings) != 0 {
				t.Errorf("%v, %d findings", took, len(v.Findings))
			}
			if o := e.run(t, "status"); !strings.Contains(o.stdout, "indicators are answered for") {
				t.Errorf("%s", o.stdout)
			}
			e.tc.ClearFaults()
			// The agent asks again by itself, a minute later; a person need not wait. If
			// it was quicker after all, the findings are its own to tell.
			if o := e.run(t, "hunt", "--config", e.config); o.code != exitOK || strings.Count(o.stdout, "\n")%4 != 0 {
				t.Errorf("%+v", o)
			}
			for end := time.Now().Add(patience); e.notes(t) < 4 && time.Now().Before(end); {
				time.Sleep(20 * time.Millisecond)
			}
			if n := e.notes(t); n != 4 {
				t.Errorf("%d annotations", n)
			}
		})
	}
}

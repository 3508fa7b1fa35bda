//go:build unix

package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capagent/enrich/cadotest"
	"capagent/enrich/cloudsharetest"
	"capagent/enrich/cloudtraxtest"
	"capagent/enrich/device"
	"capagent/internal/ledger"
	"capagent/internal/standin"
	"capagent/service"
)

// platformsOf are stand-ins of the three for one test, and the tables by which they are
// used.
type platformsOf struct {
	cado   *cadotest.Server
	trax   *cloudtraxtest.Server
	share  *cloudsharetest.Server
	lab    string
	tables string
}

func newPlatforms(t *testing.T) *platformsOf {
	t.Helper()
	p := &platformsOf{
		cado: cadotest.Start(t, cadotest.Options{Polls: 1}), trax: cloudtraxtest.Start(t, cloudtraxtest.Options{AlwaysCurrent: true}),
		share: cloudsharetest.Start(t, cloudsharetest.Options{}),
	}
	p.trax.Demo(demoDevice)
	p.lab = p.share.Demo(demoLab, demoLabAddress)
	p.tables = fmt.Sprintf(`
[cado]
url = %q
api_key = %q
import = "all"
poll = "1s"
timeout = "2s"
[cloudtrax]
url = %q
key = %q
secret = %q
timeout = "2s"
[cloudshare]
url = %q
api_id = %q
api_key = %q
domains = ["example.com"]
timeout = "2s"
`, p.cado.APIURL(), p.cado.APIKey, p.trax.URL, p.trax.Key, p.trax.Secret, p.share.APIURL(), p.share.APIID, p.share.APIKey)
	return p
}

// breakAll has all three misbehave.
func (p *platformsOf) breakAll(t *testing.T, fault string) {
	t.Helper()
	f, err := standin.ParseFault(fault, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*standin.Server{p.cado.Server, p.trax.Server, p.share.Server} {
		s.SetFault(f)
	}
}

// recent is the beacon of the branch office, of a moment ago.
func recent(t *testing.T) []byte {
	t.Helper()
	pcap := readFile(t, filepath.Join("..", "..", "examples", "captures", "branch-office", "beacon.pcap"))
	return moved(pcap, time.Now())
}

// delivered waits until a capture's way to a destination is over.
func (e *explainedAgent) delivered(t *testing.T, name, destination string) service.DeliveryView {
	t.Helper()
	var last service.View
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		v := e.capture(t, name, in(ledger.Done))
		last = e.show(t, *v.ID)
		for _, d := range last.Deliveries {
			if d.Destination == destination && d.State != ledger.DeliveryPending {
				return d
			}
		}
	}
	t.Fatalf("%s is not delivered: %+v", name, last.Deliveries)
	return service.DeliveryView{}
}

// TestACaptureIsNamedAndImported: the daemon names the device, says so in the session,
// and brings the capture into a project.
func TestACaptureIsNamedAndImported(t *testing.T) {
	t.Parallel()
	p := newPlatforms(t)
	e := newExplainedAgent(t, "[policy]\nmax_delay = \"10s\"\n"+p.tables)
	startDaemon(t, e.config)
	e.named(t)
	writeFile(t, filepath.Join(e.folder, "now.pcap"), recent(t), 0o600)
	d := e.delivered(t, "now.pcap", "cado")
	if d.State != ledger.DeliveryDone || d.Note == nil || !strings.Contains(*d.Note, "stored as evidence") || d.Link == nil {
		t.Errorf("%+v", d)
	}
	v := e.show(t, *e.capture(t, "now.pcap", in(ledger.Done)).ID)
	if len(v.Machines) != 1 || v.Machines[0].Name != "reception-ipad" || v.Machines[0].Confidence != device.High || len(v.Findings) == 0 || len(v.Findings[0].Machines) != 1 {
		t.Errorf("%+v, %+v", v.Machines, v.Findings)
	}
	sessions, err := filepath.Glob(filepath.Join(e.s.Dir, "captures", "*.json"))
	if err != nil || len(sessions) != 1 {
		t.Fatal(sessions, err)
	}
	text := string(readFile(t, sessions[0]))
	for _, want := range []string{"reception-ipad · AP Front office · SSID HQ-Staff", `"reception-ipad"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	for _, secret := range append(cloudtraxtest.Secrets(), p.share.Secrets()...) {
		if strings.Contains(text, secret) {
			t.Errorf("%q is in the session", secret)
		}
	}
	if n := p.trax.Counted("forbidden") + p.share.Counted("forbidden") + p.share.Counted("replay") + p.trax.Counted("replay"); n != 0 {
		t.Errorf("%d forbidden calls or replays", n)
	}
	if n := p.cado.Counted("duplicate"); n != 0 {
		t.Errorf("%d imports twice", n)
	}
	// A lab's name is asked for, and joined.
	e.put(t, "web.pcap")
	v = e.show(t, *e.capture(t, "web.pcap", in(ledger.Done)).ID)
	if len(v.Machines) == 0 || v.Machines[0].Source != "cloudshare" || len(v.Machines[0].Hosts) != 1 {
		t.Errorf("%+v", v.Machines)
	}
}

// TestAFailedImportIsTriedAgain: what the platform says of it is known, and a person has
// it done once more, as another import.
func TestAFailedImportIsTriedAgain(t *testing.T) {
	t.Parallel()
	p := newPlatforms(t)
	f, err := cadotest.ParseFault("fails")
	if err != nil {
		t.Fatal(err)
	}
	p.cado.SetFault(f)
	e := newExplainedAgent(t, p.tables)
	startDaemon(t, e.config)
	e.put(t, "web.pcap")
	if d := e.delivered(t, "web.pcap", "cado"); d.State != ledger.DeliveryFailed || deref(d.Error) == "" {
		t.Errorf("%+v, %q", d, deref(d.Error))
	}
	before := len(p.cado.Pipelines())
	p.cado.ClearFaults()
	id := *e.capture(t, "web.pcap", in(ledger.Done)).ID
	if o := e.run(t, "retry", fmt.Sprint(id)); o.code != exitOK {
		t.Errorf("%+v", o)
	}
	if d := e.delivered(t, "web.pcap", "cado"); d.State != ledger.DeliveryDone || len(p.cado.Pipelines()) <= before {
		t.Errorf("%+v, %q, %d pipelines before", d, deref(d.Error), before)
	}
}

// TestAFindingBlocksAClientAndPreservesALab: where the configuration names the indicator
// and the lab, and for no other reason.
func TestAFindingBlocksAClientAndPreservesALab(t *testing.T) {
	t.Parallel()
	p := newPlatforms(t)
	tables := strings.Replace(p.tables, "[cloudtrax]\n", "[cloudtrax]\nblock = true\nblock_dry_run = false\nblock_on = [\"files.example.net\"]\n", 1)
	tables += fmt.Sprintf("preserve = true\npreserve_flagged = true\npreserve_allow = [%q]\n", p.lab)
	list := filepath.Join(t.TempDir(), "bad.txt")
	writeFile(t, list, []byte("portal.example.com\n"), 0o600)
	tables += fmt.Sprintf("[[list]]\nname = \"company\"\nfile = %q\n", list)
	e := newExplainedAgent(t, "[policy]\nmax_delay = \"10s\"\n"+tables)
	startDaemon(t, e.config)
	e.named(t)
	writeFile(t, filepath.Join(e.folder, "now.pcap"), recent(t), 0o600)
	if d := e.delivered(t, "now.pcap", "cloudtrax"); d.State != ledger.DeliveryDone || !strings.Contains(deref(d.Note), "blocked reception-ipad") {
		t.Errorf("%+v, %q", d, deref(d.Note))
	}
	if blocked := p.trax.Blocked(); len(blocked) != 1 || blocked[0] != demoDevice {
		t.Errorf("blocked: %v", blocked)
	}
	if o := e.run(t, "status"); !strings.Contains(o.stdout, "reception-ipad") || !strings.Contains(o.stdout, "/captures/") || !strings.Contains(o.stdout, "cloudtrax") {
		t.Errorf("%s", o.stdout)
	}
	e.put(t, "web.pcap")
	// The lab is preserved in a dry run: that is the default.
	if d := e.delivered(t, "web.pcap", "cloudshare"); d.State != ledger.DeliveryDone || !strings.Contains(deref(d.Note), p.lab+": snapshot planned") {
		t.Errorf("%+v, %q", d, deref(d.Note))
	}
	if d := e.delivered(t, "web.pcap", "cloudtrax"); d.State != ledger.DeliverySkipped {
		t.Errorf("%+v", d)
	}
	if n := p.trax.Counted("forbidden") + p.share.Counted("forbidden") + p.share.Counted("snapshot"); n != 0 || p.trax.Counted("block") != 1 {
		t.Errorf("%d forbidden calls or snapshots, %d blocks", n, p.trax.Counted("block"))
	}
}

// named waits until CloudTrax was asked for its clients.
func (e *explainedAgent) named(t *testing.T) {
	t.Helper()
	time.Sleep(500 * time.Millisecond) // the first snapshot is a matter of some requests on loopback
}

// TestPlatformsNeverStopAnUpload: none of the three answers; captures go, with one
// message for each, and what was to be delivered is, once they do.
func TestPlatformsNeverStopAnUpload(t *testing.T) {
	t.Parallel()
	for _, fault := range []string{"hang", "html", "huge", "reset", "status:code=503", "unauthorized", "badjson", "dribble"} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			p := newPlatforms(t)
			p.breakAll(t, fault)
			e := newExplainedAgent(t, "[policy]\nmax_delay = \"1s\"\n"+p.tables)
			agent := startDaemon(t, e.config)
			start := time.Now()
			const files = 5
			for n := range files {
				pcap := recent(t)
				pcap[24+16+14] ^= byte(n) // other bytes, another capture
				writeFile(t, filepath.Join(e.folder, fmt.Sprintf("%d.pcap", n)), pcap, 0o600)
			}
			for n := range files {
				e.capture(t, fmt.Sprintf("%d.pcap", n), in(ledger.Done))
			}
			if took := time.Since(start); took > 15*time.Second {
				t.Errorf("%v for %d captures", took, files)
			}
			v := e.show(t, *e.capture(t, "0.pcap", in(ledger.Done)).ID)
			if len(v.Deliveries) != 1 || v.Deliveries[0].State != ledger.DeliveryPending {
				t.Errorf("%+v", v.Deliveries)
			}
			agent.wait("not all machines have their names")
			agent.wait("captures wait to be delivered")
			if n := p.cado.Counted("requests"); n > 3 {
				t.Errorf("Cado is asked %d times within seconds", n)
			}
			said := map[string]int{}
			for line := range strings.Lines(agent.log()) {
				for _, text := range []string{"not all machines have their names", "captures wait to be delivered"} {
					if strings.Contains(line, text) {
						said[text]++
					}
				}
			}
			for text, n := range said {
				if n > 1 {
					t.Errorf("%q is said %d times", text, n)
				}
			}
			for _, s := range []*standin.Server{p.cado.Server, p.trax.Server, p.share.Server} {
				s.ClearFaults()
			}
			if o := e.run(t, "retry", fmt.Sprint(*v.ID)); o.code != exitOK {
				t.Errorf("%+v", o)
			}
			if d := e.delivered(t, "0.pcap", "cado"); d.State != ledger.DeliveryDone {
				t.Errorf("afterwards: %+v", d)
			}
			if log := agent.log(); strings.Contains(log, p.cado.APIKey) || strings.Contains(log, p.trax.Secret) || strings.Contains(log, p.share.APIKey) {
				t.Error("a key is in the log")
			}
		})
	}
}

// moved is a pcap of the examples whose last packet is of that second.
func moved(pcap []byte, end time.Time) []byte {
	const fileHeader, recordHeader = 24, 16
	out := append([]byte{}, pcap...)
	var records [][]byte
	for b := out[fileHeader:]; len(b) >= recordHeader; {
		records = append(records, b[:recordHeader])
		b = b[recordHeader+int(binary.LittleEndian.Uint32(b[8:])):]
	}
	last := binary.LittleEndian.Uint32(records[len(records)-1])
	for _, r := range records {
		binary.LittleEndian.PutUint32(r, binary.LittleEndian.Uint32(r)+uint32(end.Unix())-last)
	}
	return out
}

// show is all that is known of a capture.
func (e *explainedAgent) show(t *testing.T, id int64) (v service.View) {
	t.Helper()
	o := e.run(t, "show", "--json", fmt.Sprint(id))
	if err := json.Unmarshal([]byte(o.stdout), &v); err != nil {
		t.Fatalf("%v: %+v", err, o)
	}
	return v
}

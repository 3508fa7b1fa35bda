package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"capagent/internal/ledger"
	"capagent/internal/pcapio"
	"capagent/internal/traffic"
	"capagent/service"
	"capagent/service/control"
)

const held = "[policy]\nupload = \"triggered\"\nbefore = \"2s\"\nafter = \"0s\"\nmax_per_hour = 3\n"

// numbered are the packets of files: their numbers by their times, in order.
type numbered struct {
	time   int64
	number uint64
}

func readNumbered(t *testing.T, paths ...string) (all []numbered) {
	t.Helper()
	for _, path := range paths {
		some, err := readUntilTorn(path)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, some...)
	}
	return all
}

// readUntilTorn returns what comes before an error with it.
func readUntilTorn(path string) (all []numbered, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := pcapio.NewReader(f)
	if err != nil {
		return nil, err
	}
	for {
		var p pcapio.Packet
		if err := r.Next(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return all, err
		}
		if n, ok := traffic.Number(p.Data); ok {
			all = append(all, numbered{p.Time, n})
		}
	}
}

// answers waits until the agent can be asked.
func (s *sensor) answers() {
	s.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if strings.Contains(s.run("status", "--json"), `"agent":{`) {
			return
		}
	}
	s.t.Fatalf("the agent does not answer\n%s", s.log)
}

func (s *sensor) triggered(id string) (v control.Trigger) {
	s.t.Helper()
	client, err := control.Dial(s.t.Context(), control.Where{Socket: filepath.Join(s.state, "control.sock")})
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	var n int64
	if err := json.Unmarshal([]byte(strings.TrimSpace(id)), &n); err != nil {
		s.t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if v, err = client.Triggered(s.t.Context(), n); err != nil {
			s.t.Fatal(err)
		}
		if v.Ended != nil {
			return v
		}
	}
	s.t.Fatalf("trigger %d does not end\n%s", n, s.log)
	return v
}

// Under load a released capture holds exactly the packets of its window, in one
// session, soon after its end.
func TestATriggersWindowIsExact(t *testing.T) {
	t.Parallel()
	s := newSensor(t, held+strings.Replace(lan, "1000", "20000", 1))
	s.start()
	s.answers()
	s.taken(0)
	sending := make(chan traffic.Sent, 1)
	go func() { sending <- s.send(traffic.Load{Size: 512, Rate: 20_000, Duration: 8 * time.Second}) }()
	s.taken(70_000)
	link := strings.TrimSpace(s.run("trigger", "--before", "2s", "--after", "1500ms", "--reason", "phones are dead", "--json"))
	var v service.View
	if err := json.Unmarshal([]byte(link), &v); err != nil {
		t.Fatal(err)
	}
	took := s.triggered("1")
	if late := took.Ended.Sub(took.To); late > patience || took.Error != nil || took.Note != nil || len(took.Segments) < 2 {
		t.Errorf("%s late, %+v", late, took)
	}
	sent := <-sending
	s.taken(sent.Packets)
	s.run("rotate")
	if v.Source != "trigger" || v.SessionURL == nil || len(v.Tags) == 0 || v.Capture == nil || v.Capture.Reason != "trigger" {
		t.Errorf("%s", link)
	}
	session, err := filepath.Glob(filepath.Join(s.sandbox.Dir, "captures", *v.SessionID+".pcap*"))
	if err != nil || countSessions(t, s.sandbox.Dir) != 1 {
		t.Errorf("%d sessions, %v", countSessions(t, s.sandbox.Dir), err)
	}
	var got []numbered
	for _, path := range session {
		if strings.Contains(path, ".pcap") {
			got = append(got, readNumbered(t, path)...)
		}
	}
	var want []numbered
	for _, p := range readNumbered(t, s.spool(".pcapng")...) {
		if p.time >= took.From.UnixNano() && p.time <= took.To.UnixNano() {
			want = append(want, p)
		}
	}
	if len(got) != len(want) || len(want) < 60_000 {
		t.Fatalf("%d packets, %d of this time were captured; %q", len(got), len(want), session)
	}
	for i := range got {
		if got[i] != want[i] || i > 0 && got[i].number != got[i-1].number+1 {
			t.Fatalf("packet %d: %+v, want %+v", i, got[i], want[i])
		}
	}
	t.Logf("%d packets, released %s after the window's end", len(got), took.Ended.Sub(took.To))
	s.stop()
}

// SIGUSR2 and a log's line release [policy]'s window; one too many is refused.
func TestSignalsAndLogsAreTriggers(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "app.log")
	long := strings.Replace(held, "2s", "10m", 1) // so that no machine is too slow for it
	s := newSensor(t, long+lan+"[[trigger]]\nname = \"app\"\nfile = \""+log+"\"\npattern = \"OutOfMemory\"\n")
	s.start()
	s.answers()
	s.taken(0) // it is open
	s.send(traffic.Load{Size: 512, Rate: 20_000, Count: 500})
	s.taken(500)
	if err := s.agent.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); countSessions(t, s.sandbox.Dir) < 1; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no session\n%s", s.log)
		}
	}
	s.send(traffic.Load{Size: 512, Rate: 20_000, Count: 500, First: 500})
	s.taken(1000)
	writeFile(t, log, []byte("java.lang.OutOfMemoryError: \x1b[2J\n"), 0o600)
	for deadline := time.Now().Add(patience); countSessions(t, s.sandbox.Dir) < 2; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no session\n%s", s.log)
		}
	}
	if by := s.triggered("2"); by.By != "log: app" || by.Reason != `app: java.lang.OutOfMemoryError: \x1b[2J` {
		t.Errorf("%+v", by)
	}
	if id := s.run("trigger", "--no-wait"); strings.TrimSpace(id) != "3" {
		t.Errorf("%q", id)
	}
	s.triggered("3")
	cmd := program(t.Context(), nil, "trigger", "--config", s.config)
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != exitFailed || !strings.Contains(string(out), "the next one is possible at") {
		t.Errorf("%v: %s", err, out)
	}
	for line := range strings.Lines(s.run("ls", "--json")) {
		var v service.View
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		if v.Source == "capture:lan" && v.State != ledger.Held {
			t.Errorf("%s", line)
		}
	}
	s.stop()
}

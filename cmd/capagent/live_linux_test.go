package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"capagent/internal/ledger"
	"capagent/internal/traffic"
	"capagent/service"
	"capagent/service/control"
)

// sensor is an agent that captures in a namespace of its own, with a sandbox.
type sensor struct {
	*traffic.Pair
	t       *testing.T
	config  string
	state   string
	sandbox sandboxProcess
	agent   *exec.Cmd
	log     *output
}

// newSensor has the tables in its configuration.
func newSensor(t *testing.T, tables string) *sensor {
	t.Helper()
	s := &sensor{t: t, Pair: pair(t, traffic.Options{}), state: filepath.Join(shortDir(t), "state")}
	cmd, _, _ := inside(t, s.Pair, "sandbox", "--json", "--dir", t.TempDir(), "--listen", "127.0.0.1:0")
	cmd.Stdout = nil
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if err := json.NewDecoder(out).Decode(&s.sandbox); err != nil {
		t.Fatal(err)
	}
	s.config = filepath.Join(t.TempDir(), "agent.toml")
	s.configure(tables)
	return s
}

func (s *sensor) configure(tables string) {
	text := fmt.Sprintf("[agent]\nstate_dir = %q\n[cloudshark]\nurl = %q\ntoken_file = %q\n%s", s.state, s.sandbox.URL, s.sandbox.TokenFile, tables)
	writeFile(s.t, s.config, []byte(text), 0o600)
}

func (s *sensor) start() {
	s.t.Helper()
	s.agent, _, s.log = inside(s.t, s.Pair, "run", "--config", s.config)
	if err := s.agent.Start(); err != nil {
		s.t.Fatal(err)
	}
	agent := s.agent
	s.t.Cleanup(func() { _ = agent.Process.Kill(); _ = agent.Wait() })
	s.answers()
}

func (s *sensor) stop() {
	s.t.Helper()
	if err := s.agent.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	if err := s.agent.Wait(); err != nil {
		s.t.Fatalf("%v\n%s", err, s.log)
	}
}

// run runs a command that asks the agent.
func (s *sensor) run(args ...string) string {
	s.t.Helper()
	cmd := program(s.t.Context(), nil, append(args, "--config", s.config)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("%s: %v\n%s%s\n%s", args, err, out, &stderr, s.log)
	}
	return string(out)
}

func (s *sensor) status() control.Agent {
	s.t.Helper()
	var v control.Status
	if err := json.Unmarshal([]byte(s.run("status", "--json")), &v); err != nil || v.Agent == nil {
		s.t.Fatal(err, v)
	}
	return *v.Agent
}

// captures are those that the ledger has; all must be from the capture called lan.
func (s *sensor) captures() (all []service.View) {
	s.t.Helper()
	for line := range strings.Lines(s.run("ls", "--json")) {
		var v service.View
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			s.t.Fatal(err)
		}
		if v.Source != "capture:lan" || v.Capture == nil {
			s.t.Errorf("%s", line)
		}
		all = append(all, v)
	}
	return all
}

// sessions waits until all captures have one, and returns them.
func (s *sensor) sessions() (all []service.View) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		all = s.captures()
		if len(all) > 0 && !slices.ContainsFunc(all, func(v service.View) bool { return v.State != ledger.Done || v.SessionID == nil }) {
			return all
		}
	}
	s.t.Fatalf("not all have a session: %+v\n%s", all, s.log)
	return nil
}

func (s *sensor) spool(ext string) []string {
	s.t.Helper()
	files, err := filepath.Glob(filepath.Join(s.state, "spool", "lan_*"+ext))
	if err != nil {
		s.t.Fatal(err)
	}
	return files
}

func (s *sensor) send(load traffic.Load) traffic.Sent {
	s.t.Helper()
	sent, err := s.Send(s.t.Context(), load)
	if err != nil {
		s.t.Error(err)
	}
	return sent
}

// taken waits until the agent has taken so many packets from the kernel.
func (s *sensor) taken(packets uint64) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if c := s.status().Captures[0]; c.State == control.Capturing && c.Packets >= packets {
			return
		}
	}
	s.t.Fatalf("%+v\n%s", s.status().Captures[0], s.log)
}

const lan = "[[capture]]\nname = \"lan\"\ninterface = \"vethrx\"\n[capture.rotate]\npackets = 1000\n"

// Numbered packets become sessions of 1000, none lost and none doubled; rotate
// and the end of the agent give what is left.
func TestTheAgentCaptures(t *testing.T) {
	t.Parallel()
	s := newSensor(t, lan)
	s.start()
	listening(t, s.Pair)
	sending := make(chan traffic.Sent)
	go func() { sending <- s.send(traffic.Load{Size: 512, Rate: 20_000, Count: 10_500}) }()
	s.configure("bandwidth = \"100MB/s\"\n" + lan)
	s.run("reload") // goes on capturing
	<-sending
	s.taken(10_500)
	if out := s.run("rotate"); out != "lan: 1 file recorded\n" {
		t.Errorf("rotate: %q", out)
	}
	all := s.sessions()
	if len(all) != 11 || s.status().Captures[0].Open != nil {
		t.Errorf("%d captures, %+v", len(all), s.status().Captures)
	}
	if out := s.run("rotate", "lan", "--json"); !strings.Contains(out, `"files":0`) && !strings.Contains(out, `"files": 0`) {
		t.Errorf("a second time: %s", out)
	}
	s.send(traffic.Load{Size: 512, Rate: 20_000, Count: 700, First: 10_500})
	s.taken(11_200)
	if err := s.agent.Process.Signal(syscall.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); len(s.captures()) < 12 && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
	}
	s.send(traffic.Load{Size: 512, Rate: 20_000, Count: 300, First: 11_200}) // the agent ends at once: the kernel still holds some
	c := s.status().Captures[0]
	if c.State != control.Capturing || c.Dropped != 0 || c.Lost != 0 || c.Files != 12 || c.Since == nil || c.LastSealed == nil || c.Problem != nil {
		t.Errorf("%+v", c)
	}
	s.stop()
	all = s.captures()
	if len(all) != 13 || all[12].Packets != 300 || all[12].Capture.Reason != "ended" || all[11].Capture.Reason != "asked" || all[0].Capture.Reason != "packets" {
		t.Errorf("%d captures, the last one %+v", len(all), all[len(all)-1].Capture)
	}
	i := all[0].Capture.Interfaces[0]
	if i.Name != "vethrx" || i.LinkType != "EN10MB" || i.SnapLen != 262144 || all[0].Capture.Received == 0 {
		t.Errorf("%+v", all[0].Capture)
	}
	if seen, err := traffic.Check(s.spool(".pcapng")...); err != nil || seen.Distinct != 11_500 || seen.Packets != 11_500 || seen.Other != 0 {
		t.Errorf("%+v, %v", seen, err)
	}
	if n := countSessions(t, s.sandbox.Dir); n < 12 {
		t.Errorf("%d sessions", n)
	}
}

// A killed agent loses nothing that it had written, and says what it recovered.
func TestAKilledAgentsCapturesAreRecovered(t *testing.T) {
	t.Parallel()
	// Files large enough that parts of them are on the disk before they end.
	s := newSensor(t, strings.Replace(lan, "1000", "20000", 1))
	var sent uint64
	for round := range 3 {
		s.start()
		listening(t, s.Pair)
		sending := make(chan traffic.Sent)
		go func() { sending <- s.send(traffic.Load{Size: 1500, Rate: 20_000, Count: 20_000, First: sent}) }()
		time.Sleep(time.Duration(300+100*round) * time.Millisecond)
		if err := s.agent.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = s.agent.Wait()
		sent += (<-sending).Packets
	}
	var written traffic.Checker
	for _, path := range append(s.spool(".pcapng"), s.spool(".part")...) {
		_ = written.File(path) // that of a killed agent is torn
	}
	left := 0
	for _, path := range s.spool(".part") {
		if torn, _ := traffic.Check(path); torn.Packets > 0 {
			left++
		}
	}
	s.start()
	listening(t, s.Pair)
	s.send(traffic.Load{Size: 512, Rate: 20_000, Count: 1500, First: sent})
	s.run("rotate")
	recovered := 0
	for _, v := range s.sessions() {
		if v.Capture.Recovered {
			recovered++
		}
	}
	s.stop()
	seen, err := traffic.Check(s.spool(".pcapng")...)
	if err != nil || seen.Doubled != 0 || seen.Distinct != written.Result().Distinct+1500 {
		t.Errorf("%d were written and 1500 more, %+v is there: %v", written.Result().Distinct, seen, err)
	}
	if recovered < left || left == 0 || len(s.spool(".part")) > 0 {
		t.Errorf("%d recovered, %d were left", recovered, left)
	}
	t.Logf("%d sent, %d kept through three kills, %d recovered", sent, written.Result().Distinct, recovered)
}

// The agent's own uploads go over an interface that it captures from, and are
// left out where that is wanted.
func TestTheAgentLeavesItsUploadsOut(t *testing.T) {
	t.Parallel()
	for _, exclude := range []bool{true, false} {
		t.Run(fmt.Sprint(exclude), func(t *testing.T) {
			s := newSensor(t, fmt.Sprintf("[[capture]]\nname = \"lan\"\ninterface = \"vethrx, lo\"\nfilter = \"tcp or udp\"\nexclude_uploads = %t\n", exclude))
			s.start()
			listening(t, s.Pair)
			s.taken(0) // both are open
			s.send(traffic.Load{Size: 512, Rate: 20_000, Count: 1000})
			s.taken(1000)
			s.run("rotate")
			s.sessions()
			s.stop()
			seen, err := traffic.Check(s.spool(".pcapng")...)
			if err != nil || seen.Distinct != 1000 || exclude != (seen.Other == 0) {
				t.Errorf("%+v, %v", seen, err)
			}
		})
	}
}

// An interface that is not there yet stops nothing but its own capture.
func TestTheAgentWaitsForAnInterface(t *testing.T) {
	t.Parallel()
	s := newSensor(t, lan+"[[capture]]\nname = \"bad\"\ninterface = \"lo\"\nfilter = \"host nobody.invalid\"\n")
	if err := s.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.start()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if all := s.status().Captures; all[0].Problem != nil && all[1].Problem != nil {
			break
		}
	}
	all := s.status().Captures
	if c := all[0]; c.State != control.Waiting || c.Problem == nil || !strings.Contains(*c.Problem, "no such interface") {
		t.Errorf("%+v", c)
	}
	if c := all[1]; c.State != control.Waiting || c.Problem == nil || !strings.Contains(*c.Problem, "unknown host") {
		t.Errorf("%+v", c)
	}
	if out := s.run("status"); !strings.Contains(out, "lan on vethrx: waiting") || !strings.Contains(out, "capagent interfaces") {
		t.Error(out)
	}
	if err := s.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.taken(0)
	s.send(traffic.Load{Size: 512, Rate: 20_000, Count: 500})
	s.stop()
	found := s.captures()
	if len(found) != 1 || found[0].Packets != 500 || len(found[0].Capture.Gaps) != 1 || !strings.Contains(found[0].Capture.Gaps[0].Cause, "no such interface") {
		t.Errorf("%+v", found)
	}
	if out := s.run("show", "1"); !strings.Contains(out, "missing ") || !strings.Contains(out, "vethrx (EN10MB)") {
		t.Error(out)
	}
}

// Each file is on its way to the server while it is written.
func TestTheAgentStreams(t *testing.T) {
	t.Parallel()
	s := newSensor(t, "stream = true\n"+lan)
	s.start()
	s.taken(0)
	s.send(traffic.Load{Size: 512, Rate: 20_000, Count: 500})
	s.taken(500)
	s.send(traffic.Load{Size: 512, Rate: 20_000, Count: 2000, First: 500})
	s.taken(2500)
	s.run("rotate")
	all := s.sessions()
	s.stop()
	var stored []string
	streamed := 0
	for _, v := range all {
		path := filepath.Join(s.sandbox.Dir, "captures", *v.SessionID)
		if strings.Contains(string(readFile(t, path+".json")), "sent while it was captured") {
			streamed++
		}
		stored = append(stored, path+".pcapng")
	}
	// A file that was begun and complete at once may have been faster than its stream.
	if len(all) != 3 || streamed == 0 || countSessions(t, s.sandbox.Dir) != 3 {
		t.Errorf("%d captures, %d streamed\n%s", len(all), streamed, s.log)
	}
	if seen, err := traffic.Check(stored...); err != nil || seen.Distinct != 2500 || seen.Packets != 2500 || seen.Other != 0 {
		t.Errorf("%+v, %v", seen, err)
	}
}

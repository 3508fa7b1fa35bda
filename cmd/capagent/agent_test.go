//go:build unix

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"capagent/internal/audit"
	"capagent/internal/config"
	"capagent/internal/ledger"
	"capagent/service"
	"capagent/service/control"
)

// Whoever looks need not care whether an agent runs.
func TestWhatIsKnownIsTheSameWithAnAgent(t *testing.T) {
	t.Parallel()
	s := startSandbox(t)
	p := at{s, filepath.Join(shortDir(t), "state")}
	evidence := t.TempDir()
	if err := makeCaptures(evidence, 60); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(evidence, "bad\xff\x1b[31m\n.pcap"), []byte("no capture"), 0o600)
	if o := p.run(t, "import", "--case", "2026-017", evidence); o.code > exitSome {
		t.Fatal(o.stderr)
	}
	file := filepath.Join(evidence, "01/1/00001.pcap")
	if o := p.run(t, "upload", "--url", "http://127.0.0.1:1", "--wait", "0s", file); o.code != exitQueued {
		t.Fatalf("%+v", o)
	}
	for _, name := range []string{"05/0/00005.pcap", "06/1/00006.pcap", "07/2/00007.pcap"} {
		if err := os.Chmod(filepath.Join(evidence, name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(evidence, "05/0/00005.pcap"), smallCapture(5)[:100], 0o600)
	if err := errors.Join(os.Remove(filepath.Join(evidence, "06/1/00006.pcap")), os.Remove(filepath.Join(evidence, "07/2/00007.pcap")),
		os.Mkdir(filepath.Join(evidence, "07/2/00007.pcap"), 0o700)); err != nil {
		t.Fatal(err)
	}
	commands := [][]string{
		{"verify"},
		{"verify", "--json"},
		{"verify", "1", "2"},
		{"verify", "54"},
		{"verify", "54", "--json", "1"},
		{"verify", "1", "999"},
		{"ls"},
		{"ls", "--json"},
		{"ls", "--newest", "--limit", "7"},
		{"ls", "--state", "done,queued", "--source", "import"},
		{"ls", "--state", "quarantined", "--json"},
		{"ls", "--case", "nobody's"},
		{"show", "1"},
		{"show", "--json", "62"},
		{"show", "61"},
		{"show", "999"},
		{"show", ".."},
		{"show", "a/../b\x1b"},
		{"show", "000000"},
	}
	without := make([]outcome, len(commands))
	for i, args := range commands {
		without[i] = p.run(t, args...)
	}
	if !strings.Contains(without[6].stdout, `\xff`) || strings.Contains(without[6].stdout, "\x1b") {
		t.Fatalf("no hostile name, or one that is shown as it is:\n%s", without[6].stdout)
	}
	p.startAgent(t)
	for i, args := range commands {
		if with := p.run(t, args...); with != without[i] {
			there, here := differing(with.stdout+with.stderr, without[i].stdout+without[i].stderr)
			t.Errorf("%q with an agent: code %d\n%s\nwithout: code %d\n%s", args, with.code, there, without[i].code, here)
		}
	}
	if o := p.run(t, "status"); !strings.HasPrefix(o.stdout, "running since ") || !strings.Contains(o.stdout, ": all is well\n") {
		t.Errorf("%+v", o)
	}
}

// differing returns the first lines that are not the same.
func differing(a, b string) (string, string) {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(as), len(bs)) {
		if as[i] != bs[i] {
			return as[i], bs[i]
		}
	}
	return fmt.Sprintf("%d lines", len(as)), fmt.Sprintf("%d lines", len(bs))
}

func TestRetrySaysTheSameWithAnAgent(t *testing.T) {
	t.Parallel()
	type try struct {
		name string
		args []string
		code int
		told string // on stderr
	}
	for fault, tries := range map[string][]try{
		"": {
			{"everything goes well", []string{"retry"}, exitOK, ""},
			{"one by its number", []string{"retry", "2"}, exitOK, ""},
			{"one that has a session", []string{"retry", "1"}, exitOK, ""},
			{"one that is no capture", []string{"retry", "4"}, exitFailed, "not a capture"},
			{"one that was meant for another server", []string{"retry", "5"}, exitFailed, "it was meant for http://127.0.0.1:1"},
			{"none", []string{"retry", "99"}, exitFailed, "no such capture"},
			{"JSON", []string{"retry", "--json"}, exitOK, ""},
		},
		"bad-token":                  {{"a bad token", []string{"retry"}, exitPermission, "API Token is missing or invalid"}},
		"too-large":                  {{"a capture that is too large", []string{"retry", "2"}, exitFailed, "max_size"}},
		"too-large:filename=085319Z": {{"some fail", []string{"retry", "--all"}, exitSome, "max_size"}},
		"busy":                       {{"a busy server", []string{"retry", "--wait", "1s", "3"}, exitQueued, ""}},
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			before := prepareRetry(t, fault)
			for _, tc := range tries {
				without := before.copy(t).run(t, tc.args...)
				p := before.copy(t)
				p.startAgent(t)
				with := p.run(t, tc.args...)
				with.stderr = strings.Replace(with.stderr, "1 capture queued; the agent goes on trying\n", "", 1)
				if without.code != tc.code || !strings.Contains(without.stderr, tc.told) {
					t.Errorf("%s: without an agent: %+v", tc.name, without)
				}
				if with.code != without.code || !strings.Contains(with.stderr, tc.told) || strings.Count(with.stdout, "\n") != strings.Count(without.stdout, "\n") {
					t.Errorf("%s: with an agent: %+v\nwithout: %+v", tc.name, with, without)
				}
				if tc.code == exitFailed && with.stderr != without.stderr {
					t.Errorf("%s: with an agent:\n%s\nwithout:\n%s", tc.name, with.stderr, without.stderr)
				}
			}
		})
	}
}

// copy is the same state in another place.
func (p at) copy(t *testing.T) at {
	t.Helper()
	state := filepath.Join(shortDir(t), "state")
	if err := os.CopyFS(state, os.DirFS(p.state)); err != nil {
		t.Fatal(err)
	}
	return at{p.s, state}
}

// prepareRetry makes a state of one session, two captures that wait, one that is
// no capture, and one for another server. Then the sandbox has the fault.
func prepareRetry(t *testing.T, fault string) at {
	t.Helper()
	dir := shortDir(t)
	p := at{startSandbox(t), filepath.Join(dir, "state")}
	for i, name := range []string{"a.pcap", "b.pcap", "c.pcap", "e.pcap"} {
		writeFile(t, filepath.Join(dir, name), smallCapture(i), 0o600)
	}
	writeFile(t, filepath.Join(dir, "d.pcap"), []byte("no capture"), 0o600)
	wrong := filepath.Join(dir, "wrong")
	writeFile(t, wrong, []byte(strings.Repeat("0", 32)+"\n"), 0o600)
	p.run(t, "upload", filepath.Join(dir, "a.pcap"))
	p.run(t, "upload", "--token-file", wrong, filepath.Join(dir, "b.pcap"), filepath.Join(dir, "c.pcap"), filepath.Join(dir, "d.pcap"))
	p.run(t, "upload", "--url", "http://127.0.0.1:1", "--wait", "0s", filepath.Join(dir, "e.pcap"))
	if o := p.run(t, "--json", "status"); !strings.Contains(o.stdout, `"queued":{"Captures":3`) {
		t.Fatalf("%+v", o)
	}
	if fault != "" {
		p.s.stop()
		p.s = startSandboxIn(t, p.s.Dir, "--listen", strings.TrimPrefix(p.s.URL, "http://"), "--fault", fault)
	}
	return p
}

// stopped is what a follower of an agent's work is told, and when.
func TestFollowingCanEndBeforeTheWork(t *testing.T) {
	t.Parallel()
	follow := func(t *testing.T, end func(f *fakeAgent, stop func(), cmd *exec.Cmd)) (outcome, at, *fakeAgent) {
		t.Helper()
		p := prepareRetry(t, "")
		f, stop := p.startAgent(t)
		grace := make(chan struct{})
		f.set(func() { f.grace = grace })
		release := sync.OnceFunc(func() { close(grace) })
		t.Cleanup(release)
		cmd := program(t.Context(), p.env(), "--config", p.s.Config, "retry", "--wait", "1m")
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-f.begun
		end(f, func() { release(); stop() }, cmd)
		_ = cmd.Wait() // the code says it
		release()
		return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}, p, f
	}
	t.Run("when the user has seen enough", func(t *testing.T) {
		t.Parallel()
		o, p, f := follow(t, func(_ *fakeAgent, _ func(), cmd *exec.Cmd) {
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Error(err)
			}
		})
		if o.code != exitInterrupted || !strings.Contains(o.stderr, "the agent goes on") || o.stdout != "" {
			t.Errorf("%+v", o)
		}
		f.work.Wait()
		if o := p.run(t, "ls", "--state", "queued"); strings.Contains(o.stdout, "b.pcap") {
			t.Errorf("the agent did not go on: %+v", o)
		}
	})
	t.Run("when the agent ends", func(t *testing.T) {
		t.Parallel()
		o, _, _ := follow(t, func(f *fakeAgent, stop func(), _ *exec.Cmd) {
			f.abandoned.Store(true)
			stop()
		})
		if o.code != exitQueued || !strings.Contains(o.stderr, "the agent has stopped") {
			t.Errorf("%+v", o)
		}
	})
	t.Run("but not while one is on its way", func(t *testing.T) {
		t.Parallel()
		p := prepareRetry(t, "")
		f, _ := p.startAgent(t)
		grace := make(chan struct{})
		f.set(func() { f.grace, f.flying = grace, 3 })
		cmd := program(t.Context(), p.env(), "--config", p.s.Config, "retry", "--wait", "300ms")
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-f.begun
		for range 6 { // a look every 250 ms
			<-f.looked
		}
		close(grace)
		if err := cmd.Wait(); err != nil || strings.Count(stdout.String(), "/captures/") != 2 {
			t.Errorf("%v\n%s%s", err, &stdout, &stderr)
		}
	})
	t.Run("when the waiting is over", func(t *testing.T) {
		t.Parallel()
		p := prepareRetry(t, "")
		f, _ := p.startAgent(t)
		grace := make(chan struct{})
		f.set(func() { f.grace = grace })
		defer close(grace)
		if o := p.run(t, "retry", "--wait", "0s"); o.code != exitQueued || !strings.Contains(o.stderr, "c.pcap: not sent yet; it is queued") || !strings.Contains(o.stderr, "2 captures queued; the agent goes on trying") {
			t.Errorf("%+v", o)
		}
	})
}

func TestAServerThatIsNamedIsTheCommandsOwnBusiness(t *testing.T) {
	t.Parallel()
	p := prepareRetry(t, "")
	f, _ := p.startAgent(t)
	grace := make(chan struct{}) // the agent sends nothing
	f.set(func() { f.grace = grace })
	defer close(grace)
	if o := p.run(t, "retry", "--url", p.s.URL); o.code != exitOK || strings.Count(o.stdout, "/captures/") != 2 {
		t.Errorf("%+v", o)
	}
}

func TestTheAgentNeedsNoTokenFromTheCommand(t *testing.T) {
	t.Parallel()
	p := prepareRetry(t, "")
	p.startAgent(t)
	o := runProgram(t, append(p.env(), "CAPAGENT_CLOUDSHARK_TOKEN_FILE=/nowhere/token"), "--config", p.s.Config, "retry")
	if o.code != exitOK || strings.Count(o.stdout, "/captures/") != 2 {
		t.Errorf("%+v", o)
	}
}

func TestReload(t *testing.T) {
	t.Parallel()
	p := at{startSandbox(t), filepath.Join(shortDir(t), "state")}
	if o := p.run(t, "reload"); o.code != exitUnavailable || !strings.Contains(o.stderr, "no agent is running") {
		t.Errorf("without an agent: %+v", o)
	}
	f, stop := p.startAgent(t)
	if o := p.run(t, "reload"); o.code != exitOK || o.stdout != "reloaded\n" {
		t.Errorf("%+v", o)
	}
	if o := p.run(t, "--json", "reload"); o.code != exitOK || o.stdout != "{\"reloaded\":true}\n" {
		t.Errorf("%+v", o)
	}
	f.set(func() {
		f.reload = config.Errors{{Key: "cloudshark.url", Err: errors.New("expected https")}, {Key: "log.level", Err: errors.New("expected\x1b one of")}}
	})
	o := p.run(t, "reload")
	if want := "capagent: cloudshark.url: expected https\ncapagent: log.level: expected\\x1b one of\n"; o.code != exitConfig || o.stderr != want {
		t.Errorf("%+v\nwant %s", o, want)
	}
	// The file has mistakes by now, and the agent goes on with what it read.
	bad := filepath.Join(filepath.Dir(p.state), "bad.toml")
	writeFile(t, bad, []byte("[cloudshark]\nurl = \"nonsense\"\n"), 0o600)
	broken := at{sandboxProcess{Config: bad}, p.state}
	if o := broken.run(t, "status"); o.code != exitOK || !strings.HasPrefix(o.stdout, "running since") || !strings.Contains(o.stderr, "the configuration has mistakes") {
		t.Errorf("%+v", o)
	}
	stop()
	if o := broken.run(t, "status"); o.code != exitConfig || !strings.Contains(o.stderr, "cloudshark.url") {
		t.Errorf("%+v", o)
	}
}

func TestStatusTellsAllThatTheAgentSays(t *testing.T) {
	t.Parallel()
	p := prepareRetry(t, "")
	if o := p.run(t, "status"); o.code != exitOK || !strings.HasPrefix(o.stdout, "no agent is running\n") || !strings.Contains(o.stdout, "queued       ") {
		t.Errorf("%+v", o)
	}
	f, _ := p.startAgent(t)
	at := time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	told := &control.Agent{
		PID: 4711, Started: at, State: control.Degraded, Text: "uploads are\x1b paused",
		Uploading:   []control.Uploading{{ID: 2, Name: "b\n.pcap", Size: 4096, Sent: new(int64(1024))}, {ID: 3, Name: "c.pcap", Size: 1}},
		Reloaded:    &at,
		ConfigError: new("agent.toml:1:1: log.level: bad\nagent.toml:2:1: x: bad\x1b"),
		Problems: []control.Problem{
			{Class: "disk", Text: "the disk is full\x1b", Hint: new("make\nroom"), Since: at, Count: 3},
			{Class: "clock", Text: "the clock jumped", Since: at, Count: 1},
		},
		Watches: []control.Watch{
			{Path: "/data/\x1b", State: "failed", Error: new("open: no such\nfile")},
			{Path: "/pcaps", State: "watching", Files: 1, Pending: 2, LastScan: &at},
		},
		Destination: control.DestinationState{
			State: service.DoorPaused, Kind: new("pause"), Class: new("bad_token"), Reason: new("token is\x1b missing"), Hint: new("copy it again"), Since: &at, Until: &at,
		},
		Disk: control.Disk{Free: 5 << 30, SpoolBytes: 7 << 20, MinFree: 1 << 30},
	}
	f.set(func() { f.agent = told })
	o := p.run(t, "status")
	if o.code != exitOK || strings.Contains(o.stdout, "\x1b") {
		t.Errorf("%+v", o)
	}
	for _, want := range []string{
		"running since 2026-11-21 10:00:00Z, pid 4711: uploads are\\x1b paused\n",
		"paused since 2026-11-21 10:00:00Z, asked again at 2026-11-21 10:00:00Z: token is\\x1b missing\n", "hint: copy it again\n",
		"\"b\\n.pcap\" (capture 2), 1.0 KiB of 4.0 KiB\n", "c.pcap (capture 3), 1 B\n",
		"\"/data/\\x1b\": failed, 0 files, 0 pending\n", "open: no such\\nfile\n", "/pcaps: watching, 1 file, 2 pending, scanned 2026-11-21 10:00:00Z\n",
		"5.0 GiB free, 7.0 MiB in the spool, at least 1.0 GiB is kept free\n",
		"log.level: bad\n", "agent.toml:2:1: x: bad\\x1b\n",
		"since 2026-11-21 10:00:00Z, 3 times: the disk is full\\x1b\n", "hint: make\\nroom\n", "since 2026-11-21 10:00:00Z: the clock jumped\n",
	} {
		if !strings.Contains(o.stdout, want) {
			t.Errorf("no %q in\n%s", want, o.stdout)
		}
	}
}

func TestVerifySaysWhatIsWrongByItsCode(t *testing.T) {
	t.Parallel()
	s := startSandbox(t)
	before := at{s, filepath.Join(shortDir(t), "state")}
	evidence := t.TempDir()
	if err := makeCaptures(evidence, 3); err != nil {
		t.Fatal(err)
	}
	if o := before.run(t, "verify"); o.code != exitOK || o.stdout != "" || !strings.Contains(o.stderr, "nothing was recorded yet") {
		t.Errorf("%+v", o)
	}
	if o := before.run(t, "import", evidence); o.code != exitOK {
		t.Fatal(o.stderr)
	}
	l, err := ledger.Open(t.Context(), filepath.Join(before.state, "ledger.db"), ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(audit.New(l, audit.Options{Dir: before.state, Host: "h", Version: "v"}).Drain(t.Context()), l.Close()); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(evidence, "*", "*", "*.pcap"))
	if err != nil || len(files) != 3 {
		t.Fatalf("%q, %v", files, err)
	}
	spoil := func(path string) func(*testing.T, at) {
		return func(t *testing.T, p at) {
			path = strings.Replace(path, "STATE", p.state, 1)
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text[len(text)-3] ^= 1
			if err := errors.Join(os.Remove(path), os.WriteFile(path, text, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, tc := range []struct {
		what string
		do   func(*testing.T, at)
		args []string
		code int
		want []string
	}{
		{"nothing is wrong", func(*testing.T, at) {}, nil, exitOK, []string{"3 captures: 3 ok; ledger: whole; audit log: ", " lines, unbroken\naudit log: line "}},
		{"one of three was changed", spoil(files[0]), nil, exitSome, []string{"changed  ", "  (SHA-256 was ", "3 captures: 2 ok, 1 changed; ledger: whole"}},
		{"the other two are named", nil, []string{"1", "2"}, exitOK, []string{"2 captures: 2 ok\n"}},
		{"it is named", nil, []string{"3"}, exitFailed, []string{"1 capture: 1 changed\n"}},
		{"the log was changed", spoil("STATE/audit.log"), nil, exitFailed, []string{"audit log: broken: audit.log line "}},
	} {
		p := before.copy(t)
		if tc.do != nil {
			tc.do(t, p)
		}
		args := append([]string{"verify"}, tc.args...)
		without := p.run(t, args...)
		_, stop := p.startAgent(t)
		with := p.run(t, args...)
		stop()
		if with != without {
			t.Errorf("%s: with an agent: %+v", tc.what, with)
		}
		if without.code != tc.code {
			t.Errorf("%s: %+v", tc.what, without)
		}
		for _, want := range tc.want {
			if !strings.Contains(without.stdout, want) {
				t.Errorf("%s: no %q in\n%s", tc.what, want, without.stdout)
			}
		}
	}
}

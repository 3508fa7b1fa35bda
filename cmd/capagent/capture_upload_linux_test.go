package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"capagent/internal/ledger"
	"capagent/internal/pcapio"
)

// chatter is a host that gets packets all the time, over lo.
type chatter struct {
	port   int
	filter string // passes nothing else
	shown  string // the same for Wireshark, in a link
}

func startChatter(t *testing.T) chatter {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("capturing needs root")
	}
	to, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	from, err := net.Dial("udp", to.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				_, _ = from.Write(make([]byte, 200))
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-stopped; from.Close(); to.Close() })
	port := to.LocalAddr().(*net.UDPAddr).Port
	return chatter{port, fmt.Sprintf("udp dst port %d", port), fmt.Sprintf("?filter=udp.dstport%%20%%3D%%3D%%20%d", port)}
}

// on are the arguments that capture it.
func (c chatter) on(args ...string) []string {
	return append([]string{"capture", "-i", "lo", "-f", c.filter}, args...)
}

func (p at) spool(t *testing.T) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(p.state, "spool", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// start is run for a program that somebody signals.
func (p at) start(t *testing.T, args ...string) (cmd *exec.Cmd, stdout, stderr *output) {
	t.Helper()
	cmd = program(t.Context(), p.env(), append([]string{"--config", p.s.Config}, args...)...)
	stdout, stderr = &output{}, &output{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, stdout, stderr
}

// capturing waits until packets are in a file of the spool.
func (p at) capturing(t *testing.T) {
	t.Helper()
	eventually(t, "capturing", func() bool {
		for _, path := range p.spool(t) {
			if info, err := os.Stat(path); err == nil && info.Size() > 2000 {
				return true
			}
		}
		return false
	})
}

var linkLine = regexp.MustCompile(`^http://[^ ]+/captures/[0-9a-f]{12}(\?filter=[^ ]+)?\n$`)

func worksOn(t *testing.T, link string) {
	t.Helper()
	if !linkLine.MatchString(link) {
		t.Errorf("no single link: %q", link)
		return
	}
	reply, err := http.Get(strings.TrimSpace(link))
	if err != nil {
		t.Error(err)
		return
	}
	reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		t.Errorf("%s: %s", link, reply.Status)
	}
}

// retries runs the command that a message names.
func (p at) retries(t *testing.T, stderr string) outcome {
	t.Helper()
	found := regexp.MustCompile("`capagent ([^`]+)` uploads").FindStringSubmatch(stderr)
	if found == nil {
		t.Fatalf("no command to upload with:\n%s", stderr)
	}
	return runProgram(t, p.env(), strings.Fields(found[1])...)
}

func TestCaptureGivesOneLink(t *testing.T) {
	t.Parallel()
	c := startChatter(t)
	p := at{startSandbox(t), filepath.Join(t.TempDir(), "state")}
	o := p.run(t, c.on("--packets", "3", "--tag", "slow", "--comment", "why", "--name", "tuesday.pcap")...)
	if o.code != exitOK || !strings.HasSuffix(o.stdout, c.shown+"\n") || !strings.HasPrefix(o.stderr, "3 packets, ") {
		t.Errorf("%+v", o)
	}
	worksOn(t, o.stdout)
	if left := p.spool(t); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	found, _ := filepath.Glob(filepath.Join(p.s.Dir, "captures", "*.json"))
	if len(found) != 1 {
		t.Fatal(found)
	}
	text, _ := os.ReadFile(found[0])
	for _, want := range []string{"slow", "why", "tuesday.pcapng"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in %s", want, text)
		}
	}

	// With --write the file stays; JSON says all of it.
	path := filepath.Join(t.TempDir(), "x.pcap")
	o = p.run(t, c.on("--packets", "3", "--write", path, "--json")...)
	var got captureResult
	if err := json.Unmarshal([]byte(o.stdout), &got); err != nil || o.code != exitOK {
		t.Fatalf("%v: %+v", err, o)
	}
	if got.Path != path || got.Packets != 3 || *got.ID != 2 || *got.State != ledger.Done || got.Error != nil ||
		!strings.HasSuffix(*got.SessionURL, "/captures/"+*got.SessionID) || *got.FilterURL != *got.SessionURL+c.shown {
		t.Error(o.stdout)
	}
	opensWithoutWarning(t, path)
}

// A laptop needs no configuration file.
func TestCaptureByTheEnvironmentAlone(t *testing.T) {
	t.Parallel()
	c := startChatter(t)
	s := startSandbox(t)
	token, err := os.ReadFile(s.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	for name, env := range map[string]string{
		"token":      "CAPAGENT_CLOUDSHARK_TOKEN=" + strings.TrimSpace(string(token)),
		"token file": "CAPAGENT_CLOUDSHARK_TOKEN_FILE=" + s.TokenFile,
	} {
		home := t.TempDir()
		o := runProgram(t, []string{env, "CAPAGENT_CLOUDSHARK_URL=" + s.URL, "HOME=" + home, "XDG_STATE_HOME=" + home, "XDG_CONFIG_HOME=" + home, "CAPAGENT_AGENT_STATE_DIR=" + home},
			c.on("--packets", "2")...)
		if o.code != exitOK {
			t.Errorf("%s: %+v", name, o)
		}
		worksOn(t, o.stdout)
	}
	o := runProgram(t, []string{"HOME=" + t.TempDir(), "CAPAGENT_AGENT_STATE_DIR=" + t.TempDir()}, c.on("--packets", "2")...)
	if o.code != exitConfig || !strings.Contains(o.stderr, "capagent sandbox") {
		t.Errorf("nothing: %+v", o)
	}
}

func TestInterruptedCaptureIsUploaded(t *testing.T) {
	t.Parallel()
	c := startChatter(t)
	p := at{startSandbox(t), filepath.Join(t.TempDir(), "state")}
	cmd, stdout, stderr := p.start(t, c.on()...)
	p.capturing(t)
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	worksOn(t, stdout.String())
}

func TestInterruptedUploadStaysQueued(t *testing.T) {
	t.Parallel()
	c := startChatter(t)
	p := at{startSandbox(t, "--fault", "slow:times=1,bytes=100"), filepath.Join(t.TempDir(), "state")}
	cmd, stdout, stderr := p.start(t, c.on()...)
	p.capturing(t)
	for range 2 { // the second comes while the upload crawls
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		eventually(t, "recording", func() bool {
			o := p.run(t, "ls", "--state", "queued")
			return strings.Contains(o.stdout, "queued") || cmd.ProcessState != nil
		})
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitInterrupted || stdout.String() != "" || len(p.spool(t)) != 1 {
		t.Errorf("exit %d, %q\n%s", code, p.spool(t), stderr)
	}
	o := p.retries(t, stderr.String())
	worksOn(t, o.stdout)
	if left := p.spool(t); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// What would keep the capture from being uploaded is told before it begins.
func TestCaptureTriesTheServerFirst(t *testing.T) {
	t.Parallel()
	c := startChatter(t)
	for fault, tc := range map[string]struct {
		code int
		text string
	}{
		"bad-token": {exitPermission, "hint: check [cloudshark] token"},
		"login":     {exitPermission, "hint: the token wants a login"},
		"redirect":  {exitUnavailable, "redirect"},
	} {
		p := at{startSandbox(t, "--fault", fault+":method=any"), filepath.Join(t.TempDir(), "state")}
		path, ran := filepath.Join(t.TempDir(), "x.pcap"), filepath.Join(t.TempDir(), "ran")
		o := p.run(t, c.on("--packets", "3", "--write", path, "--", "touch", ran)...)
		if o.code != tc.code || !strings.Contains(o.stderr, tc.text) || o.stdout != "" {
			t.Errorf("%s: %+v", fault, o)
		}
		for _, path := range append(p.spool(t), path, ran) {
			if _, err := os.Stat(path); err == nil {
				t.Errorf("%s: %s is there", fault, path)
			}
		}
	}
}

func TestCaptureWithADeadServerIsKept(t *testing.T) {
	t.Parallel()
	c := startChatter(t)
	s := startSandbox(t)
	s.stop()
	p := at{s, filepath.Join(t.TempDir(), "state")}
	o := p.run(t, c.on("--packets", "3", "--wait", "0s", "--json")...)
	var got captureResult
	if err := json.Unmarshal([]byte(o.stdout), &got); err != nil || o.code != exitQueued {
		t.Fatalf("%v: %+v", err, o)
	}
	if *got.State != ledger.Queued || got.SessionURL != nil || got.Error == nil || len(p.spool(t)) != 1 || p.spool(t)[0] != got.Path {
		t.Errorf("%s%q", o.stdout, p.spool(t))
	}
	if !strings.Contains(o.stderr, "capturing all the same") {
		t.Error(o.stderr)
	}
	startSandboxIn(t, s.Dir, "--listen", strings.TrimPrefix(s.URL, "http://"))
	o = p.retries(t, o.stderr)
	worksOn(t, o.stdout)
}

func TestCaptureOfNothing(t *testing.T) {
	t.Parallel()
	c := startChatter(t)
	p := at{startSandbox(t), filepath.Join(t.TempDir(), "state")}
	o := p.run(t, "capture", "-i", "lo", "-f", "ether host 02:00:00:00:00:99", "--duration", "300ms")
	if o.code != exitFailed || o.stdout != "" || !strings.Contains(o.stderr, "nothing to upload") || !strings.Contains(o.stderr, "passed the filter") {
		t.Errorf("%+v", o)
	}
	if left := p.spool(t); len(left) > 0 || countSessions(t, p.s.Dir) > 0 {
		t.Errorf("left: %q", left)
	}
	if o := p.run(t, c.on("--write", filepath.Join(t.TempDir(), "x.pcap"), "--duration", "1ns", "--no-upload")...); o.code != exitOK {
		t.Errorf("%+v", o)
	}
}

func TestCaptureWithoutTheRightUploadsNothing(t *testing.T) {
	t.Parallel()
	startChatter(t)
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Skip(err)
	}
	p := at{startSandbox(t), filepath.Join(t.TempDir(), "state")}
	ran := filepath.Join(t.TempDir(), "ran")
	cmd := program(t.Context(), p.env(), "--config", p.s.Config, "capture", "-i", "lo", "--", "touch", ran)
	cmd.Args = append([]string{setpriv, "--bounding-set=-net_raw", cmd.Path}, cmd.Args[1:]...)
	cmd.Path = setpriv
	out, _ := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != exitPermission || !strings.Contains(string(out), "sudo setcap cap_net_raw+ep") {
		t.Errorf("exit %d\n%s", code, out)
	}
	if _, err := os.Stat(ran); err == nil || len(p.spool(t)) > 0 {
		t.Errorf("ran, or left %q", p.spool(t))
	}
}

// What a killed capture has left is found by the next one.
func TestKilledCaptureIsRecovered(t *testing.T) {
	t.Parallel()
	c := startChatter(t)
	p := at{startSandbox(t), filepath.Join(t.TempDir(), "state")}
	cmd, _, _ := p.start(t, c.on()...)
	p.capturing(t)
	other, _, stderr := p.start(t, c.on("--packets", "1")...) // leaves it alone while it lives
	if err := other.Wait(); err != nil || strings.Contains(stderr.String(), "cut short") {
		t.Errorf("%v\n%s", err, stderr)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if left := p.spool(t); len(left) != 1 || !strings.HasSuffix(left[0], ".pcapng.part") {
		t.Errorf("left: %q", left)
	}
	o := p.run(t, c.on("--packets", "1")...)
	if o.code != exitOK || !strings.Contains(o.stderr, "an earlier capture had been cut short: ") {
		t.Errorf("%+v", o)
	}
	o = p.retries(t, o.stderr)
	worksOn(t, o.stdout)
	if left := p.spool(t); len(left) > 0 || countSessions(t, p.s.Dir) != 3 {
		t.Errorf("left: %q; %d sessions", left, countSessions(t, p.s.Dir))
	}
}

func TestCaptureUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--no-upload"},
		{"--no-upload", "--write", "x.pcap", "--open"},
		{"--no-upload", "--write", "x.pcap", "--keylog", "k"},
		{"--on-failure"},
		{"--linger", "1s"},
		{"--"},
		{"ls"},
		{"ls", "--", "ls"},
		{"ls", "-la"},
		{"--duration", "-1s"},
	} {
		o := runProgram(t, nil, append([]string{"capture"}, args...)...)
		if args[0] == "ls" && !strings.Contains(o.stderr, "capagent capture -- ls") {
			t.Error(o.stderr)
		}
		if o.code != exitUsage || o.stdout != "" {
			t.Errorf("%q: %+v", args, o)
		}
	}
}

func TestCaptureStreams(t *testing.T) {
	t.Parallel()
	c := startChatter(t)
	p := at{startSandbox(t), filepath.Join(t.TempDir(), "state")}
	o := p.run(t, c.on("--stream", "--packets", "20", "--tag", "live", "--comment", "why")...)
	if o.code != exitOK || !strings.HasSuffix(o.stdout, c.shown+"\n") || !strings.HasPrefix(o.stderr, "20 packets, ") {
		t.Fatalf("%+v", o)
	}
	worksOn(t, o.stdout)
	found, _ := filepath.Glob(filepath.Join(p.s.Dir, "captures", "*.json"))
	if len(found) != 1 {
		t.Fatalf("%q", found)
	}
	text := string(readFile(t, found[0]))
	for _, want := range []string{`"live"`, `why\nfile: `, "sent while it was captured", `"packets": 20`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not in %s", want, text)
		}
	}
	if len(p.spool(t)) != 0 {
		t.Errorf("%q", p.spool(t))
	}

	// It does not capture what it sends itself.
	server, err := url.Parse(p.s.URL)
	if err != nil {
		t.Fatal(err)
	}
	both := fmt.Sprintf("tcp port %s or (%s)", server.Port(), c.filter)
	path := filepath.Join(t.TempDir(), "both.pcapng")
	if o = p.run(t, "capture", "-i", "lo", "-f", both, "--stream", "--packets", "300", "--write", path); o.code != exitOK {
		t.Fatalf("%+v", o)
	}
	if udp, tcp := protocols(t, path); udp != 300 || tcp != 0 {
		t.Errorf("%d of UDP, %d of TCP", udp, tcp)
	}

	// Nothing came: there is no session.
	before := countSessions(t, p.s.Dir)
	o = p.run(t, "capture", "-i", "lo", "-f", "udp port 1", "--stream", "--duration", "500ms")
	if o.code != exitFailed || !strings.Contains(o.stderr, "nothing to upload") || countSessions(t, p.s.Dir) != before {
		t.Errorf("%+v", o)
	}
}

// protocols counts the packets of a file by what IPv4 carries in them.
func protocols(t *testing.T, path string) (udp, tcp int) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := pcapio.NewReader(f)
	var p pcapio.Packet
	for err == nil {
		if err = r.Next(&p); err == nil && len(p.Data) > 23 {
			switch p.Data[23] {
			case syscall.IPPROTO_UDP:
				udp++
			case syscall.IPPROTO_TCP:
				tcp++
			}
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return udp, tcp
}

// A server that goes away meanwhile costs nothing: the file is uploaded when it is
// back.
func TestABrokenStreamIsUploadedInTheEnd(t *testing.T) {
	t.Parallel()
	c := startChatter(t)
	p := at{startSandbox(t), filepath.Join(t.TempDir(), "state")}
	cmd, stdout, stderr := p.start(t, c.on("--stream")...)
	p.capturing(t)
	p.s.stop()
	eventually(t, "told", func() bool { return strings.Contains(stderr.String(), "broke off") })
	p.s = restart(t, p.s)
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	worksOn(t, stdout.String())
	if n := countSessions(t, p.s.Dir); n != 1 {
		t.Errorf("%d sessions", n)
	}
}

func TestStreamingGoesNotWithEverything(t *testing.T) {
	t.Parallel()
	keys := filepath.Join(t.TempDir(), "keys")
	for text, args := range map[string][]string{
		"--no-upload makes no session": {"--no-upload", "--write", "x.pcapng"},
		"needs pcapng":                 {"--write", filepath.Join(t.TempDir(), "x.pcap")},
		"before the keys are known":    {"--keylog", keys},
		"whether COMMAND fails":        {"--on-failure", "--", "true"},
	} {
		o := runProgram(t, nil, append([]string{"capture", "--stream"}, args...)...)
		if o.code != exitUsage || !strings.Contains(o.stderr, text) {
			t.Errorf("%q: %+v", args, o)
		}
	}
}

package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// sends is a shell command that makes packets which c captures.
func (c chatter) sends() string {
	return fmt.Sprintf("sleep 0.1; bash -c 'echo packet > /dev/udp/127.0.0.1/%d'", c.port)
}

func TestCaptureWhileACommandRuns(t *testing.T) {
	t.Parallel()
	c := startChatter(t)
	p := at{startSandbox(t), filepath.Join(t.TempDir(), "state")}
	kept := filepath.Join(t.TempDir(), "x.pcapng")
	for _, tc := range []struct {
		name     string
		flags    []string
		script   string
		code     int
		stdout   string
		sessions int // more than before
		stderr   string
	}{
		{"goes well", nil, "echo said; " + c.sends(), 0, "said\n", 1, "/captures/"},
		{"fails", nil, c.sends() + "; echo said; exit 42", 42, "said\n", 1, "/captures/"},
		{"is killed", nil, c.sends() + "; kill -9 $$", 128 + 9, "", 1, "/captures/"},
		{"goes well, which nobody wants to see", []string{"--on-failure"}, c.sends(), 0, "", 0, "nothing is uploaded"},
		{"fails, which is wanted", []string{"--on-failure"}, c.sends() + "; false", 1, "", 1, "/captures/"},
		{"goes well, the file stays", []string{"--on-failure", "--write", kept}, c.sends(), 0, "", 0, "nothing is uploaded"},
		{"quietly", []string{"--quiet"}, c.sends(), 0, "", 1, "http://"},
		{"goes on after the capture", []string{"--packets", "1"}, c.sends() + "; sleep 0.3; echo late; exit 7", 7, "late\n", 1, "/captures/"},
		{"makes no packet", []string{"-f", "ether host 02:00:00:00:00:99"}, "exit 3", 3, "", 0, "nothing to upload"},
		{"is answered after its end", []string{"-f", "udp dst port 9", "--linger", "1s"}, "(sleep 0.4; bash -c 'echo late > /dev/udp/127.0.0.1/9') >/dev/null 2>&1 &", 0, "", 1, "/captures/"},
		{"with a dead server", []string{"--url", "http://127.0.0.1:1", "--wait", "0s"}, c.sends(), 0, "", 0, "uploads it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := countSessions(t, p.s.Dir)
			args := append(append(c.on(), tc.flags...), "--", "sh", "-c", tc.script)
			o := p.run(t, args...)
			if o.code != tc.code || o.stdout != tc.stdout || !strings.Contains(o.stderr, tc.stderr) {
				t.Errorf("%+v", o)
			}
			if n := countSessions(t, p.s.Dir) - before; n != tc.sessions {
				t.Errorf("%d sessions", n)
			}
			if tc.name == "quietly" {
				worksOn(t, o.stderr)
			}
			if left := p.spool(t); len(left) > 0 && !strings.Contains(tc.stderr, "uploads it") {
				t.Errorf("left: %q", left)
			}
		})
	}
	opensWithoutWarning(t, kept)

	cmd := program(t.Context(), p.env(), append([]string{"--config", p.s.Config}, c.on("--", "cat")...)...)
	cmd.Stdin = strings.NewReader("heard")
	if out, err := cmd.Output(); err != nil || string(out) != "heard" {
		t.Errorf("standard input: %q, %v", out, err)
	}
}

func TestCaptureOfACommandThatIsNone(t *testing.T) {
	t.Parallel()
	startChatter(t)
	p := at{startSandbox(t), filepath.Join(t.TempDir(), "state")}
	dir := t.TempDir()
	noProgram := filepath.Join(dir, "text")
	writeFile(t, noProgram, []byte("\x7fELF but nothing else"), 0o700)
	for _, tc := range []struct {
		command string
		code    int
	}{
		{"no-such-command", exitNoCommand},
		{filepath.Join(dir, "nothing"), exitNoCommand},
		{"/etc/passwd", exitNotRunnable},
		{dir, exitNotRunnable},
		{noProgram, exitNotRunnable},
	} {
		written := filepath.Join(dir, "x.pcap")
		for _, flags := range [][]string{nil, {"--write", written}} {
			args := append(append([]string{"capture", "-i", "lo"}, flags...), "--", tc.command)
			if o := p.run(t, args...); o.code != tc.code || !strings.Contains(o.stderr, "run "+tc.command) {
				t.Errorf("%q: %+v", args, o)
			}
		}
		if _, err := os.Stat(written); err == nil || len(p.spool(t)) > 0 || countSessions(t, p.s.Dir) > 0 {
			t.Errorf("%s: left %q", tc.command, p.spool(t))
		}
	}
}

// Ctrl-C is the command's; the second one ends everything.
func TestInterruptedCommand(t *testing.T) {
	t.Parallel()
	c := startChatter(t)
	p := at{startSandbox(t), filepath.Join(t.TempDir(), "state")}
	for _, tc := range []struct {
		name    string
		script  string
		signals []os.Signal
		code    int
		stderr  string
	}{
		{"ends", "exec sleep 60", []os.Signal{os.Interrupt}, 128 + 2, "/captures/"},
		{"goes on", "trap '' INT; sleep 1; exit 5", []os.Signal{os.Interrupt}, 5, "/captures/"},
		{"is told to end", "exec sleep 60", []os.Signal{syscall.SIGTERM}, 128 + 15, "/captures/"},
		{"does not want to", "trap '' INT; exec sleep 60", []os.Signal{os.Interrupt, os.Interrupt}, exitInterrupted, "uploads it"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd, _, stderr := p.start(t, append(c.on(), "--", "sh", "-c", tc.script)...)
			p.capturing(t)
			for _, s := range tc.signals {
				if err := cmd.Process.Signal(s); err != nil {
					t.Fatal(err)
				}
				time.Sleep(100 * time.Millisecond) // two signals at once would be one
			}
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != tc.code || !strings.Contains(stderr.String(), tc.stderr) {
				t.Errorf("exit %d\n%s", code, stderr)
			}
			for _, path := range p.spool(t) { // the next one waits for its own
				_ = os.Remove(path)
			}
		})
	}
}

// The secrets of a command's TLS connections go along, and stand in the file.
func TestCaptureWithKeylog(t *testing.T) {
	t.Parallel()
	startChatter(t)
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip(err)
	}
	p := at{startSandbox(t), filepath.Join(t.TempDir(), "state")}
	port := serveTLS(t)
	dir := t.TempDir()
	path, keys := filepath.Join(dir, "x.pcapng"), filepath.Join(dir, "keys.log")
	script := fmt.Sprintf(`printf 'the quick brown fox\n' | %s s_client -quiet -connect 127.0.0.1:%d -keylogfile "$SSLKEYLOGFILE"`, openssl, port)
	o := p.run(t, "capture", "-i", "lo", "-f", fmt.Sprintf("tcp port %d", port), "--write", path, "--keylog", keys, "--json", "--", "sh", "-c", script)
	var got captureResult
	lines := strings.Split(strings.TrimSpace(o.stderr), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &got); err != nil || o.code != exitOK {
		t.Fatalf("%v: %+v", err, o)
	}
	if info, err := os.Stat(keys); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	sent, _ := filepath.Glob(filepath.Join(p.s.Dir, "captures", "*"+*got.SessionID+"*"))
	if !strings.Contains(strings.Join(sent, " "), "keylog") {
		t.Errorf("the sandbox has %q", sent)
	}
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		t.Skip(err)
	}
	// No key log is named: the file has what is needed.
	out, err := exec.CommandContext(t.Context(), tshark, "-r", path, "-d", fmt.Sprintf("tcp.port==%d,tls", port), "-q", "-z", "follow,tls,ascii,0").Output()
	if err != nil || !bytes.Contains(out, []byte("the quick brown fox")) {
		t.Errorf("%v\n%s", err, out)
	}

	// A command that writes none leaves none.
	empty := filepath.Join(dir, "none.log")
	o = p.run(t, "capture", "-i", "lo", "--keylog", empty, "--on-failure", "--", "true")
	if _, err := os.Stat(empty); err == nil || o.code != exitOK {
		t.Errorf("%+v", o)
	}
}

// serveTLS is a server that reads what clients say.
func serveTLS(t *testing.T) (port int) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 100)
			_, _ = conn.Read(b)
			_, _ = conn.Write([]byte("heard\n"))
			conn.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

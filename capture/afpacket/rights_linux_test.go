package afpacket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capagent/capture"
	"capagent/capture/afpacket"
	"capagent/internal/packet"
	"capagent/internal/traffic"
)

// play is what this program does when a test starts it as somebody else: it
// captures 100 numbered packets from the interfaces that it is given.
func play(names string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	o := capture.Options{Interfaces: strings.Split(names, ","), Buffer: 4 << 20, Retire: 10 * time.Millisecond, Own: &capture.Flows{}}
	if names != "any" {
		o.Fanout = 2
	}
	src, err := afpacket.Open(ctx, o)
	if err != nil {
		fmt.Println("permission", errors.Is(err, fs.ErrPermission), err)
		return 1
	}
	defer src.Close()
	fmt.Println("ready")
	batch := make([]packet.Packet, 64)
	for seen := 0; ; {
		n, err := src.Read(batch)
		for _, p := range batch[:n] {
			if numberOf(p.Data) >= 0 {
				seen++
			}
		}
		if seen == 100 {
			cancel()
		}
		if err != nil {
			fmt.Println(seen, errors.Is(err, io.EOF), src.Stats())
			return 0
		}
	}
}

// asNobody starts this program inside p with no rights but caps.
func asNobody(t *testing.T, p *traffic.Pair, names, caps string) (c *exec.Cmd, out *bytes.Buffer, ready func()) {
	t.Helper()
	if _, err := exec.LookPath("setpriv"); err != nil {
		t.Skip(err)
	}
	dir, err := os.MkdirTemp("", "afpacket")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "test")
	if err := errors.Join(os.WriteFile(exe, self, 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	c = p.Command(t.Context(), traffic.RX, "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs",
		"--inh-caps", caps, "--ambient-caps", caps, "--bounding-set", caps, exe)
	c.Env = append(os.Environ(), "AFPACKET_TEST_ROLE="+names)
	pipe, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	out = &bytes.Buffer{}
	ready = func() {
		b := make([]byte, 1024)
		n, err := pipe.Read(b)
		out.Write(b[:n])
		if err != nil && !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	}
	return c, out, ready
}

func TestCapNetRawIsEnough(t *testing.T) {
	p := newPair(t, traffic.Options{})
	for _, names := range []string{"vethrx", "any"} {
		c, out, ready := asNobody(t, p, names, "-all,+net_raw")
		ready()
		send(t, p, traffic.Load{Size: 100, Count: 100})
		ready()
		if err := c.Wait(); err != nil || !strings.HasPrefix(out.String(), "ready\n100 true") {
			t.Errorf("%s: %v: %s", names, err, out)
		}
	}
}

func TestWithoutRights(t *testing.T) {
	p := newPair(t, traffic.Options{})
	c, out, ready := asNobody(t, p, "vethrx", "-all")
	ready()
	err := c.Wait()
	if err == nil || !strings.HasPrefix(out.String(), "permission true") || !strings.Contains(out.String(), "sudo setcap cap_net_raw+ep") {
		t.Errorf("%v: %s", err, out)
	}
}

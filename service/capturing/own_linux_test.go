package capturing_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capagent/capture"
	"capagent/capture/live"
	"capagent/internal/httpx"
	"capagent/internal/pcapio"
	"capagent/rotate/pcapfile"
	"capagent/service/capturing"
)

// TestOwnConnectionsAreLeftOut captures on loopback while our client and another
// one talk to the same server: of ours nothing is in the file, of the other all.
func TestOwnConnectionsAreLeftOut(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	defer server.Close()
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var flows capture.Flows
	source, err := live.Open(ctx, capture.Options{Interfaces: []string{"lo"}, Filter: "tcp port " + u.Port(), Own: &flows})
	if errors.Is(err, os.ErrPermission) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = source.Close() }()
	path := filepath.Join(t.TempDir(), "x.pcap")
	f, err := pcapfile.Create(path, false)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := capturing.Into(f, capturing.Options{Source: source, Format: pcapio.Pcap}, func() []capture.Event { return nil })
		done <- err
	}()
	var ours []netip.AddrPort
	client, err := httpx.New(httpx.Options{Connecting: func(local, remote netip.AddrPort) func() {
		ours = append(ours, local)
		return flows.Connecting(local, remote)
	}})
	if err != nil {
		t.Fatal(err)
	}
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
	for range 5 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Close = true
		if _, err := client.Do(req); err != nil {
			t.Fatal(err)
		}
		if resp, err := http.Get(server.URL); err != nil { // somebody else's request
			t.Fatal(err)
		} else {
			_ = resp.Body.Close()
		}
		http.DefaultClient.CloseIdleConnections()
	}
	time.Sleep(100 * time.Millisecond) // the last packets of connections that are closed come in their own time
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	ports := map[uint16]int{}
	raw, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	reader, err := pcapio.NewReader(raw)
	for err == nil {
		var p pcapio.Packet
		if err = reader.Next(&p); err == nil && len(p.Data) >= 38 {
			ports[uint16(p.Data[34])<<8|uint16(p.Data[35])]++
			ports[uint16(p.Data[36])<<8|uint16(p.Data[37])]++
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	for _, own := range ours {
		if n := ports[own.Port()]; n > 0 {
			t.Errorf("%d packets of our own connection from %s", n, own)
		}
	}
	if others := len(ports) - 1; len(ours) != 5 || others != 5 {
		t.Errorf("%d connections were ours; of %d others there are packets, expected 5 and 5", len(ours), others)
	}
	if _, err := exec.LookPath("tshark"); err == nil {
		out, err := exec.CommandContext(t.Context(), "tshark", "-r", path, "-Y", "tcp.flags.syn == 1 && tcp.flags.ack == 0").Output()
		if n := strings.Count(string(out), "\n"); err != nil || n != 5 {
			t.Errorf("tshark sees %d connections begin: %v\n%s", n, err, out)
		}
	}
}

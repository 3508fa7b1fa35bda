//go:build linux

package main

import (
	"bytes"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What goes over the wire, seen by tcpdump and dissected by tshark, is what
// contracts/cloudshark.md 0 and 1.2 document.
func TestTheWireShowsTheDocumentedRequests(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"tcpdump", "tshark"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s must be installed in CI", tool)
			}
			t.Skipf("%s is not installed", tool)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("capturing on lo needs root")
	}
	s := startSandbox(t)
	dir := t.TempDir()
	wire := filepath.Join(dir, "wire.pcap")
	stop := sniff(t, wire, s.URL)
	file, keylog := filepath.Join(dir, "a.pcap"), filepath.Join(dir, "keys.log")
	other := filepath.Join(dir, "b.pcap")
	for name, content := range map[string][]byte{
		file: smallCapture(1), other: smallCapture(2),
		keylog: []byte("CLIENT_RANDOM " + strings.Repeat("00", 32) + " " + strings.Repeat("11", 48) + "\n"),
	} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if o := runProgram(t, nil, "--config", s.Config, "upload", "--tag", "one tag", "--tag", "zwei", "--comment", "a & b", file); o.code != 0 {
		t.Fatal(o.stderr)
	}
	if o := runProgram(t, nil, "--config", s.Config, "upload", "--keylog", keylog, other); o.code != 0 {
		t.Fatal(o.stderr)
	}
	stop()

	token, err := os.ReadFile(s.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	rows := dissect(t, wire, s.URL)
	if len(rows) != 2 {
		t.Fatalf("%d requests: %q", len(rows), rows)
	}
	path := "/api/v1/" + strings.TrimSpace(string(token)) + "/upload"
	for i, method := range []string{"PUT", "POST"} {
		u, err := url.ParseRequestURI(rows[i].uri)
		if err != nil || u.Path != path || rows[i].method != method {
			t.Errorf("request %d: %s %s (%v)", i, rows[i].method, rows[i].uri, err)
		}
		if !strings.HasPrefix(rows[i].agent, "capagent/") || rows[i].referer != "" {
			t.Errorf("request %d: User-Agent %q, Referer %q", i, rows[i].agent, rows[i].referer)
		}
	}
	u, _ := url.Parse(rows[0].uri) // parsed above
	q := u.Query()
	if tags := q.Get("additional_tags"); tags != "one tag,zwei" {
		t.Errorf("additional_tags %q", tags)
	}
	if !strings.HasPrefix(q.Get("comments"), "a & b\n") || !strings.Contains(q.Get("comments"), "a.pcap") || q.Get("filename") == "" {
		t.Errorf("query %q", q)
	}
	if !strings.HasPrefix(rows[1].contentType, "multipart/form-data") || !strings.Contains(rows[1].parts, `name="file"`) || !strings.Contains(rows[1].parts, `name="keylog"`) {
		t.Errorf("POST: %s, parts %s", rows[1].contentType, rows[1].parts)
	}
}

// sniff captures what goes to and from the server until stop is called.
func sniff(t *testing.T, file, server string) (stop func()) {
	t.Helper()
	port := server[strings.LastIndex(server, ":")+1:]
	cmd := exec.CommandContext(t.Context(), "tcpdump", "-i", "lo", "-U", "-Z", "root", "-w", file, "tcp port "+port)
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said []byte
	for buf := make([]byte, 256); !bytes.Contains(said, []byte("listening on")); {
		n, err := pipe.Read(buf)
		if said = append(said, buf[:n]...); err != nil {
			t.Fatalf("tcpdump: %s", said)
		}
	}
	return func() {
		// tcpdump -U writes each packet as it comes; it ends cleanly on SIGINT.
		eventually(t, "the last packet in the capture", func() bool {
			out, err := exec.CommandContext(t.Context(), "tshark", "-r", file, "-Y", "tcp.flags.fin==1 || tcp.flags.reset==1", "-T", "fields", "-e", "tcp.stream").Output()
			return err == nil && len(slices.Compact(strings.Fields(string(out)))) >= 2
		})
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait() // its exit code says nothing
	}
}

type request struct{ method, uri, agent, referer, contentType, parts string }

func dissect(t *testing.T, file, server string) []request {
	t.Helper()
	port := server[strings.LastIndex(server, ":")+1:]
	out, err := exec.CommandContext(t.Context(), "tshark", "-r", file, "-d", "tcp.port=="+port+",http", "-Y", "http.request", "-T", "fields", "-E", "separator=|",
		"-e", "http.request.method", "-e", "http.request.uri", "-e", "http.user_agent", "-e", "http.referer", "-e", "http.content_type", "-e", "mime_multipart.header.content-disposition").Output()
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	var rows []request
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimRight(line, "\n"), "|")
		rows = append(rows, request{f[0], f[1], f[2], f[3], f[4], f[5]})
	}
	return rows
}

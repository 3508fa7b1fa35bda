package upload

import (
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"capagent/upload/cloudsharktest"
)

// TestTheRequestsOnTheWire records both directions of uploads and has tshark say
// what they are (contracts/cloudshark.md 0, 1.2).
func TestTheRequestsOnTheWire(t *testing.T) {
	for _, tool := range []string{"tshark", "text2pcap"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	for _, method := range []string{MethodPut, MethodPost} {
		r := newRig(t, func(_ *cloudsharktest.Options, c *Config) { c.Method = method })
		sent := tap(t, strings.TrimPrefix(r.URL, "http://"))
		config := r.step.opts.Config
		config.URL = "http://" + sent.address
		r.restart(t, config)
		c := capture(t, pcap(20, 60))
		c.Tags = []string{"a", "b c"}
		if _, err := r.step.Run(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		r.step.opts.Client.Close()
		fields := dissect(t, sent.bytes())
		expect := map[string]string{
			"http.request.method":        strings.ToUpper(method),
			"http.request.version":       "HTTP/1.1",
			"http.user_agent":            "capagent/1.2.3",
			"http.host":                  sent.address,
			"http.content_length_header": "",
			"http.request.uri":           "/api/v1/" + canary + "/upload",
		}
		if method == MethodPut {
			expect["http.content_length_header"] = "1544" // 24 + 20 * (16 + 60)
			expect["http.request.uri.query"] = "additional_tags=a%2Cb+c&comments="
		}
		for key, want := range expect {
			if got := fields[key]; !strings.HasPrefix(got, want) {
				t.Errorf("%s: %s is %q, want %q", method, key, got, want)
			}
		}
		if fields["http.referer"] != "" {
			t.Error("there is a Referer")
		}
		if parts := fields["mime_multipart.header.content-disposition"]; method == MethodPost &&
			(!strings.Contains(parts, `name="file";filename="sensor1-import-`) || !strings.Contains(parts, `name="additional_tags"`)) {
			t.Errorf("parts %q", parts)
		}
	}
}

// recorder is a TCP relay that keeps what the client sends.
type recorder struct {
	address string
	mu      sync.Mutex
	data    bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.data.Write(p)
}

func (r *recorder) bytes() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return bytes.Clone(r.data.Bytes())
}

func tap(t *testing.T, target string) *recorder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{address: l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.DialTimeout("tcp", target, time.Second)
			if err != nil {
				_ = in.Close()
				continue
			}
			wg.Go(func() { _, _ = io.Copy(io.MultiWriter(out, r), in); _ = out.Close() })
			wg.Go(func() { _, _ = io.Copy(in, out); _ = in.Close() })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return r
}

// dissect puts the bytes into TCP segments and returns tshark's fields of HTTP.
func dissect(t *testing.T, data []byte) map[string]string {
	t.Helper()
	var dump bytes.Buffer
	for at := 0; at < len(data); at += 1400 {
		for i, b := range data[at:min(at+1400, len(data))] {
			if i%16 == 0 {
				dump.WriteString("\n" + hex4(i))
			}
			dump.WriteString(" " + hex4(int(b))[4:])
		}
		dump.WriteString("\n")
	}
	path := filepath.Join(t.TempDir(), "wire.pcap")
	convert := exec.Command("text2pcap", "-q", "-T", "40000,80", "-", path)
	convert.Stdin = &dump
	if out, err := convert.CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	args := []string{"-r", path, "-Y", "http.request", "-T", "fields", "-E", "separator=/t"}
	for _, name := range wireFields {
		args = append(args, "-e", name)
	}
	out, err := exec.Command("tshark", args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	values := strings.Split(strings.TrimSuffix(string(out), "\n"), "\t")
	if len(values) != len(wireFields) {
		t.Fatalf("tshark sees %q", out)
	}
	fields := map[string]string{}
	for i, name := range wireFields {
		fields[name] = values[i]
	}
	return fields
}

var wireFields = []string{
	"http.request.method", "http.request.version", "http.user_agent", "http.host", "http.content_length_header",
	"http.referer", "http.request.uri", "http.request.uri.query", "mime_multipart.header.content-disposition",
}

func hex4(n int) string {
	const digits = "0123456789abcdef"
	var out [6]byte
	for i := range out {
		out[5-i] = digits[n&15]
		n >>= 4
	}
	return string(out[:])
}

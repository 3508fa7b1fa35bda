package upload

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"

	"capagent/internal/ledger"
	"capagent/internal/secret"
	"capagent/upload/cloudsharktest"
)

// sink takes everything and answers as CloudShark does.
func sink(t testing.TB) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		buf := make([]byte, 1<<20)
		for {
			if _, err := r.Body.Read(buf); err != nil {
				break
			}
		}
		_, _ = io.WriteString(w, `{"filename":"x","id":"f27d1494400c"}`)
	}))
	t.Cleanup(s.Close)
	return s
}

// large is a capture record of a sparse file; only its size and hashes matter here.
func large(t testing.TB, size int64) ledger.Capture {
	t.Helper()
	path := filepath.Join(t.TempDir(), "large.pcap")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	h256, h1 := sha256.New(), sha1.New()
	if _, err := io.Copy(io.MultiWriter(h256, h1), f); err != nil {
		t.Fatal(err)
	}
	return ledger.Capture{ID: captures.Add(1), Source: "import", Path: path, Name: "large.pcap", Inspection: ledger.Inspection{
		Format: "pcap", Size: size, PayloadSize: size, Packets: 1,
		SHA256: hex.EncodeToString(h256.Sum(nil)), SHA1: hex.EncodeToString(h1.Sum(nil)),
	}}
}

func stepTo(t testing.TB, url, method string) *Step {
	t.Helper()
	c := DefaultConfig()
	c.URL, c.Token, c.Method = url, secret.New(canary), method
	client, err := NewClient(c, "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return NewStep(StepOptions{Config: c, Client: client, Ledger: &memory{parts: map[int64][]ledger.Part{}}, Host: "h"})
}

func TestMemoryIsFlat(t *testing.T) {
	const most = 8 << 20
	for method, size := range map[string]int64{MethodPut: 1 << 30, MethodPost: 128 << 20} {
		c := large(t, size)
		step := stepTo(t, sink(t).URL, method)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := step.Run(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > most {
			t.Errorf("%s of %d bytes allocated %d, at most %d are allowed", method, size, n, most)
		}
	}
}

// BenchmarkEmulator compares one upload with curl's, to the emulator, which
// reads and hashes what it gets. This is the figure to look at: -benchtime 3x.
func BenchmarkEmulator(b *testing.B) {
	data := pcap(180_000, 1480)
	path := filepath.Join(b.TempDir(), "bench.pcap")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		b.Fatal(err)
	}
	c := captureOf(b, path)
	server := cloudsharktest.Start(b, cloudsharktest.Options{Tokens: []cloudsharktest.Token{{Value: canary}}})
	b.Run("curl", func(b *testing.B) {
		b.SetBytes(c.Size)
		for b.Loop() {
			curlTo(b, path, server.URL+"/api/v1/"+canary+"/upload?filename=curl.pcap")
		}
	})
	b.Run("step", func(b *testing.B) {
		step := stepTo(b, server.URL, MethodPut)
		b.SetBytes(c.Size)
		for b.Loop() {
			c.ID = captures.Add(1)
			if _, err := step.Run(b.Context(), c); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func curlTo(b *testing.B, path, url string) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		b.Skip(err)
	}
	out, err := exec.Command(curl, "-sSf", "-T", path, url).CombinedOutput()
	if err != nil {
		b.Fatal(err, string(out))
	}
}

// BenchmarkSink does the same to a server that throws everything away, so that
// what sending costs is all there is; beside it the hash, and a bare copy of the
// file into a TCP connection.
func BenchmarkSink(b *testing.B) {
	const size = 1 << 30
	c := large(b, size)
	server := sink(b)
	b.Run("curl", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			curlTo(b, c.Path, server.URL+"/")
		}
	})
	for _, method := range []string{MethodPut, MethodPost} {
		b.Run("step by "+method, func(b *testing.B) {
			step := stepTo(b, server.URL, method)
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				c.ID = captures.Add(1)
				if _, err := step.Run(b.Context(), c); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("hash alone", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			f, err := os.Open(c.Path)
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.CopyBuffer(struct{ io.Writer }{sha256.New()}, struct{ io.Reader }{f}, make([]byte, 256<<10))
			_ = f.Close()
		}
	})
	b.Run("copy", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			plainCopy(b, c.Path, server.Listener.Addr().String(), size)
		}
	})
}

func plainCopy(b *testing.B, path, address string, size int64) {
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	conn, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %s\r\n\r\n", strconv.FormatInt(size, 10))
	if _, err := io.CopyBuffer(struct{ io.Writer }{conn}, struct{ io.Reader }{f}, make([]byte, 256<<10)); err != nil {
		b.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 100)); n == 0 {
		b.Fatal(err)
	}
}

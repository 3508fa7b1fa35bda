package cloudsharktest

import (
	"bytes"
	"io"
	"net/http"
	"testing"
)

// The emulator is the other end of the agent's benchmarks and must not be what
// limits them.
func BenchmarkUpload(b *testing.B) {
	data := pcap(44_000, 1500)
	for _, verb := range []string{"PUT", "POST"} {
		b.Run(verb, func(b *testing.B) {
			s := Start(b, Options{})
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				var body io.Reader = bytes.NewReader(data)
				kind := func(*http.Request) {}
				if verb == "POST" {
					body, kind = form(field{"file", "x.pcap", string(data)})
				}
				req, _ := http.NewRequest(verb, s.URL+"/api/v1/"+s.Token+"/upload", body)
				req.Header.Set("User-Agent", agent)
				kind(req)
				resp, err := http.DefaultClient.Do(req)
				if err != nil || resp.StatusCode != 200 {
					b.Fatal(resp, err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	}
}

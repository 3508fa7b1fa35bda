package http_test

import (
	"bytes"
	"fmt"
	"testing"

	"capagent/enrich/http"
	"capagent/enrich/indicator"
	"capagent/enrich/stream"
)

func BenchmarkBody(b *testing.B) {
	segment := bytes.Repeat([]byte("0123456789abcdef"), 1440/16)
	const segments = 100 << 20 / 1440
	head := fmt.Appendf(nil, "%sContent-Length: %d\r\n\r\n", ok, segments*len(segment))
	b.SetBytes(segments * int64(len(segment)))
	b.ReportAllocs()
	for b.Loop() {
		p := http.New(indicator.New(), stream.Conn{})
		p.Data(stream.Server, head, indicator.At{})
		for range segments {
			p.Data(stream.Server, segment, indicator.At{})
		}
		p.Close(indicator.At{})
	}
}

func BenchmarkGzipBody(b *testing.B) {
	var text bytes.Buffer
	for i := range 1 << 20 {
		fmt.Fprintf(&text, "line %d of %d\n", i, i*i)
	}
	body := []byte(coded(b, "gzip", text.String()))
	head := fmt.Appendf(nil, "%sContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n", ok, len(body))
	b.SetBytes(int64(text.Len()))
	b.ReportAllocs()
	for b.Loop() {
		p := http.New(indicator.New(), stream.Conn{})
		p.Data(stream.Server, head, indicator.At{})
		for rest := body; len(rest) > 0; {
			n := min(1440, len(rest))
			p.Data(stream.Server, rest[:n], indicator.At{})
			rest = rest[n:]
		}
		p.Close(indicator.At{})
	}
}

// BenchmarkRequests is 100,000 requests and their responses on one connection.
func BenchmarkRequests(b *testing.B) {
	request := []byte("GET /path/to/something?x=y HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n" +
		"Accept: text/html,application/xhtml+xml\r\nAccept-Language: en\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nCookie: a=b\r\n\r\n")
	response := []byte("HTTP/1.1 304 Not Modified\r\nDate: Sun, 22 Nov 2026 09:00:00 GMT\r\nServer: nginx\r\nETag: \"5ed644c7-19d8\"\r\n\r\n")
	const requests = 100_000
	b.SetBytes(requests * int64(len(request)+len(response)))
	b.ReportAllocs()
	for b.Loop() {
		p := http.New(indicator.New(), stream.Conn{})
		for range requests {
			p.Data(stream.Client, request, indicator.At{})
			p.Data(stream.Server, response, indicator.At{})
		}
		p.Close(indicator.At{})
	}
}

func BenchmarkRecognise(b *testing.B) {
	for name, data := range map[string][]byte{
		"tls":     []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
		"smtp":    []byte("MAIL FROM:<a@b.example> SIZE=1000\r\n"),
		"request": []byte("GET /path/to/something?x=y HTTP/1.1\r\nHost: www.example.com\r\n"),
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				http.Recognise(stream.Client, data)
			}
		})
	}
}

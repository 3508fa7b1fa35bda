package http_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capagent/enrich/http"
	"capagent/enrich/indicator"
	"capagent/enrich/stream"
	"capagent/internal/pcapio"
)

// segments is a capture file of connections of which each event is a frame.
func segments(t *testing.T, connections [][]event) string {
	t.Helper()
	var b bytes.Buffer
	w, err := pcapio.NewPcapWriter(&b, pcapio.PcapOptions{LinkType: 101, SnapLen: 1 << 18})
	if err != nil {
		t.Fatal(err)
	}
	frame := int64(0)
	for n, events := range connections {
		seq := [2]uint32{1000, 5000}
		ports := [2]uint16{uint16(30000 + n), 80}
		for _, e := range events {
			frame++
			p := make([]byte, 40, 40+len(e.data))
			p[0], p[8], p[9] = 0x45, 64, 6
			binary.BigEndian.PutUint16(p[2:], uint16(40+len(e.data)))
			copy(p[12:], []byte{192, 0, 2, 1 + byte(e.side), 192, 0, 2, 2 - byte(e.side)})
			binary.BigEndian.PutUint16(p[20:], ports[e.side])
			binary.BigEndian.PutUint16(p[22:], ports[e.side.Other()])
			binary.BigEndian.PutUint32(p[24:], seq[e.side])
			binary.BigEndian.PutUint32(p[28:], seq[e.side.Other()])
			p[32], p[33] = 5<<4, 0x18
			if e.end {
				p[33] = 0x11
				seq[e.side]++
			}
			binary.BigEndian.PutUint16(p[34:], 0xffff)
			seq[e.side] += uint32(len(e.data))
			p = append(p, e.data...)
			if err := w.WritePacket(frame*1e9, p, uint32(len(p))); err != nil {
				t.Fatal(err)
			}
		}
	}
	name := filepath.Join(t.TempDir(), "http.pcap")
	if err := os.WriteFile(name, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// tshark lists what tshark sees in a capture, as list does.
func tshark(t *testing.T, capture string) []string {
	t.Helper()
	exe, err := exec.LookPath("tshark")
	if err != nil {
		t.Skip("tshark is not installed")
	}
	objects := t.TempDir()
	out, err := exec.Command(
		exe, "-n", "-r", capture, "--export-objects", "http,"+objects, "-T", "fields", "-E", "aggregator=\x1f",
		"-e", "frame.number", "-e", "http.host", "-e", "http.request.full_uri", "-e", "http.user_agent",
		"-e", "http2.headers.authority", "-e", "http2.request.full_uri", "-e", "http2.headers.user_agent",
	).Output()
	if err != nil {
		t.Skip(err)
	}
	set := indicator.New()
	for line := range strings.Lines(string(out)) {
		column := strings.Split(strings.TrimRight(line, "\n"), "\t")
		frame, _ := strconv.ParseInt(column[0], 10, 64)
		at := indicator.At{Frame: frame}
		for i, cell := range column[1:] {
			for v := range strings.SplitSeq(cell, "\x1f") {
				switch i % 3 {
				case 0:
					host, _, _ := strings.Cut(v, ":")
					set.Host([]byte(host), 0, at)
				case 1:
					set.URL([]byte(v), 0, at)
				default:
					set.UserAgent([]byte(v), 0, at)
				}
			}
		}
	}
	all := list(set)
	files, err := os.ReadDir(objects)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(objects, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		// The frame with HTTP/2's preface is a file for tshark.
		if len(content) > 0 && !bytes.HasPrefix(content, []byte(magic)) {
			all = append(all, fmt.Sprintf("file %x", sha256.Sum256(content)))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// oracle is connections in which we and tshark see the same.
func oracle(t *testing.T) [][]event {
	const agent = "Host: www.example.com\r\nUser-Agent: Mozilla/5.0 (X11)\r\n"
	content := strings.Repeat("what is in it ", 999)
	var all [][]event
	add := func(e ...event) { all = append(all, append(e, end(stream.Client), end(stream.Server))) }
	get := func(path string) event { return client("GET " + path + " HTTP/1.1\r\n" + agent + "\r\n") }
	add(get("/a?b=c"), server(ok+"Content-Length: 10\r\n\r\n01234"), server("56789"))
	add(client("GET /split HTTP/1.1\r\nHo"), client("st: split.example:80\r\n\r\n"), server("HTTP/1.1 204 No Content\r\n\r\n"))
	add(
		client("POST /large HTTP/1.1\r\n"+agent+"Expect: 100-continue\r\nContent-Length: 2800\r\n\r\n"),
		server("HTTP/1.1 100 Continue\r\n\r\n"), client(content[:1400]), client(content[1400:2800]), server(ok+"Content-Length: 2\r\n\r\nok"),
	)
	add(
		client("POST /chunks HTTP/1.1\r\n"+agent+"Transfer-Encoding: chunked\r\n\r\n5\r\nsmall\r\n"), client("0;x=y\r\n"), client("\r\n"),
		server(ok+"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"), server("2\r\nde\r\n0\r\nTrailer: x\r\n"), server("\r\n"),
	)
	add(
		client("GET /1 HTTP/1.1\r\n"+agent+"\r\nGET /2 HTTP/1.1\r\n"+agent+"\r\nGET /3 HT"), client("TP/1.1\r\n"+agent+"\r\n"),
		server(ok+"Content-Length: 3\r\n\r\none"+ok+"Content-Length: 3\r\n\r\ntwo"+ok), server("Content-Length: 5\r\n\r\nthree"),
	)
	add(get("/until"), server(ok+"Connection: close\r\n\r\nuntil"), server(" the end"))
	add(client("HEAD /head HTTP/1.1\r\n"+agent+"\r\n"), server(ok+"Content-Length: 99\r\n\r\n"), get("/next"), server(ok+"Content-Length: 4\r\n\r\nnext"))
	add(client("GET http://proxied.example/x HTTP/1.1\r\nHost: proxied.example\r\n\r\n"), server(ok+"Content-Length: 0\r\n\r\n"))
	add(client("PROPFIND /dav HTTP/1.1\r\n"+agent+"Content-Length: 5\r\n\r\n<xml>"), server("HTTP/1.1 207 Multi-Status\r\nContent-Length: 6\r\n\r\n<xml/>"))
	add(get("/range"), server("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-3/9\r\nContent-Length: 4\r\n\r\npart"))
	for i, c := range [][2]string{{"gzip", "gzip"}, {"gzip", "x-gzip"}, {"zlib", "deflate"}, {"raw", "deflate"}, {"br", "br"}} {
		whole := fmt.Sprint(i, c, content)
		body := coded(t, c[0], whole)
		add(get("/"+c[0]), server(fmt.Sprintf("%sContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s", ok, c[1], len(body), body[:20])), server(body[20:]))
		body = coded(t, c[0], "chunked "+whole)
		add(get("/c"+c[0]), server(fmt.Sprintf("%sContent-Encoding: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s", ok, c[1], len(body), body[:20])), server(body[20:]+"\r\n0\r\n\r\n"))
	}
	cut := coded(t, "gzip", "cut "+content)
	cut = cut[:len(cut)-12]
	add(get("/cut"), server(fmt.Sprintf("%sContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", ok, len(cut), cut)))
	c, s := newFrames(), newFrames()
	_ = c.WriteSettings()
	c.headers(1, true, ":method=GET", ":scheme=http", ":authority=two.example", ":path=/h2", "user-agent=two/2")
	_ = s.WriteSettings()
	add(client(magic+c.take()), server(s.headers(1, true, ":status=204").take()))
	return all
}

func TestTsharkSeesTheSame(t *testing.T) {
	connections := oracle(t)
	want := tshark(t, segments(t, connections))

	set := indicator.New()
	frame := int64(0)
	for _, events := range connections {
		p := http.New(set, stream.Conn{})
		for _, e := range events {
			frame++
			at := indicator.At{Frame: frame}
			if e.end {
				p.End(e.side, at)
			} else {
				p.Data(e.side, []byte(e.data), at)
			}
		}
		p.Close(indicator.At{})
	}
	var got []string
	for _, line := range list(set) {
		if strings.HasPrefix(line, "file ") {
			line, _, _ = strings.Cut(line, " @")
		}
		got = append(got, line)
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(want) < 40 {
		t.Errorf("tshark saw %d only", len(want))
	}
}

package http_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capagent/enrich/http"
	"capagent/enrich/indicator"
	"capagent/enrich/stream"
)

// counts is every indicator with its roles and how often it was seen, but no
// frame, and every limit.
func counts(set *indicator.Set) map[string]int64 {
	all := map[string]int64{}
	for _, i := range set.List() {
		all[fmt.Sprintf("%s %s %v", i.Type, i.Value, i.Role.Names())] = i.Count
	}
	for l, n := range set.Limits() {
		all["limit "+string(l)] = n
	}
	return all
}

// feed runs both sides in pieces of n bytes, by turns of whole sides: the order
// of the sides is the same however they are cut. It says whether all bytes were
// messages: behind others, it matters where segments begin.
func feed(t *testing.T, sides [2][]byte, order byte, n int) (map[string]int64, bool) {
	set := indicator.New()
	p := http.New(set, stream.Conn{})
	verdict := stream.More
	for i := range 2 {
		side := stream.Side(order&1) ^ stream.Side(i)
		for b := sides[side]; len(b) > 0 && verdict == stream.More; {
			k := min(n, len(b))
			verdict = p.Data(side, b[:k:k], indicator.At{})
			b = b[k:]
		}
		p.End(side, indicator.At{})
	}
	p.Close(indicator.At{})
	if set.Used() != 0 {
		t.Fatalf("%d bytes are not given back", set.Used())
	}
	return counts(set), !http.Skipped(p)
}

func sameHoweverCut(t *testing.T, sides [2][]byte, order byte, n uint16) {
	whole, all := feed(t, sides, order, 1<<20)
	for _, size := range []int{1, 2, 1 + int(n)} {
		if len(sides[0])+len(sides[1]) > 4<<10 && size < 3 {
			continue
		}
		got, gotAll := feed(t, sides, order, size)
		if !all || !gotAll {
			continue
		}
		if diff := cmp.Diff(whole, got); diff != "" {
			t.Fatalf("pieces of %d: %s", size, diff)
		}
	}
}

func FuzzHTTP1(f *testing.F) {
	request := "POST /u?v HTTP/1.1\r\nHost: a.example:80\r\nUser-Agent: x\r\n y\r\nContent-Length: 6\r\n\r\nabcdefGET http://b/ HTTP/1.0\n\n"
	chunks := "HTTP/1.1 100 Continue\r\n\r\n" + ok + "Transfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nA: b\r\n\r\n" + ok + "\r\nrest"
	form := "POST / HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 83\r\n\r\n" +
		"--b\r\nContent-Disposition: form-data; filename=x\r\n\r\nMZ\r\n--b\r\nContent-Disposition: x\r\n\r\n\r\n--b--"
	f.Add([]byte(request), []byte(chunks), byte(0), uint16(3))
	f.Add([]byte(form), []byte("HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\nx"), byte(0), uint16(7))
	f.Add([]byte("CONNECT a:1 HTTP/1.1\r\n\r\n"), []byte("HTTP/1.1 200 OK\r\n\r\n"), byte(0), uint16(30))
	f.Add([]byte("HEAD / HTTP/1.1\r\n\r\n"), []byte(ok+"Content-Length: 5\r\n\r\n"), byte(1), uint16(1))
	for _, c := range [][2]string{{"gzip", "gzip"}, {"zlib", "deflate"}, {"raw", "deflate"}, {"br", "br"}, {"zstd", "zstd"}} {
		body := coded(f, c[0], "what is in it "+strings.Repeat("a", 99))
		f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), fmt.Appendf(nil, "%sContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s", ok, c[1], len(body), body), byte(0), uint16(5))
	}
	f.Fuzz(func(t *testing.T, c, s []byte, order byte, n uint16) { sameHoweverCut(t, [2][]byte{c, s}, order, n) })
}

func FuzzHTTP2(f *testing.F) {
	var sides [2][]byte
	for _, e := range conversation(f) {
		sides[e.side] = append(sides[e.side], e.data...)
	}
	f.Add(sides[0][len(magic):], sides[1], byte(0), uint16(9))
	f.Add(sides[0][len(magic):], sides[1], byte(1), uint16(40))
	f.Fuzz(func(t *testing.T, c, s []byte, order byte, n uint16) {
		sameHoweverCut(t, [2][]byte{append([]byte(magic), c...), s}, order, n)
	})
}

func FuzzDatagram(f *testing.F) {
	f.Add([]byte("M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		set := indicator.New()
		http.Datagram(set, b, indicator.At{})
		http.Recognise(stream.Client, b)
		if set.Used() != 0 {
			t.Fatal("memory is not given back")
		}
	})
}

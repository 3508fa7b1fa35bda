package http_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"capagent/enrich/http"
	"capagent/enrich/indicator"
	"capagent/enrich/stream"
)

// event is what happens in one frame.
type event struct {
	side stream.Side
	data string
	gap  int64
	end  bool
}

func client(data string) event { return event{side: stream.Client, data: data} }
func server(data string) event { return event{side: stream.Server, data: data} }
func end(s stream.Side) event  { return event{side: s, end: true} }
func gap(s stream.Side, n int64) event {
	return event{side: s, gap: n}
}

const unknown = -1 // how many bytes a gap has

// play runs a connection of which each event is a frame.
func play(t testing.TB, events ...event) (*indicator.Set, stream.Verdict) {
	t.Helper()
	set := indicator.New()
	p := http.New(set, stream.Conn{})
	verdict := stream.More
	var at indicator.At
	for i, e := range events {
		at = indicator.At{Frame: int64(i + 1), Time: int64(i + 1)}
		switch {
		case e.end:
			p.End(e.side, at)
		case e.gap != 0:
			verdict = p.Gap(e.side, max(0, e.gap), at)
		default:
			verdict = p.Data(e.side, []byte(e.data), at)
		}
		if verdict != stream.More {
			break
		}
	}
	p.Close(at)
	if n := set.Used(); n != 0 {
		t.Errorf("%d bytes are not given back", n)
	}
	return set, verdict
}

// list is "type value @first frame xcount" of each, files by SHA-256 only.
func list(set *indicator.Set) []string {
	var all []string
	for _, i := range set.List() {
		if i.Type == indicator.File && len(i.Value) != 64 {
			continue
		}
		all = append(all, fmt.Sprintf("%s %s @%d x%d", i.Type, i.Value, i.First.Frame, i.Count))
	}
	for l, n := range set.Limits() {
		all = append(all, fmt.Sprintf("limit %s %d", l, n))
	}
	return all
}

func file(content string, frame int) string {
	return fmt.Sprintf("file %x @%d x1", sha256.Sum256([]byte(content)), frame)
}

func check(t *testing.T, set *indicator.Set, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, list(set)); diff != "" {
		t.Error(diff)
	}
}

func TestARequestIsNamedByItsTargetAndHost(t *testing.T) {
	for _, c := range []struct {
		head string
		want []string
	}{
		{"GET /a?b HTTP/1.1\r\nHost: Example.COM:8080\r\nUser-Agent:  x/1 \r\n\r\n", []string{
			"host example.com @1 x1", "url http://example.com:8080/a?b @1 x1", "user_agent x/1 @1 x1",
		}},
		{"GET /a HTTP/1.0\nhost:example.com\n\n", []string{"host example.com @1 x1", "url http://example.com/a @1 x1"}},
		{"\r\nGET /a HTTP/1.1\r\nHost: 192.0.2.1:80\r\n\r\n", []string{"address 192.0.2.1 @1 x1", "url http://192.0.2.1:80/a @1 x1"}},
		{"GET /a HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n", []string{"address 2001:db8::1 @1 x1", "url http://[2001:db8::1]:80/a @1 x1"}},
		{"GET http://user@b.example:81/x HTTP/1.1\r\nHost: a.example\r\n\r\n", []string{
			"host a.example @1 x1", "host b.example @1 x1", "url http://user@b.example:81/x @1 x1",
		}},
		{"GET https://a.example/x HTTP/1.1\r\nHost: A.example\r\n\r\n", []string{"host a.example @1 x1", "url https://a.example/x @1 x1"}},
		{"OPTIONS\r\nHost: a\r\n\r\n", nil},
		{"GET /\r\nHost: a\r\n\r\nGET HTTP/1.1\r\nHost: b\r\n\r\nGET /c HTTP/1.\r\nHost: c\r\n\r\n", nil},
		{"GET / HTTP/1.1\r\n\r\nGET /a\r\nHost: a\r\n\r\nGET HTTP/1.1\r\nHost: b\r\n\r\nPUT\r\nHost: c\r\n\r\n", []string{
			"host a @1 x1", "host b @1 x1", "host c @1 x1", "url http://a/a @1 x1",
		}},
		{"CONNECT / HTTP/1.1\r\n\r\n", nil},
		{"GET / HTTP/1.1\r\nHost: a\x00b\r\n\r\n", []string{"host a @1 x1", "url http://a/ @1 x1"}},
		{"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n", []string{"host a.example @1 x1"}},
		{"GET /a HTTP/1.1\r\n\r\n", nil},
		{"GET /a b HTTP/1.1\r\nHost: a.example\r\n\r\n", []string{"host a.example @1 x1", "url http://a.example/a @1 x1"}},
		{"GET  /a HTTP/1.1\r\nHost: a.example\r\n\r\n", []string{"host a.example @1 x1", "url http://a.example/a @1 x1"}},
		{"RPC_IN_DATA /rpc HTTP/1.1\r\nHost: a\r\n\r\n", []string{"host a @1 x1", "url http://a/rpc @1 x1"}},
		{"GET / HTTP/1.1\r\nUser-Agent: one\r\n  two\r\n\tthree\r\nHost: a\r\n\r\n", []string{
			"host a @1 x1", "url http://a/ @1 x1", "user_agent one two three @1 x1",
		}},
		{"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", []string{"host a @1 x1", "host b @1 x1", "url http://b/ @1 x1"}},
		{"HTTP/1.1 204 No Content\r\nHost: a\r\nUser-Agent: b\r\n\r\n", nil},
	} {
		set, _ := play(t, client(c.head))
		if diff := cmp.Diff(c.want, list(set)); diff != "" {
			t.Errorf("%q: %s", c.head, diff)
		}
	}
}

func TestAMessageCountsInTheFrameThatCompletesIt(t *testing.T) {
	const head = "POST /u HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n"
	t.Run("body in another frame", func(t *testing.T) {
		set, _ := play(t, client(head), server("HTTP/1.1 100 Continue\r\n\r\n"), client("abc"), client("def"))
		check(t, set, "host a @4 x1", "url http://a/u @4 x1", file("abcdef", 4))
	})
	t.Run("head in several frames", func(t *testing.T) {
		set, _ := play(t, client(head[:20]), client(head[20:21]), client(head[21:]+"abcdef"))
		check(t, set, "host a @3 x1", "url http://a/u @3 x1", file("abcdef", 3))
	})
	t.Run("body that never comes", func(t *testing.T) {
		set, _ := play(t, client(head[:20]), client(head[20:]), client("abc"), end(stream.Client))
		check(t, set, "host a @2 x1", "url http://a/u @2 x1")
	})
	t.Run("body with a gap, and another message", func(t *testing.T) {
		set, _ := play(t, client(head), gap(stream.Client, 4), client("efGET /x HTTP/1.1\r\nHost: b\r\n\r\n"))
		check(t, set, "host a @1 x1", "host b @3 x1", "url http://a/u @1 x1", "url http://b/x @3 x1")
	})
	t.Run("gap over the body's end", func(t *testing.T) {
		set, _ := play(
			t, client(head), gap(stream.Client, 40), client("1\r\nGET /no HTTP/1.1\r\nHost: no\r\n\r\n"), client("GET /x HTTP/1.1\r\nHost: b\r\n\r\n"),
		)
		check(t, set, "host a @1 x1", "host b @4 x1", "url http://a/u @1 x1", "url http://b/x @4 x1")
	})
	t.Run("gap up to the body's end", func(t *testing.T) {
		set, _ := play(t, client(head), gap(stream.Client, 6), client("\r\nGET /x HTTP/1.1\r\nHost: b\r\n\r\n"))
		check(t, set, "host a @1 x1", "host b @3 x1", "url http://a/u @1 x1", "url http://b/x @3 x1")
	})
	t.Run("gap of unknown size", func(t *testing.T) {
		set, _ := play(t, client(head), gap(stream.Client, unknown), client("GET /x HTTP/1.1\r\nHost: b\r\n\r\n"), client("GET /x HTTP/1.1\r\nHost: b\r\n\r\n"))
		check(t, set, "host a @1 x1", "host b @3 x2", "url http://a/u @1 x1", "url http://b/x @3 x2")
	})
}

const ok = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"

func TestBodiesEndWhereTheirHeadSays(t *testing.T) {
	get := client("GET / HTTP/1.1\r\n\r\n")
	for _, c := range []struct {
		name   string
		events []event
		want   []string
	}{
		{"length", []event{get, server(ok + "Content-Length: 5\r\n\r\nabc"), server("de")}, []string{file("abcde", 3)}},
		{"none", []event{get, server(ok + "Content-Length: 0\r\n\r\n")}, nil},
		{"until the end", []event{get, server(ok + "\r\nabc"), server("de"), end(stream.Server)}, []string{file("abcde", 4)}},
		{"no end", []event{get, server(ok + "\r\nabc"), server("de")}, nil},
		{"too short", []event{get, server(ok + "Content-Length: 5\r\n\r\nabc"), end(stream.Server)}, nil},
		{"chunks", []event{
			get, server(ok + "Transfer-Encoding: chunked\r\n\r\n3;x=\"y\"\r\nabc\r\n00"), server("2 \r\nde\r\n0\r\nA: b\r\n"), server("\r\n"),
		}, []string{file("abcde", 4)}},
		{"chunks without a trailer's end", []event{
			get, server(ok + "Transfer-Encoding: chunked\r\n\r\n\tax\r\n0123456789\r\n0\r\n \r\n"), end(stream.Server),
		}, []string{file("0123456789", 3)}},
		{"chunks with bare line feeds", []event{get, server("HTTP/1.1 200 OK\nTransfer-Encoding: Chunked\n\n3\nabc\n0\n\n")}, []string{file("abc", 2)}},
		{"chunks and a length", []event{
			get, server(ok + "Content-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"),
		}, []string{file("a", 2)}},
		{"chunks that are none", []event{get, server(ok + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd")}, []string{"limit http_unsynchronised 1"}},
		{"head", []event{
			client("HEAD / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
			server(ok + "Content-Length: 5\r\n\r\n" + ok + "Content-Length: 2\r\n\r\nab"),
		}, []string{file("ab", 2)}},
		{"interim and bodiless", []event{
			get, get, get,
			server("HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n" +
				"HTTP/1.1 204 No Content\r\n\r\n" + ok + "Content-Length: 2\r\n\r\nab"),
		}, []string{file("ab", 4)}},
		{"partial", []event{get, server("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-2/9\r\nContent-Length: 3\r\n\r\nabc")}, []string{file("abc", 2)}},
		{"an odd version", []event{get, server("HTTP/1.01 200 OK\r\nContent-Length: 1\r\n\r\na")}, []string{file("a", 2)}},
		{"no status", []event{get, server("HTTP/1.1 fine\r\nContent-Length: 1\r\n\r\na")}, []string{file("a", 2)}},
		{"without the request", []event{server(ok + "Content-Length: 2\r\n\r\nab"), server(ok + "Content-Length: 1\r\n\r\nc")}, []string{file("ab", 1), file("c", 2)}},
		{"the middle of a body first", []event{
			server("some text\nand more\n\n"), get, server("end"), server(ok + "Content-Length: 1\r\n\r\nc"),
		}, []string{file("c", 4)}},
		{"nonsense behind a body", []event{
			get, server(ok + "Content-Length: 1\r\n\r\nc\x00\x01"), get, server(ok + "Content-Length: 1\r\n\r\nd"),
		}, []string{file("c", 2), file("d", 4), "limit http_unsynchronised 1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			set, _ := play(t, c.events...)
			check(t, set, c.want...)
		})
	}
}

func coded(t testing.TB, coding, content string) string {
	t.Helper()
	var b bytes.Buffer
	var w interface {
		Write(p []byte) (int, error)
		Close() error
	}
	switch coding {
	case "gzip":
		z := gzip.NewWriter(&b)
		z.Name, z.Comment, z.Extra = "a name", "a comment", []byte("extra")
		w = z
	case "zlib":
		w = zlib.NewWriter(&b)
	case "raw":
		w, _ = flate.NewWriter(&b, 9)
	case "br":
		w = brotli.NewWriter(&b)
	case "zstd":
		w, _ = zstd.NewWriter(&b)
	}
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestCodedBodiesAreDecoded(t *testing.T) {
	content := strings.Repeat("what is in it is what counts ", 9000)
	for _, c := range []struct{ coding, label string }{
		{"gzip", "gzip"}, {"gzip", "X-GZIP"}, {"gzip", "deflate"}, {"zlib", "deflate"}, {"raw", "deflate"}, {"br", "br"}, {"zstd", "zstd"},
	} {
		body := coded(t, c.coding, content)
		head := fmt.Sprintf("%sContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n", ok, c.label, len(body))
		t.Run(c.coding+" as "+c.label, func(t *testing.T) {
			events := []event{server(head)}
			for len(body) > 0 {
				n := min(len(body), 7)
				events = append(events, server(body[:n]))
				body = body[n:]
			}
			set, _ := play(t, events...)
			check(t, set, file(content, len(events)))
		})
	}
}

func TestBodiesThatDoNotDecode(t *testing.T) {
	whole := coded(t, "gzip", "abcdefghijklmnopqrstuvwxyz")
	for _, c := range []struct{ name, coding, body, want string }{
		{"cut short", "gzip", whole[:len(whole)-9], "abcdefghijklmnopqrstuvwxyz"},
		{"without its checksum", "gzip", whole[:len(whole)-8], "abcdefghijklmnopqrstuvwxyz"},
		{"not what it says", "gzip", "MZ\xff\xff no gzip", "MZ\xff\xff no gzip"},
		{"not what it says", "br", "\xff\xff\xff\xff\xff\xff no brotli", "\xff\xff\xff\xff\xff\xff no brotli"},
		{"too short", "gzip", "\x1f", "\x1f"},
		{"unknown coding", "compress", "abc", "abc"},
	} {
		t.Run(c.name, func(t *testing.T) {
			set, _ := play(t, server(fmt.Sprintf("%sContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s", ok, c.coding, len(c.body), c.body)))
			check(t, set, file(c.want, 1))
		})
	}
}

func TestABombIsNoFile(t *testing.T) {
	for _, coding := range []string{"gzip", "br", "zstd"} {
		body := coded(t, coding, strings.Repeat("\x00", 8<<20))
		set, _ := play(t, server(fmt.Sprintf("%sContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n%s%sContent-Length: 1\r\n\r\nc", ok, coding, len(body), body, ok)))
		check(t, set, file("c", 1), "limit http_decoded_body 1")
	}
}

func TestAFormsFilesAreFiles(t *testing.T) {
	form := "preamble\r\n--b\r\nContent-Disposition: form-data; name=\"f\"\r\n\r\nno file\r\n" +
		"--b\r\ncontent-disposition: form-data; name=\"f\"; filename=\"x.exe\"\r\nContent-Type: a/b\r\n\r\nMZ\r\n--\r\n--bx\r\n" +
		"--b\r\nContent-Disposition: form-data; name=\"g\"; filename=\"\"\r\n\r\n\r\n" +
		"--b\r\nContent-Disposition: form-data; name=\"h\"; filename*=utf-8''y\r\n\r\nsecond\r\n--b--\r\nepilogue"
	head := fmt.Sprintf("POST / HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=\"b\"\r\nContent-Length: %d\r\n\r\n", len(form))
	// A boundary is found at the beginning of a longer one, too: RFC 2046, 5.1.1
	// forbids such content.
	set, _ := play(t, client(head+form))
	check(t, set, file("MZ\r\n--", 1), file("second", 1), file(form, 1))
	for cut := range form {
		set, _ := play(t, client(head+form[:cut]), client(form[cut:]))
		got := 0
		for _, i := range set.List() {
			if i.Type == indicator.File && len(i.Value) == 64 {
				got++
			}
		}
		if got != 3 {
			t.Fatalf("cut at %d: %v", cut, list(set))
		}
	}
}

func TestWhatBecomesOfTheConnection(t *testing.T) {
	for _, c := range []struct {
		name     string
		request  string
		response string
		want     stream.Verdict
	}{
		{"tunnel", "CONNECT a:443 HTTP/1.1\r\n\r\n", "HTTP/1.1 200 Connection established\r\n\r\n", stream.Again},
		{"tunnel without its request", "", "HTTP/1.0 200 Connection Established\r\n\r\n\x16\x03", stream.Again},
		{"refused tunnel", "CONNECT a:443 HTTP/1.1\r\n\r\n", "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", stream.More},
		{"websocket", "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n", stream.Done},
		{"HTTP/2", "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n", stream.More},
	} {
		if _, got := play(t, client(c.request), server(c.response)); got != c.want {
			t.Errorf("%s: verdict %d", c.name, got)
		}
	}
}

func TestLimitsAreCounted(t *testing.T) {
	t.Run("head", func(t *testing.T) {
		long := "GET / HTTP/1.1\r\nCookie: " + strings.Repeat("x", 64<<10)
		set, _ := play(t, client(long), client("\r\n\r\n"), client("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
		check(t, set, "host a @3 x1", "url http://a/ @3 x1", "limit http_head 1")
		set, _ = play(t, client(long+"\r\n\r\n"), client("GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
		check(t, set, "host a @2 x1", "url http://a/ @2 x1", "limit http_head 1")
	})
	t.Run("fields", func(t *testing.T) {
		set, _ := play(t, client("GET / HTTP/1.1\r\n"+strings.Repeat("Host: a\r\n", 9)+"\r\n"))
		if set.Limits()[http.LimitFields] != 2 {
			t.Error(list(set))
		}
	})
	t.Run("pipeline", func(t *testing.T) {
		set, _ := play(t, client(strings.Repeat("GET / HTTP/1.1\r\n\r\n", 257)))
		check(t, set, "limit http_pipeline 1")
	})
}

func TestSSDP(t *testing.T) {
	set := indicator.New()
	for i, d := range []string{
		"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nUSER-AGENT: Google Chrome/1\r\n\r\n",
		"NOTIFY * HTTP/1.1\r\nHost:router.example:1900\r\n\r\nUser-Agent: body",
		"HTTP/1.1 200 OK\r\nUser-Agent: x\r\n\r\n",
		"GET",
	} {
		http.Datagram(set, []byte(d), indicator.At{Frame: int64(i + 1)})
	}
	check(
		t, set, "address 239.255.255.250 @1 x1", "host router.example @2 x1",
		"url http://239.255.255.250:1900* @1 x1", "url http://router.example:1900* @2 x1", "user_agent Google Chrome/1 @1 x1",
	)
	if set.Used() != 0 {
		t.Error("memory is not given back")
	}
}

func TestRecognise(t *testing.T) {
	for _, c := range []struct {
		data string
		want bool
	}{
		{"GET / HTTP/1.1\r\n", true},
		{"GET / HTTP/1.1\nHost: a", true},
		{"FOO_BAR-1 /x y HTTP/1.0\r\n", true},
		{"GET /some/long", true},
		{"GET /", true},
		{"GET ", false},
		{"GET hello", false},
		{"GET /\x00", false},
		{"GET / HTTP/1.1 and more\r\n", false},
		{"GET hello HTTP/3.1\r\n", false},
		{"GET key\r\n", false},
		{"FOO /bar", false},
		{"CONNECT a.example:4", true},
		{"POST http://a", true},
		{"HTTP/1.1 200 OK\r\n", true},
		{"HTTP/1.0 40", true},
		{"HTTP/1.", true},
		{"HTTP/1", false},
		{"HTTP/1.1 20x", false},
		{"HTTP/2 200", false},
		{"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00", true},
		{"PRI * HTTP/2.0\r\n\r\nXX", false},
		{"SSH-2.0-OpenSSH", false},
		{"EHLO a.example\r\n", false},
		{"OPTIONS sip:a@b SIP/2.0\r\n", false},
		{"", false},
	} {
		if got := http.Recognise(stream.Client, []byte(c.data)); got != c.want {
			t.Errorf("%q: %t", c.data, got)
		}
	}
}

func TestAKeepAliveConnectionCostsNoMemory(t *testing.T) {
	set := indicator.New()
	p := http.New(set, stream.Conn{})
	request := []byte("GET /a HTTP/1.1\r\nHost: a.example\r\nUser-Agent: x\r\n\r\n")
	post := []byte("POST /b HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc")
	response := []byte(ok + "Content-Length: 3\r\n\r\nabc")
	exchange := func() {
		at := indicator.At{Frame: 1}
		p.Data(stream.Client, request, at)
		p.Data(stream.Server, response, at)
		p.Data(stream.Client, post[:30], at)
		p.Data(stream.Client, post[30:], at)
		p.Data(stream.Server, response[:10], at)
		p.Data(stream.Server, response[10:], at)
	}
	exchange()
	if n := testing.AllocsPerRun(100, exchange); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

package cloudsharktest

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestPutStoresTheBodyAndItsParameters(t *testing.T) {
	s := start(t, Options{Tokens: []Token{{Value: "0123456789ABCDEF0123456789abcdef", DefaultTags: []string{"sensor"}}}})
	data := pcap(3, 100)
	r := put(t, s, "filename=a+b.pcap&additional_tags=one,two&comments="+url.QueryEscape("line 1\nline 2"), data)
	if r.status != 200 || r.header.Get("Content-Type") != "text/javascript; charset=utf-8" {
		t.Fatalf("reply %d %v %s", r.status, r.header, r.body)
	}
	v := r.json(t)
	id, _ := v["id"].(string)
	if len(v) != 2 || v["filename"] != "a b.pcap" || !idPattern().MatchString(id) {
		t.Fatalf("reply %s", r.body)
	}
	got, _ := s.Session(id)
	if got.Filename != "a b.pcap" || got.Comments != "line 1\nline 2" || !slices.Equal(got.Tags, []string{"sensor", "one", "two"}) ||
		got.Size != int64(len(data)) || got.SHA1 != fmt.Sprintf("%x", sha1.Sum(data)) || got.SHA256 != fmt.Sprintf("%x", sha256.Sum256(data)) ||
		got.Packets != 3 || !got.First.Equal(firstPacket) || got.UserAgent != agent || got.Method != "PUT" {
		t.Errorf("session %+v", got)
	}
	f, err := s.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if kept, _ := io.ReadAll(f); !bytes.Equal(kept, data) {
		t.Error("the bytes kept differ from the bytes sent")
	}
	if v := s.Violations(); len(v) > 0 {
		t.Errorf("violations %v", v)
	}
	req := s.Requests()[0]
	if req.Path != "/api/v1/-/upload" || req.API != "upload" || req.Status != 200 || req.Session != id || !req.Done ||
		req.BodyBytes != int64(len(data)) || req.Query.Get("filename") != "a b.pcap" {
		t.Errorf("request %+v", req)
	}
}

func TestTokensAreTheSameInAnyCase(t *testing.T) {
	s := start(t, Options{Tokens: []Token{{Value: "abcdefabcdefabcdefabcdefabcdef01"}}})
	r := doURL(t, "PUT", s.URL+"/api/v1/"+strings.ToUpper(s.Token)+"/upload?filename=x.pcap", bytes.NewReader(pcap(1, 60)))
	if r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestPostTakesParametersFromFormAndQuery(t *testing.T) {
	s := start(t, Options{})
	data := string(pcap(2, 80))
	r := post(t, s, "", field{"additional_tags", "", "t1,t2"}, field{"keylog", "keys.txt", "CLIENT_RANDOM aa bb\n"},
		field{"file", "orig.pcap", data}, field{"filename", "", "n.pcap"}, field{"comments", "", "hello"})
	session, ok := s.Session(fmt.Sprint(r.json(t)["id"]))
	if !ok || session.Filename != "n.pcap" || session.Comments != "hello" || len(session.Tags) != 2 || session.Method != "POST" {
		t.Errorf("%s %+v", r.body, session)
	}
	if keys, err := s.Keylog(session.ID); err != nil || string(keys) != "CLIENT_RANDOM aa bb\n" {
		t.Errorf("keylog %q %v", keys, err)
	}
	r = post(t, s, "filename=q.pcap&additional_tags=z", field{"file", "orig.pcap", data})
	session, _ = s.Session(fmt.Sprint(r.json(t)["id"]))
	if session.Filename != "q.pcap" || !slices.Equal(session.Tags, []string{"z"}) {
		t.Errorf("%+v", session)
	}
	r = post(t, s, "", field{"file", "orig.pcap", data})
	session, _ = s.Session(fmt.Sprint(r.json(t)["id"]))
	if session.Filename != "orig.pcap" {
		t.Errorf("%+v", session)
	}
}

func TestChunkedBodiesAreTaken(t *testing.T) {
	s := start(t, Options{})
	r := do(t, s, "PUT", "upload?filename=c.pcap", struct{ io.Reader }{bytes.NewReader(pcap(50, 1000))})
	if r.status != 200 || s.Requests()[0].ContentLength != -1 {
		t.Errorf("%d %s %+v", r.status, r.body, s.Requests()[0])
	}
}

func TestAPutWithoutFilenameIsNamedAfterTheAgent(t *testing.T) {
	s := start(t, Options{})
	if got := mustPut(t, s, "", pcap(1, 60)); !strings.HasPrefix(got.Filename, "emutest-2") || !strings.HasSuffix(got.Filename, ".pcap") {
		t.Errorf("%q", got.Filename)
	}
}

func TestAShortBodyIsNeverStored(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Options{Dir: dir})
	data := pcap(10, 100)
	for _, body := range []string{
		// The capture is whole, the body is not.
		fmt.Sprintf("PUT /api/v1/%s/upload?filename=x.pcap HTTP/1.1\r\nHost: x\r\nUser-Agent: a/1\r\nContent-Length: %d\r\n\r\n%s", s.Token, len(data)+1, data),
		fmt.Sprintf("PUT /api/v1/%s/upload?filename=x.pcap HTTP/1.1\r\nHost: x\r\nUser-Agent: a/1\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", s.Token, len(data), data),
		fmt.Sprintf("POST /api/v1/%s/upload HTTP/1.1\r\nHost: x\r\nUser-Agent: a/1\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000\r\n\r\n"+
			"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.pcap\"\r\n\r\n%s\r\n--b--\r\n", s.Token, data),
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, body); err != nil {
			t.Fatal(err)
		}
		_ = conn.(*net.TCPConn).CloseWrite()
		answer, _ := io.ReadAll(conn)
		if strings.Contains(string(answer), "200 OK") {
			t.Errorf("answered %s", answer)
		}
		_ = conn.Close()
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(s.Sessions()); n != 0 {
		t.Errorf("%d sessions", n)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestStrictness(t *testing.T) {
	s := start(t, Options{MaxSize: 5000})
	ok := pcap(2, 100)
	file := field{"file", "a.pcap", string(ok)}
	long := func(n int) string { return strings.Repeat("x", n) }
	var fields []field
	for i := range 40 {
		fields = append(fields, field{fmt.Sprintf("f%d", i), "", "x"})
	}
	many := strings.Repeat("t,", 5)
	for i := range 31 {
		many += fmt.Sprintf("tag%d,", i)
	}
	cases := []struct {
		name   string
		r      reply
		status int
		text   string
		strict bool
	}{
		{"31 tags", put(t, s, "filename=x.pcap&additional_tags="+many, ok), 400, "Too many tags: 32", true},
		{"an empty filename", put(t, s, "filename=", ok), 400, "filename is empty", true},
		{"a line break in the filename", put(t, s, "filename=a%0Ab", ok), 400, "control characters", true},
		{"a filename that is not UTF-8", put(t, s, "filename=a%ff", ok), 400, "not UTF-8", true},
		{"an unknown parameter", put(t, s, "filename=a&tags=b", ok), 400, `unknown parameter \"tags\"`, true},
		{"a parameter given twice", put(t, s, "filename=a&filename=b", ok), 400, "given twice", true},
		{"a query that cannot be parsed", put(t, s, "filename=%zz", ok), 400, "Query cannot be parsed", true},
		{"an over-long request line", put(t, s, "filename=a&comments="+strings.Repeat("c", maxURI), ok), 414, "Too Large", true},
		{"Go's own agent", put(t, s, "filename=a", ok, header("User-Agent", "Go-http-client/1.1")), 400, "User-Agent", true},
		{"an agent without a version", put(t, s, "filename=a", ok, header("User-Agent", "capagent")), 400, "User-Agent", true},
		{"no agent", put(t, s, "filename=a", ok, header("User-Agent", "")), 400, "User-Agent", true},
		{"the token in a Referer", put(t, s, "filename=a", ok, header("Referer", "http://x/api/v1/"+s.Token+"/upload")), 400, "header Referer", true},
		{"the token in the comments", put(t, s, "filename=a&comments=hi+"+s.Token, ok), 400, "parameter comments", true},
		{"the token in a form field", post(t, s, "", field{"file", "a.pcap", string(ok)}, field{"comments", "", s.Token}), 400, "the token stands in comments", true},
		{"a compressed body", put(t, s, "filename=a", ok, header("Content-Encoding", "gzip")), 415, "Content-Encoding", true},
		{"an empty body", put(t, s, "filename=a", nil), 400, "empty file", true},
		{"text", put(t, s, "filename=a", []byte("hello, world, hello, world")), 400, "not a capture", true},
		{"a cut capture", put(t, s, "filename=a", ok[:len(ok)-1]), 400, "ends inside a packet", true},
		{"a form without a file", post(t, s, "", field{"comments", "", "x"}), 400, "file is missing", true},
		{"a file without a name", post(t, s, "", field{"file", "", string(ok)}), 400, "no file name", true},
		{"an unknown field", post(t, s, "", field{"file", "a.pcap", string(ok)}, field{"tags", "", "x"}), 400, `unknown field \"tags\"`, true},
		{"form and query that differ", post(t, s, "filename=a", field{"file", "a.pcap", string(ok)}, field{"filename", "", "b"}), 400, "differ", true},
		{"a filename of 256 bytes", post(t, s, "", file, field{"filename", "", long(256)}), 400, "longer than 255", true},
		{"a tag of 256 bytes", post(t, s, "", file, field{"additional_tags", "", long(256)}), 400, "longer than 255", true},
		{"comments over a megabyte", post(t, s, "", file, field{"comments", "", long(maxComments + 1)}), 400, "comments are longer", true},
		{"a field over two megabytes", post(t, s, "", file, field{"comments", "", long(maxField + 1)}), 400, "too long", true},
		{"a key log over 16 megabytes", post(t, s, "", file, field{"keylog", "k", long(maxKeylog + 1)}), 413, "keylog is too large", false},
		{"forty fields", post(t, s, "", fields...), 400, "unknown field", true},
		{"a field given twice", post(t, s, "", file, file), 400, "given twice", true},
		{"a line break in a tag", post(t, s, "", file, field{"additional_tags", "", "a\nb"}), 400, "control characters", true},
		{"a form without its end", do(t, s, "POST", "upload", strings.NewReader("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.pcap\"\r\n\r\n"+string(ok)),
			header("Content-Type", "multipart/form-data; boundary=b")), 400, "ends too early", true},
		{"a form without its last boundary", do(t, s, "POST", "upload", strings.NewReader("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.pcap\"\r\n\r\n"+string(ok)+"\r\n--b\r\n"),
			header("Content-Type", "multipart/form-data; boundary=b")), 400, "ends too early", true},
		{"a form of another kind", do(t, s, "POST", "upload", strings.NewReader("a=b"), header("Content-Type", "application/x-www-form-urlencoded")), 400, "multipart/form-data", true},
		{"a filename sent as a file", post(t, s, "", field{"file", "a.pcap", string(ok)}, field{"filename", "n.pcap", ""}), 400, "filename is empty", true},
		{"an upload by url", post(t, s, "", field{"url", "", "http://127.0.0.1/x"}), 400, "not offered", false},
		{"a GET of upload", do(t, s, "GET", "upload", nil), 405, "upload does not take GET", true},
		{"a PUT over the limit", put(t, s, "filename=a", pcap(100, 100)), 413, "too large", false},
		{"a POST over the limit", post(t, s, "", field{"file", "a.pcap", string(pcap(100, 100))}), 413, "too large", false},
		{"an unknown method", do(t, s, "GET", "frobnicate", nil), 404, "API method not found", false},
		{"an unknown token", doURL(t, "GET", s.URL+"/api/v1/"+strings.Repeat("0", 32)+"/search", nil), 404, msgBadToken, false},
		{"an empty token", doURL(t, "GET", s.URL+"/api/v1//search", nil), 404, msgBadToken, false},
	}
	strict := 0
	for _, c := range cases {
		if c.strict {
			strict++
		}
		if c.r.status != c.status || !strings.Contains(string(c.r.body), c.text) {
			t.Errorf("%s: %d %s %v", c.name, c.r.status, c.r.body, c.r.err)
		}
		if got := c.r.exceptions(); strings.HasPrefix(got, "not an exceptions") {
			t.Errorf("%s: %s", c.name, got)
		}
	}
	if got := s.Violations(); len(got) != strict {
		t.Errorf("%d violations, expected %d: %q", len(got), strict, got)
	}
	if n := len(s.Sessions()); n != 0 {
		t.Errorf("%d sessions were stored", n)
	}
}

func TestAnEnormousLengthIsRefusedBeforeTheBody(t *testing.T) {
	s := start(t, Options{MaxSize: 5000})
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = fmt.Fprintf(conn, "PUT /api/v1/%s/upload?filename=x HTTP/1.1\r\nHost: x\r\nUser-Agent: a/1\r\nContent-Length: %d\r\n\r\n", s.Token, int64(1)<<60)
	line, err := bufio.NewReader(conn).ReadString('\n')
	if line != "HTTP/1.1 413 Request Entity Too Large\r\n" {
		t.Errorf("%q %v", line, err)
	}
}

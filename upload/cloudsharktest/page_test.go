package cloudsharktest

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

func page(t *testing.T, s *Server, path string, opts ...option) reply {
	t.Helper()
	r := doURL(t, "GET", s.URL+path, nil, opts...)
	if r.err != nil {
		t.Fatal(r.err)
	}
	return r
}

func TestThePageListsSessionsNewestFirstInPages(t *testing.T) {
	s := start(t, Options{})
	for i := range 120 {
		mustPut(t, s, fmt.Sprintf("filename=cap-%03d.pcap&additional_tags=n%d,even%v", i, i, i%2 == 0), pcap(1, 60))
	}
	names := regexp.MustCompile(`cap-\d{3}\.pcap`)
	for path, want := range map[string]struct {
		first, last string
		count       int
	}{
		"/":                         {"cap-119.pcap", "cap-070.pcap", 50},
		"/?page=3":                  {"cap-019.pcap", "cap-000.pcap", 20},
		"/?page=x":                  {"cap-119.pcap", "cap-070.pcap", 50},
		"/?q=CAP-01":                {"cap-019.pcap", "cap-010.pcap", 10},
		"/?tag=n7":                  {"cap-007.pcap", "cap-007.pcap", 1},
		"/?tag=eventrue&page=2":     {"cap-018.pcap", "cap-000.pcap", 10},
		"/?tag=eventrue&q=n10":      {"cap-108.pcap", "cap-010.pcap", 6},
		"/?q=nothing":               {"", "", 0},
		"/?page=999999999999999999": {"cap-019.pcap", "cap-000.pcap", 20},
		"/?q=CAP-01&page=3":         {"cap-019.pcap", "cap-010.pcap", 10},
	} {
		got := names.FindAllString(string(page(t, s, path).body), -1)
		if len(got) != want.count || want.count > 0 && (got[0] != want.first || got[len(got)-1] != want.last) {
			t.Errorf("%s: %v", path, got)
		}
	}
	if body := string(page(t, s, "/?tag=eventrue").body); !strings.Contains(body, `href="/?page=2&amp;tag=eventrue"`) || !strings.Contains(body, "1–50 of 60") {
		t.Errorf("no link to the next page in %s", body[len(body)-600:])
	}
}

func TestTheCapturePageShowsWhatTheSessionHolds(t *testing.T) {
	s := start(t, Options{})
	c := mustPut(t, s, "filename=x.pcap&additional_tags=a+tag&comments="+url.QueryEscape("first line\nsecond line"), pcap(1234, 100))
	if r := do(t, s, "POST", "annotations/"+c.ID+"?frame=2&text=look+here", nil); r.status != 200 {
		t.Fatal(r.status)
	}
	body := string(page(t, s, "/captures/"+c.ID+"?filter="+url.QueryEscape("frame.number == 2")).body)
	for _, want := range []string{
		"a local stand-in for CloudShark", "x.pcap", "a tag", "first line\nsecond line", "1,234", c.SHA1, c.SHA256,
		"2026-01-02 03:04:05.000000 UTC", "1.23 s", "look here", "frame.number == 2", "192.0.2.1", "198.51.100.2",
		"1025 → 9999", `<tr id="p2" class="marked">`, `id="p200"`, "first 200 of 1,234", `href="/captures/` + c.ID + `/download"`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(body, `id="p201"`) {
		t.Error("more than 200 packets")
	}
	r := page(t, s, "/captures/"+c.ID+"/download")
	if !bytes.Equal(r.body, pcap(1234, 100)) || r.header.Get("Content-Disposition") != "attachment; filename=x.pcap" ||
		r.header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("%v", r.header)
	}
}

func TestHostileTextIsTextOnThePage(t *testing.T) {
	s := start(t, Options{})
	evil := `"'><script>alert(1)</script><img src=x onerror=alert(1)>`
	c := mustPut(t, s, url.Values{
		"filename": {evil + "\u202egnp.exe"}, "additional_tags": {evil + ",javascript:alert(1)"}, "comments": {evil + "\x1b[31m"},
	}.Encode(), pcap(3, 60))
	do(t, s, "POST", "annotations/"+c.ID+"?"+url.Values{"frame": {"1"}, "text": {evil}}.Encode(), nil)
	for _, path := range []string{"/", "/?q=" + url.QueryEscape(evil), "/?tag=" + url.QueryEscape(evil), "/captures/" + c.ID + "?filter=" + url.QueryEscape(evil)} {
		r := page(t, s, path)
		body := string(r.body)
		if r.status != 200 || !strings.Contains(body, "&lt;script&gt;") {
			t.Errorf("%s: the text is not shown", path)
		}
		for _, bad := range []string{"<script", "<img src=x", "\x1b", "\u202e", `href="javascript`} {
			if strings.Contains(body, bad) {
				t.Errorf("%s: %q stands in the page", path, bad)
			}
		}
	}
	if r := page(t, s, "/captures/"+c.ID+"/download"); strings.ContainsAny(r.header.Get("Content-Disposition"), "\r\n<") {
		t.Errorf("%q", r.header.Get("Content-Disposition"))
	}
}

func TestEveryPageForbidsEverythingFromElsewhere(t *testing.T) {
	s := start(t, Options{})
	c := mustPut(t, s, "filename=x.pcap", pcap(1, 60))
	for _, path := range []string{"/", "/nowhere", "/captures/" + c.ID, "/captures/000000000000", "/captures/" + c.ID + "/download", "/style.css", "/icon.svg", "/captures/../x"} {
		r := page(t, s, path)
		for key, want := range map[string]string{
			"Content-Security-Policy": pageRules, "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
			"X-Frame-Options": "DENY",
		} {
			if r.header.Get(key) != want {
				t.Errorf("%s: %s is %q", path, key, r.header.Get(key))
			}
		}
		if bytes.Contains(r.body, []byte("http://")) && !strings.Contains(path, "icon") {
			t.Errorf("%s refers to another place", path)
		}
		if r.status >= 300 && r.status < 400 {
			t.Errorf("%s redirects", path)
		}
	}
	if r := doURL(t, "POST", s.URL+"/", nil); r.status != 405 {
		t.Errorf("POST: %d", r.status)
	}
}

func TestOnlyLoopbackNamesAreServedOnRequest(t *testing.T) {
	s := start(t, Options{LoopbackNames: true})
	for host, ok := range map[string]bool{
		"": true, "localhost": true, "LOCALHOST:80": true, "127.0.0.1": true, "127.9.9.9:1": true, "[::1]:8080": true, "[::1]": true,
		"evil.example": false, "127.0.0.1.evil.example": false, "localhost.evil.example:80": false, "192.0.2.1": false, "2130706433": false,
	} {
		r := page(t, s, "/", func(r *http.Request) { r.Host = host })
		if (r.status == 200) != ok || r.status != 200 && r.status != http.StatusMisdirectedRequest {
			t.Errorf("%q: %d", host, r.status)
		}
	}
}

func TestTheTokenNeverLeavesTheServer(t *testing.T) {
	var log bytes.Buffer
	s := start(t, Options{Log: zerolog.New(&log)})
	// A capture of an upload over plain HTTP holds the token.
	inside := pcap(1, 400)
	copy(inside[40+14:], []byte{0x45, 0, 1, 0x82, 0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 1, 198, 51, 100, 2, // IPv4, TCP
		4, 0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 1, 0, 0, 0, 0, 0})
	copy(inside[40+14+40:], "PUT /api/v1/"+strings.ToUpper(s.Token)+"/upload HTTP/1.1\r\n\r\n")
	c := mustPut(t, s, "filename=x.pcap", inside)
	put(t, s, "filename="+s.Token, inside)
	put(t, s, s.Token+"=1", inside)
	put(t, s, "filename=a", inside, header("X-"+s.Token, "1"))
	put(t, s, "filename=a", inside, header("User-Agent", "x/1 "+s.Token))
	do(t, s, "GET", "info/"+s.Token, nil)
	do(t, s, "GET", s.Token, nil)
	doURL(t, "GET", s.URL+"/api/v1/nonsense/"+s.Token, nil)
	doURL(t, "GET", s.URL+"/api//v1/"+s.Token+"/search", nil)
	doURL(t, s.Token, s.URL+"/api/v1/"+s.Token+"/search", nil)
	pages := ""
	for _, path := range []string{"/", "/?q=" + s.Token, "/?tag=" + s.Token, "/captures/" + c.ID + "?filter=" + s.Token, "/" + s.Token, "//api/v1/" + s.Token + "/upload"} {
		pages += string(page(t, s, path).body)
	}
	if !strings.Contains(pages, "PUT /api/v1/-/upload HTTP/1.1") {
		t.Error("the packet's first line is not shown")
	}
	if strings.Contains(strings.ToLower(pages), s.Token) {
		t.Errorf("the token stands on a page: %s", pages)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(strings.ToLower(log.String()), s.Token) || !strings.Contains(log.String(), `"path":"/api/v1/-/upload"`) {
		t.Errorf("log: %s", log.String())
	}
}

func TestPacketsAreNamedAsTsharkNamesThem(t *testing.T) {
	tshark := tool(t, "tshark")
	compared := 0
	for _, name := range []string{"pcap-little-micro.pcap", "pcap-big-raw-ip.pcap", "pcapng-big-interfaces.pcapng", "pcapng-little-plain.pcapng", "gzip.pcap"} {
		file := filepath.Join("../../internal/pcapio/testdata/corpus/good", name)
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		got := summarise(f, nil)
		_ = f.Close()
		out, err := exec.Command(tshark, "-n", "-r", file, "-T", "fields", "-E", "occurrence=f",
			"-e", "frame.number", "-e", "ip.src", "-e", "ip.dst", "-e", "frame.len", "-e", "udp.dstport").Output()
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
			f := strings.Split(line, "\t")
			r := got.Rows[i]
			if f[0] != fmt.Sprint(r.No) || f[3] != fmt.Sprint(r.Length) || f[1] != "" && (f[1] != r.Source || f[2] != r.Destination) ||
				f[4] != "" && !strings.Contains(r.Info, "→ "+f[4]+" ") {
				t.Errorf("%s: tshark %q, page %+v", file, f, r)
			}
			compared++
		}
	}
	if compared < 10 {
		t.Errorf("only %d packets were compared", compared)
	}
}

func TestNoCaptureBreaksThePage(t *testing.T) {
	files, _ := filepath.Glob("../../internal/pcapio/testdata/corpus/*/*")
	if len(files) < 50 {
		t.Fatal("the corpus is gone")
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		got := summarise(f, []Annotation{{1, "x"}})
		_ = f.Close()
		if strings.Contains(file, "/good/") && got.Problem != "" || len(got.Rows) > shownPackets {
			t.Errorf("%s: %+v", file, got.Problem)
		}
	}
}

func TestTextForPeople(t *testing.T) {
	for in, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 9949: "9.9 kB", 9950: "10 kB", 999_499: "999 kB", 999_500: "1.0 MB", 4_294_967_296: "4.3 GB"} {
		if got := sizeText(in); got != want {
			t.Errorf("size %d: %q, want %q", in, got, want)
		}
	}
	for in, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := countText(in); got != want {
			t.Errorf("count %d: %q, want %q", in, got, want)
		}
	}
	for in, want := range map[time.Duration]string{0: "0 ms", 1500 * time.Microsecond: "1.5 ms", 1830 * time.Millisecond: "1.83 s", 90 * time.Second: "1m30s"} {
		if got := spanText(in); got != want {
			t.Errorf("span %v: %q, want %q", in, got, want)
		}
	}
}

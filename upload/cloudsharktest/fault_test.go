package cloudsharktest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// cancelled gives a request a context that the test ends when what it waits
// for has happened.
func withContext(ctx context.Context) option {
	return func(r *http.Request) { *r = *r.WithContext(ctx) }
}

func TestFaultsThatAnswerOtherwise(t *testing.T) {
	for text, want := range map[string]struct {
		status   int
		contains string
		header   string
	}{
		"status:code=422,text=Disk quota full, call us,text=and more": {422, `"exceptions":["Disk quota full, call us","and more"]`, ""},
		"status:code=503,retry_after=1000000000":                      {503, "went wrong", "Retry-After: 1000000000"},
		"bad-token":                                                   {404, `{"status":404,"exceptions":["API Token is missing or invalid"]}`, ""},
		"login":                                                       {401, msgLogin, `Www-Authenticate: Basic realm="CloudShark"`},
		"forbidden":                                                   {403, msgForbidden, ""},
		"too-large":                                                   {413, "too large", ""},
		"too-large:code=400":                                          {400, "too large", ""},
		"too-large:early=true":                                        {413, "too large", "Connection: close"},
		"quota":                                                       {403, "quota", ""},
		"not-capture":                                                 {400, "not a valid capture", ""},
		"busy":                                                        {503, "busy", "Retry-After: 1"},
		"busy:code=429,retry_after=Wed, 21 Oct 2099 07:28:00 GMT": {429, "busy", "Retry-After: Wed, 21 Oct 2099 07:28:00 GMT"},
		"error":    {500, "<!DOCTYPE html>", "Content-Type: text/html; charset=utf-8"},
		"html-200": {200, "<!DOCTYPE html>", "Content-Type: text/html; charset=utf-8"},
		"bad-id":   {200, `"id":"../../evil"`, ""},
		"redirect": {302, "redirected", "Location: https://elsewhere.invalid/login"},
		"redirect:code=307,to=/api/v2/{token}/upload": {307, "redirected", "Location: /api/v2/TOKEN/upload"},
		"echo-token": {500, "/api/v1/TOKEN/upload", ""},
	} {
		t.Run(text, func(t *testing.T) {
			s := start(t, Options{})
			f, err := ParseFault(text)
			if err != nil {
				t.Fatal(err)
			}
			s.SetFault(f)
			data := pcap(2000, 1000)
			r := put(t, s, "filename=x.pcap", data)
			head := ""
			for k, v := range r.header {
				head += k + ": " + v[0] + "\n"
			}
			if r.err == nil && f.Early {
				head += "Connection: close"
			}
			swap := strings.NewReplacer("TOKEN", s.Token)
			if r.err != nil || r.status != want.status || !strings.Contains(string(r.body), swap.Replace(want.contains)) ||
				!strings.Contains(head, swap.Replace(want.header)) {
				t.Errorf("%d %s %s %v", r.status, head, r.body, r.err)
			}
			if n := len(s.Sessions()); n != 0 {
				t.Errorf("%d sessions", n)
			}
			req := s.Requests()[0]
			if req.Fault != f.Name || req.Status != want.status || req.BodyBytes != int64(len(data)) {
				t.Errorf("%+v", req)
			}
			s.ClearFaults()
			mustPut(t, s, "filename=x.pcap", data)
		})
	}
}

func TestAcceptingFaultsStoreOneSession(t *testing.T) {
	for _, text := range []string{"accept-drop", "accept-drop:rst=true", "error:accept=true", "html-200:accept=1", "bad-id:accept=true", "truncated-json"} {
		t.Run(text, func(t *testing.T) {
			s := start(t, Options{})
			f, _ := ParseFault(text)
			s.SetFault(f)
			r := put(t, s, "filename=x.pcap", pcap(5, 100))
			switch {
			case text == "accept-drop" && !errors.Is(r.err, io.EOF), f.Reset && !errors.Is(r.err, syscall.ECONNRESET):
				t.Errorf("error %v", r.err)
			case f.Name == "truncated-json" && (r.status != 200 || bytes.HasSuffix(r.body, []byte("}"))):
				t.Errorf("%d %s", r.status, r.body)
			}
			if n := len(s.Sessions()); n != 1 {
				t.Errorf("%d sessions", n)
			}
			if req := s.Requests()[0]; req.Session != s.Sessions()[0].ID || req.Fault != f.Name {
				t.Errorf("%+v", req)
			}
		})
	}
}

func TestHangsLastUntilTheClientLeaves(t *testing.T) {
	for name, stored := range map[string]int{"hang": 0, "accept-hang": 1, "hang-early": 0} {
		t.Run(name, func(t *testing.T) {
			s := start(t, Options{})
			s.SetFault(Fault{Name: name})
			ctx, cancel := context.WithCancel(t.Context())
			data := pcap(10, 1000)
			done := make(chan reply)
			go func() { done <- put(t, s, "filename=x.pcap", data, withContext(ctx)) }()
			waitFor(t, func() bool { return s.Counters().Faults[name] == 1 })
			waitFor(t, func() bool { return len(s.Sessions()) == stored })
			select {
			case r := <-done:
				t.Fatalf("answered %+v", r)
			default:
			}
			cancel()
			if r := <-done; !errors.Is(r.err, context.Canceled) {
				t.Errorf("%+v", r)
			}
			if name == "hang-early" {
				if err := s.Close(); err != nil { // this one is held until then
					t.Fatal(err)
				}
			}
			waitFor(t, func() bool { return s.Requests()[0].Done })
			if req := s.Requests()[0]; req.Status != 0 || (req.BodyBytes == 0) != (name == "hang-early") {
				t.Errorf("%+v", req)
			}
		})
	}
}

// waitFor polls for something that another goroutine brings about.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("it never happened")
		}
	}
}

// endless gives a body that goes on until the connection breaks.
type endless struct {
	head []byte
	n    atomic.Int64
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.head)
	e.head = e.head[n:]
	if n == 0 {
		n = len(p)
	}
	e.n.Add(int64(n))
	return n, nil
}

func TestResetMidBodyBreaksTheConnectionAfterBytes(t *testing.T) {
	s := start(t, Options{})
	s.SetFault(Fault{Name: "reset-mid-body", Bytes: 200_000})
	r := do(t, s, "PUT", "upload?filename=x.pcap", &endless{head: pcap(1, 60)})
	if r.err == nil || len(s.Sessions()) != 0 {
		t.Fatalf("%+v", r)
	}
	waitFor(t, func() bool { return s.Requests()[0].Done })
	if req := s.Requests()[0]; req.BodyBytes != 200_000 || req.Status != 0 {
		t.Errorf("%+v", req)
	}
}

func TestHugeReplyIsHuge(t *testing.T) {
	s := start(t, Options{})
	s.SetFault(Fault{Name: "huge-reply", Bytes: 3_000_000})
	r := put(t, s, "filename=x.pcap", pcap(1, 60))
	if len(r.body) != 3_000_000 || r.json(t)["id"] != "f27d1494400c" {
		t.Errorf("%d bytes", len(r.body))
	}
}

func TestSlowReplyAndSlowBodyTakeTheirTime(t *testing.T) {
	s := start(t, Options{})
	s.SetFault(Fault{Name: "slow-reply", Delay: 2 * time.Millisecond})
	begin := time.Now()
	r := put(t, s, "filename=x.pcap", pcap(1, 60))
	if took := time.Since(begin); r.status != 200 || r.json(t)["id"] == "" || took < time.Duration(len(r.body))*2*time.Millisecond {
		t.Errorf("%d bytes in %v", len(r.body), took)
	}
	s.SetFault(Fault{Name: "slow", Bytes: 10_000})
	begin = time.Now()
	mustPut(t, s, "filename=x.pcap", pcap(20, 100))
	if took := time.Since(begin); took < 200*time.Millisecond {
		t.Errorf("2 kB at 10 kB/s in %v", took)
	}
}

func TestInfoWithoutSHA1(t *testing.T) {
	s := start(t, Options{})
	session := mustPut(t, s, "filename=x.pcap", pcap(1, 60))
	s.SetFault(Fault{Name: "no-sha1"})
	if _, ok := do(t, s, "GET", "info/"+session.ID, nil).json(t)["sha1_hash"]; ok {
		t.Error("sha1_hash is there")
	}
}

func TestScopesOfFaults(t *testing.T) {
	s := start(t, Options{})
	s.AddFault(Fault{Name: "error", Filename: "bad", Skip: 1, Times: 2})
	s.AddFault(Fault{Name: "busy", Method: "info"})
	var got []int
	for _, name := range []string{"good", "bad1", "bad2", "good", "bad3", "bad4"} {
		got = append(got, put(t, s, "filename="+name, pcap(1, 60)).status)
	}
	for _, status := range []int{200, 200, 500, 200, 500, 200} {
		if got[0] != status {
			t.Fatalf("%v", got)
		}
		got = got[1:]
	}
	if r := do(t, s, "GET", "info/"+s.Sessions()[0].ID, nil); r.status != 503 {
		t.Errorf("%d", r.status)
	}
	if c := s.Counters(); c.Faults["error"] != 2 || c.Faults["busy"] != 1 || c.Stored != 4 || c.Requests["upload"] != 6 {
		t.Errorf("%+v", c)
	}
}

func TestAFilenameInTheFormIsInScopeToo(t *testing.T) {
	s := start(t, Options{})
	data := string(pcap(1, 60))
	s.SetFault(Fault{Name: "quota", Filename: "bad"})
	if r := post(t, s, "", field{"file", "bad.pcap", data}); r.status != 403 || len(s.Sessions()) != 0 {
		t.Errorf("%d %s", r.status, r.body)
	}
	s.SetFault(Fault{Name: "accept-drop", Filename: "bad"})
	if r := post(t, s, "", field{"file", "bad.pcap", data}); r.err == nil || len(s.Sessions()) != 1 {
		t.Errorf("%+v", r)
	}
	s.SetFault(Fault{Name: "truncated-json", Filename: "bad"})
	if r := post(t, s, "", field{"file", "bad.pcap", data}); bytes.HasSuffix(r.body, []byte("}")) || len(s.Sessions()) != 2 {
		t.Errorf("%+v", r)
	}
	if r := post(t, s, "", field{"file", "good.pcap", data}); r.status != 200 {
		t.Errorf("%+v", r)
	}
}

func TestParseFault(t *testing.T) {
	f, err := ParseFault("status:method=info,filename=a:b,skip=1,times=2,code=418,text=a, b,text=c,retry_after=5,bytes=7,delay=1s,to=http://x/,early=1,accept=true,rst=1")
	want := Fault{
		Name: "status", Method: "info", Filename: "a:b", Skip: 1, Times: 2, Status: 418, Exceptions: []string{"a, b", "c"},
		RetryAfter: "5", Bytes: 7, Delay: time.Second, Location: "http://x/", Early: true, Accept: true, Reset: true,
	}
	if err != nil || !faultEqual(f, want) {
		t.Errorf("%+v %v", f, err)
	}
	for _, text := range []string{"", "nope", "busy:nope=1", "busy:times=x", "busy:times=-1", "busy:code=99", "busy:times", "slow:delay=-1s", "busy:early=maybe", "busy:method=uplaod"} {
		if _, err := ParseFault(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
	if len(FaultNames()) < 23 {
		t.Errorf("%v", FaultNames())
	}
	for _, n := range FaultNames() {
		if _, err := ParseFault(n.Name); err != nil || n.Meaning == "" {
			t.Errorf("%v: %v", n, err)
		}
	}
}

func faultEqual(a, b Fault) bool {
	if strings.Join(a.Exceptions, "|") != strings.Join(b.Exceptions, "|") {
		return false
	}
	a.Exceptions, b.Exceptions = nil, nil
	return a.Name == b.Name && a.Method == b.Method && a.Filename == b.Filename && a.Skip == b.Skip && a.Times == b.Times &&
		a.Status == b.Status && a.RetryAfter == b.RetryAfter && a.Bytes == b.Bytes && a.Delay == b.Delay &&
		a.Location == b.Location && a.Early == b.Early && a.Accept == b.Accept && a.Reset == b.Reset
}

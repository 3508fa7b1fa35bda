package threatconnecttest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

const hosts = "/api/v3/indicators?tql=typeName%20%3D%20%22Host%22"

func set1(t *testing.T, s *Server, text string) Fault {
	t.Helper()
	f, err := ParseFault(text)
	if err != nil {
		t.Fatal(err)
	}
	s.SetFault(f)
	return f
}

func TestFaultsThatAnswerOtherwise(t *testing.T) {
	for text, want := range map[string]struct {
		status   int
		contains string
		header   string
	}{
		"status":                            {500, `{"errCode":"0x1007","message":"An unknown error occurred","status":"Error"}`, ""},
		"status:code=404,text=No, not here": {404, `{"errCode":"0x1004","message":"No, not here","status":"Error"}`, ""},
		"unauthorized":                      {401, `"errCode":"0x1002"`, ""},
		"forbidden":                         {403, `"errCode":"0x1003"`, ""},
		"unlicensed":                        {503, "has not been licensed", ""},
		"retryafter":                        {429, "Too Many", "Retry-After: 1"},
		"retryafter:code=503,retry_after=Wed, 21 Oct 2099 07:28:00 GMT": {503, "Too Many", "Retry-After: Wed, 21 Oct 2099 07:28:00 GMT"},
		"html":            {200, "<!DOCTYPE html>", "Content-Type: text/html; charset=utf-8"},
		"html:code=502":   {502, "<!DOCTYPE html>", ""},
		"text":            {500, "Could not find resource", "Content-Type: text/plain"},
		"redirect":        {302, "redirected", "Location: https://elsewhere.invalid/api/v3/indicators?tql="},
		"echo":            {500, "Authorization was TC ", ""},
		"skew":            {401, "0x1002", ""},
		"skew:by=-10m":    {401, "0x1002", ""},
		"skew:by=1m":      {200, "Success", ""},
		"slow:delay=1ms":  {200, "Success", ""},
		"lying":           {200, "nobody-asked.example", ""},
		"wild":            {200, "javascript:", ""},
		"loop":            {200, `resultStart=100`, ""},
		"nextelsewhere":   {200, `"next":"https://elsewhere.invalid/api/v3/`, ""},
		"dribble:delay=0": {200, "Success", ""},
	} {
		t.Run(text, func(t *testing.T) {
			s := start(t, Options{})
			if strings.HasPrefix(text, "dribble") {
				text = "dribble:delay=1us"
			}
			f := set1(t, s, text)
			r := get(t, s, hosts)
			head := ""
			for k, v := range r.header {
				head += k + ": " + v[0] + "\n"
			}
			if r.err != nil || r.status != want.status || !strings.Contains(r.body, want.contains) || !strings.Contains(head, want.header) {
				t.Errorf("%d %s %s %v", r.status, head, r.body[:min(len(r.body), 500)], r.err)
			}
			if req := s.Requests()[0]; req.Fault != f.Name || req.Status != want.status {
				t.Errorf("%+v", req)
			}
			s.ClearFaults()
			if got := look(t, s, `typeName = "Host"`); len(got) != 1 {
				t.Errorf("%q", got)
			}
		})
	}
}

func TestFaultsThatEndTheConnection(t *testing.T) {
	s := start(t, Options{})
	reset := error(syscall.ECONNRESET)
	if runtime.GOOS == "windows" {
		reset = syscall.Errno(10054) // WSAECONNRESET
	}
	for text, want := range map[string]error{"reset": reset, "drop": io.EOF, "drop:rst=true": reset} {
		set1(t, s, text)
		if r := get(t, s, hosts); !errors.Is(r.err, want) {
			t.Errorf("%s: %v", text, r.err)
		}
	}
	set1(t, s, "badjson")
	if r := get(t, s, hosts); r.status != 200 || json.Valid([]byte(r.body)) {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestLoopHasNoEnd(t *testing.T) {
	s := start(t, Options{})
	set1(t, s, "loop")
	target, seen := hosts+"&resultLimit=1", map[string]bool{}
	for range 20 {
		r := get(t, s, target)
		next, _ := r.json(t)["next"].(string)
		if seen[next] || len(names(t, r)) != 1 {
			t.Fatalf("%s", r.body)
		}
		seen[next] = true
		target = strings.TrimPrefix(next, s.URL)
	}
	for _, at := range []string{"0", "5", "5000"} {
		if r := get(t, s, "/api/v2/indicators/addresses?resultLimit=1&resultStart="+at); !strings.Contains(r.body, "198.51.100.23") {
			t.Errorf("%s", r.body)
		}
	}
}

func TestHangLastsUntilTheClientLeaves(t *testing.T) {
	s := start(t, Options{})
	set1(t, s, "hang")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan reply)
	go func() { done <- get(t, s, hosts, func(r *http.Request) { *r = *r.WithContext(ctx) }) }()
	waitFor(t, func() bool { return s.Counters().Faults["hang"] == 1 })
	select {
	case r := <-done:
		t.Fatalf("answered %+v", r)
	default:
	}
	cancel()
	if r := <-done; !errors.Is(r.err, context.Canceled) {
		t.Errorf("%v", r.err)
	}
	waitFor(t, func() bool { return s.Requests()[0].Done })
}

func TestCloseReleasesWhatHangs(t *testing.T) {
	for _, text := range []string{"hang", "slow:delay=1h", "dribble:delay=1h"} {
		server := Start(t, Options{})
		set1(t, server, text)
		done := make(chan reply)
		go func() { done <- get(t, server, hosts) }()
		waitFor(t, func() bool { return len(server.Counters().Faults) == 1 })
		began := time.Now()
		if err := server.Close(); err != nil || time.Since(began) > 5*time.Second {
			t.Errorf("%s: %v after %v", text, err, time.Since(began))
		}
		if r := <-done; r.err == nil {
			t.Errorf("%s: %+v", text, r)
		}
	}
}

func TestHugeReply(t *testing.T) {
	s := start(t, Options{})
	set1(t, s, "huge")
	r := get(t, s, hosts)
	if r.status != 200 || len(r.body) != 100_000_000 || !json.Valid([]byte(r.body)) {
		t.Errorf("%d, %d bytes, %v", r.status, len(r.body), r.err)
	}
}

func TestFaultsLimited(t *testing.T) {
	s := start(t, Options{})
	statuses := func(targets ...string) (out []int) {
		for _, target := range targets {
			out = append(out, get(t, s, target).status)
		}
		return out
	}
	set1(t, s, "status:skip=1,times=2,endpoint=v3.indicators")
	got := statuses(hosts, "/api/v3/security/owners", hosts, hosts, hosts)
	for i, want := range []int{200, 200, 500, 500, 200} {
		if got[i] != want {
			t.Fatalf("%v", got)
		}
	}
	set1(t, s, "status:match=evil")
	s.AddFault(Fault{Name: "html", Endpoint: "v3.owners", Status: 502})
	if got := statuses(hosts, "/api/v3/indicators/evil.example.com", "/api/v3/security/owners"); got[0] != 200 || got[1] != 500 || got[2] != 502 {
		t.Errorf("%v", got)
	}
	if c := s.Counters(); c.Faults["status"] != 3 || c.Faults["html"] != 1 || c.Requests["v3.indicators"] != 5 {
		t.Errorf("%+v", c)
	}
}

func TestFaultText(t *testing.T) {
	for _, text := range []string{"", "nonsense", "hang:colour=red", "hang:times=-1", "status:code=99", "slow:delay=-1s", "hang:endpoint=v9", "drop:rst=perhaps", "skew:by=long", "hang:text"} {
		if f, err := ParseFault(text); err == nil {
			t.Errorf("%s: %+v", text, f)
		}
	}
	for _, n := range FaultNames() {
		if f, err := ParseFault(n.Name); err != nil || f.Name != n.Name || n.Meaning == "" {
			t.Errorf("%+v %v", n, err)
		}
	}
	if f, err := ParseFault("huge:bytes=5,skip=1,times=2,match=a=b,to=https://x:1/"); err != nil || f != (Fault{Name: "huge", Bytes: 5, Skip: 1, Times: 2, Match: "a=b", To: "https://x:1/"}) {
		t.Errorf("%+v %v", f, err)
	}
}

package standin_test

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

	"capagent/internal/secret"
	"capagent/internal/standin"
)

const word = "hunter2-hunter2"

func start(t *testing.T) *standin.Server {
	t.Helper()
	var s *standin.Server
	s = standin.New(standin.Options{
		Name: "Example", Prefixes: []string{"/api/"}, MaxBody: 1000, Secrets: []secret.Secret{secret.New(word)},
		Kinds: []standin.Kind{{Name: "odd", Meaning: "an odd answer"}},
		API: func(c *standin.Call) {
			s.Count("calls")
			if c.Is("odd") {
				c.JSON(http.StatusOK, "odd")
				return
			}
			c.JSON(http.StatusOK, map[string]string{"body": string(c.Body), "at": c.Now().UTC().Format(time.RFC3339)})
		},
		Failure: func(status int, text string) (string, []byte) {
			data, _ := json.Marshal(map[string]any{"message": text, "status": status})
			return "application/json", data
		},
		Page: func() []standin.Section {
			return []standin.Section{{Title: "Things", Head: []string{"Name"}, Rows: [][]string{{"<b>\x1b[31m" + word}, {"https://example.com/"}}}, {Title: "Others", Empty: "None."}}
		},
	})
	s.Start(t)
	return s
}

type reply struct {
	status int
	header http.Header
	body   string
	err    error
}

func do(ctx context.Context, method, url, body string) reply {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return reply{err: err}
	}
	req.Header.Set("Authorization", "Bearer "+word)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return reply{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(data), err}
}

func TestRequestsAreRecordedWithoutSecrets(t *testing.T) {
	s := start(t)
	if r := do(t.Context(), "POST", s.URL+"/api/x?a=%2F&key="+word, "with "+word); r.status != 200 || !strings.Contains(r.body, word) {
		t.Fatalf("%+v", r)
	}
	got := s.Requests()
	if len(got) != 1 || got[0].Target != "/api/x?a=%2F&key=***" || string(got[0].Body) != "with ***" || got[0].Header.Get("Authorization") != "***" || got[0].Status != 200 || !got[0].Done {
		t.Errorf("%+v", got)
	}
	if r := do(t.Context(), "POST", s.URL+"/api/x", strings.Repeat("x", 1001)); r.status != 413 || !strings.Contains(r.body, `"status":413`) {
		t.Errorf("%+v", r)
	}
	if s.Counted("requests") != 2 || s.Counted("calls") != 1 {
		t.Errorf("%d requests, %d calls", s.Counted("requests"), s.Counted("calls"))
	}
	s.Forget()
	if len(s.Requests()) != 0 || s.Counted("requests") != 0 {
		t.Error("it remembers")
	}
}

func TestABodyMayBeStreamed(t *testing.T) {
	var n int64
	s := standin.New(standin.Options{
		Name: "Example", Prefixes: []string{"/api/"}, Streams: []string{"/api/big/"}, MaxBody: 1000,
		API: func(c *standin.Call) {
			n, _ = io.Copy(io.Discard, c.R.Body)
			c.JSON(http.StatusOK, len(c.Body))
		},
	})
	s.Start(t)
	if r := do(t.Context(), "PUT", s.URL+"/api/big/x", strings.Repeat("x", 5000)); r.status != 200 || r.body != "0" || n != 5000 {
		t.Errorf("%+v, %d bytes", r, n)
	}
	if r := s.Requests()[0]; len(r.Body) != 0 {
		t.Errorf("%d bytes are kept", len(r.Body))
	}
}

func TestFaults(t *testing.T) {
	for text, want := range map[string]struct {
		status   int
		contains string
		header   string
	}{
		"status:code=404,text=No, not here": {404, `{"message":"No, not here","status":404}`, ""},
		"unauthorized":                      {401, "Unauthorized", ""},
		"forbidden":                         {403, "Forbidden", ""},
		"busy:retry_after=Wed, 21 Oct 2099 07:28 GMT": {429, "Too Many", "Retry-After: Wed, 21 Oct 2099 07:28 GMT"},
		"html:code=502":     {502, "<!DOCTYPE html>", "Content-Type: text/html"},
		"redirect":          {302, "redirected", "Location: https://elsewhere.invalid/api/x"},
		"echo":              {500, "Bearer " + word, ""},
		"skew:by=-48h":      {200, time.Now().UTC().Add(-48 * time.Hour).Format(time.DateOnly), ""},
		"slow:delay=1ms":    {200, "body", ""},
		"dribble:delay=1us": {200, "body", ""},
		"huge:bytes=70000":  {200, "AAAAAAAA", ""},
		"odd":               {200, `"odd"`, ""},
	} {
		t.Run(text, func(t *testing.T) {
			s := start(t)
			f, err := standin.ParseFault(text, []standin.Kind{{Name: "odd"}})
			if err != nil {
				t.Fatal(err)
			}
			s.SetFault(f)
			r := do(t.Context(), "GET", s.URL+"/api/x", "")
			head := ""
			for k, v := range r.header {
				head += k + ": " + v[0] + "\n"
			}
			if r.err != nil || r.status != want.status || !strings.Contains(r.body, want.contains) || !strings.Contains(head, want.header) {
				t.Errorf("%d %s %.300s %v", r.status, head, r.body, r.err)
			}
			if req := s.Requests()[0]; req.Fault != f.Name || s.Counted("fault:"+f.Name) != 1 {
				t.Errorf("%+v", req)
			}
			s.ClearFaults()
			if r := do(t.Context(), "GET", s.URL+"/api/x", ""); r.status != 200 {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestFaultsThatEndTheConnection(t *testing.T) {
	s := start(t)
	reset := error(syscall.ECONNRESET)
	if runtime.GOOS == "windows" {
		reset = syscall.Errno(10054) // WSAECONNRESET
	}
	for text, want := range map[string]error{"reset": reset, "drop": io.EOF, "drop:rst=true": reset} {
		f, err := standin.ParseFault(text, nil)
		if err != nil {
			t.Fatal(err)
		}
		s.SetFault(f)
		if r := do(t.Context(), "GET", s.URL+"/api/x", ""); !errors.Is(r.err, want) {
			t.Errorf("%s: %+v", text, r)
		}
	}
	if s.Counted("calls") != 2 {
		t.Errorf("%d calls: drop does what was asked", s.Counted("calls"))
	}
	s.SetFault(standin.Fault{Name: "badjson"})
	if r := do(t.Context(), "GET", s.URL+"/api/x", ""); r.status != 200 || json.Valid([]byte(r.body)) {
		t.Errorf("%+v", r)
	}
	s.SetFault(standin.Fault{Name: "hang"})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if r := do(ctx, "GET", s.URL+"/api/x", ""); !errors.Is(r.err, context.DeadlineExceeded) {
		t.Errorf("%+v", r)
	}
}

func TestFaultsAreLimited(t *testing.T) {
	s := start(t)
	s.SetFault(standin.Fault{Name: "status", Match: "GET /api/x", Skip: 1, Times: 2})
	s.AddFault(standin.Fault{Name: "html", Match: "evil", Status: 502})
	var got []int
	for _, target := range []string{"x", "x", "y", "x", "x"} {
		got = append(got, do(t.Context(), "GET", s.URL+"/api/"+target, "").status)
	}
	got = append(got, do(t.Context(), "POST", s.URL+"/api/x", "so evil").status)
	for i, want := range []int{200, 500, 200, 500, 200, 502} {
		if got[i] != want {
			t.Fatal(got)
		}
	}
	for _, text := range []string{"", "nonsense", "hang:colour=red", "hang:times=-1", "status:code=99", "slow:delay=-1s", "drop:rst=perhaps", "skew:by=long", "hang:text"} {
		if f, err := standin.ParseFault(text, nil); err == nil {
			t.Errorf("%s: %+v", text, f)
		}
	}
	for _, k := range standin.Kinds(nil) {
		if f, err := standin.ParseFault(k.Name, nil); err != nil || f.Name != k.Name || k.Meaning == "" {
			t.Errorf("%+v %v", k, err)
		}
	}
}

func TestThePageShowsWhatIsThere(t *testing.T) {
	s := start(t)
	do(t.Context(), "GET", s.URL+"/api/x", "")
	r := do(t.Context(), "GET", s.URL+"/", "")
	for _, want := range []string{"Example", "&lt;b&gt;·[31m***", `<a href="https://example.com/"`, "GET /api/x", "None.", "Others"} {
		if !strings.Contains(r.body, want) {
			t.Errorf("no %s in %s", want, r.body)
		}
	}
	if strings.Contains(r.body, word) || r.header.Get("Content-Security-Policy") == "" {
		t.Error("a secret, or no rules")
	}
	for target, want := range map[string]int{"/nothing": 404, "/style.css": 200} {
		if r := do(t.Context(), "GET", s.URL+target, ""); r.status != want {
			t.Errorf("%s: %d", target, r.status)
		}
	}
	if r := do(t.Context(), "POST", s.URL+"/", ""); r.status != 405 {
		t.Errorf("%+v", r)
	}
}

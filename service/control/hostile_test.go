package control_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"capagent/internal/ledger"
	"capagent/service"
	"capagent/service/control"
	"capagent/service/control/local"
)

// raw sends text to an agent and returns its answer.
func (r *running) raw(t *testing.T, text string) (*http.Response, control.Error) {
	t.Helper()
	conn := r.connect(t)
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("%.60q: %v", text, err)
	}
	defer resp.Body.Close()
	var e control.Error
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = json.Unmarshal(body, &e) // not every answer is one of ours
	return resp, e
}

func (r *running) connect(t *testing.T) net.Conn {
	t.Helper()
	e, err := local.Find(r.where)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := e.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestWhatNoCommandSendsIsRefused(t *testing.T) {
	each(t, 3, func(t *testing.T, r *running, c *control.Client) {
		r.status = func(context.Context) (control.Status, error) { return control.Status{}, nil }
		r.retry = func(context.Context, []int64, bool) (int, error) { return 0, nil }
		e, err := local.Find(r.where)
		if err != nil {
			t.Fatal(err)
		}
		host, auth := e.Host(), "Authorization: Bearer "+e.Token
		get := func(path string, headers ...string) string {
			return "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\n" + strings.Join(append(headers, auth), "\r\n") + "\r\n\r\n"
		}
		post := func(path, body string) string {
			return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\n%s\r\nContent-Length: %d\r\n\r\n%s", path, host, auth, len(body), body)
		}
		type try struct {
			what, text string
			status     int
		}
		tries := []try{
			{"what is right", get("/v1/status"), 200},
			{"a web page", get("/v1/status", "Origin: https://evil.example"), 403},
			{"a web page of no origin", get("/v1/status", "Origin: null"), 403},
			{"another path", get("/"), 404},
			{"a path to elsewhere", get("/v1/captures/%2e%2e%2fstatus"), 404},
			{"another method", get("/v1/retry"), 405},
			{"another method", post("/v1/status", ""), 405},
			{"a state that is none", get("/v1/captures?state=nonsense"), 400},
			{"a limit that is none", get("/v1/captures?limit=-1"), 400},
			{"a limit that is huge", get("/v1/captures?limit=99999999999999999999"), 400},
			{"an id that is none", get("/v1/captures?ids=1,x"), 400},
			{"a parameter that is none", get("/v1/captures?statte=done"), 400},
			{"two cases", get("/v1/captures?case=a&case=b"), 400},
			{"nothing", post("/v1/retry", ""), 200},
			{"no JSON", post("/v1/retry", "all"), 400},
			{"no object", post("/v1/retry", "[1]"), 400},
			{"two objects", post("/v1/retry", "{}{}"), 400},
			{"an unknown key", post("/v1/retry", `{"al":true}`), 400},
			{"no number", post("/v1/retry", `{"ids":["1"]}`), 400},
			{"both", post("/v1/retry", `{"ids":[1],"all":true}`), 400},
			{"too much", post("/v1/retry", strings.Repeat(" ", 1<<20)+"{"), 413},
			{"no HTTP", "hello\r\n\r\n", 400},
		}
		if e.Token != "" {
			tries = append(tries,
				try{"no token", "GET /v1/status HTTP/1.1\r\nHost: " + host + "\r\n\r\n", 401},
				try{"another token", "GET /v1/status HTTP/1.1\r\nHost: " + host + "\r\nAuthorization: Bearer " + strings.Repeat("0", 64) + "\r\n\r\n", 401},
				try{"a name that was made to point here", "GET /v1/status HTTP/1.1\r\nHost: evil.example\r\n" + auth + "\r\n\r\n", 403},
			)
		}
		for _, tc := range tries {
			resp, e := r.raw(t, tc.text)
			if resp.StatusCode != tc.status {
				t.Errorf("%s: status %d (%s), want %d", tc.what, resp.StatusCode, e.Text, tc.status)
			}
			if ours := tc.status != 200 && tc.what != "no HTTP"; ours && e.Text == "" {
				t.Errorf("%s: no error is told", tc.what)
			}
			if tc.status == 405 && resp.Header.Get("Allow") == "" {
				t.Errorf("%s: no Allow", tc.what)
			}
		}
		if _, err := c.Status(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestManyIdleCallersKeepOnlyNewOnesWaiting(t *testing.T) {
	each(t, 3, func(t *testing.T, r *running, c *control.Client) {
		r.status = func(context.Context) (control.Status, error) { return control.Status{}, nil }
		if _, err := c.Status(t.Context()); err != nil { // has its connection
			t.Fatal(err)
		}
		var idle []net.Conn
		for range 31 {
			idle = append(idle, r.connect(t))
		}
		late := r.dial(t)
		answered := make(chan error, 1)
		go func() {
			_, err := late.Status(t.Context())
			answered <- err
		}()
		for range 50 {
			if _, err := c.Status(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case err := <-answered:
			t.Fatalf("there were more connections than there may be: %v", err)
		default:
		}
		idle[7].Close()
		if err := <-answered; err != nil {
			t.Error(err)
		}
		for _, conn := range idle {
			conn.Close()
		}
	})
}

func TestAReaderWhoDoesNotReadKeepsNobodyWaiting(t *testing.T) {
	each(t, 2000, func(t *testing.T, r *running, c *control.Client) {
		r.status = func(context.Context) (control.Status, error) { return control.Status{}, nil }
		next, stop := iterPull(c.List(t.Context(), ledger.Filter{}))
		defer stop()
		if !next() {
			t.Fatal("no first line")
		}
		// The rest of 2,000 captures fits into no buffer: the answer stands still.
		other := r.dial(t)
		if _, err := other.Status(t.Context()); err != nil {
			t.Error(err)
		}
		fill(t, r.ledger, 1) // nor is the ledger kept from being written
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}

// pretend answers every caller with text, as no agent would.
func pretend(t *testing.T, text string) control.Where {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	where := control.Where{Socket: filepath.Join(dir, "s")}
	l, err := net.Listen("unix", where.Socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 4096)
			_, _ = conn.Read(buf)
			_, _ = io.WriteString(conn, text)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return where
}

func TestWhatNoAgentAnswersIsNotBelieved(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("sockets are not used here")
	}
	ok := func(body string) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	for what, text := range map[string]string{
		"nothing":              "",
		"no HTTP":              "SSH-2.0-OpenSSH_9.2\r\n",
		"a page":               ok("<html>"),
		"no object":            ok("[]"),
		"a cut object":         "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"id\":1",
		"a cut chunk":          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{\"id\":1}\n\r\n",
		"a redirect":           "HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n",
		"an error of HTML":     "HTTP/1.1 500 Oops\r\nContent-Length: 6\r\n\r\n<html>",
		"an end in the middle": ok("{\"captures\":{}}\n{\"id\":1}\n"),
		"bad base64":           ok(`{"id":1,"path_base64":"%%%"}`),
		"a number too big":     ok(`{"id":1e99}`),
		"endless headers":      "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20),
	} {
		where := pretend(t, text)
		c, err := control.Dial(t.Context(), where)
		if err != nil {
			t.Fatal(err)
		}
		if v, err := c.Show(t.Context(), "1"); err == nil || errors.Is(err, control.ErrNoAgent) {
			t.Errorf("%s: %+v, %v", what, v, err)
		} else if strings.ContainsAny(err.Error(), "\r\n\x1b") {
			t.Errorf("%s: %v", what, err)
		}
		if v, err := c.Verify(t.Context(), nil, func(service.VerifyEntry) {}); err == nil {
			t.Errorf("%s: %+v", what, v)
		}
		if all, err := collect(c.List(t.Context(), ledger.Filter{})); err == nil {
			t.Errorf("%s: %+v", what, all)
		}
		c.Close()
	}
}

// iterPull reads a list one by one.
func iterPull[T any](seq func(func(T, error) bool)) (next func() bool, stop func()) {
	more, stop := iter.Pull2(seq)
	return func() bool {
		_, err, ok := more()
		return ok && err == nil
	}, stop
}

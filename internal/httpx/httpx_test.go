package httpx

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"capagent/internal/failure"
	"capagent/internal/secret"

	"go.uber.org/goleak"
)

const canary = "0123456789abcdef0123456789ABCDEF"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func noProxy(*http.Request) (*url.URL, error) { return nil, nil }

// client has the canary as its secret and no proxy.
func client(t *testing.T, o Options) *Client {
	t.Helper()
	o.UserAgent, o.Table = "capagent/1.2.3", "cloudshark"
	o.PathSecret = secret.New(canary)
	c, err := newClient(o, noProxy)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func server(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func request(t *testing.T, method, base string, body io.Reader) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, base+"/api/v1/-/upload", body)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// fails checks class and kind and that the canary is nowhere in the chain.
func fails(t *testing.T, err error, class string, kind failure.Kind, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	f := failure.As(err)
	if f.Class != class || f.Kind != kind {
		t.Errorf("%v: class %q, kind %v; want %q, %v", err, f.Class, f.Kind, class, kind)
	}
	for _, text := range texts {
		if !strings.Contains(f.Error()+"\n"+f.Hint, text) {
			t.Errorf("%q (hint %q) does not say %q", f.Error(), f.Hint, text)
		}
	}
	noCanary(t, f.Hint)
	for e := err; e != nil; e = errors.Unwrap(e) {
		noCanary(t, fmt.Sprintf("%v %+v %#v", e, e, e))
	}
}

func noCanary(t *testing.T, s string) {
	t.Helper()
	for _, form := range []string{canary, base64.StdEncoding.EncodeToString([]byte(canary))} {
		if strings.Contains(strings.ToLower(s), strings.ToLower(form)) {
			t.Errorf("the secret is in %q", s)
		}
	}
}

func TestTheSecretIsOnTheWireAndNowhereElse(t *testing.T) {
	var path, agent, referer string
	s := server(t, func(_ http.ResponseWriter, r *http.Request) {
		path, agent, referer = r.URL.Path, r.UserAgent(), r.Referer()
	})
	req := request(t, "GET", s.URL, nil)
	reply, err := client(t, Options{}).Do(req)
	if err != nil || reply.Status != 200 || reply.Err != nil {
		t.Fatal(reply, err)
	}
	if path != "/api/v1/"+canary+"/upload" || agent != "capagent/1.2.3" || referer != "" {
		t.Errorf("the server saw %q %q %q", path, agent, referer)
	}
	noCanary(t, req.URL.String())

	if _, err = client(t, Options{}).Do(request(t, "GET", s.URL+"/-", nil)); err != nil {
		t.Error(err)
	}
	if want := "/-/api/v1/-/upload"; path == want {
		t.Error("no secret was put in")
	}
	req.URL.Path = "/elsewhere"
	_, err = client(t, Options{}).Do(req)
	fails(t, err, ClassBadURL, failure.Pause, "no place")
}

func TestRedirectsAreRefused(t *testing.T) {
	var arrived atomic.Int32
	target := server(t, func(http.ResponseWriter, *http.Request) { arrived.Add(1) })
	for _, status := range []int{300, 301, 302, 303, 304, 307, 308} {
		for _, location := range []string{
			target.URL + "/api/v1/" + canary + "/upload",
			"//" + canary + ".evil.example/x",
			"/login?back=" + canary,
			"http://[" + canary,
			"",
		} {
			s := server(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if location != "" {
					w.Header().Set("Location", location)
				}
				w.WriteHeader(status)
			})
			_, err := client(t, Options{}).Do(request(t, "PUT", s.URL, strings.NewReader("x")))
			want := ""
			if strings.HasPrefix(location, target.URL) {
				want = target.URL
			}
			fails(t, err, ClassRedirect, failure.Pause, want, "[cloudshark] url")
		}
	}
	if n := arrived.Load(); n != 0 {
		t.Errorf("%d requests arrived at the target", n)
	}
}

func TestAServerCannotMakeUsShowTheSecret(t *testing.T) {
	for name, answer := range map[string]string{
		"malformed status line": "HTP/1.1 " + canary + "\r\n\r\n",
		"malformed header":      "HTTP/1.1 200 OK\r\n" + canary + "\r\n\r\n",
		"malformed encoding":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: " + strings.ToLower(canary) + "\r\n\r\n",
		"control characters":    "HTP/1.1 \x1b[31m" + canary + "\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := client(t, Options{}).Do(request(t, "PUT", raw(t, answer), strings.NewReader("x")))
			fails(t, err, ClassNetwork, failure.Retry)
			if strings.Contains(err.Error(), "\x1b") {
				t.Errorf("%q can steer a terminal", err)
			}
		})
	}
	c := client(t, Options{})
	for _, echo := range []string{canary, strings.ToLower(canary), base64.StdEncoding.EncodeToString([]byte(canary)), base64.RawURLEncoding.EncodeToString([]byte(canary))} {
		if got := c.Scrub("say " + echo + " again"); got != "say *** again" {
			t.Errorf("Scrub left %q", got)
		}
	}
}

// raw is a server that reads a request's header and sends answer as it is.
func raw(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				_, _ = io.Copy(io.Discard, r.Body)
				_, _ = io.WriteString(c, answer)
			}
			_ = c.Close()
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return "http://" + l.Addr().String()
}

func TestPlainHTTPStaysOnThisMachine(t *testing.T) {
	var arrived atomic.Int32
	s := server(t, func(http.ResponseWriter, *http.Request) { arrived.Add(1) })
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	proxy := func(*http.Request) (*url.URL, error) { return url.Parse(s.URL) }
	c, err := newClient(Options{Table: "cloudshark", PathSecret: secret.New(canary)}, proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Do(request(t, "GET", "http://localhost:"+port, nil)); err != nil {
		t.Errorf("localhost: %v", err)
	}
	// 0.0.0.0 reaches this machine on Linux, but is not an address of it. The
	// others would be reached through the proxy if it were asked.
	// Windows is asked for a loopback address instead of 0.0.0.0.
	hosts := []string{"192.0.2.1", "[2001:db8::1]"}
	if runtime.GOOS != "windows" {
		hosts = append(hosts, "0.0.0.0")
	}
	for _, host := range hosts {
		_, err := c.Do(request(t, "GET", "http://"+host+":"+port, nil))
		fails(t, err, ClassBadURL, failure.Pause, "allow_http", "not this machine")
	}
	if n := arrived.Load(); n != 1 {
		t.Errorf("%d requests arrived, want 1", n)
	}
	allowed, err := newClient(Options{AllowHTTP: true}, proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer allowed.Close()
	if _, err := allowed.Do(request(t, "GET", "http://192.0.2.1:"+port, nil)); err != nil || arrived.Load() != 2 {
		t.Errorf("with AllowHTTP: %v", err)
	}
}

func TestOtherProtocolsAndUserInfoAreRefused(t *testing.T) {
	for _, base := range []string{"ftp://localhost", "http://user:pw@localhost"} {
		_, err := client(t, Options{}).Do(request(t, "GET", base, nil))
		fails(t, err, ClassBadURL, failure.Pause)
		if strings.Contains(err.Error(), "pw") {
			t.Errorf("%v shows a password", err)
		}
	}
}

func TestSilenceEndsARequestAndMovementDoesNot(t *testing.T) {
	const idle = 150 * time.Millisecond
	release := make(chan struct{})
	t.Run("the server never answers", func(t *testing.T) {
		s := server(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-release
		})
		defer close(release)
		_, err := client(t, Options{IdleTimeout: idle}).Do(request(t, "PUT", s.URL, strings.NewReader("x")))
		fails(t, err, ClassNetwork, failure.Retry, "no byte moved", "[cloudshark] timeout")
	})
	t.Run("the server stops reading", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		_, err = client(t, Options{IdleTimeout: idle}).Do(request(t, "PUT", "http://"+l.Addr().String(), endless{}))
		fails(t, err, ClassNetwork, failure.Retry, "no byte moved")
	})
	t.Run("the reply trickles for ever", func(t *testing.T) {
		s := server(t, func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, " ")
				_ = http.NewResponseController(w).Flush()
				select {
				case <-r.Context().Done():
				case <-time.After(idle / 10):
				}
			}
		})
		reply, err := client(t, Options{IdleTimeout: idle}).Do(request(t, "GET", s.URL, nil))
		if err != nil {
			t.Fatal(err)
		}
		fails(t, reply.Err, ClassNetwork, failure.Retry, "did not end")
	})
	t.Run("a slow body is not silence", func(t *testing.T) {
		s := server(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
		slow := &trickle{every: idle / 3, left: 9}
		if _, err := client(t, Options{IdleTimeout: idle}).Do(request(t, "PUT", s.URL, slow)); err != nil {
			t.Error(err)
		}
	})
	t.Run("a server that was sent much has longer to think", func(t *testing.T) {
		s := server(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			select {
			case <-r.Context().Done():
			case <-time.After(3 * idle):
			}
		})
		for size, enough := range map[int64]bool{thinkRate: true, thinkRate - 1: false} {
			body := strings.NewReader(strings.Repeat("x", int(size)))
			_, err := client(t, Options{IdleTimeout: idle}).Do(request(t, "PUT", s.URL, body))
			if (err == nil) != enough {
				t.Errorf("%d bytes: %v", size, err)
			}
		}
	})
	t.Run("nor after the server asked for it", func(t *testing.T) {
		s := server(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
		req := request(t, "PUT", s.URL, &trickle{every: idle / 3, left: 9})
		req.Header.Set("Expect", "100-continue")
		if _, err := client(t, Options{IdleTimeout: idle}).Do(req); err != nil {
			t.Error(err)
		}
	})
	t.Run("the reply's header trickles for ever", func(t *testing.T) {
		s := server(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer c.Close()
			for _, err = io.WriteString(c, "HTTP/1.1 200 OK\r\nX: "); err == nil; _, err = io.WriteString(c, "x") {
				<-time.After(idle / 10)
			}
		})
		req := request(t, "PUT", s.URL, strings.NewReader("x"))
		req.Header.Set("Expect", "100-continue")
		_, err := client(t, Options{IdleTimeout: idle}).Do(req)
		fails(t, err, ClassNetwork, failure.Retry, "did not end")
	})
	t.Run("waiting for bandwidth is not silence", func(t *testing.T) {
		s := server(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
		c := client(t, Options{IdleTimeout: idle, Bandwidth: 40 << 10})
		var wg sync.WaitGroup
		for range 4 { // each waits for the pieces of the three others
			req := request(t, "PUT", s.URL, bytes.NewReader(make([]byte, 10<<10)))
			wg.Go(func() {
				if _, err := c.Do(req); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

type trickle struct {
	every time.Duration
	left  int
}

func (t *trickle) Read(p []byte) (int, error) {
	if t.left == 0 {
		return 0, io.EOF
	}
	t.left--
	<-time.After(t.every)
	p[0] = 'x'
	return 1, nil
}

func TestRepliesAreBounded(t *testing.T) {
	s := server(t, func(w http.ResponseWriter, _ *http.Request) {
		chunk := make([]byte, 1<<20)
		for range 100 {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	reply, err := client(t, Options{}).Do(request(t, "GET", s.URL, nil))
	if err != nil {
		t.Fatal(err)
	}
	fails(t, reply.Err, ClassNetwork, failure.Retry, "longer")
	if len(reply.Body) != MaxReply {
		t.Errorf("%d bytes were kept", len(reply.Body))
	}
	reply, err = client(t, Options{}).Do(request(t, "GET", raw(t, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"), nil))
	if err != nil {
		t.Fatal(err)
	}
	fails(t, reply.Err, ClassNetwork, failure.Retry, "without a whole answer")
	_, err = client(t, Options{}).Do(request(t, "GET", raw(t, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 1<<20)), nil))
	fails(t, err, ClassNetwork, failure.Retry)
}

func TestABodyIsNeverSentTwice(t *testing.T) {
	var puts atomic.Int32
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "GET" {
			return
		}
		puts.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		c, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = c.Close()
		}
	})
	c := client(t, Options{})
	for _, method := range []string{"PUT", "POST"} {
		// The first request leaves a connection that the second one uses again:
		// that is where net/http would repeat by itself.
		if _, err := c.Do(request(t, "GET", s.URL, nil)); err != nil {
			t.Fatal(err)
		}
		req := request(t, method, s.URL, strings.NewReader("capture"))
		req.Header.Set("Idempotency-Key", "1")
		before := puts.Load()
		_, err := c.Do(req)
		fails(t, err, ClassNetwork, failure.Retry)
		if n := puts.Load() - before; n != 1 {
			t.Errorf("%s arrived %d times", method, n)
		}
	}
}

// What is signed for a single use is spent when it arrives, also without a body. The
// second of two requests meets the end of a connection that was used before.
func TestARequestWithAConnectionOfItsOwnIsNeverSentTwice(t *testing.T) {
	for _, once := range []bool{true, false} {
		var lost atomic.Int32
		s := server(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Lose") == "" {
				return
			}
			lost.Add(1)
			if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_ = c.Close()
			}
		})
		c := client(t, Options{Once: once})
		if _, err := c.Do(request(t, "GET", s.URL, nil)); err != nil {
			t.Fatal(err)
		}
		req := request(t, "GET", s.URL, nil)
		req.Header.Set("X-Lose", "1")
		_, err := c.Do(req)
		fails(t, err, ClassNetwork, failure.Retry)
		if n := lost.Load(); (n == 1) != once {
			t.Errorf("with a connection of its own %v: it arrived %d times", once, n)
		}
	}
}

func TestTheBodyIsDoneWithWhenDoReturns(t *testing.T) {
	early := server(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(413) })
	b := &watched{Reader: endless{}}
	_, _ = client(t, Options{}).Do(request(t, "PUT", early.URL, b))
	if !b.closed.Load() {
		t.Error("the body is open")
	}
	reads := b.reads.Load()
	if <-time.After(20 * time.Millisecond); b.reads.Load() != reads {
		t.Error("somebody still reads the body")
	}
}

type watched struct {
	io.Reader
	reads  atomic.Int64
	closed atomic.Bool
}

func (w *watched) Read(p []byte) (int, error) { w.reads.Add(1); return w.Reader.Read(p) }

// Close takes its time, as one of a file on a network does.
func (w *watched) Close() error {
	<-time.After(50 * time.Millisecond)
	w.closed.Store(true)
	return nil
}

func TestAnErrorOfTheBodyComesBackAsItIs(t *testing.T) {
	s := server(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	own := &failure.Error{Kind: failure.Permanent, Class: "changed", Err: errors.New("changed")}
	_, err := client(t, Options{}).Do(request(t, "PUT", s.URL, io.MultiReader(strings.NewReader("x"), broken{own})))
	if !errors.Is(err, own) {
		t.Errorf("got %v", err)
	}
	// Also when the server answers before it has everything.
	hasty := server(t, func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.WriteString(w, "{}")
	})
	req := request(t, "PUT", hasty.URL, io.MultiReader(&trickle{every: 50 * time.Millisecond, left: 2}, broken{own}))
	if reply, err := client(t, Options{}).Do(req); err == nil && reply.Err == nil {
		t.Error("a reply to half a body counts as whole")
	}
}

type broken struct{ err error }

func (b broken) Read([]byte) (int, error) { return 0, b.err }

func TestCancelling(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := server(t, func(http.ResponseWriter, *http.Request) { close(entered); <-release })
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	_, err := client(t, Options{}).Do(request(t, "GET", s.URL, nil).WithContext(ctx))
	fails(t, err, ClassCanceled, failure.Retry)
	if !errors.Is(err, context.Canceled) {
		t.Error("the cause is lost")
	}
}

func TestBandwidthIsSharedByAllRequests(t *testing.T) {
	s := server(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	const rate = 200 << 10
	c := client(t, Options{Bandwidth: rate})
	began := time.Now()
	var wg sync.WaitGroup
	for range 2 {
		req := request(t, "PUT", s.URL, bytes.NewReader(make([]byte, 64<<10)))
		wg.Go(func() {
			if _, err := c.Do(req); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	// 128 KiB at 200 KiB/s, of which an eighth of a second is free.
	if least, took := 500*time.Millisecond, time.Since(began); took < least {
		t.Errorf("took %s, at least %s was due", took, least)
	}
}

func TestMaxConnsBoundsParallelRequests(t *testing.T) {
	var current, most atomic.Int32
	s := server(t, func(http.ResponseWriter, *http.Request) {
		n := current.Add(1)
		defer current.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-time.After(10 * time.Millisecond)
	})
	c := client(t, Options{MaxConns: 2, IdleTimeout: 100 * time.Millisecond})
	var wg sync.WaitGroup
	for range 30 { // some wait longer than the idle timeout for their turn
		req := request(t, "GET", s.URL, nil)
		wg.Go(func() {
			if _, err := c.Do(req); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if most.Load() > 2 {
		t.Errorf("%d at a time", most.Load())
	}
}

func TestNetworkErrorsSayWhich(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + l.Addr().String()
	_ = l.Close()
	for _, test := range []struct{ name, url, text string }{
		{"nobody listens", closed, "connect to " + l.Addr().String() + ": " + refused[0].Error()},
		{"no such host", "https://nowhere.invalid", `look up "nowhere.invalid"`},
		{"closed without a reply", raw(t, ""), "closed the connection without a whole answer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := client(t, Options{}).Do(request(t, "PUT", test.url, strings.NewReader("x")))
			fails(t, err, ClassNetwork, failure.Retry, test.text)
			if failure.As(err).Hint == "" {
				t.Error("no hint")
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                              0,
		"0":                             0,
		"17":                            17 * time.Second,
		" 17 ":                          17 * time.Second,
		"3600":                          time.Hour,
		"3601":                          time.Hour,
		"1000000000":                    time.Hour,
		"99999999999999999999999999999": time.Hour,
		"-5":                            0,
		"1e9":                           0,
		"soon":                          0,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute,
		"Fri, 02 Jan 2026 03:03:05 GMT": 0,
		"Fri, 02 Jan 2099 03:03:05 GMT": time.Hour,
	} {
		if got := RetryAfter(http.Header{"Retry-After": {value}}, at); got != want {
			t.Errorf("RetryAfter(%q) = %s, want %s", value, got, want)
		}
	}
}

// quiet is a body of unknown length that has some bytes, and then waits.
type quiet struct {
	some   string
	closed chan struct{}
	once   sync.Once
}

func (q *quiet) Read(p []byte) (int, error) {
	if n := copy(p, q.some); n > 0 {
		q.some = q.some[n:]
		return n, nil
	}
	<-q.closed
	return 0, errors.New("it was closed")
}

func (q *quiet) Close() error {
	q.once.Do(func() { close(q.closed) })
	return nil
}

// While a body of unknown length waits for more, the server can end the request in
// every way.
func TestABodyThatWaits(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"the connection is cut": func(w http.ResponseWriter, r *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_ = c.(*net.TCPConn).SetLinger(0)
			c.Close()
		},
		"an early answer": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Connection", "close") // or it would wait for the rest first
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := server(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.ReadFull(r.Body, make([]byte, 5))
				time.Sleep(300 * time.Millisecond) // longer than anybody may be silent
				answer(w, r)
			})
			q := &quiet{some: "hello", closed: make(chan struct{})}
			reply, err := client(t, Options{IdleTimeout: 100 * time.Millisecond}).Do(request(t, "PUT", s.URL, q))
			if name != "an early answer" {
				fails(t, err, ClassNetwork, failure.Retry)
			} else if err != nil || reply.Status != http.StatusRequestEntityTooLarge || reply.Err == nil {
				t.Errorf("%+v, %v", reply, err)
			}
			select {
			case <-q.closed:
			default:
				t.Error("the body is still open")
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	s := server(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadFull(r.Body, make([]byte, 5))
		cancel()
		_, _ = io.Copy(io.Discard, r.Body)
	})
	_, err := client(t, Options{}).Do(request(t, "PUT", s.URL, &quiet{some: "hello", closed: make(chan struct{})}).WithContext(ctx))
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestTheSecretGoesIntoAHeaderWhereItIsWanted(t *testing.T) {
	got := make(chan string, 1)
	s := server(t, func(_ http.ResponseWriter, r *http.Request) { got <- r.URL.Path + " " + r.Header.Get("Authorization") })
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/api/v2/deep_search/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", Placeholder)
	if _, err := client(t, Options{}).Do(req); err != nil {
		t.Fatal(err)
	}
	if line := <-got; line != "/api/v2/deep_search/ "+canary {
		t.Error(line)
	}
	if req.Header.Get("Authorization") != Placeholder {
		t.Error("the caller's request has the secret")
	}
}

// Package standin is what stand-ins of services have in common, in the style of
// httptest: a listener on loopback, a record of requests, faults by name, and a page
// for people. A stand-in of one service adds its API: a function that answers a Call.
//
// Stand-ins are for tests and demonstrations on one machine: what they know is
// visible on their page without a login, and nothing is kept on the disk. Secrets
// that Options name never appear on a page, in the log, or in what Requests returns.
package standin

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"io"
	stdlog "log"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"capagent/internal/secret"
)

// Options set a Server up.
type Options struct {
	Name string // of the service: "CloudTrax"
	// API answers the requests below Prefixes, all others are for the page.
	API      func(*Call)
	Prefixes []string
	// Streams are those of Prefixes whose bodies the API reads itself, from Call.R:
	// they may be larger than MaxBody, and are not kept.
	Streams []string
	// Failure is the service's own form of a failure, for faults: its Content-Type
	// and body.
	Failure func(status int, text string) (kind string, body []byte)
	// Page is what the page shows; nil: the requests alone.
	Page func() []Section
	// Kinds are faults that only this service has. The API looks at Call.Fault.
	Kinds []Kind

	Secrets []secret.Secret
	// LoopbackNames answers the page only under a loopback name in the Host header,
	// which keeps other sites from reading it by DNS rebinding.
	LoopbackNames bool
	KeepRequests  int // how many requests are kept; 0: 10,000
	MaxBody       int64
	BaseURL       string // what links begin with; Start sets it
	Log           zerolog.Logger
	Now           func() time.Time // nil: time.Now
}

// Request is one that came, as it is kept.
type Request struct {
	At       time.Time
	Method   string
	Target   string // the request line's, as it came
	Header   http.Header
	Body     []byte
	Status   int    // 0 when it was not answered
	Fault    string // that was at work
	Done     bool
	Finished time.Time
}

// Server answers requests. Its methods may be called at any time from any goroutine.
type Server struct {
	// URL is where Start listens, without a final slash; "" for New.
	URL string

	opts   Options
	redact *secret.Redactor
	kinds  map[string]kind
	http   *http.Server // of Start
	served chan struct{}
	conns  sync.WaitGroup

	ctx  context.Context // ends with Close: releases requests that hang
	stop context.CancelFunc

	mu       sync.Mutex
	faults   []*armed
	requests []*Request
	counts   map[string]int
}

// New returns a server that does not listen: its Handler does what it is asked.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.KeepRequests == 0 {
		o.KeepRequests = 10_000
	}
	if o.MaxBody == 0 {
		o.MaxBody = 1 << 20
	}
	s := &Server{opts: o, redact: secret.NewRedactor(o.Secrets...), kinds: kinds(o.Kinds), counts: map[string]int{}}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// TB is the part of testing.TB that Start needs. The package does not import testing
// because the sandbox is part of the shipped program.
type TB interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Start has the server listen on a free port of 127.0.0.1 until the test ends.
func (s *Server) Start(t TB) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(s.ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("start stand-in: %v", err)
	}
	s.URL = "http://" + l.Addr().String()
	if s.opts.BaseURL == "" {
		s.opts.BaseURL = s.URL
	}
	s.http = NewHTTPServer(s.Handler())
	// Goroutines of connections may outlive http.Server.Close by half a second.
	s.http.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			s.conns.Add(1)
		case http.StateClosed, http.StateHijacked:
			s.conns.Done()
		}
	}
	s.served = make(chan struct{})
	go func() {
		defer close(s.served)
		_ = s.http.Serve(l)
	}()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close stand-in: %v", err)
		}
	})
}

// NewHTTPServer returns the http.Server that fits a stand-in: a limit on how long a
// header takes, and no log of its own, which would hold the client's text.
func NewHTTPServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, ErrorLog: stdlog.New(io.Discard, "", 0)}
}

// Close ends every request that hangs, and Start's listener. An http.Server made from
// Handler is the caller's to shut down, after Close.
func (s *Server) Close() error {
	s.stop()
	if s.http == nil {
		return nil
	}
	err := s.http.Close()
	<-s.served
	s.conns.Wait()
	return err
}

// BaseURL is what links begin with.
func (s *Server) BaseURL() string { return s.opts.BaseURL }

// Now is the service's clock, which a fault may put wrong.
func (c *Call) Now() time.Time {
	now := c.s.opts.Now()
	if c.Is("skew") {
		now = now.Add(c.Fault.By)
	}
	return now
}

// Requests returns those that came, the oldest first, as far as they are kept.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Request, 0, len(s.requests))
	for _, r := range s.requests {
		one := *r
		one.Header = maps.Clone(r.Header)
		out = append(out, one)
	}
	return out
}

// Forget drops the record of requests and the counts.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests, s.counts = nil, map[string]int{}
}

// Count counts what the API wants counted: "replay", "forbidden".
func (s *Server) Count(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[what]++
}

// Counted returns how often a thing was counted. A fault that was at work is counted
// as "fault:" and its name.
func (s *Server) Counted(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[what]
}

// begin records that a request came.
func (s *Server) begin(r *Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if extra := len(s.requests) - s.opts.KeepRequests + 1; extra > 0 {
		s.requests = slices.Delete(s.requests, 0, extra)
	}
	s.requests = append(s.requests, r)
	s.counts["requests"]++
}

// Random returns so many random bytes in hexadecimal, for keys.
func Random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand's own promise
	return hex.EncodeToString(b)
}

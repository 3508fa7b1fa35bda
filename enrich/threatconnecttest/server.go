// Package threatconnecttest is a stand-in for ThreatConnect's API v2 and v3 in the
// style of httptest: it keeps state, is as strict as the contract allows, and
// misbehaves on request. Tests start one with Start; a sandbox serves New's
// Handler, which has a small web page beside the API.
//
// What it does is contracts/threatconnect.md. It answers lookups (v3 by TQL and
// one by one, v2 one by one, by list and in bulk), owners, exclusion lists, and
// takes observations, false positives, and incidents. It does not make, change or
// delete indicators over the API; Add does that. Where the contract says that a
// fact is unknown, it does the thing a client must be ready for: values match in
// their canonical form and letter case only, and types are as loose as anybody
// has seen them, see Options.Tidy.
//
// It is for tests and demonstrations on one machine: everything is visible on its
// page without a login, and nothing is kept on the disk. Secrets and signatures
// never appear on a page, in the log, or in what Requests returns.
package threatconnecttest

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// Token is an API token (contracts/threatconnect.md 1.2).
type Token struct {
	Value   string
	Expires time.Time // zero: never
}

// Options sets a Server up. The zero value works: one random key that may do
// everything, no token, one organization, loose types.
type Options struct {
	AccessID  string // "": 20 random digits
	SecretKey string // "": random
	Tokens    []Token
	// Organization is the API user's own; v2 and lookups by summary search it
	// alone unless they name an owner. "": "Demo Organization".
	Organization string
	ReadOnly     bool // the API user may not write

	// AtRoot serves /v2 and /v3 as the legacy host does, instead of /api/v2 and /api/v3.
	AtRoot bool
	NoV3   bool // an old instance: v3 answers as paths that do not exist
	NoBody bool // queries in the body of a GET are dropped, as a proxy does
	// Tidy gives types as documented. Without it ids are above 2^53 and sometimes
	// strings, dates come in every form seen, and links may start with "null/".
	Tidy     bool
	MaxLimit int // greatest resultLimit; 0: 10,000; old instances have 500
	// RefuseReplays answers 401 to a write that was signed and said once before.
	// It is not documented, so replays are only counted by default.
	RefuseReplays bool
	Skew          time.Duration // how far the server's clock is ahead
	// LoopbackNames answers the page only under a loopback name in the Host
	// header, which keeps other sites from reading it by DNS rebinding.
	LoopbackNames bool
	KeepRequests  int // how many requests, observations, incidents are kept; 0: 10,000

	BaseURL string // prefix of links; Start sets it
	Log     zerolog.Logger
	Now     func() time.Time // nil: time.Now
}

// Server is a ThreatConnect of its own. Its methods may be called at any time
// from any goroutine.
type Server struct {
	// AccessID and SecretKey are the key that it takes.
	AccessID, SecretKey string
	// URL is where Start listens, without a final slash; "" for New.
	URL string

	opts   Options
	store  *store
	http   *http.Server // of Start
	served chan struct{}
	conns  sync.WaitGroup // connections of http

	ctx  context.Context // ends with Close: releases requests that hang
	stop context.CancelFunc

	mu         sync.Mutex
	faults     []*armedFault
	requests   []*Request
	violations []Violation
	counters   Counters
	writes     map[string]bool // what was signed and said, for replays
}

// New returns a server without indicators.
func New(opts Options) *Server {
	s := &Server{opts: opts, AccessID: opts.AccessID, SecretKey: opts.SecretKey, writes: map[string]bool{}}
	if s.opts.Now == nil {
		s.opts.Now = time.Now
	}
	if s.opts.KeepRequests == 0 {
		s.opts.KeepRequests = 10_000
	}
	if s.opts.MaxLimit == 0 {
		s.opts.MaxLimit = 10_000
	}
	if s.opts.Organization == "" {
		s.opts.Organization = "Demo Organization"
	}
	if s.AccessID == "" {
		s.AccessID = randomDigits(20)
	}
	if s.SecretKey == "" {
		s.SecretKey = randomKey()
	}
	s.store = newStore(s.opts.Organization, s.opts.Tidy, s.opts.Now)
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s
}

// TB is the part of testing.TB that Start needs; a *testing.T fits. The package
// does not import testing because the sandbox is part of the shipped program.
type TB interface {
	Helper()
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Start returns a server that listens on a free port of 127.0.0.1 until the
// test ends.
func Start(t TB, opts Options) *Server {
	t.Helper()
	s := New(opts)
	l, err := (&net.ListenConfig{}).Listen(s.ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("start emulator: %v", err)
	}
	s.URL = "http://" + l.Addr().String()
	if s.opts.BaseURL == "" {
		s.opts.BaseURL = s.URL
	}
	s.http = NewHTTPServer(s.Handler())
	s.http.ConnState = s.countConns
	s.served = make(chan struct{})
	go func() {
		defer close(s.served)
		_ = s.http.Serve(l)
	}()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close emulator: %v", err)
		}
	})
	return s
}

// countConns lets Close wait for the goroutines of connections, which may
// outlive http.Server.Close by half a second.
func (s *Server) countConns(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.conns.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.conns.Done()
	}
}

// NewHTTPServer returns the http.Server that fits the emulator: a limit on how
// long a header takes, and no log of its own (net/http's would hold the client's
// text).
func NewHTTPServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, ErrorLog: stdlog.New(io.Discard, "", 0)}
}

// Close ends every request that hangs and stops Start's listener. An http.Server
// made from Handler is the caller's to shut down, after Close.
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

// APIURL is what a client is configured with: the base URL with the path that
// the API lies under.
func (s *Server) APIURL() string { return strings.TrimSuffix(s.opts.BaseURL, "/") + s.prefix() }

func (s *Server) prefix() string {
	if s.opts.AtRoot {
		return ""
	}
	return "/api"
}

func randomDigits(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand's own promise
	for i := range b {
		b[i] = '0' + b[i]%10
	}
	return string(b)
}

// randomKey has the special characters that a real key has, too: one at the
// start, where configuration files trip over it.
func randomKey() string {
	b := make([]byte, 24)
	_, _ = rand.Read(b)
	return "^%" + hex.EncodeToString(b[:12]) + "!&" + base64.StdEncoding.EncodeToString(b[12:])
}

// apiError is a failure as the API words it.
type apiError struct {
	status  int
	code    string // of v3, "0x1004"
	message string
	// text is set when v2 answers with plain text instead of its own form.
	text bool
}

func (e *apiError) Error() string { return e.message }

var errClientGone = errors.New("the client went away")

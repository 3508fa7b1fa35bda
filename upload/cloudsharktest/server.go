// Package cloudsharktest is a stand-in for CloudShark's API v1 in the style of
// httptest: it keeps state, is as strict as the contract allows, and misbehaves
// on request. Tests start one with Start; a sandbox serves New's Handler, which
// has a small web page beside the API.
//
// What it does is contracts/cloudshark.md 0 to 1.5. It offers upload (PUT and
// POST), search, info, download, delete and annotations. It does not offer
// merge, open, view, deep search, or uploads by URL, and answers them with 404
// or 400. Where the contract says that a fact is unknown, it does the thing a
// client must be ready for, and says so beside the code.
//
// It is for tests and demonstrations on one machine: every session is visible
// on its page without a login. Captures lie in a directory, not in memory, and
// are not synced to the disk. The token never appears on a page, in the log, or
// in what Requests returns.
package cloudsharktest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"capagent/internal/lazy"
)

// Permission is one right of a token (contracts/cloudshark.md 1.1).
type Permission string

// The permissions. Annotate is for writing: reading annotations needs Info.
const (
	Upload   Permission = "upload"
	Info     Permission = "info"
	Search   Permission = "search"
	Download Permission = "download"
	Delete   Permission = "delete"
	Annotate Permission = "annotate"
	// DeepSearch works where tshark is installed: it reads the captures.
	DeepSearch Permission = "deep search"
)

// Token is one API token and what it may do.
type Token struct {
	Value       string       // 32 hexadecimal characters
	Permissions []Permission // nil: all
	// LoginUser and LoginPassword, when set, make it a token that answers 401
	// unless the request carries them as HTTP Basic authentication.
	LoginUser, LoginPassword string
	DefaultTags              []string // added to every upload
}

// Options sets a Server up. The zero value works: one random token that may do
// everything, a temporary directory that Close removes, no limits but the
// contract's.
type Options struct {
	Dir    string  // where sessions are kept, over restarts; "": a temporary directory
	Tokens []Token // none: one with a random value, see Server.Token

	UserAgent   *regexp.Regexp // what the header must match; nil: name/version, and not Go's own
	MaxSize     int64          // bytes of one capture; 0: no limit
	MaxSessions int            // uploads until the quota is full; 0: no limit
	MaxBytes    int64          // stored bytes until the quota is full; 0: no limit
	MaxTags     int            // tags of one capture; 0: 30
	// AllowCut takes captures that end inside a packet, as CloudShark may do
	// (its info has a key "truncated"). Without it they are refused.
	AllowCut bool
	// LoopbackNames answers the page only under a loopback name in the Host
	// header, which keeps other sites from reading it by DNS rebinding.
	LoopbackNames bool
	KeepRequests  int // how many requests Requests remembers; 0: 10,000

	BaseURL string // prefix of SessionURL; Start sets it
	Log     zerolog.Logger
	Now     func() time.Time // nil: time.Now
}

// Server is a CloudShark of its own. Its methods may be called at any time from
// any goroutine.
type Server struct {
	// Token is the first token's value.
	Token string
	// URL is where Start listens, without a final slash; "" for New.
	URL string

	opts   Options
	tokens map[string]*Token // by lower-case value
	store  *store
	http   *http.Server // of Start
	served chan struct{}
	conns  sync.WaitGroup // connections of http

	ctx  context.Context // ends with Close: releases requests that hang
	stop context.CancelFunc
	temp string

	mu         sync.Mutex
	faults     []*armedFault
	requests   []*Request
	violations []Violation
	counters   Counters
	deep       map[string]*deepSearch // by id
	workers    sync.WaitGroup         // that search
}

var (
	tokenPattern = lazy.Regexp(`^[0-9a-fA-F]{32}$`)
	agentPattern = lazy.Regexp(`^[A-Za-z][\w.+-]*/v?[0-9][^\s/]*( .*)?$`)
)

// New returns a server over what opts.Dir already holds. Leftovers of uploads
// that did not finish are removed.
func New(opts Options) (*Server, error) {
	s := &Server{opts: opts, tokens: map[string]*Token{}}
	if s.opts.Now == nil {
		s.opts.Now = time.Now
	}
	if s.opts.MaxTags == 0 {
		s.opts.MaxTags = 30
	}
	if s.opts.KeepRequests == 0 {
		s.opts.KeepRequests = 10_000
	}
	if s.opts.UserAgent == nil {
		s.opts.UserAgent = agentPattern()
	}
	tokens := opts.Tokens
	if len(tokens) == 0 {
		tokens = []Token{{Value: randomHex(32)}}
	}
	for _, t := range tokens {
		if !tokenPattern().MatchString(t.Value) {
			return nil, errors.New("token: expected 32 hexadecimal characters")
		}
		s.tokens[strings.ToLower(t.Value)] = &t
	}
	s.Token = tokens[0].Value

	dir := opts.Dir
	if dir == "" {
		temp, err := os.MkdirTemp("", "cloudsharktest-*")
		if err != nil {
			return nil, err
		}
		dir, s.temp = temp, temp
	}
	var err error
	if s.store, err = openStore(dir, opts.Log); err != nil {
		return nil, errors.Join(err, s.removeTemp())
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
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
	s, err := New(opts)
	if err != nil {
		t.Fatalf("start emulator: %v", err)
	}
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

// NewHTTPServer returns the http.Server that fits the emulator: no limit on how
// long a body takes, a limit on how long a header does, and no log of its own
// (net/http's would hold the client's text).
func NewHTTPServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, ErrorLog: quietLog()}
}

// Close ends every upload and every request that hangs, stops Start's listener, and removes
// the temporary directory if there is one. An http.Server made from Handler is
// the caller's to shut down, after Close.
func (s *Server) Close() error {
	s.stop()
	var err error
	if s.http != nil {
		err = s.http.Close()
		<-s.served
		s.conns.Wait()
	}
	s.workers.Wait()
	s.store.close()
	return errors.Join(err, s.removeTemp())
}

func (s *Server) removeTemp() error {
	if s.temp == "" {
		return nil
	}
	return os.RemoveAll(s.temp)
}

// Sessions returns every session, oldest first.
func (s *Server) Sessions() []Session { return s.store.all() }

// Session returns the session of that id.
func (s *Server) Session(id string) (Session, bool) { return s.store.get(id) }

// Open opens the capture of a session, byte for byte as it was sent.
func (s *Server) Open(id string) (io.ReadCloser, error) { return s.store.open(id) }

// Keylog returns the TLS key log that came with a session, nil without one.
func (s *Server) Keylog(id string) ([]byte, error) { return s.store.keylog(id) }

// SessionURL is the link that a client should show for a session
// (contracts/cloudshark.md 0).
func (s *Server) SessionURL(id string) string {
	return strings.TrimSuffix(s.opts.BaseURL, "/") + "/captures/" + id
}

func randomHex(digits int) string {
	b := make([]byte, digits/2)
	_, _ = rand.Read(b) // never fails: crypto/rand's own promise
	return hex.EncodeToString(b)
}

// apiError is a failure as the API words it.
type apiError struct {
	status     int
	exceptions []string
	// strict is set when the request broke a rule that a client must keep.
	strict bool
}

func (e *apiError) Error() string {
	return fmt.Sprintf("%d %s", e.status, strings.Join(e.exceptions, "; "))
}

func refuse(status int, format string, args ...any) *apiError {
	return &apiError{status: status, exceptions: []string{fmt.Sprintf(format, args...)}}
}

func violation(status int, format string, args ...any) *apiError {
	e := refuse(status, format, args...)
	e.strict = true
	return e
}

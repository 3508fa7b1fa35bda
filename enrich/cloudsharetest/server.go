// Package cloudsharetest is a stand-in for CloudShare's API v3: it keeps environments
// with machines and snapshots, checks the signature of each request as it came over the
// socket, refuses tokens that it saw before, clocks that are off and paths that it does
// not know, and misbehaves on request.
//
// What it does is contracts/cloudshare-cloudtrax.md 1. Machines have passwords and
// console tokens, as the real ones do, for tests to see that nobody keeps them: see
// Secrets. What destroys something is refused, and counted as "forbidden". Other things
// that are counted: "replay", "skew", "signature", "unknown", "evicted" (a snapshot that
// displaced another), "snapshot", "postpone", "extend", "suspend", "parallel".
package cloudsharetest

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"capagent/internal/secret"
	"capagent/internal/standin"
)

// Prefix is what the API's paths begin with.
const Prefix = "/api/v3/"

// Options set a Server up. The zero value works: random credentials, no environment.
type Options struct {
	APIID  string // "": random
	APIKey string // "": random
	// Taking is how many times an environment is asked for before its snapshot is
	// there; 0: 2.
	Taking int
	// TakeByPut answers 405 to a snapshot by POST, as the documentation has it.
	TakeByPut bool
	// LoopbackNames, KeepRequests, BaseURL, Log and Now are those of standin.Options.
	LoopbackNames bool
	KeepRequests  int
	BaseURL       string
	Log           zerolog.Logger
	Now           func() time.Time
}

// Server is a CloudShare of its own. Its methods may be called at any time from any
// goroutine.
type Server struct {
	*standin.Server
	// APIID and APIKey are what it takes.
	APIID, APIKey string

	opts Options

	mu       sync.Mutex
	envs     []*Env
	made     int                  // environments, machines and snapshots, for their ids
	tokens   map[string]time.Time // that were used
	underway int
}

// Kinds are the faults that only this service has.
func Kinds() []standin.Kind {
	return []standin.Kind{
		{Name: "permission", Meaning: "500 where the right to edit is asked for"},
		{Name: "nochange", Meaning: "says yes to extending, and changes nothing"},
		{Name: "held", Meaning: "does what was asked, and never answers"},
		{Name: "stuck", Meaning: "a snapshot never ends"},
		{Name: "lost", Meaning: "says yes to a snapshot, and takes none"},
		{Name: "default", Meaning: "makes a snapshot the default, whatever was asked"},
		{Name: "wild", Meaning: "names, addresses and types out of all bounds"},
		{Name: "many", Meaning: "lists of 5,000 environments, machines or snapshots"},
		{Name: "odd", Meaning: "200 with JSON of another shape"},
	}
}

// New returns a server without environments, which does not listen.
func New(o Options) *Server {
	s := &Server{opts: o, APIID: o.APIID, APIKey: o.APIKey, tokens: map[string]time.Time{}}
	if s.APIID == "" {
		s.APIID = strings.ToUpper(standin.Random(8))
	}
	if s.APIKey == "" {
		s.APIKey = standin.Random(32)
	}
	if s.opts.Taking == 0 {
		s.opts.Taking = 2
	}
	if s.opts.Now == nil {
		s.opts.Now = time.Now
	}
	s.Server = standin.New(standin.Options{
		Name: "CloudShare", API: s.serve, Prefixes: []string{Prefix}, Failure: problem, Page: s.page, Kinds: Kinds(),
		Secrets: []secret.Secret{secret.New(s.APIKey)}, LoopbackNames: o.LoopbackNames, KeepRequests: o.KeepRequests,
		BaseURL: o.BaseURL, Log: o.Log, Now: o.Now,
	})
	return s
}

// Start returns a server that listens on a free port of 127.0.0.1 until the test ends.
func Start(t standin.TB, o Options) *Server {
	t.Helper()
	s := New(o)
	s.Start(t)
	return s
}

// APIURL is what a client is configured with.
func (s *Server) APIURL() string {
	return strings.TrimSuffix(s.BaseURL(), "/") + strings.TrimSuffix(Prefix, "/")
}

// problem is how CloudShare words a failure: the first three digits of the code are the
// status.
func problem(status int, text string) (string, []byte) {
	data, err := json.Marshal(map[string]string{"message": text, "code": fmt.Sprintf("0x%d01", status)})
	if err != nil {
		panic(err) // our own types: cannot happen
	}
	return "application/json", data
}

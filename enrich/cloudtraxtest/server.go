// Package cloudtraxtest is a stand-in for CloudTrax's API in the style of httptest: it
// keeps state, is as strict as the contract allows, and misbehaves on request. Tests
// start one with Start; a sandbox serves New's Handler, which has a page for people.
//
// What it does is contracts/cloudshare-cloudtrax.md 2. Requests that would restart or
// reset something are counted ("forbidden") and refused, whatever their method. Where
// the contract says that types vary, they do: ids are numbers and strings, hardware
// addresses of either case.
package cloudtraxtest

import (
	"cmp"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"capagent/internal/secret"
	"capagent/internal/standin"
)

// Options set a Server up. The zero value works.
type Options struct {
	Key, Secret string // "": random
	ReadOnly    bool   // the key may not block
	// ClientsAsList gives the client table as the documentation shows it, an array
	// of objects with one key, instead of the object that clients of it see.
	ClientsAsList bool
	// AlwaysCurrent has every client seen just now, whatever Client says.
	AlwaysCurrent bool

	LoopbackNames bool // see standin.Options, as for those that follow
	KeepRequests  int
	BaseURL       string
	Log           zerolog.Logger
	Now           func() time.Time
}

// Server is a CloudTrax of its own.
type Server struct {
	*standin.Server
	// Key and Secret are those that it takes.
	Key, Secret string

	opts Options
	now  func() time.Time

	mu       sync.Mutex
	nonces   map[string]time.Time
	networks []Network
	nodes    []Node
	clients  []*Client
	switches []Switch
	foreign  []Foreign
}

// New returns a server that knows nothing yet and does not listen.
func New(o Options) *Server {
	s := &Server{opts: o, Key: cmp.Or(o.Key, standin.Random(32)), Secret: cmp.Or(o.Secret, standin.Random(32)), now: o.Now, nonces: map[string]time.Time{}}
	if s.now == nil {
		s.now = time.Now
	}
	secrets := []secret.Secret{secret.New(s.Secret)}
	for _, text := range Secrets() {
		secrets = append(secrets, secret.New(text))
	}
	s.Server = standin.New(standin.Options{
		Name: "CloudTrax", API: s.api, Page: s.page, Kinds: kinds, Secrets: secrets,
		Prefixes: []string{"/network/", "/node/", "/history/", "/client/", "/switch/", "/sitesurvey/", "/account/", "/powerstrip/", "/time"},
		Failure: func(status int, text string) (string, []byte) {
			code := map[int]int{http.StatusUnauthorized: 13005, http.StatusForbidden: 13006}[status]
			return "application/json", failure(cmp.Or(code, 1000), text)
		},
		LoopbackNames: o.LoopbackNames, KeepRequests: o.KeepRequests, BaseURL: o.BaseURL, Log: o.Log, Now: o.Now,
	})
	return s
}

// Start returns a server that listens on loopback until the test ends.
func Start(t standin.TB, o Options) *Server {
	t.Helper()
	s := New(o)
	s.Start(t)
	return s
}

var kinds = []standin.Kind{
	{Name: "code", Meaning: "a failure with CloudTrax's number for it in text (13005); code is the HTTP status", Defaults: standin.Fault{Status: http.StatusBadRequest, Text: "13005"}},
	{Name: "empty", Meaning: "200 with {} whatever was asked"},
	{Name: "lies", Meaning: "200 with records of wrong types among the right ones"},
}

// Kinds lists the faults.
func Kinds() []standin.Kind { return standin.Kinds(kinds) }

// ParseFault reads name[:key=value,...], see standin.ParseFault.
func ParseFault(text string) (standin.Fault, error) { return standin.ParseFault(text, kinds) }

// Secrets are what the settings of every network hold, and nobody may ever see.
func Secrets() []string {
	return []string{"wpa-CorrectHorseBattery", "root-Staple-9f83", "radius-Tr0ub4dor", "portal-Xylophone-77", "snmp-Community-4411"}
}

func failure(code int, text string) []byte {
	data, err := json.Marshal(object{"errors": []any{object{"code": code, "message": text, "context": "stand-in", "values": object{}}}})
	if err != nil {
		panic(err) // our own types: cannot happen
	}
	return data
}

package cloudsharktest

import (
	"io"
	stdlog "log"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Request is one API request as it was received. The token is "-" wherever it
// stood, and Authorization's value is "***".
type Request struct {
	Time   time.Time
	Method string // HTTP method
	API    string // "upload", "search", ...; "" when the path names none
	Path   string // "/api/v1/-/upload"
	Query  url.Values
	Header http.Header
	Proto  string
	// ContentLength is the header's value, -1 for a chunked body.
	ContentLength int64
	BodyBytes     int64  // read of the body
	Fault         string // name of the fault that was applied, or ""
	Status        int    // of the answer; 0 when none was sent
	Session       string // id of the session that it made, or ""
	Done          bool   // false while the request is being served
}

// Violation is a request that broke a rule of the contract.
type Violation struct {
	API       string
	UserAgent string
	Text      string
}

// Counters count since New.
type Counters struct {
	Requests     map[string]int // by API method
	Faults       map[string]int // by name
	Stored       int            // sessions made
	BodyBytes    int64          // of requests that ended
	Uploading    int            // uploads being served now
	MaxUploading int            // the most at one time
}

// Requests returns the API requests so far, oldest first, at most
// Options.KeepRequests of them.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Request, len(s.requests))
	for i, r := range s.requests {
		out[i] = *r
		out[i].Query = maps.Clone(r.Query)
		out[i].Header = r.Header.Clone()
	}
	return out
}

// Violations returns the broken rules so far, oldest first, at most
// Options.KeepRequests of them. A test of a client should find
// it empty.
func (s *Server) Violations() []Violation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.violations)
}

// Counters returns the counts so far.
func (s *Server) Counters() Counters {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counters
	c.Requests = maps.Clone(c.Requests)
	c.Faults = maps.Clone(c.Faults)
	return c
}

// remember appends v and forgets the oldest tenth when there are most already.
func remember[T any](list []T, v T, most int) []T {
	if len(list) >= most {
		list = slices.Delete(list, 0, 1+len(list)/10)
	}
	return append(list, v)
}

func (s *Server) begin(rec *Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests = remember(s.requests, rec, s.opts.KeepRequests)
	if s.counters.Requests == nil {
		s.counters.Requests, s.counters.Faults = map[string]int{}, map[string]int{}
	}
	s.counters.Requests[rec.API]++
	if rec.API == "upload" {
		s.counters.Uploading++
		s.counters.MaxUploading = max(s.counters.MaxUploading, s.counters.Uploading)
	}
}

// end writes what became of the request, also when the handler was aborted.
func (c *call) end() {
	s, rec := c.s, c.rec
	s.mu.Lock()
	rec.BodyBytes = c.body.n.Load()
	rec.Done = true
	s.counters.BodyBytes += rec.BodyBytes
	if rec.API == "upload" {
		s.counters.Uploading--
	}
	got := *rec
	s.mu.Unlock()
	s.opts.Log.Info().Str("method", got.Method).Str("path", got.Path).Int("status", got.Status).
		Int64("bytes", got.BodyBytes).Str("fault", got.Fault).Str("session", got.Session).
		Str("agent", got.Header.Get("User-Agent")).Msg("request")
}

func (c *call) setStatus(status int) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.rec.Status = status
}

func (c *call) setFault(f *Fault) {
	c.fault = f
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.rec.Fault = f.Name
	c.s.counters.Faults[f.Name]++
}

func (c *call) setSession(id string) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.rec.Session = id
	c.s.counters.Stored++
}

func (c *call) violate(text string) {
	v := Violation{API: c.method, UserAgent: c.scrub(c.r.UserAgent()), Text: c.scrub(text)}
	c.s.opts.Log.Warn().Str("api", v.API).Str("agent", v.UserAgent).Str("violation", v.Text).Msg("contract violated")
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.violations = remember(c.s.violations, v, c.s.opts.KeepRequests)
}

// scrub replaces every token in text: the known ones, and the one that the
// request came with.
func (c *call) scrub(text string) string {
	lower := strings.ToLower(text)
	for token := range c.s.tokens {
		if strings.Contains(lower, token) {
			text = replaceFold(text, token)
		}
	}
	if len(c.rawToken) >= 8 && strings.Contains(lower, strings.ToLower(c.rawToken)) {
		text = replaceFold(text, c.rawToken)
	}
	return text
}

func replaceFold(text, token string) string {
	return regexp.MustCompile("(?i)"+regexp.QuoteMeta(token)).ReplaceAllString(text, "-")
}

func (c *call) scrubAll(in map[string][]string) map[string][]string {
	out := make(map[string][]string, len(in))
	for k, values := range in {
		k = c.scrub(k)
		for _, v := range values {
			out[k] = append(out[k], c.scrub(v))
		}
	}
	return out
}

func quietLog() *stdlog.Logger { return stdlog.New(io.Discard, "", 0) }

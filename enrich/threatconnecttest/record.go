package threatconnecttest

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Request is one API request as it was received. The value of Authorization is
// "***".
type Request struct {
	Time     time.Time
	Method   string // HTTP method
	Endpoint string // "v3.indicators", "v2.indicator", ...; "" when the path names none
	Target   string // path and query, byte for byte as on the request line
	Header   http.Header
	Proto    string
	Body     string // at most the first 64 KiB
	Auth     string // "hmac" or "token"; "" when it was not who it said
	Fault    string // name of the fault that was applied, or ""
	Status   int    // of the answer; 0 when none was sent
	Done     bool   // false while the request is being served
}

// Violation is something that a careful client does not do, although it may
// well be answered.
type Violation struct {
	Endpoint string
	Text     string
}

// Counters count since New.
type Counters struct {
	Requests     map[string]int // by endpoint
	Faults       map[string]int // by name
	Statuses     map[int]int
	Unauthorized int // 401 for cause, not by a fault
	Replays      int // writes that were signed and said once before
	Serving      int // requests being served now
	MaxServing   int // the most at one time
}

// Requests returns the API requests so far, oldest first, at most
// Options.KeepRequests of them.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Request, len(s.requests))
	for i, r := range s.requests {
		out[i] = *r
		out[i].Header = r.Header.Clone()
	}
	return out
}

// Violations returns what was noticed so far, oldest first, at most
// Options.KeepRequests of it. A test of a client should find it empty.
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
	c.Statuses = maps.Clone(c.Statuses)
	return c
}

// Observations returns what clients reported, oldest first.
func (s *Server) Observations() []Observation {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	return slices.Clone(s.store.observations)
}

// Incidents returns the incidents that clients made, oldest first.
func (s *Server) Incidents() []Incident {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	out := make([]Incident, len(s.store.incidents))
	for i, in := range s.store.incidents {
		out[i] = *in
		out[i].Tags = slices.Clone(in.Tags)
		out[i].Attributes = slices.Clone(in.Attributes)
		out[i].Indicators = slices.Clone(in.Indicators)
	}
	return out
}

// Indicators returns every indicator, in the order in which they were added.
func (s *Server) Indicators() []Indicator {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	out := make([]Indicator, len(s.store.indicators))
	for i, in := range s.store.indicators {
		out[i] = *in
		out[i].Tags = slices.Clone(in.Tags)
		out[i].Groups = slices.Clone(in.Groups)
	}
	return out
}

// Owners returns every owner, in the order in which they were added.
func (s *Server) Owners() []Owner {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	var out []Owner
	for _, o := range s.store.owners {
		out = append(out, *o)
	}
	return out
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
		s.counters.Requests, s.counters.Faults, s.counters.Statuses = map[string]int{}, map[string]int{}, map[int]int{}
	}
	s.counters.Requests[rec.Endpoint]++
	s.counters.Serving++
	s.counters.MaxServing = max(s.counters.MaxServing, s.counters.Serving)
}

// end writes what became of the request, also when the handler was aborted.
func (c *call) end() {
	s := c.s
	s.mu.Lock()
	c.rec.Done = true
	s.counters.Serving--
	s.counters.Statuses[c.rec.Status]++
	got := *c.rec
	s.mu.Unlock()
	s.opts.Log.Info().Str("method", got.Method).Str("endpoint", got.Endpoint).Int("status", got.Status).
		Str("fault", got.Fault).Str("agent", got.Header.Get("User-Agent")).Msg("request")
}

func (c *call) setStatus(status int) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.rec.Status = status
}

func (c *call) setAuth(auth string) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.rec.Auth = auth
}

func (c *call) setBody(body []byte) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.rec.Body = string(body[:min(len(body), 64<<10)])
}

func (c *call) setFault(f *Fault) {
	c.fault = f
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.rec.Fault = f.Name
	c.s.counters.Faults[f.Name]++
}

func (c *call) violate(text string) {
	v := Violation{Endpoint: c.route.endpoint, Text: text}
	c.s.opts.Log.Warn().Str("endpoint", v.Endpoint).Str("violation", text).Msg("contract violated")
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.s.violations = remember(c.s.violations, v, c.s.opts.KeepRequests)
}

// scrubHeader takes credentials out.
func scrubHeader(h http.Header) http.Header {
	h = h.Clone()
	for _, name := range []string{"Authorization", "Proxy-Authorization", "Cookie"} {
		if h.Get(name) != "" {
			h.Set(name, "***")
		}
	}
	return h
}

func (s *Server) scrub(text string) string {
	for _, secret := range append([]string{s.SecretKey}, s.tokens()...) {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "***")
		}
	}
	return text
}

func (s *Server) tokens() []string {
	var out []string
	for _, t := range s.opts.Tokens {
		out = append(out, t.Value)
	}
	return out
}

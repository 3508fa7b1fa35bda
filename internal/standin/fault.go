package standin

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Fault makes the server misbehave. Only Name is needed: the fields that a fault's
// kind does not use are ignored, and zero ones take its defaults. The text form is
// name[:key=value,...], see ParseFault.
type Fault struct {
	Name string

	// Match limits the fault to requests whose "METHOD target" or body contains this
	// text.
	Match string
	Skip  int // so many matching requests are served well first
	Times int // then so many are not; 0: all that follow

	Status     int           // key "code"
	Text       string        // of the message
	RetryAfter string        // header as it is sent; key "retry_after"
	Bytes      int64         // of the reply (huge)
	Delay      time.Duration // before the answer; between two bytes (dribble)
	By         time.Duration // how far the clock is ahead (skew); negative: behind
	To         string        // where redirect leads
	Reset      bool          // end the connection with RST instead of FIN; key "rst"
}

// Kind is a fault that people choose from.
type Kind struct {
	Name, Meaning string
	Defaults      Fault
}

type kind struct {
	Kind
	// instead gives the answer in place of the API's; nil: the call goes its usual
	// way, and the kind is looked at where it matters.
	instead func(*Call)
}

// common are the faults that every stand-in has.
func common() []kind {
	return []kind{
		{Kind{"status", "any failure: code, text, retry_after", Fault{Status: 500, Text: "Something went wrong"}}, (*Call).failStatus},
		{Kind{"unauthorized", "401, whatever was shown", Fault{Status: 401, Text: "Unauthorized"}}, (*Call).failStatus},
		{Kind{"forbidden", "403", Fault{Status: 403, Text: "Forbidden"}}, (*Call).failStatus},
		{Kind{"busy", "429 with Retry-After: 1", Fault{Status: 429, Text: "Too Many Requests", RetryAfter: "1"}}, (*Call).failStatus},
		{Kind{"html", "200 with an HTML page, as a proxy or a captive portal gives; code", Fault{Status: 200}}, (*Call).failHTML},
		{Kind{"echo", "500 whose text holds the credentials", Fault{Status: 500}}, (*Call).echo},
		{Kind{"hang", "never answers", Fault{}}, (*Call).hang},
		{Kind{"reset", "RST in place of an answer", Fault{}}, (*Call).reset},
		{Kind{"huge", "200 with bytes (100 MB) of JSON", Fault{Status: 200, Bytes: 100_000_000}}, (*Call).huge},
		{Kind{"redirect", "a redirect (302) to another place", Fault{Status: 302, To: "https://elsewhere.invalid"}}, (*Call).redirect},
		{Kind{"drop", "does what was asked and closes without an answer; rst=true", Fault{}}, nil},
		{Kind{"slow", "does what was asked; the answer comes after delay (5s)", Fault{Delay: 5 * time.Second}}, nil},
		{Kind{"dribble", "does what was asked; the answer takes delay (1s) a byte", Fault{Delay: time.Second}}, nil},
		{Kind{"badjson", "does what was asked; the answer ends in the middle", Fault{}}, nil},
		{Kind{"skew", "a clock that is by (20m) ahead, or behind", Fault{By: 20 * time.Minute}}, nil},
	}
}

func kinds(own []Kind) map[string]kind {
	out := map[string]kind{}
	for _, k := range common() {
		out[k.Name] = k
	}
	for _, k := range own {
		out[k.Name] = kind{Kind: k}
	}
	return out
}

// Kinds lists the faults of a stand-in with these of its own, by name.
func Kinds(own []Kind) []Kind {
	var out []Kind
	for _, k := range kinds(own) {
		out = append(out, k.Kind)
	}
	slices.SortFunc(out, func(a, b Kind) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// ParseFault reads name[:key=value,...]: "busy:times=2,retry_after=5". The keys are
// match, skip, times, code, text, retry_after, bytes, delay, by, to and rst. A piece
// without a key belongs to the text, match or retry_after before it, so that these
// may hold commas.
func ParseFault(text string, own []Kind) (Fault, error) {
	name, rest, _ := strings.Cut(text, ":")
	f := Fault{Name: name}
	if _, ok := kinds(own)[name]; !ok {
		return f, fmt.Errorf("fault %q: unknown name", name)
	}
	if rest == "" {
		return f, nil
	}
	var pairs [][2]string
	for piece := range strings.SplitSeq(rest, ",") {
		key, value, ok := strings.Cut(piece, "=")
		switch {
		case ok && faultKeys[key] != nil:
			pairs = append(pairs, [2]string{key, value})
		case len(pairs) > 0 && slices.Contains([]string{"text", "match", "retry_after"}, pairs[len(pairs)-1][0]):
			pairs[len(pairs)-1][1] += "," + piece
		default:
			return f, fmt.Errorf("fault %q: unknown key %q", name, key)
		}
	}
	for _, p := range pairs {
		if err := faultKeys[p[0]](&f, p[1]); err != nil {
			return f, fmt.Errorf("fault %q: key %q: value %q is not valid", name, p[0], p[1])
		}
	}
	return f, nil
}

var faultKeys = map[string]func(*Fault, string) error{
	"match":       func(f *Fault, v string) error { f.Match = v; return nil },
	"skip":        func(f *Fault, v string) error { return parseInt(&f.Skip, v) },
	"times":       func(f *Fault, v string) error { return parseInt(&f.Times, v) },
	"text":        func(f *Fault, v string) error { f.Text = v; return nil },
	"retry_after": func(f *Fault, v string) error { f.RetryAfter = v; return nil },
	"bytes":       func(f *Fault, v string) error { return parseInt(&f.Bytes, v) },
	"to":          func(f *Fault, v string) error { f.To = v; return nil },
	"rst":         func(f *Fault, v string) (err error) { f.Reset, err = strconv.ParseBool(v); return err },
	"by":          func(f *Fault, v string) (err error) { f.By, err = time.ParseDuration(v); return err },
	"code": func(f *Fault, v string) (err error) {
		if f.Status, err = strconv.Atoi(v); err == nil && (f.Status < 200 || f.Status > 599) {
			err = errors.New("not a status")
		}
		return err
	},
	"delay": func(f *Fault, v string) (err error) {
		if f.Delay, err = time.ParseDuration(v); err == nil && f.Delay < 0 {
			err = errors.New("negative")
		}
		return err
	},
}

func parseInt[T int | int64](to *T, v string) error {
	n, err := strconv.ParseInt(v, 10, 62)
	if err == nil && n < 0 {
		err = errors.New("negative")
	}
	*to = T(n)
	return err
}

type armed struct {
	Fault
	seen int
}

// SetFault makes f the only fault. It panics when f.Name is unknown, which is the
// caller's mistake; text from outside goes through ParseFault.
func (s *Server) SetFault(f Fault) {
	s.ClearFaults()
	s.AddFault(f)
}

// AddFault adds f. Of several that match a request the first one added is used.
func (s *Server) AddFault(f Fault) {
	k, ok := s.kinds[f.Name]
	if !ok {
		panic("standin: unknown fault " + strconv.Quote(f.Name))
	}
	d := k.Defaults
	f.Status, f.Text, f.RetryAfter = cmp.Or(f.Status, d.Status), cmp.Or(f.Text, d.Text), cmp.Or(f.RetryAfter, d.RetryAfter)
	f.Bytes, f.Delay, f.By, f.To = cmp.Or(f.Bytes, d.Bytes), cmp.Or(f.Delay, d.Delay), cmp.Or(f.By, d.By), cmp.Or(f.To, d.To)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &armed{Fault: f})
}

// ClearFaults makes the server behave. Requests that already hang go on to.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// take returns the fault for a request and counts it.
func (s *Server) take(c *Call) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.faults {
		if a.Match != "" && !strings.Contains(c.R.Method+" "+c.R.RequestURI, a.Match) && !strings.Contains(string(c.Body), a.Match) {
			continue
		}
		a.seen++
		if a.seen <= a.Skip || a.Times > 0 && a.seen > a.Skip+a.Times {
			continue
		}
		c.record.Fault = a.Name
		s.counts["fault:"+a.Name]++
		return a.Fault
	}
	return Fault{}
}

// inject lets the fault answer. It reports whether it did.
func (c *Call) inject() bool {
	if c.Fault.Name == "" {
		return false
	}
	if !c.Is("dribble") && !c.wait(c.Fault.Delay) {
		c.abort()
	}
	instead := c.s.kinds[c.Fault.Name].instead
	if instead == nil {
		return false
	}
	instead(c)
	return true
}

func (c *Call) failStatus() {
	if c.Fault.RetryAfter != "" {
		c.W.Header().Set("Retry-After", c.Fault.RetryAfter)
	}
	c.Fail(c.Fault.Status, c.Fault.Text)
}

const faultPage = "<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Sign in to go on</h1></body></html>\n"

func (c *Call) failHTML() { c.Send(c.Fault.Status, "text/html; charset=utf-8", []byte(faultPage)) }

func (c *Call) echo() {
	c.Fail(c.Fault.Status, "Authorization was "+c.R.Header.Get("Authorization")+" "+c.R.Header.Get("Signature"))
}

func (c *Call) redirect() {
	c.W.Header().Set("Location", strings.TrimSuffix(c.Fault.To, "/")+c.R.RequestURI)
	c.Send(c.Fault.Status, "text/html; charset=utf-8", []byte("<html><body>You are being redirected.</body></html>"))
}

// hang holds the request until the client goes away or the server closes.
func (c *Call) hang() {
	select {
	case <-c.R.Context().Done():
	case <-c.s.ctx.Done():
	}
	c.abort()
}

func (c *Call) huge() {
	c.W.Header().Set("Content-Type", "application/json")
	c.begin(http.StatusOK)
	chunk := []byte(strings.Repeat("A", 64<<10))
	head, tail := `{"data":"`, `"}`
	_, err := c.W.Write([]byte(head))
	for left := c.Fault.Bytes - int64(len(head)+len(tail)); err == nil && left > 0 && c.s.ctx.Err() == nil; {
		var n int
		n, err = c.W.Write(chunk[:min(left, int64(len(chunk)))])
		left -= int64(n)
	}
	if err == nil {
		_, _ = c.W.Write([]byte(tail))
	}
}

package cloudsharktest

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

// Fault makes the server misbehave. Only Name is needed: the fields that a
// fault's kind does not use are ignored, and zero ones take its defaults. The
// text form is name[:key=value,...], see ParseFault.
type Fault struct {
	Name string

	// Method limits the fault to one API method ("upload", "search", "info",
	// ...); "any" is all of them, and "" is the kind's default.
	Method string
	// Filename limits it to requests whose file name contains this text: the
	// one that an upload or a search gives, or that of the session asked for.
	Filename string
	Skip     int // so many matching requests are served well first
	Times    int // then so many are not; 0: all that follow

	Status     int           // key "code"
	Exceptions []string      // key "text", may be given several times
	RetryAfter string        // header as it is sent: seconds, a date, or nonsense; key "retry_after"
	Bytes      int64         // of the body (reset-mid-body), a second (slow), of the reply (huge-reply)
	Delay      time.Duration // between two bytes (slow-reply), before the answer (all others)
	Location   string        // of redirect; "{token}" in it becomes the token; key "to"
	Early      bool          // answer before the body is read
	Accept     bool          // do what was asked first, so that only the answer is wrong
	Reset      bool          // end the connection with RST instead of FIN; key "rst"
}

type faultKind struct {
	meaning  string
	defaults Fault
	// instead gives the answer in place of the API's; nil: the call goes its
	// usual way and the kind is looked at where it matters.
	instead func(*call, Fault)
}

// faultKinds is filled by init because the kinds' functions lead back to it.
var faultKinds map[string]faultKind

func init() {
	exceptions := func(status int, method string, texts ...string) Fault {
		return Fault{Status: status, Method: method, Exceptions: texts}
	}
	faultKinds = map[string]faultKind{
		"status":         {"any failure: code, text, retry_after", exceptions(500, "any", "Something went wrong"), (*call).failStatus},
		"bad-token":      {"404, the token is missing or invalid", exceptions(404, "any", msgBadToken), (*call).failStatus},
		"login":          {"401, the token needs a login besides", exceptions(401, "any", msgLogin), (*call).failStatus},
		"forbidden":      {"403, the token may not do this", exceptions(403, "upload", msgForbidden), (*call).failStatus},
		"too-large":      {"413, the capture is over the size limit; code=400 says it in the text alone", exceptions(413, "upload", "Capture file is too large"), (*call).failStatus},
		"quota":          {"403, the account's upload quota is full", exceptions(403, "upload", "Upload quota reached"), (*call).failStatus},
		"not-capture":    {"400, the body is not a capture file", exceptions(400, "upload", "File is not a valid capture file"), (*call).failStatus},
		"busy":           {"503 with Retry-After: 1; code=429 for rate limits", Fault{Status: 503, Method: "any", RetryAfter: "1", Exceptions: []string{"Server is busy, try again later"}}, (*call).failStatus},
		"error":          {"500 with an HTML page, as a proxy or a crash gives", Fault{Status: 500, Method: "any"}, (*call).failHTML},
		"hang":           {"reads everything and never answers", Fault{Method: "any"}, (*call).hang},
		"hang-early":     {"never reads the body and never answers", Fault{Method: "upload", Early: true}, (*call).hang},
		"reset-mid-body": {"RST after bytes (65536) of the body", Fault{Method: "upload", Early: true, Bytes: 64 << 10}, (*call).resetMidBody},
		"accept-drop":    {"stores the session and closes without an answer; rst=true", Fault{Method: "upload", Accept: true}, (*call).drop},
		"accept-hang":    {"stores the session and never answers", Fault{Method: "upload", Accept: true}, (*call).hang},
		"html-200":       {"200 with an HTML page, as a captive portal gives", Fault{Status: 200, Method: "any"}, (*call).failHTML},
		"bad-id":         {"200 with an id that is none (text)", Fault{Status: 200, Method: "upload", Exceptions: []string{"../../evil"}}, (*call).badID},
		"huge-reply":     {"200 with bytes (100 MB) of JSON", Fault{Status: 200, Method: "any", Bytes: 100_000_000}, (*call).hugeReply},
		"redirect":       {"a redirect (302) to another place", Fault{Status: 302, Method: "any", Location: "https://elsewhere.invalid/login"}, (*call).redirect},
		"echo-token":     {"500 whose text holds the token", Fault{Status: 500, Method: "any"}, (*call).echoToken},
		"truncated-json": {"does what was asked; the answer ends in the middle", Fault{Method: "upload"}, nil},
		"slow-reply":     {"does what was asked; the answer takes delay (1s) a byte", Fault{Method: "any", Delay: time.Second}, nil},
		"slow":           {"reads the body at bytes (65536) a second", Fault{Method: "upload", Bytes: 64 << 10}, nil},
		"no-sha1":        {"info without sha1_hash, as older versions give it", Fault{Method: "info"}, nil},
	}
}

// FaultName is one kind of fault for people to choose from.
type FaultName struct{ Name, Meaning string }

// FaultNames lists the kinds of faults by name.
func FaultNames() []FaultName {
	var out []FaultName
	for name, k := range faultKinds {
		out = append(out, FaultName{name, k.meaning})
	}
	slices.SortFunc(out, func(a, b FaultName) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// withDefaults fills what f leaves out from its kind.
func (f Fault) withDefaults() Fault {
	d := faultKinds[f.Name].defaults
	f.Method = cmp.Or(f.Method, d.Method)
	f.Status = cmp.Or(f.Status, d.Status)
	f.RetryAfter = cmp.Or(f.RetryAfter, d.RetryAfter)
	f.Bytes = cmp.Or(f.Bytes, d.Bytes)
	f.Delay = cmp.Or(f.Delay, d.Delay)
	f.Location = cmp.Or(f.Location, d.Location)
	f.Early = f.Early || d.Early
	f.Accept = f.Accept || d.Accept
	if len(f.Exceptions) == 0 {
		f.Exceptions = d.Exceptions
	}
	return f
}

// ParseFault reads name[:key=value,...]: "busy:times=2,retry_after=5". The keys
// are method, filename, skip, times, code, text, retry_after, bytes, delay, to,
// early, accept and rst. A piece without a key belongs to the text or the
// retry_after before it, so that these may hold commas.
func ParseFault(text string) (Fault, error) {
	name, rest, _ := strings.Cut(text, ":")
	f := Fault{Name: name}
	if _, ok := faultKinds[name]; !ok {
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
		case len(pairs) > 0 && slices.Contains([]string{"text", "retry_after"}, pairs[len(pairs)-1][0]):
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
	"method":      func(f *Fault, v string) error { return parseMethod(&f.Method, v) },
	"filename":    func(f *Fault, v string) error { f.Filename = v; return nil },
	"skip":        func(f *Fault, v string) error { return parseInt(&f.Skip, v) },
	"times":       func(f *Fault, v string) error { return parseInt(&f.Times, v) },
	"code":        func(f *Fault, v string) error { return parseStatus(&f.Status, v) },
	"text":        func(f *Fault, v string) error { f.Exceptions = append(f.Exceptions, v); return nil },
	"retry_after": func(f *Fault, v string) error { f.RetryAfter = v; return nil },
	"bytes":       func(f *Fault, v string) error { return parseInt(&f.Bytes, v) },
	"to":          func(f *Fault, v string) error { f.Location = v; return nil },
	"early":       func(f *Fault, v string) error { return parseBool(&f.Early, v) },
	"accept":      func(f *Fault, v string) error { return parseBool(&f.Accept, v) },
	"rst":         func(f *Fault, v string) error { return parseBool(&f.Reset, v) },
	"delay": func(f *Fault, v string) error {
		d, err := time.ParseDuration(v)
		if err == nil && d < 0 {
			err = errors.New("negative")
		}
		f.Delay = d
		return err
	},
}

func parseMethod(to *string, v string) error {
	if _, ok := methods[v]; !ok && v != "any" {
		return errors.New("not an API method")
	}
	*to = v
	return nil
}

func parseInt[T int | int64](to *T, v string) error {
	n, err := strconv.ParseInt(v, 10, 62)
	if err == nil && n < 0 {
		err = errors.New("negative")
	}
	*to = T(n)
	return err
}

func parseStatus(to *int, v string) error {
	n, err := strconv.Atoi(v)
	if err == nil && (n < 200 || n > 599) {
		err = errors.New("not a status")
	}
	*to = n
	return err
}

func parseBool(to *bool, v string) (err error) {
	*to, err = strconv.ParseBool(v)
	return err
}

type armedFault struct {
	Fault
	seen int
}

// SetFault makes f the only fault. It panics when f.Name is unknown, which is
// the caller's mistake; text from outside goes through ParseFault.
func (s *Server) SetFault(f Fault) {
	s.ClearFaults()
	s.AddFault(f)
}

// AddFault adds f. Of several that match a request the first one added is used.
func (s *Server) AddFault(f Fault) {
	if _, ok := faultKinds[f.Name]; !ok {
		panic("cloudsharktest: unknown fault " + strconv.Quote(f.Name))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &armedFault{Fault: f.withDefaults()})
}

// ClearFaults makes the server behave. Requests that already hang go on to.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// takeFault returns the fault for a request and counts it. With late set it
// looks only at faults limited to a file name, which is known late when a form
// carries it.
func (s *Server) takeFault(method, filename string, late bool) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.faults {
		if a.Method != "any" && a.Method != method || late && a.Filename == "" {
			continue
		}
		if a.Filename != "" && !strings.Contains(filename, a.Filename) {
			continue
		}
		a.seen++
		if a.seen <= a.Skip || a.Times > 0 && a.seen > a.Skip+a.Times {
			continue
		}
		f := a.Fault
		return &f
	}
	return nil
}

// inject lets the fault answer. It reports whether it did.
func (c *call) inject(f *Fault) bool {
	kind := faultKinds[f.Name]
	c.setFault(f)
	if kind.instead == nil {
		return false
	}
	if f.Accept {
		if _, err := c.perform(); err != nil {
			c.fail(err)
			return true
		}
	} else if !f.Early {
		if err := c.drain(); err != nil {
			c.abort()
		}
	}
	if !c.wait(f.Delay) {
		c.abort()
	}
	kind.instead(c, *f)
	return true
}

func (c *call) failStatus(f Fault) {
	if f.Status == http.StatusUnauthorized {
		c.w.Header().Set("WWW-Authenticate", `Basic realm="CloudShark"`)
	}
	if f.RetryAfter != "" {
		c.w.Header().Set("Retry-After", f.RetryAfter)
	}
	c.send(f.Status, failure{f.Status, f.Exceptions})
}

const faultPage = "<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Sign in to go on</h1></body></html>\n"

func (c *call) failHTML(f Fault) {
	c.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	c.sendRaw(f.Status, []byte(faultPage))
}

func (c *call) badID(f Fault) {
	c.send(f.Status, map[string]string{"filename": c.params.filename, "id": strings.Join(f.Exceptions, "")})
}

func (c *call) echoToken(f Fault) {
	c.send(f.Status, failure{f.Status, []string{
		fmt.Sprintf("No route matches [%s] \"/api/v1/%s/%s\"", c.r.Method, c.rawToken, c.method),
	}})
}

func (c *call) redirect(f Fault) {
	c.w.Header().Set("Location", strings.ReplaceAll(f.Location, "{token}", c.rawToken))
	c.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	c.sendRaw(f.Status, []byte("<html><body>You are being redirected.</body></html>"))
}

func (c *call) hugeReply(f Fault) {
	c.start(f.Status)
	chunk := []byte(strings.Repeat("A", 64<<10))
	head := `{"id":"f27d1494400c","filename":"`
	_, err := c.w.Write([]byte(head))
	for left := f.Bytes - int64(len(head)) - 2; err == nil && left > 0 && c.s.ctx.Err() == nil; {
		var n int
		n, err = c.w.Write(chunk[:min(left, int64(len(chunk)))])
		left -= int64(n)
	}
	if err == nil {
		_, _ = c.w.Write([]byte(`"}`))
	}
}

// hang holds the request until the client goes away or the server closes. With
// hang-early a client that goes away is not noticed (nothing reads), so that
// one is held until Close.
func (c *call) hang(Fault) {
	select {
	case <-c.r.Context().Done():
	case <-c.s.ctx.Done():
	}
	c.abort()
}

func (c *call) resetMidBody(f Fault) {
	_, _ = c.readBody(f.Bytes)
	c.reset()
}

func (c *call) drop(f Fault) {
	if f.Reset {
		c.reset()
	}
	c.abort()
}

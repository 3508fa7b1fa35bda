package threatconnecttest

import (
	"cmp"
	"errors"
	"fmt"
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

	// Endpoint limits the fault to endpoints that start with it: "v3.indicators",
	// "v2", ... "": all.
	Endpoint string
	// Match limits it to requests whose line or body contains this text.
	Match string
	Skip  int // so many matching requests are served well first
	Times int // then so many are not; 0: all that follow

	Status     int           // key "code"
	Text       string        // of the message
	RetryAfter string        // header as it is sent: seconds, a date, or nonsense; key "retry_after"
	Bytes      int64         // of the reply (huge)
	Delay      time.Duration // before the answer; between two bytes (dribble)
	By         time.Duration // how far the clock is ahead (skew); negative: behind
	To         string        // where redirect and nextelsewhere lead
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
	elsewhere := Fault{Status: 302, To: "https://elsewhere.invalid"}
	faultKinds = map[string]faultKind{
		"status":        {"any failure: code, text, retry_after", Fault{Status: 500, Text: msgUnknown}, (*call).failStatus},
		"unauthorized":  {"401, whatever was signed", Fault{Status: 401, Text: msgSignature}, (*call).failStatus},
		"forbidden":     {"403", Fault{Status: 403, Text: msgDenied}, (*call).failStatus},
		"unlicensed":    {"503, the API has not been licensed", Fault{Status: 503, Text: msgUnlicensed}, (*call).failStatus},
		"retryafter":    {"429 with Retry-After: 1", Fault{Status: 429, Text: "Too Many Requests", RetryAfter: "1"}, (*call).failStatus},
		"html":          {"200 with an HTML page, as a proxy or a captive portal gives; code", Fault{Status: 200}, (*call).failHTML},
		"text":          {"500 with plain text, as for a bad path", Fault{Status: 500, Text: "Could not find resource for relative : /"}, (*call).failText},
		"hang":          {"never answers", Fault{}, (*call).hang},
		"reset":         {"RST in place of an answer", Fault{Reset: true}, (*call).drop},
		"drop":          {"does what was asked and closes without an answer; rst=true", Fault{}, (*call).performAndDrop},
		"huge":          {"200 with bytes (100 MB) of JSON", Fault{Status: 200, Bytes: 100_000_000}, (*call).huge},
		"redirect":      {"a redirect (302) to another place", elsewhere, (*call).redirect},
		"echo":          {"500 whose text holds the credentials", Fault{Status: 500}, (*call).echo},
		"slow":          {"does what was asked; the answer comes after delay (5s)", Fault{Delay: 5 * time.Second}, nil},
		"dribble":       {"does what was asked; the answer takes delay (1s) a byte", Fault{Delay: time.Second}, nil},
		"badjson":       {"does what was asked; the answer ends in the middle", Fault{}, nil},
		"skew":          {"a clock that is by (10m) ahead, or behind", Fault{By: 10 * time.Minute}, nil},
		"lying":         {"verdicts of indicators that nobody asked for", Fault{}, nil},
		"wild":          {"ratings, ids, links and names out of all bounds", Fault{}, nil},
		"loop":          {"the first page again and again, and next goes on for ever", Fault{}, nil},
		"nextelsewhere": {"next leads to another host", elsewhere, nil},
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
	f.Status = cmp.Or(f.Status, d.Status)
	f.Text = cmp.Or(f.Text, d.Text)
	f.RetryAfter = cmp.Or(f.RetryAfter, d.RetryAfter)
	f.Bytes = cmp.Or(f.Bytes, d.Bytes)
	f.Delay = cmp.Or(f.Delay, d.Delay)
	f.By = cmp.Or(f.By, d.By)
	f.To = cmp.Or(f.To, d.To)
	f.Reset = f.Reset || d.Reset
	return f
}

// ParseFault reads name[:key=value,...]: "retryafter:times=2,retry_after=5". The
// keys are endpoint, match, skip, times, code, text, retry_after, bytes, delay,
// by, to and rst. A piece without a key belongs to the text or the retry_after
// before it, so that these may hold commas.
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
	"endpoint":    func(f *Fault, v string) error { return parseEndpoint(&f.Endpoint, v) },
	"match":       func(f *Fault, v string) error { f.Match = v; return nil },
	"skip":        func(f *Fault, v string) error { return parseInt(&f.Skip, v) },
	"times":       func(f *Fault, v string) error { return parseInt(&f.Times, v) },
	"code":        func(f *Fault, v string) error { return parseStatus(&f.Status, v) },
	"text":        func(f *Fault, v string) error { f.Text = v; return nil },
	"retry_after": func(f *Fault, v string) error { f.RetryAfter = v; return nil },
	"bytes":       func(f *Fault, v string) error { return parseInt(&f.Bytes, v) },
	"to":          func(f *Fault, v string) error { f.To = v; return nil },
	"rst":         func(f *Fault, v string) (err error) { f.Reset, err = strconv.ParseBool(v); return err },
	"by":          func(f *Fault, v string) (err error) { f.By, err = time.ParseDuration(v); return err },
	"delay": func(f *Fault, v string) error {
		d, err := time.ParseDuration(v)
		if err == nil && d < 0 {
			err = errors.New("negative")
		}
		f.Delay = d
		return err
	},
}

func parseEndpoint(to *string, v string) error {
	if !slices.ContainsFunc(Endpoints(), func(e string) bool { return strings.HasPrefix(e, v) }) {
		return errors.New("not an endpoint")
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
		panic("threatconnecttest: unknown fault " + strconv.Quote(f.Name))
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

// takeFault returns the fault for a request and counts it.
func (s *Server) takeFault(c *call) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.faults {
		if !strings.HasPrefix(c.route.endpoint, a.Endpoint) {
			continue
		}
		if a.Match != "" && !strings.Contains(c.r.RequestURI, a.Match) && !strings.Contains(string(c.body), a.Match) {
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

// is says whether that fault is at work.
func (c *call) is(name string) bool { return c.fault != nil && c.fault.Name == name }

// inject lets the fault answer. It reports whether it did.
func (c *call) inject(f *Fault) bool {
	c.setFault(f)
	if f.Name != "dribble" && !c.wait(f.Delay) {
		c.abort()
	}
	kind := faultKinds[f.Name]
	if kind.instead == nil {
		return false
	}
	kind.instead(c, *f)
	return true
}

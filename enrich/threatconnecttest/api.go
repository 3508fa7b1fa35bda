package threatconnecttest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxBody  = 4 << 20
	longLine = 2000 // characters of a query that no documentation promises to work
)

// call is one API request on its way.
type call struct {
	s     *Server
	w     http.ResponseWriter
	r     *http.Request
	rec   *Request
	route route
	args  []string // of the path, decoded
	query url.Values
	body  []byte
	fault *Fault
	now   time.Time // on the server's clock
}

// route is an endpoint. A "*" in its path stands for one segment.
type route struct {
	method, path, endpoint string
	serve                  func(*call) (int, any, error)
}

// routes is filled by init because the endpoints' functions lead back to it.
var routes []route

func init() {
	routes = []route{
		{"GET", "v3/indicators", "v3.indicators", (*call).v3Indicators},
		{"GET", "v3/indicators/*", "v3.indicator", (*call).v3Indicator},
		{"PUT", "v3/indicators/*", "v3.update", (*call).v3Update},
		{"GET", "v3/groups", "v3.groups", (*call).v3Groups},
		{"POST", "v3/groups", "v3.newgroup", (*call).v3NewGroup},
		{"GET", "v3/groups/*", "v3.group", (*call).v3Group},
		{"GET", "v3/security/owners", "v3.owners", (*call).v3Owners},
		{"GET", "v3/security/exclusionLists", "v3.exclusions", (*call).v3Exclusions},

		{"GET", "v2/owners", "v2.owners", (*call).v2Owners},
		{"GET", "v2/types/indicatorTypes", "v2.types", (*call).v2Types},
		{"GET", "v2/indicators", "v2.indicators", (*call).v2List},
		{"GET", "v2/indicators/bulk", "v2.bulk", (*call).v2BulkStatus},
		{"GET", "v2/indicators/bulk/json", "v2.bulk", (*call).v2BulkJSON},
		{"GET", "v2/indicators/bulk/csv", "v2.bulk", (*call).v2BulkCSV},
		{"GET", "v2/indicators/*", "v2.indicators", (*call).v2List},
		{"GET", "v2/indicators/*/*", "v2.indicator", (*call).v2Indicator},
		{"GET", "v2/indicators/*/*/owners", "v2.indicator.owners", (*call).v2IndicatorOwners},
		{"GET", "v2/indicators/*/*/groups", "v2.indicator.groups", (*call).v2IndicatorGroups},
		{"GET", "v2/indicators/*/*/groups/*", "v2.indicator.groups", (*call).v2IndicatorGroups},
		{"POST", "v2/indicators/*/*/observations", "v2.observations", (*call).v2Observe},
		{"POST", "v2/indicators/*/*/falsePositive", "v2.falsepositive", (*call).v2FalsePositive},
		{"POST", "v2/indicators/*/*/groups/incidents/*", "v2.associate", (*call).v2Associate},
		{"GET", "v2/groups/incidents", "v2.incidents", (*call).v2Incidents},
		{"POST", "v2/groups/incidents", "v2.newincident", (*call).v2NewIncident},
		{"GET", "v2/groups/incidents/*", "v2.incident", (*call).v2IncidentByID},
		{"POST", "v2/groups/incidents/*/attributes", "v2.incident", (*call).v2IncidentAttribute},
		{"POST", "v2/groups/incidents/*/tags/*", "v2.incident", (*call).v2IncidentTag},
	}
}

// Endpoints lists the names of the API's endpoints.
func Endpoints() []string {
	var out []string
	for _, r := range routes {
		if !slices.Contains(out, r.endpoint) {
			out = append(out, r.endpoint)
		}
	}
	slices.Sort(out)
	return out
}

// Handler serves the API below its prefix and the page everywhere else.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		path := r.URL.EscapedPath()
		rest, ok := strings.CutPrefix(path, s.prefix()+"/")
		if ok && (!s.opts.AtRoot || strings.HasPrefix(rest, "v2/") || strings.HasPrefix(rest, "v3/")) {
			s.serveAPI(w, r, rest)
			return
		}
		s.servePage(w, r)
	})
}

func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request, path string) {
	c := &call{s: s, w: w, r: r}
	routeErr := c.findRoute(path)
	var queryErr error
	c.query, queryErr = url.ParseQuery(r.URL.RawQuery)
	c.rec = &Request{
		Time: s.opts.Now(), Method: r.Method, Endpoint: c.route.endpoint, Target: s.scrub(r.RequestURI),
		Proto: r.Proto, Header: scrubHeader(r.Header),
	}
	s.begin(c.rec)
	defer c.end()
	if err := c.readBody(); err != nil {
		c.abort()
	}
	f := s.takeFault(c)
	c.now = s.opts.Now().Add(s.opts.Skew)
	if f != nil && f.Name == "skew" {
		c.now = c.now.Add(f.By)
	}
	w.Header().Set("Date", c.now.UTC().Format(http.TimeFormat))
	if f != nil && c.inject(f) {
		return
	}
	status, answer, err := c.perform(routeErr, queryErr)
	if err != nil {
		c.fail(err)
		return
	}
	c.send(status, answer)
}

// perform does what was asked.
func (c *call) perform(routeErr, queryErr error) (int, any, error) {
	auth, denied := c.s.authenticate(c.r, c.now)
	if denied != nil {
		c.s.mu.Lock()
		c.s.counters.Unauthorized++
		c.s.mu.Unlock()
		return 0, nil, denied
	}
	c.setAuth(auth)
	switch {
	case c.s.replayed(c.r, c.body) && c.s.opts.RefuseReplays:
		return 0, nil, unauthorized(msgReplay)
	case routeErr != nil:
		return 0, nil, routeErr
	case queryErr != nil:
		return 0, nil, malformed(msgMalformed)
	case c.r.Method != http.MethodGet && c.s.opts.ReadOnly:
		return 0, nil, forbidden(msgDenied)
	}
	c.judge()
	return c.route.serve(c)
}

// judge notes what works here and is not promised to work.
func (c *call) judge() {
	if len(c.r.URL.RawQuery) >= longLine {
		c.violate("the query has " + strconv.Itoa(len(c.r.URL.RawQuery)) + " characters")
	}
	if len(c.body) > 0 && !strings.HasPrefix(c.r.Header.Get("Content-Type"), "application/json") {
		c.violate("a body without Content-Type: application/json")
	}
	if agent := c.r.UserAgent(); agent == "" || strings.HasPrefix(agent, "Go-http-client") {
		c.violate("no User-Agent of its own")
	}
}

// findRoute splits the path before it decodes it: a "/" that came encoded
// belongs to a value.
func (c *call) findRoute(path string) error {
	segments := strings.Split(path, "/")
	version := segments[0]
	if version == "v3" && c.s.opts.NoV3 {
		c.route.endpoint = "v3"
		return noSuchPath(c.r.URL.Path)
	}
	var known bool
	for _, r := range routes {
		args, ok := matchPath(r.path, segments)
		if !ok {
			continue
		}
		known = true
		if r.method == c.r.Method {
			c.route = r
			c.args = args
			return nil
		}
	}
	switch {
	case known:
		return &apiError{status: http.StatusMethodNotAllowed, code: "0x1005", message: "Method Not Allowed"}
	case version == "v3":
		return notFound()
	default:
		return noSuchPath(c.r.URL.Path)
	}
}

// matchPath returns what stands in the place of each "*".
func matchPath(pattern string, segments []string) ([]string, bool) {
	parts := strings.Split(pattern, "/")
	if len(parts) != len(segments) {
		return nil, false
	}
	var args []string
	for i, p := range parts {
		if p != "*" {
			if p != segments[i] {
				return nil, false
			}
			continue
		}
		v, err := url.PathUnescape(segments[i])
		if err != nil || v == "" {
			return nil, false
		}
		args = append(args, v)
	}
	return args, true
}

func (c *call) readBody() error {
	var err error
	c.body, err = io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	c.setBody([]byte(c.s.scrub(string(c.body))))
	return err
}

// isV3 says which of the two forms an answer has.
func (c *call) isV3() bool {
	return strings.HasPrefix(strings.TrimPrefix(c.r.URL.Path, c.s.prefix()), "/v3/") && !c.s.opts.NoV3
}

// fail answers with an error in the version's form.
func (c *call) fail(err error) {
	var e *apiError
	if !errors.As(err, &e) {
		if errors.Is(err, errClientGone) {
			c.abort()
		}
		c.s.opts.Log.Error().Err(err).Msg("emulator failed")
		e = &apiError{status: http.StatusInternalServerError, code: "0x1007", message: msgUnknown}
	}
	switch {
	case e.text:
		c.sendRaw(e.status, "text/plain", []byte(e.message))
	case c.isV3():
		message := e.message
		if e.status == http.StatusUnauthorized {
			message = msgUnauthorized // v3 says no more
		}
		c.send(e.status, object{"errCode": e.code, "message": message, "status": "Error"})
	default:
		c.send(e.status, object{"status": "Failure", "message": e.message})
	}
}

type object = map[string]any

func (c *call) send(status int, v any) {
	if raw, ok := v.(rawReply); ok {
		c.sendRaw(status, raw.kind, raw.data)
		return
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // our own types: cannot happen
	}
	c.sendRaw(status, "application/json", b.Bytes())
}

// rawReply is an answer that is no JSON object.
type rawReply struct {
	kind string
	data []byte
}

func (c *call) sendRaw(status int, kind string, data []byte) {
	c.w.Header().Set("Content-Type", kind)
	if c.fault != nil {
		switch c.fault.Name {
		case "dribble":
			c.dribble(status, data)
			return
		case "badjson":
			data = data[:len(data)*2/3]
		}
	}
	c.setStatus(status)
	c.w.WriteHeader(status)
	_, _ = c.w.Write(data)
}

func (c *call) dribble(status int, data []byte) {
	c.setStatus(status)
	c.w.WriteHeader(status)
	for i := range data {
		if _, err := c.w.Write(data[i : i+1]); err != nil {
			return
		}
		_ = http.NewResponseController(c.w).Flush()
		if !c.wait(c.fault.Delay) {
			c.abort()
		}
	}
}

// wait reports false when the client or the server goes away first.
func (c *call) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.r.Context().Done():
	case <-c.s.ctx.Done():
	}
	return false
}

// abort ends the connection without an answer.
func (c *call) abort() { panic(http.ErrAbortHandler) }

// reset ends the connection with RST where the listener allows that.
func (c *call) reset() {
	conn, _, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		c.abort()
	}
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = t.NetConn()
	}
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = conn.Close()
	c.abort()
}

func notFound() *apiError {
	return &apiError{status: http.StatusNotFound, code: "0x1004", message: msgNotFound}
}

func malformed(message string) *apiError {
	return &apiError{status: http.StatusBadRequest, code: "0x1001", message: message}
}

func forbidden(message string) *apiError {
	return &apiError{status: http.StatusForbidden, code: "0x1003", message: message}
}

func noSuchPath(path string) *apiError {
	return &apiError{status: http.StatusInternalServerError, text: true, message: "Could not find resource for relative : " + path}
}

// window reads resultStart and resultLimit.
func (c *call) window(get func(string) string) (start, limit int, err error) {
	start, errStart := strconv.Atoi(cmp.Or(get("resultStart"), "0"))
	limit, errLimit := strconv.Atoi(cmp.Or(get("resultLimit"), "100"))
	if errStart != nil || errLimit != nil || start < 0 || start > 1<<30 || limit < 1 || limit > c.s.opts.MaxLimit {
		return 0, 0, malformed("The resultStart and resultLimit query parameters must be integers and the maximum value for resultLimit is " + strconv.Itoa(c.s.opts.MaxLimit))
	}
	return start, limit, nil
}

// cut returns the part of a list that a window shows.
func cut[T any](list []T, start, limit int) []T {
	start = min(start, len(list))
	return list[start:min(start+limit, len(list))]
}

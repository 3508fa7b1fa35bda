package cloudsharktest

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// The texts that the contract or its clients quote (contracts/cloudshark.md 0, 1.1).
const (
	msgBadToken  = "API Token is missing or invalid" //nolint:gosec // a message about tokens, not one of them
	msgForbidden = "API Token cannot execute API method"
	msgLogin     = "Must be logged in to use token"
)

const (
	maxURI    = 8 << 10 // nginx's default for a request line; longer ones never reach CloudShark
	lingerFor = 5 * time.Second
)

// call is one API request on its way.
type call struct {
	s        *Server
	w        http.ResponseWriter
	r        *http.Request
	rec      *Request
	body     *body
	rawToken string
	token    *Token
	method   string // API method
	id       string // of the capture in the path
	query    url.Values
	params   params // of an upload
	fault    *Fault
}

// Handler serves the API below /api/ and the page everywhere else.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if strings.Contains(strings.ToLower(r.URL.Path), "/api/") {
			s.serveAPI(w, r)
			return
		}
		s.servePage(w, r)
	})
}

func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	c := &call{s: s, w: w, r: r}
	c.body = &body{c: c, r: r.Body}
	path := c.parsePath()
	query, queryErr := url.ParseQuery(r.URL.RawQuery)
	c.query = query
	header := r.Header.Clone()
	for _, name := range []string{"Authorization", "Proxy-Authorization", "Cookie"} {
		if header.Get(name) != "" {
			header.Set(name, "***")
		}
	}
	c.rec = &Request{
		Time: s.opts.Now(), Method: c.scrub(r.Method), API: c.method, Path: path, Proto: r.Proto,
		Query: c.scrubAll(query), Header: c.scrubAll(header), ContentLength: r.ContentLength,
	}
	s.begin(c.rec)
	defer c.end()

	if f := s.takeFault(c.method, c.filenameHint(), false); f != nil && c.inject(f) {
		return
	}
	if err := c.admit(queryErr); err != nil {
		c.fail(err)
		return
	}
	answer, err := c.perform()
	if err != nil {
		c.fail(err)
		return
	}
	answer()
}

// parsePath takes /api/v1/<token>/<method>[/<id>] apart and returns the path
// with the token replaced.
func (c *call) parsePath() string {
	parts := strings.Split(c.r.URL.Path, "/")
	if len(parts) > 3 {
		c.rawToken = parts[3]
		parts[3] = "-"
	}
	path := c.scrub(strings.Join(parts, "/"))
	if len(parts) < 5 || parts[1] != "api" || parts[2] != "v1" {
		return path
	}
	c.method = c.scrub(parts[4])
	if _, ok := methods[c.method]; !ok {
		c.method = ""
	}
	switch rest := parts[5:]; {
	case len(rest) == 0, len(rest) == 1 && rest[0] == "":
	case len(rest) == 1, len(rest) == 2 && rest[1] == "":
		c.id = rest[0]
	default:
		c.method = ""
	}
	return path
}

func (c *call) filenameHint() string {
	switch c.method {
	case "upload":
		return c.query.Get("filename")
	case "search":
		return c.query.Get("search[filename]")
	}
	session, _ := c.s.store.get(c.id)
	return session.Filename
}

type method struct {
	verbs []string
	needs Permission
	do    func(*call) (func(), error)
	hasID bool
}

// methods is filled by init because its functions lead back to it.
var methods map[string]method

func init() {
	methods = map[string]method{
		"upload":      {[]string{"PUT", "POST"}, Upload, (*call).upload, false},
		"search":      {[]string{"GET"}, Search, (*call).search, false},
		"info":        {[]string{"GET"}, Info, (*call).info, true},
		"download":    {[]string{"GET"}, Download, (*call).download, true},
		"delete":      {[]string{"POST"}, Delete, (*call).remove, true},
		"annotations": {[]string{"GET", "POST"}, Info, (*call).annotations, true},
	}
}

// admit judges everything that can be judged before the body.
func (c *call) admit(queryErr error) error {
	if c.r.Header.Get("Content-Encoding") != "" {
		return violation(http.StatusUnsupportedMediaType, "Content-Encoding is not supported")
	}
	if len(c.r.RequestURI) > maxURI {
		return violation(http.StatusRequestURITooLong, "Request-URI Too Large: more than %d bytes", maxURI)
	}
	if queryErr != nil {
		return violation(http.StatusBadRequest, "Query cannot be parsed")
	}
	if err := c.tokenOutsidePath(); err != nil {
		return err
	}
	agent := c.r.UserAgent()
	if !c.s.opts.UserAgent.MatchString(agent) || strings.HasPrefix(agent, "Go-http-client/") {
		return violation(http.StatusBadRequest, "User-Agent must name the client and its version, as in name/1.2.3")
	}
	c.token = c.s.tokens[strings.ToLower(c.rawToken)]
	if c.token == nil {
		return refuse(http.StatusNotFound, msgBadToken)
	}
	if !c.loggedIn() {
		c.w.Header().Set("WWW-Authenticate", `Basic realm="CloudShark"`)
		return refuse(http.StatusUnauthorized, msgLogin)
	}
	m, ok := methods[c.method]
	if !ok {
		return refuse(http.StatusNotFound, "API method not found")
	}
	if !slices.Contains(m.verbs, c.r.Method) {
		c.w.Header().Set("Allow", strings.Join(m.verbs, ", "))
		return violation(http.StatusMethodNotAllowed, "%s does not take %s", c.method, strings.ToUpper(c.scrub(c.r.Method)))
	}
	needs := m.needs
	if c.method == "annotations" && c.r.Method == http.MethodPost {
		needs = Annotate
	}
	if c.token.Permissions != nil && !slices.Contains(c.token.Permissions, needs) {
		return refuse(http.StatusForbidden, msgForbidden)
	}
	return nil
}

// tokenOutsidePath finds a client that leaks its token into a place other than
// the one the API wants it in.
func (c *call) tokenOutsidePath() error {
	for name, values := range c.r.Header {
		for _, v := range append(slices.Clone(values), name) {
			if c.scrub(v) != v {
				return violation(http.StatusBadRequest, "the token stands in the header %s", c.scrub(name))
			}
		}
	}
	for name, values := range c.query {
		for _, v := range values {
			if c.scrub(v) != v {
				return violation(http.StatusBadRequest, "the token stands in the parameter %s", c.scrub(name))
			}
		}
	}
	return nil
}

func (c *call) loggedIn() bool {
	t := c.token
	if t.LoginUser == "" && t.LoginPassword == "" {
		return true
	}
	user, password, _ := c.r.BasicAuth()
	return subtle.ConstantTimeCompare([]byte(user), []byte(t.LoginUser))&
		subtle.ConstantTimeCompare([]byte(password), []byte(t.LoginPassword)) == 1
}

// perform does what was asked and returns how to answer.
func (c *call) perform() (func(), error) {
	m, ok := methods[c.method]
	if !ok {
		return nil, refuse(http.StatusNotFound, "API method not found")
	}
	if c.token == nil {
		// A fault with accept comes here without admit.
		if err := c.admit(nil); err != nil {
			return nil, err
		}
	}
	if m.hasID {
		if err := c.findID(); err != nil {
			return nil, err
		}
	}
	return m.do(c)
}

// failure is the API's failure reply (contracts/cloudshark.md 0).
type failure struct {
	Status     int      `json:"status"`
	Exceptions []string `json:"exceptions"`
}

// fail answers with an error, and takes in the rest of the body so that the
// client surely gets to read it.
func (c *call) fail(err error) {
	var e *apiError
	switch {
	case errors.As(err, &e):
	case errors.Is(err, errClientGone):
		c.abort()
	default:
		c.s.opts.Log.Error().Str("error", c.scrub(err.Error())).Msg("emulator failed")
		e = refuse(http.StatusInternalServerError, "Internal server error")
	}
	if e.strict {
		c.violate(strings.Join(e.exceptions, "; "))
	}
	c.send(e.status, failure{e.status, e.exceptions})
}

// send answers with JSON under the Content-Type that the API documents.
func (c *call) send(status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own types: cannot happen
	}
	c.sendRaw(status, data)
}

func (c *call) sendRaw(status int, data []byte) {
	if c.w.Header().Get("Content-Type") == "" {
		c.w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
	}
	early := !c.body.ended.Load() && c.r.ContentLength != 0
	if early {
		c.w.Header().Set("Connection", "close")
		_ = http.NewResponseController(c.w).EnableFullDuplex()
	}
	if c.fault != nil && c.fault.Name == "slow-reply" {
		c.dribble(status, data)
		return
	}
	if c.fault != nil && c.fault.Name == "truncated-json" {
		data = data[:len(data)*2/3]
	}
	c.start(status)
	_, _ = c.w.Write(data)
	if early {
		c.linger()
	}
}

func (c *call) start(status int) {
	if c.w.Header().Get("Content-Type") == "" {
		c.w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
	}
	c.setStatus(status)
	c.w.WriteHeader(status)
}

// linger is nginx's lingering close: after an early answer the body is taken in
// for a while, because closing with unread bytes would reset the connection
// before the client has read the answer.
func (c *call) linger() {
	_ = http.NewResponseController(c.w).Flush()
	if strings.EqualFold(c.r.Header.Get("Expect"), "100-continue") {
		return // such a client does not send the body
	}
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Now().Add(lingerFor))
	_, _ = c.readBody(1 << 40)
}

func (c *call) dribble(status int, data []byte) {
	c.start(status)
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

// body counts what is read of a request's body and slows it down.
type body struct {
	c     *call
	r     io.Reader
	n     atomic.Int64
	ended atomic.Bool
}

var errClientGone = errors.New("the client went away")

func (b *body) Read(p []byte) (int, error) {
	if err := b.c.s.ctx.Err(); err != nil {
		return 0, errClientGone
	}
	if f := b.c.fault; f != nil && f.Name == "slow" {
		const ticks = 10 // reads a second
		p = p[:min(int64(len(p)), max(f.Bytes/ticks, 1))]
		if !b.c.wait(time.Second / ticks) {
			return 0, errClientGone
		}
	}
	n, err := b.r.Read(p)
	b.n.Add(int64(n))
	if errors.Is(err, io.EOF) {
		b.ended.Store(true)
	} else if err != nil {
		err = errors.Join(errClientGone, err)
	}
	return n, err
}

func (c *call) readBody(most int64) (int64, error) {
	buf := getBuffer()
	defer putBuffer(buf)
	return io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(c.body, most), *buf)
}

// drain takes the whole body in.
func (c *call) drain() error {
	_, err := c.readBody(1 << 62)
	if errors.Is(err, context.Canceled) {
		return errClientGone
	}
	return err
}

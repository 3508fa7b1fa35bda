package cloudsharktest

import (
	"crypto/subtle"
	"net/http"
	"net/url"
	"slices"
	"strings"
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
	v2       bool // the token belongs into the header Authorization
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
	if strings.HasPrefix(c.r.URL.Path, deepPath) {
		c.v2, c.method, c.rawToken = true, "deep_search", c.r.Header.Get("Authorization")
		c.id = strings.Join(parts[4:], "/")
		return c.scrub(c.r.URL.Path)
	}
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
		"deep_search": {[]string{"GET", "POST"}, DeepSearch, (*call).deepSearch, false},
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
		if c.v2 && name == "Authorization" {
			continue
		}
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

// Package cadotest is a stand-in for Cado Response's API v2 and v3 in the style of
// httptest: it keeps state, checks the key, and misbehaves on request. Tests start
// one with Start; a sandbox serves New's Handler, which has a small page beside the
// API.
//
// What it does is contracts/cado.md. Where the contract says that a fact is unknown
// it does the thing that a client must be ready for: names are filtered loosely,
// ids are numbers or strings, a pipeline is an object or a list of one. A pipeline
// goes on each time that it is asked for. The same import asked for twice in a
// project is begun twice, and counted ("duplicate"), so that a test can see none.
//
// Store is a small S3 endpoint beside it, for the sandbox only: never a proof that
// anything works with S3.
package cadotest

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"capagent/internal/secret"
	"capagent/internal/standin"
)

// Options set a Server up. The zero value works: a random key, both versions.
type Options struct {
	APIKey string // "": random
	NoV3   bool   // an old platform: v3's paths do not exist
	NoV2   bool   // one that has dropped v2
	// SameNames lets v3 create several projects of one name; otherwise the second
	// one is refused with 400. v2 always refuses it with 409.
	SameNames bool
	// OldImport is v3 before 2.230.0: file_name is a string.
	OldImport bool
	// Polls is how often a pipeline is asked for until it has ended; 0: 3.
	Polls int
	// Store is where objects and sidecar logs are looked for; nil: every import finds
	// its object, and timelines have what AddEvents gave them.
	Store *Store

	LoopbackNames bool
	KeepRequests  int
	BaseURL       string // prefix of links; Start sets it
	Log           zerolog.Logger
	Now           func() time.Time // nil: time.Now
}

// Server is a platform of its own. Its methods may be called at any time from any
// goroutine.
type Server struct {
	*standin.Server
	APIKey string

	opts Options

	mu        sync.Mutex
	projects  []*project
	pipelines []*pipeline
	evidence  []*evidence
	uploads   map[string]*upload // by the last part of their URL
	events    []event
	imports   map[string]int // by project and what is imported
	lastID    int
}

// ownKinds are the faults that only this service has. They match the request that
// begins an import.
var ownKinds = []standin.Kind{
	{Name: "fails", Meaning: "takes an import whose pipeline fails; text", Defaults: standin.Fault{Text: "Unable to read the file"}},
	{Name: "cancelled", Meaning: "takes an import whose pipeline somebody cancels"},
	{Name: "badprocessing", Meaning: "takes an import whose processing fails; text", Defaults: standin.Fault{Text: "No processor for this kind of file"}},
	{Name: "alone", Meaning: "takes an import that no processing follows"},
	{Name: "endless", Meaning: "takes an import that does not end"},
	{Name: "unnamed", Meaning: "takes an import whose evidence has no name until the end"},
	{Name: "nopipeline", Meaning: "takes an upload that begins no pipeline"},
}

// Kinds lists the faults.
func Kinds() []standin.Kind { return standin.Kinds(ownKinds) }

// ParseFault reads a fault as standin.ParseFault does.
func ParseFault(text string) (standin.Fault, error) { return standin.ParseFault(text, ownKinds) }

// New returns a platform without projects.
func New(opts Options) *Server {
	s := &Server{APIKey: opts.APIKey, opts: opts, uploads: map[string]*upload{}, imports: map[string]int{}}
	if s.APIKey == "" {
		s.APIKey = standin.Random(24)
	}
	if s.opts.Now == nil {
		s.opts.Now = time.Now
	}
	if s.opts.Polls == 0 {
		s.opts.Polls = 3
	}
	s.Server = standin.New(standin.Options{
		Name: "Cado", API: s.api, Prefixes: []string{"/api/", uploadPath}, Streams: []string{uploadPath},
		Failure: failure, Page: s.page, Kinds: ownKinds,
		Secrets:       []secret.Secret{secret.New(s.APIKey)},
		LoopbackNames: opts.LoopbackNames, KeepRequests: opts.KeepRequests, BaseURL: opts.BaseURL, Log: opts.Log, Now: s.opts.Now,
	})
	return s
}

// Start returns a platform that listens on a free port of 127.0.0.1 until the test
// ends.
func Start(t standin.TB, opts Options) *Server {
	t.Helper()
	s := New(opts)
	s.Start(t)
	return s
}

// APIURL is what a client is configured with.
func (s *Server) APIURL() string { return strings.TrimSuffix(s.BaseURL(), "/") }

// object is a JSON object.
type object = map[string]any

func failure(status int, text string) (string, []byte) {
	data, _ := json.Marshal(object{"status": "error", "message": text, "msg": text, "code": http.StatusText(status)})
	return "application/json", data
}

// call is one request of the API.
type call struct {
	*standin.Call
	v3   bool
	path []string // below /api/vN
	body object
	send func() // the answer, which goes out when the state is not locked any more
}

func (c *call) answer(status int, v any) { c.send = func() { c.JSON(status, v) } }

// ok answers with a success in the version's form.
func (c *call) ok(status int, v2 any, v3 any, more ...object) {
	if !c.v3 {
		c.answer(status, v2)
		return
	}
	o := object{"status": "success", "data": v3}
	for _, m := range more {
		for k, v := range m {
			o[k] = v
		}
	}
	c.answer(status, o)
}

// refuse answers with a failure in the version's form.
func (c *call) refuse(status int, text string) {
	if c.v3 {
		c.answer(status, object{"status": "error", "message": text, "code": "CADO-" + http.StatusText(status), "data": object{}})
		return
	}
	c.answer(status, object{"msg": text})
}

const flaskText = "The requested URL was not found on the server. If you entered the URL manually please check your spelling and try again."

func (c *call) unknown() {
	if c.v3 {
		c.refuse(http.StatusNotFound, flaskText)
		return
	}
	page := "<!doctype html>\n<title>404 Not Found</title>\n<h1>Not Found</h1>\n<p>" + flaskText + "</p>\n"
	c.send = func() { c.Send(http.StatusNotFound, "text/html; charset=utf-8", []byte(page)) }
}

// api answers what stands below /api/, and uploads.
func (s *Server) api(sc *standin.Call) {
	if name, ok := strings.CutPrefix(sc.R.URL.Path, uploadPath); ok {
		s.takeUpload(sc, name)
		return
	}
	c := &call{Call: sc}
	s.serve(c)
	c.send()
}

func (s *Server) serve(c *call) {
	version, rest, _ := strings.Cut(strings.TrimPrefix(c.R.URL.Path, "/api/"), "/")
	c.path, c.v3 = strings.Split(rest, "/"), version == "v3"
	if version != "v2" && version != "v3" || c.v3 && s.opts.NoV3 || !c.v3 && s.opts.NoV2 {
		c.v3 = false
		s.Count("unknown")
		c.unknown()
		return
	}
	if c.R.Header.Get("Authorization") != "Bearer "+s.APIKey {
		s.Count("unauthorized")
		c.refuse(http.StatusUnauthorized, "Token is invalid")
		return
	}
	if c.R.Method == http.MethodPost {
		if !strings.HasPrefix(c.R.Header.Get("Content-Type"), "application/json") || json.Unmarshal(c.Body, &c.body) != nil {
			c.refuse(http.StatusBadRequest, "The body is no JSON object")
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	serve := s.routes(c, c.R.Method+" "+rest)
	if serve == nil {
		s.Count("unknown")
		c.unknown()
		return
	}
	serve(c)
}

// routes finds what answers a request. s.mu is held.
func (s *Server) routes(c *call, route string) func(*call) {
	if c.v3 {
		if f := map[string]func(*call){
			"GET system/status": s.status, "GET projects": s.listProjects, "POST projects": s.createProject,
			"POST import/aws/s3": s.importS3v3, "POST import/url": s.importURL, "POST import/local/pre-signed": s.presign,
			"GET import/aws/ec2": s.listEC2, "POST import/aws/ec2": s.importEC2v3,
			"GET pipelines": s.listPipelines, "GET evidences": s.listEvidence, "GET timeline": s.timelineV3,
		}[route]; f != nil {
			return f
		}
		if len(c.path) == 2 && c.R.Method == http.MethodGet {
			return map[string]func(*call){"projects": s.getProject, "pipelines": s.getPipeline}[c.path[0]]
		}
		return nil
	}
	if f := map[string]func(*call){
		"GET system/status": s.status, "GET projects": s.listProjects, "POST projects": s.createProject, "GET tasks/pipelines": s.getPipeline,
	}[route]; f != nil {
		return f
	}
	if c.path[0] != "projects" || len(c.path) < 2 {
		return nil
	}
	return map[string]func(*call){
		"GET ": s.getProject, "POST imports/s3": s.importS3v2, "GET imports/ec2": s.listEC2, "POST imports/ec2": s.importEC2v2, "GET timeline": s.timelineV2,
	}[c.R.Method+" "+strings.Join(c.path[2:], "/")]
}

func (s *Server) status(c *call) {
	c.ok(http.StatusOK, object{"status": "Running"}, object{"status": "Running", "status_message": "", "is_installing": false, "setup_complete": true})
}

func (s *Server) nextID() int {
	s.lastID++
	return s.lastID
}

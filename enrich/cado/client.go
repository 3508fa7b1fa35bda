// Package cado takes captures into projects of Cado Response, over its API v3 or
// v2 (contracts/cado.md): it finds or creates the project, puts the capture where
// the platform can read it, has it imported once, and follows the pipeline.
//
// Everything that a platform says is bounded and checked here. Every error is a
// *failure.Error; no key and no signed URL is in any.
package cado

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"capagent/internal/config"
	"capagent/internal/failure"
	"capagent/internal/httpx"
	"capagent/internal/secret"
)

// Name is what steps and logs call the platform.
const Name = "cado"

const (
	maxReply    = 16 << 20 // bytes of one reply
	concurrency = 2        // requests at a time
	perPage     = 100
	maxPages    = 200 // of one list
)

// Client speaks the platform's API. It is safe for concurrent use: all its users
// together have two requests under way.
type Client struct {
	http    *httpx.Client
	outside *httpx.Client // for signed URLs, which lead elsewhere
	base    base
	v3      bool
	conf    Config
	log     zerolog.Logger
	scrub   *secret.Redactor
	now     func() time.Time
}

// New returns a client for c, which Validate found right. version goes into the
// User-Agent.
func New(c Config, version string, log zerolog.Logger) (*Client, error) {
	if missing := c.Missing(); len(missing) > 0 {
		return nil, config.Errors(missing)
	}
	if wrong := c.Validate(); len(wrong) > 0 {
		return nil, config.Errors(wrong)
	}
	b, err := parseURL(c.URL, c.AllowHTTP)
	if err != nil {
		return nil, err
	}
	options := httpx.Options{
		UserAgent: "capagent/" + version, Table: "cado",
		AllowHTTP: c.AllowHTTP, CAFile: c.CAFile, Pins: c.Pins,
		IdleTimeout: c.Timeout.Std(), ConnectTimeout: min(c.Timeout.Std(), httpx.DefaultConnectTimeout),
		MaxReply: maxReply, MaxConns: concurrency, Connecting: c.Connecting,
	}
	h, err := httpx.New(options)
	if err != nil {
		return nil, fmt.Errorf("[cado] %w", err)
	}
	options.CAFile, options.Pins, options.MaxReply = "", nil, 64<<10
	outside, err := httpx.New(options)
	if err != nil {
		return nil, fmt.Errorf("[cado] %w", err)
	}
	return &Client{
		http: h, outside: outside, base: b, v3: c.APIVersion == 3, conf: c, log: log,
		scrub: secret.NewRedactor(c.APIKey, c.SecretAccessKey), now: time.Now,
	}, nil
}

// Close drops idle connections.
func (c *Client) Close() {
	c.http.Close()
	c.outside.Close()
}

// Link is the platform's own page. Nothing is known of the addresses of its
// projects and pipelines, so people get its entrance, and their names.
func (c *Client) Link() string { return c.base.origin() + c.base.path + "/" }

// request is one call of the API.
type request struct {
	method string // "" for GET
	path   string // below /api/v3 or /api/v2; segments escaped
	query  url.Values
	body   any // becomes JSON; nil for none
	// v2 asks that version, whatever is configured; v3 likewise.
	v2, v3 bool
}

// call sends r once and returns what its success holds.
func (c *Client) call(ctx context.Context, r request) (envelope, error) {
	v3 := (c.v3 || r.v3) && !r.v2
	target := c.base.origin() + c.base.path + "/api/v2" + r.path
	if v3 {
		target = c.base.origin() + c.base.path + "/api/v3" + r.path
	}
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	method := r.method
	if method == "" {
		method = http.MethodGet
	}
	var body []byte
	if r.body != nil {
		var err error
		if body, err = json.Marshal(r.body); err != nil {
			return envelope{}, fail(ClassBadRequest, errors.New("the request can't be written"))
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil { // its text holds the target
		return envelope{}, fail(ClassBadRequest, errors.New("the request can't be written"))
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+c.conf.APIKey.Reveal())
	reply, err := c.http.Do(req)
	if err != nil {
		return envelope{}, err
	}
	return judge(reply, v3, c.scrub.String, c.now())
}

// Health is what a platform says of itself.
type Health struct {
	Version int    // of the API that answered: 3 or 2
	Status  string // "Running"
	Ready   bool
}

// Probe asks the platform whether it is up: v3 first, then v2 (contracts/cado.md
// 5.1). It fails when it is not, or when only the other version answers than the
// configured one.
func (c *Client) Probe(ctx context.Context) (Health, error) {
	var h Health
	e, err := c.call(ctx, request{path: "/system/status", v3: true})
	h.Version = 3
	if isClass(err, ClassBadURL) || isClass(err, ClassNotFound) {
		e, err = c.call(ctx, request{path: "/system/status", v2: true})
		h.Version = 2
	}
	if err != nil {
		return Health{}, about("ask the platform for its status", err)
	}
	var s struct {
		Status     text  `json:"status"`
		Message    text  `json:"status_message"`
		Installing flag  `json:"is_installing"`
		Setup      *flag `json:"setup_complete"`
	}
	_ = json.Unmarshal(e.Data, &s)
	h.Status = line(string(s.Status), maxName)
	h.Ready = !bool(s.Installing) && (s.Setup == nil || bool(*s.Setup)) && strings.EqualFold(h.Status, "running")
	switch {
	case c.v3 && h.Version == 2:
		f := failf(ClassBadURL, "the platform has the API v2, not v3")
		f.Hint = "set [cado] api_version = 2"
		return h, f
	case !h.Ready:
		return h, failf(ClassBusy, "the platform is not ready: %s", strconv.QuoteToGraphic(line(h.Status+" "+string(s.Message), maxName)))
	}
	return h, nil
}

// pages reads a list page by page until a page is short, the last one is reached,
// or there are more than anybody should read.
func (c *Client) pages(ctx context.Context, r request, f func(json.RawMessage) error) error {
	for page := 1; page <= maxPages; page++ {
		q := url.Values{"page": {strconv.Itoa(page)}, "per_page": {strconv.Itoa(perPage)}}
		for k, v := range r.query {
			q[k] = v
		}
		one := r
		one.query = q
		e, err := c.call(ctx, one)
		if err != nil {
			return err
		}
		n := 0
		err = each(e.Data, 100*perPage, func(raw json.RawMessage) error { n++; return f(raw) })
		if err != nil {
			return fail(ClassBadReply, err)
		}
		if total := int(e.Pagination.TotalPages); n == 0 || total > 0 && page >= total || total == 0 && n < perPage {
			return nil
		}
	}
	return &failure.Error{Kind: failure.Permanent, Class: ClassBadReply, Err: fmt.Errorf("the list has more than %d pages", maxPages)}
}

// Package upload brings captures to CloudShark (contracts/cloudshark.md): a
// client of its API v1, and the pipeline's step that names, tags, splits and
// sends a capture and finds it again after a lost answer.
//
// A file is never held in memory: it streams from the disk while its hash is
// computed again, and the last bytes are kept back until the hash is known to be
// that of the inspection. So a session never holds anything else than what the
// ledger says.
//
// Every failure is a *failure.Error with a class and a hint. The token is in no
// text: internal/httpx puts it into the URL, and servers' texts are masked.
package upload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"capagent/internal/config"
	"capagent/internal/failure"
	"capagent/internal/httpx"
)

const (
	apiPath = "/api/v1/" + httpx.Placeholder + "/"
	// maxQuery keeps a request line below the 8 KiB that common servers take.
	maxQuery = 7 << 10
	// A body of at least this size waits for the server's word that it wants it,
	// so that a wrong token or a size limit is known before gigabytes are sent.
	minExpect = 1 << 20
)

// Upload is one capture file to send.
type Upload struct {
	Name     string
	Tags     []string // without commas
	Comments string
	Method   string // MethodPut, MethodPost, or "" for the configuration's choice
	Keylog   string // path of a TLS key log that goes along, or ""; it needs POST
	Size     int64  // exact
	// Body opens the content. It is called again when a server wants the same
	// request in another form, before any of it was sent.
	Body func() (io.ReadCloser, error)
}

// Session is what CloudShark made of an upload.
type Session struct {
	ID       string // 12 hexadecimal digits
	URL      string // built from our own base URL
	Filename string // as the server says it
}

// Client speaks CloudShark's API v1. It is safe for concurrent use.
type Client struct {
	http     *httpx.Client
	base     string
	method   string
	now      func() time.Time
	noExpect atomic.Bool   // the server does not know "Expect: 100-continue"
	deepPoll time.Duration // 0: the usual
}

// NewClient returns a client for c, which Validate found right. version goes
// into the User-Agent.
func NewClient(c Config, version string) (*Client, error) {
	if missing := c.Missing(); len(missing) > 0 {
		return nil, config.Errors(missing)
	}
	if wrong := c.Validate(); len(wrong) > 0 {
		return nil, config.Errors(wrong)
	}
	h, err := newHTTP(c, version)
	if err != nil {
		return nil, fmt.Errorf("[cloudshark] %w", err)
	}
	return &Client{http: h, base: c.Destination(), method: c.Method, now: time.Now}, nil
}

func newHTTP(c Config, version string) (*httpx.Client, error) {
	conns := c.Concurrency
	if c.Stream { // each stream has a connection for as long as it is open
		conns = 0
	}
	return httpx.New(httpx.Options{
		UserAgent: "capagent/" + version, Table: "cloudshark",
		AllowHTTP: c.AllowHTTP, CAFile: c.CAFile, Pins: c.Pins,
		IdleTimeout: c.Timeout.Std(), Bandwidth: c.Bandwidth.BytesPerSecond(),
		MaxConns: conns, PathSecret: c.Token, Connecting: c.Connecting,
	})
}

// Close drops idle connections.
func (c *Client) Close() { c.http.Close() }

// Link returns the address of a session.
func (c *Client) Link(id string) string { return c.base + "/captures/" + id }

// Upload sends u and returns the session that it became. An error of kind Retry
// may come after the server took the file: ask Find before sending again.
func (c *Client) Upload(ctx context.Context, u Upload) (Session, error) {
	session, err := c.upload(ctx, u)
	if err != nil {
		return Session{}, about("upload", u.Name, err)
	}
	return session, nil
}

func (c *Client) upload(ctx context.Context, u Upload) (Session, error) {
	reply, err := c.send(ctx, u, u.Size >= minExpect && !c.noExpect.Load())
	if err == nil && reply.Status == http.StatusExpectationFailed {
		c.noExpect.Store(true)
		reply, err = c.send(ctx, u, false)
	}
	if err != nil {
		return Session{}, err
	}
	id, filename, err := accepted(reply, c.http.Scrub, c.now())
	if err != nil {
		return Session{}, err
	}
	return Session{ID: id, URL: c.Link(id), Filename: filename}, nil
}

func (c *Client) send(ctx context.Context, u Upload, expect bool) (*httpx.Reply, error) {
	method := u.Method
	if method == "" {
		method = c.method
	}
	query := fields(u).Encode()
	var req *http.Request
	var err error
	if method == MethodPost || u.Keylog != "" || len(query) > maxQuery {
		req, err = c.post(ctx, u)
	} else {
		req, err = c.put(ctx, u, query)
	}
	if err != nil {
		return nil, err
	}
	if expect {
		req.Header.Set("Expect", "100-continue")
	}
	return c.http.Do(req)
}

// fields are the parameters of an upload (contracts/cloudshark.md 1.2).
func fields(u Upload) url.Values {
	v := url.Values{"filename": {u.Name}}
	if len(u.Tags) > 0 {
		v.Set("additional_tags", strings.Join(u.Tags, ","))
	}
	if u.Comments != "" {
		v.Set("comments", u.Comments)
	}
	return v
}

func (c *Client) put(ctx context.Context, u Upload, query string) (*http.Request, error) {
	body, err := u.Body()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, c.base+apiPath+"upload?"+query, body)
	if err != nil {
		return nil, errors.Join(err, body.Close())
	}
	req.ContentLength = u.Size
	return req, nil
}

// get asks for JSON. An error is the failure that the answer stands for.
func (c *Client) get(ctx context.Context, method string, query url.Values) (*httpx.Reply, error) {
	address := c.base + apiPath + method
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	reply, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	_, texts := exceptionsOf(reply)
	if reply.Status != http.StatusOK || reply.Err != nil || len(texts) > 0 {
		return reply, refusal(reply, c.http.Scrub, c.now())
	}
	return reply, nil
}

// about says what was tried, and keeps the failure's kind, class and hint.
func about(op, object string, err error) error {
	f := *failure.As(err)
	f.Err = fmt.Errorf("%s %q: %w", op, object, f.Err)
	return &f
}

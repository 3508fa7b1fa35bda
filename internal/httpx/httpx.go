// Package httpx is the agent's one way to speak HTTP to a service.
//
// A service's secret may be part of the URL's path (CloudShark). Requests are
// therefore built with the segment "-" in its place; the transport puts the
// secret in on a copy, at the last moment, so that no error, log or Referer can
// hold it. Text from a server is scrubbed of it as a second line of defence.
//
// The client follows no redirect, repeats no request that has a body, checks
// certificates always, talks plain HTTP to this machine only (unless allowed),
// reads at most 1 MiB of a reply (or MaxReply), and gives up when no byte moves for the idle
// timeout. It speaks HTTP/1.1 only: one connection carries one upload, so a
// broken one concerns one capture, and no per-stream window throttles it.
//
// Every error is a *failure.Error.
package httpx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"capagent/internal/failure"
	"capagent/internal/secret"
)

// Placeholder is the path segment that stands for the secret in requests:
// "/api/v1/-/upload".
const Placeholder = "-"

// Limits.
const (
	MaxReply       = 1 << 20  // bytes of a reply's body that are read, unless Options say else
	maxReplyHeader = 64 << 10 // bytes of a reply's header
	copyBuffer     = 256 << 10
	keepIdle       = 90 * time.Second
)

// thinkRate is how many bytes a second a server is granted to take in what it was
// sent: CloudShark says nothing while it indexes a capture.
const thinkRate = 10 << 20

func thinking(size int64) time.Duration { return time.Duration(max(size, 0)/thinkRate) * time.Second }

// Defaults of Options.
const (
	DefaultConnectTimeout = 30 * time.Second
	DefaultIdleTimeout    = time.Minute
)

// Options configure a Client. Zero values mean the defaults.
type Options struct {
	UserAgent string // "capagent/VERSION"
	Table     string // the configuration's table that hints name: "cloudshark"

	AllowHTTP bool     // plain HTTP to hosts other than this one
	CAFile    string   // PEM certificates to trust instead of the system's
	Pins      []string // "sha256/BASE64" of a public key (RFC 7469 2.4); one must be in the verified chain

	ConnectTimeout time.Duration // for each of connecting and the TLS handshake
	// IdleTimeout is how long no byte may move in either direction (while a body of
	// unknown length has none to send, the time stands still), and the
	// longest time that one reply may trickle in. Before it answers, a server has
	// a second more for each thinkRate bytes of the request.
	IdleTimeout time.Duration
	Bandwidth   int64 // bytes/s of all request bodies together, 0 for no limit
	MaxConns    int   // connections to one host at a time, 0 for no limit
	MaxReply    int64 // bytes of a reply's body that are read, 0 for the constant of that name
	// Once gives each request a connection of its own. On one that was used before,
	// the transport sends a request without a body a second time when the server
	// closes it, and with the same header: what is signed for a single use must not.
	Once bool

	Connecting Connecting // is told of each connection; nil: nobody is

	// PathSecret replaces the first Placeholder segment of every request's path, or
	// an Authorization header that is Placeholder; unset, both are sent as they are.
	PathSecret secret.Secret
}

// Client sends requests. It is safe for concurrent use.
type Client struct {
	opts          Options
	secure, plain *http.Transport
	limit         *rate.Limiter // nil for no limit
	scrub         *secret.Redactor
}

// Reply is a whole answer.
type Reply struct {
	Status int
	Header http.Header
	Body   []byte // at most Options.MaxReply bytes
	Err    error  // why this is not a whole answer to a whole request, nil when it is
}

// New returns a client. It reads CAFile and fails when that or a pin is unusable.
func New(o Options) (*Client, error) { return newClient(o, http.ProxyFromEnvironment) }

func newClient(o Options, proxy func(*http.Request) (*url.URL, error)) (*Client, error) {
	if o.ConnectTimeout <= 0 {
		o.ConnectTimeout = DefaultConnectTimeout
	}
	if o.IdleTimeout <= 0 {
		o.IdleTimeout = DefaultIdleTimeout
	}
	if o.MaxReply <= 0 {
		o.MaxReply = MaxReply
	}
	config, err := tlsConfig(o.CAFile, o.Pins)
	if err != nil {
		return nil, err
	}
	c := &Client{opts: o, scrub: secret.NewRedactor(o.PathSecret)}
	if o.Bandwidth > 0 {
		c.limit = rate.NewLimiter(rate.Limit(o.Bandwidth), int(min(max(o.Bandwidth/8, 4<<10), copyBuffer)))
	}
	c.secure = &http.Transport{
		Proxy:                  hideProxy(proxy),
		OnProxyConnectResponse: judgeProxy,
		DialContext:            dialer(o.ConnectTimeout, false, o.Connecting),
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    o.ConnectTimeout,
		DisableCompression:     true, // a reply's size is what the wire carries
		DisableKeepAlives:      o.Once,
		MaxIdleConnsPerHost:    max(o.MaxConns, 2),
		MaxConnsPerHost:        o.MaxConns,
		IdleConnTimeout:        keepIdle,
		ExpectContinueTimeout:  2 * time.Second,
		MaxResponseHeaderBytes: maxReplyHeader,
		WriteBufferSize:        64 << 10,
		Protocols:              new(http.Protocols),
	}
	c.secure.Protocols.SetHTTP1(true)
	c.plain = c.secure.Clone()
	if !o.AllowHTTP {
		// A proxy would carry the secret off this machine.
		c.plain.Proxy = nil
		c.plain.DialContext = dialer(o.ConnectTimeout, true, o.Connecting)
	}
	return c, nil
}

// Close drops idle connections.
func (c *Client) Close() {
	c.secure.CloseIdleConnections()
	c.plain.CloseIdleConnections()
}

// Scrub masks the client's secret in s, in any form that a server may echo.
func (c *Client) Scrub(s string) string { return c.scrub.String(s) }

// Do sends req and reads the answer. The request's path holds Placeholder where
// the secret belongs. The request's body is closed when Do returns, and nothing
// reads it any more. An error means that no answer came; whether the server
// acted on the request is then unknown, unless its class says otherwise. Where the
// body's length is unknown, its Close must end a Read that waits.
func (c *Client) Do(req *http.Request) (*Reply, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	defer cancel(nil)
	w := &watch{idle: c.opts.IdleTimeout, think: thinking(req.ContentLength), cancel: cancel}
	defer w.stop()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn:      func(info httptrace.GotConnInfo) { w.start(info.Conn) },
		WroteRequest: func(httptrace.WroteRequestInfo) { w.asked() },
	})

	out, sent, err := c.prepare(ctx, req, w)
	if err != nil {
		return nil, err
	}
	transport := c.secure
	if out.URL.Scheme == "http" {
		transport = c.plain
	}
	resp, err := transport.RoundTrip(out)
	if err != nil {
		cause := c.why(ctx, req, sent, err)
		cancel(nil)
		sent.wait()
		return nil, cause
	}
	w.answered()
	answered(ctx, resp.Header)
	resp.Request = req
	reply := &Reply{Status: resp.StatusCode, Header: resp.Header}
	reply.Body, err = io.ReadAll(io.LimitReader(resp.Body, c.opts.MaxReply+1))
	switch {
	case err != nil:
		reply.Err = c.why(ctx, req, nil, err)
	case int64(len(reply.Body)) > c.opts.MaxReply:
		reply.Body = reply.Body[:c.opts.MaxReply]
		reply.Err = &failure.Error{Class: ClassNetwork, Err: fmt.Errorf("the reply is longer than %d bytes", c.opts.MaxReply)}
	}
	_ = resp.Body.Close()
	if own := sent.failed(); own != nil {
		reply.Err = c.why(ctx, req, sent, own)
	} else if !sent.whole.Load() {
		reply.Err = &failure.Error{Class: ClassNetwork, Err: errEarly}
	}
	cancel(nil)
	sent.wait()
	if resp.StatusCode/100 == 3 {
		return nil, c.redirected(req, resp)
	}
	return reply, nil
}

// prepare returns the copy of req that goes onto the wire.
func (c *Client) prepare(ctx context.Context, req *http.Request, w *watch) (*http.Request, *body, error) {
	sent := &body{rc: req.Body, ctx: ctx, limit: c.limit, watch: w, left: req.ContentLength, live: req.ContentLength <= 0, closed: make(chan struct{})}
	if req.Body == nil || req.Body == http.NoBody {
		sent.live = false
		sent.whole.Store(true)
		close(sent.closed)
	}
	refuse := func(format string, args ...any) (*http.Request, *body, error) {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, nil, &failure.Error{Kind: failure.Pause, Class: ClassBadURL, Err: fmt.Errorf(format, args...)}
	}
	if s := req.URL.Scheme; s != "https" && s != "http" {
		return refuse("the URL's protocol is neither https nor http")
	}
	if req.URL.User != nil {
		return refuse("the URL holds a user name")
	}
	out := req.Clone(ctx)
	if sent.live { // its Read may wait for what never comes
		context.AfterFunc(ctx, sent.hangUp)
		w.over = sent.hangUp
	}
	out.GetBody = nil // with it the transport might send a body twice
	if req.Body != nil && req.Body != http.NoBody {
		out.Body = sent
	}
	if out.Header.Get("User-Agent") == "" {
		out.Header.Set("User-Agent", c.opts.UserAgent)
	}
	if !c.opts.PathSecret.IsZero() && out.Header.Get("Authorization") == Placeholder {
		out.Header.Set("Authorization", c.opts.PathSecret.Reveal())
	} else if !c.opts.PathSecret.IsZero() {
		before, after, ok := strings.Cut(out.URL.Path, "/"+Placeholder+"/")
		if !ok {
			return refuse("the path has no place for the secret")
		}
		out.URL.Path, out.URL.RawPath = before+"/"+c.opts.PathSecret.Reveal()+"/"+after, ""
	}
	return out, sent, nil
}

// body hands the request's body to the transport: at the allowed rate, keeping
// its error, and telling when it is all read and when nobody reads it any more.
type body struct {
	rc     io.ReadCloser
	ctx    context.Context
	limit  *rate.Limiter
	watch  *watch
	left   int64 // bytes to come; negative when only the end tells
	live   bool  // bytes come as they are made
	sent   int64 // of a live one
	hung   atomic.Bool
	whole  atomic.Bool
	err    atomic.Pointer[error]
	done   atomic.Bool
	closed chan struct{}
}

func (b *body) Read(p []byte) (int, error) {
	if b.limit != nil && len(p) > b.limit.Burst() {
		p = p[:b.limit.Burst()]
	}
	if b.live {
		b.watch.pause(true) // that nothing is there to send is no silence of the server's
	}
	n, err := b.rc.Read(p)
	if b.live {
		b.watch.pause(false)
		if b.sent += int64(n); err == io.EOF {
			b.watch.took(b.sent)
		}
	}
	if err != nil && err != io.EOF && b.hung.Load() {
		err = net.ErrClosed // whatever the body calls it that it was closed
	}
	b.left -= int64(n)
	switch {
	case err != nil && err != io.EOF && !b.hung.Load():
		failed := err // err itself would be allocated at every read
		b.err.Store(&failed)
	case b.left == 0 || err == io.EOF:
		b.whole.Store(true)
	}
	if b.limit != nil && n > 0 {
		b.watch.pause(true) // waiting for its turn is no silence
		werr := b.limit.WaitN(b.ctx, n)
		b.watch.pause(false)
		if werr != nil {
			return 0, werr
		}
	}
	return n, err
}

func (b *body) Close() error {
	err := b.rc.Close()
	if b.done.CompareAndSwap(false, true) {
		close(b.closed)
	}
	return err
}

// hangUp ends a Read that waits for bytes which nobody will take.
func (b *body) hangUp() {
	b.hung.Store(true)
	_ = b.rc.Close()
}

func (b *body) wait() { <-b.closed }

// failed returns the error with which the request's own body ended, or nil.
func (b *body) failed() error {
	if err := b.err.Load(); err != nil {
		return *err
	}
	return nil
}

var (
	errIdle  = errors.New("no byte moved")
	errSlow  = errors.New("the reply did not end")
	errEarly = errors.New("the server answered before it had the whole request")
	errPlain = errors.New("plain HTTP")
)

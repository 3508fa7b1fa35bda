// Package cloudshare tells which lab environment of CloudShare a machine in a capture
// belongs to, and preserves an environment when it is asked to (contracts/
// cloudshare-cloudtrax.md 1). CloudShare rents labs of virtual machines; it has nothing
// to do with CloudShark.
//
// Client speaks the API v3. Reader learns the environments and names the machines of a
// capture; it holds nothing with which it could form a request that changes anything.
// Preserver changes what Config lets it: it keeps an environment alive, takes a snapshot
// and may suspend it. There is no call here that destroys anything.
//
// A request's URL is built once; those bytes are signed, and those bytes are sent. Each
// attempt is signed anew when its turn has come, with a token of its own, and goes over
// a connection of its own, since the transport repeats requests by itself otherwise.
//
// Everything that a server says is bounded and checked here. Passwords, user names and
// console tokens of machines are in its replies: nothing here has a field for them.
// Every error is a *failure.Error.
package cloudshare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"capagent/internal/config"
	"capagent/internal/failure"
	"capagent/internal/httpx"
	"capagent/internal/lazy"
	"capagent/internal/secret"
)

// Name is what devices give as their source.
const Name = "cloudshare"

const (
	maxReply = 16 << 20    // bytes
	pace     = time.Second // between the beginnings of two requests
	maxSkew  = 20 * time.Second
	day      = 24 * time.Hour
)

// Client speaks CloudShare's API: one request at a time, one a second, so many a day.
// It is safe for concurrent use. Reader and Preserver of one account share one.
type Client struct {
	http  *httpx.Client
	base  string // "https://use.cloudshare.com/api/v3/"
	conf  Config
	log   zerolog.Logger
	scrub *secret.Redactor
	now   func() time.Time
	pace  time.Duration

	turn   chan struct{}
	since  atomic.Int64 // when the request that is under way was sent, Unix nanoseconds; 0 without one
	offset atomic.Int64 // what the server's clock is ahead of ours, a time.Duration
	warned atomic.Int64 // the offset that the log was told

	mu     sync.Mutex
	last   time.Time // when the last request began
	counts struct {
		since time.Time
		used  int
	}
}

// New returns a client for c. version goes into the User-Agent.
func New(c Config, version string, log zerolog.Logger) (*Client, error) {
	if missing := c.Missing(); len(missing) > 0 {
		return nil, config.Errors(missing)
	}
	if wrong := c.Validate(); len(wrong) > 0 {
		return nil, config.Errors(wrong)
	}
	base, err := parseURL(c.URL, c.AllowHTTP)
	if err != nil {
		return nil, err
	}
	h, err := httpx.New(httpx.Options{
		UserAgent: "capagent/" + version, Table: Name,
		AllowHTTP: c.AllowHTTP, CAFile: c.CAFile, Pins: c.Pins,
		IdleTimeout: c.Timeout.Std(), ConnectTimeout: c.Timeout.Std(),
		MaxReply: maxReply, Connecting: c.Connecting, Once: true,
	})
	if err != nil {
		return nil, fmt.Errorf("[cloudshare] %w", err)
	}
	return &Client{
		http: h, base: base + "/", conf: c, log: log, scrub: secret.NewRedactor(c.APIKey),
		now: time.Now, pace: pace, turn: make(chan struct{}, 1),
	}, nil
}

// Close drops what is kept of connections. Nothing may be under way any more.
func (c *Client) Close() { c.http.Close() }

// Ping asks whether the credentials are good. It changes nothing.
func (c *Client) Ping(ctx context.Context) error {
	body, err := c.get(ctx, ping)
	if err == nil && !bytes.Contains(body, []byte("Pong")) {
		err = fail(ClassBadReply, errors.New("CloudShare does not answer a ping with a pong"))
	}
	return about("ping", err)
}

// Calls is how many requests were sent since the day began that daily_calls is about.
func (c *Client) Calls() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts.used
}

// reading is a path that is read. These are all.
type reading string

const (
	ping      reading = "ping"
	envs      reading = "envs"
	extended  reading = "envs/actions/getextended"
	byVanity  reading = "envs/actions/getextendedbymachinevanity"
	snapshots reading = "snapshots/actions/getforenv"
)

// getter is all that Reader has of a Client.
type getter interface {
	get(ctx context.Context, what reading, query ...string) ([]byte, error)
}

// get reads one thing. query is keys and values in turns. Readers leave a tenth of the
// day's calls to those who preserve.
func (c *Client) get(ctx context.Context, what reading, query ...string) ([]byte, error) {
	return c.send(ctx, request{method: http.MethodGet, path: string(what), query: query, most: c.conf.DailyCalls - c.conf.DailyCalls/10})
}

// request is one call of the API.
type request struct {
	method string
	path   string   // below the base
	query  []string // keys and values in turns
	body   []byte   // JSON
	most   int      // calls of this day
}

// plain is what needs no escaping anywhere: the server signs what it gets, so there is
// one way only to write a value.
var plain = lazy.Regexp(`^[A-Za-z0-9._~-]{1,300}$`)

func (c *Client) url(r request) (string, error) {
	url := c.base + r.path
	for i := 0; i+1 < len(r.query); i += 2 {
		if !plain().MatchString(r.query[i+1]) {
			return "", fail(ClassRefused, errors.New("the request can't be written: an id or a name has characters that none has"))
		}
		url += map[bool]string{true: "?", false: "&"}[i == 0] + r.query[i] + "=" + r.query[i+1]
	}
	return url, nil
}

// send waits for its turn and sends r. A request that reads is sent once more when the
// server's clock may be why it was refused, and when the server was busy for a moment.
func (c *Client) send(ctx context.Context, r request) ([]byte, error) {
	url, err := c.url(r)
	if err != nil {
		return nil, err
	}
	for again := false; ; again = true {
		reply, moved, err := c.attempt(ctx, r, url)
		if err != nil {
			return nil, err
		}
		body, err := open(reply, c.mask, c.now())
		if again || r.method != http.MethodGet {
			return body, err
		}
		clock := moved && (reply.Status == http.StatusUnauthorized || reply.Status == http.StatusForbidden)
		if !clock && (!isClass(err, ClassBusy) || reply.Status == http.StatusTooManyRequests || failure.As(err).RetryAfter > c.pace) {
			return body, err
		}
	}
}

// attempt signs r when its turn has come, sends it, and says whether the server's clock
// differs much from the one that it was signed with.
func (c *Client) attempt(ctx context.Context, r request, url string) (*httpx.Reply, bool, error) {
	if err := c.wait(ctx, r.most); err != nil {
		return nil, false, err
	}
	defer func() { <-c.turn }()
	req, err := http.NewRequestWithContext(ctx, r.method, url, bytes.NewReader(r.body)) //nolint:gosec // the configuration says where, and query values are plain
	if err == nil && (req.URL.String() != url || !strings.HasSuffix(url, req.URL.RequestURI()) || !strings.HasPrefix(url, req.URL.Scheme+"://"+req.Host)) {
		err = errors.New("it would be sent in another form than it is signed in")
	}
	if err != nil {
		return nil, false, fail(ClassRefused, errors.New("the request can't be written"))
	}
	req.Header.Set("Accept", "application/json")
	if len(r.body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	ahead := time.Duration(c.offset.Load())
	req.Header.Set("Authorization", authorization(c.conf.APIID, c.conf.APIKey, url, c.now().Add(ahead), newToken()))
	c.since.Store(c.now().UnixNano())
	reply, err := c.http.Do(req)
	c.since.Store(0)
	if err == nil && isClass(reply.Err, httpx.ClassCanceled) {
		err = reply.Err
	}
	if err != nil {
		return nil, false, unanswered(ctx, err)
	}
	return reply, c.learn(reply.Header, ahead), nil
}

// unanswered tells a deadline that ends a request that was sent from one that ends waiting
// for its turn.
func unanswered(ctx context.Context, err error) error {
	if isClass(err, httpx.ClassCanceled) && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fail(ClassNoAnswer, fmt.Errorf("CloudShare did not answer in time: %w", context.DeadlineExceeded))
	}
	return err
}

// wait returns with the turn taken.
func (c *Client) wait(ctx context.Context, most int) error {
	if ctx.Err() != nil {
		return canceled(ctx.Err())
	}
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		if since := c.since.Load(); since != 0 && c.now().Sub(time.Unix(0, since)) > 2*time.Second {
			return unanswered(ctx, canceled(ctx.Err())) // nor did it answer who was first
		}
		return canceled(ctx.Err())
	}
	err := c.begin(ctx, most)
	if err != nil {
		<-c.turn
	}
	return err
}

// begin waits until a request may begin, and counts it.
func (c *Client) begin(ctx context.Context, most int) error {
	c.mu.Lock()
	pause := c.pace - time.Since(c.last)
	c.mu.Unlock()
	if deadline, ok := ctx.Deadline(); ok && pause > 0 && time.Until(deadline) < pause {
		return canceled(context.DeadlineExceeded) // it would come after it
	}
	if pause > 0 {
		t := time.NewTimer(pause)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return canceled(ctx.Err())
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if age := now.Sub(c.counts.since); age >= day || age < 0 {
		c.counts.since, c.counts.used = now, 0
	}
	if c.counts.used >= most {
		f := fail(ClassBudget, fmt.Errorf("%d calls were made in a day, which is what CloudShare is asked at most", c.counts.used))
		f.RetryAfter = c.counts.since.Add(day).Sub(now)
		return f
	}
	c.counts.used++
	c.last = time.Now()
	return nil
}

func canceled(err error) error { return &failure.Error{Class: httpx.ClassCanceled, Err: err} }

// learn takes the server's clock, and says whether it differs much from the one that a
// request was signed with.
func (c *Client) learn(h http.Header, used time.Duration) bool {
	theirs, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return false
	}
	ahead := theirs.Sub(c.now())
	c.offset.Store(int64(ahead))
	if before := time.Duration(c.warned.Load()); (ahead - before).Abs() > maxSkew {
		c.warned.Store(int64(ahead))
		if ahead.Abs() > maxSkew {
			c.log.Warn().Stringer("ahead", ahead.Round(time.Second)).
				Msg("CloudShare's clock differs from this machine's: requests are signed with its time from now on; set this machine's clock right")
		}
	}
	return (ahead - used).Abs() > maxSkew
}

// theirNow is the time by the server's clock.
func (c *Client) theirNow() time.Time { return c.now().Add(time.Duration(c.offset.Load())) }

// mask takes the key, and what was signed with it, out of a server's text.
func (c *Client) mask(s string) string {
	s = c.scrub.String(s)
	if i := strings.Index(s, "cs_sha1"); i >= 0 {
		s = s[:i] + "cs_sha1 " + secret.Mask
	}
	return s
}

// Package threatconnect asks ThreatConnect what it knows of indicators, over its
// API v3 or v2, and writes sightings back (contracts/threatconnect.md).
//
// The target of a request is built once, in its encoded form; those bytes are
// signed, and those bytes are sent. Each attempt is signed anew. Where the server
// refuses a request and its clock is more than a minute away from ours, its clock
// counts from then on.
//
// Everything that a server says is bounded and checked here. Values come from
// packets: they are escaped wherever they go. Every error is a *failure.Error;
// neither keys nor tokens nor signatures are in any.
package threatconnect

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
	"golang.org/x/time/rate"

	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
	"capagent/internal/config"
	"capagent/internal/failure"
	"capagent/internal/httpx"
	"capagent/internal/secret"
)

// Name is what verdicts of ThreatConnect give as their source.
const Name = "threatconnect"

const (
	maxReply    = 16 << 20 // bytes of one page
	concurrency = 2        // requests at a time
	maxSkew     = time.Minute
)

// Client speaks ThreatConnect's API. It is safe for concurrent use: all its users
// together have two requests under way, at the configured rate.
type Client struct {
	http  *httpx.Client
	base  base
	v3    bool
	who   credentials
	names map[indicator.Type]string // custom types
	conf  Config
	log   zerolog.Logger
	scrub *secret.Redactor
	now   func() time.Time

	slots  chan struct{}
	pace   *rate.Limiter
	offset atomic.Int64 // what the server's clock is ahead of ours, a time.Duration
	small  atomic.Bool  // large batches proved impossible
	lists  atomic.Bool  // v2: they proved possible
	// checked is set when the configured owners were seen.
	checked atomic.Bool

	excluding chan struct{} // whoever uses exclude
	exclude   exclusions

	working  sync.WaitGroup // on lookups
	mu       sync.Mutex
	underway map[verdict.Query]*call
	branches map[string]string // v2: branches of custom types, by their names
	visible  []Owner           // v2: whom to ask when no owners are configured
	seen     time.Time         // when that was learnt
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
	names, err := parseTypes(c.Types)
	if err != nil {
		return nil, err
	}
	h, err := httpx.New(httpx.Options{
		UserAgent: "capagent/" + version, Table: "threatconnect",
		AllowHTTP: c.AllowHTTP, CAFile: c.CAFile, Pins: c.Pins,
		IdleTimeout: c.Timeout.Std(), ConnectTimeout: c.Timeout.Std(),
		MaxReply: maxReply, Connecting: c.Connecting,
	})
	if err != nil {
		return nil, fmt.Errorf("[threatconnect] %w", err)
	}
	return &Client{
		http: h, base: b, v3: c.APIVersion == 3, names: names, conf: c, log: log,
		who:       credentials{c.AccessID, c.SecretKey, c.Token},
		scrub:     secret.NewRedactor(c.SecretKey, c.Token),
		now:       time.Now,
		slots:     make(chan struct{}, concurrency),
		excluding: make(chan struct{}, 1),
		pace:      rate.NewLimiter(rate.Limit(c.Rate), concurrency),
		underway:  map[verdict.Query]*call{},
	}, nil
}

// Close waits for what is under way, which the callers' contexts should have
// ended, and drops idle connections.
func (c *Client) Close() {
	c.working.Wait()
	c.http.Close()
}

// Name returns what verdicts give as their source.
func (c *Client) Name() string { return Name }

// request is one call of the API.
type request struct {
	method string // "" for GET
	path   string // below the base, encoded: "/v3/indicators"
	query  string // encoded
	uri    string // instead of path and query: a whole target, as a server gave it
	body   []byte // JSON
	// mayMiss is set where the answer may be that there is no such indicator.
	mayMiss bool
}

// call sends r and returns the envelope of its success.
func (c *Client) call(ctx context.Context, r request) (envelope, error) {
	reply, err := c.send(ctx, r)
	if err != nil {
		return envelope{}, err
	}
	e, err := open(reply, c.mask, c.now())
	if isClass(err, classUnknown) && !r.mayMiss {
		err = fail(ClassBadURL, failure.As(err).Err)
	}
	return e, err
}

// send waits for its turn and sends r; once more when the server's clock was the
// reason of a refusal.
func (c *Client) send(ctx context.Context, r request) (*httpx.Reply, error) {
	for again := false; ; again = true {
		reply, ahead, err := c.attempt(ctx, r)
		if err != nil || reply.Status != http.StatusUnauthorized || !c.who.token.IsZero() || again || !c.learn(reply.Header, ahead) {
			return reply, err
		}
	}
}

// attempt signs r, sends it, and says how far ahead of ours the clock was that
// it was signed with.
func (c *Client) attempt(ctx context.Context, r request) (*httpx.Reply, time.Duration, error) {
	if err := c.turn(ctx); err != nil {
		return nil, 0, err
	}
	defer func() { <-c.slots }()
	uri := r.uri
	if uri == "" {
		if uri = c.base.path + r.path; r.query != "" {
			uri += "?" + r.query
		}
	}
	method := r.method
	if method == "" {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base.origin()+uri, bytes.NewReader(r.body))
	if err == nil && req.URL.RequestURI() != uri {
		err = errors.New("it would be sent in another form than it is signed in")
	}
	if err != nil { // its text holds the target, and that is from packets
		return nil, 0, fail(ClassBadQuery, errors.New("the request can't be written"))
	}
	req.Header.Set("Accept", "application/json")
	if len(r.body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	ahead := time.Duration(c.offset.Load())
	c.who.authorize(req.Header, uri, method, c.now().Add(ahead))
	reply, err := c.http.Do(req)
	return reply, ahead, err
}

// turn waits for one of the two slots and for the rate.
func (c *Client) turn(ctx context.Context) error {
	if ctx.Err() != nil {
		return canceled(ctx)
	}
	select {
	case c.slots <- struct{}{}:
	case <-ctx.Done():
		return canceled(ctx)
	}
	if err := c.pace.Wait(ctx); err != nil {
		<-c.slots
		if ctx.Err() == nil { // the turn would come after the deadline
			return &failure.Error{Class: httpx.ClassCanceled, Err: context.DeadlineExceeded}
		}
		return canceled(ctx)
	}
	return nil
}

// learn takes the server's clock when it differs much from the one that a refused
// request was signed with, and says whether it did.
func (c *Client) learn(h http.Header, used time.Duration) bool {
	theirs, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return false
	}
	ahead := theirs.Sub(c.now())
	if (ahead - used).Abs() <= maxSkew {
		return false
	}
	if before := time.Duration(c.offset.Swap(int64(ahead))); (ahead - before).Abs() > maxSkew {
		c.log.Warn().Stringer("ahead", ahead.Round(time.Second)).
			Msg("ThreatConnect's clock differs from this machine's: requests are signed with its time from now on; set this machine's clock right")
	}
	return true
}

// mask takes keys and tokens out of a server's text.
func (c *Client) mask(s string) string {
	s = c.scrub.String(s)
	if i := strings.Index(s, "TC "+c.who.accessID+":"); c.who.accessID != "" && i >= 0 {
		s = s[:i] + "TC " + secret.Mask // a signature that was echoed
	}
	return s
}

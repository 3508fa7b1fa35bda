// Package api speaks CloudTrax's API (contracts/cloudshare-cloudtrax.md 2).
//
// Some of CloudTrax's GETs restart things. What can be asked is therefore a list in
// paths.go: a request is a Read or an Action, only the functions there make one, and
// they take nothing but checked ids. A Client reads. Only an Actor sends Actions.
//
// The target of a request is built once; those bytes are signed, and those are sent.
// Each attempt is signed anew, with a nonce of its own. One request at a time is
// under way. Every error is a *failure.Error; neither key nor secret nor signature
// is in any.
package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"capagent/internal/failure"
	"capagent/internal/httpx"
	"capagent/internal/lazy"
	"capagent/internal/secret"
)

// MaxReply is how many bytes of a reply are read.
const MaxReply = 16 << 20

// Doer sends requests: an *httpx.Client.
type Doer interface {
	Do(*http.Request) (*httpx.Reply, error)
}

// Client reads. It is safe for concurrent use.
type Client struct {
	origin string
	key    string
	secret secret.Secret
	http   Doer
	log    zerolog.Logger
	scrub  *secret.Redactor

	slot   chan struct{}
	offset atomic.Int64 // what the server's clock is ahead of ours, a time.Duration
}

// Options are what a Client needs.
type Options struct {
	Origin string // "https://api.cloudtrax.com"
	Key    string
	Secret secret.Secret
	HTTP   Doer
	Log    zerolog.Logger
}

// New returns a client.
func New(o Options) *Client {
	return &Client{
		origin: o.Origin, key: o.Key, secret: o.Secret, http: o.HTTP, log: o.Log,
		scrub: secret.NewRedactor(o.Secret, secret.New(o.Key)),
		slot:  make(chan struct{}, 1),
	}
}

// Get asks and returns the body of a success. It is JSON as far as the first level
// goes.
func (c *Client) Get(ctx context.Context, r Read) ([]byte, error) {
	return c.send(ctx, http.MethodGet, r.path, nil)
}

// Actor changes things.
type Actor struct{ client *Client }

// NewActor returns an actor that sends by c.
func NewActor(c *Client) Actor { return Actor{c} }

// Do sends an action, and never a second time where the first may have had an effect.
func (a Actor) Do(ctx context.Context, act Action) error {
	_, err := a.client.send(ctx, http.MethodPut, act.path, act.body)
	return err
}

// send waits for its turn and sends; once more when the clock or, where nothing can
// have happened, the nonce was the reason of a refusal.
func (c *Client) send(ctx context.Context, method string, p path, body []byte) ([]byte, error) {
	if p.target == "" {
		return nil, fail(ClassBadRequest, errors.New("there is nothing to ask for"))
	}
	select {
	case c.slot <- struct{}{}:
		defer func() { <-c.slot }()
	case <-ctx.Done():
		return nil, &failure.Error{Class: httpx.ClassCanceled, Err: ctx.Err()}
	}
	clock, nonce := false, false
	for {
		reply, ahead, err := c.attempt(ctx, method, p, body)
		if err != nil {
			return nil, err
		}
		data, err := c.judge(reply)
		switch {
		case IsClass(err, ClassClock) && !clock && c.learn(reply.Header, ahead):
			clock = true
		case IsClass(err, ClassNonce) && !nonce && method == http.MethodGet:
			nonce = true
		default:
			return data, err
		}
	}
}

// attempt signs and sends, and says how far ahead of ours the clock was that it was
// signed with.
func (c *Client) attempt(ctx context.Context, method string, p path, body []byte) (*httpx.Reply, time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.origin+p.target, bytes.NewReader(body))
	if err != nil || req.URL.RequestURI() != p.target {
		return nil, 0, fail(ClassBadRequest, errors.New("the request can't be written"))
	}
	var raw [16]byte
	_, _ = rand.Read(raw[:]) // never fails: crypto/rand's own promise
	ahead := time.Duration(c.offset.Load())
	who := authorization(c.key, time.Now().Add(ahead).Unix(), hex.EncodeToString(raw[:]))
	req.Header.Set("OpenMesh-API-Version", "1")
	req.Header.Set("Authorization", who)
	req.Header.Set("Signature", sign(c.secret.Reveal(), who, p.target, body))
	req.Header.Set("Accept", "application/json")
	if len(body) > 0 {
		req.Header.Set("Content-Type", "application/json")
	}
	reply, err := c.http.Do(req)
	return reply, ahead, err
}

// maxSkew is from where on the server's clock counts.
const maxSkew = time.Minute

// learn takes the server's clock when it differs much from the one that a refused
// request was signed with, and says whether it did.
func (c *Client) learn(h http.Header, used time.Duration) bool {
	theirs, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return false
	}
	ahead := time.Until(theirs)
	if (ahead - used).Abs() <= maxSkew {
		return false
	}
	if before := time.Duration(c.offset.Swap(int64(ahead))); (ahead - before).Abs() > maxSkew {
		c.log.Warn().Stringer("ahead", ahead.Round(time.Second)).
			Msg("CloudTrax's clock differs from this machine's: requests are signed with its time from now on; set this machine's clock right")
	}
	return true
}

// aSignature is what a signature looks like, or one of CloudTrax's keys.
var aSignature = lazy.Regexp(`[0-9A-Fa-f]{64}`)

// mask takes key, secret and signatures out of a server's text.
func (c *Client) mask(s string) string {
	return aSignature().ReplaceAllString(c.scrub.String(s), secret.Mask)
}

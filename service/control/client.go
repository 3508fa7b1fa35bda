package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/service"
	"capagent/service/control/local"
)

// Client is a command's end. Close it.
type Client struct {
	quick, slow *http.Client // for what is only looked up, and for what takes time
	base, token string
}

// MaxIDs is how many numbers a list can be asked for at a time.
const MaxIDs = 500

const (
	maxReply = 64 << 20 // bytes of one object: a capture may have many parts
	// How long the beginning of an answer is waited for. Reading the
	// configuration again may run commands that fetch secrets.
	quickly = 15 * time.Second
	slowly  = 2 * time.Minute
)

// Dial reaches the agent at where. The error is ErrNoAgent when nothing listens
// there; every other one is for the user, a failure.Error with a hint where
// the user can act.
func Dial(ctx context.Context, where Where) (*Client, error) {
	endpoint, err := local.Find(where)
	if err != nil {
		return nil, err
	}
	// A connection that waits for its first request is closed by the agent soon,
	// so this one is only a question.
	conn, err := endpoint.Dial(ctx)
	if err != nil {
		return nil, err
	}
	_ = conn.Close() // nothing was sent
	c := &Client{base: "http://" + endpoint.Host(), token: endpoint.Token}
	c.quick, c.slow = newHTTP(endpoint, quickly), newHTTP(endpoint, slowly)
	// What is no mere question must not meet a connection that is just being closed.
	c.slow.Transport.(*http.Transport).DisableKeepAlives = true
	return c, nil
}

func newHTTP(endpoint local.Endpoint, patience time.Duration) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return endpoint.Dial(ctx) },
			DisableCompression: true, ResponseHeaderTimeout: patience, MaxResponseHeaderBytes: maxHeader,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Close ends the connections.
func (c *Client) Close() error {
	c.quick.CloseIdleConnections()
	return nil
}

// Status asks how the agent fares.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var v Status
	err := c.object(ctx, http.MethodGet, "/v1/status", nil, &v)
	return v, err
}

// List returns the captures that f selects, as they come: after an error it
// ends. Of f, SHA256 is not understood, and of IDs there can be MaxIDs.
func (c *Client) List(ctx context.Context, f ledger.Filter) iter.Seq2[service.View, error] {
	return func(yield func(service.View, error) bool) {
		for text, err := range c.lines(ctx, http.MethodGet, "/v1/captures?"+writeFilter(f), nil) {
			var v service.View
			if err == nil {
				err = json.Unmarshal(text, &v)
			}
			if err == nil && v.ID == nil {
				err = toldAt(http.StatusInternalServerError, text)
			}
			if err == nil {
				err = restore(&v)
			}
			if !yield(v, err) || err != nil {
				return
			}
		}
	}
}

// Show returns the capture that a person means by text, with parts and steps
// (ledger.Lookup). The error can be ledger.ErrNotFound or ledger.ErrAmbiguous.
func (c *Client) Show(ctx context.Context, text string) (service.View, error) {
	// Dots too: a path of dots would be another path.
	at := "/v1/captures/" + strings.ReplaceAll(url.PathEscape(text), ".", "%2E")
	var v service.View
	err := c.object(ctx, http.MethodGet, at, nil, &v)
	if err == nil && v.ID == nil {
		err = errors.New("the agent's answer is no capture")
	}
	return v, errors.Join(err, restore(&v))
}

// Retry lets captures be tried at once (Backend.Retry) and returns how many it
// changed.
func (c *Client) Retry(ctx context.Context, ids []int64, all bool) (int, error) {
	var v released
	err := c.object(ctx, http.MethodPost, "/v1/retry", selection{ids, all}, &v)
	return v.Released, err
}

// Reload has the agent read its configuration again. An Error of status 422
// says what is wrong with that; the old one stays.
func (c *Client) Reload(ctx context.Context) error {
	return c.object(ctx, http.MethodPost, "/v1/reload", struct{}{}, &reloaded{})
}

// Rotate ends the open file of the live capture called name, or of all when it is
// "" (Backend.Rotate).
func (c *Client) Rotate(ctx context.Context, name string) ([]Rotated, error) {
	var v rotated
	err := c.object(ctx, http.MethodPost, "/v1/rotate", rotation{name}, &v)
	return v.Rotated, err
}

// Verify has the agent compare what lies on the disk with what was recorded
// (service.Verify): all of it, or the files of captures ids. each is told of every
// capture as it is done.
func (c *Client) Verify(ctx context.Context, ids []int64, each func(service.VerifyEntry)) (service.VerifyResult, error) {
	var result service.VerifyResult
	ended := false
	for text, err := range c.lines(ctx, http.MethodPost, "/v1/verify", selection{IDs: ids}) {
		var line struct {
			service.VerifyEntry
			ID       *int64          `json:"id"`
			Captures json.RawMessage `json:"captures"`
		}
		if err == nil {
			err = json.Unmarshal(text, &line)
		}
		switch {
		case err != nil:
		case ended:
			err = errors.New("the agent's answer is not understood: it goes on behind its end")
		case line.Captures != nil:
			ended = true
			err = json.Unmarshal(text, &result)
		case line.ID == nil:
			err = toldAt(http.StatusInternalServerError, text)
		default:
			line.VerifyEntry.ID = *line.ID
			err = errors.Join(decode(line.PathBase64, &line.Path), decode(line.NameBase64, &line.Name))
			if err == nil {
				each(line.VerifyEntry)
			}
		}
		if err != nil {
			return result, err
		}
	}
	if !ended {
		return result, fmt.Errorf("%w: the result is missing", ErrGone)
	}
	return result, nil
}

// restore gives a view the bytes that JSON can't hold.
func restore(v *service.View) error {
	return errors.Join(decode(v.PathBase64, &v.Path), decode(v.NameBase64, &v.Name))
}

func decode(exact string, to *string) error {
	if exact == "" {
		return nil
	}
	raw, err := base64.StdEncoding.DecodeString(exact)
	if err != nil {
		return fmt.Errorf("the agent's answer is not understood: %w", err)
	}
	*to = string(raw)
	return nil
}

// do sends a call and returns the answer when it is a good one.
func (c *Client) do(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var content io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, content)
	if err != nil {
		return nil, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	client := c.quick
	if method != http.MethodGet {
		client = c.slow
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, unanswered(ctx, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return nil, unanswered(ctx, err)
	}
	return nil, toldAt(resp.StatusCode, text)
}

// unanswered leaves the address of the call out, which says nothing.
func unanswered(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var timeout net.Error
	switch {
	case errors.Is(err, ErrNoAgent):
		return err
	case errors.As(err, &timeout) && timeout.Timeout():
		return errors.New("the agent does not answer")
	}
	return fmt.Errorf("%w: %w", ErrGone, err)
}

// toldAt is the failure that the agent told, with its hint.
func toldAt(status int, text []byte) error {
	e := &Error{Status: status}
	if json.Unmarshal(text, e) != nil || e.Text == "" {
		return fmt.Errorf("the agent's answer is not understood (HTTP status %d)", status)
	}
	if e.Hint == "" {
		return e
	}
	return &failure.Error{Kind: failure.Permanent, Class: "agent", Hint: e.Hint, Err: e}
}

func (c *Client) object(ctx context.Context, method, path string, in, out any) error {
	resp, err := c.do(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return unanswered(ctx, err)
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("the agent's answer is not understood: %w", err)
	}
	return nil
}

// lines returns the lines of an answer as they come. A cut answer ends in an
// error.
func (c *Client) lines(ctx context.Context, method, path string, in any) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		resp, err := c.do(ctx, method, path, in)
		if err != nil {
			yield(nil, err)
			return
		}
		defer func() { _ = resp.Body.Close() }() // ends the answer, where it was left early
		scanner := bufio.NewScanner(resp.Body)
		scanner.Buffer(make([]byte, 0, 64<<10), maxReply)
		for scanner.Scan() {
			if !yield(scanner.Bytes(), nil) {
				return
			}
		}
		if err := scanner.Err(); errors.Is(err, bufio.ErrTooLong) {
			yield(nil, fmt.Errorf("the agent's answer is not understood: %w", err))
		} else if err != nil {
			yield(nil, unanswered(ctx, err))
		}
	}
}

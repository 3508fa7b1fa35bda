package standin

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Call is one request, and its answer.
type Call struct {
	W http.ResponseWriter
	R *http.Request
	// Body is the whole request's, at most Options.MaxBody bytes; nil where the API
	// reads it from R.
	Body  []byte
	Fault Fault // that is at work; its Name is "" without one

	s      *Server
	record *Request
}

// hidden are headers that are kept as *** only.
var hidden = []string{"Authorization", "Signature", "Cookie", "X-Amz-Security-Token"}

// Handler returns the API and the page.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, prefix := range s.opts.Prefixes {
			if strings.HasPrefix(r.URL.Path, prefix) {
				s.serve(w, r)
				return
			}
		}
		s.servePage(w, r)
	})
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	c := &Call{W: w, R: r, s: s, record: &Request{At: s.opts.Now(), Method: r.Method, Target: s.redact.String(r.RequestURI), Header: r.Header.Clone()}}
	for _, name := range hidden {
		if c.record.Header.Get(name) != "" {
			c.record.Header.Set(name, "***")
		}
	}
	s.begin(c.record)
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		c.record.Done, c.record.Finished = true, s.opts.Now()
	}()
	streams := slices.ContainsFunc(s.opts.Streams, func(prefix string) bool { return strings.HasPrefix(r.URL.Path, prefix) })
	if !streams && !s.read(c) {
		return
	}
	c.Fault = s.take(c)
	c.W.Header().Set("Date", c.Now().UTC().Format(http.TimeFormat))
	if !c.inject() {
		s.opts.API(c)
	}
}

// read takes the body in, and answers when it is too large.
func (s *Server) read(c *Call) bool {
	var err error
	if c.Body, err = io.ReadAll(io.LimitReader(c.R.Body, s.opts.MaxBody+1)); err != nil {
		c.abort()
	}
	s.mu.Lock()
	c.record.Body = []byte(s.redact.String(string(c.Body)))
	s.mu.Unlock()
	if int64(len(c.Body)) > s.opts.MaxBody {
		c.Fail(http.StatusRequestEntityTooLarge, "the request is too large")
		return false
	}
	return true
}

// Is says whether that fault is at work.
func (c *Call) Is(name string) bool { return c.Fault.Name == name }

// JSON answers with a value.
func (c *Call) JSON(status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own types: cannot happen
	}
	c.Send(status, "application/json", data)
}

// Fail answers with the service's form of a failure.
func (c *Call) Fail(status int, text string) {
	kind, body := "text/plain; charset=utf-8", []byte(text)
	if c.s.opts.Failure != nil {
		kind, body = c.s.opts.Failure(status, text)
	}
	c.Send(status, kind, body)
}

// Send answers with bytes.
func (c *Call) Send(status int, kind string, data []byte) {
	c.W.Header().Set("Content-Type", kind)
	if c.Is("badjson") {
		data = data[:len(data)*2/3]
	}
	if c.Is("drop") { // the answer alone is lost
		if c.Fault.Reset {
			c.reset()
		}
		c.abort()
	}
	c.begin(status)
	if !c.Is("dribble") {
		_, _ = c.W.Write(data)
		return
	}
	for i := range data {
		if _, err := c.W.Write(data[i : i+1]); err != nil {
			return
		}
		_ = http.NewResponseController(c.W).Flush()
		if !c.wait(c.Fault.Delay) {
			c.abort()
		}
	}
}

func (c *Call) begin(status int) {
	c.s.mu.Lock()
	c.record.Status = status
	c.s.mu.Unlock()
	c.W.WriteHeader(status)
}

// wait reports false when the client or the server goes away first.
func (c *Call) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.R.Context().Done():
	case <-c.s.ctx.Done():
	}
	return false
}

// abort ends the connection without an answer.
func (c *Call) abort() { panic(http.ErrAbortHandler) }

// reset ends the connection with RST where the listener allows that.
func (c *Call) reset() {
	conn, _, err := http.NewResponseController(c.W).Hijack()
	if err != nil {
		c.abort()
	}
	var tcp *net.TCPConn
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = t.NetConn()
	}
	if t, ok := conn.(*net.TCPConn); ok {
		tcp = t
	}
	if tcp != nil {
		_ = tcp.SetLinger(0)
	}
	if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		c.s.opts.Log.Debug().Err(err).Msg("a connection was not reset")
	}
	c.abort()
}

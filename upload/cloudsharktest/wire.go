package cloudsharktest

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// failure is the API's failure reply (contracts/cloudshark.md 0).
type failure struct {
	Status     int      `json:"status"`
	Exceptions []string `json:"exceptions"`
}

// fail answers with an error, and takes in the rest of the body so that the
// client surely gets to read it.
func (c *call) fail(err error) {
	var e *apiError
	switch {
	case errors.As(err, &e):
	case errors.Is(err, errClientGone):
		c.abort()
	default:
		c.s.opts.Log.Error().Str("error", c.scrub(err.Error())).Msg("emulator failed")
		e = refuse(http.StatusInternalServerError, "Internal server error")
	}
	if e.strict {
		c.violate(strings.Join(e.exceptions, "; "))
	}
	c.send(e.status, failure{e.status, e.exceptions})
}

// send answers with JSON under the Content-Type that the API documents.
func (c *call) send(status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own types: cannot happen
	}
	c.sendRaw(status, data)
}

func (c *call) sendRaw(status int, data []byte) {
	if c.w.Header().Get("Content-Type") == "" {
		c.w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
	}
	early := !c.body.ended.Load() && c.r.ContentLength != 0
	if early {
		c.w.Header().Set("Connection", "close")
		_ = http.NewResponseController(c.w).EnableFullDuplex()
	}
	if c.fault != nil && c.fault.Name == "slow-reply" {
		c.dribble(status, data)
		return
	}
	if c.fault != nil && c.fault.Name == "truncated-json" {
		data = data[:len(data)*2/3]
	}
	c.start(status)
	_, _ = c.w.Write(data)
	if early {
		c.linger()
	}
}

func (c *call) start(status int) {
	if c.w.Header().Get("Content-Type") == "" {
		c.w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
	}
	c.setStatus(status)
	c.w.WriteHeader(status)
}

// linger is nginx's lingering close: after an early answer the body is taken in
// for a while, because closing with unread bytes would reset the connection
// before the client has read the answer.
func (c *call) linger() {
	_ = http.NewResponseController(c.w).Flush()
	if strings.EqualFold(c.r.Header.Get("Expect"), "100-continue") {
		return // such a client does not send the body
	}
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Now().Add(lingerFor))
	_, _ = c.readBody(1 << 40)
}

func (c *call) dribble(status int, data []byte) {
	c.start(status)
	for i := range data {
		if _, err := c.w.Write(data[i : i+1]); err != nil {
			return
		}
		_ = http.NewResponseController(c.w).Flush()
		if !c.wait(c.fault.Delay) {
			c.abort()
		}
	}
}

// wait reports false when the client or the server goes away first.
func (c *call) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.r.Context().Done():
	case <-c.s.ctx.Done():
	}
	return false
}

// abort ends the connection without an answer.
func (c *call) abort() { panic(http.ErrAbortHandler) }

// reset ends the connection with RST where the listener allows that.
func (c *call) reset() {
	conn, _, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		c.abort()
	}
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = t.NetConn()
	}
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = conn.Close()
	c.abort()
}

// body counts what is read of a request's body and slows it down.
type body struct {
	c     *call
	r     io.Reader
	n     atomic.Int64
	ended atomic.Bool
}

var errClientGone = errors.New("the client went away")

func (b *body) Read(p []byte) (int, error) {
	if err := b.c.s.ctx.Err(); err != nil {
		return 0, errClientGone
	}
	if f := b.c.fault; f != nil && f.Name == "slow" {
		const ticks = 10 // reads a second
		p = p[:min(int64(len(p)), max(f.Bytes/ticks, 1))]
		if !b.c.wait(time.Second / ticks) {
			return 0, errClientGone
		}
	}
	n, err := b.r.Read(p)
	b.n.Add(int64(n))
	if errors.Is(err, io.EOF) {
		b.ended.Store(true)
	} else if err != nil {
		err = errors.Join(errClientGone, err)
	}
	return n, err
}

func (c *call) readBody(most int64) (int64, error) {
	buf := getBuffer()
	defer putBuffer(buf)
	return io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(c.body, most), *buf)
}

// drain takes the whole body in.
func (c *call) drain() error {
	_, err := c.readBody(1 << 62)
	return err
}

// Package h2 finds hosts, URLs, user agents and files in HTTP/2 without
// encryption (RFC 9113).
package h2

import (
	"golang.org/x/net/http2/hpack"

	"capagent/enrich/http/body"
	"capagent/enrich/indicator"
	"capagent/enrich/stream"
)

// The limits of HTTP/2. Behind the first three, the side on which they were met
// is not read on: header compression (RFC 7541) has a state that is lost then.
const (
	LimitGap     indicator.Limit = "http2_gap"     // bytes of the side are missing
	LimitHeaders indicator.Limit = "http2_headers" // a header block that is too long, or for which there is no memory
	LimitBroken  indicator.Limit = "http2_broken"  // frames or header blocks that break the rules
	LimitStreams indicator.Limit = "http2_streams" // too many streams at once: their bodies are not hashed
)

const (
	maxBlock   = 64 << 10 // of a header block as it was sent
	maxTable   = 64 << 10 // of a dynamic table
	maxString  = 16 << 10 // of a name or value
	maxStreams = 128      // with a body open
)

// Conn is the two sides of a connection. Each is read from the beginning of a
// frame on, or from the client's preface.
type Conn struct {
	set     *indicator.Set
	sides   [2]side
	streams map[uint32]*message
	free    []*message
}

// message is what is held of a stream that is not ended.
type message struct {
	bodies [2]body.Body
}

// New returns a connection on which nothing was sent yet.
func New(set *indicator.Set) *Conn {
	return &Conn{set: set, streams: map[uint32]*message{}}
}

// Settings says whether b begins with a SETTINGS frame, as a server's first bytes
// do.
func Settings(b []byte) bool {
	if len(b) < headerLen {
		return false
	}
	n := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	return b[3] == frameSettings && b[4] == 0 && b[5]|b[6]|b[7]|b[8] == 0 && n%6 == 0 && n <= 6*32
}

// Preface tells that the side goes on with the second half of the client's
// preface (RFC 9113, 3.4).
func (c *Conn) Preface(from stream.Side) { c.sides[from].preface = len(prefaceEnd) }

const prefaceEnd = "SM\r\n\r\n"

// Data is the next bytes of a side.
func (c *Conn) Data(from stream.Side, b []byte, at indicator.At) stream.Verdict {
	s := &c.sides[from]
	for len(b) > 0 && !s.dead {
		switch {
		case s.preface > 0:
			if b[0] != prefaceEnd[len(prefaceEnd)-s.preface] {
				c.kill(from, LimitBroken)
				break
			}
			s.preface--
			b = b[1:]
		case s.have < headerLen:
			n := copy(s.header[s.have:], b)
			s.have += n
			b = b[n:]
			if s.have == headerLen {
				c.frame(from, at)
			}
		default:
			n := min(len(b), s.left)
			s.left -= n
			c.payload(from, b[:n], at)
			b = b[n:]
			if s.left == 0 && !s.dead {
				c.frameEnd(from, at)
			}
		}
	}
	if c.sides[0].dead && c.sides[1].dead {
		return stream.Done
	}
	return stream.More
}

// Gap tells that bytes of a side are missing.
func (c *Conn) Gap(from stream.Side) stream.Verdict {
	c.kill(from, LimitGap)
	if c.sides[from^1].dead {
		return stream.Done
	}
	return stream.More
}

// End tells that a side has sent everything.
func (c *Conn) End(from stream.Side) { c.kill(from, "") }

// kill ends the reading of a side.
func (c *Conn) kill(from stream.Side, why indicator.Limit) {
	s := &c.sides[from]
	if s.dead {
		return
	}
	if why != "" {
		c.set.Reached(why)
	}
	s.dead = true
	for id, m := range c.streams {
		m.bodies[from].Drop()
		c.ended(id, m, from)
	}
	c.set.Give(s.taken)
	s.taken, s.block, s.hpack = 0, nil, nil
}

// Close ends both sides.
func (c *Conn) Close() {
	c.kill(stream.Client, "")
	c.kill(stream.Server, "")
}

// side is one direction.
type side struct {
	preface int // bytes of the preface that are missing
	dead    bool

	header [headerLen]byte
	have   int
	kind   byte
	flags  byte
	id     uint32
	left   int // of the payload
	skip   int // bytes at the payload's start that are fields, or padding's length
	pad    int // bytes at its end that are padding
	padded bool

	hpack    *hpack.Decoder
	block    []byte // the header block that is gathered
	blockID  uint32 // its stream, 0 where none is
	blockEnd bool   // END_STREAM came with it
	taken    int
	fields   fields
}

// stream returns what is held of a stream; nil when there are too many.
func (c *Conn) stream(id uint32) *message {
	m := c.streams[id]
	switch {
	case m != nil:
	case len(c.streams) >= maxStreams:
		c.set.Reached(LimitStreams)
	case len(c.free) > 0:
		m = c.free[len(c.free)-1]
		c.free = c.free[:len(c.free)-1]
		c.streams[id] = m
	default:
		m = &message{}
		c.streams[id] = m
	}
	return m
}

// ended tells that a side of a stream has sent everything.
func (c *Conn) ended(id uint32, m *message, from stream.Side) {
	if !m.bodies[from^1].Open() {
		delete(c.streams, id)
		c.free = append(c.free, m)
	}
}

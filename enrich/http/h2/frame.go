package h2

import (
	"encoding/binary"

	"capagent/enrich/indicator"
	"capagent/enrich/stream"
)

// A frame's header and the types that matter (RFC 9113, 4.1 and 6).
const (
	headerLen = 9

	frameData         = 0
	frameHeaders      = 1
	frameReset        = 3
	frameSettings     = 4
	framePush         = 5
	frameContinuation = 9

	flagEndStream  = 1
	flagEndHeaders = 4
	flagPadded     = 8
	flagPriority   = 0x20
)

// frame takes up a frame of which the header has come.
func (c *Conn) frame(from stream.Side, at indicator.At) {
	s := &c.sides[from]
	h := s.header[:]
	s.left = int(h[0])<<16 | int(h[1])<<8 | int(h[2])
	s.kind, s.flags = h[3], h[4]
	s.id = binary.BigEndian.Uint32(h[5:]) &^ (1 << 31)
	s.skip, s.pad, s.padded = 0, 0, false
	if (s.blockID != 0) != (s.kind == frameContinuation) || s.blockID != 0 && s.blockID != s.id {
		c.kill(from, LimitBroken) // RFC 9113, 6.10
		return
	}
	fixed := 0
	switch s.kind {
	case frameData, frameHeaders, framePush:
		if s.id == 0 {
			c.kill(from, LimitBroken)
			return
		}
		if s.padded = s.flags&flagPadded != 0; s.padded {
			fixed = 1
		}
		if s.kind == frameHeaders && s.flags&flagPriority != 0 {
			s.skip = 5
		}
		if s.kind == framePush {
			s.skip = 4
		}
	}
	if s.left < fixed+s.skip {
		c.kill(from, LimitBroken)
		return
	}
	switch s.kind {
	case frameHeaders, framePush:
		s.blockID, s.blockEnd = s.id, s.kind == frameHeaders && s.flags&flagEndStream != 0
		if !c.beginBlock(s) {
			c.kill(from, LimitHeaders)
			return
		}
	}
	if s.left == 0 {
		c.frameEnd(from, at)
	}
}

// payload is some of a frame's payload. What is left of it is known already.
func (c *Conn) payload(from stream.Side, b []byte, at indicator.At) {
	s := &c.sides[from]
	if s.padded && len(b) > 0 {
		s.padded = false
		s.pad = int(b[0])
		b = b[1:]
		if s.pad > s.left+len(b)-s.skip {
			c.kill(from, LimitBroken)
			return
		}
	}
	n := min(s.skip, len(b))
	s.skip -= n
	b = b[n:]
	// What of b is padding: all but what comes before the last s.pad bytes.
	b = b[:len(b)-min(len(b), max(0, s.pad-s.left))]
	if len(b) == 0 {
		return
	}
	switch s.kind {
	case frameData:
		if m := c.streams[s.id]; m != nil {
			m.bodies[from].Write(b, at)
		}
	case frameHeaders, framePush, frameContinuation:
		if !c.gather(s, b) {
			c.kill(from, LimitHeaders)
		}
	}
}

// frameEnd tells that a frame is whole.
func (c *Conn) frameEnd(from stream.Side, at indicator.At) {
	s := &c.sides[from]
	s.have = 0
	switch s.kind {
	case frameData:
		if s.flags&flagEndStream != 0 {
			c.endStream(from, s.id, at)
		}
	case frameReset:
		if m := c.streams[s.id]; m != nil {
			m.bodies[from].Drop()
			m.bodies[from^1].Drop()
			c.ended(s.id, m, from)
		}
	case frameHeaders, framePush, frameContinuation:
		if s.flags&flagEndHeaders == 0 {
			return
		}
		id := s.blockID
		s.blockID = 0
		if !c.headers(from, id, at) {
			c.kill(from, LimitBroken)
			return
		}
		if s.blockEnd {
			c.endStream(from, id, at)
		}
	}
}

// endStream tells that a side of a stream is whole.
func (c *Conn) endStream(from stream.Side, id uint32, at indicator.At) {
	if m := c.streams[id]; m != nil {
		m.bodies[from].End(at)
		c.ended(id, m, from)
	}
}

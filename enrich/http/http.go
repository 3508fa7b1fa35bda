// Package http finds hosts, URLs, user agents and files in HTTP: HTTP/1 and
// HTTP/2 over TCP without encryption, and HTTP over UDP as SSDP has it.
//
// A message counts in the frame with which it is complete, its body included. A
// request whose body never is counts in the frame in which its head ended.
package http

import (
	"bytes"

	"capagent/enrich/http/body"
	"capagent/enrich/http/h2"
	"capagent/enrich/indicator"
	"capagent/enrich/stream"
)

// The limits of HTTP/1.
const (
	LimitHead     indicator.Limit = "http_head"           // a message's head that is too long, or for which there is no memory
	LimitFields   indicator.Limit = "http_fields"         // too many hosts or user agents in one request
	LimitPipeline indicator.Limit = "http_pipeline"       // too many requests without a response
	LimitLost     indicator.Limit = "http_unsynchronised" // what came is no message; the side is read on from its next segment that begins one
)

const (
	maxHead     = 64 << 10
	maxPipeline = 256
)

// Parser follows one connection. The sides are told apart by what they send:
// either may be the client, as captures that begin in the middle are not sure.
type Parser struct {
	set   *indicator.Set
	sides [2]side
	h2    *h2.Conn // nil until one side speaks HTTP/2
	// verdict is the last word on the connection.
	verdict stream.Verdict
	skipped bool // some bytes were no message
}

var _ stream.Parser = (*Parser)(nil)

// New returns a parser of a connection.
func New(set *indicator.Set, _ stream.Conn) *Parser {
	p := &Parser{set: set}
	for i := range p.sides {
		s := &p.sides[i]
		s.fresh = true
		s.head = buffer{bounds: &set.Bounds, limit: LimitHead, most: maxHead}
		s.notes.text = buffer{bounds: &set.Bounds, limit: LimitHead, most: 2 * maxHead}
	}
	return p
}

// Data implements stream.Parser.
func (p *Parser) Data(from stream.Side, b []byte, at indicator.At) stream.Verdict {
	s := &p.sides[from]
	if s.state == stateLost && !p.synchronise(from, b) {
		return p.verdict
	}
	for len(b) > 0 && p.verdict == stream.More {
		if s.state == stateHTTP2 {
			return p.http2(from, b, at)
		}
		b = b[p.step(from, b, at):]
	}
	return p.verdict
}

func (p *Parser) http2(from stream.Side, b []byte, at indicator.At) stream.Verdict {
	p.verdict = p.h2.Data(from, b, at)
	return p.verdict
}

// synchronise says whether b, the beginning of a segment, begins a message.
func (p *Parser) synchronise(from stream.Side, b []byte) bool {
	s := &p.sides[from]
	switch {
	case Recognise(from, bytes.TrimLeft(b, "\r\n")), len(b) > 5 && string(b[:5]) == "HTTP/", s.fresh && len(b) < 32 && bytes.IndexByte(b, '\n') < 0 && maybe(b):
		s.state = stateStart
	case h2.Settings(b):
		p.speakHTTP2(from)
	default:
		p.skipped = true
	}
	s.fresh = false
	return s.state != stateLost
}

// Gap implements stream.Parser.
func (p *Parser) Gap(from stream.Side, n int64, at indicator.At) stream.Verdict {
	s := &p.sides[from]
	if s.state == stateHTTP2 {
		p.verdict = p.h2.Gap(from)
		return p.verdict
	}
	p.sides[from].asked = p.sides[from].asked[:0]
	p.sides[from.Other()].asked = p.sides[from.Other()].asked[:0]
	if s.state == stateLength && n > 0 && n <= s.left {
		p.giveUp(s)
		if s.left -= n; s.left == 0 {
			s.state = stateStart
		}
		return p.verdict
	}
	p.giveUp(s)
	s.state = stateLost
	return p.verdict
}

// giveUp drops the body that can't be whole any more, and reports the request
// that it belonged to.
func (p *Parser) giveUp(s *side) {
	s.body.Drop()
	s.notes.report(p.set, indicator.HTTPHost, indicator.HTTPRequest, s.headAt)
	s.head.reset()
	s.scan = scan{}
}

// End implements stream.Parser.
func (p *Parser) End(from stream.Side, at indicator.At) {
	s := &p.sides[from]
	switch s.state {
	case stateHTTP2:
		p.h2.End(from)
	case stateUntilEnd, stateTrailer: // with the last chunk, a body is whole
		p.finish(s, at)
	}
	p.giveUp(s)
	s.state = stateLost
}

// Close implements stream.Parser.
func (p *Parser) Close(indicator.At) {
	for i := range p.sides {
		s := &p.sides[i]
		p.giveUp(s)
		s.head.free()
		s.notes.text.free()
		s.state = stateLost
	}
	if p.h2 != nil {
		p.h2.Close()
	}
}

// role is whose body it is.
func role(response bool) indicator.Role {
	if response {
		return indicator.HTTPResponse
	}
	return indicator.HTTPRequest
}

// speakHTTP2 changes what a side is read as.
func (p *Parser) speakHTTP2(from stream.Side) {
	if p.h2 == nil {
		p.h2 = h2.New(p.set)
	}
	s := &p.sides[from]
	p.giveUp(s)
	s.state = stateHTTP2
}

// side is one direction of the connection.
type side struct {
	state state
	fresh bool // nothing came yet
	read  bool // a head was read
	head  buffer
	scan  scan
	notes notes
	// headAt is where the head of the request that is noted ended.
	headAt indicator.At
	body   body.Body
	left   int64 // bytes of the body or of the chunk
	line   int   // bytes of the line of a chunk's size or of a trailer
	digits int
	size   int64
	asked  []asked // requests of this side without a response
}

// asked is what of a request matters to its response.
type asked uint8

const (
	askedOther asked = iota
	askedHead
	askedConnect
)

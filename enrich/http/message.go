package http

import (
	"bytes"

	"capagent/enrich/indicator"
	"capagent/enrich/stream"
)

// state is what the next bytes of a side are.
type state uint8

const (
	stateLost      state = iota // unknown, until a segment begins a message
	stateStart                  // between two messages
	stateHead                   // within a head
	stateLength                 // a body of known length
	stateUntilEnd               // a body that ends with the side
	stateChunkSize              // the line before a chunk
	stateChunk                  // within a chunk
	stateChunkEnd               // the line break behind a chunk
	stateTrailer                // the lines behind the last chunk
	stateHTTP2
)

// scan is how far a head has been looked through for its end.
type scan struct {
	line  int  // bytes of the line so far
	cr    bool // the first of them is CR
	first bool // the start line was seen and is right
}

// add is the next bytes of the line.
func (s *scan) add(b []byte) {
	if s.line == 0 && len(b) > 0 {
		s.cr = b[0] == '\r'
	}
	s.line += len(b)
}

// empty says whether the line that ends now is empty.
func (s *scan) empty() bool { return s.line == 0 || s.line == 1 && s.cr }

// step consumes some of b, which is not empty, and says how much. It always
// consumes something, or changes the state to one that will.
func (p *Parser) step(from stream.Side, b []byte, at indicator.At) int {
	s := &p.sides[from]
	switch s.state {
	case stateStart:
		if b[0] == '\r' || b[0] == '\n' {
			return 1
		}
		s.state, s.scan = stateHead, scan{}
		return 0
	case stateHead:
		return p.readHead(from, b, at)
	case stateLength, stateUntilEnd:
		n := len(b)
		if s.state == stateLength {
			n = int(min(int64(n), s.left))
			s.left -= int64(n)
		}
		s.body.Write(b[:n], at)
		if s.state == stateLength && s.left == 0 {
			p.finish(s, at)
		}
		return n
	case stateChunkSize, stateChunk, stateChunkEnd, stateTrailer:
		return p.chunked(s, b, at)
	}
	return len(b) // lost
}

// lose gives a side up until a segment begins a message.
func (p *Parser) lose(s *side) {
	if s.read {
		p.set.Reached(LimitLost)
	}
	p.skipped = true
	p.giveUp(s)
	s.state = stateLost
}

// finish ends a message whose last byte came with at.
func (p *Parser) finish(s *side, at indicator.At) {
	s.notes.report(p.set, indicator.HTTPHost, indicator.HTTPRequest, at)
	s.body.End(at)
	s.state = stateStart
}

// readHead looks for the empty line that ends the head.
func (p *Parser) readHead(from stream.Side, b []byte, at indicator.At) int {
	s := &p.sides[from]
	i, kept := 0, 0
	for {
		end := bytes.IndexByte(b[i:], '\n')
		piece := b[i:]
		if end >= 0 {
			piece = b[i : i+end]
		}
		s.scan.add(piece)
		if end < 0 {
			return p.keepHead(s, b, kept)
		}
		i += end + 1
		if !s.scan.first {
			line := b[:i-1]
			if len(s.head.b) > 0 {
				if !s.head.add(b[:i]) {
					p.lose(s)
					return len(b)
				}
				line, kept = s.head.b[:len(s.head.b)-1], i
			}
			var h head
			if s.scan.first = h.startLine(line); !s.scan.first {
				p.lose(s)
				return len(b)
			}
		} else if s.scan.empty() {
			break
		}
		s.scan.line, s.scan.cr = 0, false
	}
	whole := b[:i]
	if len(s.head.b) > 0 || i > maxHead {
		if !s.head.add(b[kept:i]) {
			p.lose(s)
			return len(b)
		}
		whole = s.head.b
	}
	s.read = true
	p.message(from, whole, at)
	s.head.reset()
	return i
}

// keepHead holds what came of a head that goes on.
func (p *Parser) keepHead(s *side, b []byte, kept int) int {
	if !s.head.add(b[kept:]) || !s.scan.first && !maybe(s.head.b) {
		p.lose(s)
	}
	return len(b)
}

// maybe says whether b may be the beginning of a start line.
func maybe(b []byte) bool {
	if len(b) > maxLine {
		return false
	}
	const most = 40 // the longest method, and the name of the protocol
	for i, c := range b[:min(len(b), most)] {
		if c == ' ' || c == '/' {
			return i > 0
		}
		if !tokenByte(c) {
			return false
		}
	}
	return len(b) < most
}

// message takes up a head that is whole.
func (p *Parser) message(from stream.Side, whole []byte, at indicator.At) {
	s := &p.sides[from]
	var h head
	line, rest := whole, []byte(nil)
	if i := bytes.IndexByte(whole, '\n'); i >= 0 {
		line, rest = whole[:i], whole[i+1:]
	}
	h.startLine(line)
	if h.major == '2' {
		p.prefaced(from)
		return
	}
	h.fields(rest, &s.notes)
	s.headAt = at
	if !h.response {
		s.notes.request(&h)
		p.ask(s, h.method)
		p.begin(s, &h, h.coded && h.chunked || h.length > 0 && !h.coded, at)
		return
	}
	p.respond(from, &h, at)
}

// ask remembers a request for the sake of its response.
func (p *Parser) ask(s *side, method []byte) {
	if len(s.asked) >= maxPipeline {
		p.set.Reached(LimitPipeline)
		s.asked = s.asked[:0]
	}
	kind := askedOther
	switch {
	case is(method, "head"):
		kind = askedHead
	case is(method, "connect"):
		kind = askedConnect
	}
	s.asked = append(s.asked, kind)
}

// respond takes up a response.
func (p *Parser) respond(from stream.Side, h *head, at indicator.At) {
	s := &p.sides[from]
	if h.status == 101 {
		if hasToken(h.upgrade, "h2c", false) {
			p.speakHTTP2(from)
		} else {
			p.verdict = stream.Done
		}
		return
	}
	if h.status/100 == 1 {
		s.state = stateStart
		return
	}
	request := askedOther
	if q := &p.sides[from.Other()].asked; len(*q) > 0 {
		request = (*q)[0]
		*q = (*q)[:copy(*q, (*q)[1:])]
	}
	if request == askedConnect && h.status/100 == 2 || established(h) {
		p.verdict = stream.Again
		return
	}
	none := request == askedHead || h.status == 204 || h.status == 304 || h.length == 0 && !h.chunked
	p.begin(s, h, !none, at)
}

// established knows a tunnel by what most proxies say, as the request may not
// have been captured.
func established(h *head) bool {
	return h.status == 200 && h.length < 0 && !h.chunked && is(h.reason, "connection established")
}

// begin starts the body of a message, if it has one.
func (p *Parser) begin(s *side, h *head, hasBody bool, at indicator.At) {
	if !hasBody {
		p.finish(s, at)
		return
	}
	s.body.Begin(p.set, role(h.response), h.encoding, h.contentType)
	switch {
	case h.chunked:
		s.state, s.line, s.digits, s.size = stateChunkSize, 0, 0, 0
	case h.length >= 0 && !h.coded:
		s.state, s.left = stateLength, h.length
	default:
		s.state = stateUntilEnd
	}
}

// prefaced begins HTTP/2 with the client's preface, of which the head has come.
func (p *Parser) prefaced(from stream.Side) {
	p.speakHTTP2(from)
	p.h2.Preface(from)
	if other := &p.sides[from.Other()]; other.state == stateLost || other.state == stateStart {
		p.speakHTTP2(from.Other())
	}
}

package http

import (
	"bytes"

	"capagent/enrich/indicator"
)

// chunked consumes some of a chunked body (RFC 9112, 7.1).
func (p *Parser) chunked(s *side, b []byte, at indicator.At) int {
	switch s.state {
	case stateChunkSize:
		return p.chunkSize(s, b)
	case stateChunk:
		n := int(min(int64(len(b)), s.left))
		s.body.Write(b[:n], at)
		if s.left -= int64(n); s.left == 0 {
			s.state, s.line = stateChunkEnd, 0
		}
		return n
	case stateChunkEnd:
		if b[0] == '\r' && s.line == 0 {
			s.line++
			return 1
		}
		if b[0] != '\n' {
			p.lose(s)
			return len(b)
		}
		s.state, s.line, s.digits, s.size = stateChunkSize, 0, 0, 0
		return 1
	}
	return p.trailer(s, b, at)
}

// chunkSize reads the size, and passes over what else is in its line.
func (p *Parser) chunkSize(s *side, b []byte) int {
	for i, c := range b {
		if c == '\n' {
			if s.digits == 0 {
				p.lose(s)
				return len(b)
			}
			s.left, s.line, s.state = s.size, 0, stateChunk
			if s.size == 0 {
				s.state, s.scan = stateTrailer, scan{}
			}
			return i + 1
		}
		v, hex := hexDigit(c)
		switch {
		case s.line > 0: // behind the size
		case hex && s.size < 1<<56:
			s.size = s.size<<4 | int64(v)
			s.digits++
		case s.digits == 0 && (c == ' ' || c >= '\t' && c <= '\f'):
		case s.digits > 0 && !hex:
			s.line = 1 // an extension, or what clients are known to ignore
		default:
			p.lose(s)
			return len(b)
		}
	}
	return len(b)
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}

// trailer passes over lines until an empty one.
func (p *Parser) trailer(s *side, b []byte, at indicator.At) int {
	i := bytes.IndexByte(b, '\n')
	if i < 0 {
		s.scan.add(b)
		return len(b)
	}
	s.scan.add(b[:i])
	if s.scan.empty() {
		p.finish(s, at)
	}
	s.scan = scan{}
	return i + 1
}

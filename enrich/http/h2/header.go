package h2

import (
	"bytes"

	"golang.org/x/net/http2/hpack"

	"capagent/enrich/indicator"
	"capagent/enrich/stream"
)

// fields are those of a header block that matter.
type fields struct {
	method, scheme, authority, path, host, agent string
	status, encoding, contentType                string
	url                                          []byte
}

func (f *fields) emit(h hpack.HeaderField) {
	switch h.Name {
	case ":method":
		f.method = h.Value
	case ":scheme":
		f.scheme = h.Value
	case ":authority":
		f.authority = h.Value
	case ":path":
		f.path = h.Value
	case ":status":
		f.status = h.Value
	case "host":
		f.host = h.Value
	case "user-agent":
		f.agent = h.Value
	case "content-encoding":
		f.encoding = h.Value
	case "content-type":
		f.contentType = h.Value
	}
}

// beginBlock makes ready for a header block, and says whether there is memory.
func (c *Conn) beginBlock(s *side) bool {
	if s.hpack == nil {
		if !c.set.Take(maxTable, LimitHeaders) {
			return false
		}
		s.taken += maxTable
		s.hpack = hpack.NewDecoder(4096, s.fields.emit) // RFC 9113, 6.5.2
		s.hpack.SetAllowedMaxDynamicTableSize(maxTable)
		s.hpack.SetMaxStringLength(maxString)
	}
	s.block = s.block[:0]
	return true
}

// gather holds a piece of a header block.
func (c *Conn) gather(s *side, b []byte) bool {
	need := len(s.block) + len(b)
	if need > maxBlock {
		return false
	}
	if need > cap(s.block) {
		size := max(1<<10, 2*cap(s.block))
		for size < need {
			size *= 2
		}
		if !c.set.Take(size-cap(s.block), LimitHeaders) {
			return false
		}
		s.taken += size - cap(s.block)
		grown := make([]byte, len(s.block), size)
		copy(grown, s.block)
		s.block = grown
	}
	s.block = append(s.block, b...)
	return true
}

// headers decodes a header block that is whole.
func (c *Conn) headers(from stream.Side, id uint32, at indicator.At) bool {
	s := &c.sides[from]
	f := &s.fields
	*f = fields{url: f.url[:0]}
	if _, err := s.hpack.Write(s.block); err != nil {
		return false
	}
	if s.hpack.Close() != nil {
		return false
	}
	response := f.status != ""
	if !response && f.method == "" {
		return true // trailers
	}
	if !response {
		c.request(f, at)
	}
	if s.kind == framePush || s.blockEnd || len(f.status) == 3 && f.status[0] == '1' {
		return true
	}
	m := c.stream(id)
	if m == nil || m.bodies[from].Open() {
		return true
	}
	role := indicator.HTTPRequest
	if response {
		role = indicator.HTTPResponse
	}
	m.bodies[from].Begin(c.set, role, []byte(f.encoding), []byte(f.contentType))
	return true
}

func (c *Conn) request(f *fields, at indicator.At) {
	authority := f.authority
	if authority == "" {
		authority = f.host
	}
	if authority != "" {
		f.url = append(f.url[:0], authority...)
		c.set.Host(hostOf(f.url), indicator.HTTPHost, at)
		if f.path != "" && f.scheme != "" {
			f.url = append(append(append(append(f.url[:0], f.scheme...), "://"...), authority...), f.path...)
			c.set.URL(f.url, indicator.HTTPRequest, at)
		}
	}
	if f.agent != "" {
		f.url = append(f.url[:0], f.agent...)
		c.set.UserAgent(f.url, indicator.HTTPRequest, at)
	}
}

// hostOf cuts user and port off an authority.
func hostOf(b []byte) []byte {
	b = b[bytes.LastIndexByte(b, '@')+1:]
	for i := len(b) - 1; i > 0; i-- {
		if b[i] == ':' {
			return b[:i]
		}
		if b[i] < '0' || b[i] > '9' {
			break
		}
	}
	return b
}

package http

import (
	"bytes"
	"math"
)

// head is what of a message's head says how it goes on.
type head struct {
	request
	response bool
	status   int
	reason   []byte

	length      int64 // of the body, -1 where none is given
	coded       bool  // there is a Transfer-Encoding
	chunked     bool
	encoding    []byte // Content-Encoding
	contentType []byte
	upgrade     []byte
	host        []byte // the last one, as tshark has it
}

// startLine reads the first line of a head.
func (h *head) startLine(line []byte) (ok bool) {
	line = bytes.TrimSuffix(line, []byte{'\r'})
	if h.status, h.reason, ok = statusLine(line); ok {
		h.response = true
		return true
	}
	if h.request, ok = requestLine(line); !ok {
		h.request, ok = looseRequest(line)
	}
	return ok
}

// fields reads the header lines, and notes those of a request that name
// something.
func (h *head) fields(b []byte, n *notes) {
	h.length = -1
	for len(b) > 0 {
		var line []byte
		line, b = cutLine(b)
		colon := bytes.IndexByte(line, ':')
		if colon < 1 {
			continue
		}
		// A NUL ends the value, as it does for tshark and many clients.
		value, _, _ := bytes.Cut(line[colon+1:], []byte{0})
		h.field(line[:colon], trim(value), n)
	}
}

// trim cuts off white space at both ends.
func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] >= '\t' && b[0] <= '\r') {
		b = b[1:]
	}
	for n := len(b) - 1; n >= 0 && (b[n] == ' ' || b[n] >= '\t' && b[n] <= '\r'); n-- {
		b = b[:n]
	}
	return b
}

// cutLine cuts off the first line, with those that continue it (RFC 9112, 5.2).
func cutLine(b []byte) (line, rest []byte) {
	for end := 0; ; {
		i := bytes.IndexByte(b[end:], '\n')
		if i < 0 {
			return b, nil
		}
		end += i + 1
		if end == len(b) || b[end] != ' ' && b[end] != '\t' {
			return b[:end], b[end:]
		}
	}
}

func (h *head) field(name, value []byte, n *notes) {
	switch len(name) {
	case 4:
		if is(name, "host") && !h.response {
			h.host = value
			n.add(noteHost, stripPort(value))
		}
	case 7:
		if is(name, "upgrade") {
			h.upgrade = value
		}
	case 10:
		if is(name, "user-agent") && !h.response {
			n.add(noteAgent, value)
		}
	case 12:
		if is(name, "content-type") {
			h.contentType = value
		}
	case 14:
		if is(name, "content-length") {
			h.length = length(value)
		}
	case 16:
		if is(name, "content-encoding") {
			h.encoding = value
		}
	case 17:
		if is(name, "transfer-encoding") {
			h.coded = !is(value, "identity")
			h.chunked = h.chunked || hasToken(value, "chunked", true)
		}
	}
}

// is compares without case. want is in lower case.
func is(b []byte, want string) bool {
	if len(b) != len(want) {
		return false
	}
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		if c != want[i] {
			return false
		}
	}
	return true
}

// hasToken says whether a list (RFC 9110, 5.6.1) has a token, or one that begins
// with it.
func hasToken(list []byte, token string, begins bool) bool {
	for len(list) > 0 {
		var one []byte
		one, list, _ = bytes.Cut(list, []byte{','})
		one = bytes.TrimSpace(one)
		if begins {
			one = one[:min(len(one), len(token))]
		}
		if is(one, token) {
			return true
		}
	}
	return false
}

// length reads a Content-Length; -1 when it is none.
func length(b []byte) int64 {
	var n int64
	digits := 0
	for digits < len(b) && b[digits] >= '0' && b[digits] <= '9' {
		if n > (math.MaxInt64-9)/10 {
			return -1
		}
		n = n*10 + int64(b[digits]-'0')
		digits++
	}
	if digits == 0 || digits < len(b) && b[digits] != ' ' && b[digits] != '\t' {
		return -1
	}
	return n
}

// stripPort cuts ":port" off a host, which may be an IPv6 address in brackets or
// without.
func stripPort(b []byte) []byte {
	i := bytes.LastIndexByte(b, ':')
	if i < 0 || bytes.IndexByte(b[i:], ']') >= 0 || b[0] != '[' && bytes.IndexByte(b[:i], ':') >= 0 {
		return b
	}
	return b[:i]
}

// authority returns the host part of an absolute target, or nil.
func authority(target []byte) []byte {
	if !absolute(target) {
		return nil
	}
	_, b, _ := bytes.Cut(target, []byte("://"))
	if i := bytes.IndexAny(b, "/?#"); i >= 0 {
		b = b[:i]
	}
	if i := bytes.LastIndexByte(b, '@'); i >= 0 {
		b = b[i+1:]
	}
	return stripPort(b)
}

// absolute says whether a target is a URL by itself.
func absolute(target []byte) bool {
	return len(target) > 7 && is(target[:7], "http://") || len(target) > 8 && is(target[:8], "https://")
}

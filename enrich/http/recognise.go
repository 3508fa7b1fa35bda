package http

import (
	"bytes"

	"capagent/enrich/stream"
)

// preface begins every HTTP/2 connection with prior knowledge (RFC 9113, 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// methods are those that a request is recognised by before its line is whole.
var methods = [...]string{
	"GET", "POST", "HEAD", "PUT", "OPTIONS", "CONNECT", "DELETE", "PATCH", "TRACE", "PROPFIND", "PROPPATCH", "MKCOL",
	"COPY", "MOVE", "LOCK", "UNLOCK", "SEARCH", "REPORT", "NOTIFY", "SUBSCRIBE", "UNSUBSCRIBE", "M-SEARCH", "M-POST",
	"RPC_CONNECT", "RPC_IN_DATA", "RPC_OUT_DATA", "SSTP_DUPLEX_POST", "CCM_POST", "MERGE", "CHECKOUT", "MKACTIVITY",
	"VERSION-CONTROL",
}

// maxLine is the longest start line that is read.
const maxLine = 32 << 10

// Recognise says whether b, the first bytes of a segment, begins a message: a
// request ("METHOD SP target SP HTTP/1.x"), a response ("HTTP/1.x SP status"), or
// HTTP/2's preface. Where b holds the first line, all of it has to be right. Of a
// request whose line goes on in the next segment there must be a known method, a
// space and at least one byte of a target that fits the method, and nothing that
// can't be printed; of a response at least "HTTP/1.", of the preface at least
// "PRI * HTTP/2.0". Fewer bytes are not recognised.
func Recognise(_ stream.Side, b []byte) bool {
	if len(b) < 5 || b[0]-'A' > 'Z'-'A' {
		return false
	}
	if b[0] == 'H' && b[4] == '/' {
		return likeResponse(b)
	}
	if b[0] == 'P' && b[3] == ' ' && b[4] == '*' {
		n := min(len(b), len(preface))
		return n >= len("PRI * HTTP/2.0") && string(b[:n]) == preface[:n]
	}
	return likeRequest(b)
}

func likeResponse(b []byte) bool {
	const form = "HTTP/1.0 000"
	if len(b) < len("HTTP/1.") || string(b[:7]) != form[:7] {
		return false
	}
	for i := 7; i < len(form) && i < len(b); i++ {
		digit := b[i] >= '0' && b[i] <= '9'
		if (form[i] == '0') != digit || form[i] == ' ' && b[i] != ' ' {
			return false
		}
	}
	return true
}

func likeRequest(b []byte) bool {
	space := -1
	for i, c := range b[:min(len(b), 33)] {
		if c == ' ' {
			space = i
			break
		}
		if c-'A' > 'Z'-'A' && c != '-' && c != '_' && c-'0' > 9 {
			return false
		}
	}
	if space < 0 || space+1 >= len(b) {
		return false
	}
	head := b[:min(len(b), maxLine)]
	if end := bytes.IndexByte(head, '\n'); end >= 0 {
		_, ok := requestLine(bytes.TrimSuffix(head[:end], []byte{'\r'}))
		return ok
	}
	if len(b) >= maxLine || !knownMethod(b[:space]) || !likeTarget(b[:space], b[space+1:]) {
		return false
	}
	for _, c := range b[space:] {
		if c < ' ' && c != '\r' || c == 0x7f {
			return false
		}
	}
	return true
}

func knownMethod(b []byte) bool {
	for _, m := range methods {
		if string(b) == m {
			return true
		}
	}
	return false
}

// likeTarget says whether a target may begin like this (RFC 9112, 3.2).
func likeTarget(method, b []byte) bool {
	c := b[0]
	if c == '/' || c == '*' {
		return true
	}
	if string(method) == "CONNECT" {
		return c == '[' || c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
	}
	const scheme = "http"
	n := min(len(b), len(scheme))
	return bytes.EqualFold(b[:n], []byte(scheme[:n]))
}

// request is a request line.
type request struct {
	method, target []byte
	major          byte // '1', or '2' in the preface
}

// requestLine reads a request line (RFC 9112, 3), without its end. The target
// ends at the first space, as tshark has it: what some clients send unescaped is
// between it and the version.
func requestLine(b []byte) (request, bool) {
	const version = " HTTP/1.1"
	if len(b) < len("A / HTTP/1.1") || len(b) > maxLine {
		return request{}, false
	}
	at := len(b) - len(version)
	v := b[at:]
	if string(v[:6]) != version[:6] || v[6] != '1' && v[6] != '2' || v[7] != '.' || v[8] < '0' || v[8] > '9' {
		return request{}, false
	}
	space := bytes.IndexByte(b[:at], ' ')
	if space < 1 || space > 32 {
		return request{}, false
	}
	for _, c := range b[:space] {
		if !tokenByte(c) {
			return request{}, false
		}
	}
	target := bytes.TrimLeft(b[space+1:at], " ")
	if i := bytes.IndexByte(target, ' '); i >= 0 {
		target = target[:i]
	}
	if len(target) == 0 || b[0] == 'H' && string(b[:min(5, space)]) == "HTTP/" {
		return request{}, false
	}
	for _, c := range target {
		if c < ' ' || c == 0x7f {
			return request{}, false
		}
	}
	return request{method: b[:space], target: target, major: v[6]}, true
}

// looseRequest reads a request line of a known method of which the rest is not
// right: servers and tshark take it. There may be no target.
func looseRequest(b []byte) (request, bool) {
	method, rest, _ := bytes.Cut(b, []byte{' '})
	if !knownMethod(method) {
		return request{}, false
	}
	target, _, _ := bytes.Cut(bytes.TrimLeft(rest, " "), []byte{' '})
	for _, c := range target {
		if c < ' ' || c == 0x7f {
			return request{}, false
		}
	}
	if len(target) > 4 && string(target[:5]) == "HTTP/" {
		target = nil
	}
	return request{method: method, target: target, major: '1'}, true
}

// statusLine reads a status line (RFC 9112, 4), without its end. It asks no more
// of it than clients do: a status that is no number is 0.
func statusLine(b []byte) (status int, reason []byte, ok bool) {
	if len(b) < len("HTTP/1") || string(b[:5]) != "HTTP/" || b[5] < '0' || b[5] > '9' {
		return 0, nil, false
	}
	_, b, _ = bytes.Cut(b, []byte{' '})
	b = bytes.TrimLeft(b, " ")
	if len(b) < 3 || len(b) > 3 && b[3] != ' ' {
		return 0, nil, true
	}
	for _, c := range b[:3] {
		if c < '0' || c > '9' {
			return 0, nil, true
		}
		status = status*10 + int(c-'0')
	}
	return status, bytes.TrimSpace(b[3:]), true
}

// tokenByte says whether c may be part of a token (RFC 9110, 5.6.2).
func tokenByte(c byte) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		return true
	}
	return bytes.IndexByte([]byte("!#$%&'*+-.^_`|~"), c) >= 0
}

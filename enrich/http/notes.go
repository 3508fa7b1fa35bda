package http

import (
	"bytes"

	"capagent/enrich/indicator"
)

// buffer is bytes that the analysis granted.
type buffer struct {
	bounds *indicator.Bounds
	limit  indicator.Limit
	most   int
	b      []byte
}

// add appends p, and says whether there was room.
func (b *buffer) add(p []byte) bool {
	need := len(b.b) + len(p)
	if need <= cap(b.b) {
		b.b = append(b.b, p...)
		return true
	}
	if need > b.most {
		b.bounds.Reached(b.limit)
		return false
	}
	size := max(512, 2*cap(b.b))
	for size < need {
		size *= 2
	}
	if !b.bounds.Take(size-cap(b.b), b.limit) {
		return false
	}
	grown := make([]byte, len(b.b), size)
	copy(grown, b.b)
	b.b = append(grown, p...)
	return true
}

// keptBuffer is what a connection keeps between two messages.
const keptBuffer = 4 << 10

// reset empties the buffer.
func (b *buffer) reset() {
	b.b = b.b[:0]
	if cap(b.b) > keptBuffer {
		b.free()
	}
}

// free gives the memory back.
func (b *buffer) free() {
	b.bounds.Give(cap(b.b))
	b.b = nil
}

// notes are the indicators of a request, held until its body is complete.
type notes struct {
	text buffer
	list [maxNotes]note
	n    int
}

type note struct {
	kind       noteKind
	start, end int
}

type noteKind uint8

const (
	noteHost noteKind = iota
	noteURL
	noteAgent
)

// maxNotes is how many hosts, URLs and user agents one request may have.
const maxNotes = 8

// add notes a value. A line break within is that of a folded line, which stands
// for a space (RFC 9112, 5.2).
func (n *notes) add(kind noteKind, parts ...[]byte) {
	if n.n == maxNotes {
		n.text.bounds.Reached(LimitFields)
		return
	}
	start := len(n.text.b)
	for _, p := range parts {
		for {
			line, rest, folded := bytes.Cut(p, []byte{'\n'})
			if folded {
				line = bytes.TrimRight(line, " \t\r")
			}
			if !n.text.add(line) || folded && !n.text.add([]byte{' '}) {
				n.text.b = n.text.b[:start]
				return
			}
			if !folded {
				break
			}
			p = bytes.TrimLeft(rest, " \t")
		}
	}
	n.list[n.n] = note{kind, start, len(n.text.b)}
	n.n++
}

// hasHost says whether a host is noted.
func (n *notes) hasHost(host []byte) bool {
	for _, have := range n.list[:n.n] {
		if have.kind == noteHost && bytes.EqualFold(n.text.b[have.start:have.end], host) {
			return true
		}
	}
	return false
}

// report tells set of all notes.
func (n *notes) report(set *indicator.Set, host, rest indicator.Role, at indicator.At) {
	for _, have := range n.list[:n.n] {
		value := n.text.b[have.start:have.end]
		switch have.kind {
		case noteHost:
			set.Host(value, host, at)
		case noteURL:
			set.URL(value, rest, at)
		case noteAgent:
			set.UserAgent(value, rest, at)
		}
	}
	n.reset()
}

func (n *notes) reset() {
	n.n = 0
	n.text.reset()
}

// request notes what a request line and its Host header name.
func (n *notes) request(h *head) {
	if len(h.target) == 0 {
		return
	}
	if is(h.method, "connect") {
		if host := stripPort(h.target); h.target[0] != '/' && !n.hasHost(host) {
			n.add(noteHost, host)
		}
		return // tshark's URL of it is host:port, which is none
	}
	if absolute(h.target) {
		n.add(noteURL, h.target)
		if host := authority(h.target); !n.hasHost(host) {
			n.add(noteHost, host)
		}
		return
	}
	if len(h.host) > 0 {
		n.add(noteURL, []byte("http://"), h.host, h.target)
	}
}

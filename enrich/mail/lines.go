package mail

import (
	"bytes"

	"capagent/enrich/indicator"
)

// maxLine is how much of a line is looked at as a whole; RFC 5321 allows 1000
// bytes. A longer one comes in pieces of this size.
const maxLine = 2048

// lines cuts a stream into lines. Where the stream itself is cut makes no
// difference; only a line that is cut is copied.
type lines struct {
	buf    []byte // the beginning of a line
	inside bool   // pieces of this line were handed out
	skip   bool   // what comes is the end of a line whose beginning is missing
}

// next returns the piece of a line with which b begins, its line end included, or
// nil when more is needed.
func (l *lines) next(set *indicator.Set, b []byte) (piece []byte, first, last bool, rest []byte) {
	n := bytes.IndexByte(b, '\n') + 1
	if l.skip {
		if n == 0 {
			return nil, false, false, nil
		}
		l.skip = false
		return nil, false, false, b[n:]
	}
	last = n > 0
	if !last {
		n = len(b)
	}
	if most := maxLine - len(l.buf); n > most {
		n, last = most, false
	}
	piece, rest = b[:n], b[n:]
	if len(l.buf) > 0 || !last && n < maxLine {
		if !l.keep(set, piece) {
			l.skip = !last
			return nil, false, false, rest
		}
		if !last && len(l.buf) < maxLine {
			return nil, false, false, rest
		}
		piece, l.buf = l.buf, l.buf[:0]
	}
	first, l.inside = !l.inside, !last
	return piece, first, last, rest
}

func (l *lines) keep(set *indicator.Set, b []byte) bool {
	if l.buf == nil {
		if !set.Take(maxLine, LimitLine) {
			return false
		}
		l.buf = make([]byte, 0, maxLine)
	}
	l.buf = append(l.buf, b...)
	return true
}

// flush returns the last line of a stream that has no line end; nil where there is
// none.
func (l *lines) flush() (piece []byte, first bool) {
	piece, first = l.buf, !l.inside
	l.buf, l.inside = l.buf[:0], false
	if first && len(piece) == 0 {
		return nil, true
	}
	return piece, first
}

// cut forgets the line that a gap has hit: up to the next one all is skipped.
func (l *lines) cut() { l.buf, l.inside, l.skip = l.buf[:0], false, true }

// reset makes the next byte the first of a line.
func (l *lines) reset() { l.buf, l.inside, l.skip = l.buf[:0], false, false }

func (l *lines) close(set *indicator.Set) {
	set.Give(cap(l.buf))
	l.buf = nil
}

package ftp

import (
	"bytes"

	"capagent/enrich/indicator"
)

// maxLine is the longest line that is looked at.
const maxLine = 1024

// lines cuts a stream into lines. Only one that is cut is copied.
type lines struct {
	buf  []byte
	skip bool // a line that is too long goes on
}

// next returns the line with which b begins, without its end, or nil when more is
// needed or it is too long.
func (l *lines) next(set *indicator.Set, b []byte) (line, rest []byte) {
	n := bytes.IndexByte(b, '\n')
	piece := b
	if n >= 0 {
		piece, rest = b[:n], b[n+1:]
	}
	switch {
	case l.skip:
		l.skip = n < 0
		return nil, rest
	case len(l.buf)+len(piece) > maxLine:
		set.Reached(LimitLine)
		l.buf, l.skip = l.buf[:0], n < 0
		return nil, rest
	case !l.keep(set, piece, n < 0):
		l.skip = n < 0
		return nil, rest
	case n < 0:
		return nil, nil
	}
	if len(l.buf) > 0 {
		piece, l.buf = l.buf, l.buf[:0]
	}
	return bytes.TrimSuffix(piece, []byte("\r")), rest
}

// keep adds to the beginning of a line, when there is one or begins.
func (l *lines) keep(set *indicator.Set, b []byte, begins bool) bool {
	if !begins && len(l.buf) == 0 {
		return true
	}
	if l.buf == nil {
		if !set.Take(maxLine, LimitLine) {
			return false
		}
		l.buf = make([]byte, 0, maxLine)
	}
	l.buf = append(l.buf, b...)
	return true
}

func (l *lines) reset() { l.buf, l.skip = l.buf[:0], false }

func (l *lines) close(set *indicator.Set) {
	set.Give(cap(l.buf))
	l.buf = nil
}

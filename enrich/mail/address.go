package mail

import (
	"bytes"

	"capagent/enrich/indicator"
)

// addresses reports each address in a header field or a path (RFC 5322, 3.4, and
// what is sent instead). Names, comments and groups are passed over. What it can't
// understand it takes as it stands: nothing is lost because something before it is
// wrong.
func addresses(set *indicator.Set, b []byte, role indicator.Role, when indicator.At) {
	s := scanner{b: b, set: set, role: role, when: when}
	for s.pos < len(b) {
		s.step()
	}
	s.end()
}

type scanner struct {
	b    []byte
	pos  int
	set  *indicator.Set
	role indicator.Role
	when indicator.At

	bare       []byte // the last word with an @, of this mailbox
	angle      bool   // it had an address in brackets
	start      int    // of the word, or -1
	word       bool
	at         bool // the word has an @
	noQuote    bool // there is no closing quote any more
	noBracket  bool
	noComments bool
}

func (s *scanner) step() {
	c := s.b[s.pos]
	switch {
	case c == '"' && !s.noQuote:
		if n := quotedEnd(s.b[s.pos+1:]); n >= 0 {
			s.begin()
			s.pos += n + 2
			return
		}
		s.noQuote = true
	case c == '(' && !s.noComments:
		if n := commentEnd(s.b[s.pos:]); n > 0 {
			s.endWord()
			s.pos += n
			return
		}
		s.noComments = true
	case c == '<' && !s.noBracket:
		if n := bytes.IndexByte(s.b[s.pos:], '>'); n > 0 {
			s.word, s.at = false, false
			s.angle = true
			s.emit(s.b[s.pos+1 : s.pos+n])
			s.pos += n + 1
			return
		}
		s.noBracket = true
		s.endWord()
	case c == ',' || c == ';':
		s.end()
	case c <= ' ' || c == '<' || c == '>' || c == '(' || c == ')' || c == '"':
		s.endWord()
	case c == ':' && !s.at: // of a group or mailto:
		s.word = false
	default:
		s.begin()
		s.at = s.at || c == '@'
	}
	s.pos++
}

func (s *scanner) begin() {
	if !s.word {
		s.word, s.start = true, s.pos
	}
}

// endWord keeps a word that may be an address, unless it is an encoded one (RFC
// 2047).
func (s *scanner) endWord() {
	if w := s.b[s.start:min(s.pos, len(s.b))]; s.word && s.at && !bytes.HasPrefix(w, []byte("=?")) {
		s.bare = w
	}
	s.word, s.at = false, false
}

// end is the end of a mailbox.
func (s *scanner) end() {
	s.endWord()
	if s.bare != nil && !s.angle {
		s.emit(s.bare)
	}
	s.bare, s.angle = nil, false
}

// emit reports an address without its source route (RFC 5321, appendix C) or
// scheme.
func (s *scanner) emit(a []byte) {
	a = bytes.TrimSpace(a)
	at := bytes.LastIndexByte(a, '@')
	if at <= 0 {
		return
	}
	if i := bytes.LastIndexByte(a[:at], ':'); i >= 0 {
		a = a[i+1:]
	}
	s.set.Email(bytes.Trim(a, "'"), s.role, s.when)
}

// quotedEnd returns where the quote that was opened before b ends, or -1.
func quotedEnd(b []byte) int {
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

// commentEnd returns the length of the comment at the beginning of b, or 0.
func commentEnd(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return 0
}

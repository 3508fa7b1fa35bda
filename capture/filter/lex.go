package filter

import (
	"net/netip"
	"strings"
)

// kind is what a token is.
type kind uint8

const (
	tEOF   kind = iota
	tNum        // a number, or a name for one (tcp-syn, icmptype)
	tID         // a name, a port range, or anything after a backslash
	tHID        // an IPv4 address or the first two or three octets of one
	tHID6       // an IPv6 address
	tEID        // a MAC address
	tAID        // an ARCnet address, $ab
	tProto      // a protocol's name: token.val is a proto
	tDir        // src, dst, addr1, ra: token.val is a direction
	tType       // host, net, port, portrange, gateway, proto, protochain: token.val is an addrType
	tOp         // punctuation: token.text
	tWord       // every other keyword: token.text is its main spelling
)

// token is one word of an expression.
type token struct {
	kind kind
	pos  int    // offset in the expression
	text string // as written; for tWord and tOp the main spelling
	val  uint32
}

// scanner cuts an expression into tokens. Like the grammar it serves, it always
// takes the longest token, and of two readings of the same length the keyword.
type scanner struct {
	expr string
	pos  int
}

func (s *scanner) fail(pos int, text string) error {
	return &Error{Expr: s.expr, Pos: pos, Text: text}
}

// next returns the next token.
func (s *scanner) next() (token, error) {
	for s.pos < len(s.expr) && strings.IndexByte(" \r\n\t", s.expr[s.pos]) >= 0 {
		s.pos++
	}
	rest := s.expr[s.pos:]
	t := token{pos: s.pos}
	if rest == "" {
		return t, nil
	}
	// Of equal lengths the first in this list wins.
	n := 0
	longest := func(k kind, l int) {
		if l > n {
			t.kind, n = k, l
		}
	}
	word := matchWord(rest)
	reserved, isReserved := keywords[rest[:word]]
	if isReserved {
		longest(reserved.kind, word)
	}
	longest(tOp, matchOp(rest))
	longest(tAID, matchARCnet(rest))
	longest(tEID, matchMAC(rest))
	longest(tNum, matchNumber(rest))
	longest(tHID, matchDotted(rest, 2, 4))
	longest(tHID6, matchIPv6(rest))
	if bad := matchBadMAC(rest); bad > n {
		return t, s.fail(t.pos, "invalid MAC address "+quoted(rest[:bad]))
	}
	longest(tID, word)
	longest(tID, matchEscape(rest))
	if n == 0 {
		return t, s.fail(t.pos, "unexpected character "+quoted(rest[:1]))
	}
	s.pos += n
	t.text = rest[:n]
	if isReserved && n == word {
		t.kind, t.val = reserved.kind, reserved.val
		if reserved.text != "" {
			t.text = reserved.text
		}
		return t, nil
	}
	return s.value(t)
}

// value works out what a token's text stands for.
func (s *scanner) value(t token) (token, error) {
	switch t.kind {
	case tNum:
		v, wrong := parseNumber(t.text)
		switch wrong {
		case notANumber:
			return t, s.fail(t.pos, "number "+quoted(t.text)+" has a digit that is not octal")
		case tooBig:
			return t, s.fail(t.pos, "number "+quoted(t.text)+" does not fit into 32 bits")
		}
		t.val = v
	case tHID6:
		if _, err := netip.ParseAddr(t.text); err != nil {
			return t, s.fail(t.pos, "invalid IPv6 address "+quoted(t.text))
		}
	case tID:
		t.text = strings.TrimPrefix(t.text, `\`)
	case tOp:
		switch t.text {
		case "==":
			t.text = "="
		case "&&":
			t.kind, t.text = tWord, "and"
		case "||":
			t.kind, t.text = tWord, "or"
		}
	}
	return t, nil
}

// What parseNumber may find wrong.
const (
	nothing = iota
	notANumber
	tooBig
)

// parseNumber reads a decimal, octal (leading 0) or hexadecimal (leading 0x)
// number of at most 32 bits.
func parseNumber(text string) (v uint32, wrong int) {
	digits, base := text, uint64(10)
	switch {
	case len(text) > 1 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X'):
		digits, base = text[2:], 16
	case len(text) > 0 && text[0] == '0':
		digits, base = text[1:], 8
	}
	var n uint64
	for i := range len(digits) {
		d := uint64(hexDigit(digits[i]))
		if d >= base {
			return 0, notANumber
		}
		if n = n*base + d; n > 0xffffffff {
			return 0, tooBig
		}
	}
	return uint32(n), nothing
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isAlnum(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// hexDigit returns the value of a hexadecimal digit, 255 for anything else.
func hexDigit(c byte) byte {
	switch {
	case isDigit(c):
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

// hexRun counts the hexadecimal digits at the start of s, up to most.
func hexRun(s string, most int) int {
	n := 0
	for n < len(s) && n < most && hexDigit(s[n]) < 16 {
		n++
	}
	return n
}

// matchWord: letters, digits and, inside, "-_."; the last character is no "-"
// or "_".
func matchWord(s string) int {
	end := 0
	for i := range len(s) {
		switch c := s[i]; {
		case isAlnum(c), c == '.' && i > 0:
			end = i + 1
		case (c == '-' || c == '_') && i > 0:
		default:
			return end
		}
	}
	return end
}

// matchEscape: a backslash and everything up to white space, "!" or a bracket.
func matchEscape(s string) int {
	if s[0] != '\\' {
		return 0
	}
	n := strings.IndexAny(s, " !()\n\t")
	if n < 0 {
		n = len(s)
	}
	if n == 1 {
		return 0
	}
	return n
}

func matchOp(s string) int {
	if len(s) > 1 {
		switch s[:2] {
		case ">=", "<=", "!=", "==", "<<", ">>", "&&", "||":
			return 2
		}
	}
	if strings.IndexByte("+-*/%:[]!<>()&|^=", s[0]) >= 0 {
		return 1
	}
	return 0
}

func matchARCnet(s string) int {
	if s[0] != '$' {
		return 0
	}
	if n := hexRun(s[1:], 2); n > 0 {
		return 1 + n
	}
	return 0
}

// matchMAC: six octets with ":", "-" or ".", three pairs with ".", or twelve
// digits.
func matchMAC(s string) int {
	best := 0
	for _, sep := range []byte{':', '-', '.'} {
		if n := matchGroups(s, 6, 1, 2, sep); n > best {
			best = n
		}
	}
	if n := matchGroups(s, 3, 4, 4, '.'); n > best {
		best = n
	}
	if hexRun(s, 12) == 12 && best < 12 {
		best = 12
	}
	return best
}

// matchGroups matches count groups of least to most hexadecimal digits.
func matchGroups(s string, count, least, most int, sep byte) int {
	i := 0
	for g := range count {
		if g > 0 {
			if i >= len(s) || s[i] != sep {
				return 0
			}
			i++
		}
		n := hexRun(s[i:], most)
		if n < least {
			return 0
		}
		i += n
	}
	return i
}

// matchBadMAC finds what looks like a MAC address but isn't: two or more octets
// each followed by colons.
func matchBadMAC(s string) int {
	end := 0
	for i, groups := 0, 0; ; groups++ {
		n := hexRun(s[i:], 2)
		colons := 0
		for n > 0 && i+n+colons < len(s) && s[i+n+colons] == ':' {
			colons++
		}
		if colons == 0 {
			return end
		}
		i += n + colons
		if groups > 0 {
			end = i
		}
	}
}

// matchNumber: decimal digits, or 0x and hexadecimal ones.
func matchNumber(s string) int {
	if len(s) > 2 && s[0] == '0' && (s[1] == 'x' || s[1] == 'X') {
		if n := hexRun(s[2:], len(s)); n > 0 {
			return 2 + n
		}
	}
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	return n
}

// matchDotted: least to most numbers with dots between them.
func matchDotted(s string, least, most int) int {
	end, i := 0, 0
	for g := 1; g <= most; g++ {
		n := matchNumber(s[i:])
		if n == 0 {
			return end
		}
		i += n
		if g >= least {
			end = i
		}
		if i >= len(s) || s[i] != '.' {
			return end
		}
		i++
	}
	return end
}

// matchIPv6: eight groups, or fewer with one "::"; the last two may be a dotted
// IPv4 address.
func matchIPv6(s string) int {
	end, i, groups, gap := 0, 0, 0, false
	if strings.HasPrefix(s, "::") {
		end, i, gap = 2, 2, true
	}
	for {
		room := 8 - groups
		if gap {
			room--
		}
		if room >= 2 && (gap || groups == 6) {
			if n := matchDotted(s[i:], 4, 4); n > 0 && i+n > end {
				end = i + n
			}
		}
		n := hexRun(s[i:], 4)
		if n == 0 || room == 0 {
			return end
		}
		i += n
		groups++
		if (gap || groups == 8) && i > end {
			end = i
		}
		switch {
		case strings.HasPrefix(s[i:], "::") && !gap && groups <= 7:
			gap = true
			i += 2
			end = max(end, i)
		case strings.HasPrefix(s[i:], ":"):
			i++
		default:
			return end
		}
	}
}

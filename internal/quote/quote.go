// Package quote makes text that came from files and servers safe to show: what
// is plain stays as it is, everything else becomes a quoted string without a
// control character. The leading double quote tells the two apart.
package quote

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Path returns a file name for people: itself when every rune is printable and
// it neither starts nor ends in a space nor starts with a double quote.
func Path(s string) string {
	if s != "" && s[0] != '"' && strings.TrimSpace(s) == s && plain(s) {
		return s
	}
	return strconv.QuoteToGraphic(s)
}

// Text returns s on one line for people: control and unprintable characters
// are escaped, the rest stays.
func Text(s string) string {
	if plain(s) {
		return s
	}
	q := strconv.QuoteToGraphic(s)
	return q[1 : len(q)-1]
}

func plain(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if r != ' ' && !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

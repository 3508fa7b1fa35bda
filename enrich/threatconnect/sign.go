package threatconnect

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"time"

	"capagent/internal/secret"
)

// sign returns the signature of a request (contracts/threatconnect.md 1.1). uri is
// the path and query as they stand in the request line.
func sign(key, uri, method string, unix int64) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(uri + ":" + method + ":" + strconv.FormatInt(unix, 10)))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// credentials are one of the two ways to say who asks.
type credentials struct {
	accessID string
	key      secret.Secret
	token    secret.Secret // when set, nothing is signed
}

func (c credentials) authorize(h http.Header, uri, method string, at time.Time) {
	if !c.token.IsZero() {
		h.Set("Authorization", "TC-Token "+c.token.Reveal())
		return
	}
	unix := at.Unix()
	h.Set("Authorization", "TC "+c.accessID+":"+sign(c.key.Reveal(), uri, method, unix))
	h.Set("Timestamp", strconv.FormatInt(unix, 10))
}

// place says where in a request's target a text stands.
type place bool

const (
	inPath  place = false
	inQuery place = true
)

// escape appends text as one segment of a path, or one value of a query. Only
// characters that RFC 3986 lets stand there for themselves are left: in a path
// the unreserved ones (section 2.3), in a query also those that separate nothing
// there (section 3.4), since they would triple the length of what is looked up.
func escape(to []byte, text string, where place) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(text) {
		c := text[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_', c == '~':
			to = append(to, c)
		case where == inQuery && c == ' ':
			to = append(to, '+')
		case where == inQuery && (c == ',' || c == '(' || c == ')' || c == ':' || c == '/' || c == '@'):
			to = append(to, c)
		default:
			to = append(to, '%', digits[c>>4], digits[c&15])
		}
	}
	return to
}

func segment(text string) string { return string(escape(nil, text, inPath)) }

// query builds the part after the question mark from keys and values in turns.
func query(pairs ...string) string {
	var q []byte
	for i := 0; i+1 < len(pairs); i += 2 {
		if len(q) > 0 {
			q = append(q, '&')
		}
		q = append(append(q, pairs[i]...), '=')
		q = escape(q, pairs[i+1], inQuery)
	}
	return string(q)
}

// quoted is text as a TQL string. It comes from packets, so what could end the
// string is escaped (contracts/threatconnect.md 3.2).
func quoted(text string) string {
	out := make([]byte, 0, len(text)+2)
	out = append(out, '"')
	for i := range len(text) {
		switch text[i] {
		case '\'', '"', '`', '\\':
			out = append(out, '\\')
		}
		out = append(out, text[i])
	}
	return string(append(out, '"'))
}

package mail

import "bytes"

// kind is what a part is.
type kind uint8

const (
	text kind = iota // also where nothing is said (RFC 2045, 5.2)
	multipart
	embedded // another message
	other
)

// contentType reads a Content-Type field (RFC 2045, 5.1). It tells whether the
// boundary is too long.
func (p *part) contentType(b []byte) (long bool) {
	name, params, _ := bytes.Cut(b, []byte(";"))
	name = bytes.TrimSpace(name)
	major, minor, ok := bytes.Cut(name, []byte("/"))
	switch {
	case !ok, fold(major, "TEXT"):
		p.kind = text
	case fold(major, "MULTIPART"):
		p.kind = multipart
	case fold(major, "MESSAGE") && (fold(minor, "RFC822") || fold(minor, "GLOBAL")):
		p.kind = embedded
	default:
		p.kind = other
	}
	p.boundary.n = 0
	parameters(params, func(key, value []byte) {
		switch {
		case fold(key, "BOUNDARY"):
			if long = len(value) > maxBoundary; !long {
				p.boundary.n = copy(p.boundary.text[:], value)
			}
		case isParameter(key, "NAME") && len(value) > 0:
			p.named = true
		}
	})
	return long
}

// disposition reads a Content-Disposition field (RFC 2183).
func (p *part) disposition(b []byte) {
	_, params, _ := bytes.Cut(b, []byte(";"))
	parameters(params, func(key, value []byte) {
		if isParameter(key, "FILENAME") && len(value) > 0 {
			p.named = true
		}
	})
}

// isParameter compares a key, also where it is continued or encoded (RFC 2231).
func isParameter(key []byte, word string) bool {
	key, _, _ = bytes.Cut(key, []byte("*"))
	return fold(key, word)
}

// parameters calls found for each "key=value" between semicolons.
func parameters(b []byte, found func(key, value []byte)) {
	for len(b) > 0 {
		i := bytes.IndexAny(b, "=;")
		if i < 0 {
			return
		}
		key, sep := bytes.TrimSpace(b[:i]), b[i]
		b = b[i+1:]
		if sep == ';' {
			continue
		}
		b = bytes.TrimLeft(b, " \t")
		var value []byte
		if len(b) > 0 && b[0] == '"' {
			n := quotedEnd(b[1:])
			if n < 0 {
				n = len(b) - 1
			}
			value = b[1 : 1+n]
			b = b[min(n+2, len(b)):]
			if n := bytes.IndexByte(b, ';'); n >= 0 {
				b = b[n+1:]
			} else {
				b = nil
			}
		} else {
			value, b, _ = bytes.Cut(b, []byte(";"))
			value = bytes.TrimSpace(value)
		}
		found(key, value)
	}
}

// transfer is how a part's bytes were made fit for lines (RFC 2045, 6).
type transfer uint8

const (
	identity transfer = iota // 7bit, 8bit, binary
	base64
	quotedPrintable
	unknown
)

func parseTransfer(b []byte) transfer {
	b, _, _ = bytes.Cut(bytes.TrimSpace(b), []byte(";"))
	switch b = bytes.TrimSpace(b); {
	case fold(b, "BASE64"):
		return base64
	case fold(b, "QUOTED-PRINTABLE"):
		return quotedPrintable
	case len(b) == 0, fold(b, "7BIT"), fold(b, "8BIT"), fold(b, "BINARY"):
		return identity
	default:
		return unknown
	}
}

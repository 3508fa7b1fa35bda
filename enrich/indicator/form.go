package indicator

import (
	"bytes"
	"net/netip"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// maxHost is the length of the longest host name that is kept, in its escaped form.
const maxHost = 1024

// literal returns the address that a host name is, as "192.0.2.1", "2001:db8::1"
// or "[2001:db8::1]".
func literal(name []byte) (netip.Addr, bool) {
	if len(name) < 2 || len(name) > 64 {
		return netip.Addr{}, false
	}
	if name[0] == '[' && name[len(name)-1] == ']' {
		name = name[1 : len(name)-1]
	} else if c := name[len(name)-1]; (c < '0' || c > '9') && !bytes.ContainsRune(name, ':') {
		return netip.Addr{}, false
	}
	for i, c := range name {
		if c == '%' && i > 0 {
			break
		}
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'f') && c != '.' && c != ':' {
			return netip.Addr{}, false // most names: asking ParseAddr would allocate
		}
	}
	a, err := netip.ParseAddr(string(name))
	return a, err == nil
}

// appendHost appends name in lower case, punycode where it is not ASCII, without
// a final dot. Bytes that no name should have are escaped as \DDD (RFC 1035, 5.1).
func appendHost(to, name []byte) []byte {
	name = bytes.TrimSuffix(name, []byte("."))
	if len(name) == 0 || len(name) > maxHost {
		return to
	}
	ascii := true
	for _, c := range name {
		ascii = ascii && c < utf8.RuneSelf
	}
	if !ascii && utf8.Valid(name) {
		if encoded, err := idna.Punycode.ToASCII(string(bytes.ToLower(name))); err == nil {
			name = []byte(encoded)
		}
	}
	for _, c := range name {
		switch {
		case c >= 'A' && c <= 'Z':
			to = append(to, c|0x20)
		case c > ' ' && c < 0x7f:
			to = append(to, c)
		default:
			to = append(to, '\\', '0'+c/100, '0'+c/10%10, '0'+c%10)
		}
	}
	return to
}

// appendURL appends an absolute URL, scheme and host in their one form. Bytes
// that no URL has are percent-encoded.
func appendURL(to, u []byte) []byte {
	scheme, rest, ok := bytes.Cut(u, []byte("://"))
	if !ok {
		return to
	}
	end := bytes.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	host, port := rest[:end], []byte(nil)
	if i := bytes.LastIndexByte(host, ':'); i >= 0 && !bytes.ContainsRune(host[i:], ']') {
		host, port = host[:i], host[i:]
	}
	for _, c := range scheme {
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		to = append(to, c)
	}
	to = append(to, "://"...)
	to = append(appendHost(to, host), port...)
	const digits = "0123456789ABCDEF"
	for _, c := range rest[end:] {
		if c <= ' ' || c == 0x7f {
			to = append(to, '%', digits[c>>4], digits[c&15])
		} else {
			to = append(to, c)
		}
	}
	if !utf8.Valid(to) {
		return escapeInvalid(to)
	}
	return to
}

// escapeInvalid percent-encodes the bytes that are not UTF-8.
func escapeInvalid(u []byte) []byte {
	const digits = "0123456789ABCDEF"
	var out []byte
	for len(u) > 0 {
		r, n := utf8.DecodeRune(u)
		if r == utf8.RuneError && n == 1 {
			out = append(out, '%', digits[u[0]>>4], digits[u[0]&15])
		} else {
			out = append(out, u[:n]...)
		}
		u = u[n:]
	}
	return out
}

// appendEmail appends an address with its domain in its one form.
func appendEmail(to, address []byte) []byte {
	local, domain, ok := cutLast(bytes.TrimSpace(address), '@')
	if !ok || len(local) == 0 || len(domain) == 0 || len(address) > 320 || bytes.ContainsAny(address, " \t\r\n<>") {
		return to
	}
	to = append(appendText(to, local), '@')
	return appendHost(to, domain)
}

func cutLast(b []byte, sep byte) (before, after []byte, found bool) {
	i := bytes.LastIndexByte(b, sep)
	if i < 0 {
		return b, nil, false
	}
	return b[:i], b[i+1:], true
}

// appendText appends text as it was sent; what can't be printed is escaped as
// \xHH, \n, \r or \t.
func appendText(to, text []byte) []byte {
	const digits = "0123456789abcdef"
	plain := 0
	for plain < len(text) && text[plain] >= ' ' && text[plain] < 0x7f {
		plain++
	}
	to = append(to, text[:plain]...)
	for text = text[plain:]; len(text) > 0; {
		r, n := utf8.DecodeRune(text)
		switch {
		case r == '\n':
			to = append(to, `\n`...)
		case r == '\r':
			to = append(to, `\r`...)
		case r == '\t':
			to = append(to, `\t`...)
		case r == utf8.RuneError && n == 1, !unicode.IsPrint(r):
			for _, c := range text[:n] {
				to = append(to, '\\', 'x', digits[c>>4], digits[c&15])
			}
		default:
			to = append(to, text[:n]...)
		}
		text = text[n:]
	}
	return to
}

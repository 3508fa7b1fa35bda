package mail

import (
	"bytes"
	"crypto/md5" //nolint:gosec // a name of the body that others know it by, not a protection
	"crypto/sha1"
	"crypto/sha256"
	"hash"

	"capagent/enrich/indicator"
)

// body decodes a part and hashes it.
type body struct {
	on       bool
	encoding transfer
	size     int64
	eol      string // after the last line: it counts when another one follows
	md5      hash.Hash
	sha1     hash.Hash
	sha256   hash.Hash

	bits  uint32 // of base64 that make no byte yet
	nbits uint8
	ended bool // padding came

	state escape
	digit byte
	out   [maxLine]byte
	n     int
}

// escape is how far an "=XX" of quoted-printable has come.
type escape uint8

const (
	plain escape = iota
	equals
	half
)

func newBody() body {
	return body{md5: md5.New(), sha1: sha1.New(), sha256: sha256.New()}
}

func (b *body) begin(t transfer) {
	b.md5.Reset()
	b.sha1.Reset()
	b.sha256.Reset()
	b.on, b.encoding, b.size, b.eol, b.n = true, t, 0, "", 0
	b.bits, b.nbits, b.ended, b.state = 0, 0, false, plain
}

// line takes a line, or a piece of one.
func (b *body) line(text, eol []byte, last bool) {
	switch b.encoding {
	case base64:
		b.base64(text)
		return
	case quotedPrintable:
		b.quotedPrintable(text, last)
	default:
		b.string(b.eol)
		b.flush()
		b.write(text)
	}
	b.eol = ""
	if len(eol) == 2 {
		b.eol = "\r\n"
	} else if len(eol) == 1 {
		b.eol = "\n"
	}
	if last && b.encoding == quotedPrintable {
		b.softBreak()
	}
}

func (b *body) write(p []byte) {
	b.size += int64(len(p))
	b.md5.Write(p)
	b.sha1.Write(p)
	b.sha256.Write(p)
}

func (b *body) byte(c byte) {
	if b.n == len(b.out) {
		b.flush()
	}
	b.out[b.n] = c
	b.n++
}

func (b *body) string(s string) {
	for i := range len(s) {
		b.byte(s[i])
	}
}

func (b *body) flush() {
	if b.n > 0 {
		b.write(b.out[:b.n])
		b.n = 0
	}
}

// sextets are the values of base64's letters, and what else may come.
var sextets = func() (t [256]byte) {
	for i := range t {
		t[i] = ignored
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		t[c] = byte(i)
	}
	return t
}()

const ignored = 0xff // RFC 2045, 6.8: other characters are ignored

func (b *body) base64(text []byte) {
	if b.ended {
		return
	}
	if len(b.out)-b.n < len(text) { // it gets shorter
		b.flush()
	}
	bits, nbits, n := b.bits, b.nbits, b.n
	for _, c := range text {
		v := sextets[c]
		if v == ignored {
			if c == '=' {
				b.ended = true
				break
			}
			continue
		}
		bits = bits<<6 | uint32(v)
		if nbits += 6; nbits >= 8 {
			nbits -= 8
			b.out[n] = byte(bits >> nbits)
			n++
		}
	}
	b.bits, b.nbits, b.n = bits, nbits, n
}

// quotedPrintable decodes what is no line end (RFC 2045, 6.7). White space at the
// end of a line was added on the way.
func (b *body) quotedPrintable(text []byte, last bool) {
	if last {
		text = bytes.TrimRight(text, " \t")
	}
	b.string(b.eol)
	for _, c := range text {
		switch {
		case b.state == equals && isHex(c):
			b.state, b.digit = half, c
		case b.state == half && isHex(c):
			b.state = plain
			b.byte(unhex(b.digit)<<4 | unhex(c))
		case b.state != plain:
			b.broken()
			fallthrough
		default:
			if c == '=' {
				b.state = equals
			} else {
				b.byte(c)
			}
		}
	}
}

// broken writes what began like an escape as it stands.
func (b *body) broken() {
	b.byte('=')
	if b.state == half {
		b.byte(b.digit)
	}
	b.state = plain
}

// softBreak is the end of a line: none if "=" stood there.
func (b *body) softBreak() {
	switch b.state {
	case equals:
		b.state, b.eol = plain, ""
	case half:
		b.broken()
	}
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'f'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// end reports the body. An empty one says nothing.
func (b *body) end(final bool, set *indicator.Set, at indicator.At) {
	b.on = false
	if final && b.encoding != base64 {
		b.string(b.eol)
	}
	b.flush()
	if b.size == 0 {
		return
	}
	m := [md5.Size]byte(b.md5.Sum(b.out[:0]))
	s1 := [sha1.Size]byte(b.sha1.Sum(b.out[:0]))
	s256 := [sha256.Size]byte(b.sha256.Sum(b.out[:0]))
	set.File(m, s1, s256, indicator.MailBody, at)
}

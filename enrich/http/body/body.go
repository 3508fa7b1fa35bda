// Package body names the files that HTTP messages carry by their digests. A body
// is decoded and hashed while it arrives; nothing of it is held.
package body

import (
	"bytes"

	"capagent/enrich/indicator"
)

// The limits of bodies.
const (
	LimitDecoders   indicator.Limit = "http_decoders"     // no memory to decode one more body at a time
	LimitBomb       indicator.Limit = "http_decoded_body" // a body that decodes to more than its length allows
	LimitDecoded    indicator.Limit = "http_decoded"      // decoded bytes of the whole analysis
	LimitFormHeader indicator.Limit = "http_form_header"  // the header of a form's part is too long
	LimitForms      indicator.Limit = "http_forms"        // no memory to look into one more form at a time
)

// Body is one body after the other, each of them with any number of Writes
// between Begin and either End or Drop. The zero value has none.
type Body struct {
	set  *indicator.Set
	role indicator.Role
	at   indicator.At // of the bytes that are written now

	sums *sums // of what the body is
	sent *sums // of what was sent in its place, where it is coded
	dec  *decoder
	form *form
	open bool
}

// Begin is the start of a body with its Content-Encoding and Content-Type as they
// were sent. The parts of multipart/form-data are files of their own, too, when
// it is a request's.
func (b *Body) Begin(set *indicator.Set, role indicator.Role, encoding, contentType []byte) {
	b.Drop()
	b.set, b.role, b.open = set, role, true
	if b.sums == nil {
		b.sums = newSums()
	}
	b.sums.reset()
	if c := codingOf(encoding); c != identity {
		if b.dec = newDecoder(c, set, b.decoded); b.dec == nil {
			b.Drop()
			return
		}
		if b.sent == nil {
			b.sent = newSums()
		}
		b.sent.reset()
	}
	if role == indicator.HTTPRequest {
		b.form = newForm(set, role, contentType)
	}
}

// Open says whether a body has begun that is neither whole nor dropped.
func (b *Body) Open() bool { return b.open }

// Write is the next bytes of the body, without the transfer coding.
func (b *Body) Write(p []byte, at indicator.At) {
	if !b.open || len(p) == 0 {
		return
	}
	b.at = at
	if b.dec == nil {
		b.decoded(p)
		return
	}
	b.sent.write(p)
	if !b.dec.write(p) {
		b.Drop()
	}
}

func (b *Body) decoded(p []byte) {
	b.sums.write(p)
	if b.form != nil {
		b.form.write(p, b.at)
	}
}

// End tells that the body is whole. A coded body that ends early counts as far as
// it goes, as it does for tshark; one that is not in the coding that it says, or
// not to its end, counts as it was sent.
func (b *Body) End(at indicator.At) {
	if !b.open {
		return
	}
	b.at = at
	if b.dec != nil {
		if !b.dec.end() {
			b.Drop()
			return
		}
		if b.dec.failed() || b.sums.n == 0 && b.dec.short() {
			b.sums, b.sent = b.sent, b.sums
		}
	}
	b.sums.report(b.set, b.role, at)
	b.Drop()
}

// Drop tells that the body will not be whole.
func (b *Body) Drop() {
	if b.dec != nil {
		b.dec.close()
		b.dec = nil
	}
	if b.form != nil {
		b.form.close()
		b.form = nil
	}
	b.open = false
}

// coding is a Content-Encoding.
type coding uint8

const (
	identity coding = iota
	deflate         // gzip, zlib or raw: servers mix their names up
	brotliCoding
	zstdCoding
)

// codingOf knows the codings that can be decoded; a body in another one is hashed
// as it was sent.
func codingOf(encoding []byte) coding {
	encoding = bytes.TrimSpace(encoding)
	if len(encoding) == 0 {
		return identity
	}
	for _, known := range []struct {
		name string
		coding
	}{
		{"gzip", deflate},
		{"x-gzip", deflate},
		{"deflate", deflate},
		{"x-deflate", deflate},
		{"br", brotliCoding},
		{"zstd", zstdCoding},
	} {
		if len(encoding) == len(known.name) && bytes.EqualFold(encoding, []byte(known.name)) {
			return known.coding
		}
	}
	return identity
}

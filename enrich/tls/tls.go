// Package tls finds what TLS shows in the clear: the server's name and the
// fingerprints (JA3, JA4) of a ClientHello, and, up to TLS 1.2, certificates. It
// decrypts nothing. ClientHello is shared with QUIC; Datagrams does DTLS.
//
// Sources: RFC 8446 (TLS 1.3), RFC 5246 (TLS 1.2), RFC 6101 (SSL 3.0), RFC 9147
// and RFC 6347 (DTLS), RFC 8701 (GREASE).
package tls

import (
	"crypto/sha1"
	"crypto/sha256"

	"golang.org/x/crypto/cryptobyte"

	"capagent/enrich/indicator"
	"capagent/enrich/stream"
)

// The limits of this package.
const (
	LimitMessage indicator.Limit = "tls_message" // a hello or a list of certificates that is too long, or for which there is no memory
	LimitDTLS    indicator.Limit = "dtls_hellos" // a fragmented ClientHello was given up for a newer one
)

// maxMessage is the size of the longest handshake message that is read. A
// ClientHello can't be longer than 132 KB; chains of certificates are some KB.
const maxMessage = 256 << 10

// maxRecord is the size of the longest record (RFC 5246 6.2.3).
const maxRecord = 1<<14 + 2048

// Content types of records and types of handshake messages.
const (
	changeCipherSpec = 20
	handshake        = 22
	applicationData  = 23
	heartbeat        = 24

	clientHello       = 1
	serverHello       = 2
	certificate       = 11
	serverHelloDone   = 14
	clientKeyExchange = 16
)

// Recognise says whether a side's first bytes are a TLS record that begins with a
// ClientHello, a ServerHello or (where the capture began too late) certificates,
// or the ClientHello of SSL 2.0 with which old clients ask for TLS. It looks at six
// bytes. Where there are fewer, but at least one, those must agree; a parser that
// was made in error ends with its next bytes.
//
// Either side may send either hello: in FTP over TLS, the one that listens for
// TCP can be TLS's client.
func Recognise(_ stream.Side, b []byte) bool {
	if len(b) == 0 {
		return false
	}
	want := func(i int, low, high byte) bool { return len(b) <= i || b[i] >= low && b[i] <= high }
	if b[0]&0x80 != 0 { // one byte of these would agree with too much
		return len(b) > 4 && oldHello([5]byte(b))
	}
	return want(0, handshake, handshake) && want(1, 3, 3) && want(2, 0, 4) && want(3, 0, maxRecord>>8) &&
		(want(5, clientHello, serverHello) || want(5, certificate, certificate))
}

// oldHello says whether a record header is in truth that of an SSL 2.0
// ClientHello (RFC 5246 E.2).
func oldHello(head [5]byte) bool {
	return head[0]&0x80 != 0 && head[2] == 1 && head[3] == 3 && head[4] <= 3
}

// Parser follows one connection. It is a stream.Parser.
type Parser struct {
	set     *indicator.Set
	sides   [2]side
	modern  bool // a ServerHello chose TLS 1.3: what follows the hellos is encrypted
	retries int  // ServerHellos that ask for another ClientHello
}

// side is what one side has sent.
type side struct {
	head    [5]byte // of the record
	n       int     // how many bytes of head are there
	kind    byte    // the record's content type
	size    int     // of the record's body
	left    int     // what is still to come of it
	record  []byte  // what came of a handshake record that is not whole, in memory that was taken from the bounds
	started bool    // the first record's head was read
	cipher  bool    // ChangeCipherSpec came
	hello   byte    // clientHello or serverHello, when it sent one
	hellos  int     // how many
	done    bool    // nothing of interest follows
	message message
}

// message is a handshake message that is on its way.
type message struct {
	head [4]byte
	n    int    // how many bytes of head are there
	left int    // what is still to come of the body
	keep bool   // the body is wanted
	body []byte // what came of it, when it spans records, in memory that was taken from the bounds
}

// New returns a parser of one connection.
func New(set *indicator.Set, _ stream.Conn) *Parser { return &Parser{set: set} }

// Data see stream.Parser.
func (p *Parser) Data(from stream.Side, b []byte, at indicator.At) stream.Verdict {
	s := &p.sides[from]
	for len(b) > 0 && !s.done {
		if s.left == 0 {
			n := copy(s.head[s.n:], b)
			b = b[n:]
			if s.n += n; s.n == len(s.head) {
				s.n = 0
				p.begin(s)
			}
			continue
		}
		n := min(len(b), s.left)
		s.left -= n
		if s.kind == handshake {
			p.part(s, b[:n], at)
		}
		b = b[n:]
	}
	return p.verdict()
}

// Gap see stream.Parser. A record in which something is missing is lost; if it is
// more than that, nobody knows where the next one begins.
func (p *Parser) Gap(from stream.Side, n int64, _ indicator.At) stream.Verdict {
	s := &p.sides[from]
	switch {
	case s.done:
	case s.left == 0 && s.n == 0: // between records: the next bytes may be one
		p.lose(s)
	case n == 0 || n > int64(s.left):
		p.finish(s)
	default:
		if s.kind == handshake {
			p.lose(s)
		}
		s.left -= int(n)
	}
	return p.verdict()
}

// End see stream.Parser.
func (p *Parser) End(from stream.Side, _ indicator.At) { p.finish(&p.sides[from]) }

// Close see stream.Parser.
func (p *Parser) Close(indicator.At) {
	for i := range p.sides {
		p.finish(&p.sides[i])
	}
}

func (p *Parser) verdict() stream.Verdict {
	if p.sides[stream.Client].done && p.sides[stream.Server].done {
		return stream.Done
	}
	return stream.More
}

// finish ends a side.
func (p *Parser) finish(s *side) {
	s.done = true
	p.lose(s)
}

// lose gives up the handshake record and the message that are on their way.
func (p *Parser) lose(s *side) {
	s.kind = 0
	p.free(&s.record)
	p.free(&s.message.body)
	s.message = message{}
}

func (p *Parser) free(b *[]byte) {
	p.set.Give(cap(*b))
	*b = nil
}

// collect appends b to what will have total bytes. Memory grows with what came.
func (p *Parser) collect(to *[]byte, b []byte, total int) bool {
	if need := len(*to) + len(b); need > cap(*to) {
		size := min(max(need, 2*cap(*to)), total)
		if !p.set.Take(size-cap(*to), LimitMessage) {
			return false
		}
		grown := make([]byte, len(*to), size)
		copy(grown, *to)
		*to = grown
	}
	*to = append(*to, b...)
	return true
}

// begin begins a record, whose head is there.
func (p *Parser) begin(s *side) {
	first := !s.started
	s.started = true
	s.kind = s.head[0]
	s.size = int(s.head[3])<<8 | int(s.head[4])
	s.left = s.size
	if first && oldHello(s.head) {
		s.kind = 0 // nothing in it is of interest
		s.left = int(s.head[0]&0x7f)<<8 | int(s.head[1]) - 3
		s.hello = clientHello
		if s.left < 0 {
			p.finish(s)
		}
		return
	}
	if s.kind < changeCipherSpec || s.kind > heartbeat || s.head[1] != 3 || s.left > maxRecord {
		p.finish(s)
		return
	}
	switch s.kind {
	case changeCipherSpec:
		s.cipher = true
	case applicationData:
		p.finish(s)
	}
}

// part takes the next bytes of a handshake record. Like Wireshark, it reads a
// message when the record that has the end of it is whole.
func (p *Parser) part(s *side, b []byte, at indicator.At) {
	if len(s.record) == 0 && s.left == 0 {
		p.handshake(s, b, at)
		return
	}
	if !p.collect(&s.record, b, s.size) {
		p.lose(s)
		return
	}
	if s.left == 0 {
		p.handshake(s, s.record, at)
		p.free(&s.record)
	}
}

// handshake reads a handshake record.
func (p *Parser) handshake(s *side, b []byte, at indicator.At) {
	m := &s.message
	for len(b) > 0 && !s.done {
		if m.n < len(m.head) {
			n := copy(m.head[m.n:], b)
			b = b[n:]
			if m.n += n; m.n < len(m.head) {
				return
			}
			if p.announce(s); s.done {
				return
			}
		}
		n := min(len(b), m.left)
		body := b[:n]
		b = b[n:]
		m.left -= n
		if m.keep && (m.left > 0 || len(m.body) > 0) {
			m.keep = p.collect(&m.body, body, len(m.body)+len(body)+m.left)
			body = m.body
		}
		if m.left > 0 {
			continue
		}
		if m.keep {
			p.read(s, body, at)
		}
		p.free(&m.body)
		m.n = 0
	}
}

// announce looks at a message, whose head is there.
func (p *Parser) announce(s *side) {
	m := &s.message
	m.left = int(m.head[1])<<16 | int(m.head[2])<<8 | int(m.head[3])
	m.keep = false
	kind := m.head[0]
	// After ChangeCipherSpec there is only what is encrypted, unless another
	// ClientHello was asked for (RFC 8446 D.4). Then it fills its record.
	if s.cipher && (m.left+len(m.head) != s.size || kind != clientHello && kind != serverHello) {
		p.finish(s)
		return
	}
	switch kind {
	case serverHelloDone, clientKeyExchange:
		p.finish(s)
	case clientHello, serverHello, certificate:
		m.keep = m.left <= maxMessage
		if !m.keep {
			p.set.Reached(LimitMessage)
		}
	}
}

// read reads a message.
func (p *Parser) read(s *side, body []byte, at indicator.At) {
	switch s.message.head[0] {
	case clientHello:
		if ClientHello(p.set, body, indicator.TLSClient, at) {
			s.hello = clientHello
			s.hellos++
		}
	case serverHello:
		s.hello = serverHello
		s.hellos++
		modern, retry := readServerHello(body)
		if retry {
			p.retries++
		} else if modern {
			p.modern = true
		}
	case certificate:
		role := indicator.TLSServer
		if s.hello == clientHello {
			role = indicator.TLSClientCert
		}
		p.certificates(body, role, at)
	}
	if p.modern {
		for i := range p.sides {
			if p.sides[i].hellos > p.retries {
				p.finish(&p.sides[i])
			}
		}
	}
}

// retryRandom is the random of a ServerHello that is a HelloRetryRequest (RFC
// 8446 4.1.3).
const retryRandom = "\xcf\x21\xad\x74\xe5\x9a\x61\x11\xbe\x1d\x8c\x02\x1e\x65\xb8\x91\xc2\xa2\x11\x16\x7a\xbb\x8c\x5e\x07\x9e\x09\xe2\xc8\xa8\x33\x9c"

// readServerHello tells whether the server chose TLS 1.3, and whether it asks for
// another ClientHello.
func readServerHello(body []byte) (modern, retry bool) {
	s := cryptobyte.String(body)
	var version, kind uint16
	var random []byte
	var passed, extensions, data cryptobyte.String
	if !s.ReadUint16(&version) || !s.ReadBytes(&random, 32) {
		return false, false
	}
	retry = string(random) == retryRandom
	modern = version > 0x0303 // so the drafts had it
	if !s.ReadUint8LengthPrefixed(&passed) || !s.Skip(3) || !s.ReadUint16LengthPrefixed(&extensions) {
		return modern, retry
	}
	for extensions.ReadUint16(&kind) && extensions.ReadUint16LengthPrefixed(&data) {
		if kind == extSupportedVersions && data.ReadUint16(&version) {
			modern = modern || version > 0x0303
		}
	}
	return modern, retry
}

// certificates reads a Certificate message (RFC 5246 7.4.2). What TLS 1.3 made of
// it is never in the clear.
func (p *Parser) certificates(body []byte, role indicator.Role, at indicator.At) {
	s := cryptobyte.String(body)
	var list, der cryptobyte.String
	s.ReadUint24LengthPrefixed(&list)
	for list.ReadUint24LengthPrefixed(&der) {
		if len(der) > 0 {
			p.set.Certificate(sha1.Sum(der), sha256.Sum256(der), role, at)
		}
	}
}

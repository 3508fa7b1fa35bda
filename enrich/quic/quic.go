// Package quic finds the ClientHello in the first packets of a QUIC connection,
// which are encrypted with keys that everybody can derive. Nothing else of QUIC
// is read.
//
// Sources: RFC 9000 (transport), RFC 9001 (TLS), RFC 9369 (version 2), RFC 8999
// (what all versions have in common).
package quic

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"capagent/enrich/indicator"
	"capagent/enrich/tls"
)

// The limits of this package.
const (
	LimitConnections indicator.Limit = "quic_connections" // a connection was forgotten before its ClientHello was whole
	LimitHello       indicator.Limit = "quic_hello"       // a ClientHello that is too long or in too many parts, or for which there is no memory
	LimitKeys        indicator.Limit = "quic_keys"        // an Initial packet was passed over: too many others could not be opened
)

// What a Tracker has at most.
const (
	maxConnections = 1024     // the oldest is forgotten
	maxHello       = 32 << 10 // bytes of CRYPTO frames, of a connection
	connectionSize = 3 << 10  // about the memory of a connection without these
)

// Keys for packets that then can't be opened are derived freeMisses times, and
// once more for every missRate datagrams: forged packets cost little more than
// others, and what is not forged is opened.
const (
	freeMisses = 4096
	missRate   = 8
)

// path is where a datagram came from and where it went.
type path struct{ from, to netip.AddrPort }

// connection is one whose client has sent an Initial packet.
type connection struct {
	version *version
	id      []byte // the Destination Connection ID from which the keys are made
	keys    *keys
	largest uint64 // packet number
	crypto  tls.Pieces
	read    int // how many bytes of whole messages were read
}

// Tracker follows the beginnings of all connections of one analysis. The zero
// value is ready.
type Tracker struct {
	connections map[path]*connection
	order       []path // a ring, when it is full
	oldest      int
	seen        int64 // datagrams
	misses      int64 // keys that opened nothing

	packet []byte // the packet that is being opened
	mask   [16]byte
	nonce  [12]byte
}

// Datagram reads a UDP payload and says whether it was a QUIC packet with a long
// header in a version that is known. Of all others, only the first bytes are
// looked at.
func (t *Tracker) Datagram(set *indicator.Set, from, to netip.AddrPort, b []byte, at indicator.At) bool {
	t.seen++
	found := false
	for { // several packets may share a datagram (RFC 9000 12.2)
		var p packet
		if !p.read(b) {
			return found
		}
		found = true
		if p.initial {
			t.initial(set, path{from, to}, &p, at)
		}
		b = b[len(p.all):]
	}
}

// Close gives up everything.
func (t *Tracker) Close(set *indicator.Set) {
	for _, c := range t.connections {
		t.free(set, c)
	}
	*t = Tracker{}
}

// packet is a packet with a long header (RFC 9000 17.2).
type packet struct {
	version *version
	initial bool
	id      []byte // Destination Connection ID
	number  int    // where the packet number is
	all     []byte
}

// read reads the header of the first packet in b.
func (p *packet) read(b []byte) bool {
	if len(b) < 7 || b[0]&0xc0 != 0xc0 {
		return false
	}
	if p.version = known(binary.BigEndian.Uint32(b[1:])); p.version == nil {
		return false
	}
	kind := b[0] >> 4 & 3
	p.initial = kind == p.version.initial
	rest := b[5:]
	var ok bool
	if p.id, rest, ok = readID(rest); !ok {
		return false
	}
	if _, rest, ok = readID(rest); !ok {
		return false
	}
	if kind == (p.version.initial+3)&3 { // Retry, alone in its datagram
		p.all = b
		return true
	}
	if p.initial {
		var size uint64
		if size, rest, ok = readNumber(rest); !ok || size > uint64(len(rest)) {
			return false
		}
		rest = rest[size:] // the token
	}
	size, rest, ok := readNumber(rest)
	if !ok || size > uint64(len(rest)) {
		return false
	}
	p.number = len(b) - len(rest)
	p.all = b[:p.number+int(size)]
	return true
}

// readID reads a connection ID. Those of the versions that are known have at most
// 20 bytes.
func readID(b []byte) (id, rest []byte, ok bool) {
	if len(b) == 0 || b[0] > 20 || int(b[0]) >= len(b) {
		return nil, nil, false
	}
	return b[1 : 1+b[0]], b[1+b[0]:], true
}

// readNumber reads a variable-length integer (RFC 9000 16).
func readNumber(b []byte) (v uint64, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, nil, false
	}
	n := 1 << (b[0] >> 6)
	if len(b) < n {
		return 0, nil, false
	}
	v = uint64(b[0] & 0x3f)
	for _, c := range b[1:n] {
		v = v<<8 | uint64(c)
	}
	return v, b[n:], true
}

// initial opens an Initial packet of a client.
//
// Its keys are made from the first Destination Connection ID of the client, which
// then takes another one, but no other keys; after a Retry, they are made anew
// from the one that the server chose (RFC 9001 5.2). So the keys that are known
// are tried first, then those from the packet itself. This also finds another
// connection between the same ports.
func (t *Tracker) initial(set *indicator.Set, way path, p *packet, at indicator.At) {
	c := t.connections[way]
	if c != nil && c.version == p.version {
		if plain, ok := t.open(c.keys, &c.largest, p); ok {
			c.frames(set, plain, at)
			return
		}
	}
	switch {
	case c != nil && c.version == p.version && bytes.Equal(c.id, p.id):
		return // damaged
	case len(p.id) < 8: // of a server (RFC 9000 7.2)
		return
	case c == nil && t.connections[path{way.to, way.from}] != nil: // of the server
		return
	case t.misses >= freeMisses+t.seen/missRate:
		set.Reached(LimitKeys)
		return
	}
	var k *keys
	var plain []byte
	var largest uint64
	for v := p.version; v != nil && plain == nil; v = v.or {
		k, plain = t.try(v, p, &largest)
	}
	if plain == nil {
		return
	}
	if c = t.add(set, way); c == nil {
		return
	}
	c.version, c.keys, c.largest = p.version, k, largest
	c.id = bytes.Clone(p.id)
	c.frames(set, plain, at)
}

// try opens a packet with keys that are made from its own Destination Connection
// ID. The packet is nil if that does not open it.
func (t *Tracker) try(v *version, p *packet, largest *uint64) (k *keys, plain []byte) {
	k, err := derive(v, p.id)
	if err != nil {
		return nil, nil
	}
	plain, ok := t.open(k, largest, p)
	if !ok {
		t.misses++
		return nil, nil
	}
	return k, plain
}

// add returns a new connection, in the place of the oldest if there are too many.
func (t *Tracker) add(set *indicator.Set, way path) *connection {
	if c := t.connections[way]; c != nil {
		c.crypto.Free(&set.Bounds)
		*c = connection{}
		return c
	}
	if !set.Take(connectionSize, LimitConnections) {
		return nil
	}
	c := &connection{}
	switch {
	case t.connections == nil:
		t.connections = map[path]*connection{}
		fallthrough
	case len(t.order) < maxConnections:
		t.order = append(t.order, way)
	default:
		old := t.order[t.oldest]
		if t.connections[old].read == 0 {
			set.Reached(LimitConnections)
		}
		t.free(set, t.connections[old])
		delete(t.connections, old)
		t.order[t.oldest] = way
		t.oldest = (t.oldest + 1) % maxConnections
	}
	t.connections[way] = c
	return c
}

func (t *Tracker) free(set *indicator.Set, c *connection) {
	c.crypto.Free(&set.Bounds)
	set.Give(connectionSize)
}

// open removes the protection of a packet (RFC 9001 5.3 and 5.4). What it returns
// is valid until the next call.
func (t *Tracker) open(k *keys, largest *uint64, p *packet) (plain []byte, ok bool) {
	if len(p.all) < p.number+4+16 {
		return nil, false
	}
	t.packet = append(t.packet[:0], p.all...)
	b := t.packet
	k.header.Encrypt(t.mask[:], b[p.number+4:p.number+4+16])
	b[0] ^= t.mask[0] & 0x0f
	size := int(b[0]&3) + 1
	var short uint64
	for i := range size {
		b[p.number+i] ^= t.mask[1+i]
		short = short<<8 | uint64(b[p.number+i])
	}
	number := packetNumber(*largest, short, size)
	t.nonce = k.iv
	for i := range 8 {
		t.nonce[4+i] ^= byte(number >> (56 - 8*i))
	}
	body := b[p.number+size:]
	plain, err := k.packet.Open(body[:0], t.nonce[:], body, b[:p.number+size])
	if err != nil {
		return nil, false
	}
	*largest = max(*largest, number)
	return plain, true
}

// packetNumber is the number nearest to the next one that ends in the short one
// (RFC 9000 A.3).
func packetNumber(largest, short uint64, size int) uint64 {
	window := uint64(1) << (8 * size)
	expected := largest + 1
	n := expected&^(window-1) | short
	switch {
	case n+window/2 <= expected && n < 1<<62-window:
		return n + window
	case n > expected+window/2 && n >= window:
		return n - window
	default:
		return n
	}
}

// Frame types that an Initial packet may have (RFC 9000 12.4).
const (
	framePadding = 0x00
	framePing    = 0x01
	frameACK     = 0x02
	frameACKECN  = 0x03
	frameCrypto  = 0x06
	frameGoogle  = 0x08 // CRYPTO in Google's versions with TLS; a STREAM, which can't be here, in all others
)

// frames reads the frames of a packet, and the ClientHello when it is whole.
func (c *connection) frames(set *indicator.Set, b []byte, at indicator.At) {
	for len(b) > 0 {
		kind := b[0]
		b = b[1:]
		ok := true
		switch kind {
		case framePadding, framePing:
		case frameACK, frameACKECN:
			b, ok = passACK(b, kind)
		case frameCrypto, frameGoogle:
			var offset, size uint64
			if offset, b, ok = readNumber(b); ok {
				size, b, ok = readNumber(b)
			}
			if ok = ok && size <= uint64(len(b)); ok {
				c.crypto.Add(&set.Bounds, LimitHello, offset, b[:size], maxHello)
				b = b[size:]
			}
		default: // CONNECTION_CLOSE, or what does not belong here
			ok = false
		}
		if !ok {
			break
		}
	}
	c.messages(set, at)
}

// messages reads the messages that are whole: a ClientHello, and another one where
// the server asked for it.
func (c *connection) messages(set *indicator.Set, at indicator.At) {
	for {
		b := c.crypto.Bytes()
		if len(b) < c.read+4 {
			return
		}
		kind, b := b[c.read], b[c.read+1:]
		size := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
		b = b[3:]
		if len(b) < size {
			return
		}
		if kind == 1 { // ClientHello
			tls.ClientHello(set, b[:size], indicator.QUICClient, at)
		}
		c.read += 4 + size
	}
}

// passACK returns what is behind an ACK frame (RFC 9000 19.3).
func passACK(b []byte, kind byte) (rest []byte, ok bool) {
	fields := uint64(4) // largest, delay, count of ranges, first range
	for i := uint64(0); i < fields; i++ {
		var v uint64
		if v, b, ok = readNumber(b); !ok {
			return nil, false
		}
		if i == 2 {
			if v > uint64(len(b)) {
				return nil, false
			}
			fields += 2 * v
			if kind == frameACKECN {
				fields += 3
			}
		}
	}
	return b, true
}

// Package frame takes packets apart, from the link layer down to the transport's
// header: which IP datagrams are in a frame, tunnels within tunnels, fragments put
// together. It allocates for fragments only, never looks behind what was captured,
// and gives up on a frame at the first thing that makes no sense.
//
// google/gopacket is not used here: its decoders allocate for each layer and have
// known panics; what is needed of each header is a few bytes.
package frame

import (
	"encoding/binary"
	"net/netip"

	"capagent/enrich/indicator"
)

// Addr is an address as a key: IPv6, or IPv4 mapped into it.
type Addr [16]byte

// IP returns the address as the standard library has it.
func (a Addr) IP() netip.Addr { return netip.AddrFrom16(a).Unmap() }

// Datagram is an IP datagram whole enough to look into.
type Datagram struct {
	Src, Dst Addr
	V6       bool
	Proto    uint8 // of Payload, extension headers passed over
	// Payload is what follows the IP headers, cut to the length they tell. It may
	// be shorter than Length where the frame was not captured whole. It is valid
	// until the next call of Decode.
	Payload []byte
	Length  int
	// MAC is the hardware address that sent it, of the outermost datagram of a frame.
	MAC    [6]byte
	HasMAC bool
	// Quoted is true for a datagram within an ICMP error: it is a copy of one
	// that passed before, cut short as a rule, and going the other way.
	Quoted bool
	// Outer is true for a datagram whose content is a tunnel, or a fragment that
	// does not complete its datagram: there is nothing to look into.
	Outer bool
}

// The numbers of the protocols that callers ask for (IANA).
const (
	ICMP   = 1
	TCP    = 6
	UDP    = 17
	ICMPv6 = 58
)

// maxLayers bounds how deep headers are followed in one frame.
const maxLayers = 24

// LimitLayers counts frames with more headers within each other.
const LimitLayers indicator.Limit = "nested_headers"

// Sink takes what a frame holds.
type Sink interface {
	// Datagram is called for each IP datagram of a frame, outer ones first.
	Datagram(d *Datagram)
	// ARP is called with the ARP packet of a frame, from its hardware type on.
	ARP(packet []byte)
}

// Decoder takes frames apart. It belongs to one goroutine.
type Decoder struct {
	sink      Sink
	bounds    *indicator.Bounds
	fragments fragments
	time      int64
	layers    int
	datagram  Datagram
	mac       [6]byte // of the frame's sender
	hasMAC    bool
	found     bool
}

// New returns a Decoder that hands what it finds to sink.
func New(sink Sink, bounds *indicator.Bounds) *Decoder {
	return &Decoder{sink: sink, bounds: bounds, fragments: fragments{bounds: bounds}}
}

// Decode takes one frame apart. The link type is a LINKTYPE_ number, the time in
// nanoseconds. It returns false when the link type is not known, or no IP datagram
// and no ARP packet was found.
func (d *Decoder) Decode(linkType int, data []byte, time int64) bool {
	d.layers, d.time, d.found, d.hasMAC = 0, time, false, false
	d.link(linkType, data)
	return d.found
}

// Close gives back all memory.
func (d *Decoder) Close() { d.fragments.clear() }

// deeper counts a header, and says whether it may be looked into.
func (d *Decoder) deeper() bool {
	d.layers++
	if d.layers == maxLayers {
		d.bounds.Reached(LimitLayers)
	}
	return d.layers < maxLayers
}

// EtherTypes (IEEE).
const (
	typeIPv4   = 0x0800
	typeARP    = 0x0806
	typeBridge = 0x6558 // Ethernet in GRE, GENEVE
	typeVLAN   = 0x8100
	typeIPv6   = 0x86dd
	typeMPLS   = 0x8847
	typeMPLSM  = 0x8848
	typePPPoE  = 0x8864
	typePPP    = 0x880b
	typeQinQ   = 0x88a8
	typeCMD    = 0x8909 // Cisco MetaData
	typeVNTag  = 0x8926
	typeERSPAN = 0x88be // in GRE: types I and II
	typeERSP3  = 0x22eb // in GRE: type III
	typeETag   = 0x893f
	typeNSH    = 0x894f
)

// ethernet follows a frame from its destination address on.
func (d *Decoder) ethernet(b []byte) {
	if len(b) >= 14 {
		d.typed(be16(b[12:]), b[14:])
	}
}

// typed follows what an EtherType, or a length below 1536, announces.
func (d *Decoder) typed(t uint16, b []byte) {
	for d.deeper() {
		switch t {
		case typeIPv4:
			d.ipv4(b)
			return
		case typeIPv6:
			d.ipv6(b)
			return
		case typeARP:
			d.found = true
			d.sink.ARP(b)
			return
		case typeVLAN, typeQinQ, 0x9100, 0x9200, 0x9300:
			if len(b) < 4 {
				return
			}
			t, b = be16(b[2:]), b[4:]
		case typeMPLS, typeMPLSM:
			d.mpls(b)
			return
		case typePPPoE:
			if len(b) > 6 {
				d.ppp(b[6:])
			}
			return
		case typeBridge:
			d.ethernet(b)
			return
		case typeNSH: // RFC 8300, 2.2
			if len(b) >= 4 {
				d.numbered(b[3], after(b, int64(b[1]&0x3f)*4))
			}
			return
		case typeCMD, typeVNTag, typeETag:
			n := 8
			if t == typeVNTag {
				n = 6
			}
			if len(b) < n {
				return
			}
			t, b = be16(b[n-2:]), b[n:]
		default:
			if t < 1536 {
				d.llc(b)
			}
			return
		}
	}
}

// numbered follows what NSH and VXLAN-GPE announce by a number of their own
// (RFC 8300, 11.2.5).
func (d *Decoder) numbered(next byte, b []byte) {
	switch next {
	case 1:
		d.ipv4(b)
	case 2:
		d.ipv6(b)
	case 3:
		d.ethernet(b)
	}
}

// llc follows IEEE 802.2, where SNAP leads to an EtherType.
func (d *Decoder) llc(b []byte) {
	switch {
	case len(b) >= 8 && b[0] == 0xaa && b[1] == 0xaa && b[2] == 3:
		d.typed(be16(b[6:]), b[8:])
	case len(b) > 3 && b[0] == 6 && b[1] == 6 && b[2] == 3: // IP itself
		d.ip(b[3:])
	}
}

// mpls follows a stack of labels (RFC 3032).
func (d *Decoder) mpls(b []byte) {
	for d.deeper() {
		if len(b) < 5 {
			return
		}
		bottom := b[2]&1 != 0
		b = b[4:]
		if !bottom {
			continue
		}
		switch b[0] >> 4 {
		case 4, 6:
			d.ip(b)
		case 0: // a pseudowire with a control word (RFC 4385)
			if len(b) > 4 {
				d.ethernet(b[4:])
			}
		default:
			d.ethernet(b)
		}
		return
	}
}

// ppp follows a frame from its protocol on; address and control field may be
// before it, and the protocol may be one byte (RFC 1661, 6.5 and 6.6).
func (d *Decoder) ppp(b []byte) {
	if len(b) >= 2 && b[0] == 0xff && b[1] == 3 {
		b = b[2:]
	}
	if len(b) >= 4 && (b[0] == 0x0f || b[0] == 0x8f) && b[1] == 0 { // Cisco's HDLC
		d.typed(be16(b[2:]), b[4:])
		return
	}
	if len(b) < 2 {
		return
	}
	proto, n := be16(b), 2
	if b[0]&1 != 0 {
		proto, n = uint16(b[0]), 1
	}
	switch proto {
	case 0x21:
		d.ipv4(b[n:])
	case 0x57:
		d.ipv6(b[n:])
	case 0x281, 0x283:
		d.mpls(b[n:])
	}
}

// ip follows a datagram whose version its first bits tell.
func (d *Decoder) ip(b []byte) {
	if len(b) == 0 || !d.deeper() {
		return
	}
	switch b[0] >> 4 {
	case 4:
		d.ipv4(b)
	case 6:
		d.ipv6(b)
	}
}

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }

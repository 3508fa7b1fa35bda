package tls

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"capagent/enrich/indicator"
)

// maxHellos is how many fragmented ClientHellos of DTLS may be on their way.
const maxHellos = 64

// maxDTLSHello is the size of the longest ClientHello of DTLS that is put
// together.
const maxDTLSHello = 32 << 10

// Sizes of headers (RFC 6347 4.1 and 4.2.2).
const (
	dtlsRecordHead  = 13
	dtlsMessageHead = 12
)

// Datagrams finds the ClientHellos of DTLS, all connections of one analysis. The
// zero value is ready.
type Datagrams struct {
	hellos []fragmented // the oldest first
}

// fragmented is a ClientHello of which fragments came.
type fragmented struct {
	from, to netip.AddrPort
	sequence uint16
	length   int
	pieces   Pieces
}

// Datagram reads a datagram and says whether it began with a DTLS record.
func (d *Datagrams) Datagram(set *indicator.Set, from, to netip.AddrPort, b []byte, at indicator.At) bool {
	found := false
	for len(b) >= dtlsRecordHead {
		kind, version, epoch := b[0], binary.BigEndian.Uint16(b[1:]), binary.BigEndian.Uint16(b[3:])
		size := int(binary.BigEndian.Uint16(b[11:]))
		b = b[dtlsRecordHead:]
		if kind < changeCipherSpec || kind > heartbeat || !dtlsVersion(version) || size > len(b) {
			break
		}
		found = true
		if kind == handshake && epoch == 0 {
			d.messages(set, from, to, b[:size], at)
		}
		b = b[size:]
	}
	return found
}

// dtlsVersion says whether records have that version. The last is of OpenSSL
// before there was a standard; AnyConnect still has it.
func dtlsVersion(v uint16) bool { return v == 0xfeff || v == 0xfefd || v == 0x0100 }

// messages reads the messages of a record.
func (d *Datagrams) messages(set *indicator.Set, from, to netip.AddrPort, b []byte, at indicator.At) {
	for len(b) >= dtlsMessageHead {
		kind, length, sequence := b[0], uint24(b[1:]), binary.BigEndian.Uint16(b[4:])
		offset, size := uint24(b[6:]), uint24(b[9:])
		b = b[dtlsMessageHead:]
		if size > len(b) || offset+size > length {
			return
		}
		body := b[:size]
		b = b[size:]
		switch {
		case kind != clientHello:
		case size == length:
			ClientHello(set, body, indicator.DTLSClient, at)
		case length > maxDTLSHello:
			set.Reached(LimitMessage)
		default:
			d.fragment(set, fragmented{from: from, to: to, sequence: sequence, length: length}, offset, body, at)
		}
	}
}

// fragment adds a fragment to the message that it belongs to.
func (d *Datagrams) fragment(set *indicator.Set, of fragmented, offset int, body []byte, at indicator.At) {
	i := 0
	for ; i < len(d.hellos); i++ {
		h := &d.hellos[i]
		if h.sequence == of.sequence && h.length == of.length && h.from == of.from && h.to == of.to {
			break
		}
	}
	if i == len(d.hellos) {
		if i == maxHellos {
			set.Reached(LimitDTLS)
			d.remove(set, 0)
			i--
		}
		d.hellos = append(d.hellos, of)
	}
	h := &d.hellos[i]
	h.pieces.Add(&set.Bounds, LimitMessage, uint64(offset), body, h.length)
	if whole := h.pieces.Bytes(); len(whole) == h.length {
		ClientHello(set, whole, indicator.DTLSClient, at)
		d.remove(set, i)
	}
}

func (d *Datagrams) remove(set *indicator.Set, i int) {
	d.hellos[i].pieces.Free(&set.Bounds)
	d.hellos = slices.Delete(d.hellos, i, i+1)
}

// Close gives up what is on its way.
func (d *Datagrams) Close(set *indicator.Set) {
	for len(d.hellos) > 0 {
		d.remove(set, len(d.hellos)-1)
	}
}

func uint24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }

package afpacket

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"capagent/internal/packet"
)

// allProtocols is htons(ETH_P_ALL).
var allProtocols = htons(unix.ETH_P_ALL)

func htons(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}

// complete puts back in front of a packet what the kernel took away: a VLAN
// tag, or all of the link layer. The ring has room for it (PACKET_RESERVE). off
// is where the frame's header begins in the block, mac where its data.
func (r *ring) complete(p *packet.Packet, h *unix.Tpacket3Hdr, off, mac uint32) {
	var tag uint32
	if h.Status&unix.TP_STATUS_VLAN_VALID != 0 { // also for TCI 0, a priority tag
		tpid := uint32(unix.ETH_P_8021Q)
		if h.Status&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
			tpid = uint32(h.Hv1.Vlan_tpid)
		}
		tag = tpid<<16 | h.Hv1.Vlan_tci&0xffff
	}
	end := mac + h.Snaplen
	b := r.walk[off:end:end]
	at := uint32(len(b)) - h.Snaplen
	switch {
	case r.link.linkType == sll2:
		at -= cook(b, at, tag, h.Len)
	case r.link.linkType == ethernet && h.Snaplen >= macsLen:
		at -= tagLen
		copy(b[at:], b[at+tagLen:at+tagLen+macsLen])
		binary.BigEndian.PutUint32(b[at+macsLen:], tag)
	case r.link.linkType == ethernet:
		p.Length += tagLen // cut off in front of the tag
		return
	default:
		return
	}
	p.Data = b[at:]
	p.Length += uint32(len(p.Data)) - h.Snaplen
	if len(p.Data) > r.snap {
		p.Data = p.Data[:r.snap:r.snap]
	}
}

// cook writes a LINUX_SLL2 header in front of b[at:], the beginning of a packet
// of length bytes, and returns the header's length. A
// VLAN tag becomes the protocol and the first bytes of the packet, as it would
// be had the kernel left it there.
func cook(b []byte, at, tag, length uint32) uint32 {
	ll := *address(b, sllAt) // a copy: it is written over
	n := uint32(sllLen)
	protocol := b[sllAt+2 : sllAt+4] // in network order already
	if tag != 0 {
		n += tagLen
		binary.BigEndian.PutUint16(b[at-4:], uint16(tag))
		copy(b[at-2:], protocol)
		if ll.Pkttype != unix.PACKET_OUTGOING && tagsAhead(b[at:], length, binary.BigEndian.Uint16(protocol)) {
			binary.BigEndian.PutUint16(b[at-2:], unix.ETH_P_8021Q)
		}
	}
	s := b[at-n : at-n+sllLen]
	copy(s, protocol)
	if tag != 0 {
		binary.BigEndian.PutUint16(s, uint16(tag>>16))
	}
	s[2], s[3] = 0, 0
	binary.BigEndian.PutUint32(s[4:], uint32(ll.Ifindex))
	binary.BigEndian.PutUint16(s[8:], ll.Hatype)
	s[10] = ll.Pkttype
	s[11] = ll.Halen
	for i := range 8 { // what the kernel leaves behind a short address is not the packet's
		if i < int(ll.Halen) {
			s[12+i] = ll.Addr[i]
		} else {
			s[12+i] = 0
		}
	}
	return n
}

// tagsAhead says whether b, behind a tag that was taken out, begins with further
// tags although its protocol is said to be another. Linux says so since 6.11 of
// what comes in: it names the protocol behind all tags, and leaves all but the
// first in the packet. The first two bytes of them (the TPID) are lost.
func tagsAhead(b []byte, length uint32, protocol uint16) bool {
	const deepest = 8
	be := binary.BigEndian
	for at := 2; ; at += tagLen {
		if at+2 > len(b) || at > deepest*tagLen {
			return false
		}
		if t := be.Uint16(b[at:]); t == protocol {
			break
		} else if t != unix.ETH_P_8021Q && t != unix.ETH_P_8021AD {
			return false
		}
	}
	// A packet of the protocol itself may look the same by chance.
	switch {
	case protocol == unix.ETH_P_IP && b[0]>>4 == 4:
		return len(b) >= 20 && !summed(b[:20])
	case protocol == unix.ETH_P_IPV6 && b[0]>>4 == 6:
		return len(b) >= 6 && 40+uint32(be.Uint16(b[4:])) > length
	default:
		return true
	}
}

// summed says whether b is an IPv4 header without options and its checksum right.
func summed(b []byte) bool {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return sum == 0xffff && b[0] == 0x45
}

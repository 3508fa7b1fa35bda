package frame

import "encoding/binary"

// link follows a frame from its link-layer header on (tcpdump.org/linktypes.html).
func (d *Decoder) link(linkType int, b []byte) {
	switch linkType {
	case 1: // ETHERNET
		if len(b) >= 14 {
			d.mac, d.hasMAC = [6]byte(b[6:]), true
		}
		d.ethernet(b)
	case 0: // NULL: the writer's AF_ number, in the writer's byte order
		if len(b) > 4 {
			d.ip(b[4:])
		}
	case 108: // LOOP
		if len(b) > 4 {
			d.ip(b[4:])
		}
	case 12, 14, 101, 228, 229: // RAW as systems number it, IPV4, IPV6
		d.ip(b)
	case 113: // LINUX_SLL
		if len(b) >= 16 {
			if be16(b[4:]) == 6 {
				d.mac, d.hasMAC = [6]byte(b[6:]), true
			}
			d.typed(be16(b[14:]), b[16:])
		}
	case 276: // LINUX_SLL2
		if len(b) >= 20 {
			if b[11] == 6 {
				d.mac, d.hasMAC = [6]byte(b[12:]), true
			}
			d.typed(be16(b), b[20:])
		}
	case 9, 50: // PPP, PPP_HDLC
		d.ppp(b)
	case 51: // PPP_ETHER
		if len(b) > 6 {
			d.ppp(b[6:])
		}
	case 104: // C_HDLC
		if len(b) >= 4 {
			d.typed(be16(b[2:]), b[4:])
		}
	case 107: // FRELAY: a Q.922 address, then RFC 2427, or an EtherType as Cisco has it
		if len(b) > 4 && b[2] == 3 {
			d.nlpid(b[3], b[4:])
		} else if len(b) > 4 {
			d.typed(be16(b[2:]), b[4:])
		}
	case 239: // NFLOG
		d.nflog(b)
	case 105: // IEEE802_11
		d.wireless(b, false)
	case 127: // IEEE802_11_RADIOTAP
		d.radiotap(b)
	case 119: // IEEE802_11_PRISM
		if len(b) > 144 {
			d.wireless(b[144:], false)
		}
	case 163: // IEEE802_11_AVS
		if len(b) > 8 {
			d.wireless(after(b, int64(be32(b[4:]))), false)
		}
	case 192: // PPI: its own length, then another link type
		if len(b) > 8 {
			if inner := binary.LittleEndian.Uint32(b[4:]); inner != 192 && inner < 1<<16 {
				d.link(int(inner), after(b, int64(binary.LittleEndian.Uint16(b[2:]))))
			}
		}
	case 117: // PFLOG: its length is its first byte, rounded up
		if len(b) > 4 {
			d.ip(after(b, (int64(b[0])+3)&^3))
		}
	case 109: // ENC
		if len(b) > 12 {
			d.ip(b[12:])
		}
	case 10: // FDDI
		if len(b) > 13 {
			d.llc(b[13:])
		}
	case 138: // APPLE_IP_OVER_IEEE1394
		if len(b) >= 18 {
			d.typed(be16(b[16:]), b[18:])
		}
	}
}

// nlpid follows what a network layer protocol identifier announces (RFC 2427, 4).
func (d *Decoder) nlpid(id byte, b []byte) {
	switch {
	case id == 0xcc:
		d.ipv4(b)
	case id == 0x8e:
		d.ipv6(b)
	case id == 0 && len(b) >= 6 && b[0] == 0x80: // padding, then SNAP
		d.typed(be16(b[4:]), b[6:])
	}
}

// nflog looks for the payload in a list of types and lengths
// (tcpdump.org/linktypes/LINKTYPE_NFLOG.html).
func (d *Decoder) nflog(b []byte) {
	const payload = 9
	for b = after(b, 4); len(b) >= 4; {
		length, kind := int(binary.LittleEndian.Uint16(b)), binary.LittleEndian.Uint16(b[2:])
		if length < 4 || length > len(b) {
			return
		}
		if kind&0x7fff == payload {
			d.ip(b[4:length])
			return
		}
		b = after(b, int64(length+3)&^3)
	}
}

// after returns what comes after n bytes, or nothing.
func after(b []byte, n int64) []byte {
	if n < 0 || n >= int64(len(b)) {
		return nil
	}
	return b[n:]
}

// radiotap passes over the radiotap header (radiotap.org), whose flags tell
// whether the 802.11 header is padded.
func (d *Decoder) radiotap(b []byte) {
	if len(b) < 8 {
		return
	}
	length := int(binary.LittleEndian.Uint16(b[2:]))
	present := binary.LittleEndian.Uint32(b[4:])
	if length < 8 || length >= len(b) {
		return
	}
	at := 8
	for more := present; more&(1<<31) != 0; at += 4 {
		if at+4 > length {
			return
		}
		more = binary.LittleEndian.Uint32(b[at:])
	}
	padded := false
	if present&1 != 0 { // TSFT, aligned to 8
		at = (at+7)&^7 + 8
	}
	if present&2 != 0 && at < length {
		padded = b[at]&0x20 != 0
	}
	d.wireless(b[length:], padded)
}

// wireless follows an 802.11 data frame that is not encrypted (IEEE 802.11, 9.2).
func (d *Decoder) wireless(b []byte, padded bool) {
	const (
		data      = 2
		toDS      = 1
		fromDS    = 2
		protected = 0x40
		order     = 0x80
	)
	if len(b) < 24 || b[0]>>2&3 != data || b[1]&protected != 0 {
		return
	}
	// The source: address 2 of what a station sends, 3 of what an access point does,
	// 4 between access points (IEEE 802.11, 9.3.2.1).
	switch b[1] & (toDS | fromDS) {
	case fromDS:
		d.mac, d.hasMAC = [6]byte(b[16:]), true
	case toDS | fromDS:
		if len(b) >= 30 {
			d.mac, d.hasMAC = [6]byte(b[24:]), true
		}
	default:
		d.mac, d.hasMAC = [6]byte(b[10:]), true
	}
	subtype := b[0] >> 4
	if subtype&4 != 0 { // no data
		return
	}
	n := 24
	if b[1]&toDS != 0 && b[1]&fromDS != 0 {
		n += 6
	}
	aggregated := false
	if subtype&8 != 0 { // QoS
		if len(b) < n+2 {
			return
		}
		aggregated = b[n]&0x80 != 0
		n += 2
		if b[1]&order != 0 { // HT control
			n += 4
		}
	}
	if padded {
		n = (n + 3) &^ 3
	}
	if len(b) <= n {
		return
	}
	if b = b[n:]; !aggregated {
		d.llc(b)
		return
	}
	for len(b) >= 14 { // A-MSDU: addresses and a length before each
		length := int(be16(b[12:]))
		d.llc(b[14:min(len(b), 14+length)])
		b = b[min(len(b), (14+length+3)&^3):]
	}
}

package frame

// ipv4 follows an IPv4 datagram (RFC 791).
func (d *Decoder) ipv4(b []byte) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return
	}
	head, total := int(b[0]&15)*4, int(be16(b[2:]))
	if total == 0 { // left to the network card to fill in
		total = len(b)
	}
	if head < 20 || head > len(b) || total < head {
		return
	}
	var p Datagram
	p.Src, p.Dst = mapped(b[12:]), mapped(b[16:])
	p.Proto = b[9]
	p.Length = total - head
	p.Payload = b[head:min(total, len(b))]
	if frag := be16(b[6:]); frag&0x3fff != 0 {
		d.fragment(&p, uint32(be16(b[4:])), int(frag&0x1fff)*8, frag&0x2000 != 0)
		return
	}
	d.transport(&p)
}

func mapped(b []byte) (a Addr) {
	a[10], a[11] = 0xff, 0xff
	copy(a[12:], b[:4])
	return a
}

// Extension headers (RFC 8200, 4).
const (
	hopByHop    = 0
	routing     = 43
	fragment    = 44
	authHeader  = 51
	destination = 60
	mobility    = 135
	hip         = 139
	shim6       = 140
)

// ipv6 follows an IPv6 datagram.
func (d *Decoder) ipv6(b []byte) {
	if len(b) < 40 || b[0]>>4 != 6 {
		return
	}
	var p Datagram
	p.V6 = true
	copy(p.Src[:], b[8:])
	copy(p.Dst[:], b[24:])
	p.Length = int(be16(b[4:]))
	if p.Length == 0 { // a jumbogram, or left to the network card
		p.Length = len(b) - 40
	}
	p.Proto, p.Payload = b[6], b[40:min(40+p.Length, len(b))]
	d.extensions(&p)
}

// extensions passes over the extension headers of p.
func (d *Decoder) extensions(p *Datagram) {
	for d.deeper() {
		b := p.Payload
		var n int
		switch p.Proto {
		case hopByHop, routing, destination, mobility, hip, shim6:
			if len(b) < 8 {
				return
			}
			n = int(b[1])*8 + 8
		case authHeader:
			if len(b) < 8 {
				return
			}
			n = int(b[1])*4 + 8
		case fragment:
			if len(b) < 8 {
				return
			}
			p.Proto, p.Payload = b[0], b[8:]
			p.Length -= 8
			frag := be16(b[2:])
			if frag&0xfff9 != 0 { // else it is the only one (RFC 6946)
				d.fragment(p, be32(b[4:]), int(frag&^7), frag&1 != 0)
				return
			}
			continue
		default:
			d.transport(p)
			return
		}
		if n > len(b) {
			return
		}
		p.Proto, p.Payload = b[0], b[n:]
		p.Length -= n
	}
}

// fragment keeps a fragment, and follows the datagram that it completes.
func (d *Decoder) fragment(p *Datagram, id uint32, offset int, more bool) {
	if len(p.Payload) < p.Length {
		// What was not captured can't be put together; but the first one tells ports.
		if offset == 0 {
			d.transport(p)
		} else {
			d.outer(p)
		}
		return
	}
	whole := d.fragments.add(fragmentKey{p.Src, p.Dst, id, p.Proto}, p.Payload, offset, more, d.time)
	if whole == nil {
		d.outer(p)
		return
	}
	p.Payload, p.Length = whole, len(whole)
	if p.V6 {
		d.extensions(p)
	} else {
		d.transport(p)
	}
	d.fragments.release(whole)
}

// outer hands over a datagram that is not looked into.
func (d *Decoder) outer(p *Datagram) {
	p.Outer = true
	d.give(p)
}

func (d *Decoder) give(p *Datagram) {
	d.found = true
	d.datagram = *p // what an interface is given must not be the caller's, or it would be allocated
	d.datagram.MAC, d.datagram.HasMAC = d.mac, d.hasMAC
	d.hasMAC = false // what lies within came from somebody else
	d.sink.Datagram(&d.datagram)
}

// transport hands over a datagram, and follows what is in it when that is a tunnel.
func (d *Decoder) transport(p *Datagram) {
	b := p.Payload
	switch p.Proto {
	case 4, 41: // IP in IP (RFC 2003, RFC 4213)
		d.outer(p)
		d.ip(b)
	case 47:
		d.outer(p)
		d.gre(b)
	case 97: // EtherIP (RFC 3378)
		d.outer(p)
		if len(b) > 2 && d.deeper() {
			d.ethernet(b[2:])
		}
	case 137:
		d.outer(p)
		d.mpls(b)
	case authHeader:
		if n := 0; len(b) >= 8 {
			if n = int(b[1])*4 + 8; n <= len(b) && d.deeper() {
				p.Proto, p.Payload = b[0], b[n:]
				p.Length -= n
				d.transport(p)
			}
		}
	case UDP:
		d.udp(p)
	case ICMP, ICMPv6:
		d.give(p)
		d.quoted(p)
	default:
		d.give(p)
	}
}

// quoted follows the datagram within an ICMP error (RFC 792, RFC 4443).
func (d *Decoder) quoted(p *Datagram) {
	b := p.Payload
	if len(b) < 28 || p.Quoted {
		return
	}
	t := b[0]
	var inner Datagram
	switch {
	case p.Proto == ICMP && (t == 3 || t == 4 || t == 5 || t == 11 || t == 12):
		b = b[8:]
		head := int(b[0]&15) * 4
		if b[0]>>4 != 4 || head < 20 || head > len(b) || be16(b[6:])&0x1fff != 0 {
			return
		}
		inner.Src, inner.Dst = mapped(b[12:]), mapped(b[16:])
		inner.Proto, inner.Length = b[9], max(int(be16(b[2:]))-head, 0)
		inner.Payload = b[head:min(len(b), head+inner.Length)]
	case p.Proto == ICMPv6 && t >= 1 && t <= 4 && len(b) >= 48:
		b = b[8:]
		if b[0]>>4 != 6 {
			return
		}
		inner.V6 = true
		copy(inner.Src[:], b[8:])
		copy(inner.Dst[:], b[24:])
		inner.Proto, inner.Length = b[6], int(be16(b[4:]))
		inner.Payload = b[40:min(len(b), 40+inner.Length)]
	default:
		return
	}
	inner.Quoted = true
	d.give(&inner)
}

// Tunnels over UDP, by their ports (IANA).
const (
	portGTP    = 2152
	portGRE    = 4754
	portVXLAN  = 4789
	portGPE    = 4790
	portTeredo = 3544
	portGENEVE = 6081
	portVXLAN0 = 8472 // Linux before the port was assigned
)

// udp hands over a UDP datagram, or follows the tunnel that it is.
func (d *Decoder) udp(p *Datagram) {
	b := p.Payload
	if len(b) >= 16 {
		port := be16(b[2:])
		if be16(b) == portGENEVE {
			port = portGENEVE
		}
		switch port {
		case portVXLAN, portVXLAN0: // RFC 7348
			if b[8]&8 != 0 && d.deeper() {
				d.outer(p)
				d.ethernet(b[16:])
				return
			}
		case portGRE: // RFC 8086
			d.outer(p)
			d.gre(b[8:])
			return
		case portGPE: // draft-ietf-nvo3-vxlan-gpe
			if b[8]&8 != 0 && d.deeper() {
				next := byte(3)
				if b[8]&4 != 0 {
					next = b[11]
				}
				d.outer(p)
				d.numbered(next, b[16:])
				return
			}
		case portGENEVE: // RFC 8926
			if n := 8 + 8 + int(b[8]&0x3f)*4; b[8]>>6 == 0 && n <= len(b) && d.deeper() {
				d.outer(p)
				d.typed(be16(b[10:]), b[n:])
				return
			}
		}
		if be16(b) == portGTP || be16(b[2:]) == portGTP {
			if d.gtp(p, b[8:]) {
				return
			}
		}
		if (be16(b) == portTeredo || be16(b[2:]) == portTeredo) && d.teredo(p, b[8:]) {
			return
		}
	}
	d.give(p)
}

// gtp follows a user packet in GTP-U (3GPP TS 29.281, 5).
func (d *Decoder) gtp(p *Datagram, b []byte) bool {
	if b[0]>>4 != 3 || b[1] != 0xff { // version 1, a G-PDU
		return false
	}
	n := 8
	if b[0]&7 != 0 {
		if len(b) < 12 {
			return false
		}
		next := b[0]&4 != 0 && b[11] != 0
		for n = 12; next; {
			if n >= len(b) || b[n] == 0 || n+int(b[n])*4 > len(b) {
				return false
			}
			n += int(b[n]) * 4
			next = b[n-1] != 0
		}
	}
	if n >= len(b) || !d.deeper() {
		return false
	}
	d.outer(p)
	d.ip(b[n:])
	return true
}

// teredo follows IPv6 in UDP (RFC 4380, 5.1.1).
func (d *Decoder) teredo(p *Datagram, b []byte) bool {
	if len(b) > 4 && b[0] == 0 && b[1] == 1 { // authentication
		n := 4 + int(b[2]) + int(b[3]) + 9
		if n >= len(b) {
			return false
		}
		b = b[n:]
	}
	if len(b) > 8 && b[0] == 0 && b[1] == 0 { // origin
		b = b[8:]
	}
	if len(b) < 40 || b[0]>>4 != 6 || !d.deeper() {
		return false
	}
	d.outer(p)
	d.ipv6(b)
	return true
}

// gre follows what GRE carries (RFC 2784, RFC 2890, RFC 2637, draft-foschiano-erspan).
func (d *Decoder) gre(b []byte) {
	const checksum, routed, key, sequence, acknowledged = 0x8000, 0x4000, 0x2000, 0x1000, 0x80
	if len(b) < 4 || !d.deeper() {
		return
	}
	flags, proto, n := be16(b), be16(b[2:]), 4
	if flags&(checksum|routed) != 0 {
		n += 4
	}
	if flags&key != 0 {
		n += 4
	}
	if flags&sequence != 0 {
		n += 4
	}
	if flags&7 == 1 && flags&acknowledged != 0 {
		n += 4
	}
	switch {
	case proto == typeERSPAN && flags&sequence != 0:
		n += 8
	case proto == typeERSP3:
		if len(b) < n+12 {
			return
		}
		if n += 12; b[n-1]&1 != 0 { // a platform's own header
			n += 8
		}
	}
	if n >= len(b) || flags&routed != 0 {
		return
	}
	switch proto {
	case typeERSPAN, typeERSP3:
		d.ethernet(b[n:])
	case typePPP:
		d.ppp(b[n:])
	default:
		if proto >= 1536 {
			d.typed(proto, b[n:])
		}
	}
}

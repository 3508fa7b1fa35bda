package filtertest

import "encoding/binary"

// ipv4 is an IPv4 packet.
func (p *Packets) ipv4() []byte {
	words := 5
	if p.chance(25) {
		words = 5 + p.r.IntN(11)
	}
	proto, b := p.transport(4)
	frag := uint32(0)
	switch n := p.r.IntN(100); {
	case n < 8:
		frag = 0x2000
	case n < 16:
		frag = p.num(1, 185, 0x1fff) & 0x1fff
	case n < 40:
		frag = 0x4000
	}
	head := join([]byte{0x40 | byte(words), byte(p.num(0, 0, 0x10, 0xb8))}, be16(uint32(4*words+len(b))), be16(p.num()), be16(frag),
		[]byte{byte(p.num(64, 1, 255)), byte(proto)}, be16(p.num()), p.ip4(), p.ip4(), p.bytes(4*words-20))
	if p.chance(3) {
		head[0] = byte(p.num(0x45, 0x40, 0x44, 0x65))
	}
	return append(head, b...)
}

// ipv6 is an IPv6 packet, with extension headers sometimes.
func (p *Packets) ipv6() []byte {
	proto, b := p.transport(6)
	for range one(p.r, 0, 0, 0, 1, 2, 3) {
		ext := one(p.r, uint32(0), 43, 44, 60, 51)
		switch ext {
		case 44:
			b = join([]byte{byte(proto), 0}, be16(p.num(0, 1, 8)), be32(p.num()), b)
		case 51:
			b = join([]byte{byte(proto), 4, 0, 0}, p.bytes(20), b)
		default:
			n := p.r.IntN(3)
			b = join([]byte{byte(proto), byte(n)}, p.bytes(6+8*n), b)
		}
		proto = ext
	}
	version := uint32(0x60000000)
	if p.chance(3) {
		version = 0x40000000
	}
	return join(be32(version|p.num()&0xfffffff), be16(uint32(len(b))), []byte{byte(proto), byte(p.num(64, 1, 255))}, p.ip6(), p.ip6(), b)
}

// transport is a protocol number and what follows the IP header.
func (p *Packets) transport(version int) (uint32, []byte) {
	ports := join(be16(p.num(ports...)), be16(p.num(ports...)))
	switch n := p.r.IntN(100); {
	case n < 30:
		words := 5 + p.r.IntN(4)
		text := one(p.r, []byte("GET / HTTP/1.1"), []byte("POST /"), p.bytes(p.r.IntN(20)))
		return 6, join(ports, be32(p.num()), be32(p.num()), []byte{byte(words << 4), byte(p.num(2, 0x12, 0x10, 1, 4, 0x18))},
			p.bytes(6+4*(words-5)), text)
	case n < 48:
		return 17, join(ports, be16(p.num(8, 20, 200)), p.bytes(2), p.bytes(p.r.IntN(30)))
	case n < 60 && p.depth < 4:
		return 17, p.overlay()
	case n < 66:
		return 132, join(ports, p.bytes(8), p.bytes(p.r.IntN(30)))
	case n < 78:
		kind := uint32(1)
		code := p.num(0, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 17, 18)
		if version == 6 != p.chance(5) {
			kind, code = 58, p.num(1, 2, 3, 4, 128, 129, 130, 133, 134, 135, 136, 143, 153)
		}
		return kind, join([]byte{byte(code), byte(p.num(0, 1, 4))}, p.bytes(6+p.r.IntN(20)))
	case n < 84:
		return 51, join([]byte{one(p.r, byte(6), 17, 50, 51, 58), one(p.r, byte(1), 4, byte(p.num()))}, p.bytes(10+p.r.IntN(30)))
	case n < 88 && p.depth < 4:
		p.depth++
		if p.chance(50) {
			return 41, p.ipv6()
		}
		return 4, p.ipv4()
	default:
		return p.num(ipProtos...), p.bytes(p.r.IntN(40))
	}
}

// overlay is a UDP datagram with Geneve or VXLAN.
func (p *Packets) overlay() []byte {
	p.depth++
	vni := be32(p.num(vnis...) << 8)
	src := be16(p.num(ports...))
	if p.chance(25) {
		return join(src, be16(4789), be16(100), be16(0), []byte{one(p.r, byte(8), 8, 0, byte(p.num())), 0, 0, 0}, vni, p.ethernet())
	}
	words := one(p.r, 0, 0, 1, 2, 5)
	ver := byte(words)
	if p.chance(5) {
		ver |= 0x40
	}
	proto, inner := p.network()
	if p.chance(60) {
		proto, inner = 0x6558, p.ethernet()
	}
	return join(src, be16(6081), be16(100), be16(0), []byte{ver, 0}, be16(proto), vni, p.bytes(4*words), inner)
}

// Taken is f as a Linux socket shows it: an outer VLAN tag is taken out and
// found in the socket buffer's fields. f is an Ethernet frame.
func (p *Packets) Taken(f Frame) Frame {
	a := &Aux{PktType: uint8(p.num(0, 0, 1, 2, 3, 4)), IfIndex: p.num(1, 2, 3, 9), HaType: 1}
	f.Aux = a
	if len(f.Data) < 14 {
		return f
	}
	proto := binary.BigEndian.Uint16(f.Data[12:])
	if tagged := proto == 0x8100 || proto == 0x88a8; tagged && len(f.Data) >= 18 && p.chance(80) {
		a.HasTag, a.TPID, a.TCI = true, proto, binary.BigEndian.Uint16(f.Data[14:])
		f.Data = join(f.Data[:12], f.Data[16:])
		f.Length -= 4
		proto = binary.BigEndian.Uint16(f.Data[12:])
	} else if p.chance(25) {
		a.HasTag, a.TPID, a.TCI = true, one(p.r, uint16(0x8100), 0x8100, 0x88a8), uint16(p.tci())
	}
	a.Protocol = proto
	if proto < 0x600 {
		a.Protocol = 4 // ETH_P_802_2
	}
	return f
}

// cookedHeader is how long the header of a cooked link type is.
func cookedHeader(linkType int) int {
	switch linkType {
	case LinkSLL:
		return 16
	case LinkSLL2:
		return 20
	}
	return 0
}

// cooked makes the socket buffer's fields of f, a LINUX_SLL or LINUX_SLL2 packet,
// say what its header says. false: it has no whole header.
func cooked(f *Frame, linkType int) bool {
	b := f.Data
	if len(b) < cookedHeader(linkType) {
		return false
	}
	a := &Aux{IfIndex: 1}
	if f.Aux != nil {
		a.HasTag, a.TCI, a.TPID = f.Aux.HasTag, f.Aux.TCI, f.Aux.TPID
	}
	if linkType == LinkSLL {
		b[0] = 0
		a.PktType, a.HaType, a.Protocol = b[1], binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint16(b[14:])
	} else {
		b[2], b[3] = 0, 0
		a.Protocol, a.IfIndex = binary.BigEndian.Uint16(b), binary.BigEndian.Uint32(b[4:])
		a.HaType, a.PktType = binary.BigEndian.Uint16(b[8:]), b[10]
	}
	f.Aux = a
	return true
}

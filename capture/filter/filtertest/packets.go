package filtertest

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"net/netip"
	"regexp"
	"strconv"
)

// Packets makes random packets of a link type. Their fields take values from the
// expression that they are for, so that it takes some and refuses others.
type Packets struct {
	r     *rand.Rand
	link  int
	nums  []uint32
	ip4s  [][]byte
	ip6s  [][]byte
	macs  [][]byte
	depth int // of what is inside another packet
}

var (
	reAddr = regexp.MustCompile(`[0-9A-Fa-f]*:[0-9A-Fa-f:.]+|\d+(?:\.\d+)+|(?:[0-9A-Fa-f]{2}[-.]){5}[0-9A-Fa-f]{2}`)
	reNum  = regexp.MustCompile(`0[xX][0-9A-Fa-f]+|\d+`)
)

// NewPackets returns a maker of packets for expr.
func NewPackets(r *rand.Rand, linkType int, expr string) *Packets {
	p := &Packets{r: r, link: linkType}
	for _, s := range reAddr.FindAllString(expr, -1) {
		if mac, err := net.ParseMAC(s); err == nil && len(mac) == 6 {
			p.macs = append(p.macs, mac)
		} else if a, err := netip.ParseAddr(s); err == nil && a.Is4() {
			p.ip4s = append(p.ip4s, a.AsSlice())
		} else if err == nil {
			p.ip6s = append(p.ip6s, a.AsSlice())
		}
	}
	for _, s := range reNum.FindAllString(reAddr.ReplaceAllString(expr, " "), -1) {
		if n, err := strconv.ParseUint(s, 0, 32); err == nil {
			p.nums = append(p.nums, uint32(n), uint32(n)+1, uint32(n)-1, uint32(n), uint32(n))
		}
	}
	return p
}

// num is one of several numbers, one of the expression's, or any.
func (p *Packets) num(of ...uint32) uint32 {
	switch n := p.r.IntN(100); {
	case n < 30 && len(p.nums) > 0:
		return one(p.r, p.nums...)
	case n < 90 && len(of) > 0:
		return one(p.r, of...)
	default:
		return p.r.Uint32() >> p.r.IntN(32)
	}
}

func (p *Packets) chance(n int) bool { return chance(p.r, n) }

func be16(n uint32) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }
func be32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

func join(parts ...[]byte) []byte {
	var b []byte
	for _, part := range parts {
		b = append(b, part...)
	}
	return b
}

func (p *Packets) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(p.r.Uint32())
	}
	return b
}

func (p *Packets) ip4() []byte {
	if p.chance(50) && len(p.ip4s) > 0 {
		b := append([]byte(nil), one(p.r, p.ip4s...)...)
		if p.chance(25) {
			b[p.r.IntN(4)] += byte(p.r.IntN(3))
		}
		return b
	}
	return netip.MustParseAddr(one(p.r, ip4s...)).AsSlice()
}

func (p *Packets) ip6() []byte {
	if p.chance(50) && len(p.ip6s) > 0 {
		b := append([]byte(nil), one(p.r, p.ip6s...)...)
		if p.chance(25) {
			b[p.r.IntN(16)] += byte(p.r.IntN(3))
		}
		return b
	}
	return netip.MustParseAddr(one(p.r, ip6s...)).AsSlice()
}

func (p *Packets) mac() []byte {
	if p.chance(50) && len(p.macs) > 0 {
		return one(p.r, p.macs...)
	}
	m, _ := net.ParseMAC(one(p.r, macs...))
	return m
}

// Frame is a random packet as a file has it, sometimes cut short.
func (p *Packets) Frame() Frame {
	p.depth = 0
	b := p.linkLayer()
	if p.chance(20) {
		b = append(b, p.bytes(p.r.IntN(60))...)
	}
	f := Frame{Data: b, Length: uint32(len(b))}
	switch n := p.r.IntN(100); {
	case n < 20:
		f.Data = f.Data[:p.r.IntN(len(f.Data)+1)]
		if p.chance(50) {
			f.Length = uint32(len(f.Data))
		}
	case n < 30:
		f.Length = max(f.Length, p.num(64, 1500, 65535, 60)&0x3ffff)
	}
	return f
}

func (p *Packets) linkLayer() []byte {
	switch p.link {
	case LinkEthernet:
		return p.ethernet()
	case LinkSLL:
		proto, b := p.cookedPayload()
		return join(be16(p.num(0, 0, 1, 2, 3, 4)), be16(p.num(1, 1, 772, 512, 778, 803)), be16(6), p.mac(), []byte{0, 0}, be16(proto), b)
	case LinkSLL2:
		proto, b := p.cookedPayload()
		return join(be16(proto), be16(0), be32(p.num(1, 2, 3, 9)), be16(p.num(1, 1, 772, 512)),
			[]byte{byte(p.num(0, 0, 1, 2, 3, 4)), 6}, p.mac(), []byte{0, 0}, b)
	case LinkNull, LinkLoop:
		b := p.ipPacket()
		af := uint32(2)
		if b[0]>>4 == 6 {
			af = one(p.r, uint32(10), 10, 24, 28, 30)
		}
		if p.chance(15) {
			af = p.num(0, 2, 7, 10, 24, 28, 30, 0x0800)
		}
		if p.link == LinkLoop || p.chance(15) {
			return join(be32(af), b)
		}
		return join(binary.LittleEndian.AppendUint32(nil, af), b)
	case Link80211:
		return p.wlan()
	case LinkRadiotap:
		n := 8 + 4*p.r.IntN(8)
		if p.chance(10) {
			n = int(p.num() & 0xff)
		}
		head := join([]byte{0, 0, byte(n), byte(n >> 8)}, p.bytes(max(0, n-4)))
		return join(head, p.wlan())
	default:
		return p.ipPacket()
	}
}

func (p *Packets) ipPacket() []byte {
	switch n := p.r.IntN(100); {
	case n < 55:
		return p.ipv4()
	case n < 95:
		return p.ipv6()
	default:
		return p.bytes(20 + p.r.IntN(40))
	}
}

func (p *Packets) cookedPayload() (uint32, []byte) {
	if p.chance(20) {
		return one(p.r, uint32(1), 4, 4), p.llc()
	}
	return p.network()
}

func (p *Packets) ethernet() []byte {
	macs := join(p.mac(), p.mac())
	if p.chance(15) {
		b := p.llc()
		n := uint32(len(b))
		if p.chance(20) {
			n = p.num(0x5dc, 0x5dd, 0x600, 0)
		}
		return join(macs, be16(n), b)
	}
	proto, b := p.network()
	return join(macs, be16(proto), b)
}

// network is an EtherType and what follows it.
func (p *Packets) network() (uint32, []byte) {
	p.depth++
	n := p.r.IntN(100)
	if p.depth > 4 {
		n %= 55
	}
	switch {
	case n < 32:
		return 0x0800, p.ipv4()
	case n < 55:
		return 0x86dd, p.ipv6()
	case n < 63:
		return one(p.r, uint32(0x0806), 0x0806, 0x8035), p.arp()
	case n < 78:
		proto, b := p.network()
		return one(p.r, uint32(0x8100), 0x8100, 0x88a8, 0x9100), join(be16(p.tci()), be16(proto), b)
	case n < 86:
		return one(p.r, uint32(0x8847), 0x8847, 0x8848), p.mpls()
	case n < 92:
		return p.pppoe()
	default:
		return p.num(etherTypes...), p.bytes(p.r.IntN(60))
	}
}

func (p *Packets) tci() uint32 { return p.num(vlans...)&0xfff | p.r.Uint32()&0xf000 }

func (p *Packets) mpls() []byte {
	var b []byte
	for {
		entry := p.num(labels...)<<12 | p.r.Uint32()&0xeff
		if p.chance(60) {
			break
		}
		b = append(b, be32(entry)...)
		if len(b) > 12 {
			break
		}
	}
	b = append(b, be32(p.num(labels...)<<12|0x100|p.r.Uint32()&0xeff)...)
	return join(b, p.ipPacket())
}

func (p *Packets) pppoe() (uint32, []byte) {
	head := join([]byte{0x11, 0}, be16(p.num(sessions...)), be16(p.num(20, 60)))
	if p.chance(25) {
		return 0x8863, join(head, p.bytes(20))
	}
	b := p.ipPacket()
	ppp := one(p.r, uint32(0x0021), 0x0057)
	if b[0]>>4 == 4 && p.chance(90) {
		ppp = 0x0021
	} else if b[0]>>4 == 6 && p.chance(90) {
		ppp = 0x0057
	} else if p.chance(50) {
		ppp = p.num(0xc021, 0x0281, 0x0283)
	}
	return 0x8864, join(head, be16(ppp), b)
}

func (p *Packets) arp() []byte {
	return join(be16(1), be16(0x800), []byte{6, 4}, be16(p.num(1, 2, 3, 4)), p.mac(), p.ip4(), p.mac(), p.ip4())
}

// llc is what follows the length of an 802.3 frame.
func (p *Packets) llc() []byte {
	switch p.r.IntN(7) {
	case 0:
		return join([]byte{0x42, 0x42, 3}, p.bytes(35))
	case 1, 2: // ISO: CLNP, ES-IS, IS-IS of every type
		b := join([]byte{0xfe, 0xfe, 3, one(p.r, byte(0x81), 0x82, 0x83, 0x83, 0x83)}, p.bytes(30))
		b[3+4] = one(p.r, byte(15), 16, 17, 18, 20, 24, 25, 26, 27, byte(p.num()))
		return b
	case 3, 4:
		proto, b := p.network()
		oui := one(p.r, []byte{0, 0, 0}, []byte{0, 0, 0}, []byte{0, 0, 0xf8}, []byte{8, 0, 7}, []byte{0, 0, 0xc})
		if p.chance(30) {
			proto = one(p.r, uint32(0x809b), 0x80f3, 0x8137)
		}
		return join([]byte{0xaa, 0xaa, 3}, oui, be16(proto), b)
	default:
		sap := one(p.r, byte(0x06), 0xe0, 0xf0, 0xff, 0xfe, 0x42, 0xaa, byte(p.num(etherTypes...)))
		ssap := sap
		if p.chance(20) {
			ssap ^= 1
		}
		return join([]byte{sap, ssap, one(p.r, byte(3), 0, 1, 5, 9, 0x0f, 0x43, 0x63, 0x6f, 0x7f, 0x87, 0xaf, 0xe3, byte(p.num()))},
			p.bytes(p.r.IntN(40)))
	}
}

// wlan is an 802.11 frame.
func (p *Packets) wlan() []byte {
	kind := one(p.r, byte(0), 4, 8, 8, 8, 12)
	fc := kind | byte(p.r.IntN(16))<<4
	if p.chance(40) {
		fc = one(p.r, byte(0x80), 0x08, 0x88, 0x40, 0xb4, 0xc4, 0xd4, 0xa4, 0x48)
	}
	if p.chance(10) {
		fc = byte(p.num())
	}
	b := join([]byte{fc, byte(p.r.Uint32()) & one(p.r, byte(0x03), 0x43, 0xff), 0, 0}, p.mac(), p.mac(), p.mac(), be16(p.r.Uint32()))
	if b[1]&3 == 3 {
		b = append(b, p.mac()...)
	}
	if fc&0x8c == 0x88 {
		b = append(b, p.bytes(2)...)
	}
	return join(b, p.llc())
}

package filtertest

import (
	"fmt"
	"net/netip"
	"strings"
)

// The values that expressions and packets are made of: few, so that they meet.
var (
	ip4s = []string{
		"10.1.1.1", "10.1.1.2", "10.99.0.1", "192.168.1.1", "192.168.0.255", "172.16.5.4", "127.0.0.1",
		"224.0.0.1", "239.1.2.3", "255.255.255.255", "0.0.0.0", "192.9.200.1", "10.2.255.255",
	}
	ip6s = []string{
		"::1", "::", "fe80::1", "2001:db8::1", "2001:db8:0:1::2", "ff02::1", "fd00:a1b2::1020:3040",
		"::ffff:10.1.1.1", "2001:db8::ffff:0:1",
	}
	macs = []string{
		"02:00:00:00:00:01", "02:00:00:00:00:02", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "33:33:00:00:00:01",
		"01:80:c2:00:00:00", "aa:00:04:00:14:0e", "00:00:00:00:00:00", "10:20:30:40:50:60",
	}
	ports      = []uint32{0, 1, 20, 21, 22, 23, 25, 53, 67, 68, 80, 123, 137, 443, 1023, 1024, 2905, 4789, 6000, 6008, 6081, 8080, 65535}
	etherTypes = []uint32{
		0x0800, 0x0806, 0x8035, 0x86dd, 0x8100, 0x88a8, 0x9100, 0x8847, 0x8848, 0x8863, 0x8864, 0x88cc, 0x6003,
		0x6004, 0x6001, 0x6002, 0x6007, 0x809b, 0x80f3, 0x8137, 0x0600, 0x05dc, 0x05ff, 100, 4, 1, 0x42, 0xf0, 0xe0, 0xfe, 0xaa,
		0xffff, 0x10000,
	}
	ipProtos = []uint32{0, 1, 2, 4, 6, 9, 17, 41, 43, 44, 47, 50, 51, 58, 59, 60, 89, 103, 108, 112, 132, 255, 256}
	vlans    = []uint32{0, 1, 2, 5, 100, 200, 4094, 4095, 4096}
	labels   = []uint32{0, 1, 3, 16, 1024, 100000, 1048575, 1048576}
	sessions = []uint32{0, 1, 0x27, 0xffff, 0x10000}
	vnis     = []uint32{0, 1, 0xb, 100, 0xffffff, 0x1000000}
)

// num writes one of several numbers, or rarely another, in one of the ways to
// write it.
func (g *Gen) num(of ...uint32) string {
	n := one(g.r, of...)
	if chance(g.r, 10) {
		n = g.r.Uint32() >> g.r.IntN(32)
	}
	switch g.r.IntN(12) {
	case 0, 1, 2:
		return fmt.Sprintf("%#x", n)
	case 3:
		return fmt.Sprintf("%#o", n)
	default:
		return fmt.Sprint(n)
	}
}

func (g *Gen) ip() string {
	if chance(g.r, 15) {
		return fmt.Sprintf("%d.%d.%d.%d", g.r.IntN(256), g.r.IntN(256), g.r.IntN(256), g.r.IntN(256))
	}
	if chance(g.r, 3) {
		return one(g.r, "10.1", "10.1.1", "256.1.1.1", "1.2.3.4.5")
	}
	return one(g.r, ip4s...)
}

func (g *Gen) ip6() string {
	if chance(g.r, 15) {
		var b [16]byte
		for i := range b {
			if chance(g.r, 60) {
				b[i] = byte(g.r.Uint32())
			}
		}
		a := netip.AddrFrom16(b)
		return one(g.r, a.String(), a.StringExpanded())
	}
	return one(g.r, ip6s...)
}

func (g *Gen) mac() string {
	m := one(g.r, macs...)
	if chance(g.r, 15) {
		m = fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", g.r.IntN(256), g.r.IntN(256), g.r.IntN(256),
			g.r.IntN(256), g.r.IntN(256), g.r.IntN(256))
	}
	switch g.r.IntN(10) {
	case 0:
		return strings.ReplaceAll(m, ":", "-")
	case 1:
		return strings.ReplaceAll(m, ":", ".")
	case 2:
		return m[0:2] + m[3:5] + "." + m[6:8] + m[9:11] + "." + m[12:14] + m[15:17]
	case 3:
		return strings.ReplaceAll(m, ":0", ":")
	case 4:
		return strings.ReplaceAll(m, ":", "")
	default:
		return m
	}
}

func (g *Gen) net4() string {
	a := netip.MustParseAddr(one(g.r, ip4s...))
	bits := g.r.IntN(33)
	p, _ := a.Prefix(bits)
	b := p.Addr().As4()
	switch g.r.IntN(8) {
	case 0:
		return fmt.Sprint(b[0])
	case 1:
		return fmt.Sprintf("%d.%d", b[0], b[1])
	case 2:
		return fmt.Sprintf("%d.%d.%d", b[0], b[1], b[2])
	case 3:
		m := ^uint32(0) << (32 - bits)
		return fmt.Sprintf("%v mask %d.%d.%d.%d", p.Addr(), m>>24, m>>16&0xff, m>>8&0xff, m&0xff)
	case 4:
		return a.String()
	case 5:
		return fmt.Sprintf("%d.%d/%d", b[0], b[1], one(g.r, 16, 8, 12, bits))
	case 6:
		return fmt.Sprintf("%v/%d", a, g.r.IntN(34)) // host bits may be set: refused
	default:
		return p.String()
	}
}

func (g *Gen) net6() string {
	a := netip.MustParseAddr(one(g.r, ip6s...))
	if a.Is4In6() || chance(g.r, 8) {
		return fmt.Sprintf("%v/%d", a, g.r.IntN(130))
	}
	p, _ := a.Prefix(one(g.r, 0, 10, 16, 31, 32, 33, 48, 63, 64, 65, 96, 97, 127, 128, g.r.IntN(129)))
	if chance(g.r, 10) {
		return p.Addr().String()
	}
	return p.String()
}

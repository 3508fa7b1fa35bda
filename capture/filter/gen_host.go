package filter

import (
	"net/netip"
	"strconv"
	"strings"
)

// identifier is an identifier with its qualifiers.
func (g *gen) identifier(m *match) cond {
	q := m.q
	if q.typ == aUndef {
		return g.fail("%s has no keyword such as host or port", quoted(m.id.text))
	}
	switch m.id.kind {
	case tID:
		return g.named(m.id.text, q)
	case tNum:
		return g.numbered(m.id.val, q)
	case tHID:
		return g.dotted(m, q)
	case tHID6:
		return g.ip6(m, q)
	case tEID:
		if q.typ != aHost && q.typ != aDefault || q.proto != pLink {
			return g.fail("a MAC address needs \"ether host\" before it")
		}
		return g.macHost(parseMAC(m.id.text), q.dir, "a MAC address")
	}
	return g.fail("an ARCnet address is not supported on link type %s", linkName(g.link))
}

// noSuch is the error for a qualifier that doesn't go with what follows.
func (g *gen) noSuch(qualifier, what string) cond {
	return g.fail("%s does not go with %s", quoted(qualifier), what)
}

// named is an identifier that is a name.
func (g *gen) named(name string, q qualifiers) cond {
	if q.proto == pDECnet {
		return g.noSuch("decnet", "a name")
	}
	switch q.typ {
	case aNet:
		addr, ok := g.names.network(name)
		if !ok {
			return g.fail("unknown network %s", quoted(name))
		}
		mask := uint32(noMask)
		addr, mask = leftAlign(addr, mask)
		return g.host4([]uint32{addr}, mask, q, false)
	case aDefault, aHost:
		if q.proto == pLink {
			return g.namedMAC(name, q.dir)
		}
		return g.namedHost(name, q, false)
	case aPort, aPortRange:
		return g.namedPorts(name, q)
	case aGateway:
		return g.gateway(name, q)
	case aProto, aProtoChain:
		v, ok := g.protoByName(name, q.proto)
		if !ok {
			return g.fail("unknown protocol %s", quoted(name))
		}
		if q.typ == aProto {
			return g.protoNumber(v, q.proto)
		}
		return g.protoChain(v, q.proto)
	}
	return g.noSuch(q.typ.String(), "a name")
}

// leftAlign moves a network number without its last octets to the left.
func leftAlign(addr, mask uint32) (uint32, uint32) {
	for addr != 0 && addr&0xff000000 == 0 {
		addr <<= 8
		mask <<= 8
	}
	return addr, mask
}

// numbered is an identifier that is a number.
func (g *gen) numbered(v uint32, q qualifiers) cond {
	if q.proto == pDECnet {
		return g.noSuch("decnet", "a number")
	}
	switch q.typ {
	case aDefault, aHost, aNet:
		if q.proto == pLink {
			return g.fail("a number is no link-layer address")
		}
		mask := uint32(noMask)
		if q.typ == aNet {
			v, mask = leftAlign(v, mask)
		}
		return g.host4([]uint32{v}, mask, q, false)
	case aPort, aPortRange:
		return g.ports(v, v, q, anyTransport)
	case aProto:
		return g.protoNumber(v, q.proto)
	case aProtoChain:
		return g.protoChain(v, q.proto)
	}
	return g.noSuch(q.typ.String(), "a number")
}

// parseDotted reads up to four decimal octets, and returns how many bits.
func parseDotted(s string) (addr uint32, bits int, ok bool) {
	for part := range strings.SplitSeq(s, ".") {
		n := uint32(0)
		for i := range len(part) {
			// A hexadecimal digit is taken for what it is in ASCII, like others do:
			// it can't make a valid octet.
			if n = n*10 + uint32(part[i]) - '0'; n > 255 {
				return 0, 0, false
			}
		}
		addr = addr<<8 | n
		bits += 8
	}
	return addr, bits, true
}

// dotted is an IPv4 address, or a part of one.
func (g *gen) dotted(m *match, q qualifiers) cond {
	if q.typ != aDefault && q.typ != aHost && q.typ != aNet {
		return g.noSuch(q.typ.String(), "an IPv4 address")
	}
	if q.proto == pDECnet {
		return g.decnetHost(m, q)
	}
	addr, bits, ok := parseDotted(m.id.text)
	if !ok {
		return g.fail("invalid IPv4 address %s", quoted(m.id.text))
	}
	addr <<= 32 - bits
	mask := uint32(noMask) << (32 - bits)
	switch m.mask.kind {
	case tEOF:
		if q.proto == pLink {
			return g.fail("an IPv4 address is no link-layer address")
		}
		return g.host4([]uint32{addr}, mask, q, false)
	case tNum:
		if m.mask.val > 32 {
			return g.failAt(m.mask.pos, "mask length %d is greater than 32", m.mask.val)
		}
		mask = uint32(uint64(noMask) << (32 - m.mask.val))
	default:
		bits := 0
		if mask, bits, ok = parseDotted(m.mask.text); !ok {
			return g.failAt(m.mask.pos, "invalid mask %s", quoted(m.mask.text))
		}
		mask <<= 32 - bits
	}
	if addr&^mask != 0 {
		return g.fail("%s has bits set outside the mask", quoted(m.id.text))
	}
	if q.typ != aNet {
		return g.fail("a mask needs \"net\" before the address")
	}
	return g.host4([]uint32{addr}, mask, q, false)
}

// ip6 is an IPv6 address.
func (g *gen) ip6(m *match, q qualifiers) cond {
	addr, err := netip.ParseAddr(m.id.text)
	if err != nil {
		return g.fail("invalid IPv6 address %s", quoted(m.id.text))
	}
	if q.typ != aDefault && q.typ != aHost && q.typ != aNet {
		return g.noSuch(q.typ.String(), "an IPv6 address")
	}
	bits := uint32(128)
	if m.mask.kind == tNum {
		if bits = m.mask.val; bits > 128 {
			return g.failAt(m.mask.pos, "mask length %d is greater than 128", bits)
		}
	}
	if netip.PrefixFrom(addr, int(bits)).Masked().Addr() != addr {
		return g.fail("%s has bits set outside the mask", quoted(m.id.text))
	}
	if bits != 128 && q.typ != aNet {
		return g.fail("a mask needs \"net\" before the address")
	}
	return g.host6([]netip.Addr{addr}, bits, q, false)
}

// plainDir refuses the directions that only 802.11 has.
func (g *gen) plainDir(d direction, what string) bool {
	if d > dAnd {
		g.noSuch(d.String(), what)
		return false
	}
	return true
}

// either applies a direction to what tests one address.
func either(d direction, test func(d direction) cond) cond {
	switch d {
	case dSrc, dDst:
		return test(d)
	case dAnd:
		src := test(dSrc)
		return and(src, test(dDst))
	}
	src := test(dSrc)
	return or(src, test(dDst))
}

// host4 is true for packets from or to one of some IPv4 addresses; with not,
// for those of the protocol that are not.
func (g *gen) host4(addrs []uint32, mask uint32, q qualifiers, negate bool) cond {
	if !g.plainDir(q.dir, "an IPv4 address") {
		return g.never()
	}
	var p, src, dst uint32
	switch q.proto {
	case pDefault:
		c := g.host4(addrs, mask, qualifiers{proto: pIP, dir: q.dir}, negate)
		if g.labels > 0 {
			return c
		}
		c = or(c, g.host4(addrs, mask, qualifiers{proto: pARP, dir: q.dir}, negate))
		return or(c, g.host4(addrs, mask, qualifiers{proto: pRARP, dir: q.dir}, negate))
	case pIP:
		p, src, dst = etIP, 12, 16
	case pARP:
		p, src, dst = etARP, 14, 24
	case pRARP:
		p, src, dst = etRARP, 14, 24
	default:
		return g.noSuch(q.proto.String(), "an IPv4 address")
	}
	test := func(a uint32) cond {
		return either(q.dir, func(d direction) cond {
			off := src
			if d == dDst {
				off = dst
			}
			return and(g.linkProto(p), g.masked(atNet, off, sizeW, a, mask))
		})
	}
	return g.hosts(len(addrs), p, negate, func(i int) cond { return test(addrs[i]) })
}

// hosts is true for any of n hosts; with negate, for packets of the protocol
// that are of none.
func (g *gen) hosts(n int, p uint32, negate bool, test func(i int) cond) cond {
	c := test(0)
	for i := 1; i < n && g.err == nil; i++ {
		c = or(c, test(i))
	}
	if negate {
		c = and(g.linkProto(p), not(c))
	}
	return c
}

// host6 is host4 for IPv6.
func (g *gen) host6(addrs []netip.Addr, bits uint32, q qualifiers, negate bool) cond {
	if !g.plainDir(q.dir, "an IPv6 address") {
		return g.never()
	}
	if q.proto != pDefault && q.proto != pIPv6 {
		return g.noSuch(q.proto.String(), "an IPv6 address")
	}
	test := func(a netip.Addr) cond {
		b := a.As16()
		return either(q.dir, func(d direction) cond {
			off := uint32(8)
			if d == dDst {
				off = 24
			}
			c := g.linkProto(etIPv6)
			for i := range uint32(4) {
				mask := uint32(uint64(noMask) << (32 - min(32, max(bits, i*32)-i*32)))
				c = and(c, g.masked(atNet, off+i*4, sizeW, be32(b[i*4:]), mask))
			}
			return c
		})
	}
	return g.hosts(len(addrs), etIPv6, negate, func(i int) cond { return test(addrs[i]) })
}

// namedHost is a host by its name: all its addresses.
func (g *gen) namedHost(name string, q qualifiers, negate bool) cond {
	addrs, err := g.names.host(name)
	if err != nil {
		return g.fail("unknown host %s: %v", quoted(name), err)
	}
	var v4 []uint32
	var v6 []netip.Addr
	for _, a := range addrs {
		switch a = a.Unmap(); {
		case a.Is4() && q.proto != pIPv6:
			b := a.As4()
			v4 = append(v4, be32(b[:]))
		case a.Is6() && q.proto != pARP && q.proto != pIP && q.proto != pRARP && q.typ != aGateway:
			v6 = append(v6, a.WithZone(""))
		}
	}
	var c cond
	if len(v4) > 0 {
		c = or(c, g.host4(v4, noMask, q, negate))
	}
	if len(v6) > 0 {
		c = or(c, g.host6(v6, 128, q, negate))
	}
	if c.entry == nil {
		return g.fail("host %s has no address of this kind", quoted(name))
	}
	return c
}

// gateway is true for packets that went over a host and are not its own: its
// MAC address, and not its IP address.
func (g *gen) gateway(name string, q qualifiers) cond {
	switch q.proto {
	case pDefault, pIP, pARP, pRARP:
	default:
		return g.noSuch(q.proto.String(), "gateway")
	}
	if g.labels > 0 || g.encap {
		return g.fail("gateway does not go inside mpls, geneve or vxlan")
	}
	c := g.namedMAC(name, dOr)
	if g.err != nil {
		return c
	}
	q.dir = dOr
	return and(c, g.namedHost(name, q, true))
}

// decnetHost is true for packets of a DECnet host, given as area and node.
func (g *gen) decnetHost(m *match, q qualifiers) cond {
	if !g.plainDir(q.dir, "a DECnet address") {
		return g.never()
	}
	area, node, _ := strings.Cut(m.id.text, ".")
	a, errA := strconv.ParseUint(area, 10, 16)
	n, errN := strconv.ParseUint(node, 10, 16)
	if q.typ == aNet || m.mask.kind != tEOF || errA != nil || errN != nil || a > 63 || n > 1023 {
		return g.fail("invalid DECnet address %s", quoted(m.id.text))
	}
	addr := uint32(a<<10 | n)
	swapped := addr&0xff<<8 | addr>>8
	c := g.linkProto(etDECnet)
	return and(c, either(q.dir, func(d direction) cond {
		short, long := uint32(3), uint32(15)
		if d == dDst {
			short, long = 1, 7
		}
		// With and without an octet of padding, each with a long or short header.
		c := and(g.masked(atNet, 2, sizeH, 0x8106, 0xff07), g.equal(atNet, 3+long, sizeH, swapped))
		c = or(and(g.masked(atNet, 2, sizeB, 6, 7), g.equal(atNet, 2+long, sizeH, swapped)), c)
		c = or(and(g.masked(atNet, 2, sizeH, 0x8102, 0xff07), g.equal(atNet, 3+short, sizeH, swapped)), c)
		return or(and(g.masked(atNet, 2, sizeB, 2, 7), g.equal(atNet, 2+short, sizeH, swapped)), c)
	}))
}

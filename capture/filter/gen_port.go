package filter

// IP protocol numbers.
const (
	ipICMP     = 1
	ipIGMP     = 2
	ipTCP      = 6
	ipIGRP     = 9
	ipUDP      = 17
	ipRouting  = 43
	ipFragment = 44
	ipESP      = 50
	ipAH       = 51
	ipICMPv6   = 58
	ipNone     = 59
	ipDstOpts  = 60
	ipPIM      = 103
	ipVRRP     = 112 // and CARP
	ipSCTP     = 132
	ipHopOpts  = 0

	// anyTransport is TCP, UDP and SCTP.
	anyTransport = -1
)

// portProto is the IP protocol of a qualifier before port.
func (g *gen) portProto(q qualifiers) (p int, ok bool) {
	switch q.proto {
	case pDefault:
		return anyTransport, true
	case pTCP:
		return ipTCP, true
	case pUDP:
		return ipUDP, true
	case pSCTP:
		return ipSCTP, true
	}
	g.noSuch(q.proto.String(), q.typ.String())
	return 0, false
}

// ports is true for packets with a port from lo to hi. known is the protocol
// that the ports' names are for.
func (g *gen) ports(lo, hi uint32, q qualifiers, known int) cond {
	p, ok := g.portProto(q)
	if !ok || !g.plainDir(q.dir, "a port") || !g.atMost("port", lo, 0xffff) || !g.atMost("port", hi, 0xffff) {
		return g.never()
	}
	if p == anyTransport {
		p = known
	} else if known != anyTransport && known != p {
		return g.fail("the port is not one of %s", q.proto)
	}
	r := portRange{min(lo, hi), max(lo, hi), q.typ != aPortRange}
	v4 := g.ports4(r, q.dir, p)
	v6 := g.ports6(r, q.dir, p)
	return or(v6, v4)
}

// portRange is the ports from lo to hi, or the one that both are.
type portRange struct {
	lo, hi uint32
	one    bool
}

// portAt tests the ports in a transport header.
func (g *gen) portAt(at base, r portRange, d direction) cond {
	return either(d, func(d direction) cond {
		off := uint32(0)
		if d == dDst {
			off = 2
		}
		if r.one {
			return g.equal(at, off, sizeH, r.lo)
		}
		c := g.atLeast(at, off, sizeH, r.lo)
		return and(c, not(g.greater(at, off, sizeH, r.hi)))
	})
}

// firstFragment is true for IPv4 packets that begin with a transport header.
func (g *gen) firstFragment() cond { return not(g.anyBit(atNet, 6, sizeH, 0x1fff)) }

// transports applies a test to a transport protocol, or to each of them if p is
// anyTransport.
func transports(p int, test func(p uint32) cond) cond {
	if p != anyTransport {
		return test(uint32(p))
	}
	tcp := test(ipTCP)
	udp := test(ipUDP)
	return or(test(ipSCTP), or(tcp, udp))
}

func (g *gen) ports4(r portRange, d direction, p int) cond {
	c := g.linkProto(etIP)
	return and(c, transports(p, func(p uint32) cond {
		c := g.equal(atNet, 9, sizeB, p)
		c = and(c, g.firstFragment())
		return and(c, g.portAt(atTran4, r, d))
	}))
}

func (g *gen) ports6(r portRange, d direction, p int) cond {
	c := g.linkProto(etIPv6)
	return and(c, transports(p, func(p uint32) cond {
		c := g.equal(atNet, 6, sizeB, p)
		return and(c, g.portAt(atTran6, r, d))
	}))
}

// namedPorts is a port or range of ports given by names.
func (g *gen) namedPorts(name string, q qualifiers) cond {
	if _, ok := g.portProto(q); !ok {
		return g.never()
	}
	if q.typ == aPort {
		port, p, ok := g.names.port(name)
		if !ok {
			return g.fail("unknown port %s", quoted(name))
		}
		return g.ports(port, port, q, p)
	}
	first, last, wrong := cutRange(name)
	if wrong != "" {
		return g.fail("port range %s %s", quoted(name), wrong)
	}
	lo, p, ok := g.portOf(first)
	if !ok {
		return g.fail("unknown port %s", quoted(first))
	}
	hi, p2, ok := g.portOf(last)
	if !ok {
		return g.fail("unknown port %s", quoted(last))
	}
	if p != p2 {
		p = anyTransport
	}
	return g.ports(lo, hi, q, p)
}

// portOf is a port by number or name.
func (g *gen) portOf(text string) (port uint32, p int, ok bool) {
	v, wrong := parseNumber(text)
	switch wrong {
	case nothing:
		return v, anyTransport, true
	case tooBig:
		return 0, 0, false
	}
	return g.names.port(text)
}

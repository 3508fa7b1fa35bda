package filter

// parseMAC reads a MAC address in any of its spellings.
func parseMAC(s string) (mac [6]byte) {
	digits, groups := 0, 0
	var nibbles []byte
	var group []byte
	flush := func() {
		if len(group)%2 == 1 {
			nibbles = append(nibbles, 0)
		}
		nibbles = append(nibbles, group...)
		group = group[:0]
		groups++
	}
	for i := range len(s) {
		if d := hexDigit(s[i]); d < 16 {
			group = append(group, d)
			digits++
			continue
		}
		flush()
	}
	flush()
	for i := range min(len(nibbles)/2, 6) {
		mac[i] = nibbles[2*i]<<4 | nibbles[2*i+1]
	}
	return mac
}

// macHost is true for frames from or to a MAC address.
func (g *gen) macHost(mac [6]byte, d direction, what string) cond {
	var src, dst uint32
	var around cond
	switch g.link {
	case linkEthernet:
		src, dst = 6, 0
		if g.encap {
			around = g.hasInnerMAC()
		}
	case linkFDDI:
		src, dst = 7, 1
	case linkTokenRing:
		src, dst = 8, 2
	case linkIPoverFC:
		src, dst = 10, 2
	case link80211, linkPrism, linkAVS, linkRadiotap, linkPPI:
		return g.wlanHost(mac, d)
	default:
		return g.notOn(what)
	}
	if !g.plainDir(d, "a MAC address") {
		return g.never()
	}
	return and(around, either(d, func(d direction) cond {
		off := src
		if d == dDst {
			off = dst
		}
		return g.bytes(atLink, off, mac[:])
	}))
}

// namedMAC is a host by the name that /etc/ethers has for its MAC address.
func (g *gen) namedMAC(name string, d direction) cond {
	switch g.link {
	case linkEthernet, linkFDDI, linkTokenRing, linkIPoverFC:
	default:
		if !isWLAN(g.link) {
			return g.notOn("a name for a MAC address")
		}
	}
	mac, ok := g.names.mac(name)
	if !ok {
		return g.fail("unknown MAC address of %s", quoted(name))
	}
	return g.macHost(mac, d, "a name for a MAC address")
}

var broadcastMAC = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// broadcast is "broadcast" after a protocol or nothing.
func (g *gen) broadcast(p proto) cond {
	switch p {
	case pDefault, pLink:
		return g.macHost(broadcastMAC, dDst, "broadcast")
	case pIP:
		if !g.HasMask || g.Netmask == noMask {
			return g.fail("\"ip broadcast\" needs the interface's netmask, which is not known")
		}
		c := g.linkProto(etIP)
		hosts := ^g.Netmask
		zeros := g.masked(atNet, 16, sizeW, 0, hosts)
		return and(c, or(zeros, g.masked(atNet, 16, sizeW, hosts, hosts)))
	}
	return g.noSuch(p.String(), "broadcast")
}

// multicast is "multicast" after a protocol or nothing.
func (g *gen) multicast(p proto) cond {
	switch p {
	case pDefault, pLink:
		group := func(off uint32) cond { return g.anyBit(atLink, off, sizeB, 1) }
		switch g.link {
		case linkEthernet:
			if g.encap {
				return and(g.hasInnerMAC(), group(0))
			}
			return group(0)
		case linkFDDI:
			return group(1)
		case linkTokenRing, linkIPoverFC:
			return group(2)
		case link80211, linkPrism, linkAVS, linkRadiotap, linkPPI:
			return g.wlanDst(group)
		}
		return g.notOn("multicast")
	case pIP:
		// 240.0.0.0/4 and the broadcast address are taken too, as people have
		// come to expect.
		c := g.linkProto(etIP)
		return and(c, g.atLeast(atNet, 16, sizeB, 224))
	case pIPv6:
		c := g.linkProto(etIPv6)
		return and(c, g.equal(atNet, 24, sizeB, 255))
	}
	return g.noSuch(p.String(), "multicast")
}

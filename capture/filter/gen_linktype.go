package filter

// Ethernet types. Smaller numbers than 1501 are LLC service access points.
const (
	etIP       = 0x0800
	etARP      = 0x0806
	etRARP     = 0x8035
	etIPv6     = 0x86dd
	etMPLS     = 0x8847
	etPPPoED   = 0x8863
	etPPPoES   = 0x8864
	et8021Q    = 0x8100
	et8021AD   = 0x88a8
	etQinQ     = 0x9100
	etTEB      = 0x6558 // Ethernet in a tunnel
	etIPX      = 0x8137
	etATalk    = 0x809b
	etAARP     = 0x80f3
	etDECnet   = 0x6003
	etMOPDL    = 0x6001
	etMOPRC    = 0x6002
	etLAT      = 0x6004
	etSCA      = 0x6007
	etNS       = 0x0600
	maxLLC     = 1500
	llcIP      = 0x06
	llcSTP     = 0x42
	llcSNAP    = 0xaa
	llcIPX     = 0xe0
	llcNetBEUI = 0xf0
	llcISO     = 0xfe
)

// linkProto is true for packets of a network protocol, given as its Ethernet
// type or LLC service access point.
func (g *gen) linkProto(p uint32) cond {
	if g.labels > 0 {
		return g.mplsProto(p)
	}
	switch g.link {
	case linkEthernet, linkSLL:
		return g.etherProto(p)
	case linkCHDLC:
		if p == llcISO {
			p = llcISO<<8 | llcISO
		}
		if !g.atMost("HDLC protocol", p, 0xffff) {
			return g.never()
		}
		return g.equal(atLinkType, 0, sizeH, p)
	case link80211, linkPrism, linkAVS, linkRadiotap, linkPPI:
		data := g.masked(atLink, 0, sizeB, frameData, frameTypeMask)
		return and(data, g.llcProto(p))
	case linkFDDI, linkTokenRing, linkATM, linkIPoverFC:
		return g.llcProto(p)
	case linkRAW:
		switch p {
		case etIP:
			return g.ipVersion(atLink, 4)
		case etIPv6:
			return g.ipVersion(atLink, 6)
		}
		return g.never()
	case linkIPv4, linkIPv6:
		if p == etIP && g.link == linkIPv4 || p == etIPv6 && g.link == linkIPv6 {
			return g.always()
		}
		return g.never()
	case linkPPP, linkPPPHDLC, linkPPPEther:
		return g.pppProto(p)
	case linkNULL, linkLOOP, linkENC:
		return g.familyProto(p)
	}
	if g.noLinkType {
		return g.notOn("a protocol of the link layer")
	}
	if !g.atMost("Ethernet type", p, 0xffff) {
		return g.never()
	}
	return g.equal(atLinkType, 0, sizeH, p)
}

func (g *gen) ipVersion(at base, v uint32) cond {
	return g.masked(at, 0, sizeB, v<<4, 0xf0)
}

// hasLLC is true for Ethernet frames with an LLC header; Linux's cooked header
// has a protocol number of its own for these.
func (g *gen) hasLLC() cond {
	if g.link == linkSLL {
		return g.equal(atLinkType, 0, sizeH, 4)
	}
	return not(g.greater(atLinkType, 0, sizeH, maxLLC))
}

// etherProto is linkProto on Ethernet, where some protocols come with an LLC
// header, some without, and some with either.
func (g *gen) etherProto(p uint32) cond {
	switch p {
	case llcISO, llcIP, llcNetBEUI:
		return and(g.hasLLC(), g.equal(atLLC, 0, sizeH, p<<8|p))
	case llcIPX:
		return g.etherIPX()
	case etATalk:
		return or(g.equal(atLinkType, 0, sizeH, p), and(g.hasLLC(), g.snap(0x080007, p)))
	case etAARP:
		return or(g.equal(atLinkType, 0, sizeH, p), and(g.hasLLC(), g.snap(0, p)))
	}
	if p > maxLLC {
		if !g.atMost("Ethernet type", p, 0xffff) {
			return g.never()
		}
		return g.equal(atLinkType, 0, sizeH, p)
	}
	if !g.atMost("LLC access point", p, 0xff) {
		return g.never()
	}
	if g.link == linkSLL {
		return and(g.hasLLC(), g.equal(atLLC, 0, sizeB, p))
	}
	return and(g.hasLLC(), g.equal(atLinkType, 2, sizeB, p))
}

// etherIPX: IPX comes in four framings.
func (g *gen) etherIPX() cond {
	inLLC := g.equal(atLLC, 0, sizeB, llcIPX)
	if g.link == linkSLL {
		inLLC = or(inLLC, g.snap(0, etIPX))
		raw := g.equal(atLinkType, 0, sizeH, 1)
		return or(g.equal(atLinkType, 0, sizeH, etIPX), or(raw, and(g.hasLLC(), inLLC)))
	}
	inLLC = or(inLLC, g.equal(atLLC, 0, sizeH, 0xffff))
	inLLC = or(g.snap(0, etIPX), inLLC)
	return or(g.equal(atLinkType, 0, sizeH, etIPX), and(g.hasLLC(), inLLC))
}

// snap is true for an LLC header with SNAP, of an organisation and a type.
func (g *gen) snap(org, p uint32) cond {
	return g.bytes(atLLC, 0, []byte{
		llcSNAP, llcSNAP, 3, byte(org >> 16), byte(org >> 8), byte(org), byte(p >> 8), byte(p),
	})
}

// llcProto is linkProto where every frame has an LLC header.
func (g *gen) llcProto(p uint32) cond {
	switch p {
	case llcIP, llcISO, llcNetBEUI:
		return g.equal(atLLC, 0, sizeH, p<<8|p)
	case llcIPX:
		return g.equal(atLLC, 0, sizeB, p)
	case etATalk:
		return g.snap(0x080007, p)
	}
	if p <= maxLLC {
		if !g.atMost("LLC access point", p, 0xff) {
			return g.never()
		}
		return g.equal(atLLC, 0, sizeB, p)
	}
	if !g.atMost("Ethernet type", p, 0xffff) {
		return g.never()
	}
	return g.equal(atLLC, 6, sizeH, p)
}

// pppProto is linkProto on PPP, which has numbers of its own.
func (g *gen) pppProto(p uint32) cond {
	own := map[uint32]uint32{
		etIP: 0x21, etIPv6: 0x57, etDECnet: 0x27, etATalk: 0x29, etNS: 0x25,
		llcISO: 0x23, llcSTP: 0x31, llcIPX: 0x2b,
	}
	if v, ok := own[p]; ok {
		p = v
	}
	if !g.atMost("PPP protocol", p, 0xffff) {
		return g.never()
	}
	return g.equal(atLinkType, 0, sizeH, p)
}

// familyProto is linkProto where the header is an address family. Systems have
// different numbers for IPv6, so in a file any of them may be; NULL and ENC have
// it in the byte order of the machine that captured, which is taken to be
// little-endian.
func (g *gen) familyProto(p uint32) cond {
	var families []uint32
	switch {
	case p == etIP:
		families = []uint32{2}
	case p == etIPv6 && g.Target != File:
		families = []uint32{10} // Linux
	case p == etIPv6:
		families = []uint32{30, 24, 28} // Darwin, the other BSDs, FreeBSD
	}
	if families == nil {
		return g.never()
	}
	var c cond
	for _, f := range families {
		if g.link != linkLOOP {
			f <<= 24
		}
		c = or(c, g.equal(atLink, 0, sizeW, f))
	}
	return c
}

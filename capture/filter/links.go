package filter

// Link types, by their numbers in capture files.
const (
	linkNULL       = 0
	linkEthernet   = 1
	linkTokenRing  = 6
	linkPPP        = 9
	linkFDDI       = 10
	linkPPPHDLC    = 50
	linkPPPEther   = 51
	linkATM        = 100
	linkRAW        = 101
	linkCHDLC      = 104
	link80211      = 105
	linkLOOP       = 108
	linkENC        = 109
	linkSLL        = 113
	linkPrism      = 119
	linkIPoverFC   = 122
	linkRadiotap   = 127
	linkAVS        = 163
	linkPPI        = 192
	linkIPv4       = 228
	linkIPv6       = 229
	linkSLL2       = 276
	linkRAWonBSD   = 12 // what some systems call linkRAW
	linkRAWonBSDOS = 14
)

var linkNames = map[int]string{
	linkNULL: "NULL", linkEthernet: "EN10MB", linkTokenRing: "IEEE802", linkPPP: "PPP", linkFDDI: "FDDI",
	linkPPPHDLC: "PPP_SERIAL", linkPPPEther: "PPP_ETHER", linkATM: "ATM_RFC1483", linkRAW: "RAW",
	linkCHDLC: "C_HDLC", link80211: "IEEE802_11", linkLOOP: "LOOP", linkENC: "ENC", linkSLL: "LINUX_SLL",
	linkPrism: "PRISM_HEADER", linkIPoverFC: "IP_OVER_FC", linkRadiotap: "IEEE802_11_RADIO",
	linkAVS: "IEEE802_11_RADIO_AVS", linkPPI: "PPI", linkIPv4: "IPV4", linkIPv6: "IPV6", linkSLL2: "LINUX_SLL2",
}

func linkName(link int) string { return linkNames[link] }

// Offsets and lengths of headers.
const (
	ip6HeaderLen = 40
	labelLen     = 4
	sllLen       = 16
	sll2Len      = 20
)

// start sets the offsets for a link type. It returns false for one that has no
// filters here.
func (g *gen) start(link int) bool {
	if link == linkRAWonBSD || link == linkRAWonBSDOS {
		link = linkRAW
	}
	g.link, g.prevLink = link, link
	fixed := func(linkType, payload, net, netNoSNAP uint32) {
		g.linkType.fixed, g.linkPl.fixed = linkType, payload
		g.net, g.netNoSNAP = net, netNoSNAP
	}
	g.linkHdr.reg, g.linkPl.reg, g.linkType.reg = -1, -1, -1
	switch link {
	case linkEthernet:
		fixed(12, 14, 0, 3)
	case linkNULL, linkLOOP:
		fixed(0, 4, 0, 0)
	case linkENC:
		fixed(0, 12, 0, 0)
	case linkPPP, linkPPPHDLC, linkCHDLC:
		fixed(2, 4, 0, 0)
	case linkPPPEther:
		fixed(6, 8, 0, 0)
	case linkFDDI:
		fixed(13, 13, 8, 3)
	case linkTokenRing:
		fixed(14, 14, 8, 3)
	case linkATM:
		fixed(0, 0, 8, 3)
	case linkIPoverFC:
		fixed(16, 16, 8, 3)
	case linkRAW, linkIPv4, linkIPv6:
		g.noLinkType = true
	case linkSLL:
		fixed(14, sllLen, 0, 0)
		g.cook()
	case linkSLL2:
		fixed(0, sll2Len, 0, 0)
		g.cook()
	case link80211, linkPrism, linkAVS, linkRadiotap, linkPPI:
		// The header's length depends on the frame; it may have another before
		// it whose length varies too.
		fixed(24, 0, 8, 3)
		g.linkPl.variable = true
		g.linkHdr.variable = link != link80211
	default:
		return false
	}
	g.outerHdr, g.prevLinkHdr = g.linkHdr, g.linkHdr
	return true
}

// isWLAN says whether frames have an 802.11 header.
func isWLAN(link int) bool {
	switch link {
	case link80211, linkPrism, linkAVS, linkRadiotap, linkPPI:
		return true
	}
	return false
}

// notOn is the error for a primitive that a link type doesn't have.
func (g *gen) notOn(what string) cond {
	return g.fail("%s is not supported on link type %s", what, linkName(g.link))
}

package filter

// vlan is "vlan" and "vlan N". What follows is about what is inside.
func (g *gen) vlan(id token) cond {
	if g.labels > 0 {
		return g.fail("vlan does not go inside mpls")
	}
	if id.kind == tNum && !g.atMost("VLAN", id.val, 0xfff) {
		return g.never()
	}
	var c cond
	switch g.link {
	case linkEthernet:
		if g.Target == Live && g.tags == 0 && !g.linkHdr.variable && g.linkHdr.fixed == g.outerHdr.fixed {
			c = g.vlanLive(id)
			break
		}
		c = g.vlanInPacket(id)
	case link80211, linkPrism, linkAVS, linkRadiotap:
		c = g.vlanInPacket(id)
	default:
		return g.notOn("vlan")
	}
	g.tags++
	return c
}

func (g *gen) isTag() cond {
	c := or(g.linkProto(et8021Q), g.linkProto(et8021AD))
	return or(c, g.linkProto(etQinQ))
}

func (g *gen) vlanInPacket(id token) cond {
	c := g.isTag()
	if id.kind == tNum {
		c = and(c, g.masked(atNet, 0, sizeH, id.val, 0xfff))
	}
	g.linkPl.fixed += 4
	g.linkType.fixed += 4
	return c
}

// vlanLive: the kernel takes the outer tag out of most packets, but not all. The
// offsets after it depend on the packet, so they are kept in registers, which
// the prologue clears.
func (g *gen) vlanLive(id token) cond {
	taken := g.test(jmpEq, 1, g.meta(sizeB, metaVLANPresent))
	inPacket := g.isTag()
	entry := inPacket.entry
	if id.kind == tNum {
		inPacket = and(inPacket, g.masked(atNet, 0, sizeH, id.val, 0xfff))
	}
	g.vlanVaries = true
	var shift []*instr
	for _, o := range []*offset{&g.linkPl, &g.linkType} {
		o.variable = true
		if o.reg < 0 {
			o.reg = g.keepReg()
		}
		shift = append(shift, g.op(opLd|modeMem, uint32(o.reg)), g.op(opAlu|aluAdd|srcK, 4), g.op(opSt, uint32(o.reg)))
	}
	entry.body = append(shift, entry.body...)
	if id.kind != tNum {
		return or(taken, inPacket)
	}
	tag := append(g.meta(sizeH, metaVLANTag), g.op(opAlu|aluAnd|srcK, 0xfff))
	return ifElse(taken, g.test(jmpEq, id.val, tag), inPacket)
}

// mpls is "mpls" and "mpls N". What follows is about what is inside.
func (g *gen) mpls(label token) cond {
	var c cond
	switch {
	case g.labels > 0:
		c = g.bottomOfStack(0)
	case g.link == linkCHDLC || g.link == linkEthernet:
		c = g.linkProto(etMPLS)
	case g.link == linkPPP:
		c = g.linkProto(0x281)
	default:
		return g.notOn("mpls")
	}
	if label.kind == tNum {
		if !g.atMost("MPLS label", label.val, 0xfffff) {
			return g.never()
		}
		c = and(c, g.masked(atNet, 0, sizeW, label.val<<12, 0xfffff000))
	}
	g.net += labelLen
	g.netNoSNAP += labelLen
	g.labels++
	return c
}

// bottomOfStack is true after the last MPLS label if bit is 1, between two if it
// is 0.
func (g *gen) bottomOfStack(bit uint32) cond { return g.masked(atLabel, 2, sizeB, bit, 1) }

// mplsProto is linkProto inside MPLS, which doesn't tell.
func (g *gen) mplsProto(p uint32) cond {
	v := uint32(4)
	switch p {
	case etIP:
	case etIPv6:
		v = 6
	default:
		return g.fail("only ip and ip6 can be told apart inside mpls")
	}
	c := g.bottomOfStack(1)
	return and(c, g.ipVersion(atNet, v))
}

// pppoe is "pppoes" and "pppoes N". What follows is about what is inside.
func (g *gen) pppoe(session token) cond {
	c := g.linkProto(etPPPoES)
	if session.kind == tNum {
		if !g.atMost("PPPoE session", session.val, 0xffff) {
			return g.never()
		}
		c = and(c, g.equal(atNet, 2, sizeH, session.val))
	}
	hdr := g.linkPl
	hdr.fixed += g.net + 6
	g.push(linkPPP, hdr)
	g.linkType = g.linkHdr
	g.linkPl.fixed = g.linkHdr.fixed + 2
	g.net, g.netNoSNAP = 0, 0
	return c
}

// push enters a link-layer header inside a packet.
func (g *gen) push(link int, hdr offset) {
	g.prevLink, g.prevLinkHdr = g.link, g.linkHdr
	g.link, g.linkHdr = link, hdr
	g.noLinkType = false
	g.encap = false
}

// tunnel is "geneve" or "vxlan", with or without a network's number. What
// follows is about what is inside.
func (g *gen) tunnel(kind string, vni token) cond {
	if vni.kind == tNum && !g.atMost(kind+" network", vni.val, 0xffffff) {
		return g.never()
	}
	// After either, A is the length of the IP header plus the variable part of
	// the offset before it.
	v4 := and(g.tunnelHeader(kind, atTran4, vni),
		g.testX(jmpEq, append(g.ipHeaderLength(), g.op(miscTxa, 0))))
	v6 := g.tunnelHeader(kind, atTran6, vni)
	body := g.varying(&g.linkPl)
	if body != nil {
		body = append(body, g.op(opLd|modeImm, ip6HeaderLen), g.op(opAlu|aluAdd|srcX, 0))
	} else {
		body = []*instr{g.op(opLd|modeImm, ip6HeaderLen)}
	}
	v6 = and(v6, g.testX(jmpEq, append(body, g.op(miscTax, 0))))
	var offsets []*instr
	if kind == "geneve" {
		offsets = g.geneveOffsets()
	} else {
		offsets = g.vxlanOffsets()
	}
	g.encap = true
	return and(or(v4, v6), before(offsets, g.always()))
}

// tunnelHeader is true if there is a header of the tunnel's kind after UDP.
func (g *gen) tunnelHeader(kind string, at base, vni token) cond {
	ports, port := g.ports4, uint32(6081)
	if at == atTran6 {
		ports = g.ports6
	}
	if kind == "vxlan" {
		port = 4789
	}
	c := ports(portRange{port, port, true}, dDst, ipUDP)
	if kind == "geneve" {
		c = and(c, g.masked(at, 8, sizeB, 0, 0xc0)) // version
	} else {
		c = and(c, g.equal(at, 8, sizeB, 8)) // flags
	}
	if vni.kind == tNum {
		c = and(c, g.masked(at, 12, sizeW, vni.val<<8, 0xffffff00))
	}
	return c
}

// enterTunnel sets the offsets for the Ethernet header in a tunnel, and returns
// the registers that hold them.
func (g *gen) enterTunnel() (linkType, hdr, payload uint32) {
	g.linkType = offset{variable: true, reg: g.keepReg()}
	g.push(linkEthernet, offset{variable: true, reg: g.keepReg()})
	g.linkPl = offset{variable: true, reg: g.keepReg()}
	g.net = 0
	return uint32(g.linkType.reg), uint32(g.linkHdr.reg), uint32(g.linkPl.reg)
}

// vxlanOffsets works out where the headers inside are, from A (see tunnel).
func (g *gen) vxlanOffsets() []*instr {
	body := []*instr{
		g.op(opAlu|aluAdd|srcK, g.linkPl.fixed+g.net+8),
		g.op(opAlu|aluAdd|srcK, 8),
	}
	linkType, hdr, payload := g.enterTunnel()
	return append(body,
		g.op(opSt, hdr),
		g.op(opAlu|aluAdd|srcK, 12),
		g.op(opSt, linkType),
		g.op(opAlu|aluAdd|srcK, 2),
		g.op(miscTax, 0),
		g.op(opStx, payload))
}

// geneveOffsets is the same for Geneve, which has options of varying length and
// may hold a network packet without an Ethernet header. The protocol's number is
// then in Geneve's own header.
func (g *gen) geneveOffsets() []*instr {
	g.hasLocalJumps = true
	at := g.linkPl.fixed + g.net + 8
	linkType, hdr, payload := g.enterTunnel()
	isEther := g.op(opJmp|jmpEq|srcK, etTEB)
	inside := g.op(miscTxa, 0)
	done := g.op(opStx, payload)
	isEther.jt, isEther.jf = inside, done
	return []*instr{
		g.op(opAlu|aluAdd|srcK, at),
		g.op(miscTax, 0),
		g.op(opAlu|aluAdd|srcK, 2),
		g.op(opSt, linkType),
		g.op(opLd|modeInd|sizeB, 0),
		g.op(opAlu|aluAnd|srcK, 0x3f),
		g.op(opAlu|aluMul|srcK, 4),
		g.op(opAlu|aluAdd|srcK, 8),
		g.op(opAlu|aluAdd|srcX, 0),
		g.op(opSt, hdr),
		g.op(opLd|modeInd|sizeH, 2),
		g.op(opLdx|modeMem, hdr),
		isEther,
		inside,
		g.op(opAlu|aluAdd|srcK, 12),
		g.op(opSt, linkType),
		g.op(opAlu|aluAdd|srcK, 2),
		g.op(miscTax, 0),
		done,
	}
}

// hasInnerMAC is true if there is an Ethernet header in the tunnel.
func (g *gen) hasInnerMAC() cond {
	return not(g.testX(jmpEq, []*instr{
		g.op(opLd|modeMem, uint32(g.linkHdr.reg)),
		g.op(opLdx|modeMem, uint32(g.linkPl.reg)),
	}))
}

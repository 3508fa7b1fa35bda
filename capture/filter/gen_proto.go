package filter

import "strings"

// cutRange cuts "a-b".
func cutRange(text string) (first, last, wrong string) {
	first, last, ok := strings.Cut(text, "-")
	switch {
	case !ok:
		return "", "", "has no \"-\""
	case strings.Contains(last, "-"):
		return "", "", "has more than one \"-\""
	case first == "" || last == "":
		return "", "", "has only one end"
	}
	return first, last, ""
}

// ipProtos are the protocols in IPv4 and IPv6, and their numbers.
var ipProtos = map[proto]uint32{
	pSCTP: ipSCTP, pTCP: ipTCP, pUDP: ipUDP, pAH: ipAH, pESP: ipESP, pPIM: ipPIM,
	pICMP: ipICMP, pIGMP: ipIGMP, pIGRP: ipIGRP, pVRRP: ipVRRP, pCARP: ipVRRP,
	pICMPv6: ipICMPv6,
}

// linkProtos are the protocols in the link layer.
var linkProtos = map[proto]uint32{
	pIP: etIP, pARP: etARP, pRARP: etRARP, pATalk: etATalk, pAARP: etAARP, pDECnet: etDECnet,
	pSCA: etSCA, pLAT: etLAT, pMOPDL: etMOPDL, pMOPRC: etMOPRC, pIPv6: etIPv6,
	pISO: llcISO, pSTP: llcSTP, pIPX: llcIPX, pNetBEUI: llcNetBEUI,
}

// isoProtos are the protocols in ISO's network layer.
var isoProtos = map[proto]uint32{pESIS: 0x82, pISIS: 0x83, pCLNP: 0x81}

// isisTypes are the types of IS-IS packets that a name stands for.
var isisTypes = map[proto][]uint32{
	pL1:   {26, 24, 18, 15, 17},
	pL2:   {27, 25, 20, 16, 17},
	pIIH:  {17, 15, 16},
	pLSP:  {18, 20},
	pSNP:  {27, 26, 24, 25},
	pCSNP: {24, 25},
	pPSNP: {26, 27},
}

// abbreviation is a protocol's name that stands alone.
func (g *gen) abbreviation(p proto) cond {
	if v, ok := linkProtos[p]; ok {
		return g.linkProto(v)
	}
	if v, ok := ipProtos[p]; ok {
		in := pDefault
		switch p {
		case pICMP, pIGMP, pIGRP, pVRRP, pCARP:
			in = pIP
		case pICMPv6:
			in = pIPv6
		}
		return g.protoNumber(v, in)
	}
	if v, ok := isoProtos[p]; ok {
		return g.protoNumber(v, pISO)
	}
	if types, ok := isisTypes[p]; ok {
		var c cond
		for _, t := range types {
			c = or(c, g.protoNumber(t, pISIS))
		}
		return c
	}
	return g.fail("%s can't stand alone", quoted(p.String()))
}

// protoByName looks a protocol's number up where the protocol around it has its
// numbers.
func (g *gen) protoByName(name string, in proto) (uint32, bool) {
	switch in {
	case pDefault, pIP, pIPv6:
		return g.names.protocol(name)
	case pLink:
		if v, ok := etherNames[name]; ok {
			return v, true
		}
		v, ok := llcNames[name]
		return v, ok
	case pISO:
		v, ok := map[string]uint32{"esis": 0x82, "isis": 0x83, "clnp": 0x81}[name]
		return v, ok
	}
	return 0, false
}

var etherNames = map[string]uint32{
	"aarp": etAARP, "arp": etARP, "atalk": etATalk, "decnet": etDECnet, "ip": etIP, "ip6": etIPv6,
	"lat": etLAT, "lldp": 0x88cc, "loopback": 0x9000, "mopdl": etMOPDL, "moprc": etMOPRC,
	"rarp": etRARP, "sca": etSCA, "slow": 0x8809,
}

var llcNames = map[string]uint32{"iso": llcISO, "stp": llcSTP, "ipx": llcIPX, "netbeui": llcNetBEUI}

// protoNumber is true for packets whose header of protocol in says that the
// next one is v.
func (g *gen) protoNumber(v uint32, in proto) cond {
	if in != pLink && in != pISIS && !g.atMost("protocol number", v, 0xff) {
		return g.never()
	}
	switch in {
	case pDefault:
		c := g.protoNumber(v, pIP)
		return or(c, g.protoNumber(v, pIPv6))
	case pLink:
		return g.linkProto(v)
	case pIP:
		c := g.linkProto(etIP)
		return and(c, g.equal(atNet, 9, sizeB, v))
	case pIPv6:
		c := g.linkProto(etIPv6)
		// A fragment header may come first.
		inFragment := and(g.equal(atNet, 6, sizeB, ipFragment), g.equal(atNet, ip6HeaderLen, sizeB, v))
		return and(c, or(g.equal(atNet, 6, sizeB, v), inFragment))
	case pISO:
		if g.link == linkCHDLC {
			c := g.linkProto(llcISO<<8 | llcISO)
			return and(c, g.equal(atNetNoSNAP, 1, sizeB, v))
		}
		c := g.linkProto(llcISO)
		return and(c, g.equal(atNetNoSNAP, 0, sizeB, v))
	case pISIS:
		if !g.atMost("IS-IS packet type", v, 0x1f) {
			return g.never()
		}
		off := uint32(4)
		if g.link == linkCHDLC {
			off = 5
		}
		c := g.protoNumber(isoProtos[pISIS], pISO)
		return and(c, g.equal(atNetNoSNAP, off, sizeB, v))
	}
	return g.noSuch(in.String(), "proto")
}

// protoChain is true if there is a header of protocol v in the chain that starts
// in a header of protocol in. It is a loop, which no kernel takes.
func (g *gen) protoChain(v uint32, in proto) cond {
	if g.Target != File {
		return g.fail("protochain is a loop, which the kernel refuses: it can be used on files only")
	}
	switch in {
	case pDefault:
		c := g.protoChain(v, pIP)
		return or(c, g.protoChain(v, pIPv6))
	case pIP, pIPv6:
	default:
		return g.noSuch(in.String(), "protochain")
	}
	if !g.atMost("protocol number", v, 0xff) {
		return g.never()
	}
	if g.linkPl.variable {
		return g.fail("protochain does not go with headers of varying length")
	}
	g.hasLocalJumps = true
	reg := g.newReg()
	defer g.freeReg(reg)

	op := g.op
	jump := func(k uint32) *instr { return op(opJmp|jmpEq|srcK, k) }
	goTo := func(to *instr) *instr {
		in := op(opJmp|jmpAlways, 0)
		in.jt = to
		return in
	}
	at := g.linkPl.fixed + g.net // X counts from the network header
	again, isNone, isAH := jump(v), jump(ipNone), jump(ipAH)
	end := op(opAlu|aluAdd|srcK, 0) // does nothing: a place to jump to

	var c cond
	var body []*instr
	if in == pIP {
		c = g.linkProto(etIP)
		body = append(g.load(atNet, 9, sizeB), g.ipHeaderLength()...)
	} else {
		c = g.linkProto(etIPv6)
		body = append(g.load(atNet, 6, sizeB), op(opLdx|modeImm, ip6HeaderLen))
	}
	again.jt, again.jf = end, isNone
	isNone.jt, isNone.jf = end, isAH
	body = append(body, again, isNone)
	if in == pIPv6 {
		// A = next header; X += (length + 1) * 8
		step := op(opLd|modeInd|sizeB, at)
		last := isNone
		for _, p := range []uint32{ipHopOpts, ipDstOpts, ipRouting, ipFragment} {
			is := jump(p)
			is.jt, is.jf = step, isAH
			last.jf, last = is, is
			body = append(body, is)
		}
		body = append(body, step,
			op(opSt, uint32(reg)),
			op(opLd|modeInd|sizeB, at+1),
			op(opAlu|aluAdd|srcK, 1),
			op(opAlu|aluMul|srcK, 8),
			op(opAlu|aluAdd|srcX, 0),
			op(miscTax, 0),
			op(opLd|modeMem, uint32(reg)),
			goTo(again))
	}
	// A = next header; X = (length + 2) * 4, as libpcap has it
	ahStep := op(opLd|modeInd|sizeB, at)
	isAH.jt, isAH.jf = ahStep, end
	body = append(body, isAH, ahStep,
		op(opSt, uint32(reg)),
		op(miscTxa, 0),
		op(opAlu|aluAdd|srcK, 1),
		op(miscTax, 0),
		op(opLd|modeInd|sizeB, at),
		op(opAlu|aluAdd|srcK, 2),
		op(opAlu|aluMul|srcK, 4),
		op(miscTax, 0),
		op(opLd|modeMem, uint32(reg)),
		goTo(again),
		end)
	return and(c, g.test(jmpEq, v, body))
}

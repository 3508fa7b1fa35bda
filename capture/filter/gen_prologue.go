package filter

// prologue returns what the first block must do before anything else: work out
// the lengths of the headers whose length varies, into the registers that loads
// use. If nothing uses one there is nothing to do.
func (g *gen) prologue(entry *block) []*instr {
	if g.linkPl.reg >= 0 && g.linkHdr.variable && g.linkHdr.reg < 0 {
		g.linkHdr.reg = g.keepReg()
	}
	link := g.LinkType
	var body []*instr
	if g.linkHdr.reg >= 0 {
		switch link {
		case linkPrism:
			body = g.prismLength()
		case linkAVS:
			body = []*instr{g.op(opLd|modeAbs|sizeW, 4)}
		case linkRadiotap, linkPPI:
			body = []*instr{ // little-endian
				g.op(opLd|modeAbs|sizeB, 3),
				g.op(opAlu|aluLsh|srcK, 8),
				g.op(miscTax, 0),
				g.op(opLd|modeAbs|sizeB, 2),
				g.op(opAlu|aluOr|srcX, 0),
			}
		}
		if body != nil {
			body = append(body, g.op(opSt, uint32(g.linkHdr.reg)), g.op(miscTax, 0))
		}
	}
	if isWLAN(link) && g.linkPl.reg >= 0 {
		next := &entry.test
		if len(entry.body) > 0 {
			next = entry.body[0]
		}
		body = g.wlanLength(body, next)
	}
	if body == nil && g.vlanVaries {
		body = []*instr{
			g.op(opLd|modeImm, 0),
			g.op(opSt, uint32(g.linkPl.reg)),
			g.op(opSt, uint32(g.linkType.reg)),
		}
	}
	return body
}

// prismLength brings the length of a Prism header, or of an AVS header that some
// drivers give in its place, into A.
func (g *gen) prismLength() []*instr {
	g.hasLocalJumps = true
	isAVS := g.op(opJmp|jmpEq|srcK, 0x80211000)
	avs, prism := g.op(opLd|modeAbs|sizeW, 4), g.op(opLd|modeImm, 144)
	over, done := g.op(opJmp|jmpAlways, 0), g.op(opAlu|aluAdd|srcK, 0)
	isAVS.jt, isAVS.jf, over.jt = avs, prism, done
	return []*instr{
		g.op(opLd|modeAbs|sizeW, 0),
		g.op(opAlu|aluAnd|srcK, 0xfffff000),
		isAVS, avs, over, prism, done,
	}
}

// wlanLength works out where the payload of an 802.11 frame starts: 24 octets
// after the header's start, 26 in data frames with QoS, and rounded up to four
// if a radiotap header says so. body leaves the header's start in X; nil means
// that it is 0.
func (g *gen) wlanLength(body []*instr, next *instr) []*instr {
	g.hasLocalJumps = true
	reg := uint32(g.linkPl.reg)
	if body == nil {
		body = []*instr{g.op(opLdx|modeImm, g.outerHdr.fixed)}
	}
	set := func(bits uint32) *instr { return g.op(opJmp|jmpSet|srcK, bits) }
	isData, isCtl, isQoS := set(frameData), set(frameCtl), set(frameQoS)
	addQoS := g.op(opLd|modeMem, reg)
	isData.jt, isData.jf = isCtl, next
	isCtl.jt, isCtl.jf = next, isQoS
	isQoS.jt, isQoS.jf = addQoS, next
	body = append(body,
		g.op(miscTxa, 0),
		g.op(opAlu|aluAdd|srcK, 24),
		g.op(opSt, reg),
		g.op(opLd|modeInd|sizeB, 0),
		isData, isCtl, isQoS,
		addQoS,
		g.op(opAlu|aluAdd|srcK, 2),
		g.op(opSt, reg))
	if g.link != linkRadiotap {
		return body
	}
	// The header has the flags if the first word of its presence bits says so;
	// after a second such word they are somewhere else. The time, if there is
	// one, comes before them.
	present := g.op(opLd|modeAbs|sizeW, 4)
	hasFlags, hasMore, hasTime := set(2<<24), set(0x80), set(1<<24)
	flags16, flags8 := g.op(opLd|modeAbs|sizeB, 16), g.op(opLd|modeAbs|sizeB, 8)
	padded16, padded8 := set(0x20), set(0x20)
	round := g.op(opLd|modeMem, reg)
	isQoS.jf = present
	hasFlags.jt, hasFlags.jf = hasMore, next
	hasMore.jt, hasMore.jf = next, hasTime
	hasTime.jt, hasTime.jf = flags16, flags8
	padded16.jt, padded16.jf = round, next
	padded8.jt, padded8.jf = round, next
	return append(body,
		present, hasFlags, hasMore, hasTime,
		flags16, padded16, flags8, padded8,
		round,
		g.op(opAlu|aluAdd|srcK, 3),
		g.op(opAlu|aluAnd|srcK, 0xfffffffc),
		g.op(opSt, reg))
}

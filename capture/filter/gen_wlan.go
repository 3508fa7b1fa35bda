package filter

// Bits of the first two octets of an 802.11 header.
const (
	frameTypeMask    = 0x0c
	frameSubtypeMask = 0xf0
	frameMgt         = 0x00
	frameCtl         = 0x04
	frameData        = 0x08
	frameQoS         = 0x80
	frameCTS         = 0xc0
	frameACK         = 0xd0
	frameToDS        = 0x01
	frameFromDS      = 0x02
	frameDirMask     = 0x03
)

// frameTypes are the names of the frame types.
var frameTypes = map[string]uint32{
	"mgt": frameMgt, "management": frameMgt, "ctl": frameCtl, "control": frameCtl, "data": frameData,
}

// frameSubtypes are the names of the subtypes of each type.
var frameSubtypes = map[uint32]map[string]uint32{
	frameMgt: {
		"assocreq": 0x00, "assoc-req": 0x00, "assocresp": 0x10, "assoc-resp": 0x10,
		"reassocreq": 0x20, "reassoc-req": 0x20, "reassocresp": 0x30, "reassoc-resp": 0x30,
		"probereq": 0x40, "probe-req": 0x40, "proberesp": 0x50, "probe-resp": 0x50,
		"beacon": 0x80, "atim": 0x90, "disassoc": 0xa0, "disassociation": 0xa0,
		"auth": 0xb0, "authentication": 0xb0, "deauth": 0xc0, "deauthentication": 0xc0,
	},
	frameCtl: {
		"bar": 0x80, "ba": 0x90, "ps-poll": 0xa0, "rts": 0xb0, "cts": 0xc0, "ack": 0xd0,
		"cf-end": 0xe0, "cf-end-ack": 0xf0,
	},
	frameData: {
		"data": 0x00, "data-cf-ack": 0x10, "data-cf-poll": 0x20, "data-cf-ack-poll": 0x30,
		"null": 0x40, "cf-ack": 0x50, "cf-poll": 0x60, "cf-ack-poll": 0x70,
		"qos-data": 0x80, "qos-data-cf-ack": 0x90, "qos-data-cf-poll": 0xa0, "qos-data-cf-ack-poll": 0xb0,
		"qos": 0xc0, "qos-cf-poll": 0xe0, "qos-cf-ack-poll": 0xf0,
	},
}

// bit is true if one of some bits of an octet of the header is set.
func (g *gen) bit(off, bits uint32) cond { return g.anyBit(atLink, off, sizeB, bits) }

// wlanHost is true for frames with a MAC address in the place that d says.
func (g *gen) wlanHost(mac [6]byte, d direction) cond {
	at := func(off uint32) cond { return g.bytes(atLink, off, mac[:]) }
	isCtl := func() cond { return g.masked(atLink, 0, sizeB, frameCtl, frameTypeMask) }
	hasAddr2 := func() cond {
		c := not(isCtl())
		cts := g.masked(atLink, 0, sizeB, frameCTS, frameSubtypeMask)
		ack := g.masked(atLink, 0, sizeB, frameACK, frameSubtypeMask)
		return or(c, and(not(cts), not(ack)))
	}
	switch d {
	case dAddr1:
		return at(4)
	case dAddr2:
		return and(hasAddr2(), at(10))
	case dAddr3:
		return and(not(isCtl()), at(16))
	case dAddr4:
		both := g.masked(atLink, 1, sizeB, frameDirMask, frameDirMask)
		return and(both, at(24))
	case dRA:
		return and(g.bit(0, frameData), at(4))
	case dTA:
		c := and(g.bit(0, frameData), hasAddr2())
		return and(c, at(10))
	}
	return either(d, func(d direction) cond {
		if d == dDst {
			return g.wlanDst(at)
		}
		return g.wlanSrc(at)
	})
}

// wlanDst applies a test to the destination address: the first in management
// frames, the third in data frames to a distribution system, the first in other
// data frames; control frames have none.
func (g *gen) wlanDst(at func(off uint32) cond) cond {
	toDS := and(g.bit(1, frameToDS), at(16))
	direct := and(not(g.bit(1, frameToDS)), at(4))
	data := and(g.bit(0, frameData), or(direct, toDS))
	mgt := and(not(g.bit(0, frameData)), at(4))
	return and(not(g.bit(0, frameCtl)), or(mgt, data))
}

// wlanSrc applies a test to the source address: the second, or in data frames
// from a distribution system the third, or the fourth if also to one.
func (g *gen) wlanSrc(at func(off uint32) cond) cond {
	relayed := and(g.bit(1, frameToDS), at(24))
	fromDS := or(and(not(g.bit(1, frameToDS)), at(16)), relayed)
	fromDS = and(g.bit(1, frameFromDS), fromDS)
	direct := and(not(g.bit(1, frameFromDS)), at(10))
	data := and(g.bit(0, frameData), or(direct, fromDS))
	mgt := and(not(g.bit(0, frameData)), at(10))
	return and(not(g.bit(0, frameCtl)), or(mgt, data))
}

// frameType is "type T", "type T subtype S" and "subtype S".
func (g *gen) frameType(s *special) cond {
	if !isWLAN(g.link) {
		return g.notOn(s.word)
	}
	if s.word == "subtype" {
		name := lower(s.arg.text)
		for _, t := range []uint32{frameMgt, frameCtl, frameData} {
			if sub, ok := frameSubtypes[t][name]; ok {
				return g.masked(atLink, 0, sizeB, t|sub, frameTypeMask|frameSubtypeMask)
			}
		}
		return g.failAt(s.arg.pos, "unknown 802.11 subtype %s", quoted(s.arg.text))
	}
	t, ok := s.arg.val, s.arg.val&^uint32(frameTypeMask) == 0
	if s.arg.kind == tID {
		t, ok = frameTypes[lower(s.arg.text)]
	}
	if !ok {
		return g.failAt(s.arg.pos, "unknown 802.11 type %s", quoted(s.arg.text))
	}
	if s.arg2.kind == tEOF {
		return g.masked(atLink, 0, sizeB, t, frameTypeMask)
	}
	sub, ok := s.arg2.val, s.arg2.val&^uint32(frameSubtypeMask) == 0
	if s.arg2.kind == tID {
		sub, ok = frameSubtypes[t][lower(s.arg2.text)]
	}
	if !ok {
		return g.failAt(s.arg2.pos, "unknown 802.11 subtype %s", quoted(s.arg2.text))
	}
	return g.masked(atLink, 0, sizeB, t|sub, frameTypeMask|frameSubtypeMask)
}

// frameDir is "dir D".
func (g *gen) frameDir(s *special) cond {
	if !isWLAN(g.link) {
		return g.notOn("dir")
	}
	d, ok := s.arg.val, s.arg.val&^uint32(frameDirMask) == 0
	if s.arg.kind == tID {
		d, ok = map[string]uint32{
			"nods": 0, "tods": frameToDS, "fromds": frameFromDS, "dstods": frameDirMask,
		}[lower(s.arg.text)]
	}
	if !ok {
		return g.failAt(s.arg.pos, "unknown 802.11 direction %s", quoted(s.arg.text))
	}
	return g.masked(atLink, 1, sizeB, d, frameDirMask)
}

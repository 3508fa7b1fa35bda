package flow

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"net/netip"

	"capagent/enrich/frame"
)

// key is a flow without its direction: the lower end first.
type key struct {
	low, high         frame.Addr
	lowPort, highPort uint16
	proto             uint8
}

// keyOf returns the key of a packet, and whether its source is the lower end.
func keyOf(src, dst frame.Addr, srcPort, dstPort uint16, proto uint8) (key, bool) {
	switch c := bytes.Compare(src[:], dst[:]); {
	case c < 0, c == 0 && srcPort <= dstPort:
		return key{src, dst, srcPort, dstPort, proto}, true
	default:
		return key{dst, src, dstPort, srcPort, proto}, false
	}
}

// icmpPairs are the message types that answer each other, as Community ID has
// them (github.com/corelight/community-id-spec).
var (
	icmpPairs   = map[uint8]uint8{8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 10: 9, 9: 10, 17: 18, 18: 17}
	icmpv6Pairs = map[uint8]uint8{128: 129, 129: 128, 133: 134, 134: 133, 135: 136, 136: 135, 130: 131, 131: 130, 144: 145, 145: 144, 139: 140, 140: 139}
)

// ICMPPorts returns what stands for the ports of an ICMP message, so that a
// request and its answer are one flow.
func ICMPPorts(proto, kind, code uint8) (src, dst uint16) {
	pairs := icmpPairs
	if proto == frame.ICMPv6 {
		pairs = icmpv6Pairs
	}
	if answer, ok := pairs[kind]; ok {
		return uint16(kind), uint16(answer)
	}
	return uint16(kind), uint16(code)
}

func paired(pairs map[uint8]uint8, kind, answer uint16) bool {
	found, ok := pairs[uint8(kind)]
	return ok && uint16(found) == answer
}

// CommunityID returns the Community ID, version 1 with seed 0, of a flow. For
// ICMP the ports are those of ICMPPorts.
func CommunityID(src, dst netip.AddrPort, proto uint8) string {
	srcPort, dstPort := src.Port(), dst.Port()
	oneWay := proto == frame.ICMP && !paired(icmpPairs, srcPort, dstPort) || proto == frame.ICMPv6 && !paired(icmpv6Pairs, srcPort, dstPort)
	a, b := src.Addr().AsSlice(), dst.Addr().AsSlice()
	if c := bytes.Compare(a, b); !oneWay && (c > 0 || c == 0 && srcPort > dstPort) {
		a, b, srcPort, dstPort = b, a, dstPort, srcPort
	}
	h := sha1.New()
	h.Write([]byte{0, 0})
	h.Write(a)
	h.Write(b)
	h.Write([]byte{proto, 0})
	switch proto {
	case frame.TCP, frame.UDP, frame.ICMP, frame.ICMPv6, 132:
		var ports [4]byte
		binary.BigEndian.PutUint16(ports[:], srcPort)
		binary.BigEndian.PutUint16(ports[2:], dstPort)
		h.Write(ports[:])
	}
	return "1:" + base64.StdEncoding.EncodeToString(h.Sum(nil))
}

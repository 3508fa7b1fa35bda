// Package neighbour learns which hardware address has which IP address, from what
// machines of one link tell each other: ARP and IPv6 neighbour discovery.
package neighbour

import (
	"net/netip"

	"capagent/enrich/indicator"
)

// ARP looks at a packet of EtherType 0x0806: the sender of a request or reply says
// who it is. A probe (RFC 5227, 2.1.1) has no address yet.
func ARP(set *indicator.Set, packet []byte, at indicator.At) {
	const ethernetIPv4 = "\x00\x01\x08\x00\x06\x04" // types and lengths (RFC 826)
	if len(packet) < 18 || string(packet[:6]) != ethernetIPv4 || packet[6] != 0 || packet[7] < 1 || packet[7] > 2 {
		return
	}
	set.Binding([6]byte(packet[8:]), netip.AddrFrom4([4]byte(packet[14:])), indicator.ARP, nil, at)
}

// Messages and options of RFC 4861.
const (
	routerSolicitation     = 133
	routerAdvertisement    = 134
	neighbourSolicitation  = 135
	neighbourAdvertisement = 136

	optSource = 1
	optTarget = 2
)

// ND looks at an ICMPv6 message, from its type on, that src sent. Other messages
// than those of neighbour discovery tell nothing.
func ND(set *indicator.Set, src netip.Addr, message []byte, at indicator.At) {
	if len(message) < 8 || message[1] != 0 {
		return
	}
	ip, options, want := src, 0, byte(optSource)
	switch message[0] {
	case routerSolicitation:
		options = 8
	case routerAdvertisement:
		options = 16
	case neighbourSolicitation:
		options = 24
	case neighbourAdvertisement:
		if len(message) < 24 {
			return
		}
		ip, options, want = netip.AddrFrom16([16]byte(message[8:])), 24, optTarget
	default:
		return
	}
	if len(message) < options || ip.IsMulticast() {
		return
	}
	// Lengths are in units of eight bytes, 0 is an error (RFC 4861, 4.6).
	for b := message[options:]; len(b) >= 8 && b[1] != 0 && len(b) >= 8*int(b[1]); b = b[8*int(b[1]):] {
		if b[0] == want && b[1] == 1 {
			set.Binding([6]byte(b[2:]), ip, indicator.ND, nil, at)
			return
		}
	}
}

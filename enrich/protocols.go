package enrich

import (
	"capagent/enrich/dhcp"
	"capagent/enrich/dns"
	"capagent/enrich/flow"
	"capagent/enrich/frame"
	"capagent/enrich/indicator"
	"capagent/enrich/neighbour"
	"capagent/enrich/stream"
)

// protocols are the parsers, and how each is chosen: what runs over TCP by its
// first bytes, DNS and what runs over UDP by its port.
type protocols struct {
	set     *indicator.Set
	dhcp    *dhcp.Tracker
	current string // the parser that looks at a datagram now, for the count of its faults
}

func newProtocols(set *indicator.Set) protocols {
	return protocols{set: set, dhcp: dhcp.New(set)}
}

// The ports of what is not recognised by its content (IANA).
const (
	portDNS     = 53
	portDHCPv4  = 67
	portDHCPv4c = 68
	portNetBIOS = 137
	portDHCPv6c = 546
	portDHCPv6  = 547
	portMDNS    = 5353
	portLLMNR   = 5355
)

// open finds the parser of a TCP connection (flow.Opener).
func (p *protocols) open(c stream.Conn, from stream.Side, first []byte) (stream.Parser, string) {
	switch port := c.Server.Port(); {
	case port == portDNS || c.Client.Port() == portDNS:
		return dns.NewTCP(p.set), "dns"
	}
	return nil, ""
}

// datagram looks into a UDP datagram. f is nil for one that an ICMP error quotes.
func (p *protocols) datagram(f *flow.Flow, d *frame.Datagram, at indicator.At) {
	b := d.Payload
	src, dst := be16(b), be16(b[2:])
	b = b[8:min(len(b), max(int(be16(b[4:])), 8))]
	if be16(d.Payload[4:]) == 0 { // a jumbogram, or left to the network card
		b = d.Payload[8:]
	}
	if len(b) == 0 {
		return
	}
	p.current = p.known(b, src, dst, at)
	if f != nil && p.current != "" {
		f.Named(p.current)
	}
}

// known looks into what is told by its port, and returns its name.
func (p *protocols) known(b []byte, src, dst uint16, at indicator.At) string {
	either := func(port uint16) bool { return src == port || dst == port }
	switch {
	case either(portDNS):
		p.current = "dns"
		dns.Message(p.set, b, dns.Unicast, at)
	case either(portMDNS):
		p.current = "mdns"
		dns.Message(p.set, b, dns.MDNS, at)
	case either(portLLMNR):
		p.current = "llmnr"
		dns.Message(p.set, b, dns.LLMNR, at)
	case either(portNetBIOS):
		p.current = "netbios"
		dns.Message(p.set, b, dns.NetBIOS, at)
	case either(portDHCPv4), either(portDHCPv4c):
		p.current = "dhcp"
		p.dhcp.V4(b, at)
	case either(portDHCPv6), either(portDHCPv6c):
		p.current = "dhcpv6"
		p.dhcp.V6(b, at)
	default:
		return ""
	}
	return p.current
}

func (p *protocols) icmpv6(d *frame.Datagram, at indicator.At) {
	p.current = "nd"
	neighbour.ND(p.set, d.Src.IP(), d.Payload, at)
}

func (p *protocols) arp(packet []byte, at indicator.At) {
	p.current = "arp"
	neighbour.ARP(p.set, packet, at)
}

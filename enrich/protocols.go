package enrich

import (
	"net/netip"

	"capagent/enrich/dhcp"
	"capagent/enrich/dns"
	"capagent/enrich/flow"
	"capagent/enrich/frame"
	"capagent/enrich/ftp"
	"capagent/enrich/http"
	"capagent/enrich/indicator"
	"capagent/enrich/mail"
	"capagent/enrich/neighbour"
	"capagent/enrich/quic"
	"capagent/enrich/stream"
	"capagent/enrich/tls"
)

// protocols are the parsers, and how each is chosen: what runs over TCP by its
// first bytes, DNS and what runs over UDP by its port.
type protocols struct {
	set     *indicator.Set
	dhcp    *dhcp.Tracker
	quic    quic.Tracker
	dtls    tls.Datagrams
	data    map[netip.AddrPort]*ftp.Transfer // connections that FTP has announced, by who listens
	current string                           // the parser that looks at a datagram now, for the count of its faults
}

func newProtocols(set *indicator.Set) protocols {
	return protocols{set: set, dhcp: dhcp.New(set), data: map[netip.AddrPort]*ftp.Transfer{}}
}

// maxTransfers bounds the data connections that FTP has announced and that did not
// come yet.
const maxTransfers = 1000

// LimitTransfers counts announcements that were forgotten.
const LimitTransfers indicator.Limit = "ftp_transfers"

// The ports of what is not recognised by its content (IANA).
const (
	portFTP     = 21
	portSMTP    = 25
	portDNS     = 53
	portDHCPv4  = 67
	portDHCPv4c = 68
	portNetBIOS = 137
	portSMTPS   = 465
	portDHCPv6c = 546
	portDHCPv6  = 547
	portSubmit  = 587
	portSSDP    = 1900
	portSMTP2   = 2525
	portMDNS    = 5353
	portLLMNR   = 5355
)

// open finds the parser of a TCP connection (flow.Opener).
func (p *protocols) open(c stream.Conn, from stream.Side, first []byte) (stream.Parser, string) {
	for _, end := range []netip.AddrPort{c.Server, c.Client} {
		if t := p.data[end]; t != nil {
			delete(p.data, end)
			return ftp.Data(p.set, t), "ftp-data"
		}
	}
	if parser, name := p.recognise(c, from, first); parser != nil {
		return parser, name
	}
	parser, name := p.byPort(c, from, first)
	if parser != nil && c.Middle { // the first bytes are the rest of something
		parser.Gap(stream.Client, 0, indicator.At{})
		parser.Gap(stream.Server, 0, indicator.At{})
	}
	return parser, name
}

// recognise finds the parser of what begins so that it can be nothing else.
func (p *protocols) recognise(c stream.Conn, from stream.Side, first []byte) (stream.Parser, string) {
	switch {
	case http.Recognise(from, first):
		return http.New(p.set, c), "http"
	case tls.Recognise(from, first):
		return tls.New(p.set, c), "tls"
	}
	return nil, ""
}

// byPort finds the parser of what is told by its port, or by its greeting.
func (p *protocols) byPort(c stream.Conn, from stream.Side, first []byte) (stream.Parser, string) {
	switch port := c.Server.Port(); {
	case port == portDNS, port == portMDNS:
		return dns.NewTCP(p.set), "dns"
	case port == portSMTP, port == portSubmit, port == portSMTPS, port == portSMTP2, port != portFTP && mail.Recognise(from, first):
		return mail.New(p.set, c), "smtp"
	case port == portFTP, ftp.Recognise(from, first):
		return ftp.New(p.set, c, p.expect), "ftp"
	}
	return nil, ""
}

// expect waits for a data connection.
func (p *protocols) expect(listening netip.AddrPort, t *ftp.Transfer) {
	if len(p.data) >= maxTransfers {
		p.set.Reached(LimitTransfers)
		clear(p.data)
	}
	p.data[listening] = t
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
	if p.current = p.known(b, src, dst, at); p.current == "" {
		p.current = p.secured(d, b, at)
	}
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
	case either(portSSDP):
		p.current = "ssdp"
		http.Datagram(p.set, b, at)
	case either(portDHCPv4), either(portDHCPv4c):
		p.current = "dhcp"
		p.dhcp.V4(b, at)
	case either(portDHCPv6), either(portDHCPv6c):
		p.current = "dhcpv6"
		p.dhcp.V6(b, at)
	case dns.Plausible(b):
		p.current = "dns"
		dns.Message(p.set, b, dns.Unicast, at)
	default:
		return ""
	}
	return p.current
}

// secured looks into what is encrypted, for what its beginning shows.
func (p *protocols) secured(d *frame.Datagram, b []byte, at indicator.At) string {
	const longHeader, handshake = 0xc0, 22
	if b[0]&longHeader != longHeader && b[0] != handshake {
		return ""
	}
	from := netip.AddrPortFrom(d.Src.IP(), be16(d.Payload))
	to := netip.AddrPortFrom(d.Dst.IP(), be16(d.Payload[2:]))
	if p.current = "quic"; p.quic.Datagram(p.set, from, to, b, at) {
		return p.current
	}
	if p.current = "dtls"; p.dtls.Datagram(p.set, from, to, b, at) {
		return p.current
	}
	return ""
}

// close gives back all memory.
func (p *protocols) close() {
	p.quic.Close(p.set)
	p.dtls.Close(p.set)
}

func (p *protocols) icmpv6(d *frame.Datagram, at indicator.At) {
	p.current = "nd"
	neighbour.ND(p.set, d.Src.IP(), d.Payload, at)
}

func (p *protocols) arp(packet []byte, at indicator.At) {
	p.current = "arp"
	neighbour.ARP(p.set, packet, at)
}

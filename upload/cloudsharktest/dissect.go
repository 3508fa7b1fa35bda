package cloudsharktest

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// dissector tells what a packet is, in one line. It decodes the layers that it
// names and no others: gopacket's decoders of rarer protocols can be made to
// panic or to allocate without bound. What it cannot make sense of stays
// unnamed; it never fails.
type dissector struct {
	eth   layers.Ethernet
	sll   layers.LinuxSLL
	loop  layers.Loopback
	vlan  layers.Dot1Q
	ip4   layers.IPv4
	ip6   layers.IPv6
	ext   layers.IPv6ExtensionSkipper
	arp   layers.ARP
	icmp4 layers.ICMPv4
	icmp6 layers.ICMPv6
	tcp   layers.TCP
	udp   layers.UDP

	parsers map[gopacket.LayerType]*gopacket.DecodingLayerParser
	found   []gopacket.LayerType
}

func newDissector() *dissector {
	d := &dissector{parsers: map[gopacket.LayerType]*gopacket.DecodingLayerParser{}}
	for _, first := range []gopacket.LayerType{
		layers.LayerTypeEthernet, layers.LayerTypeLinuxSLL, layers.LayerTypeLoopback, layers.LayerTypeIPv4, layers.LayerTypeIPv6,
	} {
		p := gopacket.NewDecodingLayerParser(first, &d.eth, &d.sll, &d.loop, &d.vlan, &d.ip4, &d.ip6, &d.ext,
			&d.arp, &d.icmp4, &d.icmp6, &d.tcp, &d.udp)
		p.IgnoreUnsupported = true
		d.parsers[first] = p
	}
	return d
}

// dissect names a packet. Its parser recovers from panics of the decoders.
func (d *dissector) dissect(data []byte, linkType int) (r row) {
	defer func() {
		if recover() != nil {
			r = row{Protocol: "malformed"}
		}
	}()
	first, data := firstLayer(data, linkType)
	if d.parsers[first] == nil {
		return row{Protocol: "other"}
	}
	d.found = d.found[:0]
	err := d.parsers[first].DecodeLayers(data, &d.found)
	for _, layer := range d.found {
		d.describe(layer, &r)
	}
	if r.Protocol == "" {
		r.Protocol = "other"
	}
	if err != nil && r.Info == "" {
		r.Info = "[malformed]"
	}
	r.Info = shorten(r.Info)
	return r
}

// firstLayer says where to begin for a LINKTYPE_ value.
func firstLayer(data []byte, linkType int) (gopacket.LayerType, []byte) {
	switch linkType {
	case 0, 108:
		return layers.LayerTypeLoopback, data
	case 1:
		return layers.LayerTypeEthernet, data
	case 113:
		return layers.LayerTypeLinuxSLL, data
	case 276: // the cooked header's second version: 20 bytes
		if len(data) <= 20 {
			return 0, nil
		}
		data = data[20:]
	case 12, 14, 101, 228, 229:
	default:
		return 0, nil
	}
	if len(data) > 0 && data[0]>>4 == 6 {
		return layers.LayerTypeIPv6, data
	}
	return layers.LayerTypeIPv4, data
}

func (d *dissector) describe(layer gopacket.LayerType, r *row) {
	switch layer {
	case layers.LayerTypeEthernet:
		r.Source, r.Destination = d.eth.SrcMAC.String(), d.eth.DstMAC.String()
		r.Protocol = "Ethernet"
		r.Info = fmt.Sprintf("type 0x%04x", uint16(d.eth.EthernetType))
	case layers.LayerTypeLinuxSLL:
		r.Source, r.Protocol = d.sll.Addr.String(), "cooked"
	case layers.LayerTypeDot1Q:
		r.Protocol, r.Info = "VLAN", fmt.Sprintf("VLAN %d", d.vlan.VLANIdentifier)
	case layers.LayerTypeIPv4:
		r.Source, r.Destination = address(d.ip4.SrcIP), address(d.ip4.DstIP)
		r.Protocol, r.Info = "IPv4", "protocol "+d.ip4.Protocol.String()
		if d.ip4.FragOffset > 0 || d.ip4.Flags&layers.IPv4MoreFragments != 0 {
			r.Info = fmt.Sprintf("fragment at %d", int(d.ip4.FragOffset)*8)
		}
	case layers.LayerTypeIPv6:
		r.Source, r.Destination = address(d.ip6.SrcIP), address(d.ip6.DstIP)
		r.Protocol, r.Info = "IPv6", "next header "+d.ip6.NextHeader.String()
	case layers.LayerTypeARP:
		d.describeARP(r)
	case layers.LayerTypeICMPv4:
		r.Protocol, r.Class, r.Info = "ICMP", "icmp", d.icmp4.TypeCode.String()
		if t := d.icmp4.TypeCode.Type(); t == layers.ICMPv4TypeEchoRequest || t == layers.ICMPv4TypeEchoReply {
			r.Info += fmt.Sprintf(" id=%d seq=%d", d.icmp4.Id, d.icmp4.Seq)
		}
	case layers.LayerTypeICMPv6:
		r.Protocol, r.Class, r.Info = "ICMPv6", "icmp", d.icmp6.TypeCode.String()
	case layers.LayerTypeTCP:
		d.describeTCP(r)
	case layers.LayerTypeUDP:
		r.Protocol, r.Class = "UDP", "udp"
		r.Info = fmt.Sprintf("%d → %d  Len=%d", d.udp.SrcPort, d.udp.DstPort, len(d.udp.Payload))
		if port53(uint16(d.udp.SrcPort), uint16(d.udp.DstPort)) {
			describeDNS(d.udp.Payload, r)
		}
	}
}

func port53(a, b uint16) bool { return a == 53 || b == 53 || a == 5353 || b == 5353 }

func address(ip []byte) string {
	a, ok := netip.AddrFromSlice(ip)
	if !ok {
		return ""
	}
	return a.String()
}

func (d *dissector) describeARP(r *row) {
	r.Protocol, r.Class = "ARP", "arp"
	from, to := address(d.arp.SourceProtAddress), address(d.arp.DstProtAddress)
	switch d.arp.Operation {
	case layers.ARPRequest:
		r.Info = fmt.Sprintf("Who has %s? Tell %s", to, from)
	case layers.ARPReply:
		r.Info = fmt.Sprintf("%s is at %s", from, net.HardwareAddr(d.arp.SourceHwAddress))
	default:
		r.Info = fmt.Sprintf("operation %d", d.arp.Operation)
	}
}

func (d *dissector) describeTCP(r *row) {
	t := &d.tcp
	var flags []string
	for _, f := range []struct {
		on   bool
		name string
	}{{t.FIN, "FIN"}, {t.SYN, "SYN"}, {t.RST, "RST"}, {t.PSH, "PSH"}, {t.ACK, "ACK"}, {t.URG, "URG"}} {
		if f.on {
			flags = append(flags, f.name)
		}
	}
	r.Protocol, r.Class = "TCP", "tcp"
	r.Info = fmt.Sprintf("%d → %d  [%s] Seq=%d", t.SrcPort, t.DstPort, strings.Join(flags, ", "), t.Seq)
	if t.ACK {
		r.Info += fmt.Sprintf(" Ack=%d", t.Ack)
	}
	r.Info += fmt.Sprintf(" Win=%d Len=%d", t.Window, len(t.Payload))
	data := t.Payload
	switch {
	case len(data) > 2 && port53(uint16(t.SrcPort), uint16(t.DstPort)):
		describeDNS(data[2:], r)
	case isHTTP(data):
		line, _, _ := strings.Cut(string(data[:min(len(data), 1024)]), "\r\n")
		r.Protocol, r.Class, r.Info = "HTTP", "http", line
	case isTLS(data):
		r.Protocol, r.Class, r.Info = "TLS", "tls", tlsInfo(data)
	}
}

func isHTTP(data []byte) bool {
	head := string(data[:min(len(data), 8)])
	for _, word := range []string{"GET ", "POST ", "PUT ", "HEAD ", "DELETE ", "OPTIONS ", "PATCH ", "CONNECT ", "HTTP/1."} {
		if strings.HasPrefix(head, word) {
			return true
		}
	}
	return false
}

// describeDNS leaves r as it is when data is no DNS message.
func describeDNS(data []byte, r *row) {
	var m layers.DNS
	defer func() { _ = recover() }()
	if m.DecodeFromBytes(data, gopacket.NilDecodeFeedback) != nil {
		return
	}
	kind := "query"
	if m.QR {
		kind = "response"
	}
	info := fmt.Sprintf("%s 0x%04x", kind, m.ID)
	for _, q := range m.Questions {
		info += fmt.Sprintf(" %s %s", q.Type, q.Name)
	}
	if m.QR && m.ResponseCode != layers.DNSResponseCodeNoErr {
		info += " " + m.ResponseCode.String()
	}
	for _, a := range m.Answers {
		switch {
		case a.IP != nil:
			info += " " + a.IP.String()
		case len(a.CNAME) > 0:
			info += " CNAME " + string(a.CNAME)
		case len(a.PTR) > 0:
			info += " " + string(a.PTR)
		}
		if len(info) > maxInfo {
			break
		}
	}
	r.Protocol, r.Class, r.Info = "DNS", "dns", info
}

const maxInfo = 160 // characters

// shorten makes text from a packet fit for one line of the page.
func shorten(text string) string {
	text = clean(strings.ToValidUTF8(text, "·"), false)
	if runes := []rune(text); len(runes) > maxInfo {
		text = string(runes[:maxInfo]) + "…"
	}
	return text
}

package cloudsharktest

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// maxHeaders bounds how many headers of one packet are followed: a tag or an
// extension header may be behind another, a datagram within another.
const maxHeaders = 24

// dissection is the look into one packet: its row, and how many headers were
// passed. Each header tells what it is in the row, over what the one before it
// told. What makes no sense ends the look; it never fails.
//
// What a capture holds is found by enrich/frame; this is a page's summary, and
// the packages for a platform do not import each other.
type dissection struct {
	row
	headers int
}

// dissect names a packet of a LINKTYPE_ in one line.
func dissect(data []byte, linkType int) row {
	var d dissection
	if !d.link(data, linkType) && d.Info == "" {
		d.Info = "[malformed]"
	}
	if d.Protocol == "" {
		d.Protocol = "other"
	}
	d.Info = shorten(d.Info)
	return d.row
}

// link and what follows it return false when a header is cut off or senseless.
func (d *dissection) link(b []byte, linkType int) bool {
	switch linkType {
	case 0, 108: // a family in the byte order of who captured
		return len(b) >= 4 && d.ip(b[4:])
	case 1:
		return d.ethernet(b)
	case 113:
		return d.cooked(b)
	case 276: // the cooked header's second version
		return len(b) >= 20 && d.typed(be16(b), b[20:])
	case 12, 14, 101, 228, 229:
		return d.ip(b)
	default:
		d.Protocol = "other"
		return true
	}
}

func (d *dissection) ethernet(b []byte) bool {
	if len(b) < 14 {
		return false
	}
	d.Source, d.Destination = net.HardwareAddr(b[6:12]).String(), net.HardwareAddr(b[:6]).String()
	t := be16(b[12:])
	if t < 0x600 { // a length
		t = 0
	}
	d.Protocol, d.Info = "Ethernet", fmt.Sprintf("type 0x%04x", t)
	return d.typed(t, b[14:])
}

// cooked follows LINKTYPE_LINUX_SLL.
func (d *dissection) cooked(b []byte) bool {
	if len(b) < 16 {
		return false
	}
	d.Source, d.Protocol = net.HardwareAddr(b[6:6+min(be16(b[4:]), 8)]).String(), "cooked"
	return d.typed(be16(b[14:]), b[16:])
}

// typed follows what an EtherType announces.
func (d *dissection) typed(t uint16, b []byte) bool {
	for ; d.deeper(); t, b = be16(b[2:]), b[4:] {
		switch t {
		case 0x0800:
			return d.ipv4(b)
		case 0x86dd:
			return d.ipv6(b)
		case 0x0806:
			return d.arp(b)
		case 0x8100, 0x88a8:
			if len(b) < 4 {
				return false
			}
			d.Protocol, d.Info = "VLAN", fmt.Sprintf("VLAN %d", be16(b)&0x0fff)
		default:
			return true
		}
	}
	return false
}

// ip follows a datagram whose version its first bits tell.
func (d *dissection) ip(b []byte) bool {
	if len(b) > 0 && b[0]>>4 == 6 {
		return d.ipv6(b)
	}
	return d.ipv4(b)
}

func (d *dissection) ipv4(b []byte) bool {
	if len(b) < 20 {
		return false
	}
	head, length := int(b[0]&15)*4, int(be16(b[2:]))
	if length == 0 { // the network card was to cut it
		length = len(b)
	}
	if head < 20 || head > length || head > len(b) {
		return false
	}
	d.Source, d.Destination = address(b[12:16]), address(b[16:20])
	d.Protocol, d.Info = "IPv4", "protocol "+protocolName(b[9])
	if frag := be16(b[6:]); frag&0x3fff != 0 { // more fragments, or an offset
		d.Info = fmt.Sprintf("fragment at %d", int(frag&0x1fff)*8)
		return true
	}
	return d.inside(b[9], b[head:min(length, len(b))])
}

func (d *dissection) ipv6(b []byte) bool {
	if len(b) < 40 {
		return false
	}
	d.Source, d.Destination = address(b[8:24]), address(b[24:40])
	d.Protocol, d.Info = "IPv6", "next header "+protocolName(b[6])
	next, rest := b[6], b[40:]
	if length := int(be16(b[4:])); length > 0 { // 0: a jumbogram, or cut by the network card
		rest = rest[:min(length, len(rest))]
	}
	for next == 0 || next == 43 || next == 44 || next == 60 { // extension headers
		if len(rest) < 8 || !d.deeper() {
			return false
		}
		n := 8
		if next == 44 {
			if offset := be16(rest[2:]) &^ 7; offset > 0 {
				d.Info = fmt.Sprintf("fragment at %d", offset)
				return true
			}
		} else {
			n += int(rest[1]) * 8
		}
		if n > len(rest) {
			return false
		}
		next, rest = rest[0], rest[n:]
	}
	return d.inside(next, rest)
}

// inside follows what an IP datagram holds.
func (d *dissection) inside(protocol byte, b []byte) bool {
	if !d.deeper() {
		return false
	}
	switch protocol {
	case 1:
		return d.icmp(b)
	case 4, 94:
		return d.ipv4(b)
	case 6:
		return d.tcp(b)
	case 17:
		return d.udp(b)
	case 41:
		return d.ipv6(b)
	case 58:
		return d.icmpv6(b)
	}
	return true
}

func (d *dissection) deeper() bool {
	d.headers++
	return d.headers < maxHeaders
}

func (d *dissection) arp(b []byte) bool {
	if len(b) < 8 {
		return false
	}
	hardware, protocol, rest := int(b[4]), int(b[5]), fields(b[8:])
	from, fromIP := rest.take(hardware), rest.take(protocol)
	rest.take(hardware)
	toIP := rest.take(protocol)
	if toIP == nil {
		return false
	}
	d.Protocol, d.Class = "ARP", "arp"
	switch operation := be16(b[6:]); operation {
	case 1:
		d.Info = fmt.Sprintf("Who has %s? Tell %s", address(toIP), address(fromIP))
	case 2:
		d.Info = fmt.Sprintf("%s is at %s", address(fromIP), net.HardwareAddr(from))
	default:
		d.Info = fmt.Sprintf("operation %d", operation)
	}
	return true
}

func (d *dissection) icmp(b []byte) bool {
	if len(b) < 8 {
		return false
	}
	d.Protocol, d.Class, d.Info = "ICMP", "icmp", icmpNames.text(b[0], b[1])
	if b[0] == 8 || b[0] == 0 { // an echo and its answer
		d.Info += fmt.Sprintf(" id=%d seq=%d", be16(b[4:]), be16(b[6:]))
	}
	return true
}

func (d *dissection) icmpv6(b []byte) bool {
	if len(b) < 4 {
		return false
	}
	d.Protocol, d.Class, d.Info = "ICMPv6", "icmp", icmpv6Names.text(b[0], b[1])
	return true
}

func (d *dissection) udp(b []byte) bool {
	if len(b) < 8 {
		return false
	}
	from, to, length := be16(b), be16(b[2:]), int(be16(b[4:]))
	if length == 0 { // a jumbogram
		length = len(b)
	}
	if length < 8 {
		return false
	}
	payload := b[8:min(length, len(b))]
	d.Protocol, d.Class = "UDP", "udp"
	d.Info = fmt.Sprintf("%d → %d  Len=%d", from, to, len(payload))
	if port53(from, to) {
		d.dns(payload)
	}
	return true
}

func (d *dissection) tcp(b []byte) bool {
	if len(b) < 20 {
		return false
	}
	head := int(b[12]>>4) * 4
	if head < 20 || head > len(b) {
		return false
	}
	from, to, payload := be16(b), be16(b[2:]), b[head:]
	var flags []string
	for i, name := range []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG"} {
		if b[13]>>i&1 != 0 {
			flags = append(flags, name)
		}
	}
	d.Protocol, d.Class = "TCP", "tcp"
	d.Info = fmt.Sprintf("%d → %d  [%s] Seq=%d", from, to, strings.Join(flags, ", "), be32(b[4:]))
	if b[13]&16 != 0 {
		d.Info += fmt.Sprintf(" Ack=%d", be32(b[8:]))
	}
	d.Info += fmt.Sprintf(" Win=%d Len=%d", be16(b[14:]), len(payload))
	switch {
	case len(payload) > 2 && port53(from, to):
		d.dns(payload[2:])
	case isHTTP(payload):
		line, _, _ := strings.Cut(string(payload[:min(len(payload), 1024)]), "\r\n")
		d.Protocol, d.Class, d.Info = "HTTP", "http", line
	case isTLS(payload):
		d.Protocol, d.Class, d.Info = "TLS", "tls", tlsInfo(payload)
	}
	return true
}

func port53(a, b uint16) bool { return a == 53 || b == 53 || a == 5353 || b == 5353 }

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }
func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }

func address(ip []byte) string {
	a, ok := netip.AddrFromSlice(ip)
	if !ok {
		return ""
	}
	return a.String()
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

const maxInfo = 160 // characters

// shorten makes text from a packet fit for one line of the page.
func shorten(text string) string {
	text = clean(strings.ToValidUTF8(text, "·"), false)
	if runes := []rune(text); len(runes) > maxInfo {
		text = string(runes[:maxInfo]) + "…"
	}
	return text
}

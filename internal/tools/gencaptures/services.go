package main

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// answer is one record of a DNS answer: a name in data makes it a CNAME,
// an address an A or AAAA.
type answer struct{ name, data string }

// lookup records a query and its answers; no answers mean NXDOMAIN.
func (t *trace) lookup(client, resolver endpoint, id uint16, name string, kind layers.DNSType, answers ...answer) {
	question := []layers.DNSQuestion{{Name: []byte(name), Type: kind, Class: layers.DNSClassIN}}
	port := 49152 + id%16000
	t.udp(client, resolver, port, 53, serialise(&layers.DNS{ID: id, RD: true, Questions: question}))
	t.wait(1830517 * time.Nanosecond)

	reply := &layers.DNS{ID: id, QR: true, RD: true, RA: true, Questions: question}
	for _, a := range answers {
		r := layers.DNSResourceRecord{Name: []byte(a.name), Class: layers.DNSClassIN, TTL: 300}
		if ip, err := netip.ParseAddr(a.data); err != nil {
			r.Type, r.CNAME = layers.DNSTypeCNAME, []byte(a.data)
		} else if r.IP = ip.AsSlice(); ip.Is4() {
			r.Type = layers.DNSTypeA
		} else {
			r.Type = layers.DNSTypeAAAA
		}
		reply.Answers = append(reply.Answers, r)
	}
	if len(answers) == 0 {
		_, zone, _ := strings.Cut(name, ".") // names here have one label before the zone
		reply.ResponseCode = layers.DNSResponseCodeNXDomain
		reply.Authorities = []layers.DNSResourceRecord{{
			Name: []byte(zone), Type: layers.DNSTypeSOA, Class: layers.DNSClassIN, TTL: 900,
			SOA: layers.DNSSOA{
				MName: []byte("ns1." + zone), RName: []byte("hostmaster." + zone),
				Serial: 2026031001, Refresh: 7200, Retry: 900, Expire: 1209600, Minimum: 900,
			},
		}}
	}
	t.udp(resolver, client, 53, port, serialise(reply))
	t.wait(604 * time.Microsecond)
}

// exchange records an HTTP/1.1 request and its response on an open connection.
func (c *conn) exchange(method, host, path, agent, status, contentType string, body []byte) {
	c.send(byClient, request(method, host, path, agent))
	c.send(byServer, append(fmt.Appendf(nil,
		"HTTP/1.1 %s\r\nDate: %s\r\nServer: example\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n",
		status, c.t.now.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT"), contentType, len(body)), body...))
}

func request(method, host, path, agent string) []byte {
	return fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\nAccept: */*\r\n\r\n",
		method, path, host, agent)
}

func (t *trace) arp(operation uint16, from, target endpoint, wire endpoint) {
	known := target.mac
	if operation == layers.ARPRequest {
		known = make([]byte, 6)
	}
	t.frame(from, wire, layers.EthernetTypeARP, serialise(&layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4,
		HwAddressSize: 6, ProtAddressSize: 4, Operation: operation,
		SourceHwAddress: from.mac, SourceProtAddress: from.ip.AsSlice(),
		DstHwAddress: known, DstProtAddress: target.ip.AsSlice(),
	}))
	t.wait(310 * time.Microsecond)
}

// ping records an ICMP or ICMPv6 echo request and its reply.
func (t *trace) ping(from, to endpoint, sequence uint16, rtt time.Duration) {
	data := gopacket.Payload("capture demonstration echo")
	for _, reply := range []bool{false, true} {
		if from.ip.Is4() {
			kind := uint8(layers.ICMPv4TypeEchoRequest)
			if reply {
				kind = layers.ICMPv4TypeEchoReply
			}
			t.ip(from, to, layers.IPProtocolICMPv4,
				&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, 0), Id: 0x17, Seq: sequence}, data)
		} else {
			kind := uint8(layers.ICMPv6TypeEchoRequest)
			if reply {
				kind = layers.ICMPv6TypeEchoReply
			}
			t.icmp6(from, to, kind, &layers.ICMPv6Echo{Identifier: 0x17, SeqNumber: sequence}, data)
		}
		from, to = to, from
		t.wait(rtt)
	}
}

func (t *trace) icmp6(from, to endpoint, kind uint8, body ...gopacket.SerializableLayer) {
	header := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(kind, 0)}
	t.ip(from, to, layers.IPProtocolICMPv6, append([]gopacket.SerializableLayer{header}, body...)...)
	t.wait(900 * time.Microsecond)
}

// dhcp records one message; the client has no address yet.
func (t *trace) dhcp(from, to endpoint, kind layers.DHCPMsgType, client, server endpoint, more ...layers.DHCPOption) {
	m := &layers.DHCPv4{
		Operation: layers.DHCPOpRequest, HardwareType: layers.LinkTypeEthernet, HardwareLen: 6,
		Xid: 0x17c0ffee, ClientHWAddr: client.mac,
		Options: layers.DHCPOptions{layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{byte(kind)})},
	}
	source, destination := uint16(68), uint16(67)
	if from.ip == server.ip {
		source, destination = destination, source
		m.Operation = layers.DHCPOpReply
		m.YourClientIP = client.ip.AsSlice()
	}
	m.Options = append(m.Options, more...)
	m.Options = append(m.Options, layers.NewDHCPOption(layers.DHCPOptEnd, nil))
	const least = 300 // bytes of a BOOTP message (RFC 1542 2.1)
	b := serialise(m)
	t.udp(from, to, source, destination, append(b, make([]byte, max(0, least-len(b)))...))
	t.wait(11 * time.Millisecond)
}

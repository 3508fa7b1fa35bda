package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/klauspost/compress/gzip"
)

// The story: on 10 March 2026 a workstation of the head office looks up a name
// that a mail suggested, fetches a "viewer" over plain HTTP, and from then on
// reports to the same people. The branch office has been doing so for longer.
var incidentDay = time.Date(2026, 3, 10, 8, 30, 0, 0, time.UTC)

func at(hour, minute int) time.Time {
	return time.Date(2026, 3, 10, hour, minute, 0, 123456789, time.UTC)
}

func mac(n byte) net.HardwareAddr { return net.HardwareAddr{0x00, 0x00, 0x5e, 0x00, 0x53, n} }

// local is a host on the captured network, remote one behind its gateway.
func local(n byte, ip string) endpoint   { return endpoint{mac(n), netip.MustParseAddr(ip), 64} }
func remote(gw byte, ip string) endpoint { return endpoint{mac(gw), netip.MustParseAddr(ip), 57} }

var (
	desk      = local(0x17, "192.0.2.17")
	gateway   = local(0x01, "192.0.2.1")
	resolver  = local(0x35, "192.0.2.53")
	portal    = local(0x50, "192.0.2.80")
	printer   = local(0x40, "192.0.2.40")
	www       = remote(0x01, "203.0.113.80")
	mail      = remote(0x01, "203.0.113.25")
	bad       = remote(0x01, "203.0.113.66")
	broadcast = endpoint{mac: net.HardwareAddr{255, 255, 255, 255, 255, 255}, ip: netip.MustParseAddr("255.255.255.255")}

	desk6     = local(0x17, "2001:db8:17::17")
	router6   = endpoint{mac(0x01), netip.MustParseAddr("fe80::1"), 255}
	bad6      = remote(0x01, "2001:db8:bad::66")
	branch    = local(0xb2, "198.51.100.12")
	branch6   = local(0xb2, "2001:db8:b::12")
	branchDNS = local(0xb5, "198.51.100.53")
)

const (
	lan      = 290 * time.Microsecond
	internet = 18 * time.Millisecond

	browser = "Mozilla/5.0 (demonstration)"
	dropper = "viewer-setup/1.2"
)

// file is one file of the demonstration; its name has slashes.
type file struct {
	name string
	data []byte
}

// captures returns all files of the demonstration.
func captures() ([]file, error) {
	var sessions [3]session
	for i, name := range []string{"tls12", "tls13", "beacon"} {
		var err error
		if sessions[i], err = loadSession(name); err != nil {
			return nil, err
		}
	}
	web := webTraffic().pcap(false)
	yesterday, err := compressed(yesterdayTraffic().pcap(false))
	if err != nil {
		return nil, err
	}
	download := downloadTraffic().pcap(true)
	return []file{
		{"dhcp-arp.pcap", dhcpTraffic().pcap(false)},
		{"dns.pcap", dnsTraffic().pcap(false)},
		{"web.pcap", web},
		{"tls12.pcap", tlsTraffic(at(9, 2), mail, "mail.example.org", internet, sessions[0]).pcap(false)},
		{"tls13.pcap", tlsTraffic(at(9, 4), portal, "portal.example.com", lan, sessions[1]).pcap(false)},
		{"download-nano.pcap", download},
		{"incident.pcapng", incident(sessions[2])},
		{"vlan.pcap", vlanTraffic().pcap(false)},
		{"ipv6-nd.pcap", ipv6Traffic().pcap(false)},
		{"yesterday.pcap.gz", yesterday},
		{"empty.pcap", newTrace(at(8, 0)).pcap(false)},
		{"truncated.pcap", truncated(printerTraffic().pcap(false))},
		{"branch-office/beacon.pcap", beaconTraffic().pcap(false)},
		{"branch-office/copy-of-web.pcap", web},
	}, nil
}

func dhcpTraffic() *trace {
	t := newTrace(at(8, 31))
	nobody := endpoint{desk.mac, netip.IPv4Unspecified(), 64}
	identifier := layers.NewDHCPOption(layers.DHCPOptServerID, gateway.ip.AsSlice())
	wanted := layers.NewDHCPOption(layers.DHCPOptRequestIP, desk.ip.AsSlice())
	name := layers.NewDHCPOption(layers.DHCPOptHostname, []byte("desk-17"))
	lease := []layers.DHCPOption{
		identifier,
		layers.NewDHCPOption(layers.DHCPOptLeaseTime, binary.BigEndian.AppendUint32(nil, 86400)),
		layers.NewDHCPOption(layers.DHCPOptSubnetMask, []byte{255, 255, 255, 0}),
		layers.NewDHCPOption(layers.DHCPOptRouter, gateway.ip.AsSlice()),
		layers.NewDHCPOption(layers.DHCPOptDNS, resolver.ip.AsSlice()),
		layers.NewDHCPOption(layers.DHCPOptDomainName, []byte("example.com")),
	}
	t.dhcp(nobody, broadcast, layers.DHCPMsgTypeDiscover, desk, gateway, name)
	t.dhcp(gateway, broadcast, layers.DHCPMsgTypeOffer, desk, gateway, lease...)
	t.dhcp(nobody, broadcast, layers.DHCPMsgTypeRequest, desk, gateway, wanted, identifier, name)
	t.dhcp(gateway, broadcast, layers.DHCPMsgTypeAck, desk, gateway, lease...)

	probe := endpoint{mac: desk.mac, ip: netip.IPv4Unspecified()}
	t.arp(layers.ARPRequest, probe, desk, broadcast) // is the new address free? (RFC 5227)
	t.wait(time.Second)
	t.arp(layers.ARPRequest, desk, desk, broadcast) // it is now ours
	for _, h := range []endpoint{gateway, resolver} {
		t.arp(layers.ARPRequest, desk, h, broadcast)
		t.arp(layers.ARPReply, h, desk, desk)
	}
	t.ping(desk, gateway, 1, lan)
	return t
}

func dnsTraffic() *trace {
	t := newTrace(at(8, 40))
	t.lookup(desk, resolver, 0x1001, "portal.example.com", layers.DNSTypeA, answer{"portal.example.com", portal.ip.String()})
	t.lookup(desk, resolver, 0x1002, "portal.example.com", layers.DNSTypeAAAA,
		answer{"portal.example.com", "2001:db8:17::80"})
	t.lookup(desk, resolver, 0x1003, "www.example.org", layers.DNSTypeA,
		answer{"www.example.org", "edge.example.net"}, answer{"edge.example.net", www.ip.String()})
	t.lookup(desk, resolver, 0x1004, "wpad.example.com", layers.DNSTypeA)
	t.lookup(desk, resolver, 0x1005, "mail.example.org", layers.DNSTypeA, answer{"mail.example.org", mail.ip.String()})
	return t
}

func webTraffic() *trace {
	t := newTrace(at(8, 55))
	t.lookup(desk, resolver, 0x2001, "portal.example.com", layers.DNSTypeA, answer{"portal.example.com", portal.ip.String()})
	c := t.dial(desk, 50112, portal, 80, lan)
	page := []byte("<!doctype html>\n<title>Portal</title>\n<link rel=stylesheet href=/style.css>\n<h1>Good morning</h1>\n" +
		string(bytes.Repeat([]byte("<p>Lunch is at noon. Please report mails that ask you to install something.\n"), 40)))
	c.exchange("GET", "portal.example.com", "/", browser, "200 OK", "text/html", page)
	c.exchange("GET", "portal.example.com", "/style.css", browser, "200 OK", "text/css", []byte("h1 { color: navy }\n"))
	c.exchange("GET", "portal.example.com", "/favicon.ico", browser, "404 Not Found", "text/plain", []byte("not found\n"))
	c.close(byClient)
	return t
}

func tlsTraffic(start time.Time, server endpoint, name string, rtt time.Duration, s session) *trace {
	t := newTrace(start)
	t.lookup(desk, resolver, 0x3001, name, layers.DNSTypeA, answer{name, server.ip.String()})
	c := t.dial(desk, 50443, server, 443, rtt)
	c.replay(s)
	c.close(byClient)
	return t
}

// viewer is the downloaded file: it only looks like a program.
func viewer() []byte {
	noise := make([]byte, 36<<10)
	source := rand.NewChaCha8([32]byte{17})
	_, _ = source.Read(noise)
	return append([]byte("This file belongs to a demonstration and does nothing.\n"), base64.StdEncoding.EncodeToString(noise)...)
}

func downloadTraffic() *trace {
	t := newTrace(at(9, 17))
	t.lookup(desk, resolver, 0x4001, "files.example.net", layers.DNSTypeA, answer{"files.example.net", bad.ip.String()})
	c := t.dial(desk, 50917, bad, 80, internet)
	c.exchange("GET", "files.example.net", "/tools/viewer-setup.bin", browser, "200 OK", "application/octet-stream", viewer())
	c.close(byServer)
	return t
}

// incident is what the responders captured on three interfaces of the desk at once.
func incident(s session) []byte {
	interfaces := []netInterface{
		{name: "eth0", description: "office network", linkType: linkEthernet, dropped: 3},
		{name: "wg0", description: "tunnel to the branch office", linkType: linkRawIP, resolution: 9},
		{name: "any", description: "all interfaces, cooked", linkType: linkCooked, resolution: 3},
	}
	t := newTrace(at(9, 20))
	t.lookup(desk, resolver, 0x5001, "sync.example.net", layers.DNSTypeA, answer{"sync.example.net", bad.ip.String()})
	c := t.dial(desk, 51200, bad, 443, internet)
	t.packets[2].comment = "first connection to 203.0.113.66, three minutes after the download"
	c.replay(s)
	c.close(byClient)

	t.iface, t.link = 1, rawIP
	tunnel := t.dial(desk, 51310, branch, 80, 9*time.Millisecond)
	tunnel.exchange("GET", "files.branch.example.com", "/share", dropper, "403 Forbidden", "text/plain", []byte("no\n"))
	tunnel.close(byServer)
	t.ping(desk6, branch6, 1, 9*time.Millisecond)

	t.iface, t.link = 2, cooked(desk.ip)
	t.lookup(desk, resolver, 0x5002, "backup-sync.example.net", layers.DNSTypeA)
	t.ping(desk, gateway, 1, lan)

	var f ngFile
	f.section("Case 17: desk-17 after the download of viewer-setup.bin")
	for _, i := range interfaces {
		f.netInterface(i)
	}
	f.names(answer{"sync.example.net", bad.ip.String()}, answer{"desk-17.example.com", desk6.ip.String()})
	f.secrets(s.keyLog)
	received := make([]uint64, len(interfaces))
	for _, p := range t.packets {
		f.packet(p, interfaces[p.iface])
		received[p.iface]++
	}
	for id, i := range interfaces {
		f.statistics(id, i, t.now, received[id]+i.dropped)
	}
	return f.data
}

func vlanTraffic() *trace {
	const dot1q, dot1ad = 0x8100, 0x88a8
	t := newTrace(at(9, 30))
	t.link = ethernet(tag{dot1q, 20})
	t.lookup(desk, resolver, 0x6001, "portal.example.com", layers.DNSTypeA, answer{"portal.example.com", portal.ip.String()})
	t.link = ethernet(tag{dot1q, 30})
	t.ping(desk, printer, 1, lan)
	t.link = ethernet(tag{dot1ad, 100}, tag{dot1q, 20})
	c := t.dial(desk, 50600, portal, 80, lan)
	c.exchange("GET", "portal.example.com", "/status", browser, "200 OK", "text/plain", []byte("all well\n"))
	c.close(byClient)
	return t
}

func ipv6Traffic() *trace {
	t := newTrace(at(9, 40))
	multicast := func(ip string) endpoint {
		a := netip.MustParseAddr(ip)
		b := a.As16()
		return endpoint{mac: net.HardwareAddr{0x33, 0x33, b[12], b[13], b[14], b[15]}, ip: a}
	}
	solicited, nodes, routers := multicast("ff02::1:ff00:17"), multicast("ff02::1"), multicast("ff02::2")
	nobody := endpoint{desk.mac, netip.IPv6Unspecified(), 255}
	linkLocal := endpoint{desk.mac, netip.MustParseAddr("fe80::17"), 255}
	desk := endpoint{desk.mac, desk6.ip, 255} // Neighbour Discovery demands hop limit 255 (RFC 4861)
	source := func(e endpoint) layers.ICMPv6Options {
		return layers.ICMPv6Options{{Type: layers.ICMPv6OptSourceAddress, Data: e.mac}}
	}
	prefix := append([]byte{64, 0xc0}, binary.BigEndian.AppendUint32(nil, 86400)...)
	prefix = binary.BigEndian.AppendUint32(prefix, 14400)
	prefix = append(append(prefix, 0, 0, 0, 0), netip.MustParseAddr("2001:db8:17::").AsSlice()...)

	t.icmp6(linkLocal, routers, layers.ICMPv6TypeRouterSolicitation,
		&layers.ICMPv6RouterSolicitation{Options: source(linkLocal)})
	t.icmp6(router6, nodes, layers.ICMPv6TypeRouterAdvertisement, &layers.ICMPv6RouterAdvertisement{
		HopLimit: 64, RouterLifetime: 1800,
		Options: append(source(router6), layers.ICMPv6Option{Type: layers.ICMPv6OptPrefixInfo, Data: prefix}),
	})
	// Duplicate address detection, then the address of the desk resolved by the router.
	t.icmp6(nobody, solicited, layers.ICMPv6TypeNeighborSolicitation,
		&layers.ICMPv6NeighborSolicitation{TargetAddress: desk.ip.AsSlice()})
	t.wait(time.Second)
	t.icmp6(router6, solicited, layers.ICMPv6TypeNeighborSolicitation,
		&layers.ICMPv6NeighborSolicitation{TargetAddress: desk.ip.AsSlice(), Options: source(router6)})
	t.icmp6(desk, router6, layers.ICMPv6TypeNeighborAdvertisement, &layers.ICMPv6NeighborAdvertisement{
		Flags: 0x60, TargetAddress: desk.ip.AsSlice(), // solicited, override
		Options: layers.ICMPv6Options{{Type: layers.ICMPv6OptTargetAddress, Data: desk.mac}},
	})
	t.ping(desk6, endpoint{router6.mac, netip.MustParseAddr("2001:db8:17::1"), 64}, 1, lan)
	c := t.dial(desk6, 50640, bad6, 80, internet)
	c.exchange("GET", "files.example.net", "/ping?id=desk-17", dropper, "200 OK", "text/plain", []byte("wait\n"))
	c.close(byClient)
	return t
}

func yesterdayTraffic() *trace {
	t := newTrace(at(16, 10).AddDate(0, 0, -1))
	t.lookup(desk, resolver, 0x7001, "www.example.org", layers.DNSTypeA,
		answer{"www.example.org", "edge.example.net"}, answer{"edge.example.net", www.ip.String()})
	c := t.dial(desk, 50080, www, 80, internet)
	c.exchange("GET", "www.example.org", "/news", browser, "200 OK", "text/plain", bytes.Repeat([]byte("Nothing happened today.\n"), 300))
	c.close(byClient)
	return t
}

func printerTraffic() *trace {
	t := newTrace(at(9, 50))
	c := t.dial(desk, 50910, printer, 9100, lan)
	for page := range 4 {
		c.send(byClient, fmt.Appendf(nil, "page %d\n%s\f", page+1, bytes.Repeat([]byte("quarterly figures "), 60)))
	}
	return t
}

// truncated ends a capture in the middle of its last packet, which is an
// acknowledgement of 54 bytes, as a full disk or a pulled plug does.
func truncated(pcap []byte) []byte { return pcap[:len(pcap)-20] }

func beaconTraffic() *trace {
	t := newTrace(at(7, 0))
	router := local(0xb1, "198.51.100.1")
	server := endpoint{router.mac, bad.ip, 57}
	for n := range uint16(5) {
		start := t.now
		t.lookup(branch, branchDNS, 0x8001+n, "files.example.net", layers.DNSTypeA, answer{"files.example.net", server.ip.String()})
		c := t.dial(branch, 52000+n, server, 80, internet)
		c.exchange("GET", "files.example.net", "/ping?id=branch-12", dropper, "200 OK", "text/plain", []byte("wait\n"))
		c.close(byServer)
		t.now = start.Add(time.Minute)
	}
	return t
}

// compressed uses a compressor whose version go.mod fixes: the standard
// library's output may change with the toolchain.
func compressed(data []byte) ([]byte, error) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Name = "yesterday.pcap"
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

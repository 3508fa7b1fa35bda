package main

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
)

// endpoint is one address on the wire as the capturing host sees it: whatever
// is beyond the gateway has the gateway's MAC.
type endpoint struct {
	mac net.HardwareAddr
	ip  netip.Addr
	ttl uint8
}

// Link types of both file formats (draft-ietf-opsawg-pcaplinktype).
const (
	linkEthernet = 1
	linkRawIP    = 101
	linkCooked   = 113

	snapLen = 262144
)

// packet is one captured frame.
type packet struct {
	at      time.Time
	iface   int // pcapng only
	comment string
	data    []byte
}

// link puts the header of one link type before a network packet.
type link func(from, to endpoint, kind layers.EthernetType, network []byte) []byte

// trace collects the packets of one capture while its clock goes on.
type trace struct {
	now     time.Time
	link    link
	iface   int
	id      uint16 // of the next IPv4 packet
	packets []packet
}

func newTrace(start time.Time) *trace {
	return &trace{now: start, link: ethernet(), id: 0x4100}
}

func (t *trace) wait(d time.Duration) { t.now = t.now.Add(d) }

// frame records a packet whose network layer is already serialised.
func (t *trace) frame(from, to endpoint, kind layers.EthernetType, network []byte) {
	t.packets = append(t.packets, packet{at: t.now, iface: t.iface, data: t.link(from, to, kind, network)})
}

// ip records an IPv4 or IPv6 packet, by the family of the sender.
func (t *trace) ip(from, to endpoint, protocol layers.IPProtocol, upper ...gopacket.SerializableLayer) {
	var network gopacket.SerializableLayer
	kind := layers.EthernetTypeIPv4
	if from.ip.Is4() {
		t.id++
		network = &layers.IPv4{
			Version: 4, TTL: from.ttl, Id: t.id, Flags: layers.IPv4DontFragment,
			Protocol: protocol, SrcIP: from.ip.AsSlice(), DstIP: to.ip.AsSlice(),
		}
	} else {
		kind = layers.EthernetTypeIPv6
		network = &layers.IPv6{
			Version: 6, HopLimit: from.ttl,
			NextHeader: protocol, SrcIP: from.ip.AsSlice(), DstIP: to.ip.AsSlice(),
		}
	}
	for _, l := range upper {
		if l, ok := l.(interface {
			SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
		}); ok {
			must(l.SetNetworkLayerForChecksum(network.(gopacket.NetworkLayer)))
		}
	}
	t.frame(from, to, kind, serialise(append([]gopacket.SerializableLayer{network}, upper...)...))
}

func (t *trace) udp(from, to endpoint, source, destination uint16, payload []byte) {
	t.ip(from, to, layers.IPProtocolUDP,
		&layers.UDP{SrcPort: layers.UDPPort(source), DstPort: layers.UDPPort(destination)},
		gopacket.Payload(payload))
}

// serialise panics when a layer cannot be built: that is a mistake in this program.
func serialise(l ...gopacket.SerializableLayer) []byte {
	b := gopacket.NewSerializeBuffer()
	must(gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...))
	return bytes.Clone(b.Bytes())
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// tag is a VLAN tag: its EtherType and VLAN id.
type tag struct{ kind, id uint16 }

// ethernet is the link of Ethernet frames with the given tags, outer first.
func ethernet(tags ...tag) link {
	return func(from, to endpoint, kind layers.EthernetType, network []byte) []byte {
		var b []byte
		b = append(append(b, to.mac...), from.mac...)
		for _, t := range tags {
			b = binary.BigEndian.AppendUint16(b, t.kind)
			b = binary.BigEndian.AppendUint16(b, t.id)
		}
		b = binary.BigEndian.AppendUint16(b, uint16(kind))
		return append(b, network...)
	}
}

// rawIP is the link of tunnels: LINKTYPE_RAW, no header at all.
func rawIP(_, _ endpoint, _ layers.EthernetType, network []byte) []byte { return network }

// cooked is the link of Linux's "any" interface, LINKTYPE_LINUX_SLL, as the
// host with address self sees it.
func cooked(self netip.Addr) link {
	return func(from, _ endpoint, kind layers.EthernetType, network []byte) []byte {
		const toUs, fromUs = 0, 4
		direction := uint16(toUs)
		if from.ip == self {
			direction = fromUs
		}
		b := binary.BigEndian.AppendUint16(nil, direction)
		b = append(b, 0, 1, 0, 6) // ARPHRD_ETHER, address length
		b = append(append(b, from.mac...), 0, 0)
		b = binary.BigEndian.AppendUint16(b, uint16(kind))
		return append(b, network...)
	}
}

// pcap returns the trace as a classic little-endian Ethernet pcap with times in
// microseconds or nanoseconds.
func (t *trace) pcap(nano bool) []byte {
	magic, unit := uint32(0xa1b2c3d4), time.Microsecond
	if nano {
		magic, unit = 0xa1b23c4d, time.Nanosecond
	}
	b := binary.LittleEndian.AppendUint32(nil, magic)
	b = append(b, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0) // version 2.4, UTC
	b = binary.LittleEndian.AppendUint32(b, snapLen)
	b = binary.LittleEndian.AppendUint32(b, linkEthernet)
	for _, p := range t.packets {
		b = binary.LittleEndian.AppendUint32(b, uint32(p.at.Unix()))
		b = binary.LittleEndian.AppendUint32(b, uint32(p.at.Nanosecond()/int(unit)))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(p.data)))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(p.data)))
		b = append(b, p.data...)
	}
	return b
}

// Package enrich takes indicators out of packets: one pass over a capture, in the
// order of its frames, finds who talked to whom, and what of it is worth looking
// up. What it costs is bounded whatever the packets say (indicator.MaxMemory,
// flow.MaxFlows); each bound that was met is part of the result.
package enrich

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"

	"capagent/enrich/flow"
	"capagent/enrich/frame"
	"capagent/enrich/indicator"
	"capagent/enrich/stream"
	"capagent/internal/pcapio"
)

// Result is what a capture holds.
type Result struct {
	Frames     int64
	Indicators []indicator.Indicator // by type, then by first frame
	Bindings   []indicator.Binding
	Senders    []indicator.Sender
	Resolved   []indicator.Resolved
	Summary    flow.Summary
	// Limits are the bounds that were met, by name, and how often: what is behind
	// them was not looked at.
	Limits map[indicator.Limit]int64
	// Failed counts connections or datagrams that were given up by a fault of the
	// parser of that name.
	Failed map[string]int64
	// NotDecoded counts frames without IP or ARP, by link type.
	NotDecoded map[int]int64
}

// Analysis takes the indicators out of one capture. It belongs to one goroutine.
type Analysis struct {
	set        *indicator.Set
	decoder    *frame.Decoder
	flows      *flow.Table
	protocols  protocols
	at         indicator.At
	size       int
	notDecoded map[int]int64
	segment    flow.Segment
}

// New begins an Analysis.
func New() *Analysis {
	a := &Analysis{set: indicator.New(), notDecoded: map[int]int64{}}
	a.protocols = newProtocols(a.set)
	a.flows = flow.New(a.set, a.protocols.open)
	a.decoder = frame.New(sink{a}, &a.set.Bounds)
	return a
}

// Packet looks at the next packet.
func (a *Analysis) Packet(p *pcapio.Packet) {
	a.at.Frame++
	if !p.NoTime {
		a.at.Time = p.Time
	}
	a.size = int(p.OrigLen)
	if !a.decode(p) {
		a.notDecoded[p.LinkType]++
	}
}

// Skip passes over a packet that nobody wants to know of.
func (a *Analysis) Skip() { a.at.Frame++ }

// decode is guarded: whatever a frame does to a parser, the next one is looked at.
func (a *Analysis) decode(p *pcapio.Packet) (found bool) {
	defer func() {
		if recover() != nil {
			a.flows.Failed(a.protocols.current)
			found = true
		}
	}()
	a.protocols.current = "frame"
	return a.decoder.Decode(p.LinkType, p.Data, a.at.Time)
}

// Close ends the Analysis.
func (a *Analysis) Close() Result {
	r := Result{Frames: a.at.Frame, Summary: a.flows.Close(), NotDecoded: a.notDecoded, Failed: a.flows.Panics()}
	a.decoder.Close()
	a.protocols.close()
	r.Indicators, r.Bindings = a.set.List(), a.set.Bindings()
	r.Senders, r.Resolved = a.set.Senders(), a.set.Answers()
	r.Limits = maps.Clone(a.set.Limits())
	return r
}

// sink takes what the decoder finds.
type sink struct{ a *Analysis }

func (s sink) ARP(packet []byte) { s.a.protocols.arp(packet, s.a.at) }

func (s sink) Datagram(d *frame.Datagram) {
	a := s.a
	if d.Outer || d.Quoted {
		a.set.Address(d.Src.IP(), indicator.Source, a.at)
		a.set.Address(d.Dst.IP(), indicator.Destination, a.at)
		if d.Quoted && d.Proto == frame.UDP && len(d.Payload) >= 8 {
			a.protocols.datagram(nil, d, a.at)
		}
		return
	}
	b := d.Payload
	switch {
	case d.Proto == frame.TCP && len(b) >= 20:
		f, from := a.flows.Packet(d, be16(b), be16(b[2:]), a.size, a.at)
		a.tcp(f, from, d)
	case d.Proto == frame.UDP && len(b) >= 8:
		f, _ := a.flows.Packet(d, be16(b), be16(b[2:]), a.size, a.at)
		a.protocols.datagram(f, d, a.at)
	case d.Proto == 132 && len(b) >= 4: // SCTP
		a.flows.Packet(d, be16(b), be16(b[2:]), a.size, a.at)
	case (d.Proto == frame.ICMP || d.Proto == frame.ICMPv6) && len(b) >= 2:
		kind, code := flow.ICMPPorts(d.Proto, b[0], b[1])
		a.flows.Packet(d, kind, code, a.size, a.at)
		if d.Proto == frame.ICMPv6 {
			a.protocols.icmpv6(d, a.at)
		}
	default:
		a.flows.Packet(d, 0, 0, a.size, a.at)
	}
}

// tcp takes a segment (RFC 9293, 3.1).
func (a *Analysis) tcp(f *flow.Flow, from stream.Side, d *frame.Datagram) {
	b := d.Payload
	head := int(b[12]>>4) * 4
	if head < 20 || head > len(b) {
		return
	}
	const fin, syn, rst, ack = 1, 2, 4, 16
	flags := b[13]
	a.segment = flow.Segment{
		Seq: binary.BigEndian.Uint32(b[4:]), Ack: binary.BigEndian.Uint32(b[8:]),
		SYN: flags&syn != 0, FIN: flags&fin != 0, RST: flags&rst != 0, ACK: flags&ack != 0,
		Data: b[head:], Length: d.Length - head,
	}
	a.flows.Segment(f, from, &a.segment, a.at)
}

func be16(b []byte) uint16 { return binary.BigEndian.Uint16(b) }

// Held is how many bytes of buffers are in use: 0 after Close.
func (a *Analysis) Held() int64 { return a.set.Used() }

// Interesting returns the indicators that are worth looking up: addresses that are
// not special and not within own ranges, and everything else.
func Interesting(list []indicator.Indicator, own []netip.Prefix) []indicator.Indicator {
	return slices.DeleteFunc(slices.Clone(list), func(i indicator.Indicator) bool {
		if i.Type != indicator.Address {
			return false
		}
		a, err := netip.ParseAddr(i.Value)
		return err != nil || Special(a) || within(own, a)
	})
}

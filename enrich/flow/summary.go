package flow

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"capagent/enrich/frame"
	"capagent/enrich/indicator"
)

// Top is how many flows and talkers a Summary lists.
const Top = 10

// Summary is what the flows of a capture were. Bytes are those of whole frames on
// the wire.
type Summary struct {
	Flows     int64      `json:"flows"`
	Protocols []Protocol `json:"protocols"` // most bytes first
	Talkers   []Talker   `json:"talkers"`   // the Top addresses with most bytes
	Largest   []Large    `json:"largest"`   // the Top flows with most bytes
}

// Protocol is what was carried by one protocol.
type Protocol struct {
	Name    string `json:"name"` // "tcp/http", "udp/dns", "tcp", "icmp", or an IP protocol's number
	Flows   int64  `json:"flows"`
	Packets int64  `json:"packets"`
	Bytes   int64  `json:"bytes"`
}

// Talker is an address and what it sent and received.
type Talker struct {
	Address  netip.Addr `json:"address"`
	Packets  int64      `json:"packets"`
	Sent     int64      `json:"bytes_sent"`
	Received int64      `json:"bytes_received"`
}

// Large is one flow.
type Large struct {
	CommunityID string         `json:"community_id"`
	Protocol    string         `json:"protocol"`
	Client      netip.AddrPort `json:"client"`
	Server      netip.AddrPort `json:"server"`
	Packets     int64          `json:"packets"`
	Sent        int64          `json:"bytes_to_server"`
	Received    int64          `json:"bytes_to_client"`
	FirstFrame  int64          `json:"first_frame"`
	First       time.Time      `json:"first"`
	Last        time.Time      `json:"last"`
}

func (l Large) bytes() int64 { return l.Sent + l.Received }

// totals add up flows as they end.
type totals struct {
	flows     int64
	protocols map[string]*Protocol
	talkers   map[*indicator.Indicator]*Talker
	largest   []Large // sorted, at most Top
}

func (t *totals) add(f *Flow) {
	if t.protocols == nil {
		t.protocols, t.talkers = map[string]*Protocol{}, map[*indicator.Indicator]*Talker{}
	}
	t.flows++
	name := f.protocol()
	p := t.protocols[name]
	if p == nil {
		p = &Protocol{Name: name}
		t.protocols[name] = p
	}
	packets, bytes := f.packets[0]+f.packets[1], f.bytes[0]+f.bytes[1]
	p.Flows++
	p.Packets += packets
	p.Bytes += bytes
	for i, end := range f.ends {
		if end == nil {
			continue
		}
		// The first sighting was counted when the flow began.
		end.Count += packets - 1
		end.Last = max(end.Last, f.last)
		if f.packets[i] > 0 {
			end.Role |= indicator.Source
		}
		if f.packets[1-i] > 0 {
			end.Role |= indicator.Destination
		}
		k := t.talkers[end]
		if k == nil {
			k = &Talker{}
			t.talkers[end] = k
		}
		k.Packets += packets
		k.Sent += f.bytes[i]
		k.Received += f.bytes[1-i]
	}
	if len(t.largest) < Top || bytes > t.largest[len(t.largest)-1].bytes() {
		t.large(f, name, packets)
	}
}

func (t *totals) large(f *Flow, name string, packets int64) {
	c := f.conn()
	l := Large{
		CommunityID: CommunityID(c.Client, c.Server, f.key.proto), Protocol: name, Client: c.Client, Server: c.Server,
		Packets: packets, FirstFrame: f.first.Frame,
		First: time.Unix(0, f.first.Time).UTC(), Last: time.Unix(0, f.last).UTC(),
	}
	client := 0
	if f.lowIsServer {
		client = 1
	}
	l.Sent, l.Received = f.bytes[client], f.bytes[1-client]
	t.largest = append(t.largest, l)
	slices.SortStableFunc(t.largest, func(a, b Large) int {
		return cmp.Or(cmp.Compare(b.bytes(), a.bytes()), cmp.Compare(a.FirstFrame, b.FirstFrame))
	})
	t.largest = t.largest[:min(len(t.largest), Top)]
}

// protocol is the name of what a flow carried.
func (f *Flow) protocol() string {
	var transport string
	switch f.key.proto {
	case frame.TCP:
		transport = "tcp"
	case frame.UDP:
		transport = "udp"
	case frame.ICMP:
		return "icmp"
	case frame.ICMPv6:
		return "icmpv6"
	case 132:
		transport = "sctp"
	default:
		return "ip/" + strconv.Itoa(int(f.key.proto))
	}
	if f.name == "" {
		return transport
	}
	return transport + "/" + f.name
}

func (t *totals) summary() Summary {
	s := Summary{Flows: t.flows, Protocols: []Protocol{}, Talkers: []Talker{}, Largest: t.largest}
	if s.Largest == nil {
		s.Largest = []Large{}
	}
	for _, p := range t.protocols {
		s.Protocols = append(s.Protocols, *p)
	}
	slices.SortFunc(s.Protocols, func(a, b Protocol) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), cmp.Compare(a.Name, b.Name))
	})
	for i, k := range t.talkers {
		k.Address, _ = netip.ParseAddr(i.Value)
		s.Talkers = append(s.Talkers, *k)
	}
	slices.SortFunc(s.Talkers, func(a, b Talker) int {
		return cmp.Or(cmp.Compare(b.Sent+b.Received, a.Sent+a.Received), a.Address.Compare(b.Address))
	})
	s.Talkers = s.Talkers[:min(len(s.Talkers), Top)]
	return s
}

// Package flow follows the flows of a capture: who talked to whom and how much,
// and the bytes of TCP connections in their order. Its tables are bounded: when
// there are too many flows the one that was silent for longest is forgotten, as if
// the capture had ended for it.
package flow

import (
	"net/netip"

	"capagent/enrich/frame"
	"capagent/enrich/indicator"
	"capagent/enrich/stream"
)

// MaxFlows is how many flows are followed at once.
const MaxFlows = 50_000

// forgotten is after how long (nanoseconds of packet time) of silence a connection
// that did not end is forgotten without a word.
const forgotten = 300 * 1_000_000_000

// LimitFlows counts connections that were forgotten to make room for others, before
// their time.
const LimitFlows indicator.Limit = "flows"

// Opener finds the parser for a connection from the first bytes that a side
// sends, or those of a later segment when the first ones said nothing; nil when
// these bytes say nothing. The name is the protocol's.
type Opener func(c stream.Conn, from stream.Side, first []byte) (stream.Parser, string)

// Flow is one flow, and what is known of it.
type Flow struct {
	key          key
	older, newer *Flow

	first       indicator.At
	last        int64 // time
	lastFrame   int64
	lowIsServer bool
	ends        [2]*indicator.Indicator // lower, higher: counts are added when the flow ends
	packets     [2]int64                // sent by lower, higher
	bytes       [2]int64
	name        string // of the protocol; "": not known
	tcp         *connection
}

// Table is the flows of a capture. It belongs to one goroutine.
type Table struct {
	set    *indicator.Set
	open   Opener
	flows  map[key]*Flow
	oldest Flow // anchor of the ring: its newer is the oldest flow
	free   *Flow
	totals totals
	panics map[string]int64
}

// New returns an empty Table. The parsers that open returns are called for TCP.
func New(set *indicator.Set, open Opener) *Table {
	t := &Table{set: set, open: open, flows: map[key]*Flow{}, panics: map[string]int64{}}
	t.oldest.older, t.oldest.newer = &t.oldest, &t.oldest
	return t
}

// Packet counts a packet of a flow and returns the flow and who sent it. Ports
// are 0 where the protocol has none. size is that of the frame on the wire.
func (t *Table) Packet(d *frame.Datagram, srcPort, dstPort uint16, size int, at indicator.At) (*Flow, stream.Side) {
	k, low := keyOf(d.Src, d.Dst, srcPort, dstPort, d.Proto)
	f := t.flows[k]
	if f == nil {
		f = t.begin(k, low, at)
	} else if f.newer != &t.oldest {
		t.unlink(f)
		t.link(f)
	}
	way := 1
	if low {
		way = 0
	}
	if f.packets[way] == 0 && d.HasMAC {
		t.set.Sender(d.MAC, d.Src.IP(), at)
	}
	f.packets[way]++
	f.bytes[way] += int64(size)
	f.last, f.lastFrame = max(f.last, at.Time), at.Frame
	if low == f.lowIsServer {
		return f, stream.Server
	}
	return f, stream.Client
}

// Named says which protocol a flow is.
func (f *Flow) Named(name string) {
	if f.name == "" {
		f.name = name
	}
}

// Ends returns who the flow is between: source and destination by the side.
func (f *Flow) Ends(from stream.Side) (src, dst netip.AddrPort) {
	c := f.conn()
	if from == stream.Client {
		return c.Client, c.Server
	}
	return c.Server, c.Client
}

func (f *Flow) conn() stream.Conn {
	low := netip.AddrPortFrom(f.key.low.IP(), f.key.lowPort)
	high := netip.AddrPortFrom(f.key.high.IP(), f.key.highPort)
	c := stream.Conn{Client: low, Server: high}
	if f.lowIsServer {
		c.Client, c.Server = high, low
	}
	c.Middle = f.tcp != nil && !f.tcp.sides[0].synced && !f.tcp.sides[1].synced
	return c
}

func (t *Table) begin(k key, low bool, at indicator.At) *Flow {
	if len(t.flows) >= MaxFlows {
		if old := t.oldest.newer; old.tcp != nil && !old.tcp.done && at.Time-old.last < forgotten {
			t.set.Reached(LimitFlows)
		}
		t.end(t.oldest.newer)
	}
	f := t.free
	if f != nil {
		t.free = f.newer
		*f = Flow{}
	} else {
		f = &Flow{}
	}
	f.key, f.first, f.last, f.lastFrame = k, at, at.Time, at.Frame
	// Until a SYN tells better, the lower port is the server's; with equal ports
	// whoever spoke second.
	f.lowIsServer = k.lowPort < k.highPort || k.lowPort == k.highPort && !low
	if k.proto == frame.ICMP || k.proto == frame.ICMPv6 {
		f.lowIsServer = !low // its ports are none
	}
	sent, got := indicator.Source, indicator.Destination
	if !low {
		sent, got = got, sent
	}
	if k.low == k.high { // it talks to itself, and counts once
		f.ends[0] = t.set.Address(k.low.IP(), sent|got, at)
	} else {
		f.ends[0] = t.set.Address(k.low.IP(), sent, at)
		f.ends[1] = t.set.Address(k.high.IP(), got, at)
	}
	t.flows[k] = f
	t.link(f)
	return f
}

// link puts f where the newest flow is.
func (t *Table) link(f *Flow) {
	f.older, f.newer = t.oldest.older, &t.oldest
	f.older.newer, f.newer.older = f, f
}

func (t *Table) unlink(f *Flow) {
	f.older.newer, f.newer.older = f.newer, f.older
}

// end forgets a flow.
func (t *Table) end(f *Flow) {
	if f.tcp != nil {
		t.hangUp(f, indicator.At{Frame: f.lastFrame, Time: f.last})
	}
	t.totals.add(f)
	delete(t.flows, f.key)
	t.unlink(f)
	*f = Flow{newer: t.free}
	t.free = f
}

// Close ends all flows and returns what they were.
func (t *Table) Close() Summary {
	for t.oldest.newer != &t.oldest {
		t.end(t.oldest.newer)
	}
	return t.totals.summary()
}

// Panics returns how often each parser failed, by the name of its protocol.
func (t *Table) Panics() map[string]int64 { return t.panics }

// Failed counts that a parser failed.
func (t *Table) Failed(parser string) { t.panics[parser]++ }

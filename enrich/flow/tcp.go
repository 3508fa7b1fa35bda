package flow

import (
	"slices"

	"capagent/enrich/indicator"
	"capagent/enrich/stream"
)

// Bounds of the reassembly.
const (
	// maxAhead is how many bytes of a side wait for bytes before them.
	maxAhead         = 1 << 20
	maxAheadSegments = 2048
	// maxWindow is how far ahead a side may be of what was seen of it.
	maxWindow = 16 << 20
	// patience is how long (nanoseconds of packet time) bytes that were
	// acknowledged and not seen may still come, from a capture that mixes the
	// order of two interfaces.
	patience = 1_000_000_000
	// unknownAtMost is how many bytes of a side are put in order to find out what
	// a connection speaks. Behind them only the beginnings of segments are looked at.
	unknownAtMost = 16 << 10
	// maxHead is how many bytes are kept of a beginning that is too short to tell.
	maxHead = 64
	// enough bytes tell any protocol that is known here.
	enough      = 24
	segmentCost = 64 // what a waiting segment costs besides its bytes
)

// The limits of the reassembly.
const (
	LimitAhead  indicator.Limit = "tcp_out_of_order" // waiting bytes were given up as a gap
	LimitMemory indicator.Limit = "tcp_memory"       // likewise, for want of memory
)

// Segment is a TCP segment.
type Segment struct {
	Seq, Ack           uint32
	SYN, FIN, RST, ACK bool
	Data               []byte // what was captured of it
	Length             int    // bytes of data that it had
}

// connection is the reassembly of one TCP connection.
type connection struct {
	parser stream.Parser // nil: not known, or nothing of interest
	name   string
	done   bool // nothing that follows is of interest
	sides  [2]side
}

// side is what one end sends.
type side struct {
	next    uint32 // the sequence number that comes next
	initial uint32 // that of the SYN
	started bool
	synced  bool // by a SYN
	ended   bool
	hasFIN  bool
	fin     uint32 // the sequence number behind the last byte
	acked   uint32 // highest acknowledgement of the other side
	hasAck  bool
	offered int       // bytes that were looked at to recognise a protocol
	head    []byte    // a beginning that was too short to tell
	ahead   []segment // sorted, waiting for bytes before them
	waiting int       // their bytes
	since   int64     // since when the gap is known to be acknowledged; 0: it is not
}

type segment struct {
	seq  uint32
	data []byte
	at   indicator.At
}

// after says whether sequence number a is behind b.
func after(a, b uint32) bool { return int32(a-b) > 0 }

// Segment takes a segment of f.
func (t *Table) Segment(f *Flow, from stream.Side, s *Segment, at indicator.At) {
	if f.tcp == nil {
		f.tcp = &connection{}
	}
	c := f.tcp
	seq := s.Seq
	if s.SYN {
		from = t.synchronise(f, from, s, at)
		seq++
	}
	if s.ACK {
		t.acknowledged(f, from.Other(), s.Ack, at)
	}
	me := &c.sides[from]
	if c.done || me.ended {
		return
	}
	if s.Length > 0 {
		t.data(f, from, seq, s, at)
	}
	if s.FIN && me.started {
		me.fin, me.hasFIN = seq+uint32(s.Length), true
	}
	t.finish(f, from, at)
	if s.RST && me.near(seq) || c.sides[0].ended && c.sides[1].ended {
		t.hangUp(f, at)
	}
}

// near says whether a sequence number is of this connection: what an earlier one
// between the same ports has left is not (RFC 5961, 3.2).
func (s *side) near(seq uint32) bool {
	return !s.started || !after(s.next, seq) && seq-s.next <= maxWindow
}

// synchronise takes a SYN: the beginning of a connection, perhaps of another one
// between the same ports. It returns which side sent it.
func (t *Table) synchronise(f *Flow, from stream.Side, s *Segment, at indicator.At) stream.Side {
	c := f.tcp
	if me := &c.sides[from]; me.synced && me.initial == s.Seq {
		return from // once more
	}
	if c.sides[from].started && !s.ACK {
		t.hangUp(f, at)
		*c = connection{}
	}
	client := stream.Client
	if s.ACK {
		client = stream.Server
	}
	if from != client && !c.sides[0].synced && !c.sides[1].synced && c.parser == nil {
		// The ports misled.
		f.lowIsServer = !f.lowIsServer
		c.sides[0], c.sides[1] = c.sides[1], c.sides[0]
		from = client
	}
	me := &c.sides[from]
	t.abandon(me)
	me.hasAck = false
	me.initial, me.next = s.Seq, s.Seq+1
	me.synced, me.started = true, true
	return from
}

// acknowledged notes what the other end says that it has of a side.
func (t *Table) acknowledged(f *Flow, side stream.Side, ack uint32, at indicator.At) {
	me := &f.tcp.sides[side]
	if me.hasAck && !after(ack, me.acked) || !me.near(ack) {
		return
	}
	me.acked, me.hasAck = ack, true
	t.patient(f, side, at)
}

// data takes the bytes of a segment.
func (t *Table) data(f *Flow, from stream.Side, seq uint32, s *Segment, at indicator.At) {
	c := f.tcp
	me := &c.sides[from]
	if !me.started {
		me.started, me.next = true, seq
	}
	b, length := s.Data, s.Length
	if after(me.next, seq) { // the beginning is known
		old := int(me.next - seq)
		if old >= length {
			return
		}
		seq, length = me.next, length-old
		b = b[min(old, len(b)):]
	}
	if seq != me.next {
		if c.parser != nil || me.offered < unknownAtMost {
			t.keep(f, from, seq, b, at)
			return
		}
		me.next = seq // nobody waits for what is missing
	}
	me.next += uint32(len(b))
	t.deliver(f, from, b, at)
	if missing := length - len(b); missing > 0 {
		me.next += uint32(missing)
		t.gap(f, from, int64(missing), at)
	}
	t.catchUp(f, from, at)
}

// catchUp delivers what waited for the bytes that just came.
func (t *Table) catchUp(f *Flow, from stream.Side, at indicator.At) {
	c := f.tcp
	me := &c.sides[from]
	me.since = 0
	for !c.done && len(me.ahead) > 0 && !after(me.ahead[0].seq, me.next) {
		s := t.take(me)
		old := int(me.next - s.seq)
		if old >= len(s.data) {
			continue
		}
		if s.at.Frame < at.Frame {
			s.at = at
		}
		me.next += uint32(len(s.data) - old)
		t.deliver(f, from, s.data[old:], s.at)
	}
	t.patient(f, from, at)
}

// keep puts bytes aside that came too early.
func (t *Table) keep(f *Flow, from stream.Side, seq uint32, b []byte, at indicator.At) {
	me := &f.tcp.sides[from]
	i, known := slices.BinarySearchFunc(me.ahead, seq, func(s segment, seq uint32) int { return int(int32(s.seq - seq)) })
	if len(b) == 0 || known && len(me.ahead[i].data) >= len(b) {
		t.patient(f, from, at)
		return
	}
	if !t.set.Take(len(b)+segmentCost, LimitMemory) {
		t.skip(f, from)
		return
	}
	me.ahead = slices.Insert(me.ahead, i, segment{seq, slices.Clone(b), at})
	if me.waiting += len(b); me.waiting > maxAhead || len(me.ahead) > maxAheadSegments {
		t.set.Reached(LimitAhead)
		t.skip(f, from)
		return
	}
	t.patient(f, from, at)
}

// take removes the first segment that waits.
func (t *Table) take(me *side) segment {
	s := me.ahead[0]
	me.ahead[0] = segment{}
	if me.ahead = me.ahead[1:]; len(me.ahead) == 0 {
		me.ahead = nil
	}
	me.waiting -= len(s.data)
	t.set.Give(len(s.data) + segmentCost)
	return s
}

// abandon gives back what waits.
func (t *Table) abandon(me *side) {
	for len(me.ahead) > 0 {
		t.take(me)
	}
}

// patient gives the gap before what waits a while, once the other end has said
// that it has the missing bytes.
func (t *Table) patient(f *Flow, from stream.Side, at indicator.At) {
	me := &f.tcp.sides[from]
	switch {
	case len(me.ahead) == 0 || !me.hasAck || !after(me.acked, me.next):
	case me.since == 0:
		me.since = max(at.Time, 1)
	case at.Time-me.since > patience:
		t.skip(f, from)
	}
}

// skip gives up the bytes that are missing before what waits.
func (t *Table) skip(f *Flow, from stream.Side) {
	c := f.tcp
	me := &c.sides[from]
	if len(me.ahead) == 0 || c.done {
		return
	}
	first := me.ahead[0]
	missing := int64(first.seq - me.next)
	me.next = first.seq
	t.gap(f, from, missing, first.at)
	// What waited counts with the frame in which it came.
	t.catchUp(f, from, indicator.At{Time: first.at.Time})
}

// finish ends a side whose last byte came.
func (t *Table) finish(f *Flow, from stream.Side, at indicator.At) {
	c := f.tcp
	me := &c.sides[from]
	if c.done || me.ended || !me.hasFIN || after(me.fin, me.next) {
		return
	}
	me.ended = true
	if p := c.parser; p != nil {
		t.guard(f, func() { p.End(from, at) })
	}
}

// hangUp ends a connection as it stands: what waits is delivered over its gaps,
// and what follows is not looked at.
func (t *Table) hangUp(f *Flow, at indicator.At) {
	c := f.tcp
	for i := range c.sides {
		for !c.done && len(c.sides[i].ahead) > 0 {
			t.skip(f, stream.Side(i))
		}
		t.finish(f, stream.Side(i), at)
	}
	t.close(f, at)
	c.done = true
	for i := range c.sides {
		t.abandon(&c.sides[i])
	}
}

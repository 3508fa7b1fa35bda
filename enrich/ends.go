package enrich

import (
	"net/netip"

	"capagent/enrich/frame"
	"capagent/enrich/indicator"
	"capagent/internal/pcapio"
)

// Ends are who a frame is between: its outermost IP datagram.
type Ends struct {
	Src, Dst netip.Addr
	MAC      [6]byte // of the sender; zero where there is none
}

// EndsOf finds the ends of some frames of a capture. It belongs to one goroutine.
type EndsOf struct {
	ends    map[int64]*Ends // by frame, counted from 1
	left    int
	n       int64
	decoder *frame.Decoder
	current *Ends
}

// NewEndsOf wants the ends of these frames.
func NewEndsOf(frames []int64) *EndsOf {
	e := &EndsOf{ends: map[int64]*Ends{}}
	for _, f := range frames {
		e.ends[f] = nil
	}
	e.left = len(e.ends)
	e.decoder = frame.New(endSink{e}, &indicator.Bounds{})
	return e
}

// Packet looks at the next packet and says whether any other is wanted.
func (e *EndsOf) Packet(p *pcapio.Packet) (more bool) {
	e.n++
	if _, wanted := e.ends[e.n]; wanted {
		e.left--
		e.current = &Ends{}
		e.decode(p)
		if e.current.Src.IsValid() {
			e.ends[e.n] = e.current
		}
	}
	return e.left > 0
}

// decode is guarded: whatever a frame does to a parser, the next one is looked at.
func (e *EndsOf) decode(p *pcapio.Packet) {
	defer func() { _ = recover() }()
	e.decoder.Decode(p.LinkType, p.Data, p.Time)
}

// Close returns the ends that were found.
func (e *EndsOf) Close() map[int64]Ends {
	e.decoder.Close()
	found := make(map[int64]Ends, len(e.ends))
	for f, ends := range e.ends {
		if ends != nil {
			found[f] = *ends
		}
	}
	return found
}

type endSink struct{ e *EndsOf }

func (s endSink) Datagram(d *frame.Datagram) {
	c := s.e.current
	if c.Src.IsValid() {
		return
	}
	c.Src, c.Dst = d.Src.IP(), d.Dst.IP()
	if d.HasMAC {
		c.MAC = d.MAC
	}
}

func (endSink) ARP([]byte) {}

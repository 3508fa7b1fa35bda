package enrich

import (
	"capagent/enrich/flow"
	"capagent/enrich/frame"
	"capagent/enrich/indicator"
	"capagent/enrich/stream"
)

// protocols are the parsers, and how each is chosen.
type protocols struct {
	set     *indicator.Set
	current string // the parser that looks at a datagram now, for the count of its faults
}

func newProtocols(set *indicator.Set) protocols { return protocols{set: set} }

func (p *protocols) open(stream.Conn, stream.Side, []byte) (stream.Parser, string) { return nil, "" }

func (p *protocols) datagram(t *flow.Table, f *flow.Flow, from stream.Side, d *frame.Datagram, at indicator.At) {
}

func (p *protocols) icmpv6(d *frame.Datagram, at indicator.At) {}

func (p *protocols) arp(packet []byte, at indicator.At) {}

func (p *protocols) close(at indicator.At) {}

package dhcp

import (
	"net/netip"

	"capagent/enrich/indicator"
)

// Options of RFC 2132, RFC 3397 and RFC 4702.
const (
	optPad          = 0
	optHostName     = 12
	optDomainName   = 15
	optOverload     = 52
	optMessageType  = 53
	optFQDN         = 81
	optDomainSearch = 119
	optEnd          = 255
)

const (
	bootRequest = 1
	ack         = 5
)

// Where the fixed part of a message has what (RFC 2131, 2).
const (
	offYiaddr  = 16
	offChaddr  = 28
	offSname   = 44
	offFile    = 108
	offCookie  = 236
	offOptions = 240
)

// v4 is one message.
type v4 struct {
	t        *Tracker
	at       indicator.At
	kind     byte
	overload byte
	name     []byte // the client's
	search   [512]byte
	searchN  int
}

// V4 looks at a message of ports 67 and 68.
func (t *Tracker) V4(payload []byte, at indicator.At) {
	if len(payload) < offOptions || string(payload[offCookie:offOptions]) != "\x63\x82\x53\x63" {
		return
	}
	m := v4{t: t, at: at}
	m.options(payload[offOptions:])
	// Options may go on in two fixed fields, in this order (RFC 2131, 4.1).
	overload := m.overload
	if overload&1 != 0 {
		m.options(payload[offFile:offCookie])
	}
	if overload&2 != 0 {
		m.options(payload[offSname:offFile])
	}
	m.client(payload)
	t.list(m.search[:m.searchN], at) // last: names lie in t.text
}

// client keeps what the client calls itself, or binds the address that it got.
func (m *v4) client(payload []byte) {
	if payload[1] != 1 || payload[2] != 6 {
		return // no Ethernet address
	}
	mac := [6]byte(payload[offChaddr:])
	switch {
	case payload[0] == bootRequest:
		m.t.remember(mac, m.name)
	case m.kind == ack:
		if len(m.name) == 0 {
			m.name = m.t.called(mac)
		}
		m.t.set.Binding(mac, netip.AddrFrom4([4]byte(payload[offYiaddr:])), indicator.DHCP, m.name, m.at)
	}
}

func (m *v4) options(b []byte) {
	for len(b) > 0 && b[0] != optEnd {
		if b[0] == optPad {
			b = b[1:]
			continue
		}
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return
		}
		m.option(b[0], b[2:2+int(b[1])])
		b = b[2+int(b[1]):]
	}
}

func (m *v4) option(code byte, b []byte) {
	switch code {
	case optHostName:
		m.name = text(b)
		m.t.host(m.name, m.at)
	case optDomainName:
		m.t.host(text(b), m.at)
	case optFQDN:
		if len(b) > 3 {
			m.fqdn(b[0], b[3:])
		}
	case optDomainSearch:
		// Several of them are one list (RFC 3397, 2).
		n := copy(m.search[m.searchN:], b)
		if m.searchN += n; n < len(b) {
			m.t.set.Reached(LimitNames)
		}
	case optOverload:
		if len(b) == 1 {
			m.overload = b[0]
		}
	case optMessageType:
		if len(b) == 1 {
			m.kind = b[0]
		}
	}
}

// fqdn looks at option 81, which has DNS's wire form or, formerly, text (RFC 4702,
// 2.1 and 2.3.1).
func (m *v4) fqdn(flags byte, b []byte) {
	const encoded = 4
	name, ok := text(b), true
	if flags&encoded != 0 {
		name, _, ok = m.t.name(b, 0)
	}
	if !ok {
		return
	}
	m.t.host(name, m.at)
	if len(m.name) == 0 {
		m.name = name
	}
}

package dhcp

import (
	"encoding/binary"
	"net/netip"

	"capagent/enrich/indicator"
)

// Options and messages of RFC 8415, RFC 3646 and RFC 4704.
const (
	opt6ClientID     = 1
	opt6IANA         = 3
	opt6IAAddr       = 5
	opt6Relay        = 9
	opt6DomainSearch = 24
	opt6FQDN         = 39

	reply      = 7
	relayForw  = 12
	relayReply = 13

	maxRelays = 8 // HOP_COUNT_LIMIT (RFC 8415, 7.6)
)

// V6 looks at a message of ports 546 and 547, also inside those of relays.
func (t *Tracker) V6(payload []byte, at indicator.At) {
	for range maxRelays + 1 {
		if len(payload) < 4 {
			return
		}
		kind := payload[0]
		if kind != relayForw && kind != relayReply {
			t.message6(kind, payload[4:], at)
			return
		}
		if len(payload) < 34 {
			return
		}
		inner := []byte(nil)
		for o := (options6{rest: payload[34:]}); o.more(); {
			if o.code == opt6Relay {
				inner = o.data
			}
		}
		payload = inner
	}
}

func (t *Tracker) message6(kind byte, b []byte, at indicator.At) {
	var mac [6]byte
	var name []byte
	for o := (options6{rest: b}); o.more(); {
		switch o.code {
		case opt6ClientID:
			mac = duid(o.data)
		case opt6DomainSearch:
			t.list(o.data, at)
		}
	}
	for o := (options6{rest: b}); o.more(); {
		if o.code == opt6FQDN && len(o.data) > 1 { // last: it stays in t.text
			if n, _, ok := t.name(o.data[1:], 0); ok {
				name = n
				t.host(name, at)
			}
		}
	}
	if mac == [6]byte{} {
		return
	}
	if kind != reply {
		t.remember(mac, name)
		return
	}
	if len(name) == 0 {
		name = t.called(mac)
	}
	for o := (options6{rest: b}); o.more(); {
		if o.code == opt6IANA && len(o.data) > 12 {
			t.granted(mac, o.data[12:], name, at)
		}
	}
}

// granted binds the addresses of an IA_NA option (RFC 8415, 21.4) that have time
// to live.
func (t *Tracker) granted(mac [6]byte, b, name []byte, at indicator.At) {
	for o := (options6{rest: b}); o.more(); {
		if o.code == opt6IAAddr && len(o.data) >= 24 && binary.BigEndian.Uint32(o.data[20:]) > 0 {
			t.set.Binding(mac, netip.AddrFrom16([16]byte(o.data)), indicator.DHCP, name, at)
		}
	}
}

// duid returns the Ethernet address in a DUID-LLT or DUID-LL (RFC 8415, 11.2 and
// 11.4), or zeros.
func duid(b []byte) (mac [6]byte) {
	if len(b) == 14 && string(b[:4]) == "\x00\x01\x00\x01" {
		return [6]byte(b[8:])
	}
	if len(b) == 10 && string(b[:4]) == "\x00\x03\x00\x01" {
		return [6]byte(b[4:])
	}
	return mac
}

// options6 goes through options as far as they are whole.
type options6 struct {
	rest []byte
	code uint16
	data []byte
}

func (o *options6) more() bool {
	if len(o.rest) < 4 {
		return false
	}
	n := 4 + int(binary.BigEndian.Uint16(o.rest[2:]))
	if n > len(o.rest) {
		return false
	}
	o.code, o.data, o.rest = binary.BigEndian.Uint16(o.rest), o.rest[4:n], o.rest[n:]
	return true
}

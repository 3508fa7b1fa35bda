// Package dns finds names and addresses in messages of DNS and of what took over
// its format: mDNS, LLMNR and the NetBIOS name service.
package dns

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"capagent/enrich/indicator"
)

// Kind is which protocol a message is of.
type Kind uint8

// The kinds.
const (
	Unicast Kind = iota // RFC 1035: names that are true everywhere
	MDNS                // RFC 6762
	LLMNR               // RFC 4795
	NetBIOS             // RFC 1002, port 137
)

// LimitNames is met by a message whose compression makes its names many times
// longer than itself. What comes behind is not looked at.
const LimitNames indicator.Limit = "dns_names"

// Record types that carry what is of interest.
const (
	typeA     = 1
	typeNS    = 2
	typeCNAME = 5
	typeSOA   = 6
	typePTR   = 12
	typeMX    = 15
	typeAAAA  = 28
	typeNB    = 32 // RFC 1002, 4.2.1.3
	typeSRV   = 33 // for NetBIOS: NBSTAT
	typeDNAME = 39
	typeSVCB  = 64
	typeHTTPS = 65
)

const header = 12

// Message takes the names and addresses of a message, as far as it is whole:
// what stands before the damage or the end of a snapped packet counts.
func Message(set *indicator.Set, msg []byte, kind Kind, at indicator.At) {
	if len(msg) < header {
		return
	}
	r := reader{set: set, msg: msg, kind: kind, at: at, pos: header, budget: 8*len(msg) + 1024}
	count := func(at int) int { return int(binary.BigEndian.Uint16(msg[at:])) }
	for n := count(4); n > 0; n-- {
		if !r.question() {
			return
		}
	}
	// Every record has at least eleven bytes, or the message ends: the counts
	// can't make this long.
	r.answers = count(6)
	for n := r.answers + count(8) + count(10); n > 0; n-- {
		if !r.record() {
			return
		}
		r.answers--
	}
}

// reader goes through one message.
type reader struct {
	set    *indicator.Set
	msg    []byte
	kind   Kind
	at     indicator.At
	pos    int
	budget int // how many bytes names may still have together: keeps the work linear

	text     [2*maxName + 1]byte // the last name
	owner    [2*maxName + 1]byte // that of the record before
	ownerLen int
	ownerAt  int                 // where it stood, or to which place it was a pointer
	asked    [2*maxName + 1]byte // the first question: what answers resolve, through aliases
	askedLen int
	answers  int // records of the answer section that are left
}

func (r *reader) question() bool {
	name, next, ok := r.name(r.pos)
	if !ok {
		return false
	}
	if r.askedLen == 0 && r.kind == Unicast {
		r.askedLen = copy(r.asked[:], name)
	}
	r.host(name, indicator.DNSQuestion)
	r.pos = next + 4
	return r.pos <= len(r.msg)
}

func (r *reader) record() bool {
	next, ok := r.recordOwner()
	if !ok || next+10 > len(r.msg) {
		return false
	}
	kind := binary.BigEndian.Uint16(r.msg[next:])
	n := int(binary.BigEndian.Uint16(r.msg[next+8:]))
	start := next + 10
	r.pos = start + n
	if r.kind == NetBIOS {
		r.netbiosData(kind, r.msg[start:min(r.pos, len(r.msg))])
	} else if !r.data(kind, start, n) {
		return false
	}
	return r.pos <= len(r.msg)
}

// recordOwner reports the name that a record is of. Records of one name stand
// together, and are one sighting of it.
func (r *reader) recordOwner() (next int, ok bool) {
	place := r.pos
	if r.pos+2 <= len(r.msg) && r.msg[r.pos] >= 0xc0 {
		place = int(binary.BigEndian.Uint16(r.msg[r.pos:]) & 0x3fff)
		if place == r.ownerAt {
			return r.pos + 2, true
		}
	}
	r.ownerAt = place
	name, next, ok := r.name(r.pos)
	if !ok {
		return 0, false
	}
	if !bytes.Equal(name, r.owner[:r.ownerLen]) {
		r.ownerLen = copy(r.owner[:], name)
		r.host(name, indicator.DNSAnswer)
	}
	return next, true
}

// data takes what is of interest in the n bytes of a record's data. Where they are
// snapped, a name in them may still be whole.
func (r *reader) data(kind uint16, start, n int) bool {
	switch kind {
	case typeA:
		if n == 4 && start+n <= len(r.msg) {
			r.address(netip.AddrFrom4([4]byte(r.msg[start:])))
		}
		return true
	case typeAAAA:
		if n == 16 && start+n <= len(r.msg) {
			r.address(netip.AddrFrom16([16]byte(r.msg[start:])))
		}
		return true
	case typeNS, typeCNAME, typePTR, typeDNAME, typeSOA:
	case typeMX, typeSVCB, typeHTTPS:
		start, n = start+2, n-2
	case typeSRV:
		start, n = start+6, n-6
	default:
		return true
	}
	if n <= 0 {
		return true // an update may delete without data (RFC 2136, 2.5)
	}
	name, _, ok := r.name(start)
	if ok {
		r.host(name, indicator.DNSAnswer)
	}
	return ok
}

func (r *reader) address(a netip.Addr) {
	r.set.Address(a, r.role(indicator.DNSAnswer), r.at)
	if r.askedLen > 0 && r.answers > 0 {
		r.set.Resolved(r.asked[:r.askedLen], a)
	}
}

// role returns the role of something that has the role unicast in unicast DNS.
func (r *reader) role(unicast indicator.Role) indicator.Role {
	switch r.kind {
	case MDNS:
		return indicator.MDNS
	case LLMNR:
		return indicator.LLMNR
	case NetBIOS:
		return indicator.NetBIOS
	default:
		return unicast
	}
}

// host reports a name in presentation form. The root is no name.
func (r *reader) host(name []byte, unicast indicator.Role) {
	if len(name) > 0 && name[len(name)-1] == '.' {
		name = append(name, '.') // it is a label's own, not the final one that is ignored
	}
	switch r.kind {
	case NetBIOS:
		r.netbiosName(name)
	case Unicast:
		r.set.Host(name, unicast, r.at)
	default:
		r.set.LocalHost(name, r.role(unicast), r.at)
	}
}

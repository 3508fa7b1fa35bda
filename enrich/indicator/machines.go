package indicator

import (
	"cmp"
	"net/netip"
	"slices"
)

// What a Set holds at most of machines.
const (
	MaxSenders  = 10_000 // hardware addresses
	MaxBehind   = 20     // addresses of one of them that are kept
	MaxResolved = 20_000
)

// LimitSenders is met by more hardware addresses than are kept.
const LimitSenders Limit = "hardware_addresses"

// Sender is a hardware address that sent IP packets.
type Sender struct {
	MAC [6]byte
	// IPs are the addresses that it sent for, at most MaxBehind; Behind is how many
	// there were, where MaxBehind+1 stands for more.
	IPs    []netip.Addr
	Behind int
	First  At
}

// Sender notes that mac sent a packet of ip. It is called once for each direction of
// a flow: that is enough, and costs packets nothing.
func (s *Set) Sender(mac [6]byte, ip netip.Addr, at At) {
	if mac[0]&1 != 0 || mac == [6]byte{} || !ip.IsValid() || ip.IsUnspecified() {
		return
	}
	one := s.senders[mac]
	if one == nil {
		if len(s.senders) >= MaxSenders {
			s.Reached(LimitSenders)
			return
		}
		one = &Sender{MAC: mac, First: at}
		s.senders[mac] = one
	}
	switch {
	case one.Behind > MaxBehind || slices.Contains(one.IPs, ip):
	case len(one.IPs) < MaxBehind:
		one.IPs = append(one.IPs, ip)
		one.Behind = len(one.IPs)
	default:
		one.Behind = MaxBehind + 1
	}
}

// Senders returns them in the order of their first frames.
func (s *Set) Senders() []Sender {
	list := make([]Sender, 0, len(s.senders))
	for _, one := range s.senders {
		list = append(list, *one)
	}
	slices.SortFunc(list, func(a, b Sender) int {
		return cmp.Or(cmp.Compare(a.First.Frame, b.First.Frame), slices.Compare(a.MAC[:], b.MAC[:]))
	})
	return list
}

// Resolved is an address that a name had, by a DNS answer.
type Resolved struct {
	Host string
	IP   netip.Addr
}

// Resolved notes that a host has an address. Of a name that the Set does not hold
// nothing is noted, and nothing beyond MaxResolved: it is help, not evidence.
func (s *Set) Resolved(host []byte, ip netip.Addr) {
	s.text = appendHost(s.text[:0], host)
	i := s.known[Host][string(s.text)]
	if i == nil || len(s.resolved) >= MaxResolved {
		return
	}
	s.resolved[Resolved{i.Value, ip.Unmap()}] = struct{}{}
}

// Answers returns what names were resolved to, by name.
func (s *Set) Answers() []Resolved {
	list := make([]Resolved, 0, len(s.resolved))
	for r := range s.resolved {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b Resolved) int { return cmp.Or(cmp.Compare(a.Host, b.Host), a.IP.Compare(b.IP)) })
	return list
}

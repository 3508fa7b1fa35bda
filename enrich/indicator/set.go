package indicator

import (
	"cmp"
	"encoding/hex"
	"net/netip"
	"slices"
)

// What a Set holds at most. Beyond, it counts only what it knows already.
const (
	MaxIndicators = 100_000
	MaxBytes      = 12 << 20 // of all values
	MaxValue      = 8 << 10  // of one; a longer one is no indicator
	MaxBindings   = 10_000
)

// The limits of a Set.
const (
	LimitIndicators Limit = "indicators"
	LimitValue      Limit = "long_value"
	LimitBindings   Limit = "bindings"
)

// Set collects the indicators of one capture. It belongs to one goroutine.
type Set struct {
	Bounds

	known    [types]map[string]*Indicator
	address  map[netip.Addr]*Indicator
	order    []*Indicator
	bytes    int
	bindings map[bindingKey]*Binding
	senders  map[[6]byte]*Sender
	resolved map[Resolved]struct{}
	text     []byte // what a value is built in
}

type bindingKey struct {
	mac [6]byte
	ip  netip.Addr
	how How
}

// New returns an empty Set.
func New() *Set {
	s := &Set{
		address: map[netip.Addr]*Indicator{}, bindings: map[bindingKey]*Binding{},
		senders: map[[6]byte]*Sender{}, resolved: map[Resolved]struct{}{},
	}
	for i := range s.known {
		s.known[i] = map[string]*Indicator{}
	}
	return s
}

// see counts a sighting. The text is in its final form.
func (s *Set) see(t Type, text []byte, r Role, at At) {
	if i := s.known[t][string(text)]; i != nil {
		i.See(r, at)
		return
	}
	if len(text) == 0 {
		return
	}
	if len(text) > MaxValue {
		s.Reached(LimitValue)
		return
	}
	if i := s.add(t, string(text), r, at); i != nil {
		s.known[t][i.Value] = i
	}
}

func (s *Set) add(t Type, value string, r Role, at At) *Indicator {
	if len(s.order) >= MaxIndicators || s.bytes+len(value) > MaxBytes {
		s.Reached(LimitIndicators)
		return nil
	}
	i := &Indicator{Type: t, Value: value, Role: r, Count: 1, First: at, Last: at.Time}
	s.order = append(s.order, i)
	s.bytes += len(value)
	return i
}

// See counts one sighting more.
func (i *Indicator) See(r Role, at At) {
	i.Role |= r
	i.Count++
	if at.Frame < i.First.Frame {
		i.First = at
	}
	i.Last = max(i.Last, at.Time)
}

// Address counts a sighting of an address and returns its indicator, for callers
// that see it often; nil when it is not kept.
func (s *Set) Address(a netip.Addr, r Role, at At) *Indicator {
	a = a.Unmap().WithZone("")
	if !a.IsValid() {
		return nil
	}
	if i := s.address[a]; i != nil {
		i.See(r, at)
		return i
	}
	i := s.add(Address, a.String(), r, at)
	if i != nil {
		s.address[a] = i
	}
	return i
}

// URL counts a sighting of an absolute URL.
func (s *Set) URL(u []byte, r Role, at At) {
	s.text = appendURL(s.text[:0], u)
	s.see(URL, s.text, r, at)
}

// UserAgent counts a sighting of a user agent.
func (s *Set) UserAgent(ua []byte, r Role, at At) {
	s.text = appendText(s.text[:0], ua)
	s.see(UserAgent, s.text, r, at)
}

// Email counts a sighting of an e-mail address, without its brackets. What has no
// domain is none.
func (s *Set) Email(address []byte, r Role, at At) {
	s.text = appendEmail(s.text[:0], address)
	s.see(Email, s.text, r, at)
}

// Host counts a sighting of a host name: labels with dots between them, in
// ASCII, UTF-8 or DNS presentation form. A port is not part of it, a final dot is
// ignored. A literal address counts as that address.
func (s *Set) Host(name []byte, r Role, at At) { s.host(Host, name, r, at) }

// LocalHost is Host for names that are true on one link only.
func (s *Set) LocalHost(name []byte, r Role, at At) { s.host(LocalHost, name, r, at) }

func (s *Set) host(t Type, name []byte, r Role, at At) {
	if a, ok := literal(name); ok {
		s.Address(a, r, at)
		return
	}
	s.text = appendHost(s.text[:0], name)
	s.see(t, s.text, r, at)
}

// JA3 counts a sighting of a JA3 fingerprint.
func (s *Set) JA3(sum [16]byte, r Role, at At) { s.sum(JA3, sum[:], r, at) }

// JA4 counts a sighting of a JA4 fingerprint.
func (s *Set) JA4(text []byte, r Role, at At) { s.see(JA4, text, r, at) }

// Certificate counts a sighting of a certificate by the digests of its DER form.
func (s *Set) Certificate(sha1 [20]byte, sha256 [32]byte, r Role, at At) {
	s.sum(Certificate, sha1[:], r, at)
	s.sum(Certificate, sha256[:], r, at)
}

// File counts a sighting of a whole body by its digests.
func (s *Set) File(md5 [16]byte, sha1 [20]byte, sha256 [32]byte, r Role, at At) {
	s.sum(File, md5[:], r, at)
	s.sum(File, sha1[:], r, at)
	s.sum(File, sha256[:], r, at)
}

func (s *Set) sum(t Type, sum []byte, r Role, at At) {
	s.text = hex.AppendEncode(s.text[:0], sum)
	s.see(t, s.text, r, at)
}

// Binding counts that mac says it has ip. The name is what a device calls itself,
// or "".
func (s *Set) Binding(mac [6]byte, ip netip.Addr, how How, name []byte, at At) {
	ip = ip.Unmap().WithZone("")
	if !ip.IsValid() || ip.IsUnspecified() || mac == [6]byte{} {
		return
	}
	k := bindingKey{mac, ip, how}
	b := s.bindings[k]
	if b == nil {
		if len(s.bindings) >= MaxBindings {
			s.Reached(LimitBindings)
			return
		}
		b = &Binding{MAC: mac, IP: ip, How: how, First: at, Last: at.Time}
		s.bindings[k] = b
	}
	b.Count++
	b.Last = max(b.Last, at.Time)
	if len(name) > 0 && len(name) <= maxHost {
		if s.text = appendText(s.text[:0], name); string(s.text) != b.Name {
			b.Name = string(s.text)
		}
	}
}

// List returns the indicators by type, and within one in the order of their first
// frames.
func (s *Set) List() []Indicator {
	list := make([]Indicator, len(s.order))
	for n, i := range s.order {
		list[n] = *i
	}
	slices.SortStableFunc(list, func(a, b Indicator) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.First.Frame, b.First.Frame))
	})
	return list
}

// Bindings returns the bindings in the order of their first frames.
func (s *Set) Bindings() []Binding {
	list := make([]Binding, 0, len(s.bindings))
	for _, b := range s.bindings {
		list = append(list, *b)
	}
	slices.SortFunc(list, func(a, b Binding) int {
		return cmp.Or(cmp.Compare(a.First.Frame, b.First.Frame), a.IP.Compare(b.IP), slices.Compare(a.MAC[:], b.MAC[:]))
	})
	return list
}

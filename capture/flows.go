package capture

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

// Flow is one TCP connection of the agent.
type Flow struct {
	Local, Remote netip.AddrPort
}

// Flows are the agent's own connections, which its captures leave out
// (exclude_uploads). Who dials adds a connection after its local port is known
// and before its first packet is sent; a source puts the list into its filter.
// The zero value is empty and ready.
type Flows struct {
	mu       sync.Mutex
	flows    []Flow
	watchers map[int]func([]Flow)
	next     int
}

// linger is how long a connection is left out after its end: its last packets
// may be repeated, or still be on their way.
const linger = time.Minute

// Connecting is what httpx.Options.Connecting wants: the connection is left out
// when it returns, and is taken out again a while after closed was called.
func (s *Flows) Connecting(local, remote netip.AddrPort) (closed func()) {
	remove := s.Add(Flow{Local: local, Remote: remote})
	return sync.OnceFunc(func() { time.AfterFunc(linger, remove) })
}

// Add puts f into every filter before it returns; remove takes it out again.
func (s *Flows) Add(f Flow) (remove func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flows = append(s.flows, f)
	s.tell()
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if i := slices.Index(s.flows, f); i >= 0 {
			s.flows = slices.Delete(s.flows, i, i+1)
			s.tell()
		}
	})
}

// Watch has changed called with the flows as they are, at once and after each
// change, until stop. Calls come one at a time; changed must not call s.
func (s *Flows) Watch(changed func([]Flow)) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watchers == nil {
		s.watchers = map[int]func([]Flow){}
	}
	n := s.next
	s.next++
	s.watchers[n] = changed
	changed(slices.Clone(s.flows))
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watchers, n)
	}
}

func (s *Flows) tell() {
	for _, changed := range s.watchers {
		changed(slices.Clone(s.flows))
	}
}

// Without returns the pcap-filter expression that passes what expr passes and is
// not of flows. expr is "" for everything, and otherwise right by itself.
func Without(expr string, flows []Flow) string {
	var b strings.Builder
	for i, f := range flows {
		if i > 0 {
			b.WriteString(" or ")
		}
		fmt.Fprintf(&b, "(tcp and (%s or %s))", direction(f.Local, f.Remote), direction(f.Remote, f.Local))
	}
	switch {
	case len(flows) == 0:
		return expr
	case strings.TrimSpace(expr) == "":
		return "not (" + b.String() + ")"
	default: // first, since "vlan" and its like shift what stands behind them
		return "not (" + b.String() + ") and (" + expr + ")"
	}
}

func direction(from, to netip.AddrPort) string {
	return fmt.Sprintf("(src host %s and src port %d and dst host %s and dst port %d)",
		from.Addr().Unmap().WithZone(""), from.Port(), to.Addr().Unmap().WithZone(""), to.Port())
}

package afpacket

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"capagent/capture"
)

// How often interfaces are looked at.
const (
	lookEvery  = time.Second            // the end of one is told by its socket, at once
	retryEvery = 100 * time.Millisecond // while one is away
)

// blindPackets is how many packets an interface must have counted before it is
// said that they should have come in.
const blindPackets = 10

// port is an interface that was asked for, through its lives.
type port struct {
	configured string
	name       string // now
	link       link
	rings      []*ring
	program    []bpf.RawInstruction // for links of type fits
	fits       int
	iface      uint32 // the last one of the source's interfaces that is this port's
	known      bool   // iface is set

	gone    time.Time // since when it is away; zero: it is not
	refused string    // why it could not be opened again
	unfit   int       // index of an interface of its name for which the filter means nothing
	down    time.Time // since when; zero: it is up
	failed  bool      // its socket told of an end since the last look

	blind   bool
	seen    time.Time // when its counters were last compared
	counted uint64    // by the interface, then
	arrived uint64    // here, then
}

func (s *source) tell(e capture.Event) {
	if s.o.Event != nil {
		s.o.Event(e)
	}
}

// failed notes an error of r's socket, for a look at once.
func (s *source) failed(r *ring, cause unix.Errno) {
	s.nextLook = time.Time{}
	for _, p := range s.ports {
		if slices.Contains(p.rings, r) && cause == unix.ENETDOWN {
			p.failed = true
		}
	}
}

// look finds out what became of the interfaces.
func (s *source) look(now time.Time) {
	s.nextLook = now.Add(lookEvery)
	s.Stats() // the kernel's counters have 32 bits only
	for _, p := range s.ports {
		if !p.link.any() {
			s.lookAt(p, now)
		}
		if !p.gone.IsZero() && p.refused == "" {
			s.nextLook = now.Add(retryEvery)
		}
	}
	if s.closeEnded(now) {
		s.nextLook = now.Add(retryEvery)
	}
}

func (s *source) lookAt(p *port, now time.Time) {
	if !p.gone.IsZero() {
		s.reopen(p, now)
		return
	}
	l, err := s.links.byIndex(p.link.index)
	switch {
	case errors.Is(err, unix.ENODEV), !p.rings[0].bound():
		s.lose(p, now, unix.ENODEV)
		s.reopen(p, now) // it may be there again
		return
	case err != nil:
		return // no answer is no news
	case l.linkType != p.link.linkType: // as a WLAN's between managed and monitor
		s.lose(p, now, fmt.Errorf("its link type changed from %d to %d", p.link.linkType, l.linkType))
		s.reopen(p, now)
		return
	}
	if l.name != p.name {
		s.mu.Lock()
		s.ifaces[p.iface].Name = l.name
		s.mu.Unlock()
		was := p.name
		p.name, p.link = l.name, l
		s.tell(capture.Event{Kind: capture.Renamed, Interface: l.name, Was: was, Time: now})
	}
	if p.down.IsZero() && (p.failed || !l.up) {
		p.down = now
		s.tell(capture.Event{Kind: capture.Down, Interface: p.name, Time: now, Err: unix.ENETDOWN})
	}
	if !p.down.IsZero() && l.up {
		s.tell(capture.Event{Kind: capture.Up, Interface: p.name, Time: now, Gap: now.Sub(p.down)})
		p.down = time.Time{}
	}
	p.failed = false
	for _, r := range p.rings {
		r.mute = false
	}
	s.lookForBlind(p, l, now)
}

// bound says whether the socket still belongs to its interface: the index alone
// may have gone to another one.
func (r *ring) bound() bool {
	a, err := unix.Getsockname(r.fd)
	if err != nil {
		return false
	}
	ll, ok := a.(*unix.SockaddrLinklayer)
	return ok && ll.Ifindex == r.link.index
}

// lose ends p's rings; what is in them is still handed over.
func (s *source) lose(p *port, now time.Time, cause error) {
	s.mu.Lock()
	for _, r := range p.rings {
		_ = r.attach(refuseAll)
		s.count(r)
		r.ending = now.Add(drainTime(s.o.Retire))
	}
	s.mu.Unlock()
	p.rings, p.gone = nil, now
	s.tell(capture.Event{Kind: capture.Gone, Interface: p.name, Time: now, Err: cause})
}

// reopen opens p again if there is an interface of its name, the one that was
// asked for or the one that it had.
func (s *source) reopen(p *port, now time.Time) {
	l, err := s.links.byName(p.configured)
	if err != nil && p.name != p.configured {
		l, err = s.links.byName(p.name)
	}
	if err == nil && l.index == p.unfit {
		return
	}
	if err == nil {
		if err = s.fit(p, l); err != nil {
			p.unfit = l.index
		}
	}
	if err == nil {
		err = s.openPort(p, l)
	}
	switch {
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return
	case err != nil:
		if p.refused != err.Error() {
			p.refused = err.Error()
			s.tell(capture.Event{Kind: capture.Gone, Interface: p.configured, Time: now, Err: explained(p.configured, err)})
		}
		return
	}
	was := ""
	if l.name != p.name {
		was = p.name
	}
	gap := now.Sub(p.gone)
	p.name, p.gone, p.refused, p.unfit = l.name, time.Time{}, "", 0
	p.down, p.failed, p.blind = time.Time{}, false, false
	p.seen, p.counted, p.arrived = now, l.packets, 0
	s.tell(capture.Event{Kind: capture.Back, Interface: l.name, Was: was, Time: now, Gap: gap})
}

// closeEnded closes rings of lost interfaces that have nothing left, and says
// whether there are others.
func (s *source) closeEnded(now time.Time) (more bool) {
	if !slices.ContainsFunc(s.rings, func(r *ring) bool { return !r.ending.IsZero() }) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	rings := make([]*ring, 0, len(s.rings))
	for _, r := range s.rings {
		if r.ending.IsZero() || r.ready() || (r.taken < r.received && now.Before(r.ending)) {
			rings = append(rings, r)
			more = more || !r.ending.IsZero()
			continue
		}
		s.count(r)
		r.close()
	}
	s.rings = rings
	return more
}

// lookForBlind compares what the interface counts with what arrives here: a
// capture may be alive and see nothing. With a filter nothing can be said.
func (s *source) lookForBlind(p *port, l link, now time.Time) {
	if s.o.Blind < 0 || s.o.Filter != "" {
		return
	}
	var arrived uint64
	s.mu.Lock()
	for _, r := range p.rings {
		arrived += r.received
	}
	arrived += s.stats[p.iface].Dropped
	own := len(s.flows) > 0
	s.mu.Unlock()
	sees := arrived != p.arrived
	switch {
	case sees && p.blind:
		p.blind = false
		s.tell(capture.Event{Kind: capture.Seeing, Interface: p.name, Time: now})
	case sees, own, p.seen.IsZero(), l.packets < p.counted: // what is left out is counted too
	case now.Sub(p.seen) < s.o.Blind:
		return
	case l.packets-p.counted >= blindPackets && !p.blind:
		p.blind = true
		s.tell(capture.Event{Kind: capture.Blind, Interface: p.name, Time: now})
	}
	p.seen, p.counted, p.arrived = now, l.packets, arrived
}

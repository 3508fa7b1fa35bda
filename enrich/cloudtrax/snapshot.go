package cloudtrax

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"capagent/enrich/device"
)

// part is what one request, or one for each switch, gave.
type part struct {
	at      time.Time
	every   time.Duration
	skipped int // records that made no sense

	networks []network
	clients  []client
	nodes    []node
	ssids    map[string]string // names, by "ssid1"
	switches []desk
	survey   []foreign
}

// keep is how long what CloudTrax said once is told at all.
const keep = 24 * time.Hour

// stale says that a part was to be renewed three times and never was.
func (p *part) stale(now time.Time) bool { return now.Sub(p.at) > 3*p.every }

func (p *part) gone(now time.Time) bool { return now.Sub(p.at) > keep }

// snapshot is all that is known at one time, by what captures show. It is never
// changed: each that follows is another one.
type snapshot struct {
	clients  map[device.MAC]known[client]
	nodes    map[device.MAC]known[node]
	gateways map[netip.Addr]known[node] // without those that several have
	switches map[device.MAC]known[desk]
	ports    map[device.MAC]known[place]
	foreign  map[device.MAC]known[foreign]
	own      map[string]bool // SSIDs

	networks int
	skipped  int
	oldest   *part // of the client tables; nil: there is none
	newest   *part // of all that names machines; nil: there is none
}

// known is a record, and when and how it was learnt.
type known[T any] struct {
	is   T
	from *part
}

// place is a port of a switch.
type place struct{ desk, port, vlan string }

func (p place) String() string {
	name := p.desk
	if name == "" {
		name = "of no name"
	}
	text := "switch " + name + " port " + p.port
	if p.vlan != "" && p.vlan != "0" {
		text += " VLAN " + p.vlan
	}
	return device.Clean(text)
}

// build makes a snapshot of all parts. The caller holds mu.
func (r *Reader) build() *snapshot {
	s := &snapshot{
		clients: map[device.MAC]known[client]{}, nodes: map[device.MAC]known[node]{}, gateways: map[netip.Addr]known[node]{},
		switches: map[device.MAC]known[desk]{}, ports: map[device.MAC]known[place]{}, foreign: map[device.MAC]known[foreign]{},
		own: map[string]bool{}, networks: len(r.found),
	}
	shared := map[netip.Addr]bool{}
	for _, j := range r.sorted() {
		p := j.part
		if p == nil {
			continue
		}
		s.skipped += p.skipped
		if j.kind != networks && j.kind != settings && (s.newest == nil || p.at.After(s.newest.at)) {
			s.newest = p
		}
		for _, name := range p.ssids {
			s.own[name] = true
		}
		for _, n := range p.nodes {
			s.nodes[n.mac] = known[node]{n, p}
			s.addGateway(known[node]{n, p}, shared)
		}
		for _, f := range p.survey {
			s.foreign[f.bssid] = known[foreign]{f, p}
		}
		s.addSwitches(p)
		if j.kind == clients {
			s.addClients(p, r.ssids(j))
		}
	}
	return s
}

// ssids are the names of the SSIDs of a job's network.
func (r *Reader) ssids(j *job) map[string]string {
	if o := r.jobs[jobKey{settings, j.network}]; o != nil && o.part != nil {
		return o.part.ssids
	}
	return nil
}

// addGateway adds the addresses of a gateway. An address that several have, as those
// behind a NAT do, says nothing.
func (s *snapshot) addGateway(n known[node], shared map[netip.Addr]bool) {
	for _, a := range []netip.Addr{n.is.lan, n.is.wan} {
		if !a.IsValid() || shared[a] {
			continue
		}
		if o, ok := s.gateways[a]; ok && o.is.mac != n.is.mac {
			shared[a] = true
			delete(s.gateways, a)
			continue
		}
		s.gateways[a] = n
	}
}

func (s *snapshot) addSwitches(p *part) {
	for _, w := range p.switches {
		s.switches[w.mac] = known[desk]{w, p}
		for _, port := range w.ports {
			for _, m := range port.macs {
				s.ports[m] = known[place]{place{w.name, port.id, port.vlan}, p}
			}
		}
	}
}

// addClients adds a client table. Who is in several networks is in the one that saw
// it last.
func (s *snapshot) addClients(p *part, ssids map[string]string) {
	if s.oldest == nil || p.at.Before(s.oldest.at) {
		s.oldest = p
	}
	for _, c := range p.clients {
		o, there := s.clients[c.mac]
		if there && !c.seen.After(o.is.seen) {
			continue
		}
		if !there && len(s.clients) >= maxClients {
			s.skipped++
			continue
		}
		names := make([]string, 0, len(c.ssids))
		for _, key := range c.ssids {
			name := ssids[key]
			if name == "" {
				name = "number " + strings.TrimPrefix(key, "ssid")
			}
			names = append(names, name)
		}
		slices.Sort(names)
		c.ssids = slices.Compact(names)
		s.clients[c.mac] = known[client]{c, p}
	}
}

// Status is how things are, for people.
type Status struct {
	// At is when the oldest of the client tables was asked for, zero when there is none.
	At       time.Time `json:"at"`
	Stale    bool      `json:"stale"`
	Networks int       `json:"networks"`
	Clients  int       `json:"clients"`
	Nodes    int       `json:"nodes"`
	Switches int       `json:"switches"`
	Skipped  int       `json:"skipped"`       // records that made no sense
	Off      []string  `json:"off,omitempty"` // what the key may not ask for
	Stopped  bool      `json:"stopped"`       // until the configuration is loaded again
	Error    string    `json:"error,omitempty"`
}

// Age is how old the oldest client table is, 0 when there is none.
func (s Status) Age(now time.Time) time.Duration {
	if s.At.IsZero() {
		return 0
	}
	return now.Sub(s.At)
}

// Status says how things are.
func (r *Reader) Status() Status {
	s := r.snapshot.Load()
	out := Status{Networks: s.networks, Clients: len(s.clients), Nodes: len(s.nodes), Switches: len(s.switches), Skipped: s.skipped}
	if s.oldest != nil {
		out.At, out.Stale = s.oldest.at, s.oldest.stale(time.Now())
	}
	if err := r.Err(); err != nil {
		out.Error = err.Error()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	out.Stopped = r.stopped != nil
	for _, j := range r.sorted() {
		if j.off {
			name := j.kind.String()
			if j.kind != networks {
				name += " of network " + j.network.String()
			}
			out.Off = append(out.Off, name)
		}
	}
	return out
}

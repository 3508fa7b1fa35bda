package cloudtrax

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"capagent/enrich/device"
	"capagent/internal/failure"
	"capagent/internal/httpx"
)

// Kinds of devices.
const (
	KindClient      = "client"
	KindAccessPoint = "access point"
	KindGateway     = "gateway"
	KindSwitch      = "switch"
)

// ClassNoData is the class of the failure that nothing is known yet, or any more.
const ClassNoData = "no_data"

const (
	slack    = 15 * time.Minute // of times of CloudTrax to those of a capture
	maxIPs   = 20               // of a device
	maxNames = 3                // SSIDs of a client
)

// Devices names the machines of a capture. It looks into the snapshot alone.
func (r *Reader) Devices(ctx context.Context, c device.Capture) ([]device.Device, error) {
	if err := ctx.Err(); err != nil {
		return nil, &failure.Error{Class: httpx.ClassCanceled, Err: err}
	}
	s, now := r.snapshot.Load(), time.Now().Round(0)
	if s.newest == nil || s.newest.gone(now) {
		if err := r.Err(); err != nil {
			return nil, err
		}
		return nil, &failure.Error{Class: ClassNoData, Err: errors.New("CloudTrax has not told anything yet")}
	}
	if c.Last.IsZero() || now.Sub(c.Last) > history {
		return nil, nil // who had an address then is not known
	}
	j := join{s: s, c: c, now: now, first: c.First, heard: map[device.MAC]*heard{}, nats: map[device.MAC][]netip.Addr{}}
	if j.first.IsZero() || j.first.After(c.Last) {
		j.first = c.Last
	}
	j.listen()
	list := device.Sort(j.devices())
	return list[:min(len(list), device.MaxDevices)], nil
}

// join is one capture and one snapshot.
type join struct {
	s     *snapshot
	c     device.Capture
	now   time.Time
	first time.Time
	order []device.MAC
	heard map[device.MAC]*heard
	nats  map[device.MAC][]netip.Addr // addresses of gateways that the capture shows
}

// heard is what a capture says of a hardware address that the snapshot knows.
type heard struct {
	router bool
	ips    []netip.Addr // that it said it has
	from   []netip.Addr // that it sent for
	name   string       // what it calls itself, in DHCP
}

// knows says whether the snapshot has a hardware address.
func (j *join) knows(m device.MAC) bool {
	_, client := j.s.clients[m]
	_, node := j.s.nodes[m]
	_, desk := j.s.switches[m]
	_, port := j.s.ports[m]
	_, foreign := j.s.foreign[m]
	return client || node || desk || port || foreign
}

func (j *join) hear(m device.MAC) *heard {
	h := j.heard[m]
	if h == nil && j.knows(m) {
		h = &heard{}
		j.heard[m], j.order = h, append(j.order, m)
	}
	return h
}

// listen collects what the capture says of those that the snapshot knows.
func (j *join) listen() {
	for _, s := range j.c.Seen {
		h := j.hear(s.MAC)
		if h == nil {
			continue
		}
		h.router = h.router || s.Behind > device.MaxBehind
		for _, ip := range s.IPs {
			h.from = add(h.from, ip)
		}
	}
	for _, b := range j.c.Bindings {
		h := j.hear(b.MAC)
		if h == nil {
			continue
		}
		h.ips = add(h.ips, b.IP)
		if h.name == "" {
			h.name = device.Clean(b.Name)
		}
	}
	for _, ip := range j.c.Addresses {
		if g, ok := j.s.gateways[ip.Unmap()]; ok && !g.from.gone(j.now) {
			j.nats[g.is.mac] = add(j.nats[g.is.mac], ip)
		}
	}
}

func add(list []netip.Addr, ip netip.Addr) []netip.Addr {
	ip = ip.Unmap().WithZone("")
	if len(list) >= maxIPs || !usable(ip) || slices.Contains(list, ip) {
		return list
	}
	return append(list, ip)
}

// addresses are those of one machine: what it said, or else what it sent for, as long
// as that is one IPv4 address. More would be those of others behind it.
func (h *heard) addresses() []netip.Addr {
	if len(h.ips) > 0 {
		return h.ips
	}
	v4 := 0
	for _, ip := range h.from {
		if ip.Is4() {
			v4++
		}
	}
	if v4 > 1 {
		return nil
	}
	return h.from
}

func (j *join) devices() []device.Device {
	var out []device.Device
	for _, m := range j.order {
		if h := j.heard[m]; !h.router { // whatever a router's frames carry is somebody else's
			if d, ok := j.machine(m, h); ok {
				d.MAC = &m
				out = append(out, d)
			}
			delete(j.nats, m)
		}
	}
	for m, ips := range j.nats {
		d := j.node(j.s.nodes[m], ips)
		d.Confidence = min(d.Confidence, device.Medium) // addresses are used twice in this world
		out = append(out, d)
	}
	return out
}

// machine names one hardware address: what carries others first, clients then.
func (j *join) machine(m device.MAC, h *heard) (device.Device, bool) {
	if n, ok := j.s.nodes[m]; ok && !n.from.gone(j.now) {
		ips := h.ips
		for _, ip := range j.nats[m] {
			ips = add(ips, ip)
		}
		return j.node(n, ips), true
	}
	if w, ok := j.s.switches[m]; ok && !w.from.gone(j.now) {
		d := device.Device{Source: Name, Kind: KindSwitch, Name: called("switch", w.is.name, m), Confidence: device.High, IPs: h.ips}
		aged(&d, w.from, j.now)
		return d, true
	}
	if c, ok := j.s.clients[m]; ok && !c.from.gone(j.now) {
		return j.client(m, c, h)
	}
	if p, ok := j.s.ports[m]; ok && !p.from.gone(j.now) {
		return j.wired(m, p, h)
	}
	if f, ok := j.s.foreign[m]; ok && !f.from.gone(j.now) {
		return j.foreign(f), true
	}
	return device.Device{}, false
}

// called is a name with what it is the name of.
func called(what, name string, m device.MAC) string {
	if name == "" {
		name = m.String()
	}
	return device.Clean(what + " " + name)
}

// aged says so when what a device is made of is old.
func aged(d *device.Device, p *part, now time.Time) {
	if p.stale(now) {
		d.Confidence = min(d.Confidence, device.Medium)
		d.Limits = append(d.Limits, "stale: as of "+moments(p.at))
	}
}

func moments(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// node is an access point with addresses that the capture shows. Behind those of a
// gateway's own network are others.
func (j *join) node(n known[node], ips []netip.Addr) device.Device {
	d := device.Device{Source: Name, Kind: KindAccessPoint, Name: called("AP", n.is.name, n.is.mac), Confidence: device.High, IPs: ips}
	if n.is.gateway {
		d.Kind = KindGateway
	}
	if slices.ContainsFunc(ips, func(ip netip.Addr) bool { return ip == n.is.lan || ip == n.is.wan }) {
		d.Limits = append(d.Limits, device.Clean("NAT behind "+d.Name+", the client can't be told"))
	}
	aged(&d, n.from, j.now)
	return d
}

// within says whether a time is that of the capture, give or take.
func (j *join) within(t time.Time, slack time.Duration) bool {
	return !t.IsZero() && !t.Before(j.first.Add(-slack)) && !t.After(j.c.Last.Add(slack))
}

func (j *join) client(m device.MAC, c known[client], h *heard) (device.Device, bool) {
	inside := j.within(c.is.seen, slack)
	if m.Random() && !inside {
		return device.Device{}, false // somebody else's by now
	}
	d := device.Device{Source: Name, Kind: KindClient, Name: c.is.name, Confidence: device.High, IPs: h.addresses()}
	if !c.is.wired && c.is.ap != "" {
		d.Details = append(d.Details, called("AP", c.is.ap, m))
	}
	for _, name := range c.is.ssids[:min(len(c.is.ssids), maxNames)] {
		d.Details = append(d.Details, called("SSID", name, m))
	}
	if p, ok := j.s.ports[m]; ok && !p.from.gone(j.now) {
		d.Details = append(d.Details, p.is.String())
	}
	if c.is.os != "" {
		d.Details = append(d.Details, c.is.os)
	}
	if c.is.blocked {
		d.Details = append(d.Details, "blocked")
	}
	j.alias(&d, m, h)
	switch {
	case c.is.seen.IsZero():
		d.Confidence = device.Low
		d.Limits = append(d.Limits, "when it was seen last is not known")
	case !inside:
		d.Confidence = device.Low
		d.Details = append(d.Details, "last seen "+moments(c.is.seen))
	case !c.is.wired && c.is.ap != "" && (c.is.seen.After(j.c.Last) || c.is.seen.Before(j.first) || j.c.Last.Sub(j.first) > slack):
		d.Limits = append(d.Limits, "at this AP at "+moments(c.is.seen)+"; it may have roamed")
	}
	aged(&d, c.from, j.now)
	return d, true
}

// alias names a device that CloudTrax has no name for by what it calls itself, and
// says what a random address is.
func (j *join) alias(d *device.Device, m device.MAC, h *heard) {
	if d.Name == "" && h.name != "" {
		d.Name = h.name
		d.Limits = append(d.Limits, "the name is what it calls itself")
	}
	if d.Name == "" {
		d.Name = m.String()
	}
	if m.Random() {
		d.Confidence = min(d.Confidence, device.Medium)
		d.Limits = append(d.Limits, "its hardware address is random")
	}
}

// wired is what a switch knows and the client table does not. A switch says who is
// there when it is asked.
func (j *join) wired(m device.MAC, p known[place], h *heard) (device.Device, bool) {
	inside := j.within(p.from.at, max(slack, p.from.every))
	if m.Random() && !inside {
		return device.Device{}, false
	}
	d := device.Device{Source: Name, Kind: KindClient, Details: []string{p.is.String()}, Confidence: device.Medium, IPs: h.addresses()}
	j.alias(&d, m, h)
	if !inside {
		d.Confidence = device.Low
		d.Details = append(d.Details, "last seen "+moments(p.from.at))
	}
	aged(&d, p.from, j.now)
	return d, true
}

// foreign is an access point of others: never sure enough to tag a session with. One with a name of ours is a hint, no verdict:
// our own access points have more addresses than CloudTrax lists (contract 2.4).
func (j *join) foreign(f known[foreign]) device.Device {
	d := device.Device{Source: Name, Kind: KindAccessPoint, Name: called("foreign AP", f.is.ssid, f.is.bssid), Confidence: device.Low}
	for _, text := range []string{f.is.vendor, f.is.cipher} {
		if text != "" {
			d.Details = append(d.Details, text)
		}
	}
	if f.is.near != "" {
		at := "at " + f.is.near
		if f.is.signal != 0 {
			at = strconv.Itoa(f.is.signal) + " dBm " + at
		}
		d.Details = append(d.Details, device.Clean(at))
	}
	if f.is.ssid != "" && j.s.own[f.is.ssid] {
		d.Limits = append(d.Limits, "it uses an SSID of ours: possibly an evil twin, or our own")
	}
	aged(&d, f.from, j.now)
	return d
}

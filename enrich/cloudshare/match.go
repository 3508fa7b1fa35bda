package cloudshare

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"capagent/enrich/device"
)

// What can't be known, in words.
const (
	limitShared  = "others may have had its public address"
	limitClones  = "known by its internal address only, which clones share"
	limitSeveral = "several machines have this address"
	limitOld     = "the capture is older than what is known of addresses"
)

const (
	recent   = day           // how old a capture may be for addresses to be believed
	expiring = 14 * day      // of what expires sooner it is told in how long
	maxNamed = 200           // hosts, and addresses, of one device
	soonDays = 2 * day       // below it hours are told
	freshAge = 2 * time.Hour // what is older says so
)

// matching collects the machines of one capture.
type matching struct {
	r       *Reader
	capture device.Capture
	now     time.Time
	order   []*device.Device
	have    map[string]*device.Device
	named   map[netip.Addr]bool // addresses that a name of the capture explains
}

// match names the machines of a capture (contracts/cloudshare-cloudtrax.md 1.4): by name
// for sure, by public address with less confidence, by internal address with the least
// and in pinned environments only.
func (r *Reader) match(c device.Capture, hosts []string) []device.Device {
	r.mu.Lock()
	labs, names := r.labs, map[string]*known{}
	now := r.now()
	for _, h := range hosts {
		if k := r.names[h]; k != nil && now.Sub(k.at) < dropAge {
			names[h] = k
		}
	}
	r.mu.Unlock()
	if !labs.usable(now) {
		labs = newInventory(now, false)
	}
	m := &matching{r: r, capture: c, now: now, have: map[string]*device.Device{}, named: map[netip.Addr]bool{}}
	m.self(labs)
	m.hosts(labs, hosts, names)
	m.addresses(labs)
	var out []device.Device
	for _, d := range m.order[:min(len(m.order), device.MaxDevices)] {
		out = append(out, *d)
	}
	return out
}

// self tells the agent's own machine. Its own addresses are known for sure.
func (m *matching) self(labs *inventory) {
	if labs.own == nil {
		return
	}
	d := m.device(*labs.own, device.High, labs.at, "self")
	d.Self = true
	if !labs.surely {
		d.Confidence, d.Limits = device.Medium, append(d.Limits, limitClones)
	}
	for _, ip := range m.capture.Addresses {
		if ip = ip.Unmap().WithZone(""); slices.Contains(labs.ownIPs, ip) {
			m.bind(d, ip)
		}
	}
}

// hosts tells the machines whose names are in the capture, with the addresses that a DNS
// server gave for them.
func (m *matching) hosts(labs *inventory, hosts []string, names map[string]*known) {
	ofHost := map[string]*device.Device{}
	for _, h := range hosts {
		k, one := names[h], labs.byHost[h]
		switch {
		case k != nil && k.env != nil && (one == nil || k.at.After(labs.at)):
			ofHost[h] = m.device(k.lab(), device.High, k.at, "")
		case one != nil:
			ofHost[h] = m.device(*one, device.High, labs.at, "")
		default:
			continue
		}
		if d := ofHost[h]; len(d.Hosts) < maxNamed {
			d.Hosts = append(d.Hosts, h)
		}
	}
	for _, a := range m.capture.Answers {
		if ip := a.IP.Unmap().WithZone(""); ofHost[a.Host] != nil && ip.IsValid() {
			m.bind(ofHost[a.Host], ip)
		}
	}
}

// addresses tells the machines that have an address of the capture which no name of it
// explains. Addresses go from one machine to another: a capture of long ago is not told
// of with confidence.
func (m *matching) addresses(labs *inventory) {
	old := m.capture.Last.IsZero() || m.now.Sub(m.capture.Last) > recent
	for _, ip := range m.capture.Addresses {
		if ip = ip.Unmap().WithZone(""); m.named[ip] || len(m.order) > device.MaxDevices {
			continue
		}
		public := labs.byPublic[ip]
		for _, one := range public {
			if d := m.have[one.key()]; d != nil { // its name is in the capture
				m.bind(d, ip)
				continue
			}
			confidence, limits := device.Medium, []string{limitShared}
			if len(public) > 1 {
				confidence, limits = device.Low, []string{limitSeveral}
			}
			if old {
				confidence, limits = device.Low, append(limits, limitOld)
			}
			m.weakly(*one, confidence, labs.at, ip, limits)
		}
		for _, one := range labs.byInternal[ip] {
			if len(public) > 0 || !m.believed(labs, one.env) {
				continue
			}
			limits := []string{limitClones}
			if old {
				limits = append(limits, limitOld)
			}
			m.weakly(*one, device.Low, labs.at, ip, limits)
		}
	}
}

// believed says that an environment's internal addresses are: it is pinned, or the
// agent's own.
func (m *matching) believed(labs *inventory, e *environment) bool {
	pinned := m.r.conf.Pinned
	return slices.Contains(pinned, e.ID) || slices.Contains(pinned, e.Name) || labs.own != nil && labs.own.env.ID == e.ID
}

// weakly tells a machine by an address, apart from what is told of it by its name.
func (m *matching) weakly(l lab, c device.Confidence, at time.Time, ip netip.Addr, limits []string) {
	d := m.device(l, c, at, fmt.Sprint(limits))
	for _, limit := range limits {
		if !slices.Contains(d.Limits, limit) {
			d.Limits = append(d.Limits, limit)
		}
	}
	if len(d.IPs) < maxNamed && !slices.Contains(d.IPs, ip) {
		d.IPs = append(d.IPs, ip)
	}
}

func (m *matching) bind(d *device.Device, ip netip.Addr) {
	if m.named[ip] = true; len(d.IPs) < maxNamed && !slices.Contains(d.IPs, ip) {
		d.IPs = append(d.IPs, ip)
	}
}

// device returns the device of a machine: the same one for the same machine and way by
// which it is known. The agent's own is the same by name.
func (m *matching) device(l lab, c device.Confidence, at time.Time, way string) *device.Device {
	key := l.key()
	if own := m.have[key+"self"]; own != nil && way == "" {
		own.Confidence, own.Limits = device.High, slices.DeleteFunc(own.Limits, func(s string) bool { return s == limitClones })
		return own
	}
	key += way
	d := m.have[key]
	if d == nil {
		d = m.describe(l, c, at)
		m.have[key] = d
		m.order = append(m.order, d)
	}
	return d
}

// describe puts a machine into words.
func (m *matching) describe(l lab, c device.Confidence, at time.Time) *device.Device {
	e := l.env
	d := &device.Device{Source: Name, Kind: "lab machine", Name: e.Name, Confidence: c}
	if l.vm != nil && l.vm.Name != "" {
		d.Name = l.vm.Name
	}
	d.ID = e.ID
	d.Details = append(d.Details, device.Clean("lab "+e.Name))
	d.Tags = append(d.Tags, device.Clean("lab:"+e.Name))
	if e.Project != "" {
		d.Details = append(d.Details, device.Clean("project "+e.Project))
		d.Tags = append(d.Tags, device.Clean("project:"+e.Project))
	}
	if text := expiry(e.Expires, m.capture.Last, m.now); text != "" {
		d.Details = append(d.Details, text)
	}
	if !e.runs() && e.StatusText != "" {
		d.Details = append(d.Details, device.Clean("status "+e.StatusText))
	}
	if e.Owner != "" {
		d.Details = append(d.Details, device.Clean("owner "+e.Owner))
	}
	if age := m.now.Sub(at); age > max(freshAge, 3*m.r.conf.InventoryEvery.Std()) {
		d.Limits = append(d.Limits, fmt.Sprintf("as CloudShare said %d hours ago", int(age.Hours())))
	}
	return d
}

// expiry says when an environment is deleted. It counts from the capture's last packet:
// that is the moment that the session shows, and looked up again later it is told in the
// same words. Without a packet it counts from now; what is far away is a date.
func expiry(at, last, now time.Time) string {
	if at.IsZero() {
		return ""
	}
	if last.IsZero() {
		last = now
	}
	switch left := at.Sub(last); {
	case left <= 0:
		return "expired " + at.Format(time.DateOnly)
	case left < soonDays:
		return fmt.Sprintf("expires in %d h", int(left.Hours()))
	case left < expiring:
		return fmt.Sprintf("expires in %d d", int(left/day))
	}
	return "expires " + at.Format(time.DateOnly)
}

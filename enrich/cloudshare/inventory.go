package cloudshare

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"
)

// inventory is what all environments were at one moment. It does not change.
type inventory struct {
	at           time.Time
	calls        int
	environments int
	machines     int
	skipped      int
	cut          bool
	all          []lab
	byHost       map[string]*lab
	byPublic     map[netip.Addr][]*lab
	byInternal   map[netip.Addr][]*lab

	own     *lab // the machine that the agent runs on
	surely  bool // by more than an internal address
	ownIPs  []netip.Addr
	ownText string
}

// lab is a machine in its environment.
type lab struct {
	env *environment
	vm  *machine // nil when it is not known which of several
}

func (l lab) key() string {
	if l.vm == nil {
		return l.env.ID + "/"
	}
	return l.env.ID + "/" + l.vm.ID + "/"
}

// lab is what is known, as environment.only left it.
func (k *known) lab() lab {
	if len(k.env.VMs) == 0 {
		return lab{env: k.env}
	}
	return lab{k.env, &k.env.VMs[0]}
}

const maxAll = 10_000 // machines

func newInventory(at time.Time, cut bool) *inventory {
	return &inventory{at: at, cut: cut, byHost: map[string]*lab{}, byPublic: map[netip.Addr][]*lab{}, byInternal: map[netip.Addr][]*lab{}}
}

func (v *inventory) add(e *environment) {
	v.environments++
	for i := range e.VMs {
		if v.machines >= maxAll {
			v.cut = true
			return
		}
		one := &lab{e, &e.VMs[i]}
		v.machines++
		v.all = append(v.all, *one)
		if one.vm.FQDN != "" {
			v.byHost[one.vm.FQDN] = one
		}
		if !e.runs() {
			continue
		}
		if public(one.vm.External) {
			v.byPublic[one.vm.External] = append(v.byPublic[one.vm.External], one)
		}
		for _, ip := range one.vm.Internal {
			v.byInternal[ip] = append(v.byInternal[ip], one)
		}
	}
}

var shared = netip.MustParsePrefix("100.64.0.0/10") // of carriers (RFC 6598)

func public(ip netip.Addr) bool { return ip.IsValid() && !ip.IsPrivate() && !shared.Contains(ip) }

// usable says whether it is young enough to be told; v may be nil.
func (v *inventory) usable(now time.Time) bool { return v != nil && now.Sub(v.at) < dropAge }

// findOwn finds the machine that has one of the agent's names, or else one of its
// addresses. Clones of a lab share internal addresses: only one match is believed.
func (v *inventory) findOwn(hosts []string, ips []netip.Addr, err error) {
	if err != nil {
		v.ownText = "not known: this machine does not tell its names or addresses"
		return
	}
	found := v.which(func(l *lab) bool { return sameHost(l.vm, hosts) })
	v.surely = true
	if len(found) == 0 {
		found = v.which(func(l *lab) bool { return l.env.runs() && slices.Contains(ips, l.vm.External) })
	}
	if len(found) == 0 {
		v.surely = false
		found = v.which(func(l *lab) bool { return l.env.runs() && sameInternal(l.vm, ips) })
	}
	switch len(found) {
	case 0:
		v.ownText = "this machine is in no environment"
	case 1:
		v.own, v.ownIPs, v.ownText = &found[0], ips, named(found[0].env.Name, found[0].env.ID)
	default:
		v.ownText = fmt.Sprintf("ambiguous: %d machines, such as one of %s, have a name or address of this machine", len(found), named(found[0].env.Name, found[0].env.ID))
	}
}

func (v *inventory) which(is func(*lab) bool) []lab {
	var found []lab
	for i := range v.all {
		if is(&v.all[i]) {
			found = append(found, v.all[i])
		}
	}
	return found
}

func sameHost(vm *machine, hosts []string) bool {
	return vm.FQDN != "" && slices.ContainsFunc(hosts, func(h string) bool { return strings.EqualFold(strings.TrimSuffix(h, "."), vm.FQDN) })
}

func sameInternal(vm *machine, ips []netip.Addr) bool {
	return slices.ContainsFunc(vm.Internal, func(ip netip.Addr) bool { return slices.Contains(ips, ip) })
}

// couldBe says that a machine may be the one that the agent runs on.
func couldBe(e *environment, hosts []string, ips []netip.Addr) bool {
	return slices.ContainsFunc(e.VMs, func(vm machine) bool {
		return sameHost(&vm, hosts) || vm.External.IsValid() && slices.Contains(ips, vm.External) || sameInternal(&vm, ips)
	})
}

// self says the names and addresses of the machine that the agent runs on.
func (c *Config) self() ([]string, []netip.Addr, error) {
	if c.Self == nil {
		return thisMachine()
	}
	hosts, ips, err := c.Self()
	return hosts, plainAddresses(ips), err
}

func plainAddresses(list []netip.Addr) (out []netip.Addr) {
	for _, ip := range list {
		if ip = plainAddress(ip); ip.IsValid() {
			out = append(out, ip)
		}
	}
	return out
}

func thisMachine() ([]string, []netip.Addr, error) {
	host, err := os.Hostname()
	addrs, err2 := net.InterfaceAddrs()
	if err := errors.Join(err, err2); err != nil {
		return nil, nil, err
	}
	var ips []netip.Addr
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			ips = append(ips, p.Addr())
		}
	}
	return []string{host}, plainAddresses(ips), nil
}

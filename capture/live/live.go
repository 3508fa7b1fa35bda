// Package live is the capture engine of the system it runs on, and what there is
// to capture from.
package live

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"capagent/internal/pcapio"
)

// Any is the name under which Linux offers all interfaces at once.
const Any = "any"

// Interface is something that can be captured from, or can't.
type Interface struct {
	Name        string
	Description string
	Index       int  // 0 for Any
	Up          bool // it is switched on
	Running     bool // it has a link
	Loopback    bool
	MTU         int
	MAC         net.HardwareAddr
	Addresses   []netip.Prefix
	LinkType    int   // LINKTYPE_ number that a capture of it has; -1: not known before it is opened
	Problem     error // why it can't be captured; nil when it can
}

// State is "up", "down", or "no link" between them.
func (i Interface) State() string {
	switch {
	case !i.Up:
		return "down"
	case !i.Running:
		return "no link"
	default:
		return "up"
	}
}

// LinkTypeName is LinkType in words.
func (i Interface) LinkTypeName() string {
	if i.LinkType < 0 {
		return "unknown"
	}
	return pcapio.LinkTypeName(i.LinkType)
}

// Interfaces lists what there is, in the system's order.
func Interfaces() ([]Interface, error) {
	found, failed := net.Interfaces()
	all := make([]Interface, 0, len(found)+1)
	for _, f := range found {
		all = append(all, Interface{
			Name: f.Name, Index: f.Index, MTU: f.MTU, MAC: f.HardwareAddr, LinkType: -1, Addresses: addresses(f),
			Up: f.Flags&net.FlagUp != 0, Running: f.Flags&net.FlagRunning != 0, Loopback: f.Flags&net.FlagLoopback != 0,
		})
	}
	all, err := examine(all)
	if len(all) == 0 && failed != nil { // the engine may know some all the same
		return nil, fmt.Errorf("list interfaces: %w", failed)
	}
	return all, err
}

// addresses are those of f; none where the system doesn't say.
func addresses(f net.Interface) []netip.Prefix {
	found, err := f.Addrs()
	if err != nil {
		return nil
	}
	var all []netip.Prefix
	for _, a := range found {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			all = append(all, p)
		}
	}
	return all
}

// Best is the interface that a user most likely means who names none: one that
// is up, has a link and an address that others can reach. "" when there is none.
func Best(all []Interface) string {
	i := slices.IndexFunc(all, func(i Interface) bool {
		return i.Problem == nil && i.State() == "up" && !i.Loopback && slices.ContainsFunc(i.Addresses, func(p netip.Prefix) bool {
			return p.Addr().IsGlobalUnicast()
		})
	})
	if i < 0 {
		return ""
	}
	return all[i].Name
}

// Find returns the interface called name.
func Find(all []Interface, name string) (Interface, error) {
	var names []string
	for _, i := range all {
		if i.Name == name {
			return i, i.Problem
		}
		names = append(names, i.Name)
	}
	return Interface{}, fmt.Errorf("%w %q; there are %s", ErrNoInterface, name, strings.Join(names, ", "))
}

// ErrNoInterface is in the error for a name that no interface has.
var ErrNoInterface = errors.New("no interface")

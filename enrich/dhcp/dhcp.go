// Package dhcp finds the names in DHCP messages, and which hardware address got
// which IP address.
package dhcp

import (
	"bytes"

	"capagent/enrich/indicator"
)

// LimitNames is met by a message whose compression makes its domain names many
// times longer than itself.
const LimitNames indicator.Limit = "dhcp_names"

// Tracker looks at the DHCP messages of a capture. A client tells its name when it
// asks, the server grants the address: what clients called themselves last is kept
// between the two, for a fixed number of them.
type Tracker struct {
	set     *indicator.Set
	clients [128]client
	next    int // which one to forget
	text    [2*maxName + 1]byte
}

type client struct {
	mac  [6]byte
	n    int
	name [64]byte
}

// New returns a Tracker.
func New(set *indicator.Set) *Tracker { return &Tracker{set: set} }

// remember keeps a client's name. Longer ones than fit are no names of machines.
func (t *Tracker) remember(mac [6]byte, name []byte) {
	c := t.client(mac)
	if len(name) == 0 || len(name) > len(c.name) {
		return
	}
	if c.mac != mac {
		c = &t.clients[t.next]
		t.next = (t.next + 1) % len(t.clients)
		c.mac = mac
	}
	c.n = copy(c.name[:], name)
}

// client returns the entry of a client, or one of another if there is none.
func (t *Tracker) client(mac [6]byte) *client {
	for i := range t.clients {
		if t.clients[i].mac == mac {
			return &t.clients[i]
		}
	}
	return &t.clients[0]
}

// called returns what a client called itself.
func (t *Tracker) called(mac [6]byte) []byte {
	if c := t.client(mac); c.mac == mac {
		return c.name[:c.n]
	}
	return nil
}

func (t *Tracker) host(name []byte, at indicator.At) {
	t.set.Host(name, indicator.DHCPName, at)
}

// text returns an option's text. Some clients end it with NUL, as C does.
func text(b []byte) []byte {
	b, _, _ = bytes.Cut(b, []byte{0})
	return bytes.TrimSpace(b)
}

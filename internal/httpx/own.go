package httpx

import (
	"net"
	"net/netip"
	"strconv"
	"sync"
)

// Connecting is told the two ends of each connection before its first packet is
// sent, so that who captures can leave it out. closed is called when the
// connection is over, or never came to be.
type Connecting func(local, remote netip.AddrPort) (closed func())

// own tells Connecting of the attempts of one dial, of which several may run at
// a time.
type own struct {
	connecting Connecting
	mu         sync.Mutex
	attempts   map[netip.AddrPort]func() // by their local ends
}

func (o *own) add(local, remote netip.AddrPort) {
	closed := o.connecting(local, remote)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.attempts == nil {
		o.attempts = map[netip.AddrPort]func(){}
	}
	o.attempts[local] = closed
}

// connected ends all attempts but the one that became c, whose end it returns.
func (o *own) connected(c net.Conn) (closed func()) {
	local, remote := netip.AddrPort{}, netip.AddrPort{}
	if c != nil {
		local, remote = addrPort(c.LocalAddr()), addrPort(c.RemoteAddr())
	}
	o.mu.Lock()
	closed = o.attempts[local]
	delete(o.attempts, local)
	rest := o.attempts
	o.attempts = nil
	o.mu.Unlock()
	for _, end := range rest {
		end()
	}
	if closed == nil && c != nil {
		closed = o.connecting(local, remote)
	}
	return closed
}

func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// zone is the index of the interface that a link-local address belongs to.
func zone(a netip.Addr) uint32 {
	if a.Zone() == "" {
		return 0
	}
	if i, err := net.InterfaceByName(a.Zone()); err == nil {
		return uint32(i.Index)
	}
	n, _ := strconv.ParseUint(a.Zone(), 10, 32) // not a number: binding fails, and says so
	return uint32(n)
}

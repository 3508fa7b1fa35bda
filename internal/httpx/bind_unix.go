//go:build unix

package httpx

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// connect is d.DialContext. Each socket gets its port before it connects.
func (o *own) connect(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
	allowed := d.ControlContext
	d.ControlContext = func(ctx context.Context, network, address string, socket syscall.RawConn) error {
		if err := allowed(ctx, network, address, socket); err != nil {
			return err
		}
		o.announce(network, address, socket)
		return nil
	}
	return d.DialContext(ctx, network, address)
}

// announce tells of the connection that socket is about to make. Without a port
// of its own it is told when it is connected.
func (o *own) announce(network, address string, socket syscall.RawConn) {
	remote, err := netip.ParseAddrPort(address)
	if err != nil {
		return
	}
	local, err := source(remote)
	if err != nil {
		return // connecting fails, and says why
	}
	if local, err = bind(socket, local, network == "tcp6"); err == nil {
		o.add(local, remote)
	}
}

// bind gives socket the address of local and a free port, and returns both.
func bind(socket syscall.RawConn, local netip.AddrPort, v6 bool) (netip.AddrPort, error) {
	var bound unix.Sockaddr
	var failed error
	err := socket.Control(func(fd uintptr) {
		if failed = unix.Bind(int(fd), sockaddr(local.Addr(), v6)); failed == nil {
			bound, failed = unix.Getsockname(int(fd))
		}
	})
	if err := errors.Join(err, failed); err != nil {
		return netip.AddrPort{}, err
	}
	switch a := bound.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(local.Addr(), uint16(a.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(local.Addr(), uint16(a.Port)), nil
	default:
		return netip.AddrPort{}, errors.ErrUnsupported
	}
}

func sockaddr(a netip.Addr, v6 bool) unix.Sockaddr {
	if v6 {
		return &unix.SockaddrInet6{Addr: a.As16(), ZoneId: zone(a)}
	}
	return &unix.SockaddrInet4{Addr: a.As4()}
}

// source is the address from which the system would send to remote. Connecting a
// datagram socket sends nothing.
func source(remote netip.AddrPort) (netip.AddrPort, error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(remote))
	if err != nil {
		return netip.AddrPort{}, err
	}
	local := c.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(local.Addr().Unmap(), 0), c.Close()
}

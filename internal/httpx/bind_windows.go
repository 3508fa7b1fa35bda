package httpx

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/sys/windows"
)

// connect is d.DialContext, one address after the other: on Windows Go binds a
// socket itself, so the port has to be chosen before. It is free when it is
// chosen; should another program take it meanwhile, the next one is tried.
func (o *own) connect(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n, err := net.DefaultResolver.LookupPort(ctx, network, port)
	if err != nil {
		return nil, err
	}
	family := "ip" + strings.TrimPrefix(network, "tcp")
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, family, host)
	if err != nil {
		return nil, err
	}
	var failed error
	for _, a := range addresses {
		c, err := o.connectTo(ctx, *d, network, netip.AddrPortFrom(a.Unmap(), uint16(n)))
		if err == nil {
			return c, nil
		}
		if failed == nil || ctx.Err() == nil {
			failed = err
		}
	}
	return nil, failed
}

func (o *own) connectTo(ctx context.Context, d net.Dialer, network string, remote netip.AddrPort) (net.Conn, error) {
	const tries = 3
	var failed error
	for range tries {
		local, err := source(remote)
		if err != nil {
			return d.DialContext(ctx, network, remote.String()) // fails, and says why
		}
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(local))
		if err != nil {
			return nil, err
		}
		local = netip.AddrPortFrom(local.Addr(), uint16(l.Addr().(*net.TCPAddr).Port))
		if err := l.Close(); err != nil {
			return nil, err
		}
		d.LocalAddr = net.TCPAddrFromAddrPort(local)
		o.add(local, remote)
		c, err := d.DialContext(ctx, network, remote.String())
		if err == nil || !errors.Is(err, errInUse) {
			return c, err
		}
		failed = err
	}
	return nil, failed
}

// source is the address from which the system would send to remote. Connecting a
// datagram socket sends nothing. (net's own datagram sockets want more of the
// system than Wine has.)
func source(remote netip.AddrPort) (netip.AddrPort, error) {
	var family int
	var to windows.Sockaddr
	if a := remote.Addr(); a.Is4() {
		family, to = windows.AF_INET, &windows.SockaddrInet4{Port: int(remote.Port()), Addr: a.As4()}
	} else {
		family, to = windows.AF_INET6, &windows.SockaddrInet6{Port: int(remote.Port()), ZoneId: zone(a), Addr: a.As16()}
	}
	s, err := windows.Socket(family, windows.SOCK_DGRAM, 0)
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer func() { _ = windows.Closesocket(s) }()
	if err := windows.Connect(s, to); err != nil {
		return netip.AddrPort{}, err
	}
	from, err := windows.Getsockname(s)
	if err != nil {
		return netip.AddrPort{}, err
	}
	switch a := from.(type) {
	case *windows.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), 0), nil
	case *windows.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).WithZone(remote.Addr().Zone()), 0), nil
	default:
		return netip.AddrPort{}, errors.ErrUnsupported
	}
}

package afpacket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"capagent/capture"
	"capagent/internal/traffic"
)

// client makes HTTP requests on connections of its own; own ones are told to
// flows before their first packet.
type client struct {
	p     *traffic.Pair
	side  traffic.Side
	local netip.Addr
	flows *capture.Flows
	ports []uint16
	mu    sync.Mutex
}

func (c *client) get(t *testing.T, server netip.AddrPort, own bool) {
	t.Helper()
	var done func()
	d := net.Dialer{Timeout: 5 * time.Second, Control: func(_, _ string, rc syscall.RawConn) (err error) {
		var port uint16
		if err := rc.Control(func(fd uintptr) { port, err = bindTo(int(fd), c.local) }); err != nil {
			return err
		}
		if own {
			c.mu.Lock()
			c.ports = append(c.ports, port)
			c.mu.Unlock()
			done = c.flows.Add(capture.Flow{Local: netip.AddrPortFrom(c.local, port), Remote: server})
		}
		return err
	}}
	hc := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
			err = c.p.Do(c.side, func() error { conn, err = d.DialContext(ctx, network, addr); return err })
			return conn, err
		},
	}}
	r, err := hc.Get(fmt.Sprintf("http://%s/", server))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if n, err := io.Copy(io.Discard, r.Body); err != nil || n != 300_000 {
		t.Fatalf("%d bytes, %v", n, err)
	}
	_ = done // the flow stays: its last packets are still to come
}

func bindTo(fd int, a netip.Addr) (uint16, error) {
	var sa unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte(a.AsSlice()[:4])}
	if a.Is6() {
		sa = &unix.SockaddrInet6{Addr: a.As16()}
	}
	if err := unix.Bind(fd, sa); err != nil {
		return 0, err
	}
	got, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	switch v := got.(type) {
	case *unix.SockaddrInet4:
		return uint16(v.Port), nil
	case *unix.SockaddrInet6:
		return uint16(v.Port), nil
	}
	return 0, unix.EINVAL
}

// serve answers on the receiving side.
func serve(t *testing.T, p *traffic.Pair, a netip.Addr) netip.AddrPort {
	t.Helper()
	var l net.Listener
	if err := p.Do(traffic.RX, func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(a, 0).String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, 300_000)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })}
	done := make(chan error)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return netip.MustParseAddrPort(l.Addr().String())
}

// portsOf are the TCP ports of a packet, IPv4 or IPv6, behind a header of at
// bytes; ok is false for others.
func portsOf(b []byte, at int) (src, dst uint16, ok bool) {
	if len(b) < at+44 {
		return 0, 0, false
	}
	b = b[at:]
	switch {
	case b[0]>>4 == 4 && b[9] == 6:
		b = b[int(b[0]&15)*4:]
	case b[0]>>4 == 6 && b[6] == 6:
		b = b[40:]
	default:
		return 0, 0, false
	}
	return uint16(b[0])<<8 | uint16(b[1]), uint16(b[2])<<8 | uint16(b[3]), true
}

func TestOwnFlowsAreLeftOut(t *testing.T) {
	t.Parallel()
	v6 := traffic.Options{Addresses: overIPv6}
	for _, tc := range []struct {
		name, iface    string
		options        traffic.Options
		side           traffic.Side
		client, server string
	}{
		{"veth", "vethrx", addressed, traffic.TX, "10.99.0.1", "10.99.0.2"},
		{"loopback", "lo", addressed, traffic.RX, "127.0.0.1", "127.0.0.1"},
		{"any", "any", addressed, traffic.TX, "10.99.0.1", "10.99.0.2"},
		{"any on loopback", "any", addressed, traffic.RX, "127.0.0.1", "127.0.0.1"},
		{"veth, IPv6", "vethrx", v6, traffic.TX, "fd00::1", "fd00::2"},
		{"loopback, IPv6", "lo", v6, traffic.RX, "::1", "::1"},
		{"any, IPv6", "any", v6, traffic.TX, "fd00::1", "fd00::2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := newPair(t, tc.options)
			flows := &capture.Flows{}
			c := settings{Options: rx()}
			c.Own, c.Interfaces, c.Buffer = flows, []string{tc.iface}, 64<<20
			s := begin(t, p, c)
			stop := tcpdump(t, p, tc.iface)
			server := serve(t, p, netip.MustParseAddr(tc.server))
			cl := &client{p: p, side: tc.side, local: netip.MustParseAddr(tc.client), flows: flows}
			for i := range 12 {
				cl.get(t, server, i%3 != 0)
			}
			theirs, ours := stop(), s.stop()
			at := 14
			if tc.iface == "any" {
				at = 20
			}
			count := func(b []byte) (own, other int) {
				src, dst, ok := portsOf(b, at)
				switch {
				case !ok || src != server.Port() && dst != server.Port():
				case slices.Contains(cl.ports, src), slices.Contains(cl.ports, dst):
					own++
				default:
					other++
				}
				return own, other
			}
			var got, want [2]int
			for _, r := range ours {
				own, other := count(r.Data)
				got[0], got[1] = got[0]+own, got[1]+other
			}
			for _, r := range theirs {
				own, other := count(r.Data)
				want[0], want[1] = want[0]+own, want[1]+other
			}
			t.Logf("own and other packets: %v, tcpdump has %v", got, want)
			if got[0] != 0 || got[1] != want[1] || want[0] < 50 || want[1] < 25 {
				t.Errorf("own and other packets: %v, tcpdump has %v", got, want)
			}
		})
	}
}

// tcpFrame is a segment from client to server.
func tcpFrame(client, server netip.AddrPort) []byte {
	b := []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0}
	b = append(b, client.Addr().AsSlice()...)
	b = append(b, server.Addr().AsSlice()...)
	b = append(b, byte(client.Port()>>8), byte(client.Port()), byte(server.Port()>>8), byte(server.Port()))
	return append(b, make([]byte, 22)...)
}

// Own packets are known behind VLAN tags, on the way in and out.
func TestOwnFlowsBehindTags(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	own := capture.Flow{Local: netip.MustParseAddrPort("10.99.0.1:1000"), Remote: netip.MustParseAddrPort("10.99.0.2:443")}
	flows := &capture.Flows{}
	flows.Add(own)
	other := own
	other.Local = netip.MustParseAddrPort("10.99.0.1:1001")
	var frames [][]byte
	for _, tags := range [][]byte{{}, {0x81, 0, 0, 7}, {0x88, 0xa8, 0, 9, 0x81, 0, 0, 7}} {
		for _, f := range []capture.Flow{own, other} {
			frames = append(frames, slices.Insert(tcpFrame(f.Local, f.Remote), 12, tags...))
		}
	}
	for _, c := range []settings{
		{from: "tx", Options: capture.Options{Interfaces: []string{"vethtx"}}},
		{from: "tx", Options: capture.Options{Interfaces: []string{"any"}}},
		{Options: capture.Options{Interfaces: []string{"vethrx"}}},
		{Options: capture.Options{Interfaces: []string{"any"}}},
	} {
		c.Own, c.Buffer = flows, 8<<20
		s := begin(t, p, c)
		sendFrames(t, p, frames)
		got := s.stop()
		for _, r := range got {
			if !bytes.Contains(r.Data, []byte{1001 >> 8, 1001 & 0xff, 443 >> 8, 443 & 0xff}) {
				t.Errorf("%q %v: % x", c.from, c.Interfaces, head(r.Data))
			}
		}
		if len(got) != 3 {
			t.Errorf("%q %v: %d packets, want 3", c.from, c.Interfaces, len(got))
		}
	}
}

// Where the kernel has little room for programs, the newest flows are left out.
func TestOwnFlowsWhereThereIsLittleRoom(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	for room, n := range map[string]uint16{"131072": 500, "8192": 80} {
		t.Run(room, func(t *testing.T) {
			run(t, p, traffic.RX, "sysctl", "-qw", "net.core.optmem_max="+room)
			flows := &capture.Flows{}
			c := settings{Options: rx()}
			c.Own, c.Fanout = flows, 2
			s := begin(t, p, c)
			server := netip.MustParseAddrPort("10.99.0.2:443")
			var frames [][]byte
			for port := range n {
				f := capture.Flow{Local: netip.AddrPortFrom(netip.MustParseAddr("10.99.0.1"), 1000+port), Remote: server}
				flows.Add(f)
				frames = append(frames, tcpFrame(f.Local, f.Remote), tcpFrame(f.Remote, f.Local))
			}
			frames = append(frames, tcpFrame(netip.MustParseAddrPort("10.99.0.1:999"), server))
			sendFrames(t, p, frames)
			got := s.stop()
			for _, r := range got {
				src, dst, ok := portsOf(r.Data, 14)
				if !ok || src >= 990+n || dst >= 990+n {
					t.Fatalf("a packet of a new flow: %d to %d; %d packets in all", src, dst, len(got))
				}
			}
			t.Logf("%d of %d packets came", len(got), len(frames))
			if len(got) < int(n)/2 || len(got) > len(frames)-20 {
				t.Errorf("%d of %d packets came", len(got), len(frames))
			}
		})
	}
}

// What fails half-way leaves nothing behind.
func TestNoRoomForAnyFilter(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	run(t, p, traffic.RX, "sysctl", "-qw", "net.core.optmem_max=1")
	for _, fanout := range []int{1, 2} {
		o := rx()
		o.Fanout = fanout
		if err := openFails(t, p, o); !errors.Is(err, unix.ENOMEM) || !strings.Contains(err.Error(), "optmem_max") {
			t.Errorf("%v", err)
		}
	}
	run(t, p, traffic.RX, "sysctl", "-qw", "net.core.optmem_max=131072")
	s := begin(t, p, settings{Options: rx()})
	send(t, p, traffic.Load{Size: 100, Count: 10})
	wantAll(t, s.stop(), 10, true)
}

func TestAFlowThatIsDoneIsSeenAgain(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	flows := &capture.Flows{}
	c := settings{Options: rx()}
	c.Own = flows
	f := capture.Flow{Local: netip.MustParseAddrPort("10.99.0.1:1000"), Remote: netip.MustParseAddrPort("10.99.0.2:443")}
	first := flows.Add(f) // before the capture
	s := begin(t, p, c)
	frame := [][]byte{tcpFrame(f.Local, f.Remote)}
	sendFrames(t, p, frame)
	second := flows.Add(f)
	first()
	sendFrames(t, p, frame)
	second()
	sendFrames(t, p, append(frame, frame...))
	if got := s.stop(); len(got) != 2 {
		t.Errorf("%d packets, want 2", len(got))
	}
}

// An interface that was created again is read without own flows too.
func TestOwnFlowsAfterAReturn(t *testing.T) {
	t.Parallel()
	p := newPair(t, traffic.Options{})
	flows := &capture.Flows{}
	c := settings{Options: rx()}
	c.Own = flows
	s := begin(t, p, c)
	own := capture.Flow{Local: netip.MustParseAddrPort("10.99.0.1:1000"), Remote: netip.MustParseAddrPort("10.99.0.2:443")}
	if err := p.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.waitEvent(capture.Gone, 1)
	flows.Add(own)
	if err := p.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.waitEvent(capture.Back, 1)
	sendFrames(t, p, [][]byte{tcpFrame(own.Local, own.Remote), tcpFrame(netip.MustParseAddrPort("10.99.0.1:1001"), own.Remote)})
	got := s.stop()
	if len(got) != 1 {
		t.Fatalf("%d packets, want 1", len(got))
	}
	if src, _, _ := portsOf(got[0].Data, 14); src != 1001 {
		t.Errorf("the packet is from port %d", src)
	}
}

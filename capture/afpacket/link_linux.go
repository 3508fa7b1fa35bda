package afpacket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"capagent/internal/packet"
)

// LINKTYPE_ numbers of what is captured.
const (
	ethernet  = 1
	raw       = 101
	ieee80211 = 105
	prism     = 119
	radiotap  = 127
	sll2      = 276
)

// anyName is what stands for all interfaces.
const anyName = "any"

// link is what the kernel says of an interface.
type link struct {
	index    int // 0: all interfaces
	name     string
	hatype   uint16 // ARPHRD_
	up       bool
	mac      []byte
	packets  uint64 // received and sent
	linkType int
}

func (l link) any() bool    { return l.index == 0 }
func (l link) cooked() bool { return l.linkType == sll2 }

// linkTypeOf is what packets of hardware of that type look like. What could be
// any of several things is cooked: the kernel takes its header off, and
// LINUX_SLL2 says what it was.
func linkTypeOf(hatype uint16) int {
	switch hatype {
	case unix.ARPHRD_ETHER, unix.ARPHRD_LOOPBACK, unix.ARPHRD_METRICOM:
		return ethernet
	case unix.ARPHRD_NONE, unix.ARPHRD_RAWIP, unix.ARPHRD_TUNNEL, unix.ARPHRD_TUNNEL6, unix.ARPHRD_SIT,
		unix.ARPHRD_SLIP, unix.ARPHRD_CSLIP, unix.ARPHRD_SLIP6, unix.ARPHRD_CSLIP6, unix.ARPHRD_ADAPT:
		return raw
	case unix.ARPHRD_IEEE80211:
		return ieee80211
	case unix.ARPHRD_IEEE80211_PRISM:
		return prism
	case unix.ARPHRD_IEEE80211_RADIOTAP:
		return radiotap
	default:
		return sll2
	}
}

// links asks the kernel for interfaces, by rtnetlink: unlike /sys it shows
// those of the network namespace in which it was opened, to anybody.
type links struct {
	fd  int
	seq uint32
	buf []byte
}

func openLinks() (*links, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	// The kernel answers at once; this is for the day when it does not.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return &links{fd: fd, buf: make([]byte, 32<<10)}, nil
}

func (s *links) close() { _ = unix.Close(s.fd) }

// byName fails with ENODEV where there is none.
func (s *links) byName(name string) (link, error) {
	if name == anyName {
		return link{name: anyName, up: true, linkType: sll2}, nil
	}
	if len(name) == 0 || len(name) >= unix.IFNAMSIZ {
		return link{}, unix.ENODEV
	}
	return s.ask(0, name)
}

// byIndex fails with ENODEV where there is none.
func (s *links) byIndex(index int) (link, error) { return s.ask(index, "") }

func (s *links) ask(index int, name string) (link, error) {
	s.seq++
	native := binary.NativeEndian
	m := make([]byte, 0, 64)
	m = native.AppendUint32(m, 0) // length, below
	m = native.AppendUint16(m, unix.RTM_GETLINK)
	m = native.AppendUint16(m, unix.NLM_F_REQUEST)
	m = native.AppendUint32(m, s.seq)
	m = native.AppendUint32(m, 0)
	m = append(m, unix.AF_UNSPEC, 0, 0, 0)
	m = native.AppendUint32(m, uint32(index))
	m = append(m, make([]byte, 8)...) // flags, change
	if name != "" {
		m = native.AppendUint16(m, uint16(unix.SizeofRtAttr+len(name)+1))
		m = native.AppendUint16(m, unix.IFLA_IFNAME)
		m = append(m, name...)
		m = append(m, make([]byte, 4-len(name)%4)...)
	}
	native.PutUint32(m, uint32(len(m)))
	if err := unix.Sendto(s.fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return link{}, fmt.Errorf("netlink: %w", err)
	}
	for {
		n, _, err := unix.Recvfrom(s.fd, s.buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		} else if err != nil {
			return link{}, fmt.Errorf("netlink: %w", err)
		}
		if l, mine, err := s.answer(s.buf[:n]); mine {
			return l, err
		}
	}
}

// answer reads one reply; mine says whether it is to the last question.
func (s *links) answer(b []byte) (l link, mine bool, err error) {
	native := binary.NativeEndian
	if len(b) < unix.SizeofNlMsghdr+4 || native.Uint32(b[8:]) != s.seq {
		return link{}, false, nil
	}
	b = b[:min(len(b), int(native.Uint32(b)))]
	typ, body := native.Uint16(b[4:]), b[min(len(b), unix.SizeofNlMsghdr):]
	switch {
	case typ == unix.NLMSG_ERROR && len(body) >= 4:
		return link{}, true, unix.Errno(-int32(native.Uint32(body)))
	case typ != unix.RTM_NEWLINK || len(body) < unix.SizeofIfInfomsg:
		return link{}, true, fmt.Errorf("netlink: message of type %d", typ)
	}
	l.hatype = native.Uint16(body[2:])
	l.index = int(int32(native.Uint32(body[4:])))
	l.up = native.Uint32(body[8:])&unix.IFF_UP != 0
	l.linkType = linkTypeOf(l.hatype)
	for a := body[unix.SizeofIfInfomsg:]; len(a) >= unix.SizeofRtAttr; {
		n := int(native.Uint16(a))
		if n < unix.SizeofRtAttr || n > len(a) {
			break
		}
		l.attribute(native.Uint16(a[2:]), a[unix.SizeofRtAttr:n])
		a = a[min(len(a), (n+3)&^3):]
	}
	return l, true, nil
}

func (l *link) attribute(typ uint16, v []byte) {
	switch {
	case typ == unix.IFLA_IFNAME:
		name, _, _ := strings.Cut(string(v), "\x00")
		l.name = name
	case typ == unix.IFLA_ADDRESS && len(v) == 6:
		l.mac = append([]byte(nil), v...)
	case typ == unix.IFLA_STATS64 && len(v) >= 16:
		l.packets = binary.NativeEndian.Uint64(v) + binary.NativeEndian.Uint64(v[8:])
	}
}

// describe is l for a capture file.
func (s *links) describe(l link, filter string, snap uint32) packet.Interface {
	i := packet.Interface{Name: l.name, LinkType: l.linkType, SnapLen: snap, Filter: filter, MAC: l.mac}
	if !l.any() {
		i.Speed = speedOf(l.name)
	}
	return i
}

// ioctlSocket gives do a socket for questions by ioctl.
func ioctlSocket(do func(fd int)) {
	if fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err == nil {
		do(fd)
		_ = unix.Close(fd)
	}
}

// speedOf is in bits per second; 0: not known.
func speedOf(name string) (speed uint64) {
	const (
		unknown     = 1<<32 - 1
		getSettings = 1 // ETHTOOL_GSET
	)
	ioctlSocket(func(fd int) {
		cmd := struct { // ethtool_cmd
			cmd, supported, advertising uint32
			speed                       uint16
			_                           [6]byte
			_                           [8]byte
			speedHi                     uint16
			_                           [14]byte
		}{cmd: getSettings}
		req := struct { // ifreq
			name [unix.IFNAMSIZ]byte
			data unsafe.Pointer
			_    [24 - unsafe.Sizeof(uintptr(0))]byte
		}{data: unsafe.Pointer(&cmd)} //nolint:gosec // an ioctl
		copy(req.name[:unix.IFNAMSIZ-1], name)
		_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))) //nolint:gosec // an ioctl
		if mbit := uint64(cmd.speedHi)<<16 | uint64(cmd.speed); e == 0 && mbit != unknown {
			speed = mbit * 1e6
		}
	})
	return speed
}

// netmaskOf is that of the interface's first IPv4 address, as a number.
func netmaskOf(name string) (mask uint32, ok bool) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0, false
	}
	ioctlSocket(func(fd int) {
		if unix.IoctlIfreq(fd, unix.SIOCGIFNETMASK, ifr) != nil {
			return
		}
		if b, err := ifr.Inet4Addr(); err == nil {
			mask, ok = binary.BigEndian.Uint32(b), true
		}
	})
	return mask, ok
}

// existing lists the interfaces for somebody who named another one.
func existing() string {
	const most = 20
	all, err := net.Interfaces()
	if err != nil {
		return ""
	}
	names := []string{anyName}
	for _, i := range all {
		names = append(names, i.Name)
	}
	if len(names) > most {
		names = append(names[:most], "…")
	}
	return strings.Join(names, ", ")
}

package filtertest

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"capagent/capture/filter"
)

// loopback is lo in a network namespace of its own, with a socket that sends
// frames there and one that sees all of them.
type loopback struct {
	t                  *testing.T
	tx, seen, filtered int
}

func htons(n uint16) uint16 { return n<<8 | n>>8 }

// newLoopback takes the goroutine's thread away to a new namespace; the thread
// ends with the goroutine. The socket that gets filters is SOCK_RAW or SOCK_DGRAM.
func newLoopback(t *testing.T, kind int) *loopback {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	l := &loopback{t: t}
	l.tx, l.seen, l.filtered = l.socket(unix.SOCK_RAW), l.socket(unix.SOCK_RAW), l.socket(kind)
	up, err := unix.NewIfreq("lo")
	if err != nil {
		t.Fatal(err)
	}
	up.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(l.tx, unix.SIOCSIFFLAGS, up); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *loopback) socket(kind int) int {
	fd, err := unix.Socket(unix.AF_PACKET, kind|unix.SOCK_NONBLOCK, int(htons(unix.ETH_P_ALL)))
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// received is how many packets that came in a socket holds.
func (l *loopback) received(fd int) (n int) {
	buf := make([]byte, 2048)
	for {
		_, from, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return n
		}
		if a, ok := from.(*unix.SockaddrLinklayer); ok && a.Pkttype != unix.PACKET_OUTGOING {
			n++
		}
	}
}

// takes says whether a socket with prog takes frame when it comes in.
func (l *loopback) takes(prog []bpf.RawInstruction, frame []byte) bool {
	if err := attach(l.filtered, prog); err != nil {
		l.t.Fatal(err)
	}
	l.received(l.filtered) // what came before the filter
	l.received(l.seen)
	to := &unix.SockaddrLinklayer{Ifindex: 1}
	for range 2 {
		if err := unix.Sendto(l.tx, frame, 0, to); err != nil {
			l.t.Fatal(err)
		}
	}
	// When the second has been seen, the first has been offered to every socket.
	for n := 0; n < 2; {
		fds := []unix.PollFd{{Fd: int32(l.seen), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, 2000); err != nil && err != unix.EINTR {
			l.t.Fatal(err)
		}
		if fds[0].Revents == 0 {
			l.t.Fatalf("%x doesn't come back", frame)
		}
		n += l.received(l.seen)
	}
	return l.received(l.filtered) > 0
}

// shown is what a socket's filter sees of frame when it comes in on lo.
func shown(frame []byte) Frame {
	a := &Aux{IfIndex: 1, HaType: unix.ARPHRD_LOOPBACK, PktType: unix.PACKET_OTHERHOST}
	switch mac := [6]byte(frame); {
	case mac == [6]byte{}:
		a.PktType = unix.PACKET_HOST
	case mac[0]&1 != 0: // ff:ff:ff:ff:ff:ff too: it isn't lo's broadcast address
		a.PktType = unix.PACKET_MULTICAST
	}
	if tpid := binary.BigEndian.Uint16(frame[12:]); tpid == 0x8100 || tpid == 0x88a8 {
		a.HasTag, a.TPID, a.TCI = true, tpid, binary.BigEndian.Uint16(frame[14:])
		frame = join(frame[:12], frame[16:])
	}
	a.Protocol = binary.BigEndian.Uint16(frame[12:])
	return Frame{Data: frame, Length: uint32(len(frame)), Aux: a}
}

// taggedFrames are UDP datagrams to several addresses with and without VLAN tags.
func taggedFrames() (frames [][]byte) {
	udp := join([]byte{0x45, 0, 0, 28}, make([]byte, 5), []byte{17, 0, 0, 10, 1, 1, 1, 10, 1, 1, 2, 0, 53, 0, 53, 0, 8, 0, 0})
	for _, dst := range [][]byte{make([]byte, 6), {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {1, 0, 0x5e, 0, 0, 1}, {2, 0, 0, 0, 0, 1}} {
		for _, tag := range [][]byte{nil, {0x81, 0, 0, 5}, {0x81, 0, 0xe0, 0}, {0x88, 0xa8, 0, 100, 0x81, 0, 0, 5}} {
			frames = append(frames, join(dst, make([]byte, 6), tag, []byte{8, 0}, udp))
		}
	}
	return frames
}

// TestLiveProgramsInTheKernel runs programs for live sockets on frames with and
// without VLAN tags, in the kernel and here.
func TestLiveProgramsInTheKernel(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	o := oracle(t)
	l := newLoopback(t, unix.SOCK_RAW)
	frames := taggedFrames()
	runs, taken := 0, 0
	try := func(who, expr string, prog []bpf.RawInstruction) {
		for _, frame := range frames {
			want, err := Run(prog, shown(frame))
			if err != nil {
				t.Fatal(err)
			}
			got := l.takes(prog, frame)
			runs++
			if got {
				taken++
			}
			if got != (want != 0) {
				t.Errorf("%s %q on %v: the kernel says %v, the interpreter %d", who, expr, shown(frame), got, want)
			}
		}
	}
	for _, expr := range []string{
		"ip", "vlan", "vlan 5", "vlan 0", "not vlan", "vlan and udp port 53", "vlan 100 and vlan 5", "vlan 100 and vlan 5 and ip",
		"inbound", "outbound", "ifindex 1", "ifindex 2", "udp port 53 or vlan", "ether broadcast", "ether multicast and vlan",
		"len == 42", "host 10.1.1.1", "ip or vlan 5",
	} {
		theirs, err := o.Compile(Query{Expr: expr, LinkType: LinkEthernet, Mode: Live})
		if err != nil {
			t.Fatal(expr, err)
		}
		try("libpcap", expr, theirs)
		if ours, err := Ours(Case{Expr: expr, LinkType: LinkEthernet, Target: filter.Live}); err == nil {
			try("ours", expr, ours.Raw)
		}
	}
	for field := range uint32(64) {
		for _, k := range []uint32{0, 1, 2, 3, 5, 100, 0xe000, 0x8100, 0x88a8, 0x0800, unix.ARPHRD_LOOPBACK} {
			if _, known := (&Aux{}).field(field); !known {
				continue
			}
			try("load", "", []bpf.RawInstruction{
				{Op: classLD | modeABS, K: adOff + field},
				{Op: classJMP | 0x10, K: k, Jf: 1},
				{Op: classRET, K: 100},
				{Op: classRET},
			})
		}
	}
	t.Logf("%d runs, %d taken", runs, taken)
}

// TestCookedProgramsInTheKernel runs our programs for cooked sockets in the
// kernel and here.
func TestCookedProgramsInTheKernel(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	l := newLoopback(t, unix.SOCK_DGRAM)
	runs, taken := 0, 0
	for _, link := range []int{LinkSLL, LinkSLL2} {
		for _, expr := range []string{
			"ip", "not ip", "ip6", "udp", "udp port 53", "host 10.1.1.1", "src 10.1.1.2", "inbound", "outbound", "ether proto 0x8100",
			fmt.Sprintf("len == %d", 28+cookedHeader(link)), fmt.Sprintf("greater %d", 29+cookedHeader(link)), "ip[8] = 0", "arp",
		} {
			c := Case{Expr: expr, LinkType: link, Target: filter.LiveCooked}
			ours, err := Ours(c)
			if err != nil {
				t.Fatal(c, err)
			}
			for _, frame := range taggedFrames() {
				f := shown(frame)
				f.Data, f.Length = f.Data[14:], f.Length-14
				want, err := Run(ours.Raw, f)
				if err != nil {
					t.Fatal(err)
				}
				got := l.takes(ours.Raw, frame)
				runs++
				if got {
					taken++
				}
				if got != (want != 0) {
					t.Errorf("%v on %v: the kernel says %v, the interpreter %d", c, f, got, want)
				}
			}
		}
	}
	t.Logf("%d runs, %d taken", runs, taken)
}

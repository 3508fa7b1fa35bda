package afpacket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"capagent/capture"
)

// maxProgram is BPF_MAXINSNS: the instructions of a program at most.
const maxProgram = 4096

// refuseAll lets nothing through.
var refuseAll = []bpf.RawInstruction{{Op: unix.BPF_RET | unix.BPF_K}}

// attach makes program the socket's filter; a packet meets either the one
// before or this one.
func (r *ring) attach(program []bpf.RawInstruction) error {
	raw := make([]unix.SockFilter, len(program))
	for i, in := range program {
		raw[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	if len(raw) == 0 || len(raw) > maxProgram {
		return fmt.Errorf("filter of %d instructions: the kernel takes 1 to %d", len(raw), maxProgram)
	}
	err := unix.SetsockoptSockFprog(r.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(raw)), Filter: &raw[0]})
	if errors.Is(err, unix.ENOMEM) {
		return fmt.Errorf("filter of %d instructions: %w: net.core.optmem_max is too small", len(raw), err)
	} else if err != nil {
		return fmt.Errorf("filter of %d instructions: %w", len(raw), err)
	}
	return nil
}

// use makes base the ring's filter, with what comes before it: packets that are
// seen twice, and the flows that are left out. Where the kernel has no room for
// all of them (BPF_MAXINSNS, net.core.optmem_max), the oldest are let through.
func (r *ring) use(base []bpf.RawInstruction, flows []capture.Flow) error {
	for {
		program, taken := compose(r.link, base, flows)
		flows = flows[len(flows)-taken:]
		err := r.attach(program)
		if errors.Is(err, unix.ENOMEM) && len(program) > 1 {
			// The old program and the new one together are too large.
			if err = r.attach(refuseAll); err == nil {
				err = r.attach(program)
			}
		}
		if errors.Is(err, unix.ENOMEM) && taken > 0 {
			flows = flows[len(flows)-taken/2:]
			continue
		}
		return err
	}
}

// Classic BPF's ancillary loads (linux/filter.h).
const (
	skfProtocol = 0xfffff000 + 0
	skfPktType  = 0xfffff000 + 4
	skfHatype   = 0xfffff000 + 28

	loadWord  = unix.BPF_LD | unix.BPF_W
	loadHalf  = unix.BPF_LD | unix.BPF_H
	loadByte  = unix.BPF_LD | unix.BPF_B
	jumpEqual = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	jumpMin   = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
)

// compose returns base with the tests in front that every capture on l has, and
// how many of flows, the newest, are left out by it.
func compose(l link, base []bpf.RawInstruction, flows []capture.Flow) (program []bpf.RawInstruction, taken int) {
	a := &assembler{labels: map[string]int{}}
	if l.any() || l.hatype == unix.ARPHRD_LOOPBACK || l.hatype == unix.ARPHRD_CAN {
		// What was sent here comes in here too: shown once, as tcpdump does.
		a.emit(loadWord|unix.BPF_ABS, 0, 0, skfPktType)
		a.emit(jumpEqual, 0, 4, unix.PACKET_OUTGOING)
		a.emit(loadWord|unix.BPF_ABS, 0, 0, skfHatype)
		a.emit(jumpEqual, 1, 0, unix.ARPHRD_LOOPBACK)
		a.emit(jumpEqual, 0, 1, unix.ARPHRD_CAN)
		a.emit(unix.BPF_RET|unix.BPF_K, 0, 0, 0)
	}
	v4, v6 := halves(flows, maxProgram-len(base)-len(a.code)-overhead)
	if taken = len(v4)/2 + len(v6)/2; taken > 0 && a.protocol(l) {
		a.flows4(v4)
		a.flows6(v6)
		a.mark("base")
		// A program may count on registers that are 0.
		a.emit(unix.BPF_LD|unix.BPF_IMM, 0, 0, 0)
		a.emit(unix.BPF_LDX|unix.BPF_IMM, 0, 0, 0)
	}
	return append(a.finish(), base...), taken
}

// Instructions per direction of a flow, and of all tests around the flows.
const (
	half4    = 7
	half6    = 19
	overhead = 140
)

// half is one direction of a flow.
type half struct {
	src, dst netip.Addr
	ports    uint32 // source and destination, as in the TCP header
}

// halves returns both directions of the newest flows that fit into room
// instructions.
func halves(flows []capture.Flow, room int) (v4, v6 []half) {
	for i := len(flows) - 1; i >= 0 && room >= 2*half6; i-- {
		l, r := plain(flows[i].Local), plain(flows[i].Remote)
		h := []half{
			{l.Addr(), r.Addr(), uint32(l.Port())<<16 | uint32(r.Port())},
			{r.Addr(), l.Addr(), uint32(r.Port())<<16 | uint32(l.Port())},
		}
		switch {
		case !l.IsValid() || !r.IsValid() || l.Addr().Is4() != r.Addr().Is4():
			v4 = append(v4, half{}, half{}) // of no packet, but counted
			room -= 2 * half4
		case l.Addr().Is4():
			v4 = append(v4, h...)
			room -= 2 * half4
		default:
			v6 = append(v6, h...)
			room -= 2 * half6
		}
	}
	return v4, v6
}

// plain is a as packets show it: without zone, IPv4 as IPv4.
func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// assembler puts a program together. Only unconditional jumps go to labels.
type assembler struct {
	code   []bpf.RawInstruction
	labels map[string]int
	jumps  []jump
}

type jump struct {
	at int
	to string
}

func (a *assembler) emit(op uint16, jt, jf uint8, k uint32) {
	a.code = append(a.code, bpf.RawInstruction{Op: op, Jt: jt, Jf: jf, K: k})
}

func (a *assembler) jump(label string) {
	a.jumps = append(a.jumps, jump{len(a.code), label})
	a.emit(unix.BPF_JMP|unix.BPF_JA, 0, 0, 0)
}

func (a *assembler) mark(label string) { a.labels[label] = len(a.code) }

func (a *assembler) finish() []bpf.RawInstruction {
	for _, j := range a.jumps {
		a.code[j.at].K = uint32(a.labels[j.to] - j.at - 1)
	}
	return a.code
}

// protocol goes to v4 or v6 with the offset of the IP header in X where the
// packet is long enough, and to base otherwise: a load behind the end of a
// packet would refuse it. It says false where no IP can be found in packets of
// such a link.
func (a *assembler) protocol(l link) bool {
	switch l.linkType {
	case ethernet:
		a.types(14)
	case raw:
		a.nibble()
	case sll2:
		a.emit(loadWord|unix.BPF_ABS, 0, 0, skfProtocol)
		a.version(unix.ETH_P_IP, unix.ETH_P_IPV6, 0)
		a.tagged()
		a.emit(loadWord|unix.BPF_ABS, 0, 0, skfPktType)
		a.emit(jumpEqual, 0, 1, unix.PACKET_OUTGOING)
		a.jump("inside")
		a.types(4)
		a.mark("inside") // the kernel shows it from its IP header on
		a.nibble()
	default:
		return false
	}
	a.jump("base")
	return true
}

// types goes to v4 or v6 by the type that ends at offset, or behind one or two
// tags from there on; else to base.
func (a *assembler) types(offset uint32) {
	const most = 2
	for tags := range uint32(most + 1) {
		if tags > 0 {
			a.tagged()
		}
		end := offset + tags*tagLen
		a.atLeast(end)
		a.emit(loadHalf|unix.BPF_ABS, 0, 0, end-2)
		a.version(unix.ETH_P_IP, unix.ETH_P_IPV6, end)
	}
	a.jump("base")
}

// atLeast goes to base with packets of less than n bytes.
func (a *assembler) atLeast(n uint32) {
	a.emit(loadWord|unix.BPF_LEN, 0, 0, 0)
	a.emit(jumpMin, 1, 0, n)
	a.jump("base")
}

// tagged goes to base unless A is the type of a VLAN tag.
func (a *assembler) tagged() {
	a.emit(jumpEqual, 2, 0, unix.ETH_P_8021Q)
	a.emit(jumpEqual, 1, 0, unix.ETH_P_8021AD)
	a.jump("base")
}

func (a *assembler) nibble() {
	a.atLeast(1)
	a.emit(loadByte|unix.BPF_ABS, 0, 0, 0)
	a.emit(unix.BPF_ALU|unix.BPF_RSH|unix.BPF_K, 0, 0, 4)
	a.version(4, 6, 0)
}

// version goes to v4 or v6 where A says so.
func (a *assembler) version(four, six, offset uint32) {
	for _, v := range []struct {
		value, least uint32
		label        string
	}{{four, offset + 24, "v4"}, {six, offset + 44, "v6"}} {
		a.emit(jumpEqual, 0, 5, v.value)
		a.atLeast(v.least)
		a.emit(unix.BPF_LDX|unix.BPF_IMM, 0, 0, offset)
		a.jump(v.label)
	}
}

// flows4 refuses the TCP packets of flows; X is where the IPv4 header begins.
// Only first fragments have ports; TCP has no others, as it asks not to be cut.
func (a *assembler) flows4(flows []half) {
	const src, dst, ports = 1, 2, 3 // scratch memory
	a.mark("v4")
	a.emit(loadByte|unix.BPF_IND, 0, 0, 9)
	a.emit(jumpEqual, 1, 0, unix.IPPROTO_TCP)
	a.jump("base")
	a.emit(loadHalf|unix.BPF_IND, 0, 0, 6)
	a.emit(unix.BPF_JMP|unix.BPF_JSET|unix.BPF_K, 0, 1, 0x1fff)
	a.jump("base")
	a.emit(loadWord|unix.BPF_IND, 0, 0, 12)
	a.emit(unix.BPF_ST, 0, 0, src)
	a.emit(loadWord|unix.BPF_IND, 0, 0, 16)
	a.emit(unix.BPF_ST, 0, 0, dst)
	a.emit(loadByte|unix.BPF_IND, 0, 0, 0)
	a.emit(unix.BPF_ALU|unix.BPF_AND|unix.BPF_K, 0, 0, 0xf)
	a.emit(unix.BPF_ALU|unix.BPF_LSH|unix.BPF_K, 0, 0, 2)
	a.emit(unix.BPF_ALU|unix.BPF_ADD|unix.BPF_X, 0, 0, 0)
	a.emit(unix.BPF_MISC|unix.BPF_TAX, 0, 0, 0)
	a.emit(loadWord|unix.BPF_LEN, 0, 0, 0)
	a.emit(unix.BPF_ALU|unix.BPF_SUB|unix.BPF_K, 0, 0, 4)
	a.emit(unix.BPF_JMP|unix.BPF_JGE|unix.BPF_X, 1, 0, 0)
	a.jump("base")
	a.emit(loadWord|unix.BPF_IND, 0, 0, 0)
	a.emit(unix.BPF_ST, 0, 0, ports)
	for _, f := range flows {
		if !f.src.IsValid() {
			continue
		}
		s, d := f.src.As4(), f.dst.As4()
		a.emit(loadWord|unix.BPF_MEM, 0, 0, ports)
		a.emit(jumpEqual, 0, 5, f.ports)
		a.emit(loadWord|unix.BPF_MEM, 0, 0, src)
		a.emit(jumpEqual, 0, 3, binary.BigEndian.Uint32(s[:]))
		a.emit(loadWord|unix.BPF_MEM, 0, 0, dst)
		a.emit(jumpEqual, 0, 1, binary.BigEndian.Uint32(d[:]))
		a.emit(unix.BPF_RET|unix.BPF_K, 0, 0, 0)
	}
	a.jump("base")
}

// flows6 does for IPv6 what flows4 does; TCP comes right behind the header.
func (a *assembler) flows6(flows []half) {
	const ports = 3
	a.mark("v6")
	a.emit(loadByte|unix.BPF_IND, 0, 0, 6)
	a.emit(jumpEqual, 1, 0, unix.IPPROTO_TCP)
	a.jump("base")
	a.emit(loadWord|unix.BPF_IND, 0, 0, 40)
	a.emit(unix.BPF_ST, 0, 0, ports)
	for _, f := range flows {
		s, d := f.src.As16(), f.dst.As16()
		addrs := append(s[:], d[:]...)
		a.emit(loadWord|unix.BPF_MEM, 0, 0, ports)
		a.emit(jumpEqual, 0, half6-2, f.ports)
		for at := 0; at < len(addrs); at += 4 {
			a.emit(loadWord|unix.BPF_IND, 0, 0, 8+uint32(at))
			a.emit(jumpEqual, 0, uint8(half6-4-at/2), binary.BigEndian.Uint32(addrs[at:]))
		}
		a.emit(unix.BPF_RET|unix.BPF_K, 0, 0, 0)
	}
	a.jump("base")
}

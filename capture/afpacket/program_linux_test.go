package afpacket

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"capagent/capture"
)

var passAll = []bpf.RawInstruction{{Op: unix.BPF_RET | unix.BPF_K, K: 1000}}

func machine(t *testing.T, program []bpf.RawInstruction) *bpf.VM {
	t.Helper()
	list, ok := bpf.Disassemble(program)
	if !ok {
		t.Fatal("not all of the program can be read")
	}
	vm, err := bpf.NewVM(list)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

// flowOf is an independent look at a packet: the TCP connection that it is of.
func flowOf(b []byte, linkType int) (f capture.Flow, ok bool) {
	typ := uint16(0)
	switch linkType {
	case ethernet:
		if len(b) < 14 {
			return f, false
		}
		typ, b = binary.BigEndian.Uint16(b[12:]), b[14:]
		for tags := 0; tags < 2 && (typ == 0x8100 || typ == 0x88a8); tags++ {
			if len(b) < 4 {
				return f, false
			}
			typ, b = binary.BigEndian.Uint16(b[2:]), b[4:]
		}
	case raw:
		if len(b) > 0 {
			typ = map[byte]uint16{4: 0x800, 6: 0x86dd}[b[0]>>4]
		}
	}
	var src, dst netip.Addr
	switch {
	case typ == 0x800 && len(b) >= 24 && b[9] == 6 && binary.BigEndian.Uint16(b[6:])&0x1fff == 0:
		src, dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		b = b[min(len(b), int(b[0]&15)*4):]
	case typ == 0x86dd && len(b) >= 44 && b[6] == 6:
		src, dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		b = b[40:]
	default:
		return f, false
	}
	if len(b) < 4 {
		return f, false
	}
	return capture.Flow{
		Local:  netip.AddrPortFrom(src, binary.BigEndian.Uint16(b)),
		Remote: netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:])),
	}, true
}

func packetOf(r *rand.Rand, linkType int, f capture.Flow) []byte {
	var b []byte
	if linkType == ethernet {
		b = append(b, 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2)
		for range max(0, r.IntN(6)-2) { // up to three tags
			b = append(b, 0x81, 0, 0, 7)
			if r.IntN(2) == 0 {
				b[len(b)-4], b[len(b)-3] = 0x88, 0xa8
			}
		}
		if f.Local.Addr().Is4() {
			b = append(b, 8, 0)
		} else {
			b = append(b, 0x86, 0xdd)
		}
	}
	if f.Local.Addr().Is4() {
		words := 5 + r.IntN(11)
		h := make([]byte, 4*words)
		h[0], h[9] = 0x40|byte(words), 6
		if r.IntN(8) == 0 {
			h[7] = 1
		}
		copy(h[12:], f.Local.Addr().AsSlice())
		copy(h[16:], f.Remote.Addr().AsSlice())
		b = append(b, h...)
	} else {
		h := make([]byte, 40)
		h[0], h[6] = 0x60, 6
		copy(h[8:], f.Local.Addr().AsSlice())
		copy(h[24:], f.Remote.Addr().AsSlice())
		b = append(b, h...)
	}
	b = binary.BigEndian.AppendUint16(b, f.Local.Port())
	b = binary.BigEndian.AppendUint16(b, f.Remote.Port())
	b = append(b, make([]byte, r.IntN(30))...)
	switch r.IntN(6) {
	case 0:
		b = b[:r.IntN(len(b)+1)]
	case 1:
		b[r.IntN(len(b))] ^= 1 << r.IntN(8)
	}
	return b
}

// The program decides as a plain look at the packet does, whatever the packet is.
func TestOwnFlowsProgram(t *testing.T) {
	t.Parallel()
	const seed = 4
	r := rand.New(rand.NewPCG(seed, seed))
	addrs := []netip.Addr{
		netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("192.0.2.7"),
		netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"), netip.MustParseAddr("2001:db8::7"),
	}
	ports := []uint16{443, 40000, 40001}
	some := func() capture.Flow {
		family := 3 * r.IntN(2)
		return capture.Flow{
			Local:  netip.AddrPortFrom(addrs[family+r.IntN(3)], ports[r.IntN(3)]),
			Remote: netip.AddrPortFrom(addrs[family+r.IntN(3)], ports[r.IntN(3)]),
		}
	}
	for _, linkType := range []int{ethernet, raw} {
		refused := 0
		for range 1000 {
			own := make([]capture.Flow, r.IntN(6))
			left := map[capture.Flow]bool{}
			for i := range own {
				own[i] = some()
				left[own[i]] = true
				left[capture.Flow{Local: own[i].Remote, Remote: own[i].Local}] = true
				if r.IntN(3) == 0 { // as sockets of both families name it
					own[i].Local = netip.AddrPortFrom(netip.AddrFrom16(own[i].Local.Addr().As16()), own[i].Local.Port())
				}
			}
			program, taken := compose(link{index: 1, hatype: unix.ARPHRD_ETHER, linkType: linkType}, passAll, own)
			if taken != len(own) {
				t.Fatalf("%d of %d flows", taken, len(own))
			}
			vm := machine(t, program)
			for range 200 {
				b := packetOf(r, linkType, some())
				f, ok := flowOf(b, linkType)
				want := 1000
				if ok && left[f] {
					want = 0
					refused++
				}
				if got, err := vm.Run(b); err != nil || got != want {
					t.Fatalf("flows %v: program returns %d (%v), want %d, for % x", own, got, err, want, b)
				}
			}
		}
		if refused < 1000 {
			t.Errorf("link type %d: only %d packets were own", linkType, refused)
		}
	}
}

func manyFlows(n int, base string) (list []capture.Flow) {
	for i := range n {
		list = append(list, capture.Flow{Local: netip.AddrPortFrom(netip.MustParseAddr(base), uint16(i)), Remote: netip.AddrPortFrom(netip.MustParseAddr(base), 443)})
	}
	return list
}

// However many flows there are, the program is one that the kernel takes, and
// leaves out the newest.
func TestManyOwnFlows(t *testing.T) {
	t.Parallel()
	long := make([]bpf.RawInstruction, 3000)
	for _, l := range []link{{index: 1, linkType: ethernet}, {linkType: sll2}, {index: 1, linkType: raw}, {index: 1, linkType: radiotap}} {
		for _, base := range [][]bpf.RawInstruction{passAll, long} {
			for _, addr := range []string{"10.0.0.1", "fd00::1"} {
				for n := range 1000 {
					if n > 3 && n%97 > 0 {
						continue
					}
					program, taken := compose(l, base, manyFlows(n, addr))
					if len(program) > maxProgram || taken > n || taken < min(n, 20) && l.linkType != radiotap {
						t.Errorf("%s, base of %d, %d flows of %s: %d instructions, %d taken", fmt.Sprint(l), len(base), n, addr, len(program), taken)
					}
				}
			}
		}
	}
	program, taken := compose(link{index: 1, linkType: ethernet}, passAll, manyFlows(1000, "10.0.0.1"))
	b := packetOf(rand.New(rand.NewPCG(1, 1)), raw, manyFlows(1000, "10.0.0.1")[999])
	b = append([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0}, b...)
	if got, err := machine(t, program).Run(b); got != 0 || err != nil || taken < 200 {
		t.Errorf("the newest of %d flows passes: %d, %v", taken, got, err)
	}
}

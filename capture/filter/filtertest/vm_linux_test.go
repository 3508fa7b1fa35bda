package filtertest

import (
	"errors"
	"math/rand/v2"
	"testing"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// attach gives a socket a filter; the kernel refuses what it holds to be invalid.
func attach(fd int, prog []bpf.RawInstruction) error {
	raw := make([]unix.SockFilter, len(prog))
	for i, p := range prog {
		raw[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
		&unix.SockFprog{Len: uint16(len(raw)), Filter: (*unix.SockFilter)(unsafe.Pointer(&raw[0]))})
}

// kernel tries programs on a socket of t's.
func kernel(t testing.TB) func([]bpf.RawInstruction) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return func(prog []bpf.RawInstruction) error { return attach(fd, prog) }
}

// randomProgram is a program that the kernel probably takes. It stays where the
// kernel and libpcap mean the same: shifts by X (the kernel's are modulo 32) and
// loads whose offset wraps (the kernel reads other headers there) are left out.
func randomProgram(r *rand.Rand) []bpf.RawInstruction {
	n := 2 + r.IntN(30)
	var p []bpf.RawInstruction
	add := func(op uint16, k uint32) { p = append(p, bpf.RawInstruction{Op: op, K: k}) }
	for m := range uint32(3) {
		add(classST, m) // memory is read only where it was written
	}
	for len(p) < n+3 {
		k := one(r, uint32(0), 1, 2, 4, 8, 20, 40, 255, r.Uint32())
		off := uint32(r.IntN(70))
		switch r.IntN(14) {
		case 0, 1:
			add(classLD|modeABS|one(r, uint16(sizeW), sizeH, sizeB), off)
		case 2, 3:
			add(classLD|modeIND|one(r, uint16(sizeW), sizeH, sizeB), off)
		case 4:
			add(one(r, uint16(classLD|modeLEN), classLDX|modeLEN, classLD|modeIMM), k)
		case 5:
			add(classLDX|modeMSH|sizeB, off)
		case 6:
			add(one(r, uint16(classLD|modeMEM), classST, classSTX), uint32(r.IntN(3)))
		case 7:
			add(classALU|0x50, 0x7f)
			add(classMISC, 0) // tax, of a small number
		case 8:
			add(classMISC|0x80, 0)
		case 9:
			add(classALU|one(r, uint16(0x60), 0x70), uint32(r.IntN(32)))
		case 10:
			add(classALU|one(r, uint16(0x30), 0x90), max(1, k))
		case 11:
			add(classALU|srcX|one(r, uint16(0), 0x10, 0x20, 0x30, 0x40, 0x50, 0x90, 0xa0), 0)
		case 12:
			add(classALU|one(r, uint16(0), 0x10, 0x20, 0x40, 0x50, 0x80, 0xa0), k)
		default:
			p = append(p, bpf.RawInstruction{
				Op: classJMP | one(r, uint16(0), srcX) | one(r, uint16(0x10), 0x20, 0x30, 0x40),
				K:  k, Jt: uint8(r.IntN(3)), Jf: uint8(r.IntN(4)),
			})
		}
	}
	for range 5 { // no jump leads further
		add(one(r, uint16(classRET), classRET|sizeB), one(r, uint32(0), 262144, 20, 1))
	}
	return p
}

// TestInterpreterIsTheKernels runs random programs on random packets here and in
// the kernel, as the filter of a socket.
func TestInterpreterIsTheKernels(t *testing.T) {
	r := seeded(11, 1)
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	buf := make([]byte, 4096)
	runs, taken, refused := 0, 0, 0
	for range 3000 {
		prog := randomProgram(r)
		if err := attach(fds[1], prog); err != nil {
			refused++ // e.g. a jump past a store
			continue
		}
		for range 10 {
			data := make([]byte, 1+r.IntN(90))
			for i := range data {
				data[i] = byte(r.Uint32() >> r.IntN(9))
			}
			want, err := Run(prog, Frame{Data: data, Length: uint32(len(data))})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := unix.Write(fds[0], data); err != nil {
				t.Fatal(err)
			}
			n, err := unix.Read(fds[1], buf)
			if err != nil && !errors.Is(err, unix.EAGAIN) {
				t.Fatal(err)
			}
			runs++
			if n = max(n, 0); n != min(len(data), int(want)) {
				t.Fatalf("%x\n%v\nkernel keeps %d, the interpreter %d", data, prog, n, want)
			}
			if n > 0 {
				taken++
			}
		}
	}
	t.Logf("%d runs, %d packets taken; %d programs that the kernel refuses", runs, taken, refused)
	if runs < 10000 || taken < runs/10 || taken > runs*9/10 {
		t.Errorf("%d runs, %d taken: too few of a kind", runs, taken)
	}
}

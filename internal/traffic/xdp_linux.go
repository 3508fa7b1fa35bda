package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Numbers of the bpf(2) interface that x/sys/unix does not export as constants
// of one width.
const (
	bpfMapArray       = 2
	bpfProgXDP        = 6
	bpfPseudoMapValue = 2
	bpfLiveFrames     = 1 << 1
	xdpPass           = 2

	xdpBatch = 64      // frames that the kernel takes through the stack at a time
	xdpCall  = 1 << 18 // frames in a system call, flat out: some 150 ms
)

// injector sends copies of a frame up the receive path of an interface, through
// a program that numbers them and is then asked to run over and over.
type injector struct {
	program, counter int
	frame            []byte
	context          [24]byte // struct xdp_md
}

// inject sends by BPF_PROG_TEST_RUN with live frames.
func inject(ctx context.Context, index int, l Load) (Sent, error) {
	x, err := newInjector(index, l)
	if err != nil {
		return Sent{}, err
	}
	defer x.close()
	call := uint64(xdpCall)
	if l.Rate > 0 { // 100 ms' worth: setting up each call takes some 30 ms
		call = min(max(uint64(l.Rate/10), 1), xdpCall)
	}
	return pace(ctx, l, func(s *Sent, room uint64) error {
		if err := x.run(uint32(min(call, room))); err != nil {
			return err
		}
		next, err := x.next()
		s.Packets = next - l.First
		s.Bytes = s.Packets * uint64(len(x.frame))
		return err
	})
}

func newInjector(index int, l Load) (_ *injector, err error) {
	x := &injector{program: -1, counter: -1, frame: frame(l.Size, 0, nil)}
	defer func() {
		if err != nil {
			x.close()
		}
	}()
	binary.NativeEndian.PutUint32(x.context[4:], uint32(len(x.frame))) // data_end
	binary.NativeEndian.PutUint32(x.context[12:], uint32(index))       // ingress_ifindex
	first := binary.NativeEndian.AppendUint64(nil, l.First)
	var create, set, load attributes
	create.numbers(bpfMapArray, 4, 8, 1)
	if x.counter, err = create.call(unix.BPF_MAP_CREATE); err != nil {
		return nil, fmt.Errorf("make BPF map: %w", err)
	}
	set.numbers(uint32(x.counter), 0)
	set.memory(make([]byte, 4), first)
	if _, err := set.call(unix.BPF_MAP_UPDATE_ELEM); err != nil {
		return nil, fmt.Errorf("set BPF map: %w", err)
	}
	code, log := x.code(l.Flows), make([]byte, 64<<10)
	load.numbers(bpfProgXDP, uint32(len(code)/8))
	load.memory(code, []byte("GPL\x00"))
	load.numbers(1, uint32(len(log)))
	load.memory(log)
	if x.program, err = load.call(unix.BPF_PROG_LOAD); err != nil {
		return nil, fmt.Errorf("load BPF program: %w: %.300s", err, unix.ByteSliceToString(log))
	}
	return x, nil
}

// code counts up, writes the count into the frame as its number and, modulo
// flows, into its source port, and passes the frame on.
func (x *injector) code(flows int) []byte {
	var p []byte
	add := func(op, registers byte, offset int16, value int32) {
		p = append(p, op, registers)
		p = binary.NativeEndian.AppendUint16(p, uint16(offset))
		p = binary.NativeEndian.AppendUint32(p, uint32(value))
	}
	add(0x61, 0x17, 0, 0)                                     // r7 = ctx->data
	add(0x61, 0x13, 4, 0)                                     // r3 = ctx->data_end
	add(0xbf, 0x74, 0, 0)                                     // r4 = r7
	add(0x07, 0x04, 0, int32(headBytes))                      // r4 += headBytes
	add(0x2d, 0x34, 11, 0)                                    // if r4 > r3 goto pass
	add(0x18, bpfPseudoMapValue<<4|0x01, 0, int32(x.counter)) // r1 = &counter
	add(0, 0, 0, 0)                                           //
	add(0xb7, 0x02, 0, 1)                                     // r2 = 1
	add(0xdb, 0x21, 0, 0x01)                                  // r2 = atomic_fetch_add(r1, r2)
	add(0xbf, 0x20, 0, 0)                                     // r0 = r2
	add(0xdc, 0x02, 0, 64)                                    // r2 = be64(r2)
	add(0x7b, 0x27, int16(numberAt), 0)                       // *(u64 *)(r7 + numberAt) = r2
	add(0x97, 0x00, 0, int32(flows))                          // r0 %= flows
	add(0x07, 0x00, 0, 10000)                                 // r0 += 10000
	add(0xdc, 0x00, 0, 16)                                    // r0 = be16(r0)
	add(0x6b, 0x07, 34, 0)                                    // *(u16 *)(r7 + 34) = r0
	add(0xb7, 0x00, 0, xdpPass)                               // pass: r0 = XDP_PASS
	add(0x95, 0, 0, 0)                                        // return r0
	return p
}

// run sends n frames, or fewer where a signal comes in between, as the Go runtime
// sends them.
func (x *injector) run(n uint32) error {
	var test attributes
	test.numbers(uint32(x.program), 0, uint32(len(x.frame)), 0)
	test.memory(x.frame)
	test.numbers(0, 0) // no frame back
	test.numbers(n, 0, uint32(len(x.context)), 0)
	test.memory(x.context[:])
	test.numbers(0, 0) // no context back
	test.numbers(bpfLiveFrames, 0, min(xdpBatch, n), 0)
	if _, err := test.call(unix.BPF_PROG_TEST_RUN); err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("run BPF program on live frames: %w", err)
	}
	return nil
}

// next is the number that the next frame gets.
func (x *injector) next() (uint64, error) {
	var lookup attributes
	value := make([]byte, 8)
	lookup.numbers(uint32(x.counter), 0)
	lookup.memory(make([]byte, 4), value)
	if _, err := lookup.call(unix.BPF_MAP_LOOKUP_ELEM); err != nil {
		return 0, fmt.Errorf("read BPF map: %w", err)
	}
	return binary.NativeEndian.Uint64(value), nil
}

func (x *injector) close() {
	for _, fd := range []int{x.program, x.counter} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// attributes are the fields of a union bpf_attr in their order.
type attributes struct {
	bytes []byte
	pins  runtime.Pinner
}

func (a *attributes) numbers(values ...uint32) {
	for _, v := range values {
		a.bytes = binary.NativeEndian.AppendUint32(a.bytes, v)
	}
}

// memory adds the addresses of what it is given, which stays in place until call.
func (a *attributes) memory(pieces ...[]byte) {
	for _, p := range pieces {
		a.pins.Pin(&p[0])
		a.bytes = binary.NativeEndian.AppendUint64(a.bytes, uint64(uintptr(unsafe.Pointer(&p[0]))))
	}
}

// call can be made once.
func (a *attributes) call(command uintptr) (int, error) {
	defer a.pins.Unpin()
	r, _, e := unix.Syscall(unix.SYS_BPF, command, uintptr(unsafe.Pointer(&a.bytes[0])), uintptr(len(a.bytes)))
	if e != 0 {
		return -1, e
	}
	return int(r), nil
}

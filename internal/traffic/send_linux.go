package traffic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	sendBatch  = 64                     // packets in a system call
	longNap    = 100 * time.Millisecond // the sender looks at its context at least so often
	sendBuffer = 8 << 20
)

type mmsghdr struct {
	unix.Msghdr
	sent uint32 // bytes
}

// Send sends a load out of an interface of the namespace that the calling thread
// is in, past its queueing discipline. It returns when the load is sent, with an
// error when the context ended first or the interface went away; what was sent
// until then counts.
func Send(ctx context.Context, name string, l Load) (Sent, error) {
	l, err := l.withDefaults()
	if err != nil {
		return Sent{}, err
	}
	i, err := net.InterfaceByName(name)
	if err != nil {
		return Sent{}, fmt.Errorf("send on %s: %w", name, err)
	}
	var sent Sent
	done := make(chan error)
	here, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return Sent{}, fmt.Errorf("send on %s: %w", name, err)
	}
	defer func() { _ = unix.Close(here) }()
	go func() {
		runtime.LockOSThread() // bound to processors and to a namespace: not for others any more
		done <- func() error {
			if err := unix.Setns(here, unix.CLONE_NEWNET); err != nil {
				return err
			}
			if err := bindThread(l.CPUs); err != nil {
				return err
			}
			if l.XDP {
				sent, err = inject(ctx, i.Index, l)
			} else {
				sent, err = transmit(ctx, i.Index, l)
			}
			return err
		}()
	}()
	if err := <-done; err != nil {
		return sent, fmt.Errorf("send on %s: %w", name, err)
	}
	return sent, nil
}

func bindThread(cpus []int) error {
	if len(cpus) == 0 {
		return nil
	}
	var set unix.CPUSet
	for _, c := range cpus {
		set.Set(c)
	}
	return unix.SchedSetaffinity(0, &set)
}

// transmit sends with sendmmsg(2).
func transmit(ctx context.Context, index int, l Load) (Sent, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return Sent{}, err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err != nil {
		return Sent{}, err
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer) // it goes without, slower

	list := frames(l, sendBatch)
	to := unix.RawSockaddrLinklayer{Family: unix.AF_PACKET, Ifindex: int32(index), Halen: 6}
	*(*[2]byte)(unsafe.Pointer(&to.Protocol)) = [2]byte(list[0][12:]) // in network order, as the frame has it
	iov := make([]unix.Iovec, sendBatch)
	messages := make([]mmsghdr, sendBatch)
	for i := range messages {
		messages[i].Name = (*byte)(unsafe.Pointer(&to))
		messages[i].Namelen = unix.SizeofSockaddrLinklayer
		messages[i].Iov = &iov[i]
		messages[i].SetIovlen(1)
	}
	batch := sendBatch
	if l.Rate > 0 {
		batch = min(max(int(l.Rate/2000), 1), sendBatch)
	}
	return pace(ctx, l, func(s *Sent, room uint64) error {
		n := min(uint64(batch), room)
		for i := range n {
			seq := l.First + s.Packets + i
			f := list[seq%uint64(len(list))]
			number(f, len(l.Tags), seq)
			iov[i].Base = &f[0]
			iov[i].SetLen(len(f))
		}
		done, _, e := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&messages[0])), uintptr(n), 0, 0, 0)
		switch e {
		case 0:
		case unix.ENOBUFS, unix.EAGAIN, unix.EINTR:
			s.Refused++
			return nil
		default:
			return fmt.Errorf("sendmmsg: %w", e)
		}
		for i := range done {
			s.Bytes += uint64(messages[i].sent)
		}
		s.Packets += uint64(done)
		return nil
	})
}

// pace calls send until the load's end, each time when as many packets are due
// as were sent before. send is told how many may still go and adds what went.
// A sender that was late catches up. Between packets it sleeps.
func pace(ctx context.Context, l Load, send func(s *Sent, room uint64) error) (s Sent, err error) {
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) // naps of 50 µs more are borne too
	var before, after unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_THREAD, &before)
	start := time.Now()
	defer func() {
		s.Elapsed = time.Since(start)
		_ = unix.Getrusage(unix.RUSAGE_THREAD, &after)
		s.CPU = time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	}()
	room := ^uint64(0)
	for {
		if l.Count > 0 {
			if room = l.Count - s.Packets; room == 0 {
				return s, nil
			}
		}
		for {
			if err := ctx.Err(); err != nil {
				return s, err
			}
			past := time.Since(start)
			if l.Duration > 0 && past >= l.Duration {
				return s, nil
			}
			due := past
			if l.Rate > 0 {
				due = time.Duration(float64(s.Packets) / l.Rate * 1e9)
			}
			if past >= due {
				break
			}
			nap := unix.NsecToTimespec(int64(min(due-past, longNap)))
			if err := unix.Nanosleep(&nap, nil); err != nil && !errors.Is(err, unix.EINTR) {
				return s, err
			}
		}
		if err := send(&s, room); err != nil {
			return s, err
		}
	}
}

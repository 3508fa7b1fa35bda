package afpacket

import (
	"errors"
	"fmt"
	"math/bits"
	"sync/atomic"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"capagent/internal/packet"
)

// Sizes in bytes of a ring and of what the kernel puts into it.
const (
	maxBlock = 1 << 20
	minBlock = 256 << 10 // a frame of MaxSnapLen, nearly: BIG TCP has such
	minRing  = 4 * minBlock
	manyNr   = 64 // blocks for which smaller ones are taken: each retire time uses one up

	tagLen  = 4
	sllLen  = 20 // LINUX_SLL2
	sllAt   = 48 // of the sockaddr_ll behind a frame's header: TPACKET_ALIGN(sizeof(tpacket3_hdr))
	macsLen = 12 // of the two addresses in front of a VLAN tag
)

// anyTime is later than every packet.
const anyTime = 1<<63 - 1

// ring is one packet socket and the memory that it shares with the kernel. Its
// reader owns it, but fd, ifindex, received and the accounting belong to the
// source's lock.
type ring struct {
	fd     int
	mem    []byte    // nil while it rests
	quiet  time.Time // since when there was nothing in it; zero: there was
	block  int       // bytes
	blocks int
	link   link // as it was when the ring was opened
	iface  uint32
	snap   int
	base   []bpf.RawInstruction // the filter without what comes before it

	cur   int    // index of the block that is walked, or that comes next
	walk  []byte // that block
	off   uint32 // of its next packet
	left  uint32 // packets not handed over yet
	spent bool   // all were: it goes back to the kernel with the next Read

	taken    uint64    // packets handed over, by the reader
	received uint64    // packets that the kernel put into the ring
	ending   time.Time // set: nothing new comes in; what is not out by then never will be
	mute     bool      // not polled until the interface was looked at
}

// ringConfig is what rings of one source have in common.
type ringConfig struct {
	size    int64 // bytes of this ring
	retire  time.Duration
	snap    int
	promisc bool
	socket  func(cooked bool) (int, error) // nil: openSocket
}

// geometry cuts size bytes into blocks.
func geometry(size int64) (block, blocks int) {
	size = max(size, minRing)
	block = min(max(1<<(bits.Len64(uint64(size/manyNr))-1), minBlock), maxBlock)
	return block, int(size / int64(block))
}

// openRing makes a ring on l that refuses every packet until it gets its
// filter, so that nothing comes in unfiltered.
func openRing(l link, c ringConfig) (*ring, error) {
	open := c.socket
	if open == nil {
		open = openSocket
	}
	fd, err := open(l.cooked())
	if err != nil {
		return nil, err
	}
	r := &ring{fd: fd, link: l, snap: c.snap}
	if err := r.setUp(c); err != nil {
		r.close()
		return nil, err
	}
	return r, nil
}

func openSocket(cooked bool) (int, error) {
	typ := unix.SOCK_RAW
	if cooked {
		typ = unix.SOCK_DGRAM
	}
	// Protocol 0: the socket gets nothing before it is bound.
	fd, err := unix.Socket(unix.AF_PACKET, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	return fd, nil
}

// setUp makes a socket without a protocol a bound one with a ring.
func (r *ring) setUp(c ringConfig) error {
	reserve := tagLen
	if r.link.cooked() {
		reserve += sllLen
	}
	if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3); err != nil {
		return fmt.Errorf("TPACKET_V3: %w", err)
	}
	if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_RESERVE, reserve); err != nil {
		return fmt.Errorf("PACKET_RESERVE: %w", err)
	}
	if err := r.attach(refuseAll); err != nil {
		return err
	}
	if err := r.mmap(c); err != nil {
		return err
	}
	if c.promisc && !r.link.any() && r.link.hatype != unix.ARPHRD_LOOPBACK {
		req := unix.PacketMreq{Ifindex: int32(r.link.index), Type: unix.PACKET_MR_PROMISC}
		if err := unix.SetsockoptPacketMreq(r.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &req); err != nil {
			return fmt.Errorf("promiscuous mode: %w", err)
		}
	}
	if err := unix.Bind(r.fd, &unix.SockaddrLinklayer{Ifindex: r.link.index, Protocol: allProtocols}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	return nil
}

func (r *ring) mmap(c ringConfig) error {
	const frameSize = 2048 // of no meaning in TPACKET_V3, but checked
	r.block, r.blocks = geometry(c.size)
	req := unix.TpacketReq3{
		Block_size: uint32(r.block), Block_nr: uint32(r.blocks),
		Frame_size: frameSize, Frame_nr: uint32(r.block / frameSize * r.blocks),
		Retire_blk_tov: uint32(c.retire.Milliseconds()),
	}
	if err := unix.SetsockoptTpacketReq3(r.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); errors.Is(err, unix.ENOMEM) {
		return fmt.Errorf("ring of %d MiB: %w: take a smaller buffer", r.block*r.blocks>>20, err)
	} else if err != nil {
		return fmt.Errorf("ring of %d blocks of %d KiB: %w", r.blocks, r.block>>10, err)
	}
	return r.mapMemory()
}

func (r *ring) close() {
	if r.mem != nil {
		_ = unix.Munmap(r.mem)
		r.mem, r.walk, r.left = nil, nil, 0
	}
	if r.fd >= 0 {
		_ = unix.Close(r.fd)
		r.fd = -1
	}
}

// count reads the kernel's counters, which that sets to 0.
func (r *ring) count() packet.Stats {
	if r.fd < 0 {
		return packet.Stats{}
	}
	k, err := unix.GetsockoptTpacketStatsV3(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return packet.Stats{}
	}
	n := uint64(k.Packets - k.Drops) // tp_packets has the dropped ones in it
	r.received += n
	return packet.Stats{Received: n, Dropped: uint64(k.Drops)}
}

// ready says whether a packet can be taken, and steps to the next block where
// the kernel has handed it over.
func (r *ring) ready() bool {
	for r.left == 0 {
		if r.spent {
			return false // its packets are still looked at
		}
		if r.mem == nil {
			return false // wait finds out when there is something
		}
		b := r.mem[r.cur*r.block : (r.cur+1)*r.block : (r.cur+1)*r.block]
		if atomic.LoadUint32(status(b))&unix.TP_STATUS_USER == 0 {
			return false
		}
		h := header(b)
		r.quiet = time.Time{}
		r.walk, r.off, r.left = b, h.Offset_to_first_pkt, h.Num_pkts
		if r.left == 0 { // older kernels retire empty blocks
			r.spent = true
			r.giveBack()
		}
	}
	return true
}

// giveBack gives the block whose packets were all handed over to the kernel.
func (r *ring) giveBack() {
	if !r.spent {
		return
	}
	atomic.StoreUint32(status(r.walk), unix.TP_STATUS_KERNEL)
	r.spent = false
	if r.cur++; r.cur == r.blocks {
		r.cur = 0
	}
}

// head is when the next packet was seen. There must be one.
func (r *ring) head() int64 {
	h := frame(r.walk, r.off)
	return int64(h.Sec)*1e9 + int64(h.Nsec)
}

// take fills batch with packets of the block up to the time until.
func (r *ring) take(batch []packet.Packet, until int64) int {
	b, off := r.walk, r.off
	n, most := 0, min(len(batch), int(r.left))
	for n < most {
		h := frame(b, off)
		t := int64(h.Sec)*1e9 + int64(h.Nsec)
		if t > until {
			break
		}
		p := &batch[n]
		n++
		mac := off + uint32(h.Mac)
		p.Time = t
		p.Data = b[mac : mac+h.Snaplen : mac+h.Snaplen]
		p.Length = h.Len
		p.Interface = r.iface
		if h.Status&unix.TP_STATUS_VLAN_VALID != 0 || r.link.linkType == sll2 {
			r.complete(p, h, off, mac)
		}
		off += h.Next_offset
	}
	r.off = off
	r.left -= uint32(n)
	r.taken += uint64(n)
	r.spent = r.left == 0
	return n
}

// join makes r one of the rings of a group that share an interface's packets by
// flow, and returns the group; before the first one it is noGroup. Fragments
// are not put together (PACKET_FANOUT_FLAG_DEFRAG): a capture shows them as
// they came. All of a packet go to one ring, as they are told apart by address.
func (r *ring) join(group int) (int, error) {
	arg := unix.PACKET_FANOUT_HASH<<16 | group
	if group == noGroup {
		arg = (unix.PACKET_FANOUT_HASH | unix.PACKET_FANOUT_FLAG_UNIQUEID) << 16
	}
	if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_FANOUT, arg); err != nil {
		return group, fmt.Errorf("fanout: %w", err)
	}
	got, err := unix.GetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_FANOUT)
	if err != nil {
		return group, fmt.Errorf("fanout: %w", err)
	}
	return got & 0xffff, nil
}

const noGroup = -1

//go:build darwin || dragonfly || freebsd || netbsd || openbsd

// Package bsd captures through the packet filter device of macOS and the BSDs
// (google/gopacket/bsdbpf). That library can neither set a filter nor count what
// the kernel dropped: packets are filtered here, and Stats.Dropped stays 0.
package bsd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync/atomic"
	"syscall"

	"github.com/google/gopacket/bsdbpf"

	"capagent/capture"
	"capagent/capture/filter"
	"capagent/capture/pump"
	"capagent/internal/packet"
)

const (
	bufferSize   = 512 << 10 // macOS gives no more (debug.bpf_maxbufsize)
	linkEthernet = 1
	linkNull     = 0
)

// Open implements capture.Opener. Fanout, Blind and Event have no meaning here.
func Open(ctx context.Context, o capture.Options) (capture.Source, error) {
	if len(o.Interfaces) == 0 {
		return nil, errors.New("open capture: no interface named")
	}
	var lines []pump.Line
	for _, name := range o.Interfaces {
		l, err := open(ctx, name, o)
		if err != nil {
			for _, l := range lines {
				_ = l.Reader.Close() // the error that led here counts
			}
			return nil, fmt.Errorf("open %s: %w", name, err)
		}
		lines = append(lines, l)
	}
	return pump.Open(ctx, lines, o.Memory()), nil
}

func open(ctx context.Context, name string, o capture.Options) (pump.Line, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return pump.Line{}, err
	}
	r := &reader{ctx: ctx, options: o, linkType: LinkType(ifi.Flags&net.FlagLoopback != 0 || len(ifi.HardwareAddr) == 0)}
	if err := r.filter(nil); err != nil {
		return pump.Line{}, err
	}
	if err := Permitted(); err != nil {
		return pump.Line{}, err
	}
	wait := syscall.NsecToTimeval(o.RetireTime().Nanoseconds())
	r.sniffer, err = sniff(name, &bsdbpf.Options{
		ReadBufLen: bufferSize, Timeout: &wait, Promisc: !o.NoPromisc, Immediate: true, PreserveLinkAddr: true,
	})
	if err != nil {
		return pump.Line{}, err
	}
	if o.Own != nil {
		r.unwatch = o.Own.Watch(func(flows []capture.Flow) {
			if err := r.filter(flows); err != nil {
				r.broken.Store(&err) // rather than let own packets in
			}
		})
	}
	return pump.Line{Reader: r, Interface: packet.Interface{
		Name: name, LinkType: r.linkType, SnapLen: o.Snap(), Filter: o.Filter, MAC: ifi.HardwareAddr,
	}}, nil
}

// LinkType is what the kernel shows of an interface: Ethernet, or for those
// without hardware addresses NULL. (The library doesn't say what it is.)
func LinkType(bare bool) int {
	if bare {
		return linkNull
	}
	return linkEthernet
}

// Permitted looks for a device that can be opened: the library panics when there
// is none.
func Permitted() error {
	for i := range 99 {
		f, err := os.OpenFile(fmt.Sprintf("/dev/bpf%d", i), os.O_RDWR, 0)
		switch {
		case err == nil:
			return f.Close()
		case errors.Is(err, fs.ErrPermission):
			return fmt.Errorf("%w; run it with sudo, or install Wireshark's ChmodBPF", err)
		case errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("no packet filter device: %w", err)
		}
	}
	return errors.New("every packet filter device is in use")
}

// sniff turns the library's panic (the last free device was taken meanwhile)
// into an error.
func sniff(name string, o *bsdbpf.Options) (s *bsdbpf.BPFSniffer, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
	}()
	return bsdbpf.NewBPFSniffer(name, o)
}

// reader implements pump.Reader.
type reader struct {
	ctx      context.Context //nolint:containedctx // bounds look-ups of names when the filter is made anew
	options  capture.Options
	linkType int
	sniffer  *bsdbpf.BPFSniffer
	unwatch  func()
	program  atomic.Pointer[filter.Program]
	broken   atomic.Pointer[error]
	received atomic.Uint64
}

func (r *reader) filter(flows []capture.Flow) error {
	o := filter.Options{LinkType: r.linkType, Target: filter.File, SnapLen: r.options.Snap()}
	if _, err := filter.Compile(r.ctx, r.options.Filter, o); err != nil {
		return err // told for the user's own words
	}
	p, err := filter.Compile(r.ctx, capture.Without(r.options.Filter, flows), o)
	if err == nil {
		r.program.Store(p)
	}
	return err
}

// Next implements pump.Reader.
func (r *reader) Next() (packet.Packet, error) {
	for {
		if r.ctx.Err() != nil {
			return packet.Packet{}, pump.ErrNothing
		}
		if err := r.broken.Load(); err != nil {
			return packet.Packet{}, *err
		}
		data, info, err := r.sniffer.ReadPacketData()
		if err != nil {
			return packet.Packet{}, err
		}
		if len(data) == 0 { // how the library shows a time-out
			return packet.Packet{}, pump.ErrNothing
		}
		length := uint32(len(data))
		if !r.program.Load().Match(data, length) {
			continue
		}
		r.received.Add(1)
		return packet.Packet{Time: info.Timestamp.UnixNano(), Data: data[:min(length, r.options.Snap())], Length: length}, nil
	}
}

// Stats implements pump.Reader.
func (r *reader) Stats() packet.Stats { return packet.Stats{Received: r.received.Load()} }

// Close implements pump.Reader.
func (r *reader) Close() error {
	if r.unwatch != nil {
		r.unwatch()
	}
	return r.sniffer.Close()
}

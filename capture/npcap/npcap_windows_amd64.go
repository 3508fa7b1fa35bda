// Package npcap captures on Windows through Npcap (google/gopacket/pcap, which
// loads wpcap.dll and needs no C compiler).
package npcap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/google/gopacket"
	"github.com/google/gopacket/pcap"

	"capagent/capture"
	"capagent/capture/filter"
	"capagent/capture/pump"
	"capagent/internal/packet"
)

// ErrMissing says that there is no Npcap.
var ErrMissing = errors.New("there is no Npcap; get it from https://npcap.com")

// Open implements capture.Opener. Fanout, Blind and Event have no meaning here.
func Open(ctx context.Context, o capture.Options) (capture.Source, error) {
	if err := pcap.LoadWinPCAP(); err != nil {
		return nil, fmt.Errorf("open capture: %w (%w)", ErrMissing, err)
	}
	devices, err := Devices()
	if err != nil {
		return nil, err
	}
	if len(o.Interfaces) == 0 {
		return nil, errors.New("open capture: no interface named")
	}
	var lines []pump.Line
	closeAll := func() {
		for _, l := range lines {
			_ = l.Reader.Close() // the error that led here counts
		}
	}
	for _, name := range o.Interfaces {
		l, err := open(ctx, devices, name, o)
		if err != nil {
			closeAll()
			return nil, err
		}
		lines = append(lines, l)
	}
	return pump.Open(ctx, lines, o.Memory()/2), nil // the other half is the driver's
}

func open(ctx context.Context, devices []Device, name string, o capture.Options) (pump.Line, error) {
	d, err := find(devices, name)
	if err != nil {
		return pump.Line{}, err
	}
	h, err := activate(d, o)
	if err != nil {
		return pump.Line{}, fmt.Errorf("open %s: %w", d.Name, err)
	}
	r := &reader{handle: h, ctx: ctx, options: o, linkType: int(h.LinkType())}
	if err := r.filter(nil); err != nil { // before anything is read
		h.Close()
		return pump.Line{}, fmt.Errorf("open %s: %w", d.Name, err)
	}
	if o.Own != nil {
		r.unwatch = o.Own.Watch(func(flows []capture.Flow) { r.refilter(flows) })
	}
	return pump.Line{Reader: r, Interface: packet.Interface{
		Name: d.Name, Description: d.Description, LinkType: r.linkType, SnapLen: o.Snap(), Filter: o.Filter, MAC: d.MAC,
	}}, nil
}

func activate(d Device, o capture.Options) (*pcap.Handle, error) {
	in, err := pcap.NewInactiveHandle(d.path)
	if err != nil {
		return nil, err
	}
	defer in.CleanUp()
	err = errors.Join(
		in.SetSnapLen(int(o.Snap())),
		in.SetPromisc(!o.NoPromisc),
		in.SetTimeout(o.RetireTime()),
		in.SetBufferSize(int(o.Memory()/2)/len(o.Interfaces)),
	)
	if err != nil {
		return nil, err
	}
	h, err := in.Activate()
	if err != nil && err.Error() == "Permission Denied" { // gopacket has no other sign
		return nil, fmt.Errorf("%w: %w; start it as administrator", err, fs.ErrPermission)
	}
	return h, err
}

// reader implements pump.Reader.
type reader struct {
	handle   *pcap.Handle
	ctx      context.Context //nolint:containedctx // bounds look-ups of names when the filter is made anew
	options  capture.Options
	linkType int
	unwatch  func()

	mu     sync.Mutex // a filter may change while packets are read
	broken error
}

// filter has the driver pass what the user wants and flows are not.
func (r *reader) filter(flows []capture.Flow) error {
	o := filter.Options{LinkType: r.linkType, Target: filter.File, SnapLen: r.options.Snap()}
	if _, err := filter.Compile(r.ctx, r.options.Filter, o); err != nil {
		return err // told for the user's own words
	}
	p, err := filter.Compile(r.ctx, capture.Without(r.options.Filter, flows), o)
	if err != nil {
		return err
	}
	var program []pcap.BPFInstruction
	for _, i := range p.Raw() {
		program = append(program, pcap.BPFInstruction{Code: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K})
	}
	return r.handle.SetBPFInstructionFilter(program)
}

// refilter fails the reading rather than let own packets in.
func (r *reader) refilter(flows []capture.Flow) {
	err := r.filter(flows)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.broken = fmt.Errorf("leave out own connections: %w", err)
	}
}

// Next implements pump.Reader.
func (r *reader) Next() (packet.Packet, error) {
	r.mu.Lock()
	broken := r.broken
	r.mu.Unlock()
	if broken != nil {
		return packet.Packet{}, broken
	}
	var data []byte
	var info gopacket.CaptureInfo
	data, info, err := r.handle.ZeroCopyReadPacketData()
	switch {
	case errors.Is(err, pcap.NextErrorTimeoutExpired):
		return packet.Packet{}, pump.ErrNothing
	case err != nil:
		return packet.Packet{}, fmt.Errorf("%w: %w", err, r.handle.Error())
	}
	length := uint32(max(info.Length, len(data)))
	return packet.Packet{Time: info.Timestamp.UnixNano(), Data: data, Length: length}, nil
}

// Stats implements pump.Reader.
func (r *reader) Stats() packet.Stats {
	s, err := r.handle.Stats()
	if err != nil {
		return packet.Stats{}
	}
	dropped := uint64(max(0, s.PacketsDropped)) + uint64(max(0, s.PacketsIfDropped))
	received := uint64(max(0, s.PacketsReceived))
	return packet.Stats{Received: received - min(received, dropped), Dropped: dropped}
}

// Close implements pump.Reader.
func (r *reader) Close() error {
	if r.unwatch != nil {
		r.unwatch()
	}
	r.handle.Close()
	return nil
}

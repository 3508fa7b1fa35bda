package pcapio

import (
	"math"
	"strings"
)

// Described takes what a pcapng file says besides its packets, before the
// packets that follow it are read. Text is cut to 65,535 bytes by the format and
// not checked otherwise. Functions may be nil.
type Described struct {
	Section   func(Section)
	Interface func(Interface)
	Stats     func(iface int, s Stats) // iface counts in the section and is one of its interfaces
	Secrets   func(kind uint32, secrets []byte)
}

// Describe has d told of what follows, and of the section that NewReader has
// read when nothing was read since. A block of more than 1 MiB is passed over. A
// pcap file says nothing.
func (r *Reader) Describe(d Described) {
	r.described = d
	if r.format == Pcapng && r.err == nil && r.last.block == blockSection && r.last.off == 0 {
		r.tell()
	}
}

// tell tells of the block that was read last.
func (r *Reader) tell() {
	d, b := &r.described, r.last.raw
	if b == nil {
		return
	}
	b = b[8 : len(b)-4]
	switch r.last.block {
	case blockSection:
		if d.Section != nil {
			d.Section(r.describedSection(b[16:]))
		}
	case blockInterface:
		if d.Interface != nil {
			d.Interface(r.describedInterface(b))
		}
	case blockStats:
		if d.Stats != nil && len(b) >= 12 && uint64(u32(b, r.big)) < uint64(len(r.ng.interfaces)) {
			d.Stats(int(u32(b, r.big)), r.describedStats(b))
		}
	case blockSecrets:
		if d.Secrets != nil && len(b) >= 8 && uint64(u32(b[4:], r.big)) <= uint64(len(b)-8) {
			d.Secrets(u32(b, r.big), b[8:8+u32(b[4:], r.big)])
		}
	}
}

func (r *Reader) describedSection(options []byte) (s Section) {
	_ = r.options(options, func(code uint16, value []byte) {
		switch code {
		case 1:
			s.Comment = text(value)
		case 2:
			s.Hardware = text(value)
		case 3:
			s.OS = text(value)
		case 4:
			s.Application = text(value)
		}
	})
	return s
}

func (r *Reader) describedInterface(b []byte) Interface {
	i := Interface{LinkType: int(u16(b, r.big)), SnapLen: u32(b[4:], r.big)}
	_ = r.options(b[8:], func(code uint16, value []byte) {
		switch {
		case code == 2:
			i.Name = text(value)
		case code == 3:
			i.Description = text(value)
		case code == 6 && len(value) == 6:
			i.MAC = append([]byte(nil), value...)
		case code == 8 && len(value) == 8:
			i.Speed = u64(value, r.big)
		case code == 11 && len(value) > 1 && value[0] == 0: // an expression, no program
			i.Filter = text(value[1:])
		case code == 12:
			i.OS = text(value)
		case code == 15:
			i.Hardware = text(value)
		}
	})
	return i
}

func (r *Reader) describedStats(b []byte) Stats {
	i := &r.ng.interfaces[u32(b, r.big)]
	stamp := func(b []byte) int64 { return i.time(uint64(u32(b, r.big))<<32 | uint64(u32(b[4:], r.big))) }
	s := Stats{Time: stamp(b[4:]), Received: -1, Dropped: -1, OSDrop: -1, Accepted: -1}
	counts := map[uint16]*int64{4: &s.Received, 5: &s.Dropped, 6: &s.Accepted, 7: &s.OSDrop}
	times := map[uint16]*int64{2: &s.Start, 3: &s.End}
	_ = r.options(b[12:], func(code uint16, value []byte) {
		switch {
		case code == 1:
			s.Comment = text(value)
		case len(value) == 8 && counts[code] != nil:
			*counts[code] = int64(min(u64(value, r.big), math.MaxInt64))
		case len(value) == 8 && times[code] != nil:
			*times[code] = stamp(value)
		}
	})
	return s
}

// text is an option's text; some writers end it with a zero byte.
func text(value []byte) string { return strings.TrimRight(string(value), "\x00") }

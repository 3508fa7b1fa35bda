package pcapio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// TLSKeyLog is the type of secrets that WriteSecrets takes for a key log in the
// format of SSLKEYLOGFILE.
const TLSKeyLog = 0x544c534b

// Section describes a section of a pcapng file. Empty fields are left out.
type Section struct {
	Comment, Hardware, OS, Application string
}

// Interface describes an interface of a section. Empty fields are left out.
type Interface struct {
	Name, Description string
	Filter            string // as the capture program was given it
	OS, Hardware      string
	LinkType          int
	SnapLen           uint32 // 0: no limit
	MAC               []byte // left out when it does not have 6 bytes
	Speed             uint64 // bits per second
}

// Stats are an interface's counts at the end of a capture. A negative count is
// left out; so are a start and an end of 0 and an empty comment.
type Stats struct {
	Time     int64 // nanoseconds since the epoch
	Start    int64 // likewise, when the capture began
	End      int64 // and ended
	Comment  string
	Received int64
	Dropped  int64 // by the interface
	OSDrop   int64 // by the operating system
	Accepted int64 // by the filter
}

// PcapngWriter writes a pcapng file in little endian, with time stamps in
// nanoseconds. Each block is one Write.
type PcapngWriter struct {
	w          io.Writer
	interfaces []int // their link types, in the current section
	block      block // the one that is being written
}

// NewPcapngWriter begins the first section.
func NewPcapngWriter(w io.Writer, s Section) (*PcapngWriter, error) {
	ng := &PcapngWriter{w: w}
	if err := ng.WriteSection(s); err != nil {
		return nil, err
	}
	return ng, nil
}

// WriteSection begins another section, which has no interfaces yet.
func (w *PcapngWriter) WriteSection(s Section) error {
	w.interfaces = w.interfaces[:0]
	b := w.begin(blockSection)
	b.u32(orderMagic)
	b.u16(1)
	b.u16(0)
	b.u64(math.MaxUint64) // length: unknown
	b.text(1, s.Comment)
	b.text(2, s.Hardware)
	b.text(3, s.OS)
	b.text(4, s.Application)
	return w.finish(b)
}

// AddInterface describes another interface and returns its index in the section.
func (w *PcapngWriter) AddInterface(i Interface) (int, error) {
	if i.LinkType < 0 || i.LinkType > math.MaxUint16 {
		return 0, fmt.Errorf("write pcapng: no such link type: %d", i.LinkType)
	}
	if len(w.interfaces) == maxInterfaces {
		return 0, errors.New("write pcapng: too many interfaces")
	}
	b := w.begin(blockInterface)
	b.u16(uint16(i.LinkType))
	b.u16(0)
	b.u32(i.SnapLen)
	b.text(2, i.Name)
	b.text(3, i.Description)
	if len(i.MAC) == 6 {
		b.option(6, i.MAC)
	}
	if i.Speed != 0 {
		b.option(8, binary.LittleEndian.AppendUint64(nil, i.Speed))
	}
	b.option(optTsResol, []byte{9})
	if i.Filter != "" {
		b.text(11, "\x00"+i.Filter) // 0: a filter expression
	}
	b.text(12, i.OS)
	b.text(15, i.Hardware)
	if err := w.finish(b); err != nil {
		return 0, err
	}
	w.interfaces = append(w.interfaces, i.LinkType)
	return len(w.interfaces) - 1, nil
}

// WritePacket writes one packet of an interface with the time in nanoseconds
// since the epoch, not before it, the length that it had on the wire, which
// counts as len(data) when it is less, and an optional comment.
func (w *PcapngWriter) WritePacket(iface int, ns int64, data []byte, origLen uint32, comment string) error {
	if err := w.check(iface); err != nil {
		return err
	}
	if ns < 0 {
		return fmt.Errorf("write pcapng: the time %d ns is outside of the format", ns)
	}
	if uint64(len(data)) > uint64(maxCapLen(w.interfaces[iface])) {
		return fmt.Errorf("write pcapng: a packet of %d bytes is too large", len(data))
	}
	b := w.begin(blockEnhanced)
	b.u32(uint32(iface))
	b.stamp(ns)
	b.u32(uint32(len(data)))
	b.u32(max(origLen, uint32(len(data))))
	b.raw = append(b.raw, data...)
	b.pad()
	b.text(1, comment)
	return w.finish(b)
}

// WriteStats writes the counts of an interface.
func (w *PcapngWriter) WriteStats(iface int, s Stats) error {
	if err := w.check(iface); err != nil {
		return err
	}
	if ns := min(s.Time, s.Start, s.End); ns < 0 {
		return fmt.Errorf("write pcapng: the time %d ns is outside of the format", ns)
	}
	b := w.begin(blockStats)
	b.u32(uint32(iface))
	b.stamp(s.Time)
	b.text(1, s.Comment)
	b.time(2, s.Start)
	b.time(3, s.End)
	b.count(4, s.Received)
	b.count(5, s.Dropped)
	b.count(6, s.Accepted)
	b.count(7, s.OSDrop)
	return w.finish(b)
}

// WriteSecrets writes decryption secrets, which must come before the packets
// that they open. kind is TLSKeyLog or another type of the format.
func (w *PcapngWriter) WriteSecrets(kind uint32, secrets []byte) error {
	if len(secrets) > maxPacketDBus {
		return fmt.Errorf("write pcapng: secrets of %d bytes are too large", len(secrets))
	}
	b := w.begin(blockSecrets)
	b.u32(kind)
	b.u32(uint32(len(secrets)))
	b.raw = append(b.raw, secrets...)
	b.pad()
	return w.finish(b)
}

func (w *PcapngWriter) check(iface int) error {
	if iface < 0 || iface >= len(w.interfaces) {
		return fmt.Errorf("write pcapng: no such interface: %d", iface)
	}
	return nil
}

// block is a block that is being written.
type block struct {
	raw     []byte
	options bool
	err     error
}

func (w *PcapngWriter) begin(kind uint32) *block {
	b := &w.block
	*b = block{raw: b.raw[:0]}
	b.u32(kind)
	b.u32(0) // the length, known later
	return b
}

func (w *PcapngWriter) finish(b *block) error {
	if b.err != nil {
		return b.err
	}
	if b.options {
		b.u32(optEnd)
	}
	n := uint32(len(b.raw) + 4)
	b.u32(n)
	binary.LittleEndian.PutUint32(b.raw[4:], n)
	if _, err := w.w.Write(b.raw); err != nil {
		return fmt.Errorf("write pcapng: %w", err)
	}
	return nil
}

func (b *block) u16(v uint16) { b.raw = binary.LittleEndian.AppendUint16(b.raw, v) }
func (b *block) u32(v uint32) { b.raw = binary.LittleEndian.AppendUint32(b.raw, v) }
func (b *block) u64(v uint64) { b.raw = binary.LittleEndian.AppendUint64(b.raw, v) }

func (b *block) stamp(ns int64) {
	b.u32(uint32(uint64(ns) >> 32))
	b.u32(uint32(ns))
}

func (b *block) pad() {
	for len(b.raw)%4 != 0 {
		b.raw = append(b.raw, 0)
	}
}

func (b *block) option(code uint16, value []byte) {
	if len(value) > math.MaxUint16 {
		b.err = fmt.Errorf("write pcapng: an option of %d bytes is too large", len(value))
		return
	}
	b.options = true
	b.u16(code)
	b.u16(uint16(len(value)))
	b.raw = append(b.raw, value...)
	b.pad()
}

func (b *block) text(code uint16, s string) {
	if s != "" {
		b.option(code, []byte(s))
	}
}

func (b *block) time(code uint16, ns int64) {
	if ns != 0 {
		b.option(code, binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, uint32(ns>>32)), uint32(ns)))
	}
}

func (b *block) count(code uint16, n int64) {
	if n >= 0 {
		b.option(code, binary.LittleEndian.AppendUint64(nil, uint64(n)))
	}
}

// Package pcapio reads, splits and writes capture files: pcap in all the forms
// that are met in the field, and pcapng. Input is hostile until proven
// otherwise: no length in a file makes this package allocate memory, only bytes
// that are really there do, up to 1 MiB a reader; what is damaged is read up to
// the damage and reported with its byte offset (FormatError, TruncatedError).
//
// Where the formats leave room, the package does what Wireshark's file library
// does, because that is what reads the file next; tests hold the two together.
// It recognises everything by content, never by name, and knows nothing of what
// is inside a packet.
//
// Sources: pcap is draft-ietf-opsawg-pcap, pcapng is draft-ietf-opsawg-pcapng.
package pcapio

import (
	"errors"
	"io"
)

// Format is a capture file's format.
type Format string

// The formats that a Reader understands.
const (
	Pcap   Format = "pcap"
	Pcapng Format = "pcapng"
)

// Packet is one packet as the file holds it.
type Packet struct {
	// Time is in nanoseconds since 1970-01-01 UTC. Finer stamps are rounded
	// down; a stamp that no int64 can hold (before 1677 or after 2262) becomes
	// math.MinInt64 or math.MaxInt64.
	Time int64
	// NoTime is true for a pcapng simple packet block, which has no time stamp;
	// Time is 0 then.
	NoTime bool
	// Data is valid until the next call of Next. It has CapLen bytes, or none
	// when the record is larger than 1 MiB (which is legal for D-Bus, USBPcap
	// and EBHSCR captures only, and for blocks with very many options): such a
	// packet is counted and its bytes are passed over.
	Data []byte
	// CapLen is how many bytes of the packet the file holds, OrigLen how many it
	// had on the wire. Files exist in which CapLen is the larger one.
	CapLen, OrigLen uint32
	// Interface is the index of the packet's interface within its section, 0 in
	// a pcap file.
	Interface int
	// LinkType is the packet's LINKTYPE_ value; see LinkTypeName.
	LinkType int
}

// maxLinkTypes bounds how many different link types a Reader remembers.
const maxLinkTypes = 64

// Reader reads the packets of one capture file from a stream. It allocates
// nothing per packet. It must not be used by two goroutines at once.
type Reader struct {
	buffer
	format Format
	err    error // what ended the file; returned by every later call

	big  bool // byte order of the file or of the current section
	last record
	// beforeSkip is told of a record that is too large for the buffer, before
	// any byte of it is given up. It may be nil.
	beforeSkip func(record) error
	described  Described

	pcap    pcapHeader
	guessed bool // the layout of pcap's records
	ng      section

	sections   int
	interfaces int
	linkTypes  []int
}

// record is what was read last: a pcap record or a pcapng block.
type record struct {
	off, size int64
	block     uint32 // pcapng block type
	packet    bool
	raw       []byte // the whole block, in pcapng and when the buffer holds it
}

// NewReader recognises the file's format and reads its first header. The error
// is a *NotCaptureError when r does not hold a capture file that this package
// understands, and otherwise what r returned. It reads from r in large pieces,
// beyond the header.
func NewReader(r io.Reader) (*Reader, error) {
	return newReader(r, nil)
}

// newReader is NewReader with a sink that is given every byte of the stream
// once, in order, soon after it was consumed.
func newReader(src io.Reader, sink func([]byte)) (*Reader, error) {
	r := &Reader{buffer: buffer{src: src, sink: sink}}
	if err := r.open(); err != nil {
		return nil, err
	}
	return r, nil
}

func (r *Reader) open() error {
	if err := r.need(4); err != nil {
		return r.openError(err)
	}
	if isPcapng(r.at(4)) {
		r.format = Pcapng
		var p Packet
		_, err := r.nextBlock(&p)
		return r.openError(err)
	}
	r.format = Pcap
	return r.openPcap()
}

// openError turns a failure in the file's first header into the error of
// NewReader.
func (r *Reader) openError(err error) error {
	var format *FormatError
	switch {
	case errors.As(err, &format):
		return &NotCaptureError{Seen: format.Problem}
	case errors.Is(err, io.EOF), errors.Is(err, ErrTruncated), errors.Is(err, io.ErrUnexpectedEOF):
		return &NotCaptureError{Seen: describe(r.buf[r.pos:r.end])}
	}
	return err
}

// Next reads the next packet into p. It returns io.EOF at the end of the file, a
// *TruncatedError when the file ends inside a record, a *FormatError when it
// cannot be read any further, and otherwise what the source returned. Every
// packet before that place has been delivered; every later call returns the
// same error.
func (r *Reader) Next(p *Packet) error {
	for {
		packet, err := r.step(p)
		if err != nil {
			return err
		}
		if packet {
			return nil
		}
	}
}

// step reads one record, which r.last describes afterwards, and says whether it
// is a packet.
func (r *Reader) step(p *Packet) (bool, error) {
	if r.err != nil {
		return false, r.err
	}
	var packet bool
	var err error
	if r.format == Pcap {
		packet, err = true, r.nextRecord(p)
	} else {
		packet, err = r.nextBlock(p)
	}
	if err != nil {
		r.err = err
		return false, err
	}
	return packet, nil
}

// Format returns the file's format.
func (r *Reader) Format() Format { return r.format }

// Sections returns how many sections have begun; 1 for a pcap file.
func (r *Reader) Sections() int { return r.sections }

// Interfaces returns how many interfaces all sections so far describe; 1 for a
// pcap file.
func (r *Reader) Interfaces() int { return r.interfaces }

// LinkTypes returns the different link types of these interfaces in order of
// appearance, the first 64 of them.
func (r *Reader) LinkTypes() []int { return r.linkTypes }

// SnapLen returns the snapshot length in a pcap file's header, as it was
// written; 0 for a pcapng file, where each interface has its own.
func (r *Reader) SnapLen() uint32 { return r.pcap.snapLen }

// FCSLen returns how many bits of frame check sequence end each packet of a pcap
// file, or -1 when the file does not say.
func (r *Reader) FCSLen() int {
	if r.format == Pcap {
		return r.pcap.fcsLen
	}
	return -1
}

// Offset returns how many bytes of the stream have been read as whole records.
func (r *Reader) Offset() int64 { return r.base + int64(r.pos) }

func (r *Reader) addInterface(linkType int) {
	r.interfaces++
	for _, t := range r.linkTypes {
		if t == linkType {
			return
		}
	}
	if len(r.linkTypes) < maxLinkTypes {
		r.linkTypes = append(r.linkTypes, linkType)
	}
}

// ended turns the error of a read that a record needed into the reader's error.
// start is the offset of the record.
func (r *Reader) ended(err error, start int64) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
	case !errors.Is(err, io.EOF):
		return err
	case start == r.base+int64(r.end):
		return io.EOF
	}
	return &TruncatedError{Offset: start, Size: r.base + int64(r.end)}
}

package pcapio

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// PcapOptions describes a pcap file that is written.
type PcapOptions struct {
	LinkType int
	SnapLen  uint32 // 0: 262144
	Micro    bool   // microseconds instead of nanoseconds
}

// PcapWriter writes a pcap file in little endian. Each packet is one Write.
type PcapWriter struct {
	w    io.Writer
	opts PcapOptions
	buf  []byte
}

// NewPcapWriter writes the file header.
func NewPcapWriter(w io.Writer, opts PcapOptions) (*PcapWriter, error) {
	if opts.LinkType < 0 || opts.LinkType > math.MaxUint16 {
		return nil, fmt.Errorf("write pcap: no such link type: %d", opts.LinkType)
	}
	if opts.SnapLen == 0 {
		opts.SnapLen = maxPacket
	}
	magic := uint32(magicNano)
	if opts.Micro {
		magic = magicMicro
	}
	le := binary.LittleEndian
	b := le.AppendUint32(nil, magic)
	b = le.AppendUint16(b, 2)
	b = le.AppendUint16(b, 4)
	b = append(b, make([]byte, 8)...)
	b = le.AppendUint32(b, opts.SnapLen)
	b = le.AppendUint32(b, uint32(opts.LinkType))
	if _, err := w.Write(b); err != nil {
		return nil, fmt.Errorf("write pcap: %w", err)
	}
	return &PcapWriter{w: w, opts: opts}, nil
}

// WritePacket writes one packet with the time in nanoseconds since the epoch,
// which must be in the years 1970 to 2106, and the length that it had on the
// wire, which counts as len(data) when it is less.
func (w *PcapWriter) WritePacket(ns int64, data []byte, origLen uint32) error {
	sec := ns / 1e9
	if ns < 0 || sec > math.MaxUint32 {
		return fmt.Errorf("write pcap: the time %d ns is outside of the format", ns)
	}
	if uint64(len(data)) > uint64(maxCapLen(w.opts.LinkType)) {
		return fmt.Errorf("write pcap: a packet of %d bytes is too large", len(data))
	}
	frac := ns % 1e9
	if w.opts.Micro {
		frac /= 1000
	}
	le := binary.LittleEndian
	b := le.AppendUint32(w.buf[:0], uint32(sec))
	b = le.AppendUint32(b, uint32(frac))
	b = le.AppendUint32(b, uint32(len(data)))
	b = le.AppendUint32(b, max(origLen, uint32(len(data))))
	w.buf = append(b, data...)
	if _, err := w.w.Write(w.buf); err != nil {
		return fmt.Errorf("write pcap: %w", err)
	}
	return nil
}

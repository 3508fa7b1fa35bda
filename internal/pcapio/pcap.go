package pcapio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
)

// Magic numbers of pcap files, as read in the file's own byte order.
const (
	magicMicro    = 0xa1b2c3d4
	magicNano     = 0xa1b23c4d
	magicModified = 0xa1b2cd34 // Alexey Kuznetzov's patches: longer record headers
	magicIxiaHW   = 0x1c0001ac // Ixia: a longer file header, nanoseconds
	magicIxiaSW   = 0x1c0001ab // Ixia: a longer file header, microseconds
)

const (
	pcapHeaderLen     = 24
	ixiaHeaderLen     = 28
	recordHeaderLen   = 16
	modifiedHeaderLen = 24 // patch of 1999-10-29
	smpHeaderLen      = 28 // patch of 1999-09-15
)

// The largest packets that Wireshark accepts (wiretap/wtap.h, pcap-common.c).
const (
	maxPacket       = 256 << 10
	maxPacketDBus   = 128 << 20
	maxPacketUSB    = 128 << 20
	maxPacketEBHSCR = 32 << 20
)

// maxCapLen returns the largest plausible captured length for a link type.
func maxCapLen(linkType int) uint32 {
	switch linkType {
	case linkDBus:
		return maxPacketDBus
	case linkUSBPcap:
		return maxPacketUSB
	case linkEBHSCR:
		return maxPacketEBHSCR
	}
	return maxPacket
}

// lengthOrder says in which order a record header has its two lengths: files
// before version 2.3 have the original length first, those of 2.3 do it either
// way.
type lengthOrder uint8

const (
	capFirst lengthOrder = iota
	origFirst
	eitherFirst
)

type pcapHeader struct {
	size     int // of the file header
	record   int // size of a record header
	unit     int64
	linkType int
	fcsLen   int // bits, -1 when unknown
	snapLen  uint32
	max      uint32
	lengths  lengthOrder
}

// pcapMagic returns the magic number in the file's byte order and whether that
// is big endian; 0 when it is none.
func pcapMagic(b []byte) (magic uint32, big bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, big := range []bool{false, true} {
		switch m := u32(b, big); m {
		case magicMicro, magicNano, magicModified, magicIxiaHW, magicIxiaSW:
			return m, big
		}
	}
	return 0, false
}

func isPcapMagic(b []byte) bool {
	m, _ := pcapMagic(b)
	return m != 0
}

func (r *Reader) openPcap() error {
	magic, big := pcapMagic(r.at(4))
	if magic == 0 {
		// More of the beginning makes a better message; its lack is no matter.
		_ = r.need(2 * shownBytes)
		return &NotCaptureError{Seen: describe(r.buf[r.pos:r.end])}
	}
	r.big = big
	h := pcapHeader{size: pcapHeaderLen, record: recordHeaderLen, unit: 1000, fcsLen: -1}
	switch magic {
	case magicNano:
		h.unit = 1
	case magicIxiaHW:
		h.size, h.unit = ixiaHeaderLen, 1
	case magicIxiaSW:
		h.size = ixiaHeaderLen
	}
	if err := r.need(h.size); err != nil {
		return r.openError(err)
	}
	b := r.at(h.size)
	major, minor := u16(b[4:], big), u16(b[6:], big)
	switch {
	case major < 2:
		return &NotCaptureError{Seen: fmt.Sprintf("pcap file of the unknown version %d.%d", major, minor)}
	case major == 2 && minor < 3, major == 543: // 543: DG/UX
		h.lengths = origFirst
	case major == 2 && minor == 3:
		h.lengths = eitherFirst
	}
	h.snapLen = u32(b[16:], big)
	network := u32(b[20:], big)
	h.linkType = int(network & 0x03ffffff)
	if network&0x04000000 != 0 {
		h.fcsLen = int(network>>28) * 16
	}
	h.max = maxCapLen(h.linkType)
	r.pcap = h
	if magic == magicModified {
		if err := r.guessRecordHeader(); err != nil {
			return err
		}
	}
	r.pos += h.size
	r.sections = 1
	r.addInterface(h.linkType)
	return nil
}

// guessRecordHeader decides between the two record headers that the modified
// magic number stands for, as Wireshark does: the first three records are read
// either way, and the way with fewer oddities is taken.
func (r *Reader) guessRecordHeader() error {
	if err := r.need(readBuffer); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	r.guessed = true
	first := r.buf[r.pos+r.pcap.size : r.end]
	r.pcap.record = modifiedHeaderLen
	if r.oddities(first, modifiedHeaderLen) > r.oddities(first, smpHeaderLen) {
		r.pcap.record = smpHeaderLen
	}
	return nil
}

func (r *Reader) oddities(b []byte, headerLen int) (odd int) {
	count := func(is bool) {
		if is {
			odd++
		}
	}
	for range 3 {
		if len(b) == 0 {
			return odd
		}
		var h [smpHeaderLen]byte // the fields that are missing count as 0
		short := copy(h[:headerLen], b) < headerLen
		capLen, origLen := u32(h[8:], r.big), u32(h[12:], r.big)
		protocol := u16(h[20:], r.big)
		count(short)
		count(u32(h[4:], r.big) >= 1e6)
		count(capLen > r.pcap.max)
		count(capLen > r.pcap.snapLen)
		count(origLen > maxPacketDBus)
		count(capLen > origLen)
		count(u32(h[16:], r.big) > 10000) // interface index
		count(protocol > 0x17 && protocol < 0x600 && protocol != 0x60 && protocol != 0x200 && protocol != 0x400)
		count(h[22] > 4) // PACKET_HOST to PACKET_OUTGOING
		if short || capLen > r.pcap.max {
			return odd
		}
		b = b[headerLen:]
		if uint32(len(b)) < capLen {
			count(true)
			return odd
		}
		b = b[capLen:]
	}
	return odd
}

// nextRecord reads one pcap record.
func (r *Reader) nextRecord(p *Packet) error {
	h := &r.pcap
	start := r.base + int64(r.pos)
	if r.end-r.pos < h.record {
		if err := r.need(h.record); err != nil {
			return r.ended(err, start)
		}
	}
	b := r.at(recordHeaderLen)
	sec, frac := u32(b, r.big), u32(b[4:], r.big)
	capLen, origLen := u32(b[8:], r.big), u32(b[12:], r.big)
	if h.lengths == origFirst || h.lengths == eitherFirst && capLen > origLen {
		capLen, origLen = origLen, capLen
	}
	if capLen > h.max {
		return &FormatError{Offset: start, Problem: fmt.Sprintf("a packet of %d bytes, more than the %d that its link type can have", capLen, h.max)}
	}
	size := h.record + int(capLen)
	r.last = record{off: start, size: int64(size), packet: true}
	p.Data = nil
	if size > maxBuffer {
		if err := r.skipRecord(); err != nil {
			return err
		}
	} else {
		if r.end-r.pos < size {
			if err := r.need(size); err != nil {
				return r.ended(err, start)
			}
		}
		p.Data = r.at(size)[h.record:]
		r.pos += size
	}
	// No 32-bit seconds and fraction leave the range of an int64 of nanoseconds.
	p.Time = int64(sec)*1e9 + int64(frac)*h.unit
	p.NoTime = false
	p.CapLen, p.OrigLen = capLen, origLen
	p.Interface, p.LinkType = 0, h.linkType
	return nil
}

// skipRecord passes over the record r.last, which the buffer cannot hold.
func (r *Reader) skipRecord() error {
	if r.beforeSkip != nil {
		if err := r.beforeSkip(r.last); err != nil {
			return err
		}
	}
	if err := r.skip(r.last.size); err != nil {
		return r.ended(err, r.last.off)
	}
	return nil
}

func u16(b []byte, big bool) uint16 {
	v := binary.LittleEndian.Uint16(b)
	if big {
		v = bits.ReverseBytes16(v)
	}
	return v
}

func u32(b []byte, big bool) uint32 {
	v := binary.LittleEndian.Uint32(b)
	if big {
		v = bits.ReverseBytes32(v)
	}
	return v
}

func u64(b []byte, big bool) uint64 {
	v := binary.LittleEndian.Uint64(b)
	if big {
		v = bits.ReverseBytes64(v)
	}
	return v
}

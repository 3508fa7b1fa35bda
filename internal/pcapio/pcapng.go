package pcapio

import (
	"fmt"
	"math"
	"math/bits"
)

// Block types (draft-ietf-opsawg-pcapng, section 11.1).
const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 1
	blockPacket    = 2 // obsolete
	blockSimple    = 3
	blockNames     = 4
	blockStats     = 5
	blockEnhanced  = 6
	blockJournal   = 9
	blockSecrets   = 10
	blockPrivate   = 0x40000bad // custom, not to be copied into another file
)

const (
	orderMagic = 0x1a2b3c4d

	minBlock     = 12
	minSection   = 28
	minInterface = 20
	minPacket    = 32 // enhanced and obsolete alike
	minSimple    = 16

	// maxBlock is the largest block that Wireshark accepts: the largest packet
	// with 128 KiB of options (wiretap/pcapng.c).
	maxBlock = minPacket + maxPacketDBus + 128<<10

	// maxInterfaces bounds a section's memory. It is far above what capture
	// programs write.
	maxInterfaces = 16384
)

// Options that matter to reading packets.
const (
	optEnd      = 0
	optTsResol  = 9
	optTsOffset = 14
)

// section is what the current section says of its packets.
type section struct{ interfaces []ngInterface }

type ngInterface struct {
	linkType int
	snapLen  uint32
	max      uint32
	units    uint64 // time stamp units a second
	factor   uint64 // nanoseconds a unit; 0 when that is no whole number
	offset   int64  // seconds
}

func isPcapng(b []byte) bool {
	return len(b) >= 4 && u32(b, false) == blockSection
}

func (r *Reader) damaged(format string, args ...any) error {
	return &FormatError{Offset: r.last.off, Problem: fmt.Sprintf(format, args...)}
}

// nextBlock reads one block and says whether it is a packet.
func (r *Reader) nextBlock(p *Packet) (bool, error) {
	start := r.base + int64(r.pos)
	r.last = record{off: start}
	if r.end-r.pos < minBlock {
		if err := r.need(minBlock); err != nil {
			return false, r.ended(err, start)
		}
	}
	b := r.at(minBlock)
	block := u32(b, r.big)
	if block == blockSection { // a palindrome: the same in both byte orders
		if err := r.sectionOrder(b[8:]); err != nil {
			return false, err
		}
	}
	// Some writers leave the padding out of the length, though not out of the
	// file; Wireshark adds it, too.
	size := (int64(u32(b[4:], r.big)) + 3) &^ 3
	least := leastSize(block)
	if size < least {
		return false, r.damaged("a block (type %#x) of %d bytes, which has at least %d", block, size, least)
	}
	if size > maxBlock {
		return false, r.damaged("a block (type %#x) of %d bytes, more than any packet needs", block, size)
	}
	r.last.size, r.last.block = size, block
	r.last.packet = block == blockEnhanced || block == blockSimple || block == blockPacket
	if size > maxBuffer {
		return r.last.packet, r.hugeBlock(p, int(least))
	}
	n := int(size)
	if r.end-r.pos < n {
		if err := r.need(n); err != nil {
			return false, r.ended(err, start)
		}
	}
	b = r.at(n)
	if err := r.checkTrailer(b[n-4:]); err != nil {
		return false, err
	}
	r.last.raw = b
	if err := r.parseBlock(p, block, b[8:n-4], n-minBlock); err != nil {
		return false, err
	}
	r.pos += n
	if !r.last.packet {
		r.tell()
	}
	return r.last.packet, nil
}

func leastSize(block uint32) int64 {
	switch block {
	case blockSection:
		return minSection
	case blockInterface:
		return minInterface
	case blockEnhanced, blockPacket:
		return minPacket
	case blockSimple:
		return minSimple
	}
	return minBlock
}

// hugeBlock reads the fixed part of a block that the buffer cannot hold and
// passes over the rest.
func (r *Reader) hugeBlock(p *Packet, least int) error {
	if r.last.block == blockInterface {
		return r.damaged("an interface description of %d bytes", r.last.size)
	}
	if err := r.need(least); err != nil {
		return r.ended(err, r.last.off)
	}
	if err := r.parseBlock(p, r.last.block, r.at(least)[8:least-4], int(r.last.size)-minBlock); err != nil {
		return err
	}
	p.Data = nil
	if r.beforeSkip != nil {
		if err := r.beforeSkip(r.last); err != nil {
			return err
		}
	}
	if err := r.skip(r.last.size - 4); err != nil {
		return r.ended(err, r.last.off)
	}
	if err := r.need(4); err != nil {
		return r.ended(err, r.last.off)
	}
	if err := r.checkTrailer(r.at(4)); err != nil {
		return err
	}
	r.pos += 4
	return nil
}

func (r *Reader) checkTrailer(b []byte) error {
	if again := (int64(u32(b, r.big)) + 3) &^ 3; again != r.last.size {
		return r.damaged("a block (type %#x) of %d bytes that says at its end it has %d", r.last.block, r.last.size, again)
	}
	return nil
}

// sectionOrder takes a section's byte order from its magic number.
func (r *Reader) sectionOrder(b []byte) error {
	for _, big := range []bool{false, true} {
		if u32(b, big) == orderMagic {
			r.big = big
			return nil
		}
	}
	return r.damaged("pcapng section header with the byte-order magic %q", b[:4])
}

// parseBlock reads a block's body. size is how long the body is; b is all of
// it, or the fixed part when the block is huge.
func (r *Reader) parseBlock(p *Packet, block uint32, b []byte, size int) error {
	switch block {
	case blockSection:
		return r.parseSection(b)
	case blockInterface:
		return r.parseInterface(b)
	case blockEnhanced:
		return r.parsePacket(p, b, size, u32(b, r.big))
	case blockPacket:
		return r.parsePacket(p, b, size, uint32(u16(b, r.big)))
	case blockSimple:
		return r.parseSimple(p, b, size)
	}
	return nil
}

func (r *Reader) parseSection(b []byte) error {
	major, minor := u16(b[4:], r.big), u16(b[6:], r.big)
	if major != 1 {
		return r.damaged("pcapng section of the unknown version %d.%d", major, minor)
	}
	// The section's length (b[8:16]) is often wrong and never needed.
	if err := r.options(b[16:], nil); err != nil {
		return err
	}
	r.ng.interfaces = r.ng.interfaces[:0]
	r.sections++
	return nil
}

func (r *Reader) parseInterface(b []byte) error {
	if len(r.ng.interfaces) == maxInterfaces {
		return r.damaged("more than %d interfaces in one section", maxInterfaces)
	}
	i := ngInterface{linkType: int(u16(b, r.big)), snapLen: u32(b[4:], r.big), units: 1e6}
	i.max = maxCapLen(i.linkType)
	resol := -1
	err := r.options(b[8:], func(code uint16, value []byte) {
		switch {
		case code == optTsResol && len(value) == 1:
			resol = int(value[0])
		case code == optTsOffset && len(value) == 8:
			i.offset = int64(u64(value, r.big))
		}
	})
	if err != nil {
		return err
	}
	if resol >= 0 {
		var ok bool
		if i.units, ok = unitsPerSecond(byte(resol)); !ok {
			return r.damaged("an interface with the time resolution %#x, finer than 64 bits can count", resol)
		}
	}
	if 1e9%i.units == 0 {
		i.factor = 1e9 / i.units
	}
	r.ng.interfaces = append(r.ng.interfaces, i)
	r.addInterface(i.linkType)
	return nil
}

// unitsPerSecond decodes if_tsresol; false when they exceed 64 bits.
func unitsPerSecond(resol byte) (uint64, bool) {
	exp := resol & 0x7f
	if resol&0x80 != 0 {
		return 1 << exp, exp < 64
	}
	if exp > 19 {
		return 0, false
	}
	units := uint64(1)
	for range exp {
		units *= 10
	}
	return units, true
}

// parsePacket reads an enhanced or an obsolete packet block.
func (r *Reader) parsePacket(p *Packet, b []byte, size int, id uint32) error {
	if uint64(id) >= uint64(len(r.ng.interfaces)) {
		return r.damaged("a packet of interface %d in a section that has described %d", id, len(r.ng.interfaces))
	}
	i := &r.ng.interfaces[id]
	capLen := u32(b[12:], r.big)
	if capLen > i.max {
		return r.damaged("a packet of %d bytes, more than the %d that its link type can have", capLen, i.max)
	}
	padded := 20 + (int(capLen)+3)&^3
	if padded > size {
		return r.damaged("a packet of %d bytes in a block of %d", capLen, r.last.size)
	}
	p.Data = nil
	if len(b) == size {
		p.Data = b[20 : 20+capLen : 20+capLen]
		if size > padded {
			if err := r.options(b[padded:], nil); err != nil {
				return err
			}
		}
	}
	p.Time = i.time(uint64(u32(b[4:], r.big))<<32 | uint64(u32(b[8:], r.big)))
	p.NoTime = false
	p.CapLen, p.OrigLen = capLen, u32(b[16:], r.big)
	p.Interface, p.LinkType = int(id), i.linkType
	return nil
}

func (r *Reader) parseSimple(p *Packet, b []byte, size int) error {
	if len(r.ng.interfaces) == 0 {
		return r.damaged("a packet in a section that has described no interface")
	}
	i := &r.ng.interfaces[0]
	origLen := u32(b, r.big)
	capLen := origLen
	if i.snapLen != 0 {
		capLen = min(capLen, i.snapLen)
	}
	if capLen > i.max {
		return r.damaged("a packet of %d bytes, more than the %d that its link type can have", capLen, i.max)
	}
	if 4+(int(capLen)+3)&^3 > size {
		return r.damaged("a packet of %d bytes in a block of %d", capLen, r.last.size)
	}
	p.Data = nil
	if len(b) == size {
		p.Data = b[4 : 4+capLen : 4+capLen]
	}
	p.Time, p.NoTime = 0, true
	p.CapLen, p.OrigLen = capLen, origLen
	p.Interface, p.LinkType = 0, i.linkType
	return nil
}

// options walks over a block's options and fails where one leaves the block. A
// nil visit only checks. Values are valid until the next read.
func (r *Reader) options(b []byte, visit func(code uint16, value []byte)) error {
	for len(b) > 0 {
		if len(b) < 4 {
			return r.damaged("a block (type %#x) whose options end inside a header", r.last.block)
		}
		code, n := u16(b, r.big), int(u16(b[2:], r.big))
		if code == optEnd {
			return nil
		}
		b = b[4:]
		padded := (n + 3) &^ 3
		if padded > len(b) {
			return r.damaged("a block (type %#x) with an option of %d bytes that leaves it", r.last.block, n)
		}
		if visit != nil {
			visit(code, b[:n:n])
		}
		b = b[padded:]
	}
	return nil
}

// time converts a time stamp to nanoseconds since the epoch, saturating.
func (i *ngInterface) time(stamp uint64) int64 {
	if i.offset == 0 && i.factor != 0 {
		if hi, ns := bits.Mul64(stamp, i.factor); hi == 0 && ns <= math.MaxInt64 {
			return int64(ns)
		}
		return math.MaxInt64
	}
	sec, rest := stamp/i.units, stamp%i.units
	hi, lo := bits.Mul64(rest, 1e9)
	frac, _ := bits.Div64(hi, lo, i.units) // rest < units, so it fits
	return saturate(sec, i.offset, int64(frac))
}

// saturate returns (sec+offset) seconds and frac nanoseconds in nanoseconds.
func saturate(sec uint64, offset, frac int64) int64 {
	const limit = math.MaxInt64 / 1_000_000_000
	if sec > math.MaxInt64 {
		// More than 2^63 seconds less at most 2^63 may come back into range.
		if offset >= 0 {
			return math.MaxInt64
		}
		if sec += uint64(offset); sec > math.MaxInt64 {
			return math.MaxInt64
		}
		offset = 0
	}
	s := int64(sec)
	switch {
	case offset > 0 && s > math.MaxInt64-offset:
		return math.MaxInt64
	case s+offset >= limit:
		return math.MaxInt64
	case s+offset < -limit:
		return math.MinInt64
	}
	return (s+offset)*1_000_000_000 + frac
}

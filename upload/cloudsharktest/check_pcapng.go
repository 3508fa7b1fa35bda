package cloudsharktest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"
)

// section reads a section header block's length and byte-order magic.
func (c *checker) section(p []byte) error {
	switch {
	case binary.LittleEndian.Uint32(p[4:]) == 0x1a2b3c4d:
		c.order = binary.LittleEndian
	case binary.BigEndian.Uint32(p[4:]) == 0x1a2b3c4d:
		c.order = binary.BigEndian
	default:
		return fmt.Errorf("%w: no byte-order magic", errNotCapture)
	}
	c.ifaces = c.ifaces[:0]
	if err := c.length(c.order.Uint32(p), 28); err != nil {
		return err
	}
	c.next(4, int64(c.blockLen)-16, c.trailer)
	return nil
}

func (c *checker) length(n, least uint32) error {
	if n < least || n%4 != 0 || n > maxBlock {
		return fmt.Errorf("%w: a block claims %d bytes", errNotCapture, n)
	}
	c.blockLen = n
	return nil
}

func (c *checker) trailer(p []byte) error {
	if n := c.order.Uint32(p); n != c.blockLen {
		return fmt.Errorf("%w: a block's two lengths differ (%d, %d)", errNotCapture, c.blockLen, n)
	}
	c.next(8, 0, c.blockHeader)
	c.boundary = true
	return nil
}

func (c *checker) blockHeader(p []byte) error {
	if binary.BigEndian.Uint32(p) == 0x0a0d0d0a {
		// The length's byte order is known only after the magic that follows it.
		rest := [8]byte(append(bytes.Clone(p[4:]), 0, 0, 0, 0))
		c.next(4, 0, func(q []byte) error {
			copy(rest[4:], q)
			return c.section(rest[:])
		})
		return nil
	}
	c.block = c.order.Uint32(p)
	least := map[uint32]uint32{1: 20, 2: 32, 3: 16, 6: 32}[c.block]
	if err := c.length(c.order.Uint32(p[4:]), max(least, 12)); err != nil {
		return err
	}
	body := int64(c.blockLen) - 12
	switch c.block {
	case 1:
		if body > maxOptions || len(c.ifaces) >= maxInterfaces {
			return fmt.Errorf("%w: interface description", errNotCapture)
		}
		c.next(int(body), 0, c.interfaceBlock)
	case 2, 6:
		c.next(20, 0, c.packetBlock)
	case 3:
		c.next(4, 0, c.simplePacket)
	default:
		c.next(4, body, c.trailer)
	}
	return nil
}

func (c *checker) interfaceBlock(p []byte) error {
	in := iface{perSecond: 1e6}
	c.sawLink(uint32(c.order.Uint16(p)))
	for opts := p[8:]; len(opts) >= 4; {
		code, n := c.order.Uint16(opts), int(c.order.Uint16(opts[2:]))
		opts = opts[4:]
		if code == 0 {
			break
		}
		if n > len(opts) {
			return fmt.Errorf("%w: an interface option overruns its block", errNotCapture)
		}
		switch {
		case code == 9 && n == 1:
			in.perSecond = ticks(opts[0])
		case code == 14 && n == 8:
			in.offset = int64(c.order.Uint64(opts))
		}
		opts = opts[min((n+3)&^3, len(opts)):]
	}
	c.ifaces = append(c.ifaces, in)
	c.next(4, 0, c.trailer)
	return nil
}

// ticks is if_tsresol: a power of ten, or of two when the top bit is set. It
// returns 0 where no 64-bit counter could hold the result.
func ticks(resolution byte) uint64 {
	if resolution&0x80 != 0 {
		if resolution&0x7f > 63 {
			return 0
		}
		return 1 << (resolution & 0x7f)
	}
	if resolution > 19 {
		return 0
	}
	n := uint64(1)
	for range resolution {
		n *= 10
	}
	return n
}

func (in iface) time(stamp uint64) time.Time {
	if in.perSecond == 0 {
		return time.Time{}
	}
	frac := float64(stamp%in.perSecond) * 1e9 / float64(in.perSecond)
	sec := stamp / in.perSecond
	if sec > 1<<40 {
		return time.Time{}
	}
	return time.Unix(int64(sec)+in.offset, int64(frac))
}

// packetBlock reads the fixed part of an enhanced packet block, or of the
// obsolete packet block, which differs in the width of the interface number.
func (c *checker) packetBlock(p []byte) error {
	id := c.order.Uint32(p)
	if c.block == 2 {
		id = uint32(c.order.Uint16(p))
	}
	caplen := c.order.Uint32(p[12:])
	body := int64(c.blockLen) - 12 - 20
	if int64(id) >= int64(len(c.ifaces)) || caplen > maxPacket || (int64(caplen)+3)&^3 > body {
		return fmt.Errorf("%w: packet %d of interface %d claims %d bytes", errNotCapture, c.facts.packets+1, id, caplen)
	}
	stamp := uint64(c.order.Uint32(p[4:]))<<32 | uint64(c.order.Uint32(p[8:]))
	c.packet(c.ifaces[id].time(stamp), caplen)
	c.next(4, body, c.trailer)
	return nil
}

func (c *checker) simplePacket(p []byte) error {
	body := int64(c.blockLen) - 12 - 4
	if len(c.ifaces) == 0 {
		return fmt.Errorf("%w: a packet before any interface", errNotCapture)
	}
	c.packet(time.Time{}, uint32(min(int64(c.order.Uint32(p)), body)))
	c.next(4, body, c.trailer)
	return nil
}

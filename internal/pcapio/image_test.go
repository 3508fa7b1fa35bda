package pcapio_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// image builds files byte by byte, right or wrong, without the package's own
// writers.
type image struct {
	bytes.Buffer
	order binary.AppendByteOrder
}

var (
	little = binary.LittleEndian
	bigEnd = binary.BigEndian
)

func (m *image) u16(v ...uint16) *image {
	for _, v := range v {
		m.Write(m.order.AppendUint16(nil, v))
	}
	return m
}

func (m *image) u32(v ...uint32) *image {
	for _, v := range v {
		m.Write(m.order.AppendUint32(nil, v))
	}
	return m
}

func (m *image) u64(v ...uint64) *image {
	for _, v := range v {
		m.Write(m.order.AppendUint64(nil, v))
	}
	return m
}

func (m *image) raw(b ...byte) *image {
	m.Write(b)
	return m
}

func part(order binary.AppendByteOrder) *image { return &image{order: order} }

// pcapImage begins a pcap file of version 2.4.
func pcapImage(order binary.AppendByteOrder, magic, snapLen, network uint32) *image {
	return part(order).u32(magic).u16(2, 4).u32(0, 0, snapLen, network)
}

// record appends a pcap record; extra stands between its header and its data.
func (m *image) record(sec, frac uint32, data []byte, extra ...byte) *image {
	n := uint32(len(data))
	return m.u32(sec, frac, n, n).raw(extra...).raw(data...)
}

// option is a pcapng option; its length can lie.
type option struct {
	code  uint16
	value []byte
	lie   int // added to the length
}

func (m *image) options(opts []option) *image {
	for _, o := range opts {
		m.u16(o.code, uint16(len(o.value)+o.lie)).raw(o.value...).pad()
	}
	if len(opts) > 0 {
		m.u16(0, 0)
	}
	return m
}

func (m *image) pad() *image {
	for m.Len()%4 != 0 {
		m.raw(0)
	}
	return m
}

// block appends a pcapng block whose body f writes.
func (m *image) block(kind uint32, f func(b *image)) *image {
	b := part(m.order)
	f(b)
	b.pad()
	n := uint32(b.Len()) + 12
	return m.u32(kind, n).raw(b.Bytes()...).u32(n)
}

func (m *image) shb(opts ...option) *image {
	return m.block(0x0a0d0d0a, func(b *image) {
		b.u32(0x1a2b3c4d).u16(1, 0).u64(1<<64 - 1).options(opts)
	})
}

func (m *image) idb(link uint16, snapLen uint32, opts ...option) *image {
	return m.block(1, func(b *image) { b.u16(link, 0).u32(snapLen).options(opts) })
}

func (m *image) epb(id uint32, stamp uint64, data []byte, opts ...option) *image {
	return m.block(6, func(b *image) {
		n := uint32(len(data))
		b.u32(id, uint32(stamp>>32), uint32(stamp), n, n).raw(data...).pad().options(opts)
	})
}

func (m *image) opb(id uint16, stamp uint64, data []byte) *image {
	return m.block(2, func(b *image) {
		n := uint32(len(data))
		b.u16(id, 0xffff).u32(uint32(stamp>>32), uint32(stamp), n, n).raw(data...)
	})
}

func (m *image) spb(orig uint32, data []byte) *image {
	return m.block(3, func(b *image) { b.u32(orig).raw(data...) })
}

// frame is an Ethernet frame with an IPv4 UDP datagram of n zero bytes to port 9.
func frame(n int) []byte {
	b := part(bigEnd).raw(2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2).u16(0x0800)
	b.raw(0x45, 0).u16(uint16(28+n), 0, 0x4000).raw(64, 17).u16(0).raw(192, 0, 2, 1, 192, 0, 2, 2)
	b.u16(40000, 9, uint16(8+n), 0).raw(make([]byte, n)...)
	sum := uint32(0)
	for i := 14; i < 34; i += 2 {
		sum += uint32(bigEnd.Uint16(b.Bytes()[i:]))
	}
	bigEnd.PutUint16(b.Bytes()[24:], ^uint16(sum+sum>>16))
	return b.Bytes()
}

// gzipStored wraps data in a gzip member without compressing it.
func gzipStored(data []byte) []byte {
	m := part(little).raw(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255)
	n := uint16(len(data))
	m.raw(1).u16(n, ^n).raw(data...)
	return m.u32(crc32.ChecksumIEEE(data), uint32(len(data))).Bytes()
}

// zstdImage is a zstd frame that begins with data as it is and goes on with
// blocks of 128 KiB zeros. window is the window descriptor (RFC 8878, 3.1.1.1.2).
func zstdImage(window byte, data []byte, zeros int) []byte {
	m := part(little).u32(0xfd2fb528).raw(0, window)
	head := func(last, kind, size int) {
		v := last | kind<<1 | size<<3
		m.raw(byte(v), byte(v>>8), byte(v>>16))
	}
	last := func(yes bool) int {
		if yes {
			return 1
		}
		return 0
	}
	head(last(zeros == 0), 0, len(data))
	m.raw(data...)
	for i := range zeros {
		head(last(i == zeros-1), 1, 128<<10)
		m.raw(0)
	}
	return m.Bytes()
}

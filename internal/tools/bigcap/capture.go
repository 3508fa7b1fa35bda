package main

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
)

const (
	fileHeader   = 24
	recordHeader = 16
	headers      = 14 + 20 + 8 // Ethernet, IPv4, UDP
	counter      = 8           // every payload starts with the packet's number

	minFrame = headers + counter
	maxFrame = 65535

	chunkSize = 4 << 20
	start     = 1773129600 // 2026-03-10 08:00 UTC
)

// writeCapture writes a pcap of as many whole frames as fit into limit bytes.
func writeCapture(w io.Writer, limit uint64, frame int, seed uint64) error {
	if _, err := w.Write(appendFileHeader(nil)); err != nil {
		return err
	}
	record := recordHeader + frame
	// One block of packets is built once; later only numbers and times change in it.
	perChunk := max(1, chunkSize/record)
	source := noise(seed)
	var chunk []byte
	for range perChunk {
		chunk = appendPacket(chunk, frame, source)
	}
	total := (max(limit, fileHeader) - fileHeader) / uint64(record)
	for n := uint64(0); n < total; {
		count := min(uint64(perChunk), total-n)
		for i := range count {
			number(chunk[int(i)*record:], n+i)
		}
		if _, err := w.Write(chunk[:int(count)*record]); err != nil {
			return err
		}
		n += count
	}
	return nil
}

func noise(seed uint64) *rand.ChaCha8 {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	return rand.NewChaCha8(key)
}

func appendFileHeader(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, 0xa1b2c3d4)
	b = append(b, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, 262144)
	return binary.LittleEndian.AppendUint32(b, 1) // Ethernet
}

// number sets the time and the number of a packet: 12 µs each, 1500 bytes at 1 Gbit/s.
func number(record []byte, n uint64) {
	at := n * 12
	binary.LittleEndian.PutUint32(record, uint32(start+at/1e6))
	binary.LittleEndian.PutUint32(record[4:], uint32(at%1e6))
	binary.BigEndian.PutUint64(record[recordHeader+headers:], n)
}

// appendPacket appends a record with a UDP datagram between random hosts of
// 198.18.0.0/15 (RFC 2544) to the discard port. It has no UDP checksum, which
// IPv4 allows, so that number need not mend it.
func appendPacket(b []byte, frame int, source *rand.ChaCha8) []byte {
	r := source.Uint64()
	b = append(b, make([]byte, 8)...)
	b = binary.LittleEndian.AppendUint32(b, uint32(frame))
	b = binary.LittleEndian.AppendUint32(b, uint32(frame))

	b = append(b, 0, 0, 0x5e, 0, 0x53, 1, 0, 0, 0x5e, 0, 0x53, 2, 0x08, 0x00)
	ip := len(b)
	b = append(b, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(frame-14))
	b = append(b, byte(r), byte(r>>8), 0x40, 0, 64, 17, 0, 0)
	b = append(b, 198, 18, byte(r>>16), byte(r>>24), 198, 19, byte(r>>32), byte(r>>40))
	binary.BigEndian.PutUint16(b[ip+10:], checksum(b[ip:]))

	b = binary.BigEndian.AppendUint16(b, 0xf000|uint16(r>>48)) // no protocol has these ports
	b = append(b, 0, 9)
	b = binary.BigEndian.AppendUint16(b, uint16(frame-14-20))
	b = append(b, 0, 0)
	payload := len(b)
	b = append(b, make([]byte, frame-headers)...)
	_, _ = source.Read(b[payload:])
	return b
}

// checksum is the Internet checksum (RFC 1071) of an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 0; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

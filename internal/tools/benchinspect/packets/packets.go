// Package packets builds frames of Ethernet with IPv4 for benchmarks. Checksums
// are left out; nobody here looks at them.
package packets

import (
	"encoding/binary"
	"strings"
)

// TCP flags.
const (
	SYN = 2
	ACK = 16
)

// Ethernet puts an IPv4 datagram into a frame.
func Ethernet(ip []byte) []byte {
	return append([]byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0}, ip...)
}

// IP is an IPv4 datagram between two addresses.
func IP(src, dst uint32, proto byte, payload []byte) []byte {
	b := []byte{0x45, 0}
	b = binary.BigEndian.AppendUint16(b, uint16(20+len(payload)))
	b = append(b, 0, 1, 0, 0, 64, proto, 0, 0)
	b = binary.BigEndian.AppendUint32(b, src)
	b = binary.BigEndian.AppendUint32(b, dst)
	return append(b, payload...)
}

// Fragment is a frame with a fragment that more follow.
func Fragment(src, dst uint32, id uint16, offset int, payload []byte) []byte {
	b := IP(src, dst, 17, payload)
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], 0x2000|uint16(offset/8)&0x1fff)
	return Ethernet(b)
}

// UDP is a frame with a datagram.
func UDP(src, dst uint32, srcPort, dstPort uint16, payload []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, srcPort)
	b = binary.BigEndian.AppendUint16(b, dstPort)
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(payload)))
	return Ethernet(IP(src, dst, 17, append(append(b, 0, 0), payload...)))
}

// TCP is a frame with a segment.
func TCP(src, dst uint32, srcPort, dstPort uint16, seq uint32, flags byte, payload []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, srcPort)
	b = binary.BigEndian.AppendUint16(b, dstPort)
	b = binary.BigEndian.AppendUint32(b, seq)
	b = append(b, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0)
	return Ethernet(IP(src, dst, 6, append(b, payload...)))
}

// Question is a DNS query for a name.
func Question(name string) []byte {
	b := []byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for label := range strings.SplitSeq(name, ".") {
		b = append(append(b, byte(len(label))), label...)
	}
	return append(b, 0, 0, 1, 0, 1)
}

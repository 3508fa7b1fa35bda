//go:build linux

package faulttest

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// Capture returns a pcap of about size bytes (at least 100) that no other seed
// gives.
func Capture(seed uint64, size int) []byte {
	b := []byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0}
	for n := uint32(0); n == 0 || len(b) < size; n++ {
		length := min(max(size-len(b)-16, 60), 1400)
		b = binary.LittleEndian.AppendUint32(b, 1_760_000_000+uint32(seed%1_000_000))
		b = binary.LittleEndian.AppendUint32(b, n%1_000_000)
		b = binary.LittleEndian.AppendUint32(b, uint32(length))
		b = binary.LittleEndian.AppendUint32(b, uint32(length))
		packet := make([]byte, length)
		copy(packet, fmt.Sprintf("\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02\x88\xb5 capture %d packet %d", seed, n))
		b = append(b, packet...)
	}
	return b
}

// Gzip wraps b.
func Gzip(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b) // into memory
	_ = w.Close()
	return out.Bytes()
}

// Sum is the SHA-256 of b in hexadecimal digits.
func Sum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

package main

import (
	"encoding/binary"
	"time"
)

// endingAt returns a pcap of ours, whose times are in the order of its bytes, moved so
// that its last packet is of that second.
func endingAt(pcap []byte, end time.Time) []byte {
	const fileHeader, recordHeader = 24, 16
	out := append([]byte{}, pcap...)
	var records [][]byte
	for b := out[fileHeader:]; len(b) >= recordHeader; {
		records = append(records, b[:recordHeader])
		b = b[recordHeader+int(binary.LittleEndian.Uint32(b[8:])):]
	}
	last := binary.LittleEndian.Uint32(records[len(records)-1])
	for _, r := range records {
		binary.LittleEndian.PutUint32(r, binary.LittleEndian.Uint32(r)+uint32(end.Unix())-last)
	}
	return out
}

package dns

import "encoding/binary"

// Plausible says whether a datagram from ports that are not DNS's is a DNS
// message nevertheless: one question with a host's name, counts that make sense,
// and records that end where the datagram does.
func Plausible(msg []byte) bool {
	if len(msg) < header+5 {
		return false
	}
	flags := binary.BigEndian.Uint16(msg[2:])
	response := flags&0x8000 != 0
	counts := [4]int{}
	for i := range counts {
		counts[i] = int(binary.BigEndian.Uint16(msg[4+2*i:]))
	}
	records := counts[1] + counts[2] + counts[3]
	switch {
	case flags&0x7840 != 0, flags&15 > 10, counts[0] != 1, records > 100:
		return false
	case !response && (flags&15 != 0 || counts[1]+counts[2] != 0 || counts[3] > 2):
		return false
	}
	pos, ok := hostAt(msg, header)
	if !ok || pos+4 > len(msg) {
		return false
	}
	kind, class := binary.BigEndian.Uint16(msg[pos:]), binary.BigEndian.Uint16(msg[pos+2:])
	if kind == 0 || kind > 260 || class != 1 && class != 255 {
		return false
	}
	pos += 4
	for range records {
		if pos = skipRecord(msg, pos); pos < 0 {
			return false
		}
	}
	return pos == len(msg)
}

// hostAt passes over a name of letters, digits, hyphens and underscores.
func hostAt(msg []byte, pos int) (next int, ok bool) {
	for start := pos; pos < len(msg) && pos-start < 255; {
		n := int(msg[pos])
		if pos++; n == 0 {
			return pos, pos-start > 1
		}
		if n > 63 || pos+n > len(msg) {
			return 0, false
		}
		for _, c := range msg[pos : pos+n] {
			if c|0x20-'a' > 'z'-'a' && c-'0' > 9 && c != '-' && c != '_' {
				return 0, false
			}
		}
		pos += n
	}
	return 0, false
}

// skipRecord returns where the record at pos ends, or -1.
func skipRecord(msg []byte, pos int) int {
	for {
		if pos >= len(msg) {
			return -1
		}
		n := int(msg[pos])
		if pos++; n == 0 {
			break
		}
		if n >= 0xc0 {
			pos++
			break
		}
		pos += n
	}
	if pos+10 > len(msg) {
		return -1
	}
	pos += 10 + int(binary.BigEndian.Uint16(msg[pos+8:]))
	if pos > len(msg) {
		return -1
	}
	return pos
}

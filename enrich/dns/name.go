package dns

import (
	"encoding/binary"
)

const maxName = 255 // RFC 1035, 2.3.4; presentation form at most doubles it

// name expands the name at off and returns where what follows it begins. Only the
// bytes that would change the name's structure are escaped (RFC 1035, 5.1): what
// is strange otherwise, the Set brings into its form. It is valid until the next
// call.
func (r *reader) name(off int) (name []byte, next int, ok bool) {
	text, size := r.text[:0], 0
	for start := off; ; {
		if off >= len(r.msg) {
			return nil, 0, false
		}
		n := int(r.msg[off])
		switch {
		case n == 0:
			if next == 0 {
				next = off + 1
			}
			return text, next, r.spend(size)
		case n < 64:
			if size += n + 1; size > maxName || off+1+n > len(r.msg) {
				return nil, 0, false
			}
			text = appendLabel(text, r.msg[off+1:off+1+n])
			off += 1 + n
		case n >= 0xc0 && off+2 <= len(r.msg):
			// A pointer goes to a prior occurrence (RFC 1035, 4.1.4), which ends
			// every loop.
			to := int(binary.BigEndian.Uint16(r.msg[off:]) & 0x3fff)
			if next == 0 {
				next = off + 2
			}
			if to >= start || !r.spend(1) {
				return nil, 0, false
			}
			start, off = to, to
		default:
			return nil, 0, false
		}
	}
}

func (r *reader) spend(n int) bool {
	if r.budget -= n; r.budget < 0 {
		r.set.Reached(LimitNames)
		return false
	}
	return true
}

func appendLabel(to, label []byte) []byte {
	if len(to) > 0 {
		to = append(to, '.')
	}
	for _, c := range label {
		if c == '.' || c == '\\' {
			to = append(to, '\\')
		}
		to = append(to, c)
	}
	return to
}

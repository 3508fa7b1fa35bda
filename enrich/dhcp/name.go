package dhcp

import (
	"capagent/enrich/indicator"
)

const (
	maxName = 255 // RFC 1035, 2.3.4
	maxHops = 16
	maxList = 4096 // bytes of all names in one option
)

// list reports the names of a list in DNS's wire form. Pointers are offsets in
// the list (RFC 3397, 2); DHCPv6 has none (RFC 8415, 10).
func (t *Tracker) list(b []byte, at indicator.At) {
	total := 0
	for pos := 0; pos < len(b); {
		name, next, ok := t.name(b, pos)
		if !ok {
			return
		}
		if total += len(name); total > maxList {
			t.set.Reached(LimitNames)
			return
		}
		t.host(name, at)
		pos = next
	}
}

// name expands the name at off. The end of b ends it, too: a client that doesn't
// know its domain sends a partial name (RFC 4702, 2.3.1; RFC 4704, 4.2).
func (t *Tracker) name(b []byte, off int) (name []byte, next int, ok bool) {
	name = t.text[:0]
	size, hops := 0, 0
	for start := off; ; {
		if off >= len(b) {
			return name, max(next, len(b)), hops == 0
		}
		n := int(b[off])
		switch {
		case n == 0:
			return name, max(next, off+1), true
		case n < 64 && off+1+n <= len(b) && size+n+1 <= maxName:
			size += n + 1
			name = appendLabel(name, b[off+1:off+1+n])
			off += 1 + n
		case n >= 0xc0 && off+2 <= len(b):
			to := (n&0x3f)<<8 | int(b[off+1])
			next = max(next, off+2)
			if hops++; to >= start || hops > maxHops {
				return nil, 0, false
			}
			start, off = to, to
		default:
			return nil, 0, false
		}
	}
}

// appendLabel escapes what would change the name's structure (RFC 1035, 5.1).
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

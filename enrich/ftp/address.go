package ftp

import (
	"bytes"
	"net/netip"
	"strconv"
)

// hostPort finds "h1,h2,h3,h4,p1,p2" (RFC 959, 4.1.2), around which servers write
// what they like (RFC 1123, 4.1.2.6).
func hostPort(b []byte) netip.AddrPort {
	var n [6]int
	have := 0
	for i := 0; i < len(b); {
		v, digits := number(b[i:])
		if digits == 0 {
			have = 0
			i++
			continue
		}
		i += digits
		if v > 255 {
			have = 0
			continue
		}
		n[have] = v
		if have++; have == len(n) {
			a := netip.AddrFrom4([4]byte{byte(n[0]), byte(n[1]), byte(n[2]), byte(n[3])})
			return netip.AddrPortFrom(a, uint16(n[4]<<8|n[5]))
		}
		if i < len(b) && b[i] == ',' {
			i++
			for i < len(b) && b[i] == ' ' {
				i++
			}
		} else {
			have = 0
		}
	}
	return netip.AddrPort{}
}

// number reads decimal digits. Values that are too large stay so.
func number(b []byte) (v, digits int) {
	for digits < len(b) && b[digits] >= '0' && b[digits] <= '9' {
		v = min(v*10+int(b[digits]-'0'), 1<<16)
		digits++
	}
	return v, digits
}

// extended finds "|1|192.0.2.1|6446|" with any character for "|" (RFC 2428, 2 and
// 3); a reply has the port only.
func extended(b []byte) netip.AddrPort {
	if i := bytes.IndexByte(b, '('); i >= 0 {
		b = b[i+1:]
	}
	if len(b) < 2 {
		return netip.AddrPort{}
	}
	sep := b[:1]
	_, b, _ = bytes.Cut(b[1:], sep)
	host, b, _ := bytes.Cut(b, sep)
	port, _, ok := bytes.Cut(b, sep)
	n, err := strconv.ParseUint(string(port), 10, 16)
	if !ok || err != nil {
		return netip.AddrPort{}
	}
	a, _ := netip.ParseAddr(string(host))
	return netip.AddrPortFrom(a.Unmap().WithZone(""), uint16(n))
}

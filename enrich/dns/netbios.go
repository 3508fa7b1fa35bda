package dns

import (
	"bytes"
	"net/netip"
)

const (
	netbiosName = 16 // the last byte tells the service
	nbstatEntry = netbiosName + 2
)

// netbiosName reports a name in first-level encoding (RFC 1001, 14.1): two letters
// for each byte. A scope follows it as further labels.
func (r *reader) netbiosName(name []byte) {
	if len(name) < 2*netbiosName || len(name) > 2*netbiosName && name[2*netbiosName] != '.' {
		return
	}
	var plain [netbiosName + 2*maxName]byte
	for i := range netbiosName {
		hi, lo := name[2*i]-'A', name[2*i+1]-'A'
		if hi > 15 || lo > 15 {
			return
		}
		plain[i] = hi<<4 | lo
	}
	n := len(trimPadding(plain[:netbiosName-1]))
	if n == 0 || string(plain[:n]) == "*" {
		return
	}
	n += copy(plain[n:], name[2*netbiosName:])
	r.set.LocalHost(plain[:n], r.role(0), r.at)
}

func (r *reader) netbiosData(kind uint16, data []byte) {
	switch kind {
	case typeNB:
		for ; len(data) >= 6; data = data[6:] {
			r.address(netip.AddrFrom4([4]byte(data[2:])))
		}
	case typeSRV:
		if len(data) == 0 {
			return
		}
		for n := int(data[0]); n > 0 && len(data) > nbstatEntry; n-- {
			if name := trimPadding(data[1:netbiosName]); len(name) > 0 {
				r.set.LocalHost(name, r.role(0), r.at)
			}
			data = data[nbstatEntry:]
		}
	}
}

func trimPadding(name []byte) []byte { return bytes.TrimRight(name, " \x00") }

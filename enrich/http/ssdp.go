package http

import (
	"bytes"

	"capagent/enrich/indicator"
)

// Datagram looks at a message of HTTP over UDP, as SSDP has it (UPnP Device
// Architecture 2.0, 1.1).
func Datagram(set *indicator.Set, payload []byte, at indicator.At) {
	if len(payload) > maxHead || len(payload) < 5 {
		return
	}
	line, rest, _ := bytes.Cut(payload, []byte{'\n'})
	var h head
	if !h.startLine(line) || h.response || h.major != '1' {
		return
	}
	if i := headEnd(rest); i >= 0 {
		rest = rest[:i]
	}
	n := notes{text: buffer{bounds: &set.Bounds, limit: LimitHead, most: 2 * maxHead}}
	h.fields(rest, &n)
	n.request(&h)
	n.report(set, indicator.SSDPRole, indicator.SSDPRole, at)
	n.text.free()
}

// headEnd returns where the empty line begins, or -1.
func headEnd(b []byte) int {
	for i := 0; i < len(b); {
		end := bytes.IndexByte(b[i:], '\n')
		if end < 0 {
			break
		}
		if line := b[i : i+end]; len(line) == 0 || len(line) == 1 && line[0] == '\r' {
			return i
		}
		i += end + 1
	}
	return -1
}

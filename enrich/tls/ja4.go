package tls

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"capagent/enrich/indicator"
)

// appendJA4 appends the JA4 of a client, as FoxIO specifies it in
// technical_details/JA4.md (BSD 3-clause; the other fingerprints of that family
// have another licence and are not made here).
func (h *hello) appendJA4(to []byte, role indicator.Role) []byte {
	var numbers [128]uint16 // no client that is known offers more ciphers, or extensions
	var scratch [1024]byte

	ciphers := numbers[:0]
	list := h.ciphers
	for v := uint16(0); list.ReadUint16(&v); {
		if !grease(v) {
			ciphers = append(ciphers, v)
		}
	}
	extensions := 0
	for rest := h.extensions; !rest.Empty(); {
		if !grease(readExtension(&rest)) {
			extensions++
		}
	}

	to = append(to, transport(role))
	to = append(to, h.versionName()...)
	if h.named {
		to = append(to, 'd')
	} else {
		to = append(to, 'i')
	}
	to = appendCount(to, len(ciphers))
	to = appendCount(to, extensions)
	to = h.appendProtocol(to)

	slices.Sort(ciphers)
	to = append(to, '_')
	to = appendDigest(to, appendHexList(scratch[:0], ciphers))
	to = append(to, '_')
	return appendDigest(to, h.appendExtensionList(scratch[:0], numbers[:0]))
}

// appendExtensionList appends the extensions, sorted, without server_name and ALPN,
// and the signature algorithms in their order.
func (h *hello) appendExtensionList(to []byte, kinds []uint16) []byte {
	for rest := h.extensions; !rest.Empty(); {
		if kind := readExtension(&rest); !grease(kind) && kind != extServerName && kind != extALPN {
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) == 0 {
		return to
	}
	slices.Sort(kinds)
	to = appendHexList(to, kinds)
	separator := byte('_')
	list := h.algorithms
	for v := uint16(0); list.ReadUint16(&v); {
		if !grease(v) {
			to = appendHex(append(to, separator), v)
			separator = ','
		}
	}
	return to
}

func transport(role indicator.Role) byte {
	switch role {
	case indicator.QUICClient:
		return 'q'
	case indicator.DTLSClient:
		return 'd'
	default:
		return 't'
	}
}

func (h *hello) versionName() string {
	version := h.highest
	if version == 0 {
		version = h.version
	}
	switch version {
	case 0x0304:
		return "13"
	case 0x0303:
		return "12"
	case 0x0302:
		return "11"
	case 0x0301:
		return "10"
	case 0x0300:
		return "s3"
	case 0x0002:
		return "s2"
	case 0xfeff:
		return "d1"
	case 0xfefd:
		return "d2"
	case 0xfefc:
		return "d3"
	default:
		return "00"
	}
}

// appendProtocol appends the first and the last character of the first protocol
// of ALPN, those of its hex form if one of them is neither a letter nor a digit.
func (h *hello) appendProtocol(to []byte) []byte {
	var p cryptobyte.String
	list := h.protocols
	if !list.ReadUint8LengthPrefixed(&p) || len(p) == 0 {
		return append(to, "00"...)
	}
	first, last := p[0], p[len(p)-1]
	if !alphanumeric(first) || !alphanumeric(last) {
		const digits = "0123456789abcdef"
		first, last = digits[first>>4], digits[last&15]
	}
	return append(to, first, last)
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

func appendCount(to []byte, n int) []byte {
	n = min(n, 99)
	return append(to, byte('0'+n/10), byte('0'+n%10))
}

func appendHexList(to []byte, list []uint16) []byte {
	for i, v := range list {
		if i > 0 {
			to = append(to, ',')
		}
		to = appendHex(to, v)
	}
	return to
}

func appendHex(to []byte, v uint16) []byte {
	return hex.AppendEncode(to, []byte{byte(v >> 8), byte(v)})
}

// appendDigest appends the first half of a SHA-256, or zeros of an empty list.
func appendDigest(to, list []byte) []byte {
	if len(list) == 0 {
		return append(to, "000000000000"...)
	}
	sum := sha256.Sum256(list)
	return hex.AppendEncode(to, sum[:6])
}

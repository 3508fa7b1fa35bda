package tls

import (
	"crypto/md5" //nolint:gosec // JA3 is defined as an MD5 sum
	"strconv"

	"golang.org/x/crypto/cryptobyte"

	"capagent/enrich/indicator"
)

// The extensions that are looked into (IANA, TLS ExtensionType Values).
const (
	extServerName          = 0
	extSupportedGroups     = 10
	extPointFormats        = 11
	extSignatureAlgorithms = 13
	extALPN                = 16
	extSupportedVersions   = 43
)

// hello is what is of interest in a ClientHello. It points into the message.
type hello struct {
	version    uint16
	ciphers    cryptobyte.String
	extensions cryptobyte.String

	names      cryptobyte.String // ServerNameList, of the first server_name extension
	named      bool              // there is a server_name extension
	groups     cryptobyte.String
	formats    cryptobyte.String
	algorithms cryptobyte.String
	protocols  cryptobyte.String // ALPN
	highest    uint16            // of supported_versions
}

// ClientHello reads the body of a ClientHello message (RFC 8446 4.1.2, RFC 6347
// 4.2.1 for DTLS) and counts the server's name, the JA3 and the JA4 of it. The
// role is one of TLSClient, QUICClient and DTLSClient. It says whether the body
// is well-formed down to the borders of its extensions; what is inside an
// extension may be damaged, and is then left out alone.
//
// Of an encrypted ClientHello, that is what an observer sees: the outer one.
func ClientHello(set *indicator.Set, body []byte, role indicator.Role, at indicator.At) bool {
	var h hello
	if !h.read(body, role == indicator.DTLSClient) {
		return false
	}
	for names := h.names; !names.Empty(); {
		var kind uint8
		var name cryptobyte.String
		if !names.ReadUint8(&kind) || !names.ReadUint16LengthPrefixed(&name) {
			break
		}
		if kind == 0 { // host_name, the only one there is (RFC 6066 3)
			set.Host(name, role, at)
		}
	}
	var scratch [2048]byte // enough for the hellos of every client that is known
	set.JA3(md5.Sum(h.appendJA3(scratch[:0])), role, at)
	set.JA4(h.appendJA4(scratch[:0], role), role, at)
	return true
}

func (h *hello) read(body []byte, dtls bool) bool {
	s := cryptobyte.String(body)
	var passed cryptobyte.String
	if !s.ReadUint16(&h.version) || !s.Skip(32) || !s.ReadUint8LengthPrefixed(&passed) {
		return false
	}
	if dtls && !s.ReadUint8LengthPrefixed(&passed) { // the cookie
		return false
	}
	if !s.ReadUint16LengthPrefixed(&h.ciphers) || !s.ReadUint8LengthPrefixed(&passed) {
		return false
	}
	if s.Empty() { // as in SSL 3.0
		return true
	}
	return s.ReadUint16LengthPrefixed(&h.extensions) && h.readExtensions()
}

func (h *hello) readExtensions() bool {
	for rest := h.extensions; !rest.Empty(); {
		var kind uint16
		var data cryptobyte.String
		if !rest.ReadUint16(&kind) || !rest.ReadUint16LengthPrefixed(&data) {
			return false
		}
		switch kind {
		case extServerName:
			if !h.named {
				data.ReadUint16LengthPrefixed(&h.names)
			}
			h.named = true
		case extSupportedGroups:
			data.ReadUint16LengthPrefixed(&h.groups)
		case extPointFormats:
			data.ReadUint8LengthPrefixed(&h.formats)
		case extSignatureAlgorithms:
			data.ReadUint16LengthPrefixed(&h.algorithms)
		case extALPN:
			data.ReadUint16LengthPrefixed(&h.protocols)
		case extSupportedVersions:
			h.readVersions(data)
		}
	}
	return true
}

// readVersions finds the highest version that is offered. Those of DTLS count
// down, so that is not its newest; JA4 asks for the highest value all the same.
func (h *hello) readVersions(data cryptobyte.String) {
	var list cryptobyte.String
	data.ReadUint8LengthPrefixed(&list)
	var v uint16
	for list.ReadUint16(&v) {
		if !grease(v) {
			h.highest = max(h.highest, v)
		}
	}
}

// grease says whether v is one of the values that mean nothing (RFC 8701).
func grease(v uint16) bool { return v&0x0f0f == 0x0a0a && v>>8 == v&0xff }

// appendJA3 appends the text whose MD5 sum is the JA3, as Wireshark makes it
// (https://github.com/salesforce/ja3): all in the order of the hello, GREASE left
// out.
func (h *hello) appendJA3(to []byte) []byte {
	to = append(strconv.AppendUint(to, uint64(h.version), 10), ',')
	to = append(appendDecimals(to, h.ciphers), ',')
	start := len(to)
	for rest := h.extensions; !rest.Empty(); {
		kind := readExtension(&rest)
		if grease(kind) {
			continue
		}
		if len(to) > start {
			to = append(to, '-')
		}
		to = strconv.AppendUint(to, uint64(kind), 10)
	}
	to = append(appendDecimals(append(to, ','), h.groups), ',')
	for i, f := range h.formats {
		if i > 0 {
			to = append(to, '-')
		}
		to = strconv.AppendUint(to, uint64(f), 10)
	}
	return to
}

// readExtension returns the type of the next of extensions whose borders are
// known to be right.
func readExtension(rest *cryptobyte.String) (kind uint16) {
	var data cryptobyte.String
	rest.ReadUint16(&kind)
	rest.ReadUint16LengthPrefixed(&data)
	return kind
}

// appendDecimals appends a list of 16-bit numbers without GREASE.
func appendDecimals(to []byte, list cryptobyte.String) []byte {
	start := len(to)
	for v := uint16(0); list.ReadUint16(&v); {
		if grease(v) {
			continue
		}
		if len(to) > start {
			to = append(to, '-')
		}
		to = strconv.AppendUint(to, uint64(v), 10)
	}
	return to
}

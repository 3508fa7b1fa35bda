package cloudsharktest

import (
	"encoding/binary"
	"fmt"
)

// isTLS says whether data begins with a TLS record's header.
func isTLS(data []byte) bool {
	return len(data) >= 5 && data[0] >= 20 && data[0] <= 23 && data[1] == 3 && data[2] <= 4
}

// tlsInfo names the first record of data.
func tlsInfo(data []byte) string {
	switch data[0] {
	case 20:
		return "Change Cipher Spec"
	case 21:
		return "Alert"
	case 23:
		return "Application Data"
	}
	if len(data) < 6 {
		return "Handshake"
	}
	switch data[5] {
	case 1:
		if name := serverName(data); name != "" {
			return fmt.Sprintf("Client Hello (SNI=%s)", name)
		}
		return "Client Hello"
	case 2:
		return "Server Hello"
	case 11:
		return "Certificate"
	default:
		return "Handshake"
	}
}

// fields cuts a message into its parts; once a part is missing all that follow
// are empty.
type fields []byte

func (f *fields) take(n int) fields {
	if n > len(*f) {
		*f = nil
		return nil
	}
	out := (*f)[:n]
	*f = (*f)[n:]
	return out
}

// vector takes a part that is preceded by its length in size bytes.
func (f *fields) vector(size int) fields {
	n := 0
	for _, b := range f.take(size) {
		n = n<<8 | int(b)
	}
	return f.take(n)
}

// serverName finds the name in a ClientHello (RFC 8446 4.1.2, RFC 6066 3), or
// "" when it is not in this segment.
func serverName(data []byte) string {
	f := fields(data)
	f.take(5 + 4 + 2 + 32) // record, handshake, version, random
	f.vector(1)            // session id
	f.vector(2)            // cipher suites
	f.vector(1)            // compression methods
	f.take(2)              // length of the extensions, which may go beyond this segment
	for len(f) >= 4 {
		kind := binary.BigEndian.Uint16(f.take(2))
		body := f.vector(2)
		if kind == 0 {
			body.take(3) // list length, name type
			return string(body.vector(2))
		}
	}
	return ""
}

package quic

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
)

// version is what differs from one version of QUIC to the other in the packets
// that are read here.
type version struct {
	salt    string
	initial byte   // the long packet type of Initial
	prefix  string // of the labels from which keys are derived
	or      *version
}

// The salts, and what belongs to them: RFC 9001 5.2, RFC 9369 3.3, and the same
// section of draft-ietf-quic-tls. The last two are of Google's QUIC with TLS.
var (
	version1    = version{salt: "\x38\x76\x2c\xf7\xf5\x59\x34\xb3\x4d\x17\x9a\xe6\xa4\xc8\x0c\xad\xcc\xbb\x7f\x0a", prefix: "quic "}
	version2    = version{salt: "\x0d\xed\xe3\xde\xf7\x00\xa6\xdb\x81\x93\x81\xbe\x6e\x26\x9d\xcb\xf9\xbd\x2e\xd9", prefix: "quicv2 ", initial: 1}
	draft29     = version{salt: "\xaf\xbf\xec\x28\x99\x93\xd2\x4c\x9e\x97\x86\xf1\x9c\x61\x11\xe0\x43\x90\xa8\x99", prefix: "quic "}
	draft23     = version{salt: "\xc3\xee\xf7\x12\xc7\x2e\xbb\x5a\x11\xa7\xd2\x43\x2b\xb4\x63\x65\xbe\xf9\xf5\x02", prefix: "quic "}
	draft22     = version{salt: "\x7f\xbc\xdb\x0e\x7c\x66\xbb\xe9\x19\x3a\x96\xcd\x21\x51\x9e\xbd\x7a\x02\x64\x4a", prefix: "quic "}
	googleTLS50 = version{salt: "\x7f\xf5\x79\xe5\xac\xd0\x72\x91\x55\x80\x30\x4c\x43\xa2\x36\x7c\x60\x48\x83\x10", prefix: "quic "}
	reserved    = version{salt: version1.salt, prefix: version1.prefix, or: &draft29}
	googleTLS51 = version{salt: "\x7a\x4e\xde\xf4\xe7\xcc\xee\x5f\xa4\x50\x6c\x19\x12\x4f\xc8\xcc\xda\x6e\x03\x3d", prefix: "quic "}
)

// known returns what a version number stands for, nil if nothing that is known.
func known(number uint32) *version {
	if number&0x0f0f0f0f == 0x0a0a0a0a {
		return &reserved // it makes a server say which ones it has (RFC 9000 15); the keys are those of a version that the client has
	}
	switch number {
	case 1, 0xff000021, 0xff000022: // drafts 33 and 34 are version 1 in all but the number
		return &version1
	case 0x6b3343cf:
		return &version2
	case 0xff00001d, 0xff00001e, 0xff00001f, 0xff000020:
		return &draft29
	case 0xff000017, 0xff000018, 0xff000019, 0xff00001a, 0xff00001b, 0xff00001c, 0xfaceb002, 0xfaceb00e:
		return &draft23
	case 0xff000016, 0xfaceb001:
		return &draft22
	case 0x54303530:
		return &googleTLS50
	case 0x54303531:
		return &googleTLS51
	default:
		return nil
	}
}

// keys are what opens a client's Initial packets.
type keys struct {
	header cipher.Block
	packet cipher.AEAD
	iv     [12]byte
}

// derive makes the keys of a client's Initial packets from the Destination
// Connection ID that it chose (RFC 9001 5.2).
func derive(v *version, id []byte) (*keys, error) {
	secret, err := hkdf.Extract(sha256.New, id, []byte(v.salt))
	if err != nil {
		return nil, err
	}
	client, err := expand(secret, "client in", sha256.Size)
	if err != nil {
		return nil, err
	}
	var k keys
	if k.header, err = newBlock(client, v.prefix+"hp"); err != nil {
		return nil, err
	}
	block, err := newBlock(client, v.prefix+"key")
	if err != nil {
		return nil, err
	}
	if k.packet, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	iv, err := expand(client, v.prefix+"iv", len(k.iv))
	copy(k.iv[:], iv)
	return &k, err
}

func newBlock(secret []byte, label string) (cipher.Block, error) {
	key, err := expand(secret, label, 16)
	if err != nil {
		return nil, err
	}
	return aes.NewCipher(key)
}

// expand is HKDF-Expand-Label (RFC 8446 7.1) without a context.
func expand(secret []byte, label string, size int) ([]byte, error) {
	label = "tls13 " + label
	return hkdf.Expand(sha256.New, secret, string([]byte{byte(size >> 8), byte(size), byte(len(label))})+label+"\x00", size)
}

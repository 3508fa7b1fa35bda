package quic_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
)

// seal makes Initial packets, as a client does. It is written from RFC 9001 and
// RFC 9369 alone, and tested against the packets in their appendices.
type seal struct {
	version uint32
	salt    string
	labels  string
	kind    byte // the packet type, in its place in the first byte
	key     []byte
}

func version1(id []byte) seal {
	return seal{1, "38762cf7f55934b34d179ae6a4c80cadccbb7f0a", "quic", 0, id}
}

func version2(id []byte) seal {
	return seal{0x6b3343cf, "0dede3def700a6db819381be6e269dcbf9bd2ed9", "quicv2", 0x10, id}
}

func draft29(id []byte) seal {
	return seal{0xff00001d, "afbfec289993d24c9e9786f19c6111e04390a899", "quic", 0, id}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func label(secret []byte, name string, n int) []byte {
	info := []byte{0, byte(n), byte(6 + len(name))}
	info = append(append(info, "tls13 "+name...), 0)
	return must(hkdf.Expand(sha256.New, secret, string(info), n))
}

// packet makes an Initial packet with a packet number of n bytes.
func (s seal) packet(id, source, token []byte, number uint64, n int, frames []byte) []byte {
	secret := must(hkdf.Extract(sha256.New, s.key, must(hex.DecodeString(s.salt))))
	secret = label(secret, "client in", 32)
	gcm := must(cipher.NewGCM(must(aes.NewCipher(label(secret, s.labels+" key", 16)))))
	nonce := label(secret, s.labels+" iv", 12)
	header := must(aes.NewCipher(label(secret, s.labels+" hp", 16)))

	b := binary.BigEndian.AppendUint32([]byte{0xc0 | s.kind | byte(n-1)}, s.version)
	b = append(append(b, byte(len(id))), id...)
	b = append(append(b, byte(len(source))), source...)
	b = append(append(b, byte(len(token))), token...)
	b = binary.BigEndian.AppendUint16(b, uint16(0x4000|n+len(frames)+16))
	at := len(b)
	b = append(b, binary.BigEndian.AppendUint64(nil, number)[8-n:]...)
	for i := range 8 {
		nonce[4+i] ^= byte(number >> (56 - 8*i))
	}
	b = gcm.Seal(b, nonce, frames, bytes.Clone(b))
	var mask [16]byte
	header.Encrypt(mask[:], b[at+4:])
	b[0] ^= mask[0] & 0x0f
	for i := range n {
		b[at+i] ^= mask[1+i]
	}
	return b
}

// crypto makes a CRYPTO frame.
func crypto(offset int, data []byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{6}, uint16(0x4000|offset))
	b = binary.BigEndian.AppendUint16(b, uint16(0x4000|len(data)))
	return append(b, data...)
}

func pad(b []byte, n int) []byte { return append(b, make([]byte, n-len(b))...) }

var (
	rfcID = must(hex.DecodeString("8394c8f03e515708"))

	// rfcHello is the ClientHello of RFC 9001 A.2.
	rfcHello = must(hex.DecodeString(strings.ReplaceAll(`
		010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c00000413011302010000c0
		00000010000e00000b6578616d706c652e636f6dff01000100000a00080006001d0017001800100007000504616c706e
		000500050100000000003300260024001d00209370b2c9caa47fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d748
		002b0003020304000d0010000e0403050306030203080408050806002d00020101001c00024001
		003900320408ffffffffffffffff05048000ffff07048000ffff0801100104800075300901100f088394c8f03e51570806048000ffff`[1:], "\n\t\t", "")[2:]))
)

func rfcFrames() []byte { return pad(append([]byte{6, 0, 0x40, 0xf1}, rfcHello...), 1162) }

func TestSealMakesThePacketsOfTheRFCs(t *testing.T) {
	for name, tc := range map[string]struct {
		seal          seal
		start, middle string
		end           string
	}{
		"RFC 9001 A.2": {
			version1(rfcID), "c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11",
			"d242b123dc9bd8bab936b47d92ec356c0bab7df5976d27cd449f63300099f399", "e221af44860018ab0856972e194cd934",
		},
		"RFC 9369 A.2": {
			version2(rfcID), "d76b3343cf088394c8f03e5157080000449ea0c95e82ffe67b6abcdb4298b485",
			"dd04de806071bf03dceebfa162e75d6c96058bdbfb127cdfcbf903388e99ad04", "a262ccde96ba18b2faa745b6fe189cf772a9f84cbfc",
		},
	} {
		b := hex.EncodeToString(tc.seal.packet(rfcID, nil, nil, 2, 4, rfcFrames()))
		if len(b) != 2400 || !strings.HasPrefix(b, tc.start+tc.middle) || !strings.HasSuffix(b, tc.end) {
			t.Errorf("%s: %d digits, %s…%s", name, len(b), b[:128], b[len(b)-42:])
		}
	}
}

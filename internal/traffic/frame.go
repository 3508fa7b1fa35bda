package traffic

import (
	"encoding/binary"
)

// Every packet's UDP payload begins with magic and its number, both of 8 bytes.
const (
	magic     = "\xca\x9a\x6e\x27capt"
	markAt    = 14 + 20 + 8 // where it begins in a frame without tags
	numberAt  = markAt + len(magic)
	headBytes = numberAt + 8
)

// imix are the sizes of a simple internet mix.
var imix = [12]int{64, 64, 570, 64, 64, 570, 64, 570, 64, 64, 570, 1514}

// MinSize is the size of the smallest frame with so many tags.
func MinSize(tags int) int { return max(60, headBytes) + 4*tags }

// frames makes the frames that are sent in turn: number n goes out as frame n
// modulo their count. There are at least `least` of them.
func frames(l Load, least int) [][]byte {
	n := l.Flows
	if l.Size == 0 {
		n *= len(imix)
	}
	if n < least {
		n *= (least + n - 1) / n
	}
	list := make([][]byte, n)
	for i := range list {
		size := l.Size
		if size == 0 {
			size = max(imix[i%len(imix)], MinSize(len(l.Tags)))
		}
		list[i] = frame(size, i%l.Flows, l.Tags)
	}
	return list
}

func frame(size, flow int, tags []Tag) []byte {
	be := binary.BigEndian
	b := make([]byte, size)
	copy(b, []byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1})
	at := 12
	for _, tag := range tags {
		if tag.TPID == 0 {
			tag.TPID = 0x8100
		}
		be.PutUint16(b[at:], tag.TPID)
		be.PutUint16(b[at+2:], tag.TCI)
		at += 4
	}
	be.PutUint16(b[at:], 0x0800)
	ip := b[at+2:]
	ip[0] = 0x45
	be.PutUint16(ip[2:], uint16(min(len(ip), 65535)))
	be.PutUint16(ip[4:], uint16(flow))
	ip[8], ip[9] = 64, 17
	copy(ip[12:], []byte{10, 99, 0, 1, 10, 99, 0, 2})
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(be.Uint16(ip[i:]))
	}
	be.PutUint16(ip[10:], ^uint16(sum>>16+sum&0xffff))
	udp := ip[20:]
	be.PutUint16(udp, uint16(10000+flow))
	be.PutUint16(udp[2:], 9) // discard
	be.PutUint16(udp[4:], uint16(min(len(udp), 65515)))
	copy(udp[8:], magic)
	for i := 24; i < len(udp); i++ {
		udp[i] = byte(i*7 + flow)
	}
	return b
}

// number writes a packet's number into its frame.
func number(frame []byte, tags int, n uint64) {
	binary.BigEndian.PutUint64(frame[numberAt+4*tags:], n)
}

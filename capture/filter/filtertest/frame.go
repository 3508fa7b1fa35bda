// Package filtertest judges package filter by libpcap: it makes random
// expressions and packets for them, has libpcap compile the same expressions,
// runs both programs in an interpreter of its own, and reduces what they disagree
// about to a small case. It shares nothing with the compiler that it judges.
package filtertest

import "fmt"

// Frame is a packet as a program sees it.
type Frame struct {
	Data   []byte // captured, from where the program's offsets count
	Length uint32 // on the wire
	Aux    *Aux   // what a Linux socket buffer knows beside the bytes; nil: a file's packet
}

// Aux are the fields that a program on a Linux socket loads from the socket
// buffer (SKF_AD_).
type Aux struct {
	Protocol uint16 // EtherType
	PktType  uint8  // PACKET_HOST, PACKET_OUTGOING …
	IfIndex  uint32
	HaType   uint16 // ARPHRD_
	HasTag   bool   // the kernel took a VLAN tag out
	TCI      uint16 // of that tag
	TPID     uint16
}

func (f Frame) String() string {
	s := fmt.Sprintf("%x", f.Data)
	if f.Length != uint32(len(f.Data)) {
		s += fmt.Sprintf(" len=%d", f.Length)
	}
	if a := f.Aux; a != nil {
		s += fmt.Sprintf(" proto=%#04x type=%d if=%d ha=%d", a.Protocol, a.PktType, a.IfIndex, a.HaType)
		if a.HasTag {
			s += fmt.Sprintf(" tag=%#04x tpid=%#04x", a.TCI, a.TPID)
		}
	}
	return s
}

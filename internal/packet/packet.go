// Package packet holds what captures and writers hand to each other: packets in
// batches, what is known of the interfaces they came from, and what was missed.
package packet

// Packet is one packet as it was seen on an interface. A batch is a []Packet
// that its reader owns and that a source fills again and again, so that nothing
// is allocated per packet.
type Packet struct {
	// Time is when it was seen, in nanoseconds since 1970 UTC.
	Time int64
	// Data is what was captured of it, from the link-layer header on, VLAN tags
	// in their place. It points into the source's memory and is valid until the
	// source is read again.
	Data []byte
	// Length is how long it was, in bytes; never less than len(Data).
	Length uint32
	// Interface is where it was seen: an index into the source's interfaces.
	Interface uint32
}

// Interface is what a capture file says of an interface.
type Interface struct {
	Name        string
	Description string
	LinkType    int    // LINKTYPE_ number (tcpdump.org/linktypes.html)
	SnapLen     uint32 // bytes kept of a packet at most; 0: no limit
	Filter      string // as the user wrote it; "": none
	MAC         []byte // 6 bytes, or none
	Speed       uint64 // bits per second; 0: not known
}

// Stats counts what an interface brought since the capture began. Counters only
// grow; a packet that the filter refused is in none of them.
type Stats struct {
	Received uint64 // handed over by the kernel, Dropped left out
	Dropped  uint64 // lost by the kernel for want of room
}

// Package traffic makes network traffic that tells on its own whether all of it
// was captured: two network namespaces joined by a veth pair (Pair), a sender
// whose packets are numbered (Send, Linux only), and a look at a capture file for
// numbers that are missing, doubled or out of order (Check). It is for tests and
// benchmarks; Pair and Send need root.
package traffic

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Side is one end of a Pair.
type Side int

// Load is sent from TX and captured on RX.
const (
	TX Side = iota
	RX
)

func (s Side) String() string { return [...]string{"tx", "rx"}[s] }

// Interface is the interface's name on that side; each has a namespace of its own.
func (s Side) Interface() string { return "veth" + s.String() }

// Options say what a Pair is like. The zero value is what measurements use: no
// addresses, no packets but those that are sent, no offloads.
type Options struct {
	Prefix    string          // of the namespaces' names; "": "cbn_"
	MTU       int             // bytes; 0: 9000
	Addresses [2]netip.Prefix // by Side; ARP is off without, IPv6 is off unless one of them is
	Offloads  bool            // checksums, segmentation and GRO are the interfaces'
}

// Counters are an interface's own, since it was created.
type Counters struct {
	RxPackets, RxBytes, RxDropped uint64
	TxPackets, TxBytes, TxDropped uint64
}

// Load says what to send: UDP over IPv4. It ends with Count or Duration,
// whichever comes first; one of them must be given.
type Load struct {
	Size     int           // bytes of a frame, tags included, FCS not: MinSize to 65536; 0: IMIX (64, 570, 1514 as 7:4:1)
	Rate     float64       // packets per second; 0: as fast as it goes
	Count    uint64        // packets; 0: no bound
	Duration time.Duration // 0: no bound
	Flows    int           // different source ports, 1 to 50000; 0: 256
	Tags     []Tag         // VLAN tags, the outer one first; at most 4
	First    uint64        // number of the first packet
	CPUs     []int         // to which the sending thread is bound; none: not bound
	// XDP injects the packets into the receive path of the interface, as a
	// network card would, faster than veth can carry them: frames of one size
	// that fits a page, without tags. A Rate is kept in bursts, ten a second.
	XDP bool
}

// Tag is a VLAN tag.
type Tag struct {
	TPID uint16 // 0: 0x8100
	TCI  uint16 // priority, DEI and VLAN number
}

// Sent is what became of a Load.
type Sent struct {
	Packets, Bytes uint64        // that the kernel took
	Refused        uint64        // times that it did not; these packets were offered again
	Elapsed        time.Duration // from the first packet to the last
	CPU            time.Duration // of the sending thread, the kernel's share included
}

// Rate is packets per second.
func (s Sent) Rate() float64 {
	if s.Elapsed <= 0 {
		return 0
	}
	return float64(s.Packets) / s.Elapsed.Seconds()
}

const (
	maxTags  = 4
	maxFlows = 50_000
	maxSize  = 65536
)

var errNoEnd = errors.New("load has neither a count nor a duration")

// withDefaults checks l and puts in what was left out.
func (l Load) withDefaults() (Load, error) {
	if l.Flows == 0 {
		l.Flows = 256
	}
	switch {
	case l.Count == 0 && l.Duration <= 0:
		return l, errNoEnd
	case l.Flows < 1 || l.Flows > maxFlows:
		return l, fmt.Errorf("%d flows: 1 to %d are possible", l.Flows, maxFlows)
	case len(l.Tags) > maxTags:
		return l, fmt.Errorf("%d tags: at most %d are possible", len(l.Tags), maxTags)
	case l.Rate < 0:
		return l, fmt.Errorf("rate %v is negative", l.Rate)
	case l.XDP && (l.Size == 0 || len(l.Tags) > 0):
		return l, errors.New("XDP sends frames of one size without tags")
	case l.Size != 0 && (l.Size < MinSize(len(l.Tags)) || l.Size > maxSize):
		return l, fmt.Errorf("frames of %d bytes: %d to %d are possible", l.Size, MinSize(len(l.Tags)), maxSize)
	}
	return l, nil
}

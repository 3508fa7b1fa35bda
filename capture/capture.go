// Package capture takes packets from network interfaces. It says what an engine
// is; the engines are in its subpackages, and capture/live chooses one.
package capture

import (
	"context"
	"time"

	"capagent/internal/packet"
)

// Source hands over packets. One goroutine reads it; Interfaces and Stats may be
// asked by others meanwhile.
type Source interface {
	// Read fills batch with the packets that came next and returns how many.
	// Their Data is valid until the next Read. 0 with a nil error means that
	// nothing came for a while (Idle at most): time to look around. After the
	// context that opened the source has ended, Read hands over what the kernel
	// still holds and then returns io.EOF. Any other error is the end too.
	Read(batch []packet.Packet) (int, error)
	// Interfaces tells where packets come from; Packet.Interface counts in it.
	// It never shrinks; one that was created again with another link type is
	// added at its end.
	Interfaces() []packet.Interface
	// Stats has one element for each element of Interfaces.
	Stats() []packet.Stats
	// Close gives everything back. Nobody reads any more.
	Close() error
}

// Idle is the longest time for which Read waits for a packet.
const Idle = 250 * time.Millisecond

// Options say what to capture. The zero value of each field is its default.
type Options struct {
	Interfaces []string      // names as the system has them; "any" stands alone
	Filter     string        // pcap-filter(7); "": everything
	SnapLen    uint32        // bytes kept of each packet; 0: MaxSnapLen
	NoPromisc  bool          // only what is meant for this host
	Buffer     int64         // bytes of kernel buffer for all interfaces together; 0: DefaultBuffer
	Retire     time.Duration // after which the kernel hands over a block that is not full; 0: DefaultRetire
	Fanout     int           // rings (and so CPUs) that share an interface's packets; 0: one
	Blind      time.Duration // without a packet while the interface counts some: an event; 0: DefaultBlind, < 0: never
	Own        *Flows        // connections whose packets are left out; nil: none
	// Socket opens packet sockets on Linux, for a process that may not; nil: it does so
	// itself. The file descriptor does not block and is closed on exec.
	Socket func(cooked bool) (fd int, err error)
	Event  func(Event) // is told what happens to the interfaces; by the reader, so it must not wait
}

// Bounds and defaults of Options.
const (
	MaxSnapLen    = 262144
	DefaultBuffer = 64 << 20
	DefaultRetire = 100 * time.Millisecond
	DefaultBlind  = time.Minute
)

// Event is something that happened to an interface.
type Event struct {
	Kind      EventKind
	Interface string        // its name now
	Was       string        // its name before, where it was renamed
	Time      time.Time     // when it was noticed
	Gap       time.Duration // for Back and Up: how long nothing could be captured
	Err       error         // the cause, where there is one
}

// EventKind is what happened.
type EventKind string

// What happens to interfaces.
const (
	Down    EventKind = "down"    // administratively down; it stays open
	Up      EventKind = "up"      // again
	Gone    EventKind = "gone"    // removed; it is waited for
	Back    EventKind = "back"    // created again and open; Gap tells what is missing
	Renamed EventKind = "renamed" // the same interface goes on under another name
	Blind   EventKind = "blind"   // it counts packets but none arrives here
	Seeing  EventKind = "seeing"  // no more blind
)

// Opener opens a Source that ends with ctx. Each engine has one.
type Opener func(ctx context.Context, o Options) (Source, error)

// Package stream is what the reassembly of TCP and the parsers of what runs over
// it have in common: a connection's two sides, and what a parser is told.
package stream

import (
	"net/netip"

	"capagent/enrich/indicator"
)

// Side is who sent something.
type Side uint8

// The sides. The client is who sent the first SYN; where no SYN was seen, the
// side with the higher port.
const (
	Client Side = iota
	Server
)

// Other returns the other side.
func (s Side) Other() Side { return s ^ 1 }

// Conn is a connection.
type Conn struct {
	Client, Server netip.AddrPort
	Middle         bool // its beginning was not captured
}

// Verdict is what a parser wants of the rest of a connection.
type Verdict uint8

// The verdicts.
const (
	More  Verdict = iota // go on
	Done                 // nothing that follows is of interest: Close comes next
	Again                // what follows is another protocol, to be recognised anew: Close comes next
)

// Parser follows one connection. All calls come from one goroutine, those of a
// side in the order of its bytes. at is always the frame with which the bytes
// were complete: that in which they came, or in which the last gap before them
// was filled. A parser holds no slice that it is given.
//
// What is buffered is taken from the analysis' Bounds before, and given back by
// Close at the latest.
type Parser interface {
	// Data hands over the next bytes of a side.
	Data(from Side, b []byte, at indicator.At) Verdict
	// Gap tells that bytes of a side are missing, for good: the next ones come
	// after them. n is how many, or 0 where nobody knows.
	Gap(from Side, n int64, at indicator.At) Verdict
	// End tells that a side has sent everything: its FIN came, and what was
	// before it. Nothing of that side follows.
	End(from Side, at indicator.At)
	// Close is the last call: after both Ends, a reset, the end of the capture, a
	// verdict, or when the connection had to be forgotten.
	Close(at indicator.At)
}

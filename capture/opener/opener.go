// Package opener keeps the right to capture in a process of its own. The agent that
// reads packets and holds secrets has no capability; a child of it holds CAP_NET_RAW,
// knows nothing, and does one thing: it opens packet sockets and hands them over.
//
// What a socket needs after it was opened (its ring, its filter, its interface) the
// kernel lets everybody do who has it (packet(7)).
package opener

import "errors"

// ErrUnsupported says that this system, or this build, can't be split so.
var ErrUnsupported = errors.New("the right to capture can't be kept apart here")

// Argument is the command of the program that runs Serve.
const Argument = "packet-sockets"

// A request is one byte.
const (
	askRaw    = 'r' // SOCK_RAW
	askCooked = 'c' // SOCK_DGRAM: without link-layer headers
)

package watch

import (
	"errors"
	"time"
)

// state is what a look at an open file tells of its writers.
type state uint8

const (
	closed  state = iota // no process has it open for writing
	written              // somebody has
	young                // nobody has, but a further change might not show in its times yet
	unsure               // the system can't say
)

// The delays until the next look at a file that is open for writing, and at
// one that couldn't be judged.
const (
	firstDelay = 20 * time.Millisecond
	lastDelay  = time.Second
	longDelay  = time.Minute
	patience   = 10                   // quiet times after which a file that is rewritten again and again is taken
	youngDelay = 4 * time.Millisecond // a tick of most kernels
)

// What inspecting a file can end in, apart from errors of the system.
var (
	errLink  = errors.New("symbolic link")
	errLinks = errors.New(hardLink)
)

const hardLink = "hard link (more than one name)"

// grow returns the delay after d.
func grow(d, longest time.Duration) time.Duration {
	return min(max(2*d, firstDelay), longest)
}

//go:build unix

package httpx

import "golang.org/x/sys/unix"

// How the system says that a connection was cut, and that none was accepted.
var (
	cut     = []error{unix.ECONNRESET, unix.EPIPE}
	refused = []error{unix.ECONNREFUSED}
)

package httpx

import "golang.org/x/sys/windows"

// How the system says that a connection was cut, and that none was accepted.
var (
	cut     = []error{windows.WSAECONNRESET, windows.WSAECONNABORTED}
	refused = []error{windows.WSAECONNREFUSED}
)

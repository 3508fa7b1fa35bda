package httpx

import "golang.org/x/sys/windows"

// errInUse is that of a port which somebody else has.
const errInUse = windows.WSAEADDRINUSE

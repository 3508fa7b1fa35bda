//go:build !linux && !darwin

package httpx

import "net"

// limitUnsent does nothing: this system has no such option.
func limitUnsent(*net.TCPConn) {}

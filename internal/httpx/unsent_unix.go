//go:build linux || darwin

package httpx

import (
	"net"

	"golang.org/x/sys/unix"
)

// maxUnsent is how many bytes the kernel holds that it has not sent yet: few, so
// that "no byte moved" is true of the line, and not of a buffer that takes a
// minute to drain. What is on its way is not bounded by it.
const maxUnsent = 256 << 10

func limitUnsent(c *net.TCPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return // it is closed
	}
	_ = raw.Control(func(fd uintptr) {
		// Without the option everything works, less exactly.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, maxUnsent)
	})
}

//go:build unix

package pcapfile

import "golang.org/x/sys/unix"

const noFollow = unix.O_NOFOLLOW | unix.O_NONBLOCK // a FIFO doesn't block

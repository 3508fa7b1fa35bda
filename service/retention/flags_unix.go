//go:build unix

package retention

import "syscall"

const nonblock = syscall.O_NONBLOCK

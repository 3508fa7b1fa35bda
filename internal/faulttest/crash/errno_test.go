//go:build linux

package crash

import (
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// errnosFor are the errors that a call may meet in real life, the most telling
// one first.
func errnosFor(call, path string) []syscall.Errno {
	switch {
	case path == "socket":
		return []syscall.Errno{unix.ECONNRESET, unix.EPIPE, unix.ETIMEDOUT, unix.ENOBUFS}
	case call == "connect":
		return []syscall.Errno{unix.ECONNREFUSED, unix.ETIMEDOUT, unix.ENETUNREACH, unix.EADDRNOTAVAIL, unix.EMFILE}
	case call == "inotify_add_watch":
		return []syscall.Errno{unix.ENOSPC, unix.EACCES, unix.ENOMEM}
	case strings.HasPrefix(call, "open"), call == "creat":
		return []syscall.Errno{unix.EMFILE, unix.EIO, unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EACCES, unix.EINTR}
	case strings.HasPrefix(call, "rename"), strings.HasPrefix(call, "link"):
		return []syscall.Errno{unix.EIO, unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EACCES, unix.EXDEV}
	case strings.HasPrefix(call, "unlink"), call == "rmdir":
		return []syscall.Errno{unix.EIO, unix.EROFS, unix.EACCES, unix.EPERM}
	case strings.HasPrefix(call, "mkdir"):
		return []syscall.Errno{unix.ENOSPC, unix.EIO, unix.EDQUOT, unix.EROFS, unix.EACCES}
	case call == "fsync", call == "fdatasync":
		return []syscall.Errno{unix.EIO, unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EINTR}
	default:
		return []syscall.Errno{unix.ENOSPC, unix.EIO, unix.EDQUOT, unix.EROFS, unix.EINTR}
	}
}

func errnoName(e syscall.Errno) string { return unix.ErrnoName(e) }

//go:build unix

package ledger

import "golang.org/x/sys/unix"

var (
	errnoFull     = []error{unix.ENOSPC, unix.EDQUOT}
	errnoReadOnly = []error{unix.EROFS}
	errnoIO       = []error{unix.EIO}
	errnoFiles    = []error{unix.EMFILE, unix.ENFILE}
	errnoBusy     = []error{unix.EBUSY, unix.ETXTBSY}
)

package ledger

import "golang.org/x/sys/windows"

var (
	errnoFull     = []error{windows.ERROR_DISK_FULL, windows.ERROR_HANDLE_DISK_FULL, windows.ERROR_DISK_QUOTA_EXCEEDED}
	errnoReadOnly = []error{windows.ERROR_WRITE_PROTECT}
	errnoIO       = []error{windows.ERROR_IO_DEVICE, windows.ERROR_CRC, windows.ERROR_READ_FAULT, windows.ERROR_WRITE_FAULT, windows.ERROR_GEN_FAILURE}
	errnoFiles    = []error{windows.ERROR_TOO_MANY_OPEN_FILES}
	errnoBusy     = []error{windows.ERROR_SHARING_VIOLATION, windows.ERROR_LOCK_VIOLATION, windows.ERROR_BUSY}
)

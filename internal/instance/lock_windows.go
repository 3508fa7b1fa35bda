package instance

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lockOffset lies far behind any content: Windows locks are binding, and the
// content must stay readable for others.
const lockOffset = 1 << 30

// tryLock takes the file's lock and says whether it got it. The kernel gives it
// back when the process ends.
func tryLock(f *os.File) (bool, error) {
	const flags = windows.LOCKFILE_FAIL_IMMEDIATELY | windows.LOCKFILE_EXCLUSIVE_LOCK
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, &windows.Overlapped{Offset: lockOffset})
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, windows.ERROR_LOCK_VIOLATION):
		return false, nil
	default:
		return false, err
	}
}

package ledger

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lockOffset lies far behind any content: Windows locks are binding, and the
// content must stay readable for others.
const lockOffset = 1 << 30

// tryLock takes the lock of an open file, or turns the one it has into the
// other kind, and says whether it got it. The kernel gives it back when the
// process ends, however it ends. A failed try may lose the lock that was held.
func tryLock(f *os.File, exclusive bool) (bool, error) {
	h := windows.Handle(f.Fd())
	at := &windows.Overlapped{Offset: lockOffset}
	_ = windows.UnlockFileEx(h, 0, 1, 0, at) // fails when nothing is held, which is fine
	flags := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if exclusive {
		flags |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	err := windows.LockFileEx(h, flags, 0, 1, 0, at)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, windows.ERROR_LOCK_VIOLATION):
		return false, nil
	default:
		return false, &os.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
}

// syncDir has nothing to do: NTFS journals names, and Windows can't flush a
// directory.
func syncDir(string) error { return nil }

//go:build unix

package rotate

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// hold takes the lock of the file at path, which tells others that it is being
// written, until what it returns is closed. It is errHeld when somebody else has
// it or the file is no longer the one at path.
func hold(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		err = errHeld
	case errors.Is(err, unix.ENOLCK), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
		err = nil // there are no locks on this file system
	}
	if err == nil {
		err = stillThere(f, path)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func stillThere(f *os.File, path string) error {
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	if is, err := os.Lstat(path); err != nil || !os.SameFile(mine, is) {
		return errHeld // its writer has sealed it, or removed it, meanwhile
	}
	return nil
}

// holdNew is hold for the file's writer.
func holdNew(path string) (*os.File, error) { return hold(path) }

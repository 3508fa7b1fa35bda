//go:build unix

package safefile

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func open(path string) (*os.File, error) {
	const flags = os.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC
	f, err := os.OpenFile(path, flags|noatime, 0)
	if errors.Is(err, unix.EPERM) && noatime != 0 {
		// Only a file's owner may ask for an unchanged access time.
		f, err = os.OpenFile(path, flags, 0)
	}
	if errors.Is(err, unix.ELOOP) {
		return nil, fmt.Errorf("open %q: %w (symbolic link)", path, ErrNotRegular)
	}
	return f, err
}

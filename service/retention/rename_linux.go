package retention

import (
	"errors"

	"golang.org/x/sys/unix"
)

// renameNew renames a file unless the name is taken. It is ErrUnsupported where
// the file system can't do that.
func renameNew(src, dst *place) error {
	return inFolders(src, dst, func(from int, oldName string, to int, newName string) error {
		err := unix.Renameat2(from, oldName, to, newName, unix.RENAME_NOREPLACE)
		if errors.Is(err, unix.EINVAL) { // the flag is not known there
			err = errors.ErrUnsupported
		}
		return err
	})
}

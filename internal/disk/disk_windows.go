package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

func statfs(path string) (free, total, inodesFree uint64, err error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return 0, 0, 0, err
	}
	if err := windows.GetDiskFreeSpaceEx(name, &free, &total, nil); err != nil {
		return 0, 0, 0, err
	}
	return free, total, Unknown, nil
}

// allocate is not needed here: the file is written.
func allocate(*os.File, int64) error { return errors.ErrUnsupported }

// SyncDir has nothing to do: NTFS journals names, and Windows can't flush a
// directory.
func SyncDir(string) error { return nil }

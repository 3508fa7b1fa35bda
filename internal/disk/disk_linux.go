package disk

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func statfs(path string) (free, total, inodesFree uint64, err error) {
	var st unix.Statfs_t
	for {
		if err = unix.Statfs(path, &st); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return 0, 0, 0, err
	}
	unit := uint64(st.Frsize) // of Blocks and Bavail; network file systems have another Bsize
	if unit == 0 {
		unit = uint64(st.Bsize)
	}
	inodesFree = st.Ffree
	if st.Files == 0 { // btrfs and others make them as needed
		inodesFree = Unknown
	}
	return st.Bavail * unit, st.Blocks * unit, inodesFree, nil
}

// allocate gives f its size and all of its blocks, without writing them. It
// fails where the file system can't do that.
func allocate(f *os.File, size int64) error {
	for {
		if err := unix.Fallocate(int(f.Fd()), 0, 0, size); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

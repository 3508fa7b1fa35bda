package watch

import (
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

func openDir(path string) (*os.File, error) {
	fd, err := openReal(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// entryFacts looks at an entry of the folder that is open, wherever that lies
// by now, without building its path.
func entryFacts(dir *os.File, entry fs.DirEntry) (facts, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), entry.Name(), &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return facts{}, err
	}
	return facts{
		size: st.Size, modified: st.Mtim.Nano(), changed: st.Ctim.Nano(),
		inode: st.Ino, links: uint64(st.Nlink), //nolint:unconvert // not everywhere a uint64
	}, nil
}

// Package safefile opens files that somebody else may have placed: it follows
// no link in the last element of the path, never blocks on a FIFO or a device,
// hands out regular files only, and reads without leaving a mark where the
// system allows that.
package safefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// ErrNotRegular is what Open wraps for links, FIFOs, devices, sockets and directories.
var ErrNotRegular = errors.New("not a regular file")

// Open opens the regular file at path for reading and returns what was true of
// it when it was opened.
func Open(path string) (*os.File, fs.FileInfo, error) {
	f, err := open(path)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("open %q: %w (%s)", path, ErrNotRegular, Describe(info.Mode()))
	}
	if err != nil {
		_ = f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// Cause leaves the cause of an error about a path alone, for those who say the
// path themselves, quoted.
func Cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// Describe names a file type in the words that a user would use.
func Describe(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeSymlink != 0:
		return "symbolic link"
	case mode.IsDir():
		return "directory"
	case mode&fs.ModeNamedPipe != 0:
		return "named pipe"
	case mode&fs.ModeSocket != 0:
		return "socket"
	case mode&fs.ModeDevice != 0:
		return "device"
	case mode.IsRegular():
		return "regular file"
	default:
		return "special file"
	}
}

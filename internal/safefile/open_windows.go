package safefile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/windows"
)

// open lets others rename and delete the file while it is read, as they can
// everywhere else: a ring buffer's oldest file must go when its writer says so.
func open(path string) (*os.File, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open %q: %w (%s)", path, ErrNotRegular, Describe(info.Mode()))
	}
	const share = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE
	name, err := Name(path)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	h, err := windows.CreateFile(name, windows.GENERIC_READ, share, nil, windows.OPEN_EXISTING, windows.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(h), path), nil
}

// longest is the length from which on Windows takes a path only in its own form.
const longest = 248

// Name is path as system calls take it, however long it is.
func Name(path string) (*uint16, error) {
	if len(path) >= longest && !strings.HasPrefix(path, `\\?\`) {
		abs, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		if share, ok := strings.CutPrefix(abs, `\\`); ok {
			path = `\\?\UNC\` + share
		} else {
			path = `\\?\` + abs
		}
	}
	return windows.UTF16PtrFromString(path)
}

//go:build unix

package retention

import (
	"errors"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// renameOver renames a file and replaces what has the name.
func renameOver(src, dst *place) error {
	return inFolders(src, dst, unix.Renameat)
}

// inFolders calls f with the open folders of both places: no link that is swapped
// in on the way there can lead it out.
func inFolders(src, dst *place, f func(from int, oldName string, to int, newName string) error) error {
	from, err := src.root.Open(filepath.Dir(src.rel))
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // only a handle
	to, err := dst.root.Open(filepath.Dir(dst.rel))
	if err != nil {
		return err
	}
	defer func() { _ = to.Close() }() // only a handle
	return f(int(from.Fd()), filepath.Base(src.rel), int(to.Fd()), filepath.Base(dst.rel))
}

// crossDevice says that a file can't be renamed because it has to be copied.
func crossDevice(err error) bool { return errors.Is(err, unix.EXDEV) }

// mayRemove returns why files can't be removed from the folder of a place, as far
// as can be told without trying.
func mayRemove(p *place) error {
	dir, err := p.root.Open(filepath.Dir(p.rel))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }() // only a handle
	return unix.Faccessat(int(dir.Fd()), ".", unix.W_OK|unix.X_OK, unix.AT_EACCESS)
}

package retention

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"

	"capagent/internal/safefile"
)

// renameOver renames a file and replaces what has the name. Windows renames by
// path: that both places are inside their folders was true a moment before.
func renameOver(src, dst *place) error { return os.Rename(src.path(), dst.path()) }

// renameNew renames a file unless the name is taken.
func renameNew(src, dst *place) error {
	from, err := safefile.Name(src.path())
	if err != nil {
		return err
	}
	to, err := safefile.Name(dst.path())
	if err != nil {
		return err
	}
	return windows.MoveFileEx(from, to, windows.MOVEFILE_WRITE_THROUGH)
}

// crossDevice says that a file can't be renamed because it has to be copied.
func crossDevice(err error) bool { return errors.Is(err, windows.ERROR_NOT_SAME_DEVICE) }

// mayRemove returns nil: access lists can't be asked, only tried.
func mayRemove(*place) error { return nil }

package watch

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"

	"capagent/internal/safefile"
)

// inspect opens the file at path for a moment in a way that fails while anybody
// has it open for writing.
func inspect(path string) (facts, state, error) {
	name, err := safefile.Name(path)
	if err != nil {
		return facts{}, unsure, err
	}
	const share = windows.FILE_SHARE_READ | windows.FILE_SHARE_DELETE
	h, err := windows.CreateFile(name, windows.GENERIC_READ, share, nil, windows.OPEN_EXISTING,
		windows.FILE_FLAG_OPEN_REPARSE_POINT, 0)
	if errors.Is(err, windows.ERROR_SHARING_VIOLATION) || errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return facts{}, written, nil
	}
	if err != nil {
		return facts{}, unsure, err
	}
	defer func() { _ = windows.CloseHandle(h) }()
	var by windows.ByHandleFileInformation
	if err := windows.GetFileInformationByHandle(h, &by); err == nil && by.NumberOfLinks > 1 {
		return facts{}, unsure, errLinks
	}
	info, err := os.Lstat(path)
	if err != nil {
		return facts{}, unsure, err
	}
	return factsOf(info), closed, nil
}

// foreign: servers tell Windows of changes.
func foreign(string) string { return "" }

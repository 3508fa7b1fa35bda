package doctor

import (
	"path/filepath"

	"golang.org/x/sys/windows"
)

func fileSystem(dir string) fsKind {
	root, err := windows.UTF16PtrFromString(filepath.VolumeName(dir) + `\`)
	if err != nil {
		return fsKind{}
	}
	return fsKind{remote: windows.GetDriveType(root) == windows.DRIVE_REMOTE}
}

package watch

import (
	"io/fs"
	"syscall"
)

// factsOf tells files of one name apart by the time of their making.
func factsOf(info fs.FileInfo) facts {
	f := facts{size: info.Size(), modified: info.ModTime().UnixNano()}
	if a, ok := info.Sys().(*syscall.Win32FileAttributeData); ok {
		f.changed = a.CreationTime.Nanoseconds()
	}
	return f
}

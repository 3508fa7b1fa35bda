package watch

import (
	"io/fs"
	"syscall"
)

func factsOf(info fs.FileInfo) facts {
	f := facts{size: info.Size(), modified: info.ModTime().UnixNano()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		f.changed, f.inode, f.links = st.Ctim.Nano(), st.Ino, uint64(st.Nlink) //nolint:unconvert // not everywhere a uint64
	}
	return f
}

package doctor

import "golang.org/x/sys/unix"

func fileSystem(dir string) fsKind {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return fsKind{}
	}
	return fsKind{name: unix.ByteSliceToString(st.Fstypename[:]), remote: st.Flags&unix.MNT_LOCAL == 0}
}

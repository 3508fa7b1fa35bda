//go:build unix

package doctor

import (
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// owner is whose a file is.
type owner struct {
	name string // "" where the system does not say
	own  bool   // it is this process's user
	open string // who else may write it, "" when nobody may
}

func ownerOf(info fs.FileInfo) owner {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return owner{}
	}
	o := owner{name: userName(strconv.Itoa(int(st.Uid))), own: int(st.Uid) == os.Geteuid()}
	switch mode := info.Mode().Perm(); {
	case mode&0o002 != 0:
		o.open = "everybody"
	case mode&0o020 != 0:
		o.open = "its group"
	}
	return o
}

func userName(uid string) string {
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return uid
}

// mayWrite says whether this process may put files into a folder, without doing so:
// in a watched one they would be taken up.
func mayWrite(dir string) error { return unix.Access(dir, unix.W_OK|unix.X_OK) }

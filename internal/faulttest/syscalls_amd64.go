//go:build linux

package faulttest

import "golang.org/x/sys/unix"

// legacyCalls are those that newer architectures do not have.
var legacyCalls = []hookedCall{
	{"open", unix.SYS_OPEN, -1, 0, 1},
	{"creat", unix.SYS_CREAT, -1, 0, -1},
	{"rename", unix.SYS_RENAME, -1, 0, -1},
	{"link", unix.SYS_LINK, -1, 0, -1},
	{"symlink", unix.SYS_SYMLINK, -1, 1, -1},
	{"unlink", unix.SYS_UNLINK, -1, 0, -1},
	{"rmdir", unix.SYS_RMDIR, -1, 0, -1},
	{"mkdir", unix.SYS_MKDIR, -1, 0, -1},
	{"chmod", unix.SYS_CHMOD, -1, 0, -1},
}

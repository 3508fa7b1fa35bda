//go:build linux

package faulttest

import "golang.org/x/sys/unix"

// hookedCall says where a system call's arguments are, -1 for none.
type hookedCall struct {
	name  string
	nr    int
	fd    int // the file that it changes
	path  int // or the path, behind the folder that it is relative to
	flags int // of opening calls
}

// hookedCalls are the calls by which a program changes what lies outside it.
var hookedCalls = append([]hookedCall{
	{"openat", unix.SYS_OPENAT, -1, 1, 2},
	{"write", unix.SYS_WRITE, 0, -1, -1},
	{"pwrite64", unix.SYS_PWRITE64, 0, -1, -1},
	{"writev", unix.SYS_WRITEV, 0, -1, -1},
	{"pwritev", unix.SYS_PWRITEV, 0, -1, -1},
	{"pwritev2", unix.SYS_PWRITEV2, 0, -1, -1},
	{"sendfile", unix.SYS_SENDFILE, 0, -1, -1},
	{"splice", unix.SYS_SPLICE, 2, -1, -1},
	{"copy_file_range", unix.SYS_COPY_FILE_RANGE, 2, -1, -1},
	{"fsync", unix.SYS_FSYNC, 0, -1, -1},
	{"fdatasync", unix.SYS_FDATASYNC, 0, -1, -1},
	{"ftruncate", unix.SYS_FTRUNCATE, 0, -1, -1},
	{"fallocate", unix.SYS_FALLOCATE, 0, -1, -1},
	{"fchmod", unix.SYS_FCHMOD, 0, -1, -1},
	{"fchmodat", unix.SYS_FCHMODAT, -1, 1, -1},
	{"renameat", unix.SYS_RENAMEAT, -1, 1, -1},
	{"renameat2", unix.SYS_RENAMEAT2, -1, 1, -1},
	{"linkat", unix.SYS_LINKAT, -1, 1, -1},
	{"symlinkat", unix.SYS_SYMLINKAT, -1, 2, -1},
	{"unlinkat", unix.SYS_UNLINKAT, -1, 1, -1},
	{"mkdirat", unix.SYS_MKDIRAT, -1, 1, -1},
	{"utimensat", unix.SYS_UTIMENSAT, -1, 1, -1},
	{"connect", unix.SYS_CONNECT, 0, -1, -1},
	{"sendto", unix.SYS_SENDTO, 0, -1, -1},
	{"inotify_add_watch", unix.SYS_INOTIFY_ADD_WATCH, -1, 1, -1},
}, legacyCalls...)

package watch

import (
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// inspect opens the regular file at path for a moment and tells what it is and
// whether it has a writer. No symbolic link anywhere in path is followed.
//
// The kernel grants a read lease only on a file that nobody has open for
// writing. It is given back at once: who opens the file for writing in between
// waits for microseconds. Facts read under the lease are those of the complete
// file. Nothing is read, so the access time stays.
func inspect(path string) (facts, state, error) {
	fd, err := openReal(path, unix.O_RDONLY|unix.O_NONBLOCK)
	if errors.Is(err, unix.EAGAIN) { // somebody holds a write lease
		return facts{}, written, nil
	}
	if err != nil {
		return facts{}, unsure, err
	}
	defer func() { _ = unix.Close(fd) }()
	if !local(fd) {
		f, err := statFresh(fd)
		return f, unsure, err
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	f, statErr := statFresh(fd)
	switch {
	case statErr != nil:
		return f, unsure, statErr
	case errors.Is(err, unix.EAGAIN):
		return f, written, nil
	case err != nil: // EACCES: not ours and no CAP_LEASE; EINVAL: no leases here
		return f, unsure, nil
	}
	// Not by closing alone: a process that is being started may still share the descriptor.
	_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
	if sameTick(f) {
		return f, young, nil
	}
	return f, closed, nil
}

// openReal opens path if no element of it is a symbolic link.
func openReal(path string, flags int) (int, error) {
	flags |= unix.O_CLOEXEC | unix.O_NOFOLLOW
	how := unix.OpenHow{Flags: uint64(flags), Resolve: unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &how)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // before Linux 5.6, or in a sandbox
		fd, err = unix.Open(path, flags, 0)
	}
	if errors.Is(err, unix.ELOOP) {
		err = errLink
	}
	return fd, err
}

// statFresh asks a file server anew where attributes are cached.
func statFresh(fd int) (facts, error) {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &st)
	if err != nil {
		return facts{}, fmt.Errorf("stat: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return facts{}, fs.ErrNotExist // it was replaced since it was listed
	}
	return facts{
		size: int64(st.Size), modified: nanoseconds(st.Mtime), changed: nanoseconds(st.Ctime),
		inode: st.Ino, links: uint64(st.Nlink),
	}, nil
}

func nanoseconds(t unix.StatxTimestamp) int64 { return t.Sec*int64(time.Second) + int64(t.Nsec) }

// sameTick reports whether the file was changed in the tick of the kernel's
// clock that still lasts: one more change in it could leave the same times.
// Both are readings of one clock, so that it may be wrong doesn't matter.
func sameTick(f facts) bool {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_REALTIME_COARSE, &now) != nil {
		return false
	}
	age := now.Nano() - max(f.modified, f.changed)
	return age <= 0 && age > -int64(20*time.Millisecond)
}

// local reports whether the file lies on a file system whose writers this
// kernel knows. Servers have others, and FUSE decides for itself.
func local(fd int) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil {
		return false
	}
	return localTypes[uint32(st.Type)]
}

var localTypes = map[uint32]bool{
	unix.BTRFS_SUPER_MAGIC:     true,
	unix.EXT4_SUPER_MAGIC:      true, // ext2 and ext3 too
	unix.EXFAT_SUPER_MAGIC:     true,
	unix.F2FS_SUPER_MAGIC:      true,
	unix.MSDOS_SUPER_MAGIC:     true,
	unix.OVERLAYFS_SUPER_MAGIC: true,
	unix.RAMFS_MAGIC:           true,
	unix.TMPFS_MAGIC:           true,
	unix.XFS_SUPER_MAGIC:       true,
	0x2fc12fc1:                 true, // ZFS
	0xca451a4e:                 true, // bcachefs
}

// foreignTypes are file systems that change without this kernel's knowledge.
var foreignTypes = map[uint32]string{
	unix.AFS_SUPER_MAGIC:  "AFS",
	unix.CEPH_SUPER_MAGIC: "Ceph",
	unix.CIFS_SUPER_MAGIC: "CIFS",
	unix.FUSE_SUPER_MAGIC: "FUSE",
	unix.NFS_SUPER_MAGIC:  "NFS",
	unix.SMB2_SUPER_MAGIC: "SMB",
	unix.SMB_SUPER_MAGIC:  "SMB",
	unix.V9FS_MAGIC:       "9P",
}

// foreign names the file system at path if it changes without events.
func foreign(path string) string {
	var st unix.Statfs_t
	if unix.Statfs(path, &st) != nil {
		return ""
	}
	return foreignTypes[uint32(st.Type)]
}

package pcapfile

import (
	"errors"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

const hugePage = 2 << 20

// allocate makes buffers outside of the heap. Large ones lie in huge pages where
// the kernel has some: writing them past the page cache then costs less.
func allocate(count, size int) ([][]byte, func(), error) {
	m, err := unix.Mmap(-1, 0, count*size+hugePage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, nil, err
	}
	rest := m[-uintptr(unsafe.Pointer(&m[0]))&(hugePage-1):] //nolint:gosec // an address is what is aligned
	if size >= hugePage {
		_ = unix.Madvise(rest[:count*size], unix.MADV_HUGEPAGE)
	}
	var bufs [][]byte
	for range count {
		bufs, rest = append(bufs, rest[:size:size]), rest[size:]
	}
	return bufs, func() { _ = unix.Munmap(m) }, nil
}

// setDirect switches O_DIRECT. It fails where the file system has no such thing.
func setDirect(f *os.File, on bool) error {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	flags &^= unix.O_DIRECT
	if on {
		flags |= unix.O_DIRECT
	}
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETFL, flags)
	return err
}

func refusesDirect(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP)
}

// writeAt is os.File's WriteAt, which does not tell what was written before an
// error.
func writeAt(f *os.File, b []byte, at int64) (n int, err error) {
	for n < len(b) {
		m, err := unix.Pwrite(int(f.Fd()), b[n:], at+int64(n))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return n, err
		case m == 0:
			return n, io.ErrShortWrite
		default:
			n += m
		}
	}
	return n, nil
}

// writeParts writes parts that follow each other; less than all of them, it may be.
func writeParts(f *os.File, parts [][]byte, at int64) (n int, err error) {
	for {
		if n, err = unix.Pwritev(int(f.Fd()), parts, at); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// preallocate gives f blocks without changing its size, as far as there are some.
func preallocate(f *os.File, size int64) {
	for range 3 { // what was interrupted has a part
		if err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size); !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// appends says whether f is written at its end wherever one asks for.
func appends(f *os.File) bool {
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_APPEND != 0
}

// writeBack has the kernel begin to write s from the page cache.
func writeBack(f *os.File, s span) error {
	return known(unix.SyncFileRange(int(f.Fd()), s.from, s.to-s.from, unix.SYNC_FILE_RANGE_WRITE))
}

// dropCache waits until s is written and drops it from the page cache. The error
// is that of a write, which fsync would not tell a second time.
func dropCache(f *os.File, s span) error {
	const wait = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	if err := known(unix.SyncFileRange(int(f.Fd()), s.from, s.to-s.from, wait)); err != nil {
		return err
	}
	_ = unix.Fadvise(int(f.Fd()), s.from, s.to-s.from, unix.FADV_DONTNEED)
	return nil
}

// known leaves out the errors that say that there is no such call here.
func known(err error) error {
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ESPIPE) || errors.Is(err, unix.EINTR) {
		return nil
	}
	return err
}

package watch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// closes tells of files that somebody who had them open for writing has closed,
// which fsnotify doesn't.
type closes struct {
	fd   int
	file *os.File

	mu    sync.Mutex
	paths map[int32]string // by watch descriptor
	wds   map[string]int32
}

func openCloses() (*closes, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, err
	}
	return &closes{
		fd: fd, file: os.NewFile(uintptr(fd), "inotify"),
		paths: map[int32]string{}, wds: map[string]int32{},
	}, nil
}

// add puts dir under watch. If that folder was under watch by another path, it
// was moved, and that path is returned.
func (c *closes) add(dir string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wd, err := unix.InotifyAddWatch(c.fd, dir, unix.IN_CLOSE_WRITE|unix.IN_ONLYDIR|unix.IN_DONT_FOLLOW|unix.IN_EXCL_UNLINK)
	if err != nil {
		return "", err
	}
	id := int32(wd)
	old := c.paths[id]
	if old == dir {
		return "", nil
	}
	if old != "" {
		delete(c.wds, old)
	}
	if before, ok := c.wds[dir]; ok { // another folder had this path
		c.remove(before)
	}
	c.paths[id], c.wds[dir] = dir, id
	return old, nil
}

func (c *closes) drop(dir string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if wd, ok := c.wds[dir]; ok {
		delete(c.wds, dir)
		c.remove(wd)
	}
}

func (c *closes) remove(wd int32) {
	delete(c.paths, wd)
	_, _ = unix.InotifyRmWatch(c.fd, uint32(wd)) // it fails when the folder is gone
}

func (c *closes) close() { _ = c.file.Close() }

// run passes events on until close is called or emit returns false.
func (c *closes) run(emit func([]event) bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := c.file.Read(buf)
		if err != nil {
			if !errors.Is(err, os.ErrClosed) {
				emit([]event{{kind: missed}})
			}
			return
		}
		if all := c.decode(buf[:n]); len(all) > 0 && !emit(all) {
			return
		}
	}
}

// decode reads the records of inotify(7).
func (c *closes) decode(b []byte) []event {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []event
	for len(b) >= unix.SizeofInotifyEvent {
		wd, mask := int32(binary.NativeEndian.Uint32(b)), binary.NativeEndian.Uint32(b[4:])
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
		if end > len(b) {
			break
		}
		name, _, _ := bytes.Cut(b[unix.SizeofInotifyEvent:end], []byte{0})
		b = b[end:]
		dir, known := c.paths[wd]
		switch {
		case mask&(unix.IN_Q_OVERFLOW|unix.IN_UNMOUNT) != 0:
			all = append(all, event{kind: missed})
		case mask&unix.IN_IGNORED != 0 && known:
			delete(c.paths, wd)
			delete(c.wds, dir)
		case mask&unix.IN_CLOSE_WRITE != 0 && known:
			all = append(all, event{join(dir, string(name)), touched})
		}
	}
	return all
}

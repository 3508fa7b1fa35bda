package disk

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// DefaultBallast is the size of a Ballast that none was given for, in bytes: room
// for some ten thousand changes of a capture's state in the ledger.
const DefaultBallast = 8 << 20

// Ballast is a file that holds room on a file system, to be given back when that
// is full, so that what must be recorded then can be. It may be used by many
// goroutines. The zero value is of no use: see NewBallast.
type Ballast struct {
	path string
	size int64
	mu   sync.Mutex
}

// NewBallast returns a Ballast at path of so many bytes, DefaultBallast when size
// is 0. No file is made before Restore; one of an earlier process counts.
func NewBallast(path string, size int64) *Ballast {
	if size <= 0 {
		size = DefaultBallast
	}
	return &Ballast{path: path, size: size}
}

// Release gives the room back and says whether there was any. What it frees is
// not set aside for anyone: write what must be written at once.
func (b *Ballast) Release() (released bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	err = os.Remove(b.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ballast: %w", err)
	}
	return true, nil
}

// Restore makes the file where it is missing or not whole, provided that minFree
// bytes stay free besides, and says whether it is there. It is no error when
// Free says that there is no room.
func (b *Ballast) Restore(minFree uint64) (held bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.whole() {
		return true, nil
	}
	dir := filepath.Dir(b.path)
	free, _, _, err := Free(dir)
	if err != nil {
		return false, err
	}
	if free < minFree || free-minFree < uint64(b.size) {
		return false, nil
	}
	if err := b.make(); err != nil {
		return false, fmt.Errorf("ballast: %w", err)
	}
	if err := SyncDir(dir); err != nil {
		return true, fmt.Errorf("ballast: %w", err)
	}
	return true, nil
}

// whole says whether the file is there in full.
func (b *Ballast) whole() bool {
	info, err := os.Lstat(b.path)
	return err == nil && info.Mode().IsRegular() && info.Size() == b.size
}

// make makes the file anew; when it can't be whole, it is not there at all.
func (b *Ballast) make() error {
	if err := os.Remove(b.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(b.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if allocate(f, b.size) != nil {
		// Random bytes: some file systems keep no blocks for zeros.
		_, err = io.CopyN(f, rand.Reader, b.size)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(b.path) // the first error tells more
	}
	return err
}

package ledger

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// owner is the lock file that stands for one open Ledger that claims steps.
// A claim is stale exactly when its owner's lock can be taken: the kernel
// releases it on kill -9 too, and process numbers, which are used again, decide
// nothing. The content, "<pid> <start time>", is for people.
type owner struct {
	id   string
	file *os.File
}

const ownerIDLen = 32 // hex digits

func ownersDir(ledger string) string { return ledger + ".owners" }

// newOwner makes and locks an owner file, and removes those that dead
// processes left.
func newOwner(ledger string, now time.Time) (*owner, error) {
	dir := ownersDir(ledger)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if _, _, err := ownerAlive(ledger, e.Name()); err != nil {
			return nil, err
		}
	}
	for {
		o, err := tryOwner(dir, now)
		if o != nil || err != nil {
			return o, err
		}
	}
}

// tryOwner returns nil without an error when a process that cleans up took the
// new file in the moment before it was locked.
func tryOwner(dir string, now time.Time) (*owner, error) {
	var raw [ownerIDLen / 2]byte
	_, _ = rand.Read(raw[:]) // never fails, by its documentation
	id := hex.EncodeToString(raw[:])
	path := filepath.Join(dir, id)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	ok, err := tryLock(f, true)
	if err == nil && ok {
		var mine, there os.FileInfo
		if mine, err = f.Stat(); err == nil {
			there, err = os.Stat(path)
		}
		ok = err == nil && os.SameFile(mine, there)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err == nil && ok {
		_, err = fmt.Fprintf(f, "%d %s\n", os.Getpid(), now.UTC().Format(time.RFC3339))
	}
	if err != nil || !ok {
		return nil, errors.Join(err, f.Close())
	}
	return &owner{id: id, file: f}, nil
}

// release gives the lock back and removes the file.
func (o *owner) release() error {
	// Windows can't remove an open file; elsewhere the order doesn't matter.
	err := o.file.Close()
	if rm := os.Remove(o.file.Name()); rm != nil && !errors.Is(rm, fs.ErrNotExist) {
		err = errors.Join(err, rm)
	}
	return err
}

// ownerAlive says whether the owner's process lives, and its number if it can
// be read. The file of a dead one is removed.
func ownerAlive(ledger, id string) (alive bool, pid int, err error) {
	if raw, err := hex.DecodeString(id); err != nil || len(raw) != ownerIDLen/2 {
		return false, 0, nil
	}
	dir, err := os.OpenRoot(ownersDir(ledger))
	if errors.Is(err, fs.ErrNotExist) {
		return false, 0, nil
	}
	if err != nil {
		return false, 0, err
	}
	defer func() { _ = dir.Close() }() // only looked at
	f, err := dir.OpenFile(id, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, 0, nil
	}
	if err != nil {
		return false, 0, err
	}
	defer func() { _ = f.Close() }() // only read, or about to be removed
	free, err := tryLock(f, true)
	if err != nil {
		return false, 0, err
	}
	if free {
		// What is left behind after a failure is tried again next time. On
		// Windows an open file can't be removed, so the lock goes first.
		if dir.Remove(id) != nil {
			_ = f.Close()
			_ = dir.Remove(id)
		}
		return false, 0, nil
	}
	content, _ := io.ReadAll(io.LimitReader(f, 64)) // the number is for people
	first, _, _ := strings.Cut(string(content), " ")
	pid, _ = strconv.Atoi(first)
	return true, pid, nil
}

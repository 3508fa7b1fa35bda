// Package retention deletes captures that are no longer needed: the agent's own
// files when they are too many, too old, or the disk is nearly full (Keeper), and
// files of watched folders when the folder's "after" says so (After).
//
// What it promises: only files of captures that are done are deleted, and held
// ones that nobody released within max_age, or with Keeper.Ring for any limit. The
// ledger knows of a deletion before it happens. A file that is not the one which was
// recorded, by size or content, is left alone, and so is everything outside of the
// spool or the watched folder, also when a folder on the way there was swapped for a
// link.
package retention

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"capagent/internal/ledger"
	"capagent/internal/safefile"
)

// Ledger is what the package uses of the ledger.
type Ledger interface {
	Owned(ctx context.Context) (ledger.Count, error)
	Expendable(ctx context.Context, before time.Time, held bool, limit int) ([]ledger.Capture, error)
	List(ctx context.Context, f ledger.Filter) iter.Seq2[ledger.Capture, error]
	SetState(ctx context.Context, id int64, to ledger.State, reason string) error
	SetPath(ctx context.Context, id int64, path string) error
}

// below returns the path of a file relative to a directory, and whether it is in
// there by its name. Either may be named by way of a link to the directory.
func below(dir, path string) (rel string, ok bool) {
	for _, resolve := range []func(string) (string, error){filepath.Abs, filepath.EvalSymlinks} {
		abs, err := resolve(dir)
		if err != nil {
			continue
		}
		rel, err := filepath.Rel(abs, path)
		if err == nil && rel != "." && filepath.IsLocal(rel) {
			return rel, true
		}
	}
	return "", false
}

// within says whether path is dir or in there by its name.
func within(dir, path string) bool {
	_, ok := below(dir, path)
	return ok || filepath.Clean(dir) == filepath.Clean(path)
}

// errNotOurs says that what lies at a path is not the capture's file.
var errNotOurs = errors.New("not the file that was recorded")

// look returns what is true of the regular file rel below root. Whatever else is
// there, or leads out of root, is errNotOurs.
func look(root *os.Root, rel string) (fs.FileInfo, error) {
	info, err := root.Lstat(rel)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %s", errNotOurs, safefile.Describe(info.Mode()))
	case err == nil:
		return info, nil
	case errors.Is(err, syscall.ENOTDIR): // a folder on the way is a file now
		return nil, fs.ErrNotExist
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return nil, err
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return nil, err
	}
	return nil, fmt.Errorf("%w: %w", errNotOurs, safefile.Cause(err)) // os.Root has no error of its own for a way out
}

// open opens what look returned.
func open(root *os.Root, rel string, seen fs.FileInfo) (*os.File, error) {
	f, err := root.OpenFile(rel, os.O_RDONLY|nonblock, 0) // a FIFO may have taken its place
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !os.SameFile(info, seen) {
		_ = f.Close() // only read
		return nil, errors.Join(errNotOurs, err)
	}
	return f, nil
}

// holds says whether the file that look returned has the content of c.
func holds(ctx context.Context, root *os.Root, rel string, seen fs.FileInfo, c ledger.Capture) (bool, error) {
	if seen.Size() != c.Size {
		return false, nil
	}
	f, err := open(root, rel, seen)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }() // only read
	sum, err := hash(ctx, io.Discard, f)
	return sum == c.SHA256, err
}

// hash copies r to w and returns the SHA-256 of it all in hex.
func hash(ctx context.Context, w io.Writer, r io.Reader) (string, error) {
	h := sha256.New()
	_, err := io.Copy(io.MultiWriter(w, h), reader{ctx, r})
	return hex.EncodeToString(h.Sum(nil)), err
}

// reader ends a copy between two reads when ctx is done.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// waiting are the states of captures whose file is still needed.
var waiting = []ledger.State{
	ledger.StateOpen, ledger.Sealed, ledger.Held, ledger.Queued, ledger.Failed, ledger.Quarantined,
}

// wanted says whether another capture still needs the file of c: the same content
// at the same path, on its way to another destination.
func wanted(ctx context.Context, l Ledger, c ledger.Capture) (bool, error) {
	if c.SHA256 == "" { // would select all
		return false, nil
	}
	for other, err := range l.List(ctx, ledger.Filter{SHA256: c.SHA256, States: waiting}) {
		if err != nil {
			return false, err
		}
		if other.ID != c.ID && other.Path == c.Path {
			return true, nil
		}
	}
	return false, nil
}

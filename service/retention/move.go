package retention

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"capagent/internal/disk"
	"capagent/internal/ledger"
	"capagent/internal/quote"
	"capagent/internal/safefile"
)

// move moves the file that was seen at src below rule.MoveTo.
func (a *After) move(ctx context.Context, c ledger.Capture, rule Rule, src *place, seen fs.FileInfo) error {
	if within(rule.Root, rule.MoveTo) && within(rule.MoveTo, src.path()) {
		return nil // it is where such files go
	}
	if err := os.MkdirAll(rule.MoveTo, 0o777); err != nil {
		return err
	}
	dst := &place{dir: rule.MoveTo}
	var err error
	if dst.root, err = os.OpenRoot(rule.MoveTo); err != nil {
		return err
	}
	defer dst.close()

	// An earlier Act may have come as far as recording where the file goes.
	if rel, ok := below(rule.MoveTo, c.Path); ok && c.Path != src.path() {
		dst.rel = rel
		switch arrived, err := a.arrived(ctx, c, dst); {
		case err != nil:
			return err
		case arrived:
			if err := disk.SyncDir(filepath.Dir(dst.path())); err != nil {
				return err
			}
			return a.remove(src, seen)
		}
	}
	for n := 1; n <= maxNumber; n++ {
		dst.rel = numbered(src.rel, n)
		if _, err := dst.root.Lstat(dst.rel); err == nil {
			continue
		}
		if err := a.carry(ctx, c, src, dst, seen); !errors.Is(err, errTaken) {
			return err
		}
	}
	return fmt.Errorf("%d files of that name are there already", maxNumber)
}

// errTaken says that a name was free a moment ago.
var errTaken = errors.New("the name is taken")

// arrived says whether the whole file is at dst already. A claim to the name that
// an earlier Act left is taken away.
func (a *After) arrived(ctx context.Context, c ledger.Capture, dst *place) (bool, error) {
	info, err := look(dst.root, dst.rel)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errNotOurs):
		return false, nil
	case err != nil:
		return false, safefile.Cause(err)
	case info.Size() == 0:
		return false, dst.root.Remove(dst.rel)
	}
	return holds(ctx, dst.root, dst.rel, info, c)
}

// record sets the path of c. It is errTaken when the ledger has another capture
// of the same content at it, which may be gone from there.
func (a *After) record(ctx context.Context, c ledger.Capture, path string) error {
	failed := a.Ledger.SetPath(ctx, c.ID, path)
	if failed == nil || ledger.Trouble(failed) != "" {
		return failed
	}
	for other, err := range a.Ledger.List(ctx, ledger.Filter{SHA256: c.SHA256}) {
		if err == nil && other.ID != c.ID && other.Path == path {
			return errTaken
		}
	}
	return failed
}

// maxNumber bounds how many files of one name a folder holds.
const maxNumber = 10000

// numbered returns the name that the nth file of a name gets: "a.pcap",
// "a-2.pcap", "a-3.pcap".
func numbered(rel string, n int) string {
	if n == 1 {
		return rel
	}
	dir, name := filepath.Split(rel)
	ext := filepath.Ext(name)
	if ext == ".gz" || ext == ".zst" {
		ext = filepath.Ext(strings.TrimSuffix(name, ext)) + ext
	}
	number := "-" + strconv.Itoa(n)
	stem := []rune(strings.TrimSuffix(name, ext))
	for len(string(stem))+len(number)+len(ext) > maxName && len(stem) > 1 {
		stem = stem[:len(stem)-1]
	}
	return dir + string(stem) + number + ext
}

// maxName is the length of a file's name on most systems, in bytes.
const maxName = 255

// carry moves the file that was seen at src to dst, whose name is free, or was a
// moment ago: errTaken. After an error the ledger's path is where the file is.
func (a *After) carry(ctx context.Context, c ledger.Capture, src, dst *place, seen fs.FileInfo) error {
	if err := makeDirs(dst); err != nil {
		return err
	}
	a.done("made folders")
	if err := a.record(ctx, c, dst.path()); err != nil {
		return err
	}
	a.done("recorded")
	there, err := a.transfer(ctx, c, src, dst, seen)
	if !there {
		return errors.Join(err, a.Ledger.SetPath(context.WithoutCancel(ctx), c.ID, src.path()))
	}
	if err != nil {
		return err
	}
	a.Log.Info().Int64("capture", c.ID).Str("from", src.path()).Str("path", dst.path()).Msg("moved after the upload")
	return nil
}

// transfer moves the file by whatever way there is and says whether it is at dst
// then, in whole; with an error it may be at src, too.
func (a *After) transfer(ctx context.Context, c ledger.Capture, src, dst *place, seen fs.FileInfo) (there bool, err error) {
	err = a.rename(src, dst)
	if crossDevice(err) {
		return a.copy(ctx, c, src, dst, seen)
	}
	if err != nil {
		return false, err
	}
	a.done("renamed")
	// Had another file taken the place in between, it was moved instead.
	now, err := dst.root.Lstat(dst.rel)
	if err != nil || !os.SameFile(now, seen) || now.Size() != seen.Size() || !now.ModTime().Equal(seen.ModTime()) {
		return false, errors.Join(errNotOurs, err, a.rename(dst, src))
	}
	return true, errors.Join(disk.SyncDir(filepath.Dir(dst.path())), disk.SyncDir(filepath.Dir(src.path())))
}

// rename gives the file at src the name dst, or errTaken.
func (a *After) rename(src, dst *place) error {
	err := errors.ErrUnsupported
	if !a.old {
		err = renameNew(src, dst)
	}
	if !errors.Is(err, errors.ErrUnsupported) {
		return named(err)
	}
	// Where renaming always replaces, the name is claimed first.
	f, err := dst.root.OpenFile(dst.rel, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return named(err)
	}
	if err := f.Close(); err != nil {
		return named(err)
	}
	a.done("claimed")
	if err := renameOver(src, dst); err != nil {
		return errors.Join(named(err), dst.root.Remove(dst.rel))
	}
	return nil
}

// named tells a name that is taken from other errors of renaming.
func named(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrExist):
		return errTaken
	default:
		return fmt.Errorf("rename: %w", safefile.Cause(err))
	}
}

// copy moves the file to another file system: a copy of the same content is made
// under a name of its own, made durable, and named dst before src is deleted.
func (a *After) copy(ctx context.Context, c ledger.Capture, src, dst *place, seen fs.FileInfo) (there bool, err error) {
	if err := mayRemove(src); err != nil {
		return false, fmt.Errorf("delete after copying: %w", err)
	}
	part := &place{root: dst.root, dir: dst.dir, rel: filepath.Join(filepath.Dir(dst.rel), fmt.Sprintf(".capagent-%d.part", c.ID))}
	if err := part.root.Remove(part.rel); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("copy: %w", safefile.Cause(err))
	}
	err = a.write(ctx, c, src, part, seen)
	if err == nil {
		a.done("copied")
		err = a.rename(part, dst)
	}
	if err != nil {
		_ = part.root.Remove(part.rel) // the first error tells more
		return false, err
	}
	a.done("arrived")
	if err := disk.SyncDir(filepath.Dir(dst.path())); err != nil {
		return true, err
	}
	return true, a.remove(src, seen)
}

// write makes part a durable copy of the file that was seen at src.
func (a *After) write(ctx context.Context, c ledger.Capture, src, part *place, seen fs.FileInfo) (err error) {
	from, err := open(src.root, src.rel, seen)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // only read
	to, err := part.root.OpenFile(part.rel, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("copy: %w", safefile.Cause(err))
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	a.done("began to copy")
	sum, err := hash(ctx, to, from)
	if err == nil && sum != c.SHA256 {
		return fmt.Errorf("%w: it changed while it was copied", errNotOurs)
	}
	if err == nil {
		err = errors.Join(part.root.Chmod(part.rel, seen.Mode().Perm()), part.root.Chtimes(part.rel, seen.ModTime(), seen.ModTime()), to.Sync())
	}
	if err != nil {
		return fmt.Errorf("copy: %w", safefile.Cause(err))
	}
	return nil
}

// makeDirs makes the folders of a path, durably.
func makeDirs(p *place) error {
	dir := filepath.Dir(p.rel)
	if _, err := p.root.Stat(dir); err == nil {
		return nil
	}
	if err := p.root.MkdirAll(dir, 0o777); err != nil {
		return fmt.Errorf("make folder %s: %w", quote.Path(filepath.Join(p.dir, dir)), safefile.Cause(err))
	}
	for ; dir != "."; dir = filepath.Dir(dir) {
		if err := disk.SyncDir(filepath.Join(p.dir, filepath.Dir(dir))); err != nil {
			return err
		}
	}
	return nil
}

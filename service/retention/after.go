package retention

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rs/zerolog"

	"capagent/internal/disk"
	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/internal/quote"
	"capagent/internal/safefile"
)

// The values of Rule.Action.
const (
	Keep   = "keep"   // the file stays where it is
	Move   = "move"   // below MoveTo, under the path that it has below Root
	Delete = "delete" // for good
)

// Rule is what becomes of a watched folder's file when its session is there.
type Rule struct {
	Root   string // the watched folder
	Action string
	MoveTo string // the folder to move to; it is made when it is missing
}

// After does what a Rule says. It may be used by several goroutines, for
// different captures.
type After struct {
	Ledger Ledger
	Log    zerolog.Logger
	// Stamp returns what cheaply tells that a file is still what it was, the way
	// the watcher made the stamp that Act is given.
	Stamp func(fs.FileInfo) string

	step func(name string) // tests let the agent die between any two steps
	old  bool              // tests: a file system on which renaming always replaces
}

// Act does what rule says with the file of capture c, which the watcher saw at
// path with that stamp. It does nothing to a capture without a session, or to one
// that isn't done, and leaves alone what is not the file that was uploaded any
// more: a file with another stamp counts as that only when its content is the
// same.
//
// The ledger knows of everything before it happens. After a crash, or an error,
// the file is in one of both places, and Act does the rest when it is called
// again with the same path. The error is a *failure.Error of kind Retry whose
// class says what is wrong with the folder or the disk ("disk_full", "read_only",
// ...), the same for each of its files.
func (a *After) Act(ctx context.Context, c ledger.Capture, rule Rule, path, stamp string) error {
	purged := c.State == ledger.Purged && rule.Action == Delete
	if c.SessionID == "" || c.State != ledger.Done && !purged || rule.Action != Delete && rule.Action != Move {
		return nil
	}
	err := a.act(ctx, c, rule, path, stamp)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errNotOurs):
		a.Log.Info().Int64("capture", c.ID).Str("path", path).Str("folder", rule.Root).Err(err).Msg("left alone after the upload")
		return nil
	case ctx.Err() != nil:
		return err
	}
	class := ledger.Trouble(err)
	if class == "" {
		class = "after"
	}
	return &failure.Error{
		Class: class, Err: fmt.Errorf("%s %s: %w", rule.Action, quote.Path(path), err),
		Hint: fmt.Sprintf("the file is uploaded and stays where it is; it is tried again, or set after = %q", Keep),
	}
}

func (a *After) act(ctx context.Context, c ledger.Capture, rule Rule, path, stamp string) error {
	src, err := openPlace(rule.Root, path)
	if err != nil {
		return err
	}
	defer src.close()
	info, err := look(src.root, src.rel)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // done before, or somebody else took it
	}
	if err != nil {
		return safefile.Cause(err)
	}
	if stamp == "" || a.Stamp(info) != stamp {
		ours, err := holds(ctx, src.root, src.rel, info, c)
		if err == nil && !ours {
			err = fmt.Errorf("%w: its content is another", errNotOurs)
		}
		if err != nil {
			return err
		}
	}
	if needed, err := wanted(ctx, a.Ledger, c); needed || err != nil {
		return err // another destination waits for it, and tells when it is done
	}
	if rule.Action == Delete {
		return a.delete(ctx, c, src, info)
	}
	return a.move(ctx, c, rule, src, info)
}

func (a *After) delete(ctx context.Context, c ledger.Capture, src *place, seen fs.FileInfo) error {
	if c.State != ledger.Purged {
		if err := a.Ledger.SetState(ctx, c.ID, ledger.Purged, "deleted after the upload"); err != nil {
			return err
		}
	}
	a.done("recorded")
	if err := a.remove(src, seen); err != nil {
		return err
	}
	a.Log.Info().Int64("capture", c.ID).Str("path", src.path()).Msg("deleted after the upload")
	return nil
}

// remove deletes the file that was seen at src, durably. What has taken its place
// meanwhile is left alone, without an error.
func (a *After) remove(src *place, seen fs.FileInfo) error {
	now, err := look(src.root, src.rel)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotOurs) {
		return nil
	}
	if err != nil {
		return safefile.Cause(err)
	}
	if !os.SameFile(now, seen) || a.Stamp(now) != a.Stamp(seen) {
		return nil
	}
	if err := src.root.Remove(src.rel); err != nil {
		return safefile.Cause(err)
	}
	a.done("removed")
	return disk.SyncDir(filepath.Dir(src.path()))
}

// done says that a step is done, for tests.
func (a *After) done(step string) {
	if a.step != nil {
		a.step(step)
	}
}

// place is a path below a directory that it can't lead out of.
type place struct {
	root     *os.Root
	dir, rel string
}

func openPlace(dir, path string) (*place, error) {
	rel, ok := below(dir, path)
	if !ok {
		return nil, fmt.Errorf("%w: it is not below %s", errNotOurs, quote.Path(dir))
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &place{root: root, dir: strings.TrimSuffix(filepath.Clean(path), rel), rel: rel}, nil
}

func (p *place) path() string { return filepath.Join(p.dir, p.rel) }
func (p *place) close()       { _ = p.root.Close() } // only a handle

package retention

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"capagent/internal/disk"
	"capagent/internal/ledger"
	"capagent/internal/safefile"
)

// Keeper keeps the agent's own files within the limits of [retention]. All its
// fields but Now and Free must be set.
type Keeper struct {
	Ledger   Ledger
	Config   Config
	SpoolDir string
	Log      zerolog.Logger
	// Ring has max_size and min_free concern held captures, too: those that are
	// done go first. Without it only max_age does.
	Ring bool
	// Needed keeps a capture for now, whatever the limits say; nil: none.
	Needed func(ledger.Capture) bool
	Now    func() time.Time // time.Now when nil
	// Free is disk.Free when nil.
	Free func(path string) (free, total, inodesFree uint64, err error)

	mu    sync.Mutex
	start time.Time // of the first sweep, by Now
	begun time.Time // the same moment by a clock that nobody sets
	left  []string  // files of purged captures that could not be deleted, below SpoolDir
}

const (
	// minInodes is how many files the disk must have room for while there is a
	// min_free: those of the ledger and of the captures being written.
	minInodes = 64
	pageSize  = 100
	// maxPassed bounds how many captures a sweep passes over, and maxLeft how many
	// purged ones may have a file: where nothing can be deleted, no more are purged.
	maxPassed = 1000
	maxLeft   = 8
)

// Sweep deletes files of the agent's own until the limits are met: of captures
// that are done, oldest first, and of held ones that are older than max_age, or
// with Ring for any limit. Nothing else is deleted for any limit. It returns what it did also with an
// error. One Sweep or Recover runs at a time.
func (k *Keeper) Sweep(ctx context.Context) (Report, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.start.IsZero() {
		k.start, k.begun = k.now(), time.Now()
	}
	s := &sweep{Keeper: k, stuck: map[int64]bool{}}
	err := s.run(ctx)
	if s.report.Purged > 0 {
		k.Log.Info().Int("captures", s.report.Purged).Int64("bytes", s.report.Freed).Msg("deleted captures from the spool")
	}
	if err != nil {
		return s.report, fmt.Errorf("retention: %w", err)
	}
	return s.report, nil
}

func (k *Keeper) now() time.Time {
	if k.Now != nil {
		return k.Now()
	}
	return time.Now()
}

// sweep is one Sweep under way.
type sweep struct {
	*Keeper
	root   *os.Root
	report Report
	stuck  map[int64]bool // captures whose file is not what was recorded
}

// errEnough ends a sweep's loop: the limit is met.
var errEnough = errors.New("enough")

func (s *sweep) run(ctx context.Context) (err error) {
	s.root, err = os.OpenRoot(s.SpoolDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was ever spooled
	}
	if err != nil {
		return err
	}
	defer func() { _ = s.root.Close() }() // only a handle
	s.left = slices.DeleteFunc(s.left, func(rel string) bool { return s.remove(s.root, rel) == nil })
	if age := s.Config.MaxAge.Std(); age > 0 {
		if err := s.aged(ctx, age); err != nil {
			return err
		}
	}
	return s.limits(ctx)
}

// aged deletes what is older than age.
func (s *sweep) aged(ctx context.Context, age time.Duration) error {
	now := s.now()
	for _, held := range []bool{false, true} {
		reason := fmt.Sprintf("deleted: older than max_age (%s)", s.Config.MaxAge)
		if held {
			reason = fmt.Sprintf("deleted without an upload: nothing released it within max_age (%s)", s.Config.MaxAge)
		}
		err := s.each(ctx, now.Add(-age), held, func(c ledger.Capture) (bool, error) {
			if s.age(c, now) <= age {
				return false, nil
			}
			return s.purge(ctx, c, reason)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// age is how long the agent has had a capture, whose packets may be older. One that
// came after the first sweep is no older than that by a clock that is never set:
// one that jumps must not make captures old.
func (s *sweep) age(c ledger.Capture, now time.Time) time.Duration {
	age := now.Sub(c.Created)
	if !c.Created.Before(s.start) {
		age = min(age, time.Since(s.begun))
	}
	return age
}

// limits deletes until max_size and min_free are met, and reports what is missing.
func (s *sweep) limits(ctx context.Context) error {
	owned, err := s.Ledger.Owned(ctx)
	if err != nil {
		return err
	}
	var over int64
	if limit := s.Config.MaxSize.Bytes(); limit > 0 {
		over = owned.Bytes - limit
	}
	// What is deleted counts as free at once: some file systems take their time,
	// and would have all be deleted meanwhile.
	short, files, err := s.shortage()
	if err != nil {
		return err
	}
	for _, held := range []bool{false, true} {
		if over <= 0 && short <= 0 && files <= 0 || held && !s.Ring {
			break
		}
		reason := "deleted"
		if held {
			reason = "deleted without an upload, as nothing released it"
		}
		err = s.each(ctx, time.Time{}, held, func(c ledger.Capture) (bool, error) {
			why := fmt.Sprintf("%s: the spool is over max_size (%s)", reason, s.Config.MaxSize)
			switch {
			case over > 0:
			case short > 0 || files > 0:
				why = fmt.Sprintf("%s: less than min_free (%s) is free", reason, s.Config.MinFree)
			default:
				return false, errEnough
			}
			before := s.report.Freed
			purged, err := s.purge(ctx, c, why)
			if freed := s.report.Freed - before; freed > 0 {
				short, files = short-freed, files-1
			}
			if purged {
				over -= c.Size
			}
			return purged, err
		})
		if err != nil {
			return err
		}
	}
	s.report.OverSize, s.report.ShortFree, s.report.ShortFiles = max(over, 0), max(short, 0), max(files, 0)
	if s.report.Owned, err = s.Ledger.Owned(ctx); err != nil {
		return err
	}
	s.report.Problem = s.problem()
	return nil
}

// shortage returns how many bytes and files are missing on the disk.
func (s *sweep) shortage() (bytes, files int64, err error) {
	if s.Config.MinFree <= 0 {
		return 0, 0, nil
	}
	ask := s.Free
	if ask == nil {
		ask = disk.Free
	}
	free, _, inodes, err := ask(s.SpoolDir)
	if err != nil {
		return 0, 0, err
	}
	if floor := uint64(s.Config.MinFree.Bytes()); free < floor {
		bytes = int64(floor - free)
	}
	if inodes < minInodes {
		files = int64(minInodes - inodes)
	}
	return bytes, files, nil
}

// each calls f for captures that may be deleted, oldest first, each once, until f
// returns an error. f says whether it purged the capture.
func (s *sweep) each(ctx context.Context, before time.Time, held bool, f func(ledger.Capture) (purged bool, err error)) error {
	passed := map[int64]bool{}
	for len(passed) <= maxPassed {
		page, err := s.Ledger.Expendable(ctx, before, held, len(passed)+pageSize)
		if err != nil {
			return err
		}
		met := false
		for _, c := range page {
			if passed[c.ID] {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			met = true
			purged, err := f(c)
			if errors.Is(err, errEnough) {
				return nil
			}
			if err != nil {
				return err
			}
			if !purged {
				passed[c.ID] = true
			}
		}
		if !met {
			return nil
		}
	}
	return nil
}

// purge deletes the file of c, or passes c over. The error is one that others
// would meet too.
func (s *sweep) purge(ctx context.Context, c ledger.Capture, reason string) (purged bool, err error) {
	if s.Needed != nil && s.Needed(c) {
		return false, nil
	}
	rel, size, err := s.judge(c)
	if errors.Is(err, errNotOurs) {
		s.stuck[c.ID] = true
		s.Log.Warn().Str("class", "not_deleted").Int64("capture", c.ID).Str("path", c.Path).Err(err).Msg("a capture of the spool is not deleted")
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if len(s.left) >= maxLeft {
		return false, fmt.Errorf("%d files can't be deleted, such as %q", len(s.left), filepath.Join(s.SpoolDir, s.left[0]))
	}
	if needed, err := wanted(ctx, s.Ledger, c); needed || err != nil {
		return false, err
	}
	err = s.Ledger.SetState(ctx, c.ID, ledger.Purged, reason)
	var moved *ledger.TransitionError
	if errors.Is(err, ledger.ErrBusy) || errors.As(err, &moved) {
		return false, nil // somebody needs it now
	}
	if err != nil {
		return false, err
	}
	s.report.Purged++
	if rel == "" {
		return true, nil
	}
	if err := s.remove(s.root, rel); err != nil {
		s.left = append(s.left, rel)
		return true, err
	}
	s.report.Freed += size
	s.Log.Debug().Int64("capture", c.ID).Str("path", c.Path).Str("reason", reason).Msg("deleted")
	return true, nil
}

// judge returns the path below the spool and the size of the file of c, "" when
// there is none. The error is errNotOurs when something else is there.
func (s *sweep) judge(c ledger.Capture) (rel string, size int64, err error) {
	rel, ok := below(s.SpoolDir, c.Path)
	if !ok {
		return "", 0, fmt.Errorf("%w: it is not in the spool", errNotOurs)
	}
	info, err := look(s.root, rel)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", 0, nil
	case err != nil:
		return "", 0, err
	case info.Size() != c.Size:
		return "", 0, fmt.Errorf("%w: its size is another", errNotOurs)
	}
	return rel, info.Size(), nil
}

// remove deletes a file below the spool, durably. It is no error when there is
// none.
func (k *Keeper) remove(root *os.Root, rel string) error {
	path := filepath.Join(k.SpoolDir, rel)
	err := root.Remove(rel)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = disk.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("delete %q: %w", path, safefile.Cause(err))
	}
	return nil
}

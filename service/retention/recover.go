package retention

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"capagent/internal/ledger"
)

// Recover deletes the files of purged captures that are still there because a
// crash came between the record and the deletion, and returns how many. It reads
// all purged captures: call it once, at the start, best only after an unclean end.
func (k *Keeper) Recover(ctx context.Context) (n int, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	root, err := os.OpenRoot(k.SpoolDir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("retention: %w", err)
	}
	defer func() { _ = root.Close() }() // only a handle
	for c, err := range k.Ledger.List(ctx, ledger.Filter{States: []ledger.State{ledger.Purged}}) {
		var deleted bool
		if err == nil && c.Owned {
			deleted, err = k.recover(ctx, root, c)
		}
		if err != nil {
			return n, fmt.Errorf("retention: %w", err)
		}
		if deleted {
			n++
		}
	}
	if n > 0 {
		k.Log.Info().Int("captures", n).Msg("deleted files that a crash had left in the spool")
	}
	return n, nil
}

func (k *Keeper) recover(ctx context.Context, root *os.Root, c ledger.Capture) (bool, error) {
	rel, ok := below(k.SpoolDir, c.Path)
	if !ok {
		return false, nil
	}
	info, err := look(root, rel)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotOurs) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	// By its content: a name may be used again, by a file that has no row yet.
	ours, err := holds(ctx, root, rel, info, c)
	if errors.Is(err, errNotOurs) {
		return false, nil
	}
	if !ours || err != nil {
		return false, err
	}
	if needed, err := wanted(ctx, k.Ledger, c); needed || err != nil {
		return false, err
	}
	return true, k.remove(root, rel)
}

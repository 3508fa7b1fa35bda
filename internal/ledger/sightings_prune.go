package ledger

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Keep is what of the sightings is kept.
type Keep struct {
	Since   time.Time // those of captures whose last sighting is not before; zero: of any age
	MaxSize int64     // bytes that they may take; 0: any number
}

// Pruned is what a pruning did.
type Pruned struct {
	Captures int64 // whose sightings are forgotten
	Size     int64 // bytes that the rest takes, besides what is free in the file
}

const (
	pruneSlice = 500      // captures, and blocks, in one transaction
	vacuumed   = 64       // pages given back to the disk in one
	spare      = 64 << 20 // bytes free in the file that are left for what comes
)

// PruneSightings forgets sightings by age, and the oldest while they take too much
// room. It works in short transactions, so that others go on, and ends with ctx.
// Sightings that are too old are not found from then on; the room that they take is
// free when all that lie in one segment with them are too old, too.
func (l *Ledger) PruneSightings(ctx context.Context, keep Keep) (Pruned, error) {
	var done Pruned
	if l.w != nil && !exists(l.SightingsPath()) {
		return done, nil
	}
	err := func() error {
		if !keep.Since.IsZero() {
			for more := true; more; {
				err := l.pruneSlice(ctx, func(ctx context.Context, s *sightStore, tx *txn) (err error) {
					more, err = s.forgetBefore(ctx, tx, inRange(keep.Since).UnixNano(), &done)
					return err
				})
				if err != nil {
					return err
				}
			}
		}
		for {
			over := false
			err := l.pruneSlice(ctx, func(ctx context.Context, s *sightStore, tx *txn) (err error) {
				over, err = s.shrink(ctx, tx, keep.MaxSize, &done)
				return err
			})
			if err != nil || !over {
				return err
			}
		}
	}()
	if err != nil {
		return done, fmt.Errorf("prune sightings: %w", err)
	}
	return done, nil
}

func (l *Ledger) pruneSlice(ctx context.Context, f func(ctx context.Context, s *sightStore, tx *txn) error) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return l.writeSightings(ctx, f)
}

// forgetBefore forgets some captures whose last sighting is older than before.
func (s *sightStore) forgetBefore(ctx context.Context, tx *txn, before int64, done *Pruned) (more bool, err error) {
	gone, err := collect(ctx, tx, func(seq *int64) []any { return []any{seq} }, `DELETE FROM sights WHERE seq IN
		(SELECT seq FROM sights WHERE last < ? ORDER BY last LIMIT ?) RETURNING seq`, before, pruneSlice)
	if err != nil {
		return false, err
	}
	done.Captures += int64(len(gone))
	for _, seq := range gone {
		if err := staleBetween(ctx, tx, seq, seq); err != nil {
			return false, err
		}
	}
	return len(gone) == pruneSlice, nil
}

// shrink frees what nothing counts of any more, and the oldest segment when all
// together take more than size. It says whether there is more to do.
func (s *sightStore) shrink(ctx context.Context, tx *txn, size int64, done *Pruned) (more bool, err error) {
	empty, err := collect(ctx, tx, segmentFields, `SELECT `+segmentColumns+` FROM segments WHERE state = 'ready' AND stale = 1
		AND NOT EXISTS (SELECT 1 FROM sights WHERE seq BETWEEN low AND high)`)
	if err != nil {
		return false, err
	}
	for _, g := range empty {
		if err := s.kill(ctx, tx, g); err != nil {
			return false, err
		}
	}
	if n, err := s.drop(ctx, tx, pruneSlice); err != nil || n > 0 {
		return true, err
	}
	used, free, err := s.size(ctx, tx)
	if err != nil {
		return false, err
	}
	done.Size = used
	if size > 0 && used > size {
		oldest, err := collect(ctx, tx, segmentFields, `SELECT `+segmentColumns+` FROM segments WHERE state = 'ready' ORDER BY low LIMIT 2`)
		if err != nil || len(oldest) < 2 {
			return false, err // what is left is what was just recorded
		}
		gone, err := tx.ExecContext(ctx, `DELETE FROM sights WHERE seq IN (SELECT seq FROM sights WHERE seq <= ? ORDER BY seq LIMIT ?)`,
			oldest[0].high, 10*pruneSlice)
		if err != nil {
			return false, err
		}
		n, err := gone.RowsAffected()
		done.Captures += n
		return true, errors.Join(err, staleBetween(ctx, tx, 0, oldest[0].high))
	}
	if free <= max(spare, used/2) {
		return false, nil
	}
	return true, tryQuery(ctx, tx, fmt.Sprintf("PRAGMA incremental_vacuum(%d)", vacuumed))
}

// kill takes a segment out, and with it the one that is being built of it.
func (s *sightStore) kill(ctx context.Context, tx *txn, g segment) error {
	_, err1 := tx.ExecContext(ctx, `UPDATE segments SET state = 'dead'
		WHERE id = ?1 OR state = 'building' AND id = (SELECT heir FROM segments WHERE id = ?1)`, g.id)
	_, err2 := tx.ExecContext(ctx, `UPDATE segments SET heir = 0
		WHERE state = 'ready' AND heir = (SELECT heir FROM segments WHERE id = ?)`, g.id)
	return errors.Join(err1, err2)
}

// size returns how many bytes the store takes, and how many are free in its file.
func (s *sightStore) size(ctx context.Context, q querier) (used, free int64, err error) {
	type sizes struct{ pages, free, page int64 }
	all, err := collect(ctx, q, func(v *sizes) []any { return []any{&v.pages, &v.free, &v.page} },
		`SELECT (SELECT page_count FROM pragma_page_count), (SELECT freelist_count FROM pragma_freelist_count),
			(SELECT page_size FROM pragma_page_size)`)
	if err != nil {
		return 0, 0, err
	}
	return (all[0].pages - all[0].free) * all[0].page, all[0].free * all[0].page, nil
}

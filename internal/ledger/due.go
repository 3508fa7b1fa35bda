package ledger

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// maxRipe bounds how many captures whose wait has ended are put in order at a
// time. Where more have, those whose wait ended first come first.
const maxRipe = 1000

// due selects captures that don't wait in the order of their first packet, and
// adds those whose wait has ended, or was recorded by a clock that jumped.
// ?1 destination, ?2 limit, ?3 now, ?4 now and MaxWait, ?5 limit of those that waited.
const due = `SELECT id FROM (
	SELECT * FROM (SELECT id, coalesce(first_packet, created) AS start FROM captures INDEXED BY captures_due
		WHERE destination = ?1 AND state = 'queued' AND not_before IS NULL
		ORDER BY coalesce(first_packet, created), id LIMIT ?2)
	UNION ALL
	SELECT * FROM (SELECT id, coalesce(first_packet, created) FROM captures INDEXED BY captures_waiting
		WHERE destination = ?1 AND state = 'queued' AND not_before IS NOT NULL AND not_before <= ?3
		ORDER BY not_before LIMIT ?5)
	UNION ALL
	SELECT * FROM (SELECT id, coalesce(first_packet, created) FROM captures INDEXED BY captures_waiting
		WHERE destination = ?1 AND state = 'queued' AND not_before IS NOT NULL AND not_before > ?4
		ORDER BY not_before LIMIT ?5))
ORDER BY start, id LIMIT ?2`

// Due returns at most limit queued captures of a destination that may be tried
// now: none of except, none that waits (NotBefore) and none of which this Ledger
// has claimed a step. The one with the oldest first packet comes first (one
// without packets counts from when it was registered), and of equal ones the one
// with the lowest number. Its cost does not grow with the ledger.
func (l *Ledger) Due(ctx context.Context, destination string, except []int64, limit int) ([]int64, error) {
	busy := l.claimed(except)
	now := l.now()
	more := len(busy) + max(limit, 0) // as many may have to be left out
	ids, err := l.ids(ctx, due, destination, more, stamp(now), stamp(now.Add(MaxWait)), maxRipe+len(busy))
	if err != nil {
		return nil, fmt.Errorf("captures that are due: %w", l.noted(err))
	}
	ids = slices.DeleteFunc(ids, func(id int64) bool { return busy[id] })
	return ids[:min(len(ids), max(limit, 0))], nil
}

// claimed returns the captures of which this Ledger has claimed a step, and those
// of also.
func (l *Ledger) claimed(also []int64) map[int64]bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := make(map[int64]bool, len(l.active)+len(also))
	for c := range l.active {
		ids[c.capture] = true
	}
	for _, id := range also {
		ids[id] = true
	}
	return ids
}

// NextDue returns when the first of a destination's waiting captures may be
// tried, zero when none waits. Its cost does not grow with the ledger.
func (l *Ledger) NextDue(ctx context.Context, destination string) (time.Time, error) {
	var next stamp
	now := l.now()
	err := l.r.QueryRowContext(ctx, `SELECT min(not_before) FROM captures INDEXED BY captures_waiting
		WHERE destination = ? AND state = 'queued' AND not_before IS NOT NULL AND not_before > ? AND not_before <= ?`, destination, stamp(now), stamp(now.Add(MaxWait))).Scan(&next)
	if err != nil {
		return time.Time{}, fmt.Errorf("the next capture that is due: %w", l.noted(err))
	}
	return time.Time(next), nil
}

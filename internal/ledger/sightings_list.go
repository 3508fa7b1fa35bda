package ledger

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
)

// Sightings returns what is recorded of a capture, in the order of types and within
// one of first frames. For one of the last captures that is a matter of milliseconds. For
// one that 15,000 others followed it reads all that was recorded around that time,
// some 260 MB, which takes a second where that is in memory and many where it is not.
func (l *Ledger) Sightings(ctx context.Context, capture int64) ([]Sighting, error) {
	var out []Sighting
	err := l.withSightings(ctx, func(s *sightStore) error {
		if s == nil {
			return nil
		}
		return s.view(ctx, func(q querier) (err error) {
			out, err = s.sightings(ctx, q, capture)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("sightings of capture %d: %w", capture, err)
	}
	return out, nil
}

func (s *sightStore) sightings(ctx context.Context, q querier, capture int64) ([]Sighting, error) {
	rows, err := collect(ctx, q, sightFields, `SELECT seq, capture, base FROM sights WHERE capture = ?`, capture)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	row := rows[0]
	of, err := collect(ctx, q, segmentFields, `SELECT `+segmentColumns+` FROM segments
		WHERE state = 'ready' AND low <= ?1 AND high >= ?1`, row.seq)
	if err != nil || len(of) == 0 {
		return nil, err
	}
	type one struct {
		Sighting
		number byte
	}
	var all []one
	err = s.eachEntry(ctx, q, of[0], func(e entry) error {
		var bad error
		err := e.each(of[0].low, func(p posting) {
			if p.seq != row.seq || bad != nil {
				return
			}
			var v Sighting
			v, bad = p.sighting(e.key, row.base)
			all = append(all, one{v, e.key[0]})
		})
		return errors.Join(err, bad)
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(all, func(a, b one) int {
		return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(a.FirstFrame, b.FirstFrame), cmp.Compare(a.Value, b.Value))
	})
	out := make([]Sighting, len(all))
	for i, o := range all {
		out[i] = o.Sighting
	}
	return out, nil
}

// eachEntry reads a whole segment, in the order in which it lies on the disk.
func (s *sightStore) eachEntry(ctx context.Context, q querier, g segment, f func(entry) error) (err error) {
	table := blocksOf(g.level)
	rows, err := q.QueryContext(ctx, `SELECT data FROM `+table+` WHERE id IN (SELECT block FROM keys WHERE segment = ?) ORDER BY id`, g.id)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var data sql.RawBytes
	var raw []byte
	for rows.Next() {
		if err := rows.Scan(&data); err != nil {
			return err
		}
		if raw, err = s.unpack(raw, data); err != nil {
			return err
		}
		r := blockReader{rest: raw}
		for {
			e, ok, err := r.next()
			if err == nil && ok {
				err = f(e)
			}
			if err != nil {
				return err
			}
			if !ok {
				break
			}
		}
	}
	return rows.Err()
}

// Seen is an indicator of the whole store.
type Seen struct {
	Captures int64 // how many held it
	Newest   Hit   // the last that was recorded
}

// Indicators returns the distinct indicators of the store in an order of its own, at
// most limit of those that follow after, which is nil for the first page, and
// what to give as after for the next page, nil when there is none.
func (l *Ledger) Indicators(ctx context.Context, after []byte, limit int) (all []Seen, next []byte, err error) {
	err = l.withSightings(ctx, func(s *sightStore) error {
		if s == nil {
			return nil
		}
		return s.view(ctx, func(q querier) error {
			all, next, err = s.indicators(ctx, q, after, limit)
			return err
		})
	})
	if err != nil {
		return nil, nil, fmt.Errorf("indicators: %w", err)
	}
	return all, next, nil
}

func (s *sightStore) indicators(ctx context.Context, q querier, after key, limit int) (all []Seen, next key, err error) {
	segments, err := collect(ctx, q, segmentFields, `SELECT `+segmentColumns+` FROM segments WHERE state = 'ready' ORDER BY low`)
	if err != nil {
		return nil, nil, err
	}
	var cursors []*cursor
	lives := map[*cursor]seqs{}
	for _, g := range segments {
		c := &cursor{store: s, query: q, segment: g}
		if err := c.seek(ctx, after, after != nil); err != nil {
			return nil, nil, err
		}
		cursors = append(cursors, c)
		if lives[c], err = liveSeqs(ctx, q, []segment{g}); err != nil {
			return nil, nil, err
		}
	}
	for len(all) < limit {
		k := bytes.Clone(lowest(cursors))
		if k == nil || ctx.Err() != nil {
			return all, nil, ctx.Err()
		}
		next = k
		one, last := Seen{}, posting{}
		for _, c := range cursors {
			for c.ok && bytes.Equal(c.key, k) {
				err := c.each(c.segment.low, func(p posting) {
					if lives[c].has(p.seq) {
						one.Captures++
						last = p
					}
				})
				if err := errors.Join(err, c.next(ctx)); err != nil {
					return nil, nil, err
				}
			}
		}
		row, there, err := sightOf(ctx, q, last.seq)
		if err != nil {
			return nil, nil, err
		}
		if !there {
			continue
		}
		one.Newest = Hit{Capture: row.capture, seq: last.seq, key: k}
		if one.Newest.Sighting, err = last.sighting(k, row.base); err != nil {
			return nil, nil, err
		}
		all = append(all, one)
	}
	return all, next, nil
}

// Sighted returns the captures of which any sighting is recorded.
func (l *Ledger) Sighted(ctx context.Context) (map[int64]struct{}, error) {
	all := map[int64]struct{}{}
	err := l.withSightings(ctx, func(s *sightStore) error {
		if s == nil {
			return nil
		}
		return s.view(ctx, func(q querier) error {
			rows, err := collect(ctx, q, sightFields, `SELECT seq, capture, base FROM sights`)
			for _, r := range rows {
				all[r.capture] = struct{}{}
			}
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("captures with sightings: %w", err)
	}
	return all, nil
}

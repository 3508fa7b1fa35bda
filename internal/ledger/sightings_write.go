package ledger

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
)

const (
	levels = 4
	// fan is how many segments become one. A find reads a block or two of each
	// segment; a capture's sightings are written once on each level.
	fan = 25
	// A capture that is recorded moves others on by at least leastMoved sightings,
	// and at most mostMoved, so that the lock is never held for long.
	leastMoved = 4000
	mostMoved  = 200_000
	// dropped is how many blocks of dead segments are deleted with each capture.
	dropped = 100
)

func blocksOf(level int) string { return "blocks" + strconv.Itoa(level) }

// segment is a row of segments.
type segment struct {
	id, low, high, last int64
	level               int
	stale               bool
	upto                key
}

const segmentColumns = `id, level, low, high, last, stale, upto`

func segmentFields(s *segment) []any {
	return []any{&s.id, &s.level, &s.low, &s.high, &s.last, &s.stale, &s.upto}
}

// sight records a capture's sightings and moves older ones on.
func (s *sightStore) sight(ctx context.Context, tx *txn, capture, base, last int64, all []seen) error {
	if err := s.unsight(ctx, tx, capture); err != nil {
		return err
	}
	var seq int64
	err := tx.QueryRowContext(ctx, `INSERT INTO sights (capture, base, last, count) VALUES (?, ?, ?, ?) RETURNING seq`,
		capture, base, last, len(all)).Scan(&seq)
	if err != nil || len(all) == 0 {
		return err
	}
	id, err := s.newSegment(ctx, tx, 0, "ready", seq, seq, last)
	if err != nil {
		return err
	}
	w := s.writer(ctx, tx, segment{id: id, low: seq})
	for _, one := range all {
		one.seq = seq
		if err := w.add(one.key, one.posting); err != nil {
			return err
		}
	}
	if err := errors.Join(w.end(), w.flush()); err != nil {
		return err
	}
	// With each capture one level gets its turn, for as much as came on all of them
	// since its last, and once more.
	budget := min(max(2*levels*len(all), leastMoved), mostMoved)
	if err := s.merge(ctx, tx, int(seq%(levels-1)), budget); err != nil {
		return err
	}
	_, err = s.drop(ctx, tx, dropped)
	return err
}

// unsight takes back what was recorded of a capture.
func (s *sightStore) unsight(ctx context.Context, tx *txn, capture int64) error {
	var old int64
	err := tx.QueryRowContext(ctx, `DELETE FROM sights WHERE capture = ? RETURNING seq`, capture).Scan(&old)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err == nil {
		err = staleBetween(ctx, tx, old, old)
	}
	return err
}

// staleBetween notes that seqs from low to high are gone.
func staleBetween(ctx context.Context, tx *txn, low, high int64) error {
	_, err := tx.ExecContext(ctx, `UPDATE segments SET stale = 1 WHERE high >= ? AND low <= ?`, low, high)
	return err
}

func (s *sightStore) newSegment(ctx context.Context, tx *txn, level int, state string, low, high, last int64) (id int64, err error) {
	err = tx.QueryRowContext(ctx, `INSERT INTO segments (level, state, low, high, last) VALUES (?, ?, ?, ?, ?) RETURNING id`,
		level, state, low, high, last).Scan(&id)
	return id, err
}

// writer returns a blockWriter that puts its blocks into a segment.
func (s *sightStore) writer(ctx context.Context, tx *txn, g segment) *blockWriter {
	return &blockWriter{low: g.low, put: func(first key, alone int, raw []byte) error {
		var block int64
		err := tx.QueryRowContext(ctx, `INSERT INTO `+blocksOf(g.level)+` (data) VALUES (?) RETURNING id`, s.pack(raw)).Scan(&block)
		if err == nil {
			_, err = tx.ExecContext(ctx, `INSERT INTO keys (segment, key, block, alone) VALUES (?, ?, ?, ?)`, g.id, first, block, alone)
		}
		return err
	}}
}

// merge makes the segments of a level into one of the next, by about so many
// sightings, and begins with that when there are enough of them.
func (s *sightStore) merge(ctx context.Context, tx *txn, level, budget int) error {
	heir, sources, err := s.merging(ctx, tx, level)
	if err != nil || len(sources) == 0 {
		return err
	}
	live, err := liveSeqs(ctx, tx, sources)
	if err != nil {
		return err
	}
	cursors := make([]*cursor, len(sources))
	for i, g := range sources {
		cursors[i] = &cursor{store: s, query: tx, segment: g}
		if err := cursors[i].seek(ctx, heir.upto, heir.upto != nil); err != nil {
			return err
		}
	}
	w := s.writer(ctx, tx, heir)
	for moved := 0; ; {
		k := lowest(cursors)
		if k == nil {
			return errors.Join(w.end(), w.flush(), s.inherit(ctx, tx, heir))
		}
		if moved >= budget && w.entries == 0 && !w.open { // a block is full
			return s.progress(ctx, tx, heir)
		}
		heir.upto = append(heir.upto[:0], k...)
		for _, c := range cursors {
			for c.ok && bytes.Equal(c.key, heir.upto) {
				var werr error
				err := c.each(c.segment.low, func(p posting) {
					if werr == nil && live.has(p.seq) {
						werr = w.add(heir.upto, p)
					}
				})
				moved += c.count
				if err := errors.Join(err, werr, c.next(ctx)); err != nil {
					return err
				}
			}
		}
		if err := w.end(); err != nil {
			return err
		}
	}
}

// merging returns the segment that is being built of a level, and its sources, in
// the order of their seqs; none when there is nothing to do.
func (s *sightStore) merging(ctx context.Context, tx *txn, level int) (heir segment, sources []segment, err error) {
	all, err := collect(ctx, tx, segmentFields, `SELECT `+segmentColumns+` FROM segments WHERE state = 'building' AND level = ?`, level+1)
	if err != nil {
		return heir, nil, err
	}
	if len(all) > 0 {
		heir = all[0]
		sources, err = collect(ctx, tx, segmentFields, `SELECT `+segmentColumns+` FROM segments
			WHERE state = 'ready' AND heir = ? ORDER BY low`, heir.id)
		return heir, sources, err
	}
	sources, err = collect(ctx, tx, segmentFields, `SELECT `+segmentColumns+` FROM segments
		WHERE state = 'ready' AND level = ? ORDER BY low LIMIT ?`, level, fan)
	if err != nil || len(sources) < fan {
		return heir, nil, err
	}
	heir = segment{level: level + 1, low: sources[0].low, high: sources[fan-1].high}
	for _, g := range sources {
		heir.last = max(heir.last, g.last)
	}
	if heir.id, err = s.newSegment(ctx, tx, heir.level, "building", heir.low, heir.high, heir.last); err != nil {
		return heir, nil, err
	}
	for _, g := range sources {
		if _, err := tx.ExecContext(ctx, `UPDATE segments SET heir = ? WHERE id = ?`, heir.id, g.id); err != nil {
			return heir, nil, err
		}
	}
	return heir, sources, nil
}

// progress records how far a segment is built.
func (s *sightStore) progress(ctx context.Context, tx *txn, heir segment) error {
	_, err := tx.ExecContext(ctx, `UPDATE segments SET upto = ? WHERE id = ?`, heir.upto, heir.id)
	return err
}

// inherit puts a segment in the place of those that it was made of.
func (s *sightStore) inherit(ctx context.Context, tx *txn, heir segment) error {
	_, err1 := tx.ExecContext(ctx, `UPDATE segments SET state = 'ready', upto = NULL WHERE id = ?`, heir.id)
	_, err2 := tx.ExecContext(ctx, `UPDATE segments SET state = 'dead' WHERE heir = ?`, heir.id)
	return errors.Join(err1, err2)
}

// drop deletes at most n blocks of dead segments and returns how many there were.
func (s *sightStore) drop(ctx context.Context, tx *txn, n int) (deleted int, err error) {
	for deleted < n {
		dead, err := collect(ctx, tx, segmentFields, `SELECT `+segmentColumns+` FROM segments WHERE state = 'dead' ORDER BY id LIMIT 1`)
		if err != nil || len(dead) == 0 {
			return deleted, err
		}
		const some = ` (SELECT block FROM keys WHERE segment = ?1 ORDER BY key, block LIMIT ?2)`
		r, err := tx.ExecContext(ctx, `DELETE FROM `+blocksOf(dead[0].level)+` WHERE id IN`+some, dead[0].id, n-deleted)
		if err != nil {
			return deleted, err
		}
		if _, err := tx.ExecContext(ctx, `DELETE FROM keys WHERE segment = ?1 AND (key, block) IN
			(SELECT key, block FROM keys WHERE segment = ?1 ORDER BY key, block LIMIT ?2)`, dead[0].id, n-deleted); err != nil {
			return deleted, err
		}
		gone, err := r.RowsAffected()
		if err != nil {
			return deleted, err
		}
		if int(gone) < n-deleted {
			if _, err := tx.ExecContext(ctx, `DELETE FROM segments WHERE id = ?`, dead[0].id); err != nil {
				return deleted, err
			}
		}
		deleted += int(gone)
	}
	return deleted, nil
}

// seqs are seqs of captures that count, each with its base; nil holds all.
type seqs map[int64]int64

func (s seqs) has(seq int64) bool {
	_, ok := s[seq]
	return ok || s == nil
}

// load adds those of a segment whose captures were seen at since or later.
func (s seqs) load(ctx context.Context, q querier, g segment, since int64) error {
	found, err := collect(ctx, q, sightFields, `SELECT seq, capture, base FROM sights WHERE seq BETWEEN ? AND ? AND last >= ?`, g.low, g.high, since)
	for _, row := range found {
		s[row.seq] = row.base
	}
	return err
}

// liveSeqs returns those of the segments' seqs that count, nil when all do.
func liveSeqs(ctx context.Context, q querier, all []segment) (seqs, error) {
	if !slices.ContainsFunc(all, func(g segment) bool { return g.stale }) {
		return nil, nil
	}
	live := seqs{}
	for _, g := range all {
		if err := live.load(ctx, q, g, math.MinInt64); err != nil {
			return nil, err
		}
	}
	return live, nil
}

// cursor walks over the entries of a segment.
type cursor struct {
	store   *sightStore
	query   querier
	segment segment

	entry
	ok    bool // there is an entry
	block blockRow
	read  blockReader
	raw   []byte
}

type blockRow struct {
	key   key
	id    int64
	alone int
}

func blockFields(b *blockRow) []any { return []any{&b.key, &b.id, &b.alone} }

// seek goes to the first entry whose key is not lower than k, or is higher.
func (c *cursor) seek(ctx context.Context, k key, higher bool) error {
	compare := "<"
	if higher {
		compare = "<="
	}
	// What precedes k's place may hold it, too.
	found, err := collect(ctx, c.query, blockFields, `SELECT key, block, alone FROM keys
		WHERE segment = ? AND key `+compare+` ? ORDER BY key DESC, block DESC LIMIT 1`, c.segment.id, orEmpty(k))
	if err != nil {
		return err
	}
	if len(found) > 0 {
		err = c.load(ctx, found[0])
	}
	for err == nil {
		if err = c.next(ctx); !c.ok {
			break
		}
		if n := bytes.Compare(c.key, k); n > 0 || n == 0 && !higher {
			break
		}
	}
	return err
}

// orEmpty is k, which is not NULL.
func orEmpty(k key) key {
	if k == nil {
		return key{}
	}
	return k
}

// next goes to the next entry; ok is false at the end.
func (c *cursor) next(ctx context.Context) error {
	for {
		var err error
		c.entry, c.ok, err = c.read.next()
		if err != nil || c.ok {
			return err
		}
		found, err := collect(ctx, c.query, blockFields, `SELECT key, block, alone FROM keys
			WHERE segment = ? AND (key, block) > (?, ?) ORDER BY key, block LIMIT 1`, c.segment.id, orEmpty(c.block.key), c.block.id)
		if err != nil || len(found) == 0 {
			return err
		}
		if err := c.load(ctx, found[0]); err != nil {
			return err
		}
	}
}

func (c *cursor) load(ctx context.Context, b blockRow) (err error) {
	c.block = b
	c.raw, err = c.store.block(ctx, c.query, c.segment.level, b.id, c.raw)
	c.read.rest, c.read.key = c.raw, c.read.key[:0]
	return err
}

// block returns what a block holds, in the memory of to where it is large enough.
func (s *sightStore) block(ctx context.Context, q querier, level int, id int64, to []byte) ([]byte, error) {
	data, err := blockData(ctx, q, level, id)
	if err != nil {
		return nil, err
	}
	return s.unpack(to, data)
}

func blockData(ctx context.Context, q querier, level int, id int64) ([]byte, error) {
	found, err := collect(ctx, q, func(b *[]byte) []any { return []any{b} }, `SELECT data FROM `+blocksOf(level)+` WHERE id = ?`, id)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("%w: a block of sightings is missing", errStructure)
	}
	if err != nil {
		return nil, err
	}
	return found[0], nil
}

// lowest returns the lowest key of all cursors, nil when all are at their ends.
func lowest(cursors []*cursor) key {
	var k key
	for _, c := range cursors {
		if c.ok && (k == nil || bytes.Compare(c.key, k) < 0) {
			k = c.key
		}
	}
	return k
}

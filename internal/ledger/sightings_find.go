package ledger

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Search is a question to Find.
type Search struct {
	Wanted []Wanted  // any of them; none may lie in another
	Since  time.Time // only sightings whose last moment is not before; zero: all
	Limit  int       // at most so many, 1 to MaxHits
	After  *Hit      // the last one of the page before
}

// MaxHits bounds a page of Find.
const MaxHits = 100_000

// Hit is a sighting that Find found.
type Hit struct {
	Sighting
	Capture int64

	seq int64
	key key
}

// Hits is what Find found: first what was recorded last.
type Hits struct {
	Hits  []Hit
	Total int64 // how many there are on all pages
	More  bool  // Total is not all of them: counting them would take too long
}

// Find returns the captures that held an indicator. For a whole value its cost grows
// with the logarithm of the store, and hardly with what it finds; a Search with
// Below or Since is answered from the newest captures back, and is not counted to
// its end.
func (l *Ledger) Find(ctx context.Context, search Search) (Hits, error) {
	var found Hits
	err := l.withSightings(ctx, func(s *sightStore) error {
		f, err := newFinder(s, search)
		if err != nil || s == nil {
			return err
		}
		return s.view(ctx, func(q querier) error {
			found, err = f.find(ctx, q)
			return err
		})
	})
	if err != nil {
		return Hits{}, fmt.Errorf("find sightings: %w", err)
	}
	return found, nil
}

// view runs f in one state of the store.
func (s *sightStore) view(ctx context.Context, f func(querier) error) error {
	// Ending the transaction is ours alone: when ctx ended it, statements would be
	// closed of a connection that is gone, which the driver does not survive.
	tx, err := s.r.BeginTx(context.WithoutCancel(ctx), &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	p := &prepared{tx: tx, ready: map[string]*sql.Stmt{}}
	return errors.Join(f(p), p.close())
}

// prepared compiles each query of a transaction once.
type prepared struct {
	tx    *sql.Tx
	ready map[string]*sql.Stmt
}

func (p *prepared) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	stmt := p.ready[query]
	if stmt == nil {
		var err error
		if stmt, err = p.tx.PrepareContext(ctx, query); err != nil { //nolint:gosec // queries are of this package, and name tables by numbers
			return nil, err
		}
		p.ready[query] = stmt
	}
	return stmt.QueryContext(ctx, args...)
}

func (p *prepared) close() error {
	var errs []error
	for _, stmt := range p.ready {
		errs = append(errs, stmt.Close())
	}
	return errors.Join(errs...)
}

// finder answers one Search.
type finder struct {
	store *sightStore
	Search
	spans []span
	exact bool // every hit is counted

	found  []match // of the segment that is looked at
	counts int64
	raw    []byte
}

// match is a hit before its capture is looked up.
type match struct {
	key key
	posting
}

func newFinder(s *sightStore, search Search) (*finder, error) {
	f := &finder{store: s, Search: search, exact: search.Since.IsZero()}
	if f.Limit < 1 || f.Limit > MaxHits {
		return nil, fmt.Errorf("a page of %d", f.Limit)
	}
	for _, w := range search.Wanted {
		one, err := w.span()
		if err != nil {
			return nil, err
		}
		f.spans = append(f.spans, one)
		f.exact = f.exact && !w.Below
	}
	return f, nil
}

func (f *finder) find(ctx context.Context, q querier) (out Hits, err error) {
	segments, err := collect(ctx, q, segmentFields, `SELECT `+segmentColumns+` FROM segments
		WHERE state = 'ready' AND last >= ? ORDER BY low DESC`, f.since())
	if err != nil {
		return Hits{}, err
	}
	defer f.store.readAhead(ctx, segments, f.spans)()
	for _, g := range segments {
		full := len(out.Hits) >= f.Limit || f.After != nil && g.low > f.After.seq
		if full && !f.exact {
			if len(out.Hits) >= f.Limit {
				out.More = true
				break
			}
			continue
		}
		live, err := f.live(ctx, q, g)
		if err != nil {
			return Hits{}, err
		}
		f.found = f.found[:0]
		for _, one := range f.spans {
			if err := f.look(ctx, q, g, one, live, full); err != nil {
				return Hits{}, err
			}
		}
		slices.SortFunc(f.found, newest)
		for _, one := range f.found {
			if len(out.Hits) >= f.Limit {
				out.More = out.More || !f.exact
				break
			}
			h, there, err := f.hit(ctx, q, one)
			if err != nil {
				return Hits{}, err
			}
			if there {
				out.Hits = append(out.Hits, h)
			}
		}
	}
	out.Total = f.counts
	if !f.exact {
		out.Total = int64(len(out.Hits))
		out.More = out.More || f.After != nil
	}
	return out, nil
}

func newest(a, b match) int {
	return cmp.Or(cmp.Compare(b.seq, a.seq), bytes.Compare(a.key, b.key))
}

// since is the earliest moment that a hit may have.
func (f *finder) since() int64 {
	if f.Since.IsZero() {
		return math.MinInt64
	}
	return inRange(f.Since).UnixNano()
}

// live returns the seqs of a segment that a hit may have, nil when all may.
func (f *finder) live(ctx context.Context, q querier, g segment) (seqs, error) {
	if f.Since.IsZero() {
		return liveSeqs(ctx, q, []segment{g})
	}
	live := seqs{}
	return live, live.load(ctx, q, g, f.since())
}

// blocksIn finds the blocks of a segment that may hold keys of a span.
func blocksIn(ctx context.Context, q querier, segment int64, in span) ([]blockRow, error) {
	return collect(ctx, q, blockFields, `SELECT key, block, alone FROM
		(SELECT key, block, alone FROM keys WHERE segment = ?1 AND key < ?2 ORDER BY key DESC, block DESC LIMIT 1)
		UNION ALL SELECT key, block, alone FROM keys WHERE segment = ?1 AND key >= ?2 AND key < ?3`, segment, in.lo, in.hi)
}

// readAhead lets the disk fetch what find is about to read, several places at a
// time, where it is not in memory. What goes wrong with that, find meets as well.
func (s *sightStore) readAhead(ctx context.Context, segments []segment, spans []span) (stop func()) {
	const few, workers = 8, 6
	if len(segments) <= few {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var next atomic.Int64
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			_ = s.view(ctx, func(q querier) error {
				for i := next.Add(1); i < int64(len(segments)) && ctx.Err() == nil; i = next.Add(1) {
					s.fetch(ctx, q, segments[i], spans)
				}
				return nil
			})
		})
	}
	return func() { cancel(); all.Wait() }
}

func (s *sightStore) fetch(ctx context.Context, q querier, g segment, spans []span) {
	for _, in := range spans {
		blocks, _ := blocksIn(ctx, q, g.id, in)
		for _, b := range blocks {
			if b.alone == 0 {
				_, _ = blockData(ctx, q, g.level, b.id)
			}
		}
	}
}

// look collects what a segment holds of a span, or only counts it.
func (f *finder) look(ctx context.Context, q querier, g segment, in span, live seqs, countOnly bool) error {
	blocks, err := blocksIn(ctx, q, g.id, in)
	if err != nil {
		return err
	}
	for _, b := range blocks {
		inside := in.has(b.key)
		if b.alone > 0 && !inside {
			continue // it holds another key only
		}
		if b.alone > 0 && countOnly && live == nil {
			f.counts += int64(b.alone)
			continue
		}
		if f.raw, err = f.store.block(ctx, q, g.level, b.id, f.raw); err != nil {
			return err
		}
		if err := f.scan(g, in, live, countOnly); err != nil {
			return err
		}
	}
	return nil
}

// scan looks at one block.
func (f *finder) scan(g segment, in span, live seqs, countOnly bool) error {
	r := blockReader{rest: f.raw}
	for {
		e, ok, err := r.next()
		if err != nil || !ok || bytes.Compare(e.key, in.hi) >= 0 {
			return err
		}
		if !in.has(e.key) {
			continue
		}
		if countOnly && live == nil {
			f.counts += int64(e.count)
			continue
		}
		k := bytes.Clone(e.key)
		err = e.each(g.low, func(p posting) {
			if !live.has(p.seq) || live != nil && p.until(live[p.seq]) < f.since() {
				return
			}
			f.counts++
			one := match{k, p}
			if countOnly || f.After != nil && newest(one, match{f.After.key, posting{seq: f.After.seq}}) <= 0 {
				return
			}
			f.found = append(f.found, one)
		})
		if err != nil {
			return err
		}
		if len(f.found) > 2*f.Limit+blockSize {
			slices.SortFunc(f.found, newest)
			f.found = f.found[:f.Limit+1]
		}
	}
}

// hit looks up the capture of what was found; there is false when it does not count.
func (f *finder) hit(ctx context.Context, q querier, one match) (h Hit, there bool, err error) {
	row, there, err := sightOf(ctx, q, one.seq)
	if err != nil || !there {
		return Hit{}, false, err
	}
	h = Hit{Capture: row.capture, seq: one.seq, key: one.key}
	h.Sighting, err = one.sighting(one.key, row.base)
	return h, err == nil, err
}

// sightRow is a row of sights.
type sightRow struct{ seq, capture, base int64 }

func sightFields(r *sightRow) []any { return []any{&r.seq, &r.capture, &r.base} }

func sightOf(ctx context.Context, q querier, seq int64) (row sightRow, there bool, err error) {
	rows, err := collect(ctx, q, sightFields, `SELECT seq, capture, base FROM sights WHERE seq = ?`, seq)
	if err != nil || len(rows) == 0 {
		return sightRow{}, false, err
	}
	return rows[0], true, nil
}

// until is the moment of the last sighting.
func (p posting) until(base int64) int64 { return base + (p.first+p.span)*int64(time.Millisecond) }

// sighting returns a posting as it was given.
func (p posting) sighting(k key, base int64) (Sighting, error) {
	typ, value, err := indicatorOf(k)
	if err != nil {
		return Sighting{}, err
	}
	return Sighting{
		Type: typ, Value: value, Role: p.role, FirstFrame: p.frame, Count: p.count,
		First: time.Unix(0, base+p.first*int64(time.Millisecond)).UTC(), Last: time.Unix(0, p.until(base)).UTC(),
	}, nil
}

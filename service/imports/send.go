package imports

import (
	"context"

	"golang.org/x/sync/errgroup"

	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/service"
)

// batch is how many rows one transaction registers: few enough that a reader
// never waits long, enough that 20,000 files cost seconds.
const batch = 500

// register records every capture, and takes over what the ledger already knew
// of the same content at the same path.
func (im *run) register(ctx context.Context) error {
	var rows []ledger.Found
	var at []int
	flush := func() error {
		known, err := im.ledger.Register(ctx, rows)
		if err != nil {
			return err
		}
		for k, r := range known {
			im.entries[at[k]].Capture = r.Capture
		}
		if err := im.explain(ctx, at); err != nil {
			return err
		}
		rows, at = rows[:0], at[:0]
		return nil
	}
	for i, e := range im.entries {
		if !e.recorded() {
			continue
		}
		rows, at = append(rows, im.asFound(e)), append(at, i)
		if len(rows) == batch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// lookers is how many captures are looked up at once.
const lookers = 4

// explain records what the entries at those places hold, and has it looked up.
func (im *run) explain(ctx context.Context, at []int) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(lookers)
	for _, i := range at {
		group.Go(func() error {
			e := &im.entries[i]
			held := im.sight(ctx, *e)
			if e.State != ledger.Sealed || im.opts.Explain == nil {
				return nil
			}
			c, err := im.opts.Explain(ctx, e.Capture, held.Sightings, held.Machines)
			if err == nil {
				e.Capture = c
			}
			return err
		})
	}
	return group.Wait()
}

// sight records what a capture held, and returns it.
func (im *run) sight(ctx context.Context, e Entry) staged {
	if im.stage == nil || e.staged.length == 0 {
		return staged{}
	}
	one, err := im.stage.get(e.staged)
	if err != nil {
		im.opts.Log.Warn().Err(err).Str("class", "sightings").Msg("what a capture holds is not recorded")
		return staged{}
	}
	service.Sight(ctx, im.ledger, im.opts.Log, e.ID, one.Sightings)
	return one
}

func (im *run) asFound(e Entry) ledger.Found {
	found := ledger.Found{
		Source: e.Source, Path: e.Path, Name: e.Name, Case: e.Case, Destination: e.Destination,
		Inspection: e.Inspection, Tags: e.Tags, Comment: e.Comment, State: e.State, Reason: e.Reason,
	}
	if im.opts.Deliver != nil {
		found.Deliver = im.opts.Deliver(e.State)
	}
	return found
}

// send uploads what is queued, oldest first packet first. Files of equal
// content come after the first of them has had its turn.
func (im *run) send(ctx context.Context) error {
	var first, again []int
	seen := map[string]bool{}
	var bytes int64
	for i, e := range im.entries {
		switch {
		case e.State != ledger.Queued:
			im.settle(i)
			im.ended(ctx, i)
		case seen[e.SHA256]:
			again = append(again, i)
		default:
			seen[e.SHA256] = true
			first = append(first, i)
			bytes += e.Size
		}
	}
	if im.opts.OnPlanned != nil {
		im.locked(func() { im.opts.OnPlanned(len(first), bytes) })
	}
	if err := im.each(ctx, first); err != nil {
		return err
	}
	return im.each(ctx, again)
}

// settle gives an entry that was parked by an earlier import its failure back.
func (im *run) settle(i int) {
	e := &im.entries[i]
	if e.State == ledger.Failed && e.Failure == nil {
		e.Failure = service.Parked(e.Capture)
	}
}

// each takes the entries at indices through the pipeline.
func (im *run) each(ctx context.Context, indices []int) error {
	ids := make([]int64, len(indices))
	for k, i := range indices {
		ids[k] = im.entries[i].ID
	}
	return im.pipeline.Each(ctx, ids, im.opts.Concurrency, func(k int, c ledger.Capture, err error) {
		i := indices[k]
		if c.ID != 0 {
			im.entries[i].Capture = c
		}
		im.entries[i].Failure = failure.As(err)
		if err == nil && im.opts.Sent != nil {
			im.opts.Sent(ctx, c)
		}
		if view, err := service.Shown(ctx, im.ledger, c); err == nil && c.Findings > 0 {
			im.entries[i].Known = view.Findings
		}
		im.ended(ctx, i)
	})
}

// compare tells a dry run what the ledger knows already and what is double.
func (im *run) compare(ctx context.Context) error {
	seen := map[string]bool{}
	for i := range im.entries {
		e := &im.entries[i]
		if e.State == ledger.Queued {
			if err := im.foresee(ctx, e); err != nil {
				return err
			}
			if e.State == New && seen[e.SHA256] {
				e.Reason = "same content as an earlier file"
			}
			seen[e.SHA256] = true
		}
		im.ended(ctx, i)
	}
	return nil
}

// foresee says whether e would be uploaded or has a session already.
func (im *run) foresee(ctx context.Context, e *Entry) error {
	e.State = New
	if im.ledger == nil {
		return nil
	}
	filter := ledger.Filter{SHA256: e.SHA256, Destination: e.Destination, States: []ledger.State{ledger.Done, ledger.Purged}}
	for c, err := range im.ledger.List(ctx, filter) {
		if err != nil {
			return err
		}
		if c.SessionID != "" {
			e.State, e.SessionID, e.SessionURL = ledger.Done, c.SessionID, c.SessionURL
			return nil
		}
	}
	return nil
}

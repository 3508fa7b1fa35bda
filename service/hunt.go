package service

import (
	"context"
	"fmt"
	"time"

	"capagent/enrich/verdict"
	"capagent/internal/ledger"
)

// How much a hunt takes at a time.
const (
	huntPage = 1000 // indicators
	huntMost = 1000 // captures that held one indicator, the newest
)

// Hunted is what a hunt has done.
type Hunted struct {
	Indicators int // distinct ones that were looked at
	New        int // findings that captures did not have before
	Unanswered int
	Err        error // why not everything was answered for
}

// Hunt looks up again what all captures held, and gives those that held what is
// known to be bad by now their findings; told is called for each that is new. The
// findings go onto the packets of sessions, and release captures that were held for
// want of any.
func (a *Agent) Hunt(ctx context.Context, told func(ledger.Capture, FindingView)) (h Hunted, err error) {
	for after, first := []byte(nil), true; first || after != nil; first = false {
		var seen []ledger.Seen
		if seen, after, err = a.Ledger.Indicators(ctx, after, huntPage); err != nil {
			return h, err
		}
		sightings := make([]ledger.Sighting, len(seen))
		for i, s := range seen {
			sightings[i] = s.Newest.Sighting
		}
		result := a.Lookup.Indicators(ctx, time.Time{}, fromSightings(sightings))
		if ctx.Err() != nil {
			return h, ctx.Err()
		}
		h.Indicators += len(seen)
		h.Unanswered += result.Missing
		if result.Err != nil {
			h.Err = result.Err
		}
		for _, f := range result.Findings {
			n, err := a.hunted(ctx, f, told)
			h.New += n
			if err != nil {
				return h, err
			}
		}
	}
	return h, nil
}

// hunted gives a finding to the captures that held its indicator.
func (a *Agent) hunted(ctx context.Context, f verdict.Finding, told func(ledger.Capture, FindingView)) (n int, err error) {
	wanted, err := ParseWanted(f.Indicator.Value, f.Indicator.Type.String())
	if err != nil {
		return 0, fmt.Errorf("hunt %q: %w", f.Indicator.Value, err)
	}
	hits, err := a.Ledger.Find(ctx, ledger.Search{Wanted: wanted, Limit: huntMost})
	if err != nil {
		return 0, err
	}
	for _, hit := range hits.Hits {
		list := fromSightings([]ledger.Sighting{hit.Sighting})
		if len(list) == 0 {
			continue
		}
		isNew, err := a.addFinding(ctx, hit.Capture, verdict.Finding{Indicator: list[0], Verdicts: f.Verdicts}, told)
		if err != nil {
			return n, err
		}
		if isNew {
			n++
		}
	}
	return n, nil
}

// addFinding gives a capture a finding that it does not have yet.
func (a *Agent) addFinding(ctx context.Context, id int64, f verdict.Finding, told func(ledger.Capture, FindingView)) (bool, error) {
	c, err := a.Ledger.Get(ctx, id)
	if err != nil {
		return false, err
	}
	rows, err := a.Ledger.Findings(ctx, id)
	if err != nil {
		return false, err
	}
	row, err := findingRow(f)
	if err != nil {
		return false, err
	}
	for _, r := range rows {
		if r.VerdictKey == row.VerdictKey {
			return false, nil
		}
	}
	if len(rows) >= ledger.MaxFindings {
		return false, nil
	}
	if err := a.Ledger.SetFindings(ctx, id, append(rows, row)); err != nil {
		return false, err
	}
	if c.State == ledger.Held && c.Reason == FlaggedReason {
		if err := a.Ledger.SetState(ctx, id, ledger.Queued, ""); err != nil {
			return true, err
		}
	} else if c.SessionID != "" {
		a.Annotated(ctx, ledger.Capture{ID: id, Findings: len(rows) + 1})
	}
	parts, err := Parts(ctx, a.Ledger, c)
	told(c, viewIn(c, parts, f))
	return true, err
}

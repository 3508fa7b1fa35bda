package service

import (
	"context"
	"errors"
	"fmt"
	"time"

	"capagent/enrich/threatconnect"
	"capagent/enrich/verdict"
	"capagent/internal/failure"
	"capagent/internal/ledger"
)

// Reporter is told of what was found: ThreatConnect, where the configuration wants
// it so.
type Reporter interface {
	Observe(ctx context.Context, q verdict.Query, v verdict.Verdict, count int64) error
	FindIncident(ctx context.Context, name string) (threatconnect.Incident, bool, error)
	Incident(ctx context.Context, name string, when time.Time, session string, findings []verdict.Finding) (threatconnect.Incident, error)
}

// The acts of writing back.
const (
	Observation = "observation"
	incident    = "incident" // of a capture; it is an act of its worst finding
)

// Report writes back what was found in a capture: an observation of each indicator,
// and an incident with the session's link. An observation can't be asked for, so one
// of which nobody knows whether it arrived is not made again: better one too few than
// one twice. An error says that some are left for later.
func (a *Agent) Report(ctx context.Context, id int64) error {
	c, err := a.Ledger.Get(ctx, id)
	if err != nil {
		return err
	}
	rows, err := a.Ledger.Findings(ctx, id)
	if err != nil || len(rows) == 0 {
		return err
	}
	var findings []verdict.Finding
	observed := map[int64]bool{} // a file that is known by three digests is one
	for _, row := range rows {
		f, ok := asFinding(row)
		if !ok {
			continue
		}
		findings = append(findings, f)
		for _, v := range f.Verdicts {
			if v.Source != threatconnect.Name || v.ID == 0 || observed[v.ID] {
				continue
			}
			observed[v.ID] = true
			name := fmt.Sprintf("%s %d", Observation, v.ID)
			if err := a.act(ctx, row, name, true, func() error {
				return a.Reports.Observe(ctx, verdict.Query{Type: f.Indicator.Type, Value: f.Indicator.Value}, v, 1)
			}); err != nil {
				return err
			}
		}
		if err := a.act(ctx, row, Observation, false, func() error { return nil }); err != nil {
			return err
		}
	}
	return a.act(ctx, rows[0], incident, false, func() error {
		name := fmt.Sprintf("capagent %s: %s", c.SessionName, c.SessionID)
		if rows[0].Acts[incident].State != "" {
			if _, known, err := a.Reports.FindIncident(ctx, name); err != nil || known {
				return err
			}
		}
		made, err := a.Reports.Incident(ctx, name, c.First, c.SessionURL, findings)
		if made.ID != 0 && err != nil {
			a.log.Warn().Err(err).Str("class", "incident").Int64("capture", id).Msg("the incident of a capture is not complete")
			return nil
		}
		return err
	})
}

// act does something for a finding once. Where blind, one that was begun and whose end
// nobody saw counts as done.
func (a *Agent) act(ctx context.Context, f ledger.Finding, name string, blind bool, do func() error) error {
	switch f.Acts[name].State {
	case ledger.ActDone, ledger.ActFailed:
		return nil
	case ledger.ActStarted:
		if blind {
			return a.Ledger.EndAct(ctx, f.ID, name, ledger.ActFailed, "nobody knows whether it arrived")
		}
	}
	if _, err := a.Ledger.BeginAct(ctx, f.ID, name); err != nil {
		return err
	}
	err := do()
	state, reason := ledger.ActDone, ""
	switch f := failure.As(err); {
	case err == nil:
	case f.Kind == failure.Permanent:
		state, reason, err = ledger.ActFailed, f.Error(), nil
	default:
		state, reason = ledger.ActPending, f.Error()
	}
	return errors.Join(err, a.Ledger.EndAct(ctx, f.ID, name, state, reason))
}

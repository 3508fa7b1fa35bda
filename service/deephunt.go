package service

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"

	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
	"capagent/internal/ledger"
	"capagent/upload"
)

// How much a deep search is asked for: the server reads whole captures for each.
const (
	deepMost     = 50      // indicators, the worst
	deepTogether = 4 << 10 // bytes of a filter that asks for several at once
	deepSessions = 100_000 // sessions, the newest
	everyRole    = ^uint64(0)
)

// DeepHunt has CloudShark search the sessions of captures whose sightings are gone
// for what is known to be bad: what captures were flagged for, and what sources have
// said that is remembered. It reports as Hunt does. Which frame it is in is not
// known then, so that there is no annotation.
func (a *Agent) DeepHunt(ctx context.Context, told func(ledger.Capture, FindingView)) (h Hunted, sessions int, err error) {
	bad, err := a.knownBad(ctx)
	if err != nil {
		return h, 0, err
	}
	h.Indicators = len(bad)
	owner, all, err := a.unsighted(ctx)
	if err != nil || len(bad) == 0 {
		return h, len(all), err
	}
	for batch := range slices.Chunk(all, upload.MaxDeepSessions) {
		for group := range together(bad) {
			if err := a.deepHunt(ctx, group, batch, owner, &h, told); err != nil {
				return h, len(all), err
			}
		}
	}
	return h, len(all), nil
}

// deepHunt asks for a group of indicators at once, and for each of them only where
// there is any: most sessions hold nothing bad.
func (a *Agent) deepHunt(ctx context.Context, group []verdict.Finding, sessions []string, owner map[string]int64, h *Hunted, told func(ledger.Capture, FindingView)) error {
	hits, err := a.Client.DeepSearch(ctx, filterOf(group...), sessions)
	if err != nil || len(hits) == 0 {
		return err
	}
	for _, f := range group {
		in := hits
		if len(group) > 1 {
			if in, err = a.Client.DeepSearch(ctx, filterOf(f), hits); err != nil {
				return err
			}
		}
		for _, session := range in {
			isNew, err := a.addFinding(ctx, owner[session], f, told)
			if err != nil {
				return err
			}
			if isNew {
				h.New++
			}
		}
	}
	return nil
}

// filterOf selects the packets of any of the indicators.
func filterOf(group ...verdict.Finding) string {
	filters := make([]string, len(group))
	for i, f := range group {
		filters[i] = verdict.DisplayFilter(f.Indicator)
	}
	return strings.Join(filters, " or ")
}

// together makes groups of indicators whose filters are short enough for one search.
func together(bad []verdict.Finding) func(func([]verdict.Finding) bool) {
	return func(yield func([]verdict.Finding) bool) {
		from, size := 0, 0
		for i, f := range bad {
			n := len(filterOf(f)) + len(" or ")
			if size += n; size > deepTogether && i > from {
				if !yield(bad[from:i]) {
					return
				}
				from, size = i, n
			}
		}
		yield(bad[from:])
	}
}

// knownBad returns what is known to be bad and can be searched for, the worst first.
func (a *Agent) knownBad(ctx context.Context) ([]verdict.Finding, error) {
	known := map[verdict.Query][]verdict.Verdict{}
	rows, err := a.Ledger.Flagging(ctx, deepMost)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		var data findingData
		if t, ok := indicator.ParseType(r.Type); ok && json.Unmarshal(r.Data, &data) == nil {
			known[verdict.Query{Type: t, Value: r.Value}] = data.Verdicts
		}
	}
	for v, err := range a.Ledger.ListVerdicts(ctx, ledger.VerdictFilter{Known: true}) {
		if err != nil {
			return nil, err
		}
		t, ok := indicator.ParseType(v.Type)
		q := verdict.Query{Type: t, Value: v.Value}
		var said []verdict.Verdict
		if ok && known[q] == nil && json.Unmarshal(v.Answer, &said) == nil {
			known[q] = said
		}
	}
	list := make([]indicator.Indicator, 0, len(known))
	for q := range known {
		i := indicator.Indicator{Type: q.Type, Value: q.Value, Role: indicator.Role(everyRole)}
		if verdict.DisplayFilter(i) != "" { // a file has no field
			list = append(list, i)
		}
	}
	slices.SortFunc(list, func(a, b indicator.Indicator) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), strings.Compare(a.Value, b.Value))
	})
	bad := verdict.Findings(list, known, a.Config.ThreatConnect.Threshold())
	return bad[:min(len(bad), deepMost)], nil
}

// unsighted returns the sessions of captures of which no sighting is known any more,
// the newest first, and whose they are.
func (a *Agent) unsighted(ctx context.Context) (owner map[string]int64, sessions []string, err error) {
	sighted, err := a.Ledger.Sighted(ctx)
	if err != nil {
		return nil, nil, err
	}
	owner = map[string]int64{}
	for c, err := range a.Ledger.List(ctx, ledger.Filter{States: []ledger.State{ledger.Done, ledger.Purged}, Destination: a.Destination(), Newest: true}) {
		if err != nil {
			return nil, nil, err
		}
		if _, there := sighted[c.ID]; there || c.SessionID == "" || c.Packets == 0 {
			continue
		}
		parts, err := Parts(ctx, a.Ledger, c)
		if err != nil {
			return nil, nil, err
		}
		ids := []string{c.SessionID}
		if len(parts) > 1 {
			ids = nil
			for _, p := range parts {
				ids = append(ids, p.SessionID)
			}
		}
		for _, id := range ids {
			if _, twice := owner[id]; id != "" && !twice && len(sessions) < deepSessions {
				owner[id] = c.ID
				sessions = append(sessions, id)
			}
		}
	}
	return owner, sessions, nil
}

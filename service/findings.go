package service

import (
	"context"
	"encoding/json"
	"strings"

	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
	"capagent/internal/ledger"
)

// FindingView is a finding as --json, the manifest and the control API show it: the
// field names of design.md.
type FindingView struct {
	Indicator  string            `json:"indicator"`
	Type       string            `json:"type"`
	Source     string            `json:"source"`
	Owner      string            `json:"owner"`
	Rating     float64           `json:"rating"`
	Confidence int               `json:"confidence"`
	FirstFrame int64             `json:"first_frame"`
	Count      int64             `json:"count"`
	Link       *string           `json:"link"`       // to what the source knows
	FilterURL  *string           `json:"filter_url"` // to its packets in the session
	Filter     string            `json:"filter"`     // Wireshark's display filter
	Verdicts   []verdict.Verdict `json:"verdicts"`   // of every owner, the worst first
	Machines   []string          `json:"machines"`   // that its first frame was between, as far as they have names
}

// NewFindingView shows a finding of a capture whose session is at session, "" when
// it has none.
func NewFindingView(f verdict.Finding, session string) FindingView {
	w := f.Worst()
	v := FindingView{
		Indicator: f.Indicator.Value, Type: f.Indicator.Type.String(), Source: w.Source, Owner: w.Owner, Rating: w.Rating, Confidence: w.Confidence,
		FirstFrame: f.Indicator.First.Frame, Count: f.Indicator.Count, Link: known(w.Link),
		Filter: verdict.DisplayFilter(f.Indicator), Verdicts: f.Verdicts, Machines: list(f.Machines),
	}
	if session != "" {
		v.FilterURL = known(verdict.Link(session, v.Filter))
	}
	return v
}

// asFinding is a finding as it lies in the ledger; false when it can't be read.
func asFinding(row ledger.Finding) (verdict.Finding, bool) {
	var data findingData
	t, ok := indicator.ParseType(row.Type)
	if json.Unmarshal(row.Data, &data) != nil || len(data.Verdicts) == 0 || !ok {
		return verdict.Finding{}, false
	}
	return verdict.Finding{Verdicts: data.Verdicts, Machines: data.Machines, Indicator: indicator.Indicator{
		Type: t, Value: row.Value, Role: indicator.Role(data.Role), Count: row.Count,
		First: indicator.At{Frame: row.Frame, Time: data.First.UnixNano()}, Last: data.Last.UnixNano(),
	}}, true
}

// Shown shows a capture with its findings.
func Shown(ctx context.Context, l *ledger.Ledger, c ledger.Capture) (View, error) {
	v := NewView(c)
	if c.Findings == 0 {
		return v, nil
	}
	rows, err := l.Findings(ctx, c.ID)
	if err != nil {
		return v, err
	}
	parts, err := Parts(ctx, l, c)
	if err != nil {
		return v, err
	}
	for _, row := range rows {
		if f, ok := asFinding(row); ok {
			v.Findings = append(v.Findings, viewIn(c, parts, f))
		}
	}
	return v, nil
}

// viewIn shows a finding with a link into the session that holds its first frame: of
// a capture that was split, that of a part, in which frames are counted anew.
func viewIn(c ledger.Capture, parts []ledger.Part, f verdict.Finding) FindingView {
	session, frame := place(c, parts, f.Indicator.First.Frame)
	if session == "" || session == c.SessionID {
		return NewFindingView(f, c.SessionURL)
	}
	there := f
	there.Indicator.First.Frame = frame
	v := NewFindingView(f, "")
	v.FilterURL = known(verdict.Link(strings.TrimSuffix(c.SessionURL, c.SessionID)+session, verdict.DisplayFilter(there.Indicator)))
	return v
}

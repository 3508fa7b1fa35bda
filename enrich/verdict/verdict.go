// Package verdict holds what sources say of indicators, and what follows from it:
// findings. A source is whatever can be asked: ThreatConnect, a list in a file.
package verdict

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"capagent/enrich/indicator"
)

// Query is an indicator to be looked up, in the form that indicator.Set has it.
type Query struct {
	Type  indicator.Type
	Value string
}

// Verdict is what one owner of a source says of an indicator.
type Verdict struct {
	Source      string    `json:"source"` // "threatconnect", or the name of a list
	Owner       string    `json:"owner"`
	Rating      float64   `json:"rating"`     // 0 (unknown) to 5 (critical)
	Confidence  int       `json:"confidence"` // 0 to 100 percent
	ID          int64     `json:"id,omitempty"`
	Link        string    `json:"link,omitempty"` // where a person reads more; https
	Groups      []Group   `json:"groups,omitempty"`
	Description string    `json:"description,omitempty"`
	Modified    time.Time `json:"modified,omitzero"`
}

// Group is what an indicator is associated with.
type Group struct {
	Type string `json:"type"` // "Adversary", "Campaign", "Malware" and others
	Name string `json:"name"`
	Link string `json:"link,omitempty"`
}

// Answer is what a source says of one query. Without Verdicts it says that nothing
// is known, which is an answer, too.
type Answer struct {
	Query
	Verdicts []Verdict
	At       time.Time
}

// Threshold is which verdicts make a finding.
type Threshold struct {
	MinRating     float64
	MinConfidence int
	Owners        []string // only these; none: all
}

// Passes says whether a verdict makes a finding.
func (t Threshold) Passes(v Verdict) bool {
	return v.Rating >= t.MinRating && v.Confidence >= t.MinConfidence &&
		(len(t.Owners) == 0 || slices.ContainsFunc(t.Owners, func(o string) bool { return strings.EqualFold(o, v.Owner) }))
}

// Finding is an indicator of a capture with a verdict that passes the threshold.
type Finding struct {
	Indicator indicator.Indicator
	// Verdicts are all that were given, the worst first; the first one passes.
	Verdicts []Verdict
	// Machines are those that its first frame was between, in words; none where
	// nobody has a name for them.
	Machines []string
}

// Worst returns the verdict that counts.
func (f Finding) Worst() Verdict { return f.Verdicts[0] }

// Findings returns those of a capture, the worst first.
func Findings(list []indicator.Indicator, answers map[Query][]Verdict, t Threshold) []Finding {
	var found []Finding
	for _, i := range list {
		verdicts := slices.Clone(answers[Query{i.Type, i.Value}])
		slices.SortStableFunc(verdicts, worse)
		// What passes comes before what is worse and does not.
		slices.SortStableFunc(verdicts, func(a, b Verdict) int { return rank(t.Passes(b)) - rank(t.Passes(a)) })
		if len(verdicts) > 0 && t.Passes(verdicts[0]) {
			found = append(found, Finding{Indicator: i, Verdicts: verdicts})
		}
	}
	slices.SortStableFunc(found, func(a, b Finding) int {
		return cmp.Or(worse(a.Worst(), b.Worst()), cmp.Compare(a.Indicator.First.Frame, b.Indicator.First.Frame))
	})
	return found
}

func worse(a, b Verdict) int {
	return cmp.Or(cmp.Compare(b.Rating, a.Rating), cmp.Compare(b.Confidence, a.Confidence), strings.Compare(a.Owner, b.Owner))
}

func rank(passes bool) int {
	if passes {
		return 1
	}
	return 0
}

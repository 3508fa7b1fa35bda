package verdict_test

import (
	"testing"

	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
)

func TestTheWorstVerdictThatPassesCounts(t *testing.T) {
	list := []indicator.Indicator{
		{Type: indicator.Host, Value: "clean.example", First: indicator.At{Frame: 1}},
		{Type: indicator.Host, Value: "bad.example", First: indicator.At{Frame: 9}},
		{Type: indicator.Address, Value: "192.0.2.1", First: indicator.At{Frame: 3}},
		{Type: indicator.Host, Value: "doubtful.example", First: indicator.At{Frame: 4}},
	}
	answers := map[verdict.Query][]verdict.Verdict{
		{Type: indicator.Host, Value: "bad.example"}:      {{Owner: "A", Rating: 3, Confidence: 80}, {Owner: "B", Rating: 5, Confidence: 10}, {Owner: "C", Rating: 4, Confidence: 60}},
		{Type: indicator.Address, Value: "192.0.2.1"}:     {{Owner: "a", Rating: 4, Confidence: 50}},
		{Type: indicator.Host, Value: "doubtful.example"}: {{Owner: "B", Rating: 5, Confidence: 10}},
		{Type: indicator.URL, Value: "clean.example"}:     {{Owner: "A", Rating: 5, Confidence: 90}},
	}
	found := verdict.Findings(list, answers, verdict.Threshold{MinRating: 3, MinConfidence: 50})
	if len(found) != 2 || found[0].Indicator.Value != "bad.example" || found[0].Worst().Owner != "C" || found[0].Verdicts[1].Owner != "A" || len(found[0].Verdicts) != 3 {
		t.Errorf("%+v", found)
	}
	found = verdict.Findings(list, answers, verdict.Threshold{MinRating: 3, MinConfidence: 50, Owners: []string{"A"}})
	if len(found) != 2 || found[0].Worst().Owner != "a" || found[1].Worst().Owner != "A" {
		t.Errorf("%+v", found)
	}
}

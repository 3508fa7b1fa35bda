package lookup_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
	"capagent/internal/ledger"
	"capagent/service/lookup"
)

// source answers what it knows; while err is set it takes its time and fails.
type source struct {
	err   error
	asked int
	bad   string
}

func (s *source) Name() string { return "test" }

func (s *source) Look(ctx context.Context, queries []verdict.Query) ([]verdict.Answer, error) {
	s.asked++
	if s.err != nil {
		<-ctx.Done()
		return nil, s.err
	}
	var answers []verdict.Answer
	for _, q := range queries {
		a := verdict.Answer{Query: q, At: time.Now()}
		if q.Value == s.bad {
			a.Verdicts = []verdict.Verdict{{Source: "test", Owner: "o", Rating: 5, Confidence: 90}}
		}
		answers = append(answers, a)
	}
	return answers, nil
}

var list = []indicator.Indicator{{Type: indicator.Host, Value: "bad.example"}, {Type: indicator.Host, Value: "good.example"}}

func all(list []indicator.Indicator) (queries []verdict.Query) {
	for _, i := range list {
		queries = append(queries, verdict.Query{Type: i.Type, Value: i.Value})
	}
	return queries
}

// TestAnswersAreRememberedAndErrorsAreNot: asked once, then not again until it is old;
// a source that hangs costs one capture its delay, and is asked again when nobody waits.
func TestAnswersAreRememberedAndErrorsAreNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		l, err := ledger.Open(ctx, filepath.Join(t.TempDir(), "ledger.db"), ledger.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		s := &source{bad: "bad.example", err: errors.New("no answer")}
		look := lookup.New(lookup.Options{
			Ledger: l, Choose: all, Threshold: verdict.Threshold{MinRating: 3},
			Remotes: []lookup.Remote{{Source: s, TTL: time.Hour, Negative: time.Minute}},
		})
		start := time.Now()
		for n := range 20 {
			r := look.Indicators(ctx, time.Now().Add(30*time.Second), list)
			if r.Missing != 2 || r.Err == nil || len(r.Findings) != 0 {
				t.Fatalf("%d: %+v", n, r)
			}
		}
		if took := time.Since(start); took > 31*time.Second || s.asked != 1 {
			t.Errorf("20 captures waited for %v, asked %d times", took, s.asked)
		}
		s.err = nil
		if r := look.Indicators(ctx, time.Time{}, list); r.Missing != 0 || r.Err != nil || len(r.Findings) != 1 || r.Findings[0].Indicator.Value != "bad.example" {
			t.Errorf("%+v", r)
		}
		if r := look.Indicators(ctx, time.Now().Add(time.Second), list); len(r.Findings) != 1 || s.asked != 2 {
			t.Errorf("%+v, asked %d times", r, s.asked)
		}
		time.Sleep(2 * time.Minute) // what is unknown is asked again, what is bad is not
		if r := look.Indicators(ctx, time.Now().Add(time.Second), list); len(r.Findings) != 1 || s.asked != 3 {
			t.Errorf("%+v, asked %d times", r, s.asked)
		}
	})
}

func TestNobodyToAsk(t *testing.T) {
	if lookup.New(lookup.Options{}) != nil {
		t.Error("a lookup without sources")
	}
}

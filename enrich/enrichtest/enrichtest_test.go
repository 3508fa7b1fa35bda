package enrichtest

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
)

var options = Options{
	Known:   []verdict.Query{{Type: indicator.Host, Value: "bad.example"}, {Type: indicator.Address, Value: "2001:db8::1"}},
	Unknown: []verdict.Query{{Type: indicator.Host, Value: "good.example"}, {Type: indicator.URL, Value: "http://bad.example/"}},
}

// source is a source that keeps to everything unless edit makes it do otherwise.
type source struct {
	requests atomic.Int64
	edit     func(ctx context.Context, queries []verdict.Query, answers []verdict.Answer, err error) ([]verdict.Answer, error)
}

func (*source) Name() string { return "test" }

func (s *source) Look(ctx context.Context, queries []verdict.Query) (answers []verdict.Answer, err error) {
	seen := map[verdict.Query]bool{}
	for _, q := range queries {
		if seen[q] || ctx.Err() != nil {
			continue
		}
		seen[q] = true
		s.requests.Add(1)
		a := verdict.Answer{Query: q, At: time.Now()}
		if slices.Contains(options.Known, q) {
			a.Verdicts = []verdict.Verdict{{Source: "test", Owner: "o", Rating: 3, Confidence: 50}}
		}
		answers = append(answers, a)
	}
	if s.edit != nil {
		return s.edit(ctx, queries, answers, ctx.Err())
	}
	return answers, ctx.Err()
}

func TestAGoodSourcePasses(t *testing.T) {
	o := options
	s := &source{}
	o.New = func(testing.TB) Looker { return s }
	o.Requests = func() int { return int(s.requests.Load()) }
	Source(t, o)
}

func TestEveryRuleCanBeBroken(t *testing.T) {
	type edit = func(context.Context, []verdict.Query, []verdict.Answer, error) ([]verdict.Answer, error)
	s := &source{}
	stranger := verdict.Answer{Query: verdict.Query{Type: indicator.Host, Value: "other.example"}, At: time.Now()}
	for rule, e := range map[string]edit{
		"it answers what is asked, known and unknown": func(_ context.Context, _ []verdict.Query, a []verdict.Answer, err error) ([]verdict.Answer, error) {
			return slices.DeleteFunc(a, func(a verdict.Answer) bool { return len(a.Verdicts) == 0 }), err
		},
		"the order means nothing": func(_ context.Context, _ []verdict.Query, a []verdict.Answer, err error) ([]verdict.Answer, error) {
			for i := range a[1:] {
				a[i+1].Verdicts = nil
			}
			return a, err
		},
		"what is asked twice is answered once": func(_ context.Context, q []verdict.Query, a []verdict.Answer, err error) ([]verdict.Answer, error) {
			s.requests.Add(int64(len(q)))
			return a, err
		},
		"nothing is asked for nothing": func(_ context.Context, _ []verdict.Query, a []verdict.Answer, err error) ([]verdict.Answer, error) {
			return append(a, stranger), err
		},
		"hostile values are harmless": func(_ context.Context, _ []verdict.Query, a []verdict.Answer, err error) ([]verdict.Answer, error) {
			for i := range a {
				if a[i].Value == "*.com" {
					a[i].Verdicts = []verdict.Verdict{{Source: "test", Owner: "o"}}
				}
			}
			return a, err
		},
		"a cancelled look-up ends": func(_ context.Context, _ []verdict.Query, a []verdict.Answer, _ error) ([]verdict.Answer, error) {
			return a, nil
		},
		"it is used by many at once": func(_ context.Context, _ []verdict.Query, a []verdict.Answer, err error) ([]verdict.Answer, error) {
			if s.requests.Load() > 40 {
				a = nil
			}
			return a, err
		},
		"10,000 are no problem": func(_ context.Context, _ []verdict.Query, a []verdict.Answer, err error) ([]verdict.Answer, error) {
			return a[:min(len(a), 1000)], err
		},
	} {
		s.edit = e
		s.requests.Store(0)
		o := options
		o.Requests = func() int { return int(s.requests.Load()) }
		for _, r := range rules {
			if r.name == rule && r.check(t.Context(), s, o) == nil {
				t.Errorf("%s: is kept by one that breaks it", rule)
			}
		}
	}
}

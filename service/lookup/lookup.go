// Package lookup asks sources of the indicators of captures: lists each time,
// services over a network once in a while, since the ledger remembers what they
// said. It never fails a capture: what was not answered in time is told, and asked
// again later.
package lookup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
	"capagent/internal/ledger"
	"capagent/service/metrics/observe"
)

// Source is whoever can be asked. What it answers is true also with an error, which
// says why the rest is not answered.
type Source interface {
	Name() string
	Look(ctx context.Context, queries []verdict.Query) ([]verdict.Answer, error)
}

// Remote is a source whose answers are remembered.
type Remote struct {
	Source
	TTL, Negative time.Duration // for how long those that say something, and those that don't
}

// Options are whom a Lookup asks, and of what.
type Options struct {
	Ledger    *ledger.Ledger
	Lists     []Source
	Remotes   []Remote
	Choose    func([]indicator.Indicator) []verdict.Query // what is worth asking, the most suspicious first
	Threshold verdict.Threshold
	Observer  *observe.Observer // nil: nobody counts
}

// spared is for how long a source that did not answer is not asked for captures that
// wait: each of them would wait in vain.
const spared = time.Minute

// Lookup asks sources. It is safe for concurrent use.
type Lookup struct {
	Options

	mu   sync.Mutex
	down map[string]outage // by source
}

// outage is a source that did not answer.
type outage struct {
	until time.Time
	err   error
}

// New returns a Lookup, or nil when there is nobody to ask.
func New(o Options) *Lookup {
	if len(o.Lists)+len(o.Remotes) == 0 {
		return nil
	}
	return &Lookup{Options: o, down: map[string]outage{}}
}

// Result is what is known of a capture's indicators.
type Result struct {
	Findings []verdict.Finding // the worst first
	Asked    int               // indicators
	Missing  int               // answers that did not come
	Err      error             // why
}

// Indicators asks all sources of what a capture holds: remote ones until deadline,
// which may be zero for none. What is remembered of them is told also after it. With a
// deadline, one that did not answer a moment ago is not asked at all.
func (l *Lookup) Indicators(ctx context.Context, deadline time.Time, list []indicator.Indicator) Result {
	queries := l.Choose(list)
	remote := ctx
	if !deadline.IsZero() {
		var cancel context.CancelFunc
		remote, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	answers := gathered{verdicts: map[verdict.Query][]verdict.Verdict{}}
	var group sync.WaitGroup
	for _, s := range l.Lists {
		group.Go(func() {
			got, err := s.Look(ctx, queries)
			answers.add(s.Name(), len(queries), got, err)
		})
	}
	for _, r := range l.Remotes {
		group.Go(func() { l.remote(ctx, remote, r, queries, !deadline.IsZero(), &answers) })
	}
	group.Wait()
	return Result{
		Findings: verdict.Findings(list, answers.verdicts, l.Threshold),
		Asked:    len(queries), Missing: answers.missing, Err: errors.Join(answers.errs...),
	}
}

// remote asks a service of what it was not asked lately, until asking is over.
func (l *Lookup) remote(ctx, asking context.Context, r Remote, queries []verdict.Query, waits bool, to *gathered) {
	known, rest, err := l.remembered(ctx, r.Name(), queries)
	to.add(r.Name(), len(known), known, err)
	l.Observer.Lookup(r.Name(), len(known), len(rest))
	if len(rest) == 0 {
		return
	}
	if err := l.outage(r.Name()); err != nil && waits {
		to.add(r.Name(), len(rest), nil, err)
		return
	}
	got, err := r.Look(asking, rest)
	to.add(r.Name(), len(rest), got, err)
	if ctx.Err() == nil {
		l.answered(r.Name(), len(got), err)
	}
	if err := l.remember(context.WithoutCancel(ctx), r, got); err != nil {
		to.add(r.Name(), 0, nil, err)
	}
}

// outage returns why a source is not to be asked now.
func (l *Lookup) outage(source string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := l.down[source]; time.Now().Before(o.until) {
		return o.err
	}
	return nil
}

// answered notes whether a source answers.
func (l *Lookup) answered(source string, answers int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil || answers > 0 {
		delete(l.down, source)
		return
	}
	l.down[source] = outage{time.Now().Add(spared), err}
}

// gathered are answers as they come.
type gathered struct {
	mu       sync.Mutex
	verdicts map[verdict.Query][]verdict.Verdict
	missing  int
	errs     []error
}

func (g *gathered) add(source string, asked int, answers []verdict.Answer, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, a := range answers {
		g.verdicts[a.Query] = append(g.verdicts[a.Query], a.Verdicts...)
	}
	g.missing += max(asked-len(answers), 0)
	if err != nil {
		g.errs = append(g.errs, fmt.Errorf("%s: %w", source, err))
	}
}

// remembered returns the answers that the ledger has, and what it has none of.
func (l *Lookup) remembered(ctx context.Context, source string, queries []verdict.Query) (known []verdict.Answer, rest []verdict.Query, err error) {
	keys := make([]ledger.VerdictKey, len(queries))
	for i, q := range queries {
		keys[i] = ledger.VerdictKey{Type: q.Type.String(), Value: q.Value}
	}
	found, err := l.Ledger.Verdicts(ctx, source, keys)
	if err != nil {
		return nil, queries, err
	}
	for i, q := range queries {
		v, ok := found[keys[i]]
		a := verdict.Answer{Query: q, At: v.At}
		if ok && v.Answer != nil {
			ok = json.Unmarshal(v.Answer, &a.Verdicts) == nil
		}
		if ok {
			known = append(known, a)
		} else {
			rest = append(rest, q)
		}
	}
	return known, rest, nil
}

func (l *Lookup) remember(ctx context.Context, r Remote, answers []verdict.Answer) error {
	rows := make([]ledger.Verdict, 0, len(answers))
	for _, a := range answers {
		v := ledger.Verdict{VerdictKey: ledger.VerdictKey{Type: a.Type.String(), Value: a.Value}, Source: r.Name(), At: a.At}
		if len(a.Verdicts) > 0 {
			text, err := json.Marshal(a.Verdicts)
			if err != nil {
				return err
			}
			v.Answer = text
		}
		rows = append(rows, v)
	}
	if len(rows) == 0 {
		return nil
	}
	return l.Ledger.RememberVerdicts(ctx, r.Name(), rows, r.TTL, r.Negative)
}

package threatconnect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"capagent/enrich/verdict"
	"capagent/internal/failure"
	"capagent/internal/httpx"
)

// maxVerdicts bounds what is kept of one indicator: one for each owner.
const maxVerdicts = 100

// call is one query that is under way, for all who ask it.
type call struct {
	done   chan struct{}
	answer *verdict.Answer // nil: there was none
	err    error           // why there was none
}

// Look asks about queries, those that come first as early as can be. It returns
// the answers that it has, in the order of the queries and one for each different
// one, also when an error says why the rest has none. Queries of types that
// ThreatConnect has no word for are answered without asking it. An error of kind
// Permanent concerns single values only, which ThreatConnect takes for none.
func (c *Client) Look(ctx context.Context, queries []verdict.Query) ([]verdict.Answer, error) {
	var order []verdict.Query
	answers := make(map[verdict.Query]*verdict.Answer, len(queries))
	for _, q := range queries {
		if _, known := answers[q]; known {
			continue
		}
		answers[q] = nil
		order = append(order, q)
		if c.typeName(q.Type) == "" || !askable(q) {
			answers[q] = &verdict.Answer{Query: q, At: c.now()}
		}
	}
	err := c.look(ctx, order, answers)
	var list []verdict.Answer
	for _, q := range order {
		if a := answers[q]; a != nil {
			list = append(list, *a)
		}
	}
	if missing := len(order) - len(list); err != nil && missing > 0 {
		return list, about(fmt.Sprintf("%d of %d indicators are not looked up", missing, len(order)), err)
	}
	return list, nil
}

// askable says that a value can be one of ThreatConnect's. Nothing, "." and ".." would
// make another path of a request by API v2 (RFC 3986, 5.2.4).
func askable(q verdict.Query) bool { return strings.Trim(q.Value, ".") != "" }

// look fills in answers. What somebody else is asking already is waited for;
// where that one gave up, it is asked again. When ctx ends, look returns at once:
// a long reply may still be read, which Close waits for.
func (c *Client) look(ctx context.Context, order []verdict.Query, answers map[verdict.Query]*verdict.Answer) error {
	var worst error
	for len(order) > 0 {
		mine, theirs := c.join(order, answers)
		if len(mine) > 0 {
			c.working.Go(func() { c.ask(ctx, mine) })
		}
		order = nil
		for n, q := range slices.Concat(mine, theirs) {
			select {
			case <-q.done:
			case <-ctx.Done():
			}
			select {
			case <-q.done:
			default:
				worst = graver(worst, canceled(ctx))
				continue
			}
			switch {
			case q.answer != nil:
				answers[q.query] = q.answer
			case n >= len(mine) && isClass(q.err, httpx.ClassCanceled) && ctx.Err() == nil:
				order = append(order, q.query)
			default:
				worst = graver(worst, q.err)
			}
		}
	}
	return worst
}

func canceled(ctx context.Context) error {
	return &failure.Error{Class: httpx.ClassCanceled, Err: context.Cause(ctx)}
}

// graver returns the error that says more about all the others.
func graver(a, b error) error {
	if a == nil || b != nil && failure.As(a).Kind == failure.Permanent {
		return b
	}
	return a
}

// asked is a query and the call that answers it.
type asked struct {
	query verdict.Query
	*call
}

// join returns what is left to ask, and what others are asking.
func (c *Client) join(order []verdict.Query, answers map[verdict.Query]*verdict.Answer) (mine, theirs []asked) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, q := range order {
		if answers[q] != nil {
			continue
		}
		if other := c.underway[q]; other != nil {
			theirs = append(theirs, asked{q, other})
			continue
		}
		own := &call{done: make(chan struct{})}
		c.underway[q] = own
		mine = append(mine, asked{q, own})
	}
	return mine, theirs
}

// ask runs the requests for mine and tells all who wait.
func (c *Client) ask(ctx context.Context, mine []asked) {
	calls := make(map[verdict.Query]*call, len(mine))
	order := make([]verdict.Query, len(mine))
	for i, m := range mine {
		order[i], calls[m.query] = m.query, m.call
	}
	r := &run{client: c, settle: func(q verdict.Query, a *verdict.Answer, err error) {
		one := calls[q]
		if one == nil || one.answer != nil || one.err != nil {
			return
		}
		one.answer, one.err = a, err
		c.mu.Lock()
		delete(c.underway, q)
		c.mu.Unlock()
		close(one.done)
	}}
	worth, out := c.leaveOut(ctx, order)
	r.answer(out, nil)
	jobs, err := c.plan(ctx, worth)
	if err == nil {
		r.jobs = jobs
		err = r.work(ctx)
	}
	if err == nil {
		err = fail(ClassBadReply, errUnanswered) // for what no job was about: there is nothing
	}
	for _, q := range order {
		r.settle(q, nil, err)
	}
}

var errUnanswered = errors.New("no answer came")

// job is one request, or a few that belong together.
type job interface {
	// do answers queries by settle. What it can't do at once it returns as other jobs.
	do(ctx context.Context, r *run) ([]job, error)
}

// run works off jobs, two at a time, until the first error that is not about
// single values.
type run struct {
	client *Client

	mu     sync.Mutex
	jobs   []job
	err    error
	settle func(verdict.Query, *verdict.Answer, error) // under mu
}

// answer settles queries with what was found of them.
func (r *run) answer(queries []verdict.Query, found map[verdict.Query][]verdict.Verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.client.now()
	for _, q := range queries {
		r.settle(q, &verdict.Answer{Query: q, Verdicts: found[q], At: now}, nil)
	}
}

// refuse settles a query that has no answer.
func (r *run) refuse(q verdict.Query, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settle(q, nil, err)
}

func (r *run) work(ctx context.Context) error {
	var wg sync.WaitGroup
	for range min(concurrency, len(r.jobs)) {
		wg.Go(func() {
			for r.next(ctx) {
			}
		})
	}
	wg.Wait()
	return r.err
}

func (r *run) next(ctx context.Context) bool {
	r.mu.Lock()
	if r.err != nil || len(r.jobs) == 0 {
		r.mu.Unlock()
		return false
	}
	j := r.jobs[0]
	r.jobs = r.jobs[1:]
	r.mu.Unlock()

	more, err := j.do(ctx, r)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && r.err == nil {
		r.err = err
	}
	r.jobs = append(more, r.jobs...)
	return true
}

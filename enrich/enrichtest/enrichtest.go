// Package enrichtest is what every source of verdicts must keep to. A source's tests
// call it in one line.
package enrichtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
	"capagent/internal/failure"
)

// Looker is a source of verdicts.
type Looker interface {
	Name() string
	Look(ctx context.Context, queries []verdict.Query) ([]verdict.Answer, error)
}

// Options say what to test.
type Options struct {
	// New returns a source, which it closes by t.Cleanup when there is anything to
	// close.
	New func(t testing.TB) Looker
	// Known are indicators that the source has verdicts of, best one of each type, an
	// IPv6 address among them; Unknown are others.
	Known, Unknown []verdict.Query
	// Requests is how many requests were sent so far by all sources that New returned;
	// nil for one that sends none.
	Requests func() int
}

// soon is how long a look-up may take to end when it is cancelled.
const soon = 5 * time.Second

// Source tests that a source keeps to what is asked of all.
func Source(t *testing.T, o Options) {
	t.Helper()
	if len(o.Known) == 0 || len(o.Unknown) == 0 {
		t.Fatal("the suite needs known and unknown indicators")
	}
	for _, q := range append(slices.Clone(o.Known), o.Unknown...) {
		if value, ok := indicator.Canonical(q.Type, q.Value); !ok || value != q.Value {
			t.Fatalf("%v %q is not in its one form, %q", q.Type, q.Value, value)
		}
	}
	for _, r := range rules {
		before := goleak.IgnoreCurrent()
		t.Run(r.name, func(t *testing.T) {
			if err := r.check(t.Context(), o.New(t), o); err != nil {
				t.Error(err)
			}
		})
		if err := goleak.Find(before); err != nil {
			t.Errorf("%s: goroutines are left: %v", r.name, err)
		}
	}
}

// rules are what a source promises.
var rules = []struct {
	name  string
	check func(ctx context.Context, s Looker, o Options) error
}{
	{"it has a name", named},
	{"it answers what is asked, known and unknown", answersAll},
	{"the order means nothing", anyOrder},
	{"what is asked twice is answered once", once},
	{"nothing is asked for nothing", nothing},
	{"hostile values are harmless", harmless},
	{"a cancelled look-up ends", cancelled},
	{"it is used by many at once", concurrent},
	{"10,000 are no problem", many},
}

func named(_ context.Context, s Looker, _ Options) error {
	if n := s.Name(); n == "" || n != s.Name() || strings.ContainsAny(n, ",\n") {
		return fmt.Errorf("the name is %q", n)
	}
	return nil
}

// look asks and checks what every reply must be.
func look(ctx context.Context, s Looker, queries []verdict.Query) (map[verdict.Query][]verdict.Verdict, error) {
	given := slices.Clone(queries)
	start := time.Now().Add(-time.Second)
	answers, err := s.Look(ctx, queries)
	if !slices.Equal(given, queries) {
		return nil, errors.New("it changed the queries")
	}
	got := make(map[verdict.Query][]verdict.Verdict, len(answers))
	for _, a := range answers {
		if _, twice := got[a.Query]; twice {
			return nil, fmt.Errorf("%v %.80q is answered twice", a.Type, a.Value)
		}
		got[a.Query] = a.Verdicts
		if a.At.Before(start) || a.At.After(time.Now().Add(time.Second)) {
			return nil, fmt.Errorf("%v %.80q is answered at %v", a.Type, a.Value, a.At)
		}
		for _, v := range a.Verdicts {
			if err := checkVerdict(s, v); err != nil {
				return nil, fmt.Errorf("%v %.80q: %w", a.Type, a.Value, err)
			}
		}
	}
	asked := make(map[verdict.Query]bool, len(queries))
	for _, q := range queries {
		asked[q] = true
	}
	for q := range got {
		if !asked[q] {
			return nil, fmt.Errorf("it answers %v %.80q, which was not asked", q.Type, q.Value)
		}
	}
	return got, err
}

func checkVerdict(s Looker, v verdict.Verdict) error {
	switch {
	case v.Source != s.Name():
		return fmt.Errorf("the verdict's source is %q", v.Source)
	case v.Owner == "":
		return errors.New("the verdict has no owner")
	case !(v.Rating >= 0 && v.Rating <= 5) || v.Confidence < 0 || v.Confidence > 100:
		return fmt.Errorf("rating %v, confidence %d", v.Rating, v.Confidence)
	case v.Link != "" && !strings.HasPrefix(v.Link, "https://") && !strings.HasPrefix(v.Link, "http://127.0.0.1"):
		return fmt.Errorf("the link is %q", v.Link)
	}
	return nil
}

// knows checks the answers of known and unknown indicators.
func knows(got map[verdict.Query][]verdict.Verdict, o Options) error {
	for _, q := range o.Known {
		if len(got[q]) == 0 {
			return fmt.Errorf("nothing is said of %v %q, which is known", q.Type, q.Value)
		}
	}
	for _, q := range o.Unknown {
		if v, answered := got[q]; !answered || len(v) > 0 {
			return fmt.Errorf("of %v %q, which is unknown: answered %v, %v", q.Type, q.Value, answered, v)
		}
	}
	return nil
}

func all(o Options) []verdict.Query { return append(slices.Clone(o.Known), o.Unknown...) }

func answersAll(ctx context.Context, s Looker, o Options) error {
	got, err := look(ctx, s, all(o))
	if err != nil {
		return err
	}
	return knows(got, o)
}

func anyOrder(ctx context.Context, s Looker, o Options) error {
	queries := all(o)
	first, err := look(ctx, s, queries)
	if err != nil {
		return err
	}
	slices.Reverse(queries)
	second, err := look(ctx, s, queries)
	if err != nil {
		return err
	}
	for q, v := range first {
		if len(second[q]) != len(v) {
			return fmt.Errorf("%v %q: %v, and in the other order %v", q.Type, q.Value, v, second[q])
		}
	}
	return nil
}

func once(ctx context.Context, s Looker, o Options) error {
	before := requests(o)
	if _, err := look(ctx, s, all(o)); err != nil {
		return err
	}
	single := requests(o) - before
	var queries []verdict.Query
	for range 50 {
		queries = append(queries, all(o)...)
	}
	got, err := look(ctx, s, queries)
	if err != nil {
		return err
	}
	if again := requests(o) - before - single; again > single {
		return fmt.Errorf("%d requests, and %d when each is asked 50 times", single, again)
	}
	return knows(got, o)
}

func requests(o Options) int {
	if o.Requests == nil {
		return 0
	}
	return o.Requests()
}

func nothing(ctx context.Context, s Looker, o Options) error {
	before := requests(o)
	for _, queries := range [][]verdict.Query{nil, {}} {
		got, err := look(ctx, s, queries)
		if err != nil {
			return err
		}
		if len(got) > 0 {
			return fmt.Errorf("%d answers", len(got))
		}
	}
	if n := requests(o) - before; n > 0 {
		return fmt.Errorf("%d requests", n)
	}
	return nil
}

// Hostile returns indicators of all types as packets can have them, of none of which
// any source knows anything.
func Hostile() []verdict.Query {
	values := []string{
		`a"b`, `a\`, `\"`, `' or 1=1 --`, `") or summary in ("x`, "a`b", "a\nb", "a\r\nHost: x", "\x00", "\x1b[2J", "\xff\xfe",
		"%", "%zz", "%2e%2e%2f", "../../etc/passwd", "a b", "a/b", "a?b=c&d", "#", ";", ",", "*", "*.com", ".", "..", "ü.example", "\u202e",
		"999.999.999.999", "::ffff:192.0.2.1", "fe80::1%eth0", "192.0.2.1/8", "http://", "http://[", "://", "@", "a@", strings.Repeat("a", 8<<10),
		strings.Repeat("a.", 4<<10), strings.Repeat("\\", 8<<10), strings.Repeat(`"`, 8<<10), "",
	}
	var queries []verdict.Query
	for t := range indicator.Types() {
		for _, v := range values {
			queries = append(queries, verdict.Query{Type: indicator.Type(t), Value: v})
		}
	}
	return queries
}

// harmless: what can't be asked may stay without an answer, which an error of kind
// Permanent says, and nothing else does.
func harmless(ctx context.Context, s Looker, o Options) error {
	got, err := look(ctx, s, slices.Concat(o.Known, Hostile(), o.Unknown))
	if err != nil && failure.As(err).Kind != failure.Permanent {
		return err
	}
	for _, q := range Hostile() {
		if len(got[q]) > 0 {
			return fmt.Errorf("of %v %.80q it says %v", q.Type, q.Value, got[q])
		}
	}
	return knows(got, o)
}

func cancelled(ctx context.Context, s Looker, o Options) error {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	start := time.Now()
	if _, err := look(ended, s, all(o)); err == nil {
		return errors.New("no error although it is cancelled before it begins")
	}
	for _, after := range []time.Duration{time.Millisecond, 20 * time.Millisecond} {
		soonOver, cancel := context.WithTimeout(ctx, after)
		got, err := look(soonOver, s, Many(o))
		cancel()
		if err == nil {
			err = knows(got, o)
		} else if len(got) < len(Many(o)) {
			err = nil // what it had is checked by look
		}
		if err != nil {
			return err
		}
	}
	if took := time.Since(start); took > soon {
		return fmt.Errorf("it takes %v to end", took)
	}
	if _, err := look(ctx, s, all(o)); err != nil {
		return fmt.Errorf("after one that was cancelled: %w", err)
	}
	return nil
}

func concurrent(ctx context.Context, s Looker, o Options) error {
	errs := make([]error, 8)
	var g sync.WaitGroup
	for i := range errs {
		g.Go(func() {
			for range 3 {
				got, err := look(ctx, s, all(o))
				if err == nil {
					err = knows(got, o)
				}
				errs[i] = errors.Join(errs[i], err)
			}
		})
	}
	g.Wait()
	return errors.Join(errs...)
}

// Many returns 10,000 indicators, the known ones among them.
func Many(o Options) []verdict.Query {
	const n = 10_000
	set := make(map[verdict.Query]struct{}, n)
	for _, q := range all(o) {
		set[q] = struct{}{}
	}
	for i := 0; len(set) < n; i++ {
		q := verdict.Query{Type: indicator.Host, Value: fmt.Sprintf("host-%d.enrichtest.invalid", i)}
		if i%2 == 0 {
			a := netip.AddrFrom4([4]byte{198, 18 + byte(i>>16&1), byte(i >> 8), byte(i)})
			q = verdict.Query{Type: indicator.Address, Value: a.String()}
		}
		set[q] = struct{}{}
	}
	return slices.SortedFunc(maps.Keys(set), func(a, b verdict.Query) int { return strings.Compare(a.Value, b.Value) })
}

func many(ctx context.Context, s Looker, o Options) error {
	queries := Many(o)
	got, err := look(ctx, s, queries)
	if err != nil {
		return err
	}
	if len(got) != len(queries) {
		return fmt.Errorf("%d of %d are answered", len(got), len(queries))
	}
	return knows(got, o)
}

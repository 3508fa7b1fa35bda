package cloudshare

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"capagent/enrich/device"
	"capagent/internal/failure"
)

const (
	maxKept  = 5                // snapshots of a blueprint: one more displaces the oldest
	poll     = 15 * time.Second // between two looks at a snapshot that is taken
	patience = 30 * time.Minute // with one
	settle   = 2 * time.Minute  // after which a snapshot that was asked for would show
	resume   = day              // how long one that was begun is looked for
)

// Preserver keeps an environment as it is: it postpones the suspension for inactivity,
// extends the lease, takes a snapshot and, if it is told to, suspends the environment at
// last. It preserves one at a time, and one process at a time uses its file.
//
// A capture is to be uploaded before the environment that it was made in is suspended:
// that is the caller's to see to. The agent's own environment is never suspended.
type Preserver struct {
	c    *Client
	conf Config
	log  zerolog.Logger
	path string
	now  func() time.Time

	poll, patience, settle time.Duration

	mu sync.Mutex
}

// NewPreserver returns a preserver that acts by c, and remembers in the file at path
// what it began and did.
func NewPreserver(c *Client, path string) *Preserver {
	return &Preserver{c: c, conf: c.conf, log: c.log, path: path, now: c.now, poll: poll, patience: patience, settle: settle}
}

// The names of steps, in their order.
const (
	StepCheck    = "check"
	StepPostpone = "postpone"
	StepExtend   = "extend"
	StepSnapshot = "snapshot"
	StepSuspend  = "suspend"
)

// The states of a step.
const (
	Planned = "planned" // would be done
	Begun   = "begun"
	Done    = "done"
	Skipped = "skipped" // is not needed, or not wanted
	Failed  = "failed"
)

// Step is one thing that is done, in words.
type Step struct {
	Name  string `json:"step"`
	State string `json:"state"`
	Text  string `json:"text"`
}

// Plan is what would be done to an environment.
type Plan struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Expires   time.Time `json:"expires,omitzero"`
	Snapshots int       `json:"snapshots"` // that it has
	Steps     []Step    `json:"steps"`
	// Refused is why it would not be done at all; nil when nothing is in the way.
	Refused error `json:"-"`
}

// sight is what was read of an environment before anything is done to it.
type sight struct {
	env     environment
	list    []snapshot
	state   state
	record  record
	resumes bool // a snapshot was begun that nobody saw the end of
	refused []error
}

// look reads all that a decision needs. The error is that it could not be read; what
// speaks against acting is in refused.
func (p *Preserver) look(ctx context.Context, env string) (s sight, err error) {
	id, err := p.find(ctx, env)
	if err != nil {
		return s, err
	}
	if s.state, err = readState(p.path); err != nil {
		return s, err
	}
	if err := p.mayEdit(ctx, id); err != nil {
		return s, about("environment "+id, err)
	}
	if s.env, err = p.environment(ctx, id); err != nil {
		return s, about("environment "+id, err)
	}
	if s.list, err = p.snapshots(ctx, id); err != nil {
		return s, about("snapshots of environment "+id, err)
	}
	s.record = s.state[id]
	age := p.now().Sub(s.record.Begun).Abs()
	s.resumes = s.record.Snapshot != "" && s.record.Done.IsZero() && age < resume
	refuse := func(class, format string, args ...any) {
		s.refused = append(s.refused, fail(class, fmt.Errorf("%s %w", named(s.env.Name, id), fmt.Errorf(format, args...))))
	}
	if !p.conf.Preserve && !p.conf.PreserveDryRun {
		refuse(ClassNotAllowed, "is not preserved: acting is not switched on")
	}
	if !slices.Contains(p.conf.PreserveAllow, id) {
		refuse(ClassNotAllowed, "is not among those that may be preserved")
	}
	if !s.resumes && s.record.Snapshot != "" && age < p.conf.PreserveCooldown.Std() {
		refuse(ClassCooldown, "was preserved %s ago (%s)", age.Round(time.Minute), s.record.Snapshot)
	}
	if s.env.Status != statusReady && (s.env.Status != statusSnapshot || !s.resumes) {
		refuse(ClassNotReady, "is not ready (status %d %s)", s.env.Status, s.env.StatusText)
	}
	if !s.has(s.record.Snapshot) && len(s.list) >= maxKept {
		refuse(ClassWouldEvict, "has %d snapshots: one more would displace the oldest", len(s.list))
	}
	return s, nil
}

func (s *sight) has(name string) bool {
	return name != "" && slices.ContainsFunc(s.list, func(one snapshot) bool { return one.Name == name })
}

// find returns the id of an environment by its id or name.
func (p *Preserver) find(ctx context.Context, env string) (string, error) {
	if slices.Contains(p.conf.PreserveAllow, env) {
		return env, nil
	}
	body, err := p.get(ctx, envs, "brief", "false", "criteria", p.conf.Criteria)
	if err != nil {
		return "", about("list environments", err)
	}
	var ids []string
	for _, e := range decodeEnvironments(body, false) {
		if e.ID == env {
			return env, nil
		}
		if e.Name == device.Clean(env) {
			ids = append(ids, e.ID)
		}
	}
	switch len(ids) {
	case 0:
		return "", fail(ClassNotFound, fmt.Errorf("there is no environment %q", device.Clean(env)))
	case 1:
		return ids[0], nil
	}
	return "", fail(ClassRefused, fmt.Errorf("%d environments have the name %q: give the id of one", len(ids), device.Clean(env)))
}

// Plan says what Preserve would do to an environment, given by its id or name. It only
// reads.
func (p *Preserver) Plan(ctx context.Context, env string) (Plan, error) {
	s, err := p.look(ctx, env)
	if err != nil {
		return Plan{}, about("plan", err)
	}
	return p.plan(s), nil
}

func (p *Preserver) plan(s sight) Plan {
	plan := Plan{ID: s.env.ID, Name: s.env.Name, Expires: s.env.Expires, Snapshots: len(s.list)}
	add := func(name, state, text string) { plan.Steps = append(plan.Steps, Step{name, state, text}) }
	add(StepCheck, Done, "the user of api_id may edit "+named(s.env.Name, s.env.ID))
	for _, err := range s.refused {
		add(StepCheck, Failed, err.Error())
	}
	plan.Refused = errors.Join(s.refused...)
	if s.resumes {
		add(StepPostpone, Skipped, "done before")
		add(StepExtend, Skipped, "done before")
		add(StepSnapshot, Planned, "look for the snapshot "+s.record.Snapshot+", which was begun before, and take it if it is not there")
	} else {
		add(StepPostpone, Planned, "postpone the suspension for inactivity")
		if text, needed := p.lease(s.env); needed {
			add(StepExtend, Planned, "extend the lease: "+text)
		} else {
			add(StepExtend, Skipped, text)
		}
		add(StepSnapshot, Planned, fmt.Sprintf("take a snapshot that is not the default (%d of %d are there)", len(s.list), maxKept))
	}
	if why := p.staysUp(&s.env); why != "" {
		add(StepSuspend, Skipped, why)
	} else {
		add(StepSuspend, Planned, "suspend the environment")
	}
	return plan
}

// lease says when an environment expires, and whether that is too soon.
func (p *Preserver) lease(e environment) (string, bool) {
	if e.Expires.IsZero() {
		return "CloudShare names no time at which it expires", false
	}
	left := e.Expires.Sub(p.c.theirNow())
	text := "it expires " + stamp(e.Expires) + ", in " + left.Round(time.Minute).String()
	return text, left < p.conf.ExtendBelow.Std()
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// staysUp says why an environment is not suspended, or "" when it is. The agent's own
// would take the agent with it: whatever may be it is.
func (p *Preserver) staysUp(e *environment) string {
	if !p.conf.Suspend {
		return "not asked for"
	}
	hosts, ips, err := p.conf.self()
	switch {
	case err != nil:
		return "this machine does not tell its names and addresses, so it may be one of the environment"
	case couldBe(e, hosts, ips):
		return "the agent itself may run in it: a machine has a name or address of this one"
	}
	return ""
}

// Preserve preserves an environment, given by its id or name, and tells progress of each
// step. With preserve_dry_run it tells what would be done. A step that CloudShare refuses
// does not keep the snapshot from being taken, but the environment from being suspended;
// the error is the first of what went wrong.
func (p *Preserver) Preserve(ctx context.Context, env, reason string, progress func(Step)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if progress == nil {
		progress = func(Step) {}
	}
	s, err := p.look(ctx, env)
	if err != nil {
		return about("preserve", err)
	}
	if p.conf.PreserveDryRun || len(s.refused) > 0 {
		for _, step := range p.plan(s).Steps {
			progress(step)
		}
		if len(s.refused) > 0 {
			return about("preserve", s.refused[0])
		}
		return nil
	}
	r := &running{p: p, sight: s, id: s.env.ID, reason: device.Clean(reason), progress: progress}
	r.tell(StepCheck, Done, "the user of api_id may edit "+named(s.env.Name, s.env.ID))
	if err := r.all(ctx); err != nil {
		return about("preserve "+named(s.env.Name, s.env.ID), err)
	}
	return nil
}

// newName is what no other snapshot has: 25 characters, of the 32 that it may have.
func newName(now time.Time) string {
	var b [3]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand's own promise
	return "ev-" + now.UTC().Format("20060102-150405") + "-" + hex.EncodeToString(b[:])
}

// goesOn says that a failure is of one step only: CloudShare was asked and refused.
func goesOn(err error) bool { return failure.As(err).Kind == failure.Permanent }

func first(a, b error) error { return cmp.Or(a, b) }

package cloudshare

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"capagent/enrich/device"
	"capagent/internal/failure"
	"capagent/internal/httpx"
)

const (
	hitAge      = time.Hour     // how long what is known of a name is not asked again
	missAge     = 6 * time.Hour // how long that nothing is known of it
	dropAge     = day           // after which nothing is told any more
	waitNames   = 5             // unseen names of a capture that its look-up waits for
	maxNames    = 10_000        // that are remembered
	maxOthers   = 20            // that an answer for one name tells of, too
	maxQueue    = 1000          // that are asked when nobody waits
	firstPause  = time.Minute   // after an outage, doubled each time
	longestWait = time.Hour
)

// Reader names lab machines. It is safe for concurrent use; without Run it asks only for
// the names of captures.
type Reader struct {
	ask  getter
	conf Config
	log  zerolog.Logger
	now  func() time.Time
	wake chan struct{} // there is a name to ask for

	mu     sync.Mutex
	labs   *inventory
	due    time.Time // when the next inventory is
	names  map[string]*known
	asking map[string]chan struct{} // closed when it was asked for
	queue  []string
	fails  int // outages in a row
	quiet  time.Time
	last   error // why
}

// known is what CloudShare says of a name.
type known struct {
	at    time.Time
	until time.Time    // when it is asked again
	env   *environment // nil: there is none
}

// NewReader returns a reader that asks by c.
func NewReader(c *Client) *Reader {
	return &Reader{
		ask: c, conf: c.conf, log: c.log, now: c.now, wake: make(chan struct{}, 1),
		names: map[string]*known{}, asking: map[string]chan struct{}{},
	}
}

// Name returns what devices give as their source.
func (r *Reader) Name() string { return Name }

// Run keeps the inventory fresh and asks for the names that nobody waits for, until ctx
// ends. There is one Run at a time.
func (r *Reader) Run(ctx context.Context) {
	for ctx.Err() == nil {
		wait, name := r.next()
		switch {
		case name != "":
			_ = r.learn(ctx, name) // what went wrong is in Status
		case wait <= 0:
			if err := r.Refresh(ctx); err != nil && ctx.Err() == nil {
				r.log.Warn().Err(err).Str("class", failure.As(err).Class).Msg("CloudShare's environments could not be listed")
			}
		default:
			t := time.NewTimer(wait)
			select {
			case <-t.C:
			case <-r.wake:
			case <-ctx.Done():
			}
			t.Stop()
		}
	}
}

// next says what Run does: asks for a name, takes the inventory (wait is 0), or waits.
func (r *Reader) next() (wait time.Duration, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if quiet := r.quiet.Sub(now); quiet > 0 {
		return quiet, ""
	}
	wait = max(r.due.Sub(now), 0)
	if wait > 0 && len(r.queue) > 0 {
		name, r.queue = r.queue[0], r.queue[1:]
	}
	return wait, name
}

// Refresh takes the inventory: one call, and one for each environment that runs.
func (r *Reader) Refresh(ctx context.Context) error {
	labs, err := r.inventory(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcome(err)
	// The inventory takes half of the day's calls at most.
	every := r.conf.InventoryEvery.Std()
	if err == nil {
		r.labs = labs
		every = max(every, time.Duration(labs.calls)*day/time.Duration(r.conf.DailyCalls/2))
	}
	if !isClass(err, httpx.ClassCanceled) {
		r.due = r.now().Add(jitter(every))
	}
	if now := r.now(); now.Before(r.quiet) {
		r.due = r.quiet
	}
	return about("list environments", err)
}

// jitter is d and up to a tenth less or more, so that agents don't ask in step.
func jitter(d time.Duration) time.Duration { return d - d/10 + chance(d/5) }

// chance is up to d.
func chance(d time.Duration) time.Duration {
	return rand.N(d + 1) //nolint:gosec // nobody gains by guessing it
}

func (r *Reader) inventory(ctx context.Context) (*inventory, error) {
	body, err := r.ask.get(ctx, envs, "brief", "false", "criteria", r.conf.Criteria)
	if err != nil {
		return nil, err
	}
	if len(body) > 0 && body[0] != '[' {
		return nil, fail(ClassBadReply, errors.New("CloudShare answers with something else than a list of environments"))
	}
	list := decodeEnvironments(body, r.conf.Owner)
	labs := newInventory(r.now(), len(list) == maxEnvironments)
	labs.calls = 1
	for _, e := range list {
		if idle(e.StatusText) { // it has no machine that sends
			labs.add(&e)
			continue
		}
		labs.calls++
		body, err := r.ask.get(ctx, extended, "envId", e.ID)
		whole, ok := decodeEnvironment(body, r.conf.Owner)
		switch {
		case err != nil && failure.As(err).Kind == failure.Permanent: // it alone can't be read
			labs.skipped++
			continue
		case err != nil:
			return nil, err
		case !ok || whole.ID != e.ID:
			labs.skipped++
			continue
		}
		labs.add(&whole)
	}
	hosts, ips, err := r.conf.self()
	labs.findOwn(hosts, ips, err)
	return labs, nil
}

// idle says that the machines of an environment of that status send nothing.
func idle(status string) bool {
	return slices.Contains([]string{"suspended", "archived", "deleted", "creation failed"}, strings.ToLower(status))
}

// outcome notes how asking went: after an outage nobody is asked for a while. r.mu is
// held.
func (r *Reader) outcome(err error) {
	f := failure.As(err)
	switch {
	case err == nil, f.Class == ClassNotFound:
		r.fails, r.quiet, r.last = 0, time.Time{}, nil
	case f.Kind == failure.Permanent: // it answers
		r.fails, r.quiet, r.last = 0, time.Time{}, err
	case f.Class == httpx.ClassCanceled: // it was not asked, or nobody wanted to know any more
	default:
		r.last = err
		r.fails++
		wait := max(min(firstPause<<min(r.fails-1, 10), longestWait), min(f.RetryAfter, longestWait))
		r.quiet = r.now().Add(wait + chance(wait/10))
	}
}

// spared is the failure while nobody is asked. r.mu is held.
func (r *Reader) spared(now time.Time) error {
	if !now.Before(r.quiet) {
		return nil
	}
	return about("CloudShare is not asked for a while", r.last)
}

// fresh says whether a name needs no asking. r.mu is held.
func (r *Reader) fresh(name string, now time.Time) bool {
	k := r.names[name]
	if k != nil && now.Before(k.until) {
		return true
	}
	return r.labs.usable(now) && r.labs.byHost[name] != nil
}

// learn asks for a name that is not known, unless somebody else just does.
func (r *Reader) learn(ctx context.Context, name string) error {
	for {
		r.mu.Lock()
		now := r.now()
		if r.fresh(name, now) {
			r.mu.Unlock()
			return nil
		}
		if err := r.spared(now); err != nil {
			r.mu.Unlock()
			return err
		}
		asked := r.asking[name]
		if asked == nil {
			break
		}
		r.mu.Unlock()
		select {
		case <-asked:
		case <-ctx.Done():
			return canceled(ctx.Err())
		}
	}
	asked := make(chan struct{})
	r.asking[name] = asked
	r.mu.Unlock()
	err := r.lookUp(ctx, name)
	r.mu.Lock()
	delete(r.asking, name)
	r.mu.Unlock()
	close(asked)
	return err
}

// lookUp asks for one name.
func (r *Reader) lookUp(ctx context.Context, name string) error {
	body, err := r.ask.get(ctx, byVanity, "machineVanity", name)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcome(err)
	now := r.now()
	e, ok := decodeEnvironment(body, r.conf.Owner)
	switch {
	case ok:
		r.remember(name, &known{at: now, until: now.Add(hitAge), env: e.only(name)})
		for _, vm := range e.VMs[:min(len(e.VMs), maxOthers)] { // they need not be asked for
			if vm.FQDN != name && r.ours(vm.FQDN) {
				r.remember(vm.FQDN, &known{at: now, until: now.Add(hitAge), env: e.only(vm.FQDN)})
			}
		}
	case err == nil, isClass(err, ClassNotFound):
		r.remember(name, &known{at: now, until: now.Add(missAge)})
		return nil
	case failure.As(err).Kind == failure.Permanent: // the server's trouble with it: not asked again soon
		r.remember(name, &known{at: now, until: now.Add(hitAge)})
	}
	return about("look up a lab machine", err)
}

// only is the environment with the machine of that name alone, or its only one.
func (e environment) only(host string) *environment {
	i := slices.IndexFunc(e.VMs, func(vm machine) bool { return vm.FQDN == host })
	switch {
	case i >= 0:
		e.VMs = slices.Clone(e.VMs[i : i+1])
	case len(e.VMs) != 1:
		e.VMs = nil
	}
	return &e
}

// remember keeps what is known of a name. r.mu is held.
func (r *Reader) remember(name string, k *known) {
	if len(r.names) >= maxNames && r.names[name] == nil {
		oldest := slices.SortedFunc(maps.Keys(r.names), func(a, b string) int { return r.names[a].at.Compare(r.names[b].at) })
		for _, n := range oldest[:maxNames/10] {
			delete(r.names, n)
		}
	}
	r.names[name] = k
}

// later leaves names to Run. r.mu is held.
func (r *Reader) later(names []string) {
	for _, n := range names {
		if len(r.queue) < maxQueue && !slices.Contains(r.queue, n) {
			r.queue = append(r.queue, n)
		}
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// ours says whether a name is one that CloudShare may know.
func (r *Reader) ours(host string) bool {
	for _, d := range r.conf.Domains {
		if label, ok := strings.CutSuffix(host, "."+d); ok && label != "" && hostName(host) == host {
			return true
		}
	}
	return false
}

// Devices names the lab machines of a capture. It waits for at most waitNames names that
// are not known yet, until ctx ends; others are left to Run. With an error, which is that
// CloudShare could not be asked, it tells what is known nevertheless.
func (r *Reader) Devices(ctx context.Context, c device.Capture) ([]device.Device, error) {
	hosts := r.hosts(c)
	r.mu.Lock()
	now := r.now()
	unseen := slices.DeleteFunc(slices.Clone(hosts), func(h string) bool { return r.fresh(h, now) })
	// What was never heard of comes before what is heard of again.
	slices.SortStableFunc(unseen, func(a, b string) int { return cmp.Compare(seen(r.names[a]), seen(r.names[b])) })
	wait := unseen[:min(len(unseen), waitNames)]
	if len(unseen) > len(wait) {
		r.later(unseen[len(wait):])
	}
	r.mu.Unlock()
	var problem error
	for i, h := range wait {
		err := r.learn(ctx, h)
		problem = cmp.Or(problem, err)
		if err != nil && failure.As(err).Kind != failure.Permanent {
			r.mu.Lock()
			r.later(wait[i:])
			r.mu.Unlock()
			break
		}
	}
	return r.match(c, hosts), problem
}

func seen(k *known) int {
	if k == nil {
		return 0
	}
	return 1
}

// hosts are the names of a capture that CloudShare may know, each once.
func (r *Reader) hosts(c device.Capture) []string {
	var list []string
	have := map[string]bool{}
	add := func(h string) {
		if len(list) < maxQueue && !have[h] && r.ours(h) {
			have[h] = true
			list = append(list, h)
		}
	}
	for _, h := range c.Hosts {
		add(h)
	}
	for _, a := range c.Answers {
		add(a.Host)
	}
	return list
}

// Status is what a reader knows and how it fares.
type Status struct {
	Inventory    time.Time `json:"inventory,omitzero"` // when it was taken; zero: not yet
	Stale        bool      `json:"stale,omitempty"`
	Environments int       `json:"environments"`
	Machines     int       `json:"machines"`
	Skipped      int       `json:"skipped,omitempty"` // environments that could not be read
	Cut          bool      `json:"cut,omitempty"`     // there are more than are looked at
	Own          string    `json:"own,omitempty"`     // the environment that the agent runs in, or why none is told
	Names        int       `json:"names"`             // that were asked for and belong to a lab
	Unknown      int       `json:"unknown"`           // and that don't
	Waiting      int       `json:"waiting"`           // to be asked for
	Error        string    `json:"error,omitempty"`   // the last one
	Quiet        time.Time `json:"quiet,omitzero"`    // until then CloudShare is not asked
}

// Age is how old the inventory is, 0 without one.
func (s Status) Age(now time.Time) time.Duration {
	if s.Inventory.IsZero() {
		return 0
	}
	return now.Sub(s.Inventory)
}

// Status returns what r knows and how it fares.
func (r *Reader) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	s := Status{Waiting: len(r.queue)}
	if r.labs != nil {
		s.Inventory, s.Environments, s.Machines, s.Skipped, s.Cut, s.Own = r.labs.at, r.labs.environments, r.labs.machines, r.labs.skipped, r.labs.cut, r.labs.ownText
		s.Stale = now.Sub(r.labs.at) > 3*r.conf.InventoryEvery.Std()
	}
	for _, k := range r.names {
		if k.env != nil {
			s.Names++
		} else {
			s.Unknown++
		}
	}
	if r.last != nil {
		s.Error = fmt.Sprint(r.last)
	}
	if now.Before(r.quiet) {
		s.Quiet = r.quiet
	}
	return s
}

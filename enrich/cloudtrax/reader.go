package cloudtrax

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"capagent/enrich/cloudtrax/api"
	"capagent/enrich/device"
	"capagent/internal/failure"
	"capagent/internal/httpx"
)

// Reader keeps what CloudTrax knows. It is safe for concurrent use.
type Reader struct {
	conf Config
	api  *api.Client
	idle func() // drops idle connections

	snapshot atomic.Pointer[snapshot]

	polling sync.Mutex // held while CloudTrax is asked

	mu      sync.Mutex // guards what follows; never held while CloudTrax is asked
	jobs    map[jobKey]*job
	found   []network // those of which is asked
	until   time.Time // nothing is asked before
	failed  int       // outages in a row
	stopped error     // nothing is asked any more
}

// kind is something that is asked for, in the order in which it is.
type kind uint8

const (
	networks kind = iota
	clients
	nodes
	settings
	switches
	survey
)

func (k kind) String() string {
	return [...]string{"networks", "clients", "access points", "settings", "switches", "site survey"}[k]
}

type jobKey struct {
	kind    kind
	network api.ID // zero for networks
}

// job is something to ask for, again and again.
type job struct {
	jobKey
	every  time.Duration
	due    time.Time
	failed int
	err    error // of the last time
	off    bool  // the key may not ask for it
	part   *part // what it gave; nil: nothing yet
}

// Back-off: doubled from the first to the last, for what failed alone and, when
// nothing gets through, for everything.
const (
	firstWait = time.Minute
	lastWait  = time.Hour
	daily     = 24 * time.Hour
)

// NewReader returns a reader for c. It asks nothing before Run or Refresh.
func NewReader(c Config, version string, log zerolog.Logger) (*Reader, error) {
	client, h, err := dial(c, version, log)
	if err != nil {
		return nil, err
	}
	return newReader(c, client, h.Close), nil
}

func newReader(c Config, client *api.Client, idle func()) *Reader {
	r := &Reader{conf: c, api: client, idle: idle, jobs: map[jobKey]*job{}}
	first := &job{every: daily}
	r.jobs[first.jobKey] = first
	r.snapshot.Store(&snapshot{})
	return r
}

// Name returns what devices give as their source.
func (r *Reader) Name() string { return Name }

// Run keeps the snapshot fresh until ctx ends. It begins at once.
func (r *Reader) Run(ctx context.Context) {
	for ctx.Err() == nil {
		wait := r.round(ctx)
		r.idle() // nothing is asked for minutes
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
	}
}

// Refresh asks for all that is due, which at first is everything, and returns what
// went wrong. Commands that run once need it; a daemon has Run.
func (r *Reader) Refresh(ctx context.Context) error {
	r.round(ctx)
	r.idle()
	if ctx.Err() != nil {
		return &failure.Error{Class: httpx.ClassCanceled, Err: ctx.Err()}
	}
	return r.Err()
}

// Networks asks which networks the key may see, as "NAME (ID)": a harmless call that
// tells whether CloudTrax can be asked.
func (r *Reader) Networks(ctx context.Context) ([]string, error) {
	r.polling.Lock()
	defer r.polling.Unlock()
	defer r.idle()
	p, err := r.ask(ctx, jobKey{})
	if err != nil {
		return nil, err
	}
	var out []string
	for _, n := range p.networks {
		out = append(out, device.Clean(n.name+" ("+n.id.String()+")"))
	}
	return out, nil
}

// round asks for all that is due, one after the other, and says how long nothing will
// be.
func (r *Reader) round(ctx context.Context) time.Duration {
	r.polling.Lock()
	defer r.polling.Unlock()
	for ctx.Err() == nil {
		j, wait := r.next(time.Now())
		if j == nil {
			return wait
		}
		p, err := r.ask(ctx, j.jobKey)
		if ctx.Err() != nil {
			break
		}
		r.done(j, p, err, time.Now())
	}
	return 0
}

// next returns the job to do now, or how long there is none.
func (r *Reader) next(now time.Time) (*job, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped != nil {
		return nil, daily // until the configuration is loaded again
	}
	if wait := r.until.Sub(now); wait > 0 {
		return nil, wait
	}
	wait := daily
	for _, j := range r.sorted() {
		switch ahead := j.due.Sub(now); {
		case j.off:
		case ahead <= 0:
			return j, 0
		default:
			wait = min(wait, ahead)
		}
	}
	return nil, wait
}

// sorted returns the jobs in the order in which they are done.
func (r *Reader) sorted() []*job {
	return slices.SortedFunc(maps.Values(r.jobs), func(a, b *job) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.network.String(), b.network.String()))
	})
}

// about gives or takes a tenth, so that agents do not ask in step.
func about(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64())) //nolint:gosec // no secret depends on it
}

// backOff is how long to wait after so many failures in a row.
func backOff(failed int) time.Duration {
	return about(min(firstWait<<min(failed-1, 10), lastWait))
}

// done takes in what a job gave.
func (r *Reader) done(j *job, p *part, err error, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	j.err = err
	if err == nil {
		j.failed, r.failed = 0, 0
		j.due = now.Add(about(j.every))
		p.at, p.every = now.Round(0), j.every // the wall clock: a machine may sleep
		j.part = p
		if j.kind == networks {
			r.choose(p.networks)
		}
		r.snapshot.Store(r.build())
		return
	}
	f := failure.As(err)
	switch {
	case f.Class == api.ClassBadCredentials:
		r.stopped = err
		return
	case f.Class == api.ClassNoPermission:
		j.off = true
	case outage[f.Class]:
		r.failed++
		r.until = now.Add(max(backOff(r.failed), f.RetryAfter))
	}
	j.failed++
	j.due = now.Add(backOff(j.failed))
	if j.kind == networks && len(r.found) == 0 && !outage[f.Class] {
		r.choose(chosen(r.conf, nil)) // those that are configured need no list
	}
}

// outage are the classes of failures that everything else would meet, too.
var outage = map[string]bool{
	api.ClassBusy: true, api.ClassClock: true,
	httpx.ClassNetwork: true, httpx.ClassTLS: true, httpx.ClassRedirect: true, httpx.ClassBadURL: true,
}

// choose makes the jobs for networks, and drops those of networks that are gone.
func (r *Reader) choose(list []network) {
	r.found = list
	wanted := map[jobKey]bool{{}: true}
	for _, n := range list {
		for k, every := range map[kind]time.Duration{
			clients: r.conf.ClientsEvery.Std(), nodes: r.conf.NodesEvery.Std(), settings: daily,
			switches: r.conf.SwitchesEvery.Std(), survey: r.conf.SurveyEvery.Std(),
		} {
			key := jobKey{k, n.id}
			if wanted[key] = every > 0; every > 0 && r.jobs[key] == nil {
				r.jobs[key] = &job{jobKey: key, every: every}
			}
		}
	}
	maps.DeleteFunc(r.jobs, func(key jobKey, _ *job) bool { return !wanted[key] })
}

// ask asks for one thing.
func (r *Reader) ask(ctx context.Context, k jobKey) (p *part, err error) {
	p = &part{}
	switch k.kind {
	case networks:
		err = get(ctx, r.api, api.Networks(), decodeNetworks, &p.networks, &p.skipped)
		p.networks = chosen(r.conf, p.networks)
	case clients:
		err = get(ctx, r.api, api.Clients(k.network), decodeClients, &p.clients, &p.skipped)
	case nodes:
		err = get(ctx, r.api, api.Nodes(k.network), decodeNodes, &p.nodes, &p.skipped)
	case settings:
		var data []byte
		if data, err = r.api.Get(ctx, api.Settings(k.network)); err == nil {
			p.ssids, err = decodeSettings(data)
		}
	case switches:
		err = r.askSwitches(ctx, k.network, p)
	case survey:
		err = get(ctx, r.api, api.Survey(k.network), decodeSurvey, &p.survey, &p.skipped)
	}
	if err != nil {
		return nil, told(k, err)
	}
	return p, nil
}

// get asks, decodes, and adds to what there is.
func get[T any](ctx context.Context, c *api.Client, ask api.Read, decode func([]byte) (decoded[T], error), to *[]T, skipped *int) error {
	data, err := c.Get(ctx, ask)
	if err != nil {
		return err
	}
	d, err := decode(data)
	*to, *skipped = append(*to, d.list...), *skipped+d.skipped
	return err
}

// askSwitches asks for the switches of a network and for the ports of each. A switch
// that can't be asked for has no ports.
func (r *Reader) askSwitches(ctx context.Context, id api.ID, p *part) error {
	if err := get(ctx, r.api, api.Switches(id), decodeSwitches, &p.switches, &p.skipped); err != nil {
		return err
	}
	for i, s := range p.switches {
		err := get(ctx, r.api, api.Switch(s.id), decodePorts, &p.switches[i].ports, &p.skipped)
		if f := failure.As(err); f != nil && (outage[f.Class] || f.Class == api.ClassBadCredentials || ctx.Err() != nil) {
			return err
		}
	}
	return nil
}

// told says what was asked for, and keeps the failure's kind, class and hint.
func told(k jobKey, err error) error {
	f := *failure.As(err)
	of := ""
	if k.network != (api.ID{}) {
		of = " of network " + k.network.String()
	}
	f.Err = fmt.Errorf("ask CloudTrax for %s%s: %w", k.kind, of, f.Err)
	return &f
}

// Err returns why the snapshot is not as fresh as it should be, or nil. What the key
// may not ask for is no error: Status lists it.
func (r *Reader) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped != nil {
		return r.stopped
	}
	var denied error
	for _, j := range r.sorted() {
		switch {
		case j.err == nil:
		case !j.off:
			return j.err
		case j.kind == networks || j.kind == clients:
			denied = errors.Join(denied, j.err)
		}
	}
	if denied != nil && r.snapshot.Load().newest == nil { // a key that may do nothing is one
		return denied
	}
	return nil
}

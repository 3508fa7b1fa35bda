package cloudtrax

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"capagent/enrich/cloudtrax/api"
	"capagent/enrich/device"
	"capagent/internal/config"
	"capagent/internal/failure"
	"capagent/internal/instance"
)

// ClassRefused is the class of what a Blocker will not do.
const ClassRefused = "refused"

// Blocker blocks clients, and ends that when its time is over (contract 2.5).
//
// What it is about to do is in its file before it does it, so that neither a crash
// nor a power cut leaves a client blocked for ever or forgets how many were. It never
// sends an order twice without having looked in between. It ends blocks of its own
// only. Several processes may use one file.
type Blocker struct {
	conf  Config
	api   *api.Client
	actor api.Actor
	idle  func()
	guard BlockerOptions

	mu     sync.Mutex // one at a time
	failed int        // times that ending blocks failed in a row
	until  time.Time  // it is not tried again before
}

// BlockerOptions are what a Blocker must know of the machine that it runs on.
type BlockerOptions struct {
	State    string       // its file
	Own      []device.MAC // of this machine's interfaces
	Gateways []device.MAC // that this machine's packets go to
}

// Plan is what blocking a client would be, or was.
type Plan struct {
	MAC     device.MAC `json:"mac"`
	Name    string     `json:"name"`
	Network string     `json:"network"`
	Until   time.Time  `json:"until"`
	// DryRun says that nothing was done.
	DryRun bool `json:"dry_run"`

	id  api.ID
	cid api.CID
}

// NewBlocker returns a blocker for c.
func NewBlocker(c Config, version string, o BlockerOptions, log zerolog.Logger) (*Blocker, error) {
	client, h, err := dial(c, version, log)
	if err != nil {
		return nil, err
	}
	if o.State == "" {
		return nil, errors.New("[cloudtrax] a blocker needs a file to remember by")
	}
	return newBlocker(c, client, h.Close, o), nil
}

func newBlocker(c Config, client *api.Client, idle func(), o BlockerOptions) *Blocker {
	return &Blocker{conf: c, api: client, actor: api.NewActor(client), idle: idle, guard: o}
}

func refuse(format string, args ...any) error {
	return &failure.Error{Kind: failure.Permanent, Class: ClassRefused, Err: fmt.Errorf(format, args...)}
}

// Plan says what blocking a client would do, for as long as is configured. Every
// reason not to is an error of class "refused".
func (b *Blocker) Plan(ctx context.Context, m device.MAC) (Plan, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.idle()
	st, err := loadState(b.guard.State)
	if err != nil {
		return Plan{}, err
	}
	p, err := b.plan(ctx, m, st, time.Now())
	p.Until, p.DryRun = time.Now().Add(b.conf.BlockFor.Std()), true
	return p, concerning("plan to block", m, err)
}

// Block blocks a client for a while; 0 is what is configured. Where block_dry_run is
// set it does nothing but plan.
func (b *Blocker) Block(ctx context.Context, m device.MAC, d time.Duration, reason string) (Plan, error) {
	if d == 0 {
		d = b.conf.BlockFor.Std()
	}
	if !b.conf.Block {
		return Plan{}, concerning("block", m, &failure.Error{
			Kind: failure.Permanent, Class: ClassRefused, Hint: "set [cloudtrax] block = true to allow it", Err: errors.New("blocking is switched off"),
		})
	}
	if d < minBlock || d > maxBlock {
		return Plan{}, concerning("block", m, refuse("expected %s to %s, found %s", config.Duration(minBlock), config.Duration(maxBlock), config.Duration(max(d, 0))))
	}
	var p Plan
	err := b.with(func(st *state) (err error) {
		now := time.Now().Round(0)
		p, err = b.plan(ctx, m, st, now)
		p.Until, p.DryRun = now.Add(d), b.conf.BlockDryRun
		if err != nil || p.DryRun {
			return err
		}
		return b.begin(ctx, st, Block{
			Network: p.id.String(), CID: p.cid.String(), MAC: m, Name: p.Name, Since: now, Until: p.Until, Reason: device.Clean(reason), State: Intended,
		})
	})
	return p, concerning("block", m, err)
}

// with does something to the state while nobody else does.
func (b *Blocker) with(f func(*state) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.idle()
	held, err := instance.Lock(b.guard.State+".lock", time.Now())
	var taken *instance.TakenError
	switch {
	case errors.As(err, &taken):
		return &failure.Error{Class: api.ClassBusy, Hint: "try again in a moment", Err: fmt.Errorf("process %d is blocking or unblocking", taken.PID)}
	case err != nil:
		return &failure.Error{Kind: failure.Pause, Class: ClassBadState, Err: err}
	}
	st, err := loadState(b.guard.State)
	if err == nil {
		err = f(st)
	}
	if let := held.Release(); err == nil && let != nil {
		err = &failure.Error{Kind: failure.Pause, Class: ClassBadState, Err: let}
	}
	return err
}

// begin notes what is about to be done, does it, and looks whether it is.
func (b *Blocker) begin(ctx context.Context, st *state, block Block) error {
	one := st.add(block)
	if err := st.save(); err != nil {
		return err // nothing was done
	}
	id, cid := one.ids()
	put := b.actor.Do(ctx, api.Block(id, cid, true))
	listed, err := b.listed(ctx, one)
	switch {
	case err != nil:
		return fmt.Errorf("it is not known whether it is blocked (the agent looks again later): %w", both(put, err))
	case listed:
		one.State = Blocked // whatever became of the answer
		return st.save()
	case put == nil:
		return api.Fail(api.ClassBadReply, errors.New("CloudTrax says that it did it, and its block list does not"))
	case answered[failure.As(put).Class]:
		st.drop(one)
		return both(put, st.save())
	}
	return put // it may be on its way
}

// answered are the classes of failures that are CloudTrax's own word: nothing was done.
var answered = map[string]bool{
	api.ClassBadCredentials: true, api.ClassClock: true, api.ClassNonce: true,
	api.ClassNoPermission: true, api.ClassNotFound: true, api.ClassBadRequest: true,
}

// both are two errors in one line, the first of which decides; either may be nil.
func both(a, b error) error {
	if a == nil || b == nil {
		return cmp.Or(a, b)
	}
	return fmt.Errorf("%w; then: %w", a, b)
}

// listed asks whether CloudTrax has a client on its block list.
func (b *Blocker) listed(ctx context.Context, one *Block) (bool, error) {
	id, _ := one.ids()
	d := decoded[client]{}
	if err := get(ctx, b.api, api.Blocked(id), decodeClients, &d.list, &d.skipped); err != nil {
		return false, fmt.Errorf("read the block list: %w", err)
	}
	return slices.ContainsFunc(d.list, func(c client) bool { return c.mac == one.MAC }), nil
}

// concerning says what was tried with whom, and keeps the failure's kind, class and hint.
func concerning(what string, m device.MAC, err error) error {
	if err == nil {
		return nil
	}
	f := *failure.As(err)
	f.Err = fmt.Errorf("%s %s: %w", what, m, err)
	return &f
}

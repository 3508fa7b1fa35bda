package main

import (
	"context"
	"errors"
	"iter"

	"capagent/internal/ledger"
	"capagent/internal/paths"
	"capagent/service"
	"capagent/service/control"
)

// reach finds the agent that runs by this configuration. The error is
// control.ErrNoAgent when none does. An agent is reached also when the
// configuration has mistakes by now: it goes on with what it read before, and
// then the Config holds only what was right.
func (a *app) reach(ctx context.Context) (*control.Client, service.Config, error) {
	cfg, wrong := a.config(ctx)
	own, err := paths.Default(a.configPath)
	if cfg.StateDir() == "" {
		cfg.Agent.StateDir = own.State
	}
	if cfg.StateDir() == "" {
		return nil, cfg, errors.Join(wrong, err)
	}
	client, err := control.Dial(ctx, control.Place(cfg.Control, cfg.StateDir(), own))
	if wrong != nil && errors.Is(err, control.ErrNoAgent) {
		err = wrong
	}
	return client, cfg, err
}

// reader is asked what is known: the agent, or the ledger itself where none runs.
// Both say the same.
type reader interface {
	Status(ctx context.Context) (control.Status, error)
	List(ctx context.Context, f ledger.Filter) iter.Seq2[service.View, error]
	Show(ctx context.Context, id string) (service.View, error)
	Find(ctx context.Context, s ledger.Search, each func(service.HitView) error) (service.FindResult, error)
	Verify(ctx context.Context, ids []int64, each func(service.VerifyEntry)) (service.VerifyResult, error)
	Close() error
}

// reader returns whom to ask. It needs no secret and writes nothing.
func (a *app) reader(ctx context.Context) (reader, error) {
	client, cfg, err := a.reach(ctx)
	if err == nil {
		return client, nil
	}
	if !errors.Is(err, control.ErrNoAgent) {
		return nil, err
	}
	l, err := a.readLedger(ctx, cfg)
	return records{&cfg, l}, err
}

// records is the ledger as a reader.
type records struct {
	config *service.Config
	ledger *ledger.Ledger // nil where nothing was recorded yet
}

// empty says that nothing was recorded yet, which the user was told.
func empty(from reader) bool {
	r, ok := from.(records)
	return ok && r.ledger == nil
}

func (r records) Status(ctx context.Context) (control.Status, error) {
	return control.Recorded(ctx, version, r.config, r.ledger)
}

func (r records) Verify(ctx context.Context, ids []int64, each func(service.VerifyEntry)) (service.VerifyResult, error) {
	return service.Verify(ctx, r.ledger, service.VerifyOptions{IDs: ids, OnCapture: each})
}

func (r records) Find(ctx context.Context, s ledger.Search, each func(service.HitView) error) (service.FindResult, error) {
	if r.ledger == nil {
		return service.FindResult{}, nil
	}
	return service.Find(ctx, r.ledger, s, each)
}

func (r records) Close() error {
	if r.ledger == nil {
		return nil
	}
	return r.ledger.Close()
}

func (r records) List(ctx context.Context, f ledger.Filter) iter.Seq2[service.View, error] {
	return func(yield func(service.View, error) bool) {
		if r.ledger == nil {
			return
		}
		for c, err := range r.ledger.List(ctx, f) {
			var v service.View
			if err == nil {
				v, err = service.Shown(ctx, r.ledger, c)
			}
			if !yield(v, err) {
				return
			}
		}
	}
}

func (r records) Show(ctx context.Context, id string) (service.View, error) {
	if r.ledger == nil {
		return service.View{}, ledger.ErrNotFound
	}
	c, err := r.ledger.Lookup(ctx, id)
	if err != nil {
		return service.View{}, err
	}
	return service.FullView(ctx, r.ledger, c)
}

//go:build unix

package main

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"capagent/internal/config"
	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/internal/paths"
	"capagent/service"
	"capagent/service/control"
)

// fakeAgent is what the commands see of a running agent: the real control API
// over the real ledger, and a pipeline that sends when it is asked to.
type fakeAgent struct {
	cfg    service.Config
	ledger *ledger.Ledger

	mu     sync.Mutex
	closed *failure.Error // what the destination refused last
	asked  time.Time
	reload error
	agent  *control.Agent // what status says, where it is set
	grace  chan struct{}  // uploads wait for it, where it is set
	flying int64          // a capture that is said to be on its way, where it is set
	looked chan struct{}  // is sent to when the status is asked for, where there is room
	begun  chan struct{}  // is sent to when uploads were asked for, where there is room
	work   sync.WaitGroup

	abandoned atomic.Bool // nothing is sent any more
}

// startAgent runs one by the configuration in env until the test ends, or stop.
func startAgent(t *testing.T, configPath string, env []string) (f *fakeAgent, stop func()) {
	t.Helper()
	where, err := paths.Default(configPath)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := service.LoadConfig(t.Context(), config.Options{Path: where.Config, Env: env, EnvPrefix: "CAPAGENT"}, where.State, true)
	if err != nil {
		t.Fatal(err)
	}
	f = &fakeAgent{cfg: cfg, begun: make(chan struct{}, 1), looked: make(chan struct{}, 1)}
	if f.ledger, err = ledger.Open(t.Context(), cfg.LedgerPath(), ledger.Options{}); err != nil {
		t.Fatal(err)
	}
	s, err := control.Listen(t.Context(), control.Place(cfg.Control, cfg.StateDir(), where), cfg.Control, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, f) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := errors.Join(<-served, f.end()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return f, stop
}

func (f *fakeAgent) Trigger(context.Context, control.TriggerRequest) (control.Trigger, error) {
	return control.Trigger{}, errors.ErrUnsupported
}

func (f *fakeAgent) Rotate(context.Context, string) ([]control.Rotated, error) {
	return nil, &control.Error{Status: 404, Text: "no live capture is configured"}
}

func (f *fakeAgent) end() error {
	f.work.Wait()
	return f.ledger.Close()
}

func (f *fakeAgent) Ledger() *ledger.Ledger { return f.ledger }

func (f *fakeAgent) Reload(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reload
}

// set changes what the agent does from now on.
func (f *fakeAgent) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeAgent) Status(ctx context.Context) (control.Status, error) {
	v, err := control.Recorded(ctx, version, &f.cfg, f.ledger)
	v.Agent = &control.Agent{PID: os.Getpid(), Started: time.Now().UTC(), State: control.Running, Text: "all is well"}
	v.Agent.Destination.State = service.DoorOpen
	select {
	case f.looked <- struct{}{}:
	default:
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.flying != 0 {
		v.Agent.Uploading = []control.Uploading{{ID: f.flying}}
	}
	if f.agent != nil {
		v.Agent = f.agent
		return v, err
	}
	if c := f.closed; c != nil {
		v.Agent.Destination = control.DestinationState{
			State: service.DoorPaused, Kind: new(c.Kind.String()), Class: &c.Class, Reason: new(c.Error()), Hint: &c.Hint, Until: &f.asked,
		}
	}
	return v, err
}

// Retry sends as a daemon would: behind the call's back.
func (f *fakeAgent) Retry(ctx context.Context, ids []int64, all bool) (int, error) {
	filter := ledger.Filter{IDs: ids, Destination: f.cfg.Destination()}
	if ids == nil {
		filter.States = []ledger.State{ledger.Queued}
		if all {
			filter.States = append(filter.States, ledger.Failed)
		}
	}
	var captures []ledger.Capture
	for c, err := range f.ledger.List(ctx, filter) {
		if err != nil {
			return 0, err
		}
		captures = append(captures, c)
	}
	once := service.OneShot
	once.Patience = 0
	agent, err := service.Open(ctx, f.cfg, version, service.NewGate(once), zerolog.Nop())
	if err != nil {
		return 0, err
	}
	if err := agent.Release(ctx, captures); err != nil {
		return 0, errors.Join(err, agent.Close())
	}
	select {
	case f.begun <- struct{}{}:
	default:
	}
	ctx = context.WithoutCancel(ctx)
	f.mu.Lock()
	grace := f.grace
	f.mu.Unlock()
	f.work.Go(func() {
		defer agent.Close()
		if grace != nil {
			<-grace
		}
		if f.abandoned.Load() {
			return
		}
		_ = agent.Send(ctx, captures, func(int, ledger.Capture, error) {})
		f.mu.Lock()
		defer f.mu.Unlock()
		f.asked = time.Now()
		if err := agent.Pipeline.Closed(); err != nil {
			f.closed = failure.As(err)
		}
	})
	return len(captures), nil
}

// at is a state directory with what a script would put there.
type at struct {
	s     sandboxProcess
	state string
}

func (p at) env() []string { return []string{"CAPAGENT_AGENT_STATE_DIR=" + p.state} }

func (p at) run(t *testing.T, args ...string) outcome {
	t.Helper()
	return runProgram(t, p.env(), append([]string{"--config", p.s.Config}, args...)...)
}

func (p at) startAgent(t *testing.T) (*fakeAgent, func()) {
	t.Helper()
	return startAgent(t, p.s.Config, append(os.Environ(), p.env()...))
}

// shortDir is a directory whose sockets have paths that the system takes.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cap")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Package daemon is `capagent run`: it watches folders, takes every completed
// capture file into the ledger, and sends what is queued, for months.
//
// A file goes one way: a folder hands it to the intake when no writer is left,
// the intake reads it once and records it, the sender takes it through the
// pipeline. Whatever happens to the process, the ledger says where each capture
// stands, and the folders say what is not in the ledger yet.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"capagent/capture"
	engine "capagent/capture/live"
	"capagent/internal/confine"
	"capagent/internal/instance"
	"capagent/internal/ledger"
	"capagent/internal/secret"
	"capagent/service"
	"capagent/service/control"
	"capagent/service/metrics/observe"
)

// Options of a daemon.
type Options struct {
	// Config is the configuration to begin with; Load reads it anew for Reload.
	Config  service.Config
	Load    func(context.Context) (service.Config, error)
	Version string
	Log     zerolog.Logger
	// Control is where the control API listens; what it sends is masked by
	// Redactor.
	Control  control.Where
	Redactor *secret.Redactor
	// Ready is called when the folders are watched and the control API answers.
	Ready func()
	// Stopping is called when the end was asked for.
	Stopping func()
	// Told is called with a line for people when what the agent does has changed.
	Told func(text string)
	// Alive is called twice in each Watchdog while the agent goes on by itself; 0 for a
	// service manager that wants no word.
	Alive    func()
	Watchdog time.Duration
	// Socket opens packet sockets where this process may not; nil: it does so itself.
	Socket func(cooked bool) (fd int, err error)
	// Confine takes from this process what it does not need, after its start; nil: nothing.
	Confine func(confine.Bounds) confine.State
	// System is what this machine runs, for capture files to tell.
	System string
	// Reload asks for a reload each time something comes, Rotate for a new file of
	// every live capture, Trigger for the release of [policy]'s window.
	Reload, Rotate, Trigger <-chan os.Signal
	// Grace is how long uploads may go on after the end was asked for.
	Grace time.Duration

	// For tests in simulated time, which real sockets and kernels' events can't
	// be part of.
	assemble            func(service.Config, *ledger.Ledger, *service.Door) (*service.Agent, error)
	ask                 func(context.Context) error
	open                capture.Opener
	made                func(*Daemon)
	noEvents, noControl bool
}

// DefaultGrace fits into the 90 seconds that systemd waits.
const DefaultGrace = 20 * time.Second

// Daemon is a running agent.
type Daemon struct {
	opts     Options
	log      zerolog.Logger
	ledger   *ledger.Ledger
	problems *problems
	started  time.Time
	keeper   *keeper
	captures *captures
	recorder *recorder
	triggers *triggers
	schedule *schedules
	pulse    pulse
	observer *observe.Observer
	bounds   confine.Bounds
	confined *confine.State // nil: nobody asked for it
	metering chan struct{}  // whoever tells metrics: one generation at a time

	mu          sync.Mutex
	now         *generation
	draining    bool
	reloaded    time.Time
	configError error

	reload  sync.Mutex // one at a time
	parent  context.Context
	work    context.Context
	running sync.WaitGroup // generations
}

// Run is the daemon's life. It returns nil when ctx ended it.
func Run(ctx context.Context, opts Options) (err error) {
	d := &Daemon{
		observer: observe.NewObserver(), metering: make(chan struct{}, 1),
		opts: opts, log: opts.Log, started: time.Now().UTC(), problems: newProblems(opts.Log),
	}
	d.triggers, d.schedule = newTriggers(d), &schedules{d: d, wake: make(chan struct{}, 1)}
	d.recorder, d.captures = newRecorder(d), &captures{d: d, open: engine.Open, ready: make(chan struct{})}
	if opts.open != nil {
		d.captures.open = opts.open
	}
	if opts.made != nil {
		opts.made(d)
	}
	stateDir := opts.Config.StateDir()
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return fmt.Errorf("state_dir: %w", err)
	}
	lock, err := instance.Lock(stateDir, d.started)
	if err != nil {
		return err
	}
	// Where something can't be ended, nothing is closed under its feet: the
	// process ends now, and the next start takes up what it left.
	end := func(last func() error) {
		if !errors.Is(err, errStuck) {
			err = errors.Join(err, last())
		}
	}
	defer func() { end(lock.Release) }()
	if d.ledger, err = ledger.Open(ctx, opts.Config.LedgerPath(), ledger.Options{Log: d.log}); err != nil {
		return err
	}
	defer func() { end(d.ledger.Close) }()
	_, unclean := lock.Unclean()
	return d.run(ctx, unclean)
}

// run is Run behind the locks.
func (d *Daemon) run(ctx context.Context, unclean bool) error {
	work, abandon := context.WithCancel(context.WithoutCancel(ctx))
	defer abandon()
	d.parent, d.work = ctx, work
	first, err := d.generation(d.opts.Config)
	if err != nil {
		return err
	}
	d.keeper = newKeeper(d, unclean)
	d.note("start", map[string]any{"version": d.opts.Version, "pid": os.Getpid(), "unclean": unclean})
	if unclean {
		d.log.Warn().Str("class", "unclean").Msg("the agent did not end by itself last time; what it was doing is looked up before anything is repeated")
	}
	if err := d.triggers.restore(ctx); err != nil {
		return err
	}
	left := d.spooled()
	server := d.listen(ctx)
	d.confine(first.config)
	d.begin(first)
	d.schedule.set(first.config)
	d.triggers.follow(first.config.Trigger)
	var own sync.WaitGroup
	// These outlive the uploads, whose ends they record and tell.
	lasting, rest := context.WithCancel(context.WithoutCancel(ctx))
	defer rest()
	own.Go(func() { d.keeper.run(lasting) })
	own.Go(func() {
		unknown := d.salvage(left) // may take its time
		close(d.captures.ready)
		d.recoverSpool(lasting, first, unknown)
	})
	own.Go(func() { d.recorder.run(lasting) })
	own.Go(func() { d.triggers.run(lasting) })
	own.Go(func() { d.schedule.run(lasting) })
	own.Go(func() { d.obey(lasting) })
	own.Go(func() { d.feed(lasting) })
	if server != nil {
		own.Go(func() { d.serve(lasting, server) })
	}
	d.log.Info().Int("pid", os.Getpid()).Str("version", d.opts.Version).Str("state_dir", d.opts.Config.StateDir()).
		Str("destination", first.agent.Destination()).Int("folders", len(first.folders)).Int("captures", len(first.config.Capture)).Msg("ready")
	if d.opts.Ready != nil {
		d.opts.Ready()
	}
	d.keeper.tell()
	<-ctx.Done()
	if err := d.drain(abandon); err != nil {
		return err
	}
	d.note("stop", map[string]any{"pid": os.Getpid()})
	rest()
	own.Wait()
	d.log.Info().Msg("stopped")
	return nil
}

// obey does what signals ask for.
func (d *Daemon) obey(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.opts.Reload:
			_ = d.Reload(ctx) // it says itself what went wrong
		case <-d.opts.Rotate:
			d.rotateAll(ctx)
		case s := <-d.opts.Trigger:
			d.triggers.signalled(ctx, s)
		}
	}
}

// errStuck says that something did not end although it was told to: a read from
// a dead file server, most likely.
var errStuck = errors.New("stop: a file or a disk does not answer; ended all the same")

// giveUp is how long what was told to end at once may take.
const giveUp = 10 * time.Second

// drain waits for what is on its way, for the time of grace, and ends it then.
func (d *Daemon) drain(abandon context.CancelFunc) error {
	d.mu.Lock()
	d.draining = true
	d.mu.Unlock()
	d.log.Info().Int("uploading", len(d.current().sender.inFlight())).Dur("grace", d.opts.Grace).Msg("stopping")
	d.keeper.tell()
	d.triggers.follow(nil)
	if d.opts.Stopping != nil {
		d.opts.Stopping()
	}
	// First what is captured: all that the kernel holds, into the last file and
	// the ledger.
	stuck := d.endCaptures()
	ended := make(chan struct{})
	go func() { d.running.Wait(); close(ended) }()
	if within(ended, d.opts.Grace) {
		return stuck
	}
	d.log.Warn().Msg("the time is over: uploads are given up and looked for at the next start")
	abandon()
	if within(ended, giveUp) {
		return stuck
	}
	return errStuck
}

// endCaptures ends the live captures and has their last files recorded. What
// can't be recorded now is found at the next start.
func (d *Daemon) endCaptures() error {
	if !within(d.captures.end(), giveUp) {
		d.log.Error().Msg("a capture does not end: its disk or its interface does not answer")
		return errStuck
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(d.parent), giveUp)
	defer stop()
	if err := d.recorder.settle(ctx); err != nil {
		d.log.Warn().Msg("files of the spool are not recorded yet: that is done at the next start")
	}
	return nil
}

// within waits for c at most d, and reports whether it was closed.
func within(c <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-c:
		return true
	case <-timer.C:
		return false
	}
}

// note records something that is no change of a capture. That it can't be
// recorded is told; it stops nothing.
func (d *Daemon) note(name string, data any) {
	if err := d.ledger.Note(context.WithoutCancel(d.parent), name, data); err != nil {
		d.troubled(err)
	}
	d.keeper.pokeAudit()
}

// current returns the generation that takes captures.
func (d *Daemon) current() *generation {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

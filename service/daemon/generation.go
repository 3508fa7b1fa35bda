package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/internal/quote"
	"capagent/service"
)

// generation is what one configuration made: everything that a reload replaces.
// The ledger and the locks outlive it.
type generation struct {
	config  service.Config
	agent   *service.Agent
	door    *service.Door
	sender  *sender
	intake  *intake
	looker  *looker
	courier *courier
	folders []*folder
	stop    context.CancelFunc // ends the taking, not what is on its way
}

// generation builds the parts of a configuration; nothing runs yet.
func (d *Daemon) generation(cfg service.Config) (*generation, error) {
	// All that the agent sends is left out by captures that want it so.
	cfg.CloudShark.Connecting = d.captures.flows.Connecting
	g := &generation{config: cfg}
	ask, assemble := d.opts.ask, d.opts.assemble
	if ask == nil {
		ask = func(ctx context.Context) error {
			_, err := g.agent.Client.Ping(ctx)
			return err
		}
	}
	g.door = service.NewDoor(service.Daemon, cfg.Destination(), ask)
	if assemble == nil {
		assemble = func(cfg service.Config, l *ledger.Ledger, door *service.Door) (*service.Agent, error) {
			return service.Assemble(cfg, l, d.opts.Version, door, d.log)
		}
	}
	var err error
	if g.agent, err = assemble(cfg, d.ledger, g.door); err != nil {
		return nil, err
	}
	pauses, err := d.ledger.Pauses(d.parent)
	if err != nil {
		return nil, err
	}
	for _, p := range pauses {
		if p.Destination == cfg.Destination() {
			g.door.Resume(p)
		}
	}
	g.agent.Observe(d.observer)
	g.sender = newSender(g.agent, g.door, d.log)
	g.sender.troubled, g.sender.pulse = d.troubled, &d.pulse
	g.sender.ended = func(ctx context.Context, c ledger.Capture, err error) { d.ended(ctx, g, c, err) }
	g.looker = newLooker(g.agent, g.door, d.log)
	g.looker.problems, g.looker.troubled, g.looker.decided = d.problems, d.troubled, func() { g.sender.poke(); d.keeper.pokeAudit(); poke(d.keeper.sweepWake) }
	g.courier = newCourier(g.agent, d.log)
	g.courier.problems, g.courier.troubled = d.problems, d.troubled
	g.courier.ended = func(ctx context.Context, c ledger.Capture) {
		d.keeper.pokeAudit()
		d.keeper.after(g, g.folder(c), c)
		poke(d.keeper.sweepWake)
	}
	g.looker.flagged = g.courier.poke
	g.intake = newIntake(g.agent, d.log)
	g.intake.looker = g.looker
	g.intake.problems, g.intake.troubled, g.intake.recorded = d.problems, d.troubled, func(ctx context.Context, f *folder, r ledger.Registered) { d.recorded(ctx, g, f, r) }
	for _, w := range cfg.Watch {
		g.folders = append(g.folders, newFolder(w, d.ledger, g.intake, d.log, d.opts.noEvents))
	}
	return g, nil
}

// begin has a generation take captures, in place of the last one. It does nothing
// when the agent is stopping.
func (d *Daemon) begin(g *generation) {
	taking, stop := context.WithCancel(d.parent)
	g.stop = stop
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.draining {
		stop()
		return
	}
	if d.now != nil {
		d.now.stop()
	}
	d.now = g
	d.running.Go(func() {
		defer stop()
		var parts sync.WaitGroup
		parts.Go(func() { g.sender.run(taking, d.work) })
		parts.Go(func() { g.intake.run(taking) })
		parts.Go(func() { g.looker.run(taking) })
		parts.Go(func() { g.agent.Background(taking) })
		parts.Go(func() { g.courier.run(taking) })
		parts.Go(func() { d.meter(taking, g) })
		for _, f := range g.folders {
			parts.Go(func() {
				if err := f.watcher.Run(taking); err != nil {
					d.problems.raise("watch", f.config.Path, err.Error(), "")
				}
			})
		}
		parts.Wait()
		g.agent.Hangup()
	})
}

// Reload reads the configuration and goes on with it. When it is wrong, the
// agent goes on with the last good one, and the error says why.
func (d *Daemon) Reload(ctx context.Context) error {
	d.reload.Lock()
	defer d.reload.Unlock()
	err := d.tryReload(ctx)
	d.mu.Lock()
	d.configError = err
	if err == nil {
		d.reloaded = time.Now().UTC()
	}
	d.mu.Unlock()
	if err != nil {
		d.problems.raise("config", "", "the configuration was not reloaded: "+err.Error(), "mend it and run: capagent reload")
		return err
	}
	d.problems.clear("config", "")
	d.note("reload", nil)
	d.log.Info().Msg("reloaded")
	return nil
}

func (d *Daemon) tryReload(ctx context.Context) error {
	if d.parent.Err() != nil {
		return errors.New("the agent is stopping")
	}
	cfg, err := d.opts.Load(ctx)
	if err != nil {
		return err
	}
	if have := d.current().config.StateDir(); cfg.StateDir() != have {
		return fmt.Errorf("agent.state_dir: it can't change while the agent runs; stop it first")
	}
	if err := d.stillCovers(cfg); err != nil {
		return err
	}
	g, err := d.generation(cfg)
	if err != nil {
		return err
	}
	// What was wrong may be mended now: ask at once.
	g.door.Hurry()
	d.begin(g)
	d.schedule.set(cfg)
	d.triggers.follow(cfg.Trigger)
	return nil
}

// recorded is told of a capture that the ledger now holds.
func (d *Daemon) recorded(ctx context.Context, g *generation, f *folder, r ledger.Registered) {
	log := d.log.With().Int64("capture", r.ID).Str("path", r.Path).Str("state", string(r.State)).Logger()
	switch {
	case r.New && r.State == ledger.Quarantined:
		log.Warn().Msg("not understood, kept: " + quote.Path(r.Name) + ": " + r.Reason)
	case r.New:
		log.Info().Int64("size", r.Size).Int64("packets", r.Packets).Str("sha256", r.SHA256).Msg("registered")
	case r.State == ledger.Failed && d.lostItsFile(ctx, r.ID):
		// It failed for its file, which is here again.
		if _, err := d.ledger.Retry(ctx, r.ID); err != nil {
			d.troubled(err)
		}
	}
	d.keeper.after(g, f, r.Capture)
	g.sender.poke()
	d.keeper.pokeAudit()
	if r.Owned && r.State == ledger.Held {
		poke(d.keeper.sweepWake) // a ring is to be kept, not only every now and then
	}
}

// lostItsFile says that a capture is parked only because its file was not there
// as it was inspected. One of which that is so again and again stays parked.
func (d *Daemon) lostItsFile(ctx context.Context, id int64) bool {
	steps, err := d.ledger.Steps(ctx, id)
	if err != nil || len(steps) == 0 {
		return false
	}
	last := steps[len(steps)-1]
	return (last.Class == "unreadable" || last.Class == "changed") && last.Attempts < service.Daemon.Parked
}

// ended is told of every capture that was tried.
func (d *Daemon) ended(ctx context.Context, g *generation, c ledger.Capture, err error) {
	d.keeper.pokeAudit()
	if now := d.current(); now != g {
		now.sender.poke() // it could not see to this capture as long as this one held it
	}
	f := g.folder(c)
	if err == nil {
		d.fine()
		g.courier.poke()
		d.keeper.after(g, f, c)
		if c.Findings > 0 {
			poke(g.looker.annotate)
		}
		return
	}
	fail := failure.As(err)
	if errors.Is(err, context.Canceled) {
		return
	}
	if trouble := ledger.Trouble(err); trouble != "" && fail.Class == "unknown" {
		d.troubled(err)
		return
	}
	if status, _ := g.door.Status(); status.State == service.DoorPaused && status.Cause != nil && fail.Kind != failure.Permanent {
		d.log.Warn().Str("class", fail.Class).Str("destination", c.Destination).Str("hint", fail.Hint).
			Time("again", status.Until).Msg("uploads are paused: " + fail.Error())
		return
	}
	event := d.log.Warn()
	if c.State == ledger.Failed {
		event = d.log.Error()
	}
	event.Int64("capture", c.ID).Str("class", fail.Class).Str("path", c.Path).Str("hint", fail.Hint).Str("state", string(c.State)).Msg(fail.Error())
	if f != nil && (fail.Class == "changed" || fail.Class == "unreadable") {
		f.watcher.Again(c.Path, time.Second) // what is there now is another capture
	}
}

// folder returns the watched folder that a capture came from, or nil.
func (g *generation) folder(c ledger.Capture) *folder {
	for _, f := range g.folders {
		if f.config.Source() == c.Source {
			return f
		}
	}
	return nil
}

package daemon

import (
	"context"
	"errors"
	"os"
	"time"

	"capagent/internal/disk"
	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/service"
	"capagent/service/control"
)

// The daemon as the control API sees it.
var _ control.Backend = (*Daemon)(nil)

// Ledger returns the ledger, for looking.
func (d *Daemon) Ledger() *ledger.Ledger { return d.ledger }

// Retry lets captures be tried at once, and the destination be asked.
func (d *Daemon) Retry(ctx context.Context, ids []int64, all bool) (int, error) {
	g := d.current()
	if len(ids) == 0 {
		states := []ledger.State{ledger.Queued}
		if all {
			states = append(states, ledger.Failed)
		}
		for c, err := range d.ledger.List(ctx, ledger.Filter{States: states, Destination: g.agent.Destination()}) {
			if err != nil {
				return 0, err
			}
			ids = append(ids, c.ID)
		}
	}
	n := 0
	if len(ids) > 0 {
		var err error
		if n, err = d.ledger.Retry(ctx, ids...); err != nil {
			return n, err
		}
	}
	for _, id := range ids {
		if _, err := d.ledger.Redeliver(ctx, id); err != nil {
			return n, err
		}
	}
	g.door.Hurry()
	g.sender.poke()
	g.agent.HurryDeliveries()
	g.courier.poke()
	d.keeper.pokeAudit()
	return n, nil
}

// Status says how the agent fares.
func (d *Daemon) Status(ctx context.Context) (control.Status, error) {
	g := d.current()
	d.keeper.watchFolders()
	v, err := control.Recorded(ctx, d.opts.Version, &g.config, d.ledger)
	if err != nil {
		d.troubled(err)
		v.Captures = nil // not known, which is not none
	}
	a := &control.Agent{PID: os.Getpid(), Started: d.started, Text: d.text(), Destination: destinationState(g.door), Confined: d.confinement()}
	d.mu.Lock()
	draining := d.draining
	a.Reloaded = when(d.reloaded)
	if d.configError != nil {
		a.ConfigError = word(d.configError.Error())
	}
	d.mu.Unlock()
	for _, p := range d.problems.list() {
		a.Problems = append(a.Problems, control.Problem{Class: p.Class, Text: p.Text, Hint: word(p.Hint), Since: p.Since, Count: int64(p.Count)})
	}
	for id, f := range g.sender.inFlight() {
		a.Uploading = append(a.Uploading, control.Uploading{ID: id, Name: f.name, Size: f.size})
	}
	for _, f := range g.folders {
		s := f.watcher.Status()
		a.Watches = append(a.Watches, control.Watch{
			Path: f.config.Path, State: s.State, Error: word(s.Error), Files: int64(s.Files), Pending: int64(s.Pending), LastScan: when(s.LastScan),
		})
	}
	for _, l := range d.captures.list() {
		a.Captures = append(a.Captures, l.status())
	}
	a.Captures = append(a.Captures, d.schedule.waiting()...)
	a.Disk.MinFree = g.config.Retention.MinFree.Bytes()
	if free, _, _, err := disk.Free(d.opts.Config.StateDir()); err == nil {
		a.Disk.Free = int64(min(free, 1<<62))
	}
	if owned, err := d.ledger.Owned(ctx); err == nil {
		a.Disk.SpoolBytes = owned.Bytes
	}
	d.neighbours(ctx, g, a)
	switch {
	case draining:
		a.State = control.Draining
	case a.Destination.State != service.DoorOpen:
		a.State = control.Paused
	case len(a.Problems) > 0:
		a.State = control.Degraded
	default:
		a.State = control.Running
	}
	v.Agent = a
	return v, nil
}

// neighbours says how the other platforms fare.
func (d *Daemon) neighbours(ctx context.Context, g *generation, a *control.Agent) {
	for _, n := range g.agent.NamesStatus() {
		a.Names = append(a.Names, control.Names{Source: n.Source, Text: n.Text, At: when(n.At), Stale: n.Stale, Error: word(n.Error)})
	}
	deliveries, err := g.agent.DeliveryStatus(ctx)
	if err != nil {
		d.troubled(err)
	}
	for _, one := range deliveries {
		a.Deliveries = append(a.Deliveries, control.Delivery(one))
	}
	blocked, err := g.agent.Blocked()
	if err != nil {
		d.log.Warn().Err(err).Msg("what is blocked can't be read")
	}
	for _, b := range blocked {
		a.Blocked = append(a.Blocked, control.Blocked{MAC: b.MAC.String(), Name: b.Name, Until: b.Until, Reason: b.Reason})
	}
}

func destinationState(door *service.Door) control.DestinationState {
	s, _ := door.Status()
	out := control.DestinationState{State: s.State, Since: when(s.Since), Until: when(s.Until)}
	if s.Cause != nil {
		out.Kind, out.Class, out.Reason, out.Hint = word(s.Cause.Kind.String()), word(s.Cause.Class), word(s.Cause.Error()), word(s.Cause.Hint)
	}
	return out
}

// word returns nil for "".
func word(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// when returns nil for the zero time.
func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// listen opens the control API. An agent that can't be spoken to works on.
func (d *Daemon) listen(ctx context.Context) *control.Server {
	if d.opts.noControl {
		return nil
	}
	s, err := control.Listen(ctx, d.opts.Control, d.opts.Config.Control, d.log)
	if err != nil {
		d.problems.raise("control", "", "the control API can't be served: "+err.Error(), failure.As(err).Hint)
		return nil
	}
	s.Redactor = d.opts.Redactor
	return s
}

func (d *Daemon) serve(ctx context.Context, s *control.Server) {
	if s == nil {
		return
	}
	if err := s.Serve(ctx, d); err != nil && !errors.Is(err, context.Canceled) {
		d.problems.raise("control", "", "the control API ended: "+err.Error(), "")
	}
}

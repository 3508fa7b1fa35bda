package cloudtrax

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"capagent/enrich/cloudtrax/api"
	"capagent/enrich/device"
)

// plan finds a client, or says why it will not be blocked (contract 2.5).
func (b *Blocker) plan(ctx context.Context, m device.MAC, st *state, now time.Time) (Plan, error) {
	p := Plan{MAC: m}
	if err := b.mayBe(m, st, now); err != nil {
		return p, err
	}
	list, err := b.networks(ctx)
	if err != nil {
		return p, err
	}
	var found client
	for _, n := range list {
		if err := b.noInfrastructure(ctx, n, m); err != nil {
			return p, err
		}
		var seen []client
		skipped := 0
		if err := get(ctx, b.api, api.ClientsOfDay(n.id), decodeClients, &seen, &skipped); err != nil {
			return p, told(jobKey{clients, n.id}, err)
		}
		for _, c := range seen {
			if c.mac == m && (p.id == (api.ID{}) || c.seen.After(found.seen)) {
				found, p.id, p.Network = c, n.id, n.name
			}
		}
	}
	if p.id == (api.ID{}) {
		return p, refuse("no network has seen it during the last day")
	}
	if p.Name = found.name; p.Name == "" {
		p.Name = m.String()
	}
	if p.Network == "" {
		p.Network = p.id.String()
	}
	cid, ok := api.ParseCID(found.cid)
	if !ok {
		return p, refuse("CloudTrax gives it no id to block it by")
	}
	p.cid = cid
	listed, err := b.listed(ctx, &Block{Network: p.id.String(), CID: found.cid, MAC: m})
	if err != nil {
		return p, err
	}
	if listed {
		return p, refuse("it is blocked already, and not by this agent")
	}
	return p, nil
}

// mayBe looks at what is known without asking.
func (b *Blocker) mayBe(m device.MAC, st *state, now time.Time) error {
	never := slices.ContainsFunc(b.conf.BlockNever, func(text string) bool {
		n, ok := device.ParseMAC(text)
		return ok && n == m
	})
	switch {
	case m == (device.MAC{}):
		return refuse("it is no address of a machine")
	case m.Multicast():
		return refuse("it is the address of a group of machines")
	case slices.Contains(b.guard.Own, m):
		return refuse("it is this machine's own address")
	case slices.Contains(b.guard.Gateways, m):
		return refuse("it is this machine's gateway, and this machine would be cut off")
	case never:
		return refuse("it is listed in [cloudtrax] block_never")
	case m.Random():
		return refuse("it is a random address: its owner takes another one, and it may become somebody else's")
	}
	if one := st.find(m); one != nil {
		return refuse("this agent has blocked it already, until %s", moments(one.Until))
	}
	if len(st.blocks) >= maxBlocks {
		return refuse("%d are blocked, and no more can be", len(st.blocks))
	}
	if n := st.within(now, time.Hour); n >= b.conf.BlockPerHour {
		return refuse("%d were blocked within an hour, which is as many as [cloudtrax] block_per_hour allows", n)
	}
	return nil
}

// networks are those that may be acted on.
func (b *Blocker) networks(ctx context.Context) ([]network, error) {
	var seen []network
	skipped := 0
	err := get(ctx, b.api, api.Networks(), decodeNetworks, &seen, &skipped)
	if err != nil && (len(b.conf.Networks) == 0 || !api.IsClass(err, api.ClassNoPermission)) {
		return nil, told(jobKey{}, err)
	}
	return chosen(b.conf, seen), nil
}

// noInfrastructure refuses what a network is made of. Where that can't be asked for,
// nothing is blocked.
func (b *Blocker) noInfrastructure(ctx context.Context, n network, m device.MAC) error {
	var aps []node
	var desks []desk
	skipped := 0
	if err := get(ctx, b.api, api.Nodes(n.id), decodeNodes, &aps, &skipped); err != nil {
		return told(jobKey{nodes, n.id}, err)
	}
	if err := get(ctx, b.api, api.Switches(n.id), decodeSwitches, &desks, &skipped); err != nil {
		return told(jobKey{switches, n.id}, err)
	}
	for _, a := range aps {
		if a.mac == m {
			return refuse("it is infrastructure: %s", called("AP", a.name, m))
		}
	}
	for _, d := range desks {
		if d.mac == m {
			return refuse("it is infrastructure: %s", called("switch", d.name, m))
		}
	}
	return nil
}

// List returns the blocks that this agent began and has not ended.
func (b *Blocker) List() ([]Block, error) {
	st, err := loadState(b.guard.State)
	if err != nil {
		return nil, err
	}
	var out []Block
	for _, one := range st.blocks {
		if one.State != Ended {
			out = append(out, *one)
		}
	}
	return out, nil
}

// Unblock ends a block that this agent began. Others are left alone.
func (b *Blocker) Unblock(ctx context.Context, m device.MAC) error {
	return concerning("unblock", m, b.with(func(st *state) error {
		one := st.find(m)
		if one == nil {
			return refuse("this agent has not blocked it")
		}
		one.Until = time.Now().Round(0) // from here on Due ends it, too
		if err := st.save(); err != nil {
			return err
		}
		return b.end(ctx, st, one)
	}))
}

// Limits of what is not certain.
const (
	grace  = 2 * time.Minute  // an order may be on its way
	doubt  = 15 * time.Minute // then one that nobody saw the effect of never had any
	latest = 5 * time.Minute  // between two tries to end a block
)

// Due ends the blocks whose time is over, and looks after those of which it is not
// known whether they came to be. It returns those that it ended. It asks nothing when
// there is nothing to do; call it once a minute.
func (b *Blocker) Due(ctx context.Context, now time.Time) ([]Block, error) {
	now = now.Round(0)
	list, err := b.List()
	b.mu.Lock()
	wait := now.Before(b.until)
	b.mu.Unlock()
	due := slices.ContainsFunc(list, func(one Block) bool { return one.due(now) || one.doubtful(now) })
	if err != nil || wait || !due {
		return nil, err
	}
	var ended []Block
	err = b.with(func(st *state) error {
		var failed error
		for _, one := range slices.Clone(st.blocks) {
			var err error
			switch {
			case one.due(now):
				if err = b.end(ctx, st, one); err == nil {
					ended = append(ended, *one)
				}
			case one.doubtful(now):
				err = b.resolve(ctx, st, one, now)
			}
			if err != nil {
				failed = cmp.Or(failed, concerning("unblock", one.MAC, err)) // one says why
			}
			if ctx.Err() != nil {
				break
			}
		}
		b.failed++
		b.until = now.Add(min(backOff(b.failed), latest))
		if failed == nil {
			b.failed, b.until = 0, time.Time{}
		}
		return failed
	})
	return ended, err
}

// resolve finds out whether an order that was noted ever had its effect.
func (b *Blocker) resolve(ctx context.Context, st *state, one *Block, now time.Time) error {
	listed, err := b.listed(ctx, one)
	switch {
	case err != nil:
		return err
	case listed:
		one.State = Blocked
	case now.Sub(one.Since) > doubt:
		one.State = Ended
	default:
		return nil
	}
	return st.save()
}

// end ends a block: it looks, orders, and looks again.
func (b *Blocker) end(ctx context.Context, st *state, one *Block) error {
	listed, err := b.listed(ctx, one)
	if err != nil {
		return err
	}
	if listed {
		id, cid := one.ids()
		put := b.actor.Do(ctx, api.Block(id, cid, false))
		if listed, err = b.listed(ctx, one); err != nil {
			return both(put, err)
		}
		switch {
		case !listed: // whatever became of the answer
		case put != nil:
			return put
		default:
			return api.Fail(api.ClassBadReply, errors.New("CloudTrax says that it did it, and its block list does not"))
		}
	}
	one.State = Ended
	return st.save()
}

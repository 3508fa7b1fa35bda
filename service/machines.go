package service

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"capagent/enrich"
	"capagent/enrich/cloudshare"
	"capagent/enrich/cloudtrax"
	"capagent/enrich/device"
	"capagent/enrich/indicator"
	"capagent/internal/inspect"
	"capagent/internal/ledger"
	"capagent/internal/pcapio"
	"capagent/internal/safefile"
)

// maxMachines is how many bytes of a session's comment tell of machines.
const maxMachines = 600

// maxMachineTags is how many tags of a session name machines.
const maxMachineTags = 6

// Namer is whoever has names for the machines of captures.
type Namer interface {
	Name() string
	Devices(ctx context.Context, c device.Capture) ([]device.Device, error)
	// Refresh asks for what Devices needs; Run does so again and again until ctx ends.
	Refresh(ctx context.Context) error
	Run(ctx context.Context)
}

// namers are those that are configured.
func namers(cfg Config, version string, log zerolog.Logger) ([]Namer, error) {
	var all []Namer
	if ct := cfg.CloudTrax; ct.Key != "" {
		ct.Connecting = cfg.CloudShark.Connecting
		r, err := cloudtrax.NewReader(ct, version, log)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	if cs := cfg.CloudShare; cs.APIID != "" {
		cs.Connecting = cfg.CloudShark.Connecting
		client, err := cloudshare.New(cs, version, log)
		if err != nil {
			return nil, err
		}
		all = append(all, cloudshare.NewReader(client))
	}
	return all, nil
}

// Background keeps what namers know fresh until ctx ends.
func (a *Agent) Background(ctx context.Context) {
	var group sync.WaitGroup
	for _, n := range a.Namers {
		group.Go(func() { n.Run(ctx) })
	}
	if a.blocks != nil {
		group.Go(func() { a.unblock(ctx) })
	}
	group.Wait()
}

// unblock ends blocks whose time is over, also those that a person began by a command.
func (a *Agent) unblock(ctx context.Context) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		ended, err := a.blocks.Due(ctx, time.Now())
		for _, b := range ended {
			a.log.Info().Str("class", "unblock").Stringer("mac", b.MAC).Msg("a client is not blocked any more")
		}
		if err != nil && ctx.Err() == nil {
			a.log.Warn().Err(err).Str("class", "unblock").Msg("a client may stay blocked longer than it should")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// refresh has a command that runs once learn what a daemon learns in the background.
// That it can't is told by Devices.
func (a *Agent) refresh(ctx context.Context) {
	a.fresh.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, a.Config.Policy.MaxDelay.Std())
		defer cancel()
		var group sync.WaitGroup
		for _, n := range a.Namers {
			group.Go(func() { _ = n.Refresh(ctx) })
		}
		group.Wait()
	})
}

// Contents is what a capture holds.
type Contents struct {
	Indicators []indicator.Indicator
	// Machines is what it tells of machines; nil where nobody knows any more.
	Machines *device.Capture
}

// Size is about how many entries it has.
func (c Contents) Size() int {
	n := len(c.Indicators)
	if c.Machines != nil {
		n += len(c.Machines.Seen) + len(c.Machines.Bindings) + len(c.Machines.Answers)
	}
	return n
}

// Contents are those of the file.
func (l *Looked) Contents() Contents { return Contents{l.Indicators, l.Machines()} }

// Machines is what the file tells of machines, without what its indicators tell.
func (l *Looked) Machines() *device.Capture {
	if l.Frames == 0 {
		return nil
	}
	m := &device.Capture{First: l.First, Last: l.Last, Bindings: l.Bindings}
	for _, s := range l.Senders {
		m.Seen = append(m.Seen, device.Seen{MAC: s.MAC, Behind: s.Behind, IPs: s.IPs, First: s.First})
	}
	for _, r := range l.Resolved {
		m.Answers = append(m.Answers, device.Answer{Host: r.Host, IP: r.IP})
	}
	return m
}

// devices names the machines of a capture. What was not answered is told by the error,
// and is no reason to wait: names are help, not evidence.
func (a *Agent) devices(ctx context.Context, what Contents) (all []device.Device, err error) {
	if what.Machines == nil || len(a.Namers) == 0 {
		return nil, nil
	}
	c := *what.Machines
	for _, i := range what.Indicators {
		switch i.Type {
		case indicator.Host:
			c.Hosts = append(c.Hosts, i.Value)
		case indicator.Address:
			if ip, err := netip.ParseAddr(i.Value); err == nil {
				c.Addresses = append(c.Addresses, ip)
			}
		}
	}
	var errs []error
	for _, n := range a.Namers {
		some, err := n.Devices(ctx, c)
		all = append(all, some[:min(len(some), device.MaxDevices)]...)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", n.Name(), err))
		}
	}
	return device.Sort(all), errors.Join(errs...)
}

// elsewhere says that a device is only the machine that the agent runs on: no part of
// a capture that was made somewhere else.
func elsewhere(d device.Device) bool {
	return d.Self && d.MAC == nil && len(d.IPs)+len(d.Hosts) == 0
}

// macText is a hardware address as a session tells it. A digest is the same for the
// same device, and nobody can try addresses out without the secret of [cloudtrax].
func (a *Agent) macText(m device.MAC) string {
	if !a.Config.CloudTrax.HashMACs {
		return m.String()
	}
	sum := hmac.New(sha256.New, []byte(a.Config.CloudTrax.Secret.Reveal()))
	sum.Write(m[:])
	return "mac-" + hex.EncodeToString(sum.Sum(nil)[:6])
}

// encodeDevices are as many as the ledger keeps.
func encodeDevices(all []device.Device) ([]byte, error) {
	for n := len(all); n > 0; n /= 2 {
		data, err := json.Marshal(all[:n])
		if err != nil || len(data) <= ledger.MaxDevices {
			return data, err
		}
	}
	return nil, nil
}

// whose says for each frame which machines it was between. The file is read up to the
// last of them: findings are few, and most captures have none.
func (a *Agent) whose(ctx context.Context, c ledger.Capture, frames []int64, all []device.Device) map[int64][]device.Device {
	if len(frames) == 0 || len(all) == 0 {
		return nil
	}
	ends, err := a.ends(ctx, c, frames)
	if err != nil {
		a.log.Debug().Err(err).Int64("capture", c.ID).Msg("who the findings are of is not known")
		return nil
	}
	found := map[int64][]device.Device{}
	for frame, e := range ends {
		for _, d := range all {
			mac := d.MAC != nil && *d.MAC == e.MAC
			if mac || slices.Contains(d.IPs, e.Src) || slices.Contains(d.IPs, e.Dst) {
				found[frame] = append(found[frame], d)
			}
		}
	}
	return found
}

func (a *Agent) ends(ctx context.Context, c ledger.Capture, frames []int64) (map[int64]enrich.Ends, error) {
	f, _, err := safefile.Open(c.Path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	reading, enough := context.WithCancel(ctx)
	defer enough()
	e := enrich.NewEndsOf(frames)
	_, err = inspect.File(reading, f, inspect.Observer{Packet: func(p *pcapio.Packet) {
		if !e.Packet(p) {
			enough()
		}
	}})
	if ctx.Err() != nil {
		err = ctx.Err()
	} else if reading.Err() != nil {
		err = nil
	}
	return e.Close(), err
}

// labels are devices in words, with how sure they are.
func labels(list []device.Device) []string {
	var out []string
	for _, d := range list[:min(len(list), 2)] {
		d.Details = d.Details[:min(len(d.Details), 2)]
		out = append(out, d.Label()+" ("+d.Confidence.String()+")")
	}
	return out
}

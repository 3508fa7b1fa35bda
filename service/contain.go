package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"capagent/enrich/cloudshare"
	"capagent/enrich/cloudtrax"
	"capagent/enrich/device"
	"capagent/internal/failure"
	"capagent/internal/ledger"
)

// The names of deliveries: what is done because of a capture, besides its session.
const (
	deliverCado     = "cado"
	deliverPreserve = "cloudshare"
	deliverBlock    = "cloudtrax"
)

// NewBlocker returns what blocks clients of CloudTrax; its state lies beside the ledger.
func NewBlocker(cfg Config, version string, log zerolog.Logger) (*cloudtrax.Blocker, error) {
	ct := cfg.CloudTrax
	ct.Connecting = cfg.CloudShark.Connecting
	var own []device.MAC
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("the hardware addresses of this machine: %w", err)
	}
	for _, i := range interfaces {
		if len(i.HardwareAddr) == len(device.MAC{}) {
			own = append(own, device.MAC(i.HardwareAddr))
		}
	}
	return cloudtrax.NewBlocker(ct, version, cloudtrax.BlockerOptions{
		State: filepath.Join(cfg.StateDir(), "blocks.json"), Own: own, Gateways: gatewayMACs(),
	}, log)
}

// NewPreserver returns what preserves labs of CloudShare; its state lies beside the
// ledger.
func NewPreserver(cfg Config, version string, log zerolog.Logger) (*cloudshare.Preserver, error) {
	cs := cfg.CloudShare
	cs.Connecting = cfg.CloudShark.Connecting
	client, err := cloudshare.New(cs, version, log)
	if err != nil {
		return nil, err
	}
	return cloudshare.NewPreserver(client, filepath.Join(cfg.StateDir(), "labs.json")), nil
}

// preserving preserves the labs of flagged captures.
type preserving struct {
	a    *Agent
	keep *cloudshare.Preserver
}

func (*preserving) Name() string               { return deliverPreserve }
func (*preserving) Wants() (all, flagged bool) { return false, true }

// Close does nothing: there are no connections to keep.
func (*preserving) Close() {}

// Deliver preserves each lab that a finding's machine is part of. That it was done
// already is in the Preserver's own file.
func (p *preserving) Deliver(ctx context.Context, c ledger.Capture, d *ledger.Delivery, save func() error) error {
	labs, err := p.a.labsOf(ctx, c)
	if err != nil {
		return err
	}
	if len(labs) == 0 {
		d.Note = "no lab of preserve_allow has a part in it"
		return errNotWanted
	}
	var notes []string
	var errs []error
	for _, lab := range labs {
		err := p.keep.Preserve(ctx, lab, "evidence: "+c.SessionURL, func(s cloudshare.Step) {
			if s.State != cloudshare.Begun {
				notes = append(notes, lab+": "+s.Name+" "+s.State)
			}
		})
		if f := failure.As(err); err != nil && f.Class == cloudshare.ClassCooldown {
			notes, err = append(notes, lab+": preserved a short while ago"), nil
		}
		errs = append(errs, err)
	}
	d.Note = strings.Join(notes, "; ")
	return errors.Join(errs...)
}

// labsOf are the labs of the machines of a capture that may be preserved.
func (a *Agent) labsOf(ctx context.Context, c ledger.Capture) (labs []string, err error) {
	data, err := a.Ledger.Devices(ctx, c.ID)
	if err != nil {
		return nil, err
	}
	all, err := device.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("machines of capture %d: %w", c.ID, err)
	}
	for _, d := range all {
		if d.Source == cloudshare.Name && d.Confidence >= device.Medium && d.ID != "" &&
			slices.Contains(a.Config.CloudShare.PreserveAllow, d.ID) && !slices.Contains(labs, d.ID) {
			labs = append(labs, d.ID)
		}
	}
	return labs, nil
}

// blocking blocks the clients that findings of the rules were of.
type blocking struct {
	a     *Agent
	block *cloudtrax.Blocker
	rules []string // indicators
}

func (*blocking) Name() string               { return deliverBlock }
func (*blocking) Wants() (all, flagged bool) { return false, true }

// Close does nothing: there are no connections to keep.
func (*blocking) Close() {}

// Deliver blocks the client that sent the first frame of a finding that a rule names.
// Never for a rating alone: a person has named the indicator, and the session is the
// evidence.
func (b *blocking) Deliver(ctx context.Context, c ledger.Capture, d *ledger.Delivery, _ func() error) error {
	rows, err := b.a.Ledger.Findings(ctx, c.ID)
	if err != nil {
		return err
	}
	frames, named := []int64{}, map[int64]string{}
	for _, r := range rows {
		if slices.Contains(b.rules, r.Value) && r.Frame > 0 {
			frames = append(frames, r.Frame)
			named[r.Frame] = r.Value
		}
	}
	if len(frames) == 0 {
		d.Note = "no rule names what was found"
		return errNotWanted
	}
	data, err := b.a.Ledger.Devices(ctx, c.ID)
	if err != nil {
		return err
	}
	all, err := device.Decode(data)
	if err != nil {
		return fmt.Errorf("machines of capture %d: %w", c.ID, err)
	}
	ends, err := b.a.ends(ctx, c, frames)
	if err != nil {
		return &failure.Error{Kind: failure.Permanent, Class: "unreadable", Err: fmt.Errorf("whom to block: %w", err)}
	}
	var notes []string
	var errs []error
	for _, frame := range frames {
		i := slices.IndexFunc(all, func(d device.Device) bool {
			return d.Source == cloudtrax.Name && d.Kind == cloudtrax.KindClient && d.Confidence == device.High && d.MAC != nil && *d.MAC == device.MAC(ends[frame].MAC)
		})
		if i < 0 {
			continue
		}
		plan, err := b.block.Block(ctx, *all[i].MAC, 0, named[frame]+" in "+c.SessionURL)
		switch f := failure.As(err); {
		case err == nil && plan.DryRun:
			notes = append(notes, "would block "+all[i].Name+" ("+all[i].MAC.String()+"): block_dry_run")
		case err == nil:
			notes = append(notes, "blocked "+all[i].Name+" ("+all[i].MAC.String()+") until "+plan.Until.UTC().Format("15:04 MST"))
		case f.Class == cloudtrax.ClassRefused:
			notes = append(notes, "not blocked: "+f.Error())
		default:
			errs = append(errs, err)
		}
	}
	d.Note = strings.Join(notes, "; ")
	if len(notes) == 0 && len(errs) == 0 {
		d.Note = "the sender is no client that CloudTrax surely knows"
		return errNotWanted
	}
	return errors.Join(errs...)
}

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"capagent/enrich/cloudshare"
	"capagent/internal/quote"
	"capagent/service"
)

func (a *app) cloudShareCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cloudshare",
		Short: "Preserve a lab of CloudShare",
		Long: `CloudShare names the labs that machines of captures belong to; [cloudshare] says how.
"preserve" keeps a lab as it is: it postpones the suspension for inactivity, extends a
lease that is about to end, and takes a snapshot; suspending it is the last step, and
has to be configured. It acts only where [cloudshare] preserve is true, and says only
what it would do while preserve_dry_run is.`,
	}
	var reason string
	preserve := &cobra.Command{
		Use:   "preserve LAB",
		Short: "Keep a lab as it is: postpone, extend, take a snapshot",
		Long: `Preserve a lab, by its id or name. It must be one of preserve_allow. A snapshot that
would push out another one is refused.`,
		Example: "  capagent cloudshare preserve ENXYZ123 --reason INC-1",
		Args:    exactlyOne("the id or name of a lab"),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.preserve(cmd.Context(), args[0], reason) },
	}
	preserve.Flags().StringVar(&reason, "reason", "", "why, for the snapshot's description: a `TEXT`")
	cmd.AddCommand(preserve)
	return cmd
}

// preservedView is what `cloudshare preserve --json` prints.
type preservedView struct {
	cloudshare.Plan
	DryRun bool `json:"dry_run"`
}

func (a *app) preserve(ctx context.Context, lab, reason string) error {
	cfg, err := a.fullConfig(ctx)
	if err != nil {
		return err
	}
	if cfg.CloudShare.APIID == "" {
		return exitWith(exitConfig, errors.New("cloudshare: no [cloudshare] is configured"))
	}
	keep, err := service.NewPreserver(cfg, version, a.commandLogger(cfg))
	if err != nil {
		return err
	}
	view := preservedView{DryRun: cfg.CloudShare.PreserveDryRun}
	if view.Plan, err = keep.Plan(ctx, lab); err != nil {
		return err
	}
	if view.Refused != nil {
		return view.Refused
	}
	told := func(s cloudshare.Step) {
		if !a.json {
			fmt.Fprintf(a.stdout, "%-9s %-8s %s\n", s.Name, s.State, quote.Text(s.Text))
		}
	}
	if view.DryRun {
		for _, s := range view.Steps {
			told(s)
		}
		a.say("nothing was done: preserve_dry_run is true")
	} else {
		view.Steps = nil
		err = service.Alone(cfg, cloudshare.Name, func() error {
			return keep.Preserve(ctx, lab, reason, func(s cloudshare.Step) {
				view.Steps = append(view.Steps, s)
				told(s)
			})
		})
	}
	if a.json {
		return errors.Join(err, a.encode(view))
	}
	return err
}

package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"capagent/enrich/cloudtrax"
	"capagent/enrich/device"
	"capagent/internal/quote"
	"capagent/service"
)

func (a *app) cloudTraxCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cloudtrax",
		Short: "Block clients of a CloudTrax network, for a while",
		Long: `CloudTrax names the devices of captures; [cloudtrax] says how. These commands block a
client, end that, and list what is blocked. They act only where [cloudtrax] block is
true, and say only what they would do while block_dry_run is.`,
	}
	cmd.AddCommand(a.blockCommand(), a.unblockCommand(), a.blocksCommand())
	return cmd
}

func (a *app) blockCommand() *cobra.Command {
	var duration time.Duration
	var reason string
	cmd := &cobra.Command{
		Use:   "block MAC",
		Short: "Block a client for a while",
		Long: `Block a client by its hardware address, for block_for or --for. Access points, gateways,
switches, this machine, multicast and random addresses, and those of block_never are
refused, and so is more than block_per_hour. The agent ends it when its time is over; so
does any of these commands.`,
		Example: "  capagent cloudtrax block 00:00:5e:00:53:17 --for 1h --reason INC-1",
		Args:    exactlyOne("the hardware address of a client"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.block(cmd.Context(), args[0], duration, reason)
		},
	}
	cmd.Flags().DurationVar(&duration, "for", 0, "how `LONG`; block_for by default")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the record: a `TEXT`, best one with a session's link")
	return cmd
}

func (a *app) unblockCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "unblock MAC",
		Short: "End a block that this agent began",
		Args:  exactlyOne("the hardware address of a client"),
		RunE: func(cmd *cobra.Command, args []string) error {
			mac, err := macOf(args[0])
			if err != nil {
				return err
			}
			_, blocker, err := a.blocker(cmd.Context())
			if err != nil {
				return err
			}
			if err := blocker.Unblock(cmd.Context(), mac); err != nil {
				return err
			}
			if a.json {
				return a.encode(map[string]any{"mac": mac, "unblocked": true})
			}
			_, err = fmt.Fprintf(a.stdout, "%s is not blocked any more\n", mac)
			return err
		},
	}
}

func (a *app) blocksCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List the clients that this agent has blocked",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, blocker, err := a.blocker(cmd.Context())
			if err != nil {
				return err
			}
			// What is over ends by whoever looks.
			if _, err := blocker.Due(cmd.Context(), time.Now()); err != nil {
				a.complain(err)
			}
			list, err := blocker.List()
			if err != nil {
				return err
			}
			if len(list) == 0 && !a.json {
				a.say("nothing is blocked")
				return nil
			}
			table := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
			for _, b := range list {
				if a.json {
					if err := a.encode(b); err != nil {
						return err
					}
					continue
				}
				fmt.Fprintf(table, "%s\t%s\t%s\tuntil %s\t%s\n", b.MAC, quote.Text(b.Name), b.State, stamp(b.Until), quote.Text(b.Reason))
			}
			return table.Flush()
		},
	}
}

// blocker returns what blocks clients by the configuration.
func (a *app) blocker(ctx context.Context) (service.Config, *cloudtrax.Blocker, error) {
	cfg, err := a.fullConfig(ctx)
	if err != nil {
		return cfg, nil, err
	}
	if cfg.CloudTrax.Key == "" {
		return cfg, nil, exitWith(exitConfig, errors.New("cloudtrax: no [cloudtrax] is configured"))
	}
	blocker, err := service.NewBlocker(cfg, version, a.commandLogger(cfg))
	return cfg, blocker, err
}

func macOf(text string) (device.MAC, error) {
	mac, ok := device.ParseMAC(text)
	if !ok {
		return mac, usageError("%s: expected a hardware address such as 00:00:5e:00:53:17", quote.Path(text))
	}
	return mac, nil
}

func (a *app) block(ctx context.Context, text string, duration time.Duration, reason string) error {
	mac, err := macOf(text)
	if err != nil {
		return err
	}
	_, blocker, err := a.blocker(ctx)
	if err != nil {
		return err
	}
	plan, err := blocker.Block(ctx, mac, duration, reason)
	if err != nil {
		return err
	}
	if a.json {
		return a.encode(plan)
	}
	if plan.DryRun {
		_, err = fmt.Fprintf(a.stdout, "would block %s (%s) until %s; nothing was done: block_dry_run is true\n", quote.Text(plan.Name), plan.MAC, stamp(plan.Until))
	} else {
		_, err = fmt.Fprintf(a.stdout, "blocked %s (%s) until %s\n", quote.Text(plan.Name), plan.MAC, stamp(plan.Until))
	}
	return err
}

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"capagent/internal/ledger"
	"capagent/internal/quote"
	"capagent/service"
	"capagent/service/control"
)

func (a *app) retryCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "retry [ID]",
		Short: "Send what is queued, or try failed captures again",
		Long: `Without arguments, send every capture that is queued. With an ID (a number, the
start of a SHA-256), try that capture again, also when it failed for good; with
--all, everything that is queued or failed.

Where an agent runs, it does the sending, with its own token: the command asks
it, and tells what becomes of the captures, until none was on its way for --wait. With --url or
--token-file the command sends by itself, as the agent would send elsewhere.`,
		Args: atMostOne("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if all && len(args) > 0 {
				return usageError("--all and an ID exclude each other")
			}
			return a.retry(cmd.Context(), args, all)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "failed captures too")
	a.destinationFlags(cmd)
	return cmd
}

func (a *app) retry(ctx context.Context, args []string, all bool) error {
	if a.flags.url == "" && a.flags.tokenFile == "" {
		client, _, err := a.reach(ctx)
		if err == nil {
			defer client.Close()
			return a.retryThere(ctx, client, args, all)
		}
		if !errors.Is(err, control.ErrNoAgent) {
			return err
		}
	}
	return a.retryHere(ctx, args, all)
}

// retryHere sends without an agent.
func (a *app) retryHere(ctx context.Context, args []string, all bool) error {
	agent, err := a.agent(ctx)
	if err != nil {
		return err
	}
	defer agent.Close()
	filter := ledger.Filter{States: []ledger.State{ledger.Queued}, Destination: agent.Destination()}
	if all {
		filter.States = append(filter.States, ledger.Failed)
	}
	var captures []ledger.Capture
	if len(args) == 1 {
		c, err := agent.Ledger.Lookup(ctx, args[0])
		if err != nil {
			return fmt.Errorf("retry %s: %w", quote.Path(args[0]), err)
		}
		if c.Destination != agent.Destination() {
			return meantFor(args[0], c.Destination)
		}
		captures = append(captures, c)
	} else {
		for c, err := range agent.Ledger.List(ctx, filter) {
			if err != nil {
				return err
			}
			captures = append(captures, c)
		}
	}
	if err := agent.Release(ctx, captures); err != nil {
		return err
	}
	return a.resend(ctx, agent, captures)
}

func meantFor(arg, destination string) error {
	return fmt.Errorf("retry %s: it was meant for %s; --url sends it there, `capagent upload` sends it here", quote.Path(arg), quote.Text(destination))
}

func (a *app) resend(ctx context.Context, agent *service.Agent, captures []ledger.Capture) error {
	var bytes int64
	for _, c := range captures {
		bytes += c.Size
	}
	bar := a.newProgress("uploading", bytes)
	agent.OnBytes(bar.add)
	var outcome tally
	var broken error
	err := agent.Send(ctx, captures, func(i int, c ledger.Capture, err error) {
		view, viewErr := service.FullView(context.WithoutCancel(ctx), agent.Ledger, c)
		bar.clear()
		outcome.add(err)
		broken = errors.Join(broken, viewErr, a.report(captures[i].Path, view, err))
	})
	if err := errors.Join(err, broken); err != nil {
		return err
	}
	if len(captures) == 0 {
		a.say("nothing is queued")
	}
	a.deliver(ctx, agent)
	return outcome.err()
}

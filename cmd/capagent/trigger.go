package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"capagent/internal/config"
	"capagent/internal/failure"
	"capagent/internal/quote"
	"capagent/service"
	"capagent/service/control"
)

func (a *app) triggerCommand() *cobra.Command {
	var ask control.TriggerRequest
	var before, after string
	var noWait bool
	cmd := &cobra.Command{
		Use:   "trigger",
		Short: "Have the running agent release the last minutes of what it holds",
		Long: `Have the running agent release what it captured from --before now until --after
now: with policy.upload = "triggered" captures stay on this machine until somebody
asks for them. The files of that time are merged into one capture, cut to the
window, and uploaded. The command waits for that and prints the link; --no-wait
prints the trigger's number at once. Ctrl-C ends the waiting only.`,
		Example: "  capagent trigger --before 5m --after 1m --reason 'phones are dead'\n  capagent trigger --before 30s --after 0s --no-wait",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, f := range []struct {
				name, text string
				to         **config.Duration
			}{{"before", before, &ask.Before}, {"after", after, &ask.After}} {
				if !cmd.Flags().Changed(f.name) {
					continue
				}
				d := new(config.Duration)
				if err := d.UnmarshalText([]byte(f.text)); err != nil {
					return usageError("--%s: expected %s", f.name, d.Expected())
				}
				*f.to = d
			}
			return a.trigger(cmd.Context(), ask, noWait)
		},
	}
	f := cmd.Flags()
	f.StringVar(&before, "before", "", "release what came for `DURATION` before now (default: policy.before)")
	f.StringVar(&after, "after", "", "and what comes for `DURATION` from now on (default: policy.after)")
	f.StringVar(&ask.Reason, "reason", "", "say why in `TEXT`: it is the session's comment")
	f.StringVar(&ask.Capture, "capture", "", "only what the live capture `NAME` has taken")
	f.BoolVar(&noWait, "no-wait", false, "print the trigger's number and do not wait for the link")
	f.DurationVar(&a.flags.wait, "wait", service.OneShot.Patience, "give up after `DURATION` in which nothing was sent")
	return cmd
}

func (a *app) trigger(ctx context.Context, ask control.TriggerRequest, noWait bool) error {
	client, _, err := a.reach(ctx)
	if errors.Is(err, control.ErrNoAgent) {
		return exitWith(exitUnavailable, err)
	}
	if err != nil {
		return err
	}
	defer client.Close()
	ask.By = "command"
	if who, err := user.Current(); err == nil {
		ask.By = "command: " + who.Username
	}
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	t, err := client.Trigger(ctx, ask)
	var told *control.Error
	if errors.As(err, &told) && (told.Status == http.StatusNotFound || told.Status == http.StatusUnprocessableEntity) {
		return exitWith(exitUsage, fmt.Errorf("trigger: %w", err))
	}
	if err != nil {
		return fmt.Errorf("trigger: %w", err)
	}
	if noWait {
		if a.json {
			return a.encode(t)
		}
		_, err := fmt.Fprintln(a.stdout, t.ID)
		return err
	}
	a.say("trigger %d: %s to %s", t.ID, t.From.Local().Format(time.TimeOnly), t.To.Local().Format(time.TimeOnly))
	if t, err = a.untilReleased(ctx, client, t); err != nil {
		return stopped(ctx, err)
	}
	if t.Note != nil {
		a.say("%s", quote.Text(*t.Note))
	}
	if t.Error != nil {
		return &failure.Error{Kind: failure.Permanent, Class: "trigger", Err: fmt.Errorf("trigger %d: %s", t.ID, quote.Text(*t.Error))}
	}
	f := &follower{app: a, client: client}
	if status.Agent != nil {
		f.before = status.Agent.Destination
	}
	for _, id := range t.Captures {
		v, err := client.Show(ctx, fmt.Sprint(id))
		if err != nil {
			return stopped(ctx, err)
		}
		f.add(v)
	}
	return f.run(ctx)
}

// untilReleased waits until the window is over and what it holds is released.
func (a *app) untilReleased(ctx context.Context, client *control.Client, t control.Trigger) (control.Trigger, error) {
	bar := a.newProgress("capturing", 0)
	defer bar.clear()
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for {
		var err error
		if t, err = client.Triggered(ctx, t.ID); err != nil || t.Ended != nil {
			return t, err
		}
		if left := time.Until(t.To); left > 0 {
			bar.describe(fmt.Sprintf("the window ends in %s", left.Round(time.Second)))
		} else {
			bar.describe("the agent cuts the window")
		}
		select {
		case <-ctx.Done():
			return t, ctx.Err()
		case <-again.C:
		}
	}
}

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"capagent/internal/ledger"
	"capagent/internal/quote"
	"capagent/service"
)

func (a *app) huntCommand() *cobra.Command {
	fail := false
	cmd := &cobra.Command{
		Use:   "hunt",
		Short: "Look up again what all captures held, and report what is new",
		Long: `Look up again what all captures held: what was unknown when a capture was taken may
be known to be bad by now. Each finding that is new is printed, goes onto the packets
of the session, and releases a capture that was held for want of findings.

What a source has said within its ttl is not asked again; ` + "`capagent verdicts --forget --all`" + `
has everything asked anew.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.hunt(cmd.Context(), fail) },
	}
	cmd.Flags().BoolVar(&fail, "fail-on-findings", false, "end with exit code 5 when something new was found")
	return cmd
}

// huntedView is a line of --json: a finding, and the capture that has it now.
type huntedView struct {
	service.FindingView
	Capture    int64   `json:"capture"`
	Name       string  `json:"name"`
	SessionURL *string `json:"session_url"`
}

func (a *app) hunt(ctx context.Context, fail bool) error {
	agent, err := a.agent(ctx)
	if err != nil {
		return err
	}
	defer agent.Close()
	if !agent.Explains() {
		return exitWith(exitConfig, errors.New("hunt: no [threatconnect] and no [[list]] is configured"))
	}
	var printed error
	h, err := agent.Hunt(ctx, func(c ledger.Capture, f service.FindingView) {
		if a.json {
			v := huntedView{FindingView: f, Capture: c.ID, Name: c.Name}
			if c.SessionURL != "" {
				v.SessionURL = &c.SessionURL
			}
			printed = errors.Join(printed, a.encode(v))
			return
		}
		where := orDash(deref(f.FilterURL))
		fmt.Fprintf(a.stdout, "capture %d  %s: %s %s, rating %g, confidence %d (%s), frame %d  %s\n",
			c.ID, quote.Path(c.Name), f.Type, quote.Text(short(f.Indicator)), f.Rating, f.Confidence, quote.Text(f.Owner), f.FirstFrame, where)
	})
	a.say("%s looked at, %s", count(h.Indicators, "indicator"), count(h.New, "new finding"))
	switch {
	case err != nil || printed != nil:
		return errors.Join(err, printed)
	case h.Err != nil:
		return fmt.Errorf("hunt: %s not answered for: %w", count(h.Unanswered, "indicator"), h.Err)
	case h.New > 0 && fail:
		return exitWith(exitFindings, nil)
	}
	return nil
}

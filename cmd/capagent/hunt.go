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
	fail, deep := false, false
	cmd := &cobra.Command{
		Use:   "hunt",
		Short: "Look up again what all captures held, and report what is new",
		Long: `Look up again what all captures held: what was unknown when a capture was taken may
be known to be bad by now. Each finding that is new is printed, goes onto the packets
of the session, and releases a capture that was held for want of findings.

What a source has said within its ttl is not asked again; ` + "`capagent verdicts --forget --all`" + `
has everything asked anew.

With --deep-search, CloudShark itself searches those sessions whose indicators are no
longer known here, for the worst of what is known to be bad. That needs CloudShark
Enterprise and a token that may do it, and takes the server a while.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.hunt(cmd.Context(), fail, deep) },
	}
	cmd.Flags().BoolVar(&fail, "fail-on-findings", false, "end with exit code 5 when something new was found")
	cmd.Flags().BoolVar(&deep, "deep-search", false, "have CloudShark search sessions whose indicators are no longer known")
	return cmd
}

// huntedView is a line of --json: a finding, and the capture that has it now.
type huntedView struct {
	service.FindingView
	Capture    int64   `json:"capture"`
	Name       string  `json:"name"`
	SessionURL *string `json:"session_url"`
}

func (a *app) hunt(ctx context.Context, fail, deep bool) error {
	agent, err := a.agent(ctx)
	if err != nil {
		return err
	}
	defer agent.Close()
	if !agent.LooksUp() {
		return exitWith(exitConfig, errors.New("hunt: no [threatconnect] and no [[list]] is configured"))
	}
	var printed error
	told := func(c ledger.Capture, f service.FindingView) { printed = errors.Join(printed, a.showHunted(c, f)) }
	h, err := agent.Hunt(ctx, told)
	a.say("%s looked at, %s", count(h.Indicators, "indicator"), count(h.New, "new finding"))
	if err == nil && deep {
		d, sessions, failed := agent.DeepHunt(ctx, told)
		if err = failed; failed == nil {
			a.say("deep search: %s for %s, %s", count(sessions, "session"), count(d.Indicators, "indicator"), count(d.New, "new finding"))
		}
		h.New += d.New
	}
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

// showHunted prints a finding that is new.
func (a *app) showHunted(c ledger.Capture, f service.FindingView) error {
	if a.json {
		v := huntedView{FindingView: f, Capture: c.ID, Name: c.Name}
		if c.SessionURL != "" {
			v.SessionURL = &c.SessionURL
		}
		return a.encode(v)
	}
	where := fmt.Sprintf("frame %d", f.FirstFrame)
	if f.FirstFrame == 0 {
		where = "by deep search"
	}
	_, err := fmt.Fprintf(a.stdout, "capture %d  %s: %s %s, rating %g, confidence %d (%s), %s  %s\n",
		c.ID, quote.Path(c.Name), f.Type, quote.Text(short(f.Indicator)), f.Rating, f.Confidence, quote.Text(f.Owner), where, orDash(deref(f.FilterURL)))
	return err
}

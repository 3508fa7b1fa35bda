package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"capagent/internal/config"
	"capagent/internal/failure"
)

// checkView is what `check --json` prints.
type checkView struct {
	OK       bool         `json:"ok"`
	Config   *string      `json:"config"`
	Errors   []string     `json:"errors"`
	Warnings []string     `json:"warnings"`
	Online   *string      `json:"online"` // null when not asked for
	Values   []config.Row `json:"values"`
}

func (a *app) checkCommand() *cobra.Command {
	var online bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration, and the token with --online",
		Long: `Check the configuration without sending anything: every mistake with its file,
line, column and key. With --online, ask CloudShark whether it knows the token,
by a search that finds nothing, ThreatConnect for the list of owners, Cado whether it is
up and which projects there are, CloudTrax for its networks, CloudShare for a pong.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.check(cmd.Context(), online) },
	}
	cmd.Flags().BoolVar(&online, "online", false, "also try address and token on the server")
	a.destinationFlags(cmd)
	return cmd
}

func (a *app) check(ctx context.Context, online bool) error {
	cfg, err := a.fullConfig(ctx)
	view := checkView{OK: err == nil, Errors: []string{}, Warnings: []string{}, Values: []config.Row{}}
	var all config.Errors
	if errors.As(err, &all) {
		for _, e := range all {
			view.Errors = append(view.Errors, e.Error())
		}
	} else if err != nil {
		view.Errors = append(view.Errors, err.Error())
	}
	if cfg.Loaded != nil {
		view.Warnings = append(view.Warnings, cfg.Loaded.Warnings...)
		view.Values = cfg.Loaded.Effective()
		if cfg.Loaded.Path != "" {
			view.Config = &cfg.Loaded.Path
		}
	}
	var unreachable error
	if err == nil && online {
		var text string
		if text, unreachable = a.reachable(ctx, cfg); unreachable != nil {
			text = unreachable.Error()
			view.OK = false
		}
		view.Online = &text
	}
	if a.json {
		if err := a.encode(view); err != nil {
			return err
		}
	} else {
		a.showCheck(view, unreachable)
	}
	switch {
	case err != nil:
		return exitWith(exitConfig, nil)
	case unreachable != nil:
		if code := failureCode(failure.As(unreachable)); code == exitPermission {
			return exitWith(code, nil)
		}
		return exitWith(exitUnavailable, nil)
	default:
		return nil
	}
}

func (a *app) showCheck(view checkView, unreachable error) {
	for _, text := range view.Errors {
		a.complain(errors.New(text))
	}
	for _, text := range view.Warnings {
		a.say("warning: %s", text)
	}
	a.complain(unreachable)
	if !view.OK || a.quiet {
		return
	}
	from := "defaults and environment"
	if view.Config != nil {
		from = *view.Config
	}
	fmt.Fprintf(a.stdout, "%s: ok\n", from)
	if view.Online != nil {
		fmt.Fprintf(a.stdout, "%s\n", *view.Online)
	}
}

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"capagent/internal/failure"
	"capagent/internal/paths"
	"capagent/internal/quote"
	"capagent/service/control"
	"capagent/service/doctor"
)

func (a *app) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "doctor",
		Aliases: []string{"preflight"},
		Short:   "Look whether everything is as the agent needs it, and say how to mend what is not",
		Long: `Look at the configuration, the state directory and the ledger, the agent and its
sandboxing, interfaces and the right to capture, watched folders, the clock, and each
service's network, certificate and token. Nothing is changed; each service is asked one
harmless question. Every check ends within 10 seconds.

Each failure comes with its fix. The exit code is that of the gravest: 78 configuration,
77 permission, 69 a service can't be used, 1 anything else; 0 without a failure. With
--quiet failures are printed only.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context()) },
	}
	a.destinationFlags(cmd)
	return cmd
}

func (a *app) doctor(ctx context.Context) error {
	report, err := a.examine(ctx)
	if err != nil {
		return err
	}
	if a.json {
		err = a.encode(report)
	} else {
		err = a.showReport(report)
	}
	if err != nil {
		return err
	}
	switch report.Gravest() {
	case "":
		return nil
	case doctor.Configuration:
		return exitWith(exitConfig, nil)
	case doctor.Permission:
		return exitWith(exitPermission, nil)
	case doctor.Unavailable:
		return exitWith(exitUnavailable, nil)
	default:
		return exitWith(exitFailed, nil)
	}
}

// examine has the doctor look at everything.
func (a *app) examine(ctx context.Context) (doctor.Report, error) {
	cfg, wrong := a.fullConfig(ctx)
	if ctx.Err() != nil {
		return doctor.Report{}, ctx.Err()
	}
	own, _ := paths.Default(a.configPath) // a user's own places can be unknown
	if cfg.StateDir() == "" {
		cfg.Agent.StateDir = own.State
	}
	log := zerolog.Nop() // what goes wrong is in the report
	if a.logLevel != "" {
		log = a.commandLogger(cfg)
	}
	report := doctor.Run(ctx, doctor.Options{
		Config: cfg, Wrong: wrong, Places: own, Control: control.Place(cfg.Control, cfg.StateDir(), own), Version: version, Log: log,
		Denied: func(err error) bool { return failureCode(failure.As(err)) == exitPermission },
	})
	return report, ctx.Err()
}

// marks are as wide as each other.
var marks = map[doctor.Result]string{doctor.OK: "ok  ", doctor.Warn: "WARN", doctor.Fail: "FAIL", doctor.Skip: "-   "}

func (a *app) showReport(report doctor.Report) (err error) {
	line := func(format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(a.stdout, format+"\n", args...)
		}
	}
	for _, c := range report.Checks {
		if a.quiet && c.Result != doctor.Fail {
			continue
		}
		first, rest, _ := strings.Cut(strings.TrimSpace(c.Detail), "\n")
		line("%s  %s: %s", marks[c.Result], c.Title, quote.Text(first))
		for text := range strings.Lines(rest) {
			line("        %s", quote.Text(strings.TrimRight(text, "\n")))
		}
		for text := range strings.Lines(c.Fix) {
			line("      > %s", quote.Text(strings.TrimRight(text, "\n")))
		}
	}
	switch failed, warned := report.Count(doctor.Fail), report.Count(doctor.Warn); {
	case failed > 0:
		a.say("%s, %s; what stands behind > mends it", count(failed, "failure"), count(warned, "warning"))
	case warned > 0:
		a.say("no failure, %s; what stands behind > mends it", count(warned, "warning"))
	default:
		a.say("nothing is wrong")
	}
	return err
}

package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"capagent/internal/paths"
	"capagent/internal/quote"
	"capagent/service"
)

// pathsView is what `paths --json` prints.
type pathsView struct {
	Config     *string           `json:"config"` // the file in use, null when there is none
	Candidates []paths.Candidate `json:"candidates"`
	StateDir   string            `json:"state_dir"`
	Ledger     string            `json:"ledger"`
	Spool      string            `json:"spool"`
}

func (a *app) pathsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "paths",
		Short: "Say where configuration and state are",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return a.paths(cmd.Context()) },
	}
}

// paths answers also when the configuration is wrong: that is when it is asked.
func (a *app) paths(ctx context.Context) error {
	where, err := paths.Default(a.configPath)
	if err != nil {
		return err
	}
	cfg, wrong := a.config(ctx)
	if cfg.StateDir() == "" {
		cfg = service.Config{Agent: service.AgentConfig{StateDir: where.State}}
	}
	v := pathsView{Candidates: where.Candidates, StateDir: cfg.StateDir(), Ledger: cfg.LedgerPath(), Spool: cfg.SpoolDir()}
	if where.Config != "" {
		v.Config = &where.Config
	}
	if a.json {
		return a.encode(v)
	}
	table := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	for _, c := range v.Candidates {
		state := "not there"
		if c.Exists {
			state = "found"
		}
		if c.Path == where.Config {
			state = "in use"
		}
		fmt.Fprintf(table, "configuration\t%s\t(%s: %s)\n", quote.Path(c.Path), c.Why, state)
	}
	fmt.Fprintf(table, "state\t%s\t\n", quote.Path(v.StateDir))
	fmt.Fprintf(table, "ledger\t%s\t\n", quote.Path(v.Ledger))
	fmt.Fprintf(table, "spool\t%s\t\n", quote.Path(v.Spool))
	if err := table.Flush(); err != nil || wrong == nil {
		return err
	}
	a.say("the configuration has mistakes; `capagent check` lists them")
	return nil
}

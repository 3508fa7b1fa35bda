package main

import (
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"capagent/internal/ledger"
	"capagent/internal/quote"
)

// statusView is what `status --json` prints.
type statusView struct {
	Version            string                        `json:"version"`
	StateDir           string                        `json:"state_dir"`
	Destination        string                        `json:"destination"`
	Captures           map[ledger.State]ledger.Count `json:"captures"`
	OldestQueued       *time.Time                    `json:"oldest_queued"`
	PossibleDuplicates int64                         `json:"possible_duplicates"`
	Pauses             []pauseView                   `json:"pauses"`
}

type pauseView struct {
	Destination string    `json:"destination"`
	Class       string    `json:"class"`
	Reason      string    `json:"reason"`
	Since       time.Time `json:"since"`
}

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Say how many captures are where, and what stands in the way",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := a.status(cmd)
			if err != nil {
				return err
			}
			if a.json {
				return a.encode(v)
			}
			return a.showStatus(v)
		},
	}
}

func (a *app) status(cmd *cobra.Command) (statusView, error) {
	v := statusView{Version: version, Captures: map[ledger.State]ledger.Count{}, Pauses: []pauseView{}}
	cfg, err := a.config(cmd.Context())
	if err != nil {
		return v, err
	}
	v.StateDir, v.Destination = cfg.StateDir(), cfg.Destination()
	l, err := a.readLedger(cmd.Context())
	if l == nil || err != nil {
		return v, err
	}
	defer l.Close()
	s, err := l.Counts(cmd.Context())
	if err != nil {
		return v, err
	}
	v.Captures, v.PossibleDuplicates = s.States, s.PossibleDuplicates
	if !s.OldestQueued.IsZero() {
		v.OldestQueued = &s.OldestQueued
	}
	pauses, err := l.Pauses(cmd.Context())
	for _, p := range pauses {
		v.Pauses = append(v.Pauses, pauseView{p.Destination, p.Class, p.Reason, p.Since})
	}
	return v, err
}

func (a *app) showStatus(v statusView) error {
	table := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintf(table, "capagent\t%s\n", v.Version)
	fmt.Fprintf(table, "destination\t%s\n", orDash(v.Destination))
	fmt.Fprintf(table, "state\t%s\n", quote.Path(v.StateDir))
	for _, s := range ledger.States {
		if c, ok := v.Captures[s]; ok {
			fmt.Fprintf(table, "%s\t%d (%s)\n", s, c.Captures, humanize.IBytes(uint64(c.Bytes)))
		}
	}
	if v.OldestQueued != nil {
		fmt.Fprintf(table, "oldest queued\t%s\n", stamp(*v.OldestQueued))
	}
	if v.PossibleDuplicates > 0 {
		fmt.Fprintf(table, "possible duplicates\t%d\n", v.PossibleDuplicates)
	}
	for _, p := range v.Pauses {
		fmt.Fprintf(table, "paused\t%s since %s: %s\n", p.Destination, stamp(p.Since), quote.Text(p.Reason))
	}
	return table.Flush()
}

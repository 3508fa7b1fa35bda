package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"capagent/internal/ledger"
	"capagent/internal/quote"
)

func (a *app) lsCommand() *cobra.Command {
	var filter ledger.Filter
	var states []string
	cmd := &cobra.Command{
		Use:     "ls",
		Short:   "List captures and their links",
		Example: "  capagent ls --state failed\n  capagent ls --newest --limit 20\n  capagent ls --case 2026-017 --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, s := range states {
				if !slices.Contains(ledger.States, ledger.State(s)) {
					return usageError("--state %s: no such state; the states are %s", quote.Path(s), stateNames())
				}
				filter.States = append(filter.States, ledger.State(s))
			}
			return a.ls(cmd, filter)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&states, "state", nil, "only captures in `STATE` ("+stateNames()+")")
	f.StringVar(&filter.Case, "case", "", "only captures of case `ID`")
	f.StringVar(&filter.Source, "source", "", "only captures from `SOURCE` (import, upload, stdin)")
	f.IntVar(&filter.Limit, "limit", 0, "at most `N` captures")
	f.BoolVar(&filter.Newest, "newest", false, "newest first")
	f.BoolVar(&filter.Flagged, "flagged", false, "only captures with findings")
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(strings.Split(stateNames(), ", "), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func stateNames() string {
	names := make([]string, len(ledger.States))
	for i, s := range ledger.States {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}

func (a *app) ls(cmd *cobra.Command, filter ledger.Filter) (err error) {
	from, err := a.reader(cmd.Context())
	if err != nil {
		return err
	}
	defer from.Close()
	if a.json {
		flush := a.buffered()
		defer func() { err = errors.Join(err, flush()) }()
		for v, err := range from.List(cmd.Context(), filter) {
			if err != nil {
				return err
			}
			if err := a.encode(v); err != nil {
				return err
			}
		}
		return nil
	}
	if empty(from) {
		return nil
	}
	table := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "ID\tSTATE\tFIRST PACKET\tPACKETS\tFILE\tLINK")
	for v, err := range from.List(cmd.Context(), filter) {
		if err != nil {
			return err
		}
		link := deref(v.SessionURL)
		if link == "" {
			link = orDash(deref(v.Error))
		}
		state := quote.Text(string(v.State))
		if n := len(v.Findings); n > 0 {
			state += ", " + count(n, "finding")
		}
		fmt.Fprintf(table, "%d\t%s\t%s\t%d\t%s\t%s\n", deref(v.ID), state, stamp(deref(v.First)), v.Packets, quote.Path(v.Name), quote.Text(link))
	}
	return table.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

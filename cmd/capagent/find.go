package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"capagent/enrich/indicator"
	"capagent/internal/config"
	"capagent/internal/ledger"
	"capagent/internal/quote"
	"capagent/service"
)

// findFlags say how to look.
type findFlags struct {
	typ, since  string
	limit       int
	failIfEmpty bool
}

func (a *app) findCommand() *cobra.Command {
	var flags findFlags
	cmd := &cobra.Command{
		Use:   "find VALUE",
		Short: "List the captures that held an address, a host, a URL, a digest",
		Long: `List the captures that held an indicator, what was recorded last first: an address,
a host, a URL, a file's or certificate's digest, an e-mail address, a JA3 or JA4
fingerprint, a user agent.

VALUE may be written in any case and form, and defanged (hxxp://, example[.]com).
192.0.2.0/24 is every address of that prefix, *.example.com every name below that
domain.`,
		Example: "  capagent find 192.0.2.17\n  capagent find 'hxxp://example[.]com/a.exe'\n  capagent find '*.example.com' --since 7d --json",
		Args:    exactlyOne("VALUE"),
		RunE:    func(cmd *cobra.Command, args []string) error { return a.find(cmd.Context(), args[0], flags) },
	}
	f := cmd.Flags()
	f.StringVar(&flags.typ, "type", "", "only as an indicator of `TYPE` ("+strings.Join(indicator.Types(), ", ")+")")
	f.IntVar(&flags.limit, "limit", 100, "list at most `N`")
	f.StringVar(&flags.since, "since", "", "only what was seen within the last `D` (12h, 7d), or since a date")
	f.BoolVar(&flags.failIfEmpty, "fail-if-empty", false, "exit with 4 when no capture held it")
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(indicator.Types(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// search is what the flags and the value ask for.
func (f findFlags) search(value string) (s ledger.Search, err error) {
	s.Limit = f.limit
	if f.limit < 1 || f.limit > ledger.MaxHits {
		return s, usageError("--limit %d: expected 1 to %d", f.limit, ledger.MaxHits)
	}
	if s.Since, err = since(f.since, time.Now()); err != nil {
		return s, usageError("--since %s: expected a time span such as 12h or 7d, or a date such as 2026-11-22 or 2026-11-22T10:00:00Z", quote.Path(f.since))
	}
	if s.Wanted, err = service.ParseWanted(value, f.typ); err != nil {
		return s, usageError("find %s: %w", quote.Path(value), err)
	}
	return s, nil
}

// since returns the moment that a person means.
func since(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	var d config.Duration
	if err := d.UnmarshalText([]byte(text)); err != nil {
		return time.Time{}, err
	}
	return now.Add(-d.Std()), nil
}

func (a *app) find(ctx context.Context, value string, flags findFlags) (err error) {
	search, err := flags.search(value)
	if err != nil {
		return err
	}
	from, err := a.reader(ctx)
	if err != nil {
		return err
	}
	defer from.Close()
	nothing := func(text string, args ...any) error {
		if flags.failIfEmpty {
			return exitWith(exitNothing, fmt.Errorf(text, args...))
		}
		a.say(text, args...)
		return nil
	}
	if !a.json && empty(from) && !flags.failIfEmpty {
		return nil
	}
	show, end := a.hits()
	n := int64(0)
	result, err := from.Find(ctx, search, func(v service.HitView) error {
		n++
		return show(v)
	})
	if err := errors.Join(err, end()); err != nil {
		return fmt.Errorf("find %s: %w", quote.Path(value), err)
	}
	switch {
	case n == 0 && search.Since.IsZero():
		return nothing("no capture held %s", quote.Path(indicator.Refang(value)))
	case n == 0:
		return nothing("no capture held %s since %s", quote.Path(indicator.Refang(value)), stamp(search.Since))
	case result.More:
		a.say("these are the newest %d; there are more (--limit)", n)
	case result.Total > n:
		a.say("these are the newest %d of %d (--limit)", n, result.Total)
	}
	return nil
}

// hits returns how to show a hit, and what to do behind the last one.
func (a *app) hits() (show func(service.HitView) error, end func() error) {
	if a.json {
		end = a.buffered()
		return func(v service.HitView) error { return a.encode(v) }, end
	}
	table := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	head := "CAPTURE\tFIRST SEEN\tLAST SEEN\tCOUNT\tFRAME\tINDICATOR\tFILE\tLINK\n"
	return func(v service.HitView) error {
		_, err := fmt.Fprintf(table, "%s%d\t%s\t%s\t%d\t%d\t%s\t%s\t%s\n", head, v.Capture, stamp(v.First), stamp(v.Last), v.Count, v.FirstFrame,
			quote.Text(short(v.Indicator)), quote.Path(deref(v.Name)), quote.Text(orDash(deref(v.SessionURL))))
		head = ""
		return err
	}, table.Flush
}

// short is text for a column; --json has the whole.
func short(text string) string {
	const most = 80
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return string(runes[:most-1]) + "…"
}

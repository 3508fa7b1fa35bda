package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"capagent/enrich/verdict"
	"capagent/internal/ledger"
	"capagent/internal/quote"
	"capagent/service"
)

// verdictFlags say which of what is remembered is meant.
type verdictFlags struct {
	source         string
	limit          int
	known, expired bool
	forget, all    bool
}

func (a *app) verdictsCommand() *cobra.Command {
	var flags verdictFlags
	cmd := &cobra.Command{
		Use:   "verdicts [VALUE]",
		Short: "List what is remembered of look-ups, or forget it",
		Long: `List what sources such as ThreatConnect answered about indicators and what is
remembered of it, the last first: also that nothing is known, which is not asked
again before it expires.

With --forget what is remembered of VALUE, of all that expired (--expired) or of
everything (--all) is dropped, and asked again when it is seen again.`,
		Example: "  capagent verdicts --known\n  capagent verdicts 192.0.2.17 --json\n  capagent verdicts --forget 'bad[.]example'\n  capagent verdicts --forget --all --source threatconnect",
		Args:    atMostOne("VALUE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			filters, err := flags.filters(args)
			if err != nil {
				return err
			}
			if flags.forget {
				return a.forgetVerdicts(cmd.Context(), filters)
			}
			return a.listVerdicts(cmd.Context(), filters, flags.limit)
		},
	}
	f := cmd.Flags()
	f.StringVar(&flags.source, "source", "", "only what `NAME` answered (threatconnect, a list)")
	f.IntVar(&flags.limit, "limit", 100, "list at most `N`; 0: all")
	f.BoolVar(&flags.known, "known", false, "only where something is known")
	f.BoolVar(&flags.expired, "expired", false, "only what counts no more")
	f.BoolVar(&flags.forget, "forget", false, "forget instead of listing")
	f.BoolVar(&flags.all, "all", false, "with --forget: everything")
	return cmd
}

// filters are what the flags and the value mean: one for each type that a value may
// have, or one for everything.
func (f verdictFlags) filters(args []string) ([]ledger.VerdictFilter, error) {
	base := ledger.VerdictFilter{Source: f.source, Known: f.known, Expired: f.expired}
	switch {
	case f.limit < 0:
		return nil, usageError("--limit %d: expected 0 or more", f.limit)
	case f.all && (!f.forget || len(args) > 0 || f.known || f.expired):
		return nil, usageError("--all goes with --forget alone, and with --source")
	case f.forget && f.known:
		return nil, usageError("--known does not go with --forget")
	case f.forget && len(args) == 0 && !f.all && !f.expired:
		return nil, usageError("--forget needs a VALUE, --expired or --all")
	case len(args) == 0:
		return []ledger.VerdictFilter{base}, nil
	}
	wanted, err := service.ParseWanted(args[0], "")
	if err != nil {
		return nil, usageError("verdicts %s: %w", quote.Path(args[0]), err)
	}
	var filters []ledger.VerdictFilter
	for _, w := range wanted {
		if w.Below {
			return nil, usageError("verdicts %s: expected one indicator, not all of a prefix or domain", quote.Path(args[0]))
		}
		one := base
		one.Type, one.Value = w.Type, w.Value
		filters = append(filters, one)
	}
	return filters, nil
}

// verdictView is what is remembered of one answer, as --json has it.
type verdictView struct {
	Indicator string            `json:"indicator"`
	Type      string            `json:"type"`
	Source    string            `json:"source"`
	Known     bool              `json:"known"`
	At        time.Time         `json:"at"`
	Expires   time.Time         `json:"expires"`
	Verdicts  []verdict.Verdict `json:"verdicts"`
}

func newVerdictView(v ledger.Verdict) verdictView {
	view := verdictView{
		Indicator: v.Value, Type: v.Type, Source: v.Source, Known: v.Answer != nil, At: v.At, Expires: v.Expires, Verdicts: []verdict.Verdict{},
	}
	if v.Answer != nil && json.Unmarshal(v.Answer, &view.Verdicts) != nil {
		view.Verdicts = []verdict.Verdict{} // of another version: what it said can't be shown, that it did is
	}
	return view
}

func (a *app) listVerdicts(ctx context.Context, filters []ledger.VerdictFilter, limit int) (err error) {
	l, err := a.verdictLedger(ctx)
	if err != nil || l == nil {
		return err
	}
	defer l.Close()
	show, end := a.verdictRows(time.Now())
	n, more := 0, false
	for v, err := range verdictsOf(ctx, l, filters) {
		if err != nil {
			return errors.Join(err, end())
		}
		if n == limit && limit > 0 {
			more = true
			break
		}
		n++
		if err := show(newVerdictView(v)); err != nil {
			return err
		}
	}
	if err := end(); err != nil {
		return err
	}
	switch {
	case n == 0:
		a.say("nothing is remembered of that")
	case more:
		a.say("these are the last %d; there are more (--limit)", n)
	}
	return nil
}

func verdictsOf(ctx context.Context, l *ledger.Ledger, filters []ledger.VerdictFilter) iter.Seq2[ledger.Verdict, error] {
	return func(yield func(ledger.Verdict, error) bool) {
		for _, f := range filters {
			for v, err := range l.ListVerdicts(ctx, f) {
				if !yield(v, err) {
					return
				}
			}
		}
	}
}

// verdictRows returns how to show an answer, and what to do behind the last one.
func (a *app) verdictRows(now time.Time) (show func(verdictView) error, end func() error) {
	if a.json {
		end = a.buffered()
		return func(v verdictView) error { return a.encode(v) }, end
	}
	table := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	head := "INDICATOR\tTYPE\tSOURCE\tOWNER\tRATING\tCONFIDENCE\tANSWERED\tEXPIRES\n"
	row := func(v verdictView, owner, rating, confidence string) error {
		_, err := fmt.Fprintf(table, "%s%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", head, quote.Text(short(v.Indicator)), quote.Text(v.Type), quote.Text(v.Source),
			quote.Text(short(owner)), rating, confidence, humanize.RelTime(v.At, now, "ago", "from now"), humanize.RelTime(v.Expires, now, "ago", "from now"))
		head = ""
		return err
	}
	return func(v verdictView) error {
		if len(v.Verdicts) == 0 {
			return row(v, "-", "-", "-")
		}
		for _, one := range v.Verdicts {
			if err := row(v, orDash(one.Owner), strconv.FormatFloat(one.Rating, 'f', -1, 64), strconv.Itoa(one.Confidence)+"%"); err != nil {
				return err
			}
		}
		return nil
	}, table.Flush
}

// verdictLedger opens the ledger to look at; nil when there is none yet. That an
// agent runs does not matter.
func (a *app) verdictLedger(ctx context.Context) (*ledger.Ledger, error) {
	cfg, err := a.config(ctx)
	if err != nil {
		return nil, err
	}
	return a.readLedger(ctx, cfg)
}

func (a *app) forgetVerdicts(ctx context.Context, filters []ledger.VerdictFilter) (err error) {
	look, err := a.verdictLedger(ctx) // makes none where there is none
	if err != nil {
		return err
	}
	var n int64
	if look != nil {
		path := look.Path()
		if err := look.Close(); err != nil {
			return err
		}
		l, err := ledger.Open(ctx, path, ledger.Options{})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, l.Close()) }()
		for _, f := range filters {
			forgotten, err := l.ForgetVerdicts(ctx, f)
			if err != nil {
				return err
			}
			n += forgotten
		}
	}
	if a.json {
		return a.encode(map[string]int64{"forgotten": n})
	}
	a.say("%s forgotten", count(int(n), "answer"))
	return nil
}

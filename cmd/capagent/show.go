package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"capagent/enrich/device"
	"capagent/internal/ledger"
	"capagent/internal/quote"
	"capagent/service"
)

func (a *app) showCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show all that is known of one capture",
		Long:  "Show one capture, named by its number, the start of its SHA-256, or its session.",
		Args:  exactlyOne("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			from, err := a.reader(cmd.Context())
			if err != nil {
				return err
			}
			defer from.Close()
			v, err := from.Show(cmd.Context(), args[0])
			if err != nil {
				return fmt.Errorf("show %s: %w", quote.Path(args[0]), err)
			}
			if a.json {
				return a.encode(v)
			}
			return a.show(v)
		},
	}
}

func (a *app) show(v service.View) error {
	table := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	row := func(key string, value any) {
		if text := fmt.Sprint(value); text != "" {
			fmt.Fprintf(table, "%s\t%s\n", quote.Text(key), quote.Text(text))
		}
	}
	row("id", deref(v.ID))
	row("state", v.State)
	row("link", deref(v.SessionURL))
	row("error", deref(v.Error))
	row("file", quote.Path(v.Path))
	row("name", quote.Path(v.Name))
	row("source", v.Source)
	row("case", deref(v.Case))
	row("destination", deref(v.Destination))
	row("tags", strings.Join(v.Tags, ", "))
	row("size", fmt.Sprintf("%d bytes (%s)", v.Size, humanize.IBytes(uint64(v.Size))))
	row("packets", fmt.Sprintf("%d (%s), %s", v.Packets, humanize.IBytes(uint64(v.PacketBytes)), v.Format))
	if v.First != nil && v.Last != nil {
		row("first", v.First.Format("2006-01-02T15:04:05.000000000Z07:00"))
		row("last", v.Last.Format("2006-01-02T15:04:05.000000000Z07:00"))
	}
	row("link types", strings.Join(v.LinkTypes, ", "))
	showLive(row, v.Capture)
	row("note", deref(v.Note))
	key := "traffic"
	for line := range strings.SplitSeq(deref(v.Summary), "\n") {
		row(key, line)
		key = ""
	}
	for _, f := range v.Findings {
		row("finding", fmt.Sprintf("%s %s, rating %g, confidence %d (%s), frame %d, seen %d times", f.Type, short(f.Indicator), f.Rating, f.Confidence, f.Owner, f.FirstFrame, f.Count))
		for _, m := range f.Machines {
			row("", "of "+m)
		}
		row("", deref(f.FilterURL))
		row("", deref(f.Link))
	}
	showMachines(row, v.Machines)
	row("sha256", v.SHA256)
	row("sha1", v.SHA1)
	row("session name", deref(v.SessionName))
	if v.DuplicateOf != nil {
		row("same content as", fmt.Sprintf("capture %d", *v.DuplicateOf))
	}
	if v.PossibleDuplicate {
		row("warning", "a second session of this content may exist")
	}
	for _, p := range v.Parts {
		row(fmt.Sprintf("part %d of %d", p.Number, p.Of), fmt.Sprintf("%d packets  %s", p.Packets, orDash(deref(p.SessionURL))))
	}
	for _, s := range v.Steps {
		text := fmt.Sprintf("%s, %s", s.State, count(s.Attempts, "attempt"))
		if s.Error != nil && s.State != ledger.StepDone {
			text += ": " + *s.Error
		} else if s.Note != nil {
			text += ": " + *s.Note
		}
		row("step "+s.Name, text)
	}
	for _, d := range v.Deliveries {
		text := string(d.State)
		for _, more := range []*string{d.Note, d.Error, d.Link} {
			if more != nil {
				text += ", " + *more
			}
		}
		row(d.Destination, text)
	}
	return table.Flush()
}

// maxShown is how many machines are shown; --json has all of them.
const maxShown = 10

func showMachines(row func(key string, value any), list []device.Device) {
	key := "machine"
	for _, d := range list[:min(len(list), maxShown)] {
		text := d.Label()
		if d.MAC != nil {
			text += ", " + d.MAC.String()
		}
		row(key, text+" ("+strings.Join(append([]string{d.Source, d.Confidence.String()}, d.Limits...), "; ")+")")
		key = ""
	}
	if more := len(list) - maxShown; more > 0 {
		row("", fmt.Sprintf("and %d more; --json has them", more))
	}
}

// showLive shows what is known of a capture that the agent took itself.
func showLive(row func(key string, value any), l *ledger.Live) {
	if l == nil {
		return
	}
	for _, i := range l.Interfaces {
		text := fmt.Sprintf("%s (%s), %d received, %d dropped", i.Name, i.LinkType, i.Received, i.Dropped)
		if i.Filter != "" {
			text += ", filter " + i.Filter
		}
		if i.SnapLen > 0 {
			text += fmt.Sprintf(", %d bytes of each", i.SnapLen)
		}
		row("interface", text)
	}
	for _, g := range l.Gaps {
		text := fmt.Sprintf("%s to %s", stamp(g.From), stamp(g.To))
		if g.Packets > 0 {
			text += fmt.Sprintf(", %d packets", g.Packets)
		}
		if g.Interface != "" {
			text += " of " + g.Interface
		}
		row("missing", text+": "+g.Cause)
	}
	for _, j := range l.Jumps {
		row("clock", fmt.Sprintf("set by %+.3f s at %s", j.By, stamp(j.At)))
	}
	if l.Recovered {
		row("recovered", "the agent was killed while it wrote or recorded this file: its end may be missing")
	} else {
		row("ended by", l.Reason)
	}
	row("warning", l.Error)
}

// deref returns the zero value for what is not known.
func deref[T any](v *T) T {
	if v == nil {
		var zero T
		return zero
	}
	return *v
}

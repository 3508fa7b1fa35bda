package main

import (
	"context"
	"fmt"
	"math"
	"strings"
	"text/tabwriter"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"capagent/internal/ledger"
	"capagent/internal/quote"
	"capagent/service"
	"capagent/service/control"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Say whether the agent runs, how many captures are where, and what stands in the way",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := a.status(cmd.Context())
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

func (a *app) status(ctx context.Context) (control.Status, error) {
	from, err := a.reader(ctx)
	if err != nil {
		return control.Status{}, err
	}
	defer from.Close()
	if _, wrong := a.config(ctx); wrong != nil {
		a.say("the configuration has mistakes; `capagent check` lists them")
	}
	return from.Status(ctx)
}

func (a *app) showStatus(v control.Status) error {
	if v.Agent == nil {
		fmt.Fprintln(a.stdout, "no agent is running")
	} else {
		fmt.Fprintf(a.stdout, "running since %s, pid %d: %s\n", stamp(v.Agent.Started), v.Agent.PID, quote.Text(v.Agent.Text))
	}
	table := tabwriter.NewWriter(a.stdout, 0, 8, 2, ' ', 0)
	row := func(key, format string, args ...any) {
		fmt.Fprintf(table, "%s\t%s\n", key, quote.Text(fmt.Sprintf(format, args...)))
	}
	row("capagent", "%s", v.Version)
	row("destination", "%s", orDash(v.Destination))
	if v.Agent != nil {
		showDestination(row, v.Agent.Destination)
	}
	row("state", "%s", quote.Path(v.StateDir))
	for _, s := range ledger.States {
		if c, ok := v.Captures[s]; ok {
			row(string(s), "%d (%s)", c.Captures, bytesOf(c.Bytes))
		}
	}
	if v.OldestQueued != nil {
		row("oldest queued", "%s", stamp(*v.OldestQueued))
	}
	if v.Flagged > 0 {
		row("with findings", "%d, see: capagent ls --flagged", v.Flagged)
	}
	if v.PossibleDuplicates > 0 {
		row("possible duplicates", "%d", v.PossibleDuplicates)
	}
	for _, p := range v.Pauses {
		if v.Agent == nil || p.Destination != v.Destination { // the agent knows better
			row("paused", "%s since %s: %s", p.Destination, stamp(p.Since), p.Reason)
		}
	}
	if v.Agent != nil {
		showAgent(row, v.Agent)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if v.Agent != nil && v.Version != version {
		a.hint("this command is capagent %s; restart the agent to run that version", version)
	}
	return nil
}

type rowFunc func(key, format string, args ...any)

func showDestination(row rowFunc, d control.DestinationState) {
	if d.State == service.DoorOpen || d.State == "" {
		return
	}
	text := string(d.State)
	if d.Since != nil {
		text += " since " + stamp(*d.Since)
	}
	if d.Until != nil {
		text += ", asked again at " + stamp(*d.Until)
	}
	if d.Reason != nil {
		text += ": " + *d.Reason
	}
	row("", "%s", text)
	if d.Hint != nil {
		row("", "hint: %s", *d.Hint)
	}
}

func showNeighbours(row rowFunc, g *control.Agent) {
	for _, n := range g.Names {
		text := n.Text
		if n.At == nil {
			text = "nothing is known yet"
		} else {
			text += ", asked at " + stamp(*n.At)
		}
		if n.Stale {
			text += " (stale)"
		}
		row(n.Source, "%s", text)
		if n.Error != nil {
			row("", "%s", *n.Error)
		}
	}
	for _, d := range g.Deliveries {
		row("to "+d.Destination, "%d waiting, %d done, %d failed, %d skipped", d.Pending, d.Done, d.Failed, d.Skipped)
	}
	for _, b := range g.Blocked {
		row("blocked", "%s (%s) until %s: %s", b.Name, b.MAC, stamp(b.Until), b.Reason)
	}
}

func showAgent(row rowFunc, g *control.Agent) {
	for _, u := range g.Uploading {
		size := bytesOf(u.Size)
		if u.Sent != nil {
			size = bytesOf(*u.Sent) + " of " + size
		}
		row("uploading", "%s (capture %d), %s", quote.Path(u.Name), u.ID, size)
	}
	for _, w := range g.Watches {
		text := fmt.Sprintf("%s: %s, %s, %d pending", quote.Path(w.Path), w.State, count(int(w.Files), "file"), w.Pending)
		if w.LastScan != nil {
			text += ", scanned " + stamp(*w.LastScan)
		}
		row("watch", "%s", text)
		if w.Error != nil {
			row("", "%s", *w.Error)
		}
	}
	for _, c := range g.Captures {
		showCapture(row, c)
	}
	showNeighbours(row, g)
	if d := g.Disk; d.Free > 0 || d.SpoolBytes > 0 {
		text := fmt.Sprintf("%s free, %s in the spool", bytesOf(d.Free), bytesOf(d.SpoolBytes))
		if d.MinFree > 0 {
			text += ", at least " + bytesOf(d.MinFree) + " is kept free"
		}
		row("disk", "%s", text)
	}
	if g.Confined != nil {
		row("confined", "%s", confinedText(g.Confined))
	}
	if g.Reloaded != nil {
		row("reloaded", "%s", stamp(*g.Reloaded))
	}
	if g.ConfigError != nil {
		row("configuration", "the last reload failed; the one before is in force:")
		for line := range strings.Lines(*g.ConfigError) {
			row("", "%s", strings.TrimRight(line, "\n"))
		}
	}
	for _, p := range g.Problems {
		times := ""
		if p.Count > 1 {
			times = fmt.Sprintf(", %d times", p.Count)
		}
		row("problem", "since %s%s: %s", stamp(p.Since), times, p.Text)
		if p.Hint != nil {
			row("", "hint: %s", *p.Hint)
		}
	}
}

// confinedText says what the agent took from itself.
func confinedText(c *control.Confined) string {
	var parts []string
	if c.Landlock > 0 {
		dirs := make([]string, len(c.Writable))
		for i, dir := range c.Writable {
			dirs[i] = quote.Path(dir)
		}
		parts = append(parts, "it can change files below "+strings.Join(dirs, ", ")+" only")
	}
	if c.Seccomp {
		parts = append(parts, "it starts no programs")
	}
	if len(parts) == 0 {
		parts = append(parts, "no")
	}
	text := strings.Join(parts, "; ")
	if c.Reason != nil {
		text += " (" + *c.Reason + ")"
	}
	return text
}

func showCapture(row rowFunc, c control.Capture) {
	text := fmt.Sprintf("%s on %s: %s", c.Name, strings.Join(c.Interfaces, ", "), c.State)
	if c.Since != nil {
		text += " since " + stamp(*c.Since)
	}
	if c.Next != nil {
		text += ", from " + stamp(*c.Next) + " on"
	}
	row("capture", "%s", text)
	text = fmt.Sprintf("%s (%s) in %s", countOf(c.Packets, "packet"), bytesOf(c.Bytes), countOf(c.Files, "file"))
	if c.Open != nil {
		text += fmt.Sprintf(", %s (%s) not sealed yet", countOf(c.Open.Packets, "packet"), bytesOf(c.Open.Size))
	}
	if c.LastSealed != nil {
		text += ", last sealed " + stamp(*c.LastSealed)
	}
	row("", "%s", text)
	if c.Dropped+c.Lost > 0 {
		row("", "%d dropped by the kernel, %d lost at the disk", c.Dropped, c.Lost)
	}
	if c.Problem != nil {
		row("", "%s", *c.Problem)
	}
}

// countOf is count for what may be large.
func countOf(n uint64, what string) string { return count(int(min(n, math.MaxInt)), what) }

// bytesOf prints a number of bytes that nobody vouches for.
func bytesOf(n int64) string { return humanize.IBytes(uint64(max(0, n))) }

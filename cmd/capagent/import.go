package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/internal/quote"
	"capagent/service"
	"capagent/service/imports"
)

func (a *app) importCommand() *cobra.Command {
	var opts imports.Options
	var tags, manifests []string
	cmd := &cobra.Command{
		Use:   "import DIR...",
		Short: "Upload every capture file of a folder tree, read-only",
		Long: `Walk folders of existing capture files and upload each of them once, in the
order of their first packets. The files are only read: nothing is written,
renamed or created beside them. What is a capture is judged by content, equal
content is uploaded once, and links, pipes and devices are listed, not followed.

Run the same command again after an interruption: it goes on where it stopped.`,
		Example: `  capagent import /evidence --dry-run
  capagent import /evidence --case 2026-017 --manifest 2026-017.csv --manifest 2026-017.sha256`,
		Args: atLeastOne("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			opts.Roots = args
			if err := checkManifests(manifests, args); err != nil {
				return err
			}
			return a.runImport(cmd.Context(), opts, tags, manifests)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opts.Case, "case", "", "tag and group the captures by case `ID`")
	f.BoolVar(&opts.DryRun, "dry-run", false, "only say what would be uploaded")
	f.StringArrayVar(&manifests, "manifest", nil, "account for every file in `FILE` (.csv, .json or .sha256); may be repeated")
	f.StringArrayVar(&tags, "tag", nil, "add a `TAG` to every session; may be repeated")
	f.StringVar(&opts.Comment, "comment", "", "`TEXT` for every session's comment")
	f.BoolVar(&a.noProgress, "no-progress", false, "draw no progress bar")
	a.destinationFlags(cmd)
	return cmd
}

func checkManifests(files, roots []string) error {
	for _, file := range files {
		known := slices.ContainsFunc(imports.ManifestFormats, func(ext string) bool {
			return strings.HasSuffix(strings.ToLower(file), ext)
		})
		if !known {
			return usageError("--manifest %s: the name must end in %s", quote.Path(file), strings.Join(imports.ManifestFormats, ", "))
		}
		if imports.Inside(file, roots) {
			return usageError("--manifest %s: lies inside the imported folder, which is never written to; choose another place", quote.Path(file))
		}
	}
	return nil
}

func (a *app) runImport(ctx context.Context, opts imports.Options, tags, manifests []string) error {
	agent, err := a.openAgent(ctx, opts.DryRun)
	if err != nil {
		return err
	}
	defer agent.Close()
	if err := agent.CheckTags(tags); err != nil {
		return usageError("%w", err)
	}
	opts.Tags = func(c ledger.Capture) []string { return agent.Tags(tags, c) }
	opts.Destination, opts.Concurrency = agent.Destination(), agent.Config.CloudShark.Concurrency
	opts.Inspect, opts.StateDir, opts.Log = agent.Config.Inspect, agent.Config.StateDir(), a.commandLogger(agent.Config)

	opts.Deliver = agent.Deliveries
	if agent.Explains() {
		opts.Explain, opts.Sent, opts.Names = agent.ExplainNow, agent.Annotated, len(agent.Namers) > 0
	}
	bar := a.newProgress("reading", 0)
	agent.OnBytes(bar.add)
	opts.OnFound = bar.grow
	opts.OnRead = bar.add
	sent, files := 0, 0
	opts.OnPlanned = func(n int, bytes int64) {
		sent, files = 0, n
		bar.restart("uploading", bytes)
	}
	perFile := bar == nil
	opts.OnEnd = func(e imports.Entry) {
		if sent++; sent <= files {
			bar.describe(fmt.Sprintf("uploading %d/%d files", sent, files))
		}
		if a.json || perFile {
			a.importLine(e)
		}
	}
	entries, err := imports.Run(ctx, agent.Ledger, agent.Pipeline, opts)
	bar.clear()
	if entries == nil && err != nil {
		return err
	}
	for _, file := range manifests {
		if werr := imports.WriteManifest(file, entries); werr != nil {
			err = errors.Join(err, werr)
		}
	}
	if !perFile && !a.json {
		a.importLinks(entries)
	}
	limits := imports.Limits{Packets: agent.Config.CloudShark.MaxPackets, Bytes: agent.Config.CloudShark.MaxSize.Bytes()}
	if !a.json || !opts.DryRun {
		a.importSummary(imports.Summarize(entries, limits), opts.DryRun, manifests, agent)
	}
	for _, e := range entries { // each hint is printed once
		if e.Failure != nil && e.Failure.Hint != "" {
			a.hint("%s", e.Failure.Hint)
		}
	}
	if err != nil {
		return err
	}
	if !opts.DryRun {
		a.deliver(ctx, agent)
	}
	return importOutcome(entries, agent)
}

// importLine is the last word about one file: its link, or why it has none.
func (a *app) importLine(e imports.Entry) {
	if a.json {
		_ = a.encode(e.View()) // a closed pipe shows when the command ends
		return
	}
	for _, p := range e.View().Parts {
		fmt.Fprintf(a.stdout, "%s  %s  (part %d of %d)\n", orDash(deref(p.SessionURL)), quote.Path(e.Name), p.Number, p.Of)
	}
	if len(e.Parts) > 0 && e.Failure == nil {
		return
	}
	what := e.SessionURL
	if what == "" {
		what = string(e.State)
	}
	line := what + "  " + quote.Path(e.Name)
	if why := e.Why(); why != "" {
		line += "  (" + quote.Text(why) + ")"
	}
	fmt.Fprintln(a.stdout, line)
}

// importLinks follows a progress bar: all lines where they fit a screen, else
// those of the files that failed.
func (a *app) importLinks(entries []imports.Entry) {
	const screen = 25
	for _, e := range entries {
		if e.Failure != nil || len(entries) <= screen {
			a.importLine(e)
		}
	}
	if len(entries) > screen {
		a.say("`capagent ls` lists the links")
	}
}

func (a *app) importSummary(s imports.Summary, dryRun bool, manifests []string, agent *service.Agent) {
	for _, line := range s.Lines(dryRun) {
		a.say("%s", line)
	}
	for _, m := range manifests {
		a.say("manifest: %s", quote.Path(m))
	}
	if err := agent.Pipeline.Closed(); err != nil {
		a.complain(err)
		a.say("run the same command again, or `capagent retry`, to send the rest")
	}
}

func importOutcome(entries []imports.Entry, agent *service.Agent) error {
	var t tally
	for _, e := range entries {
		switch {
		case e.Failure != nil:
			t.add(e.Failure)
		case e.State != imports.Skipped:
			t.ok++
		}
	}
	err := t.err()
	if closed := agent.Pipeline.Closed(); err != nil && closed != nil && t.ok == 0 {
		return exitWith(failureCode(failure.As(closed)), nil)
	}
	return err
}

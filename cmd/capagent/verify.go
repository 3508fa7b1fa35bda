package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"capagent/internal/quote"
	"capagent/service"
)

func (a *app) verifyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "verify [ID...]",
		Short: "Compare ledger, audit log and captures with what was recorded",
		Long: `Compare what lies on the disk with what was recorded of it: the structure of the
ledger, the chain of the audit log, and the content of every capture's file. With
IDs (numbers, starts of SHA-256, sessions) only the files of these captures.
Nothing is changed.`,
		Example: "  capagent verify\n  capagent verify 12 13 --json",
		RunE:    func(cmd *cobra.Command, args []string) error { return a.verify(cmd.Context(), args) },
	}
}

func (a *app) verify(ctx context.Context, args []string) error {
	from, err := a.reader(ctx)
	if err != nil {
		return err
	}
	defer from.Close()
	if empty(from) && len(args) == 0 {
		return nil
	}
	ids, bytes, err := toVerify(ctx, from, args)
	if err != nil {
		return err
	}
	bar := a.newProgress("verifying", bytes)
	defer bar.clear()
	var broken error
	result, err := from.Verify(ctx, ids, func(e service.VerifyEntry) {
		bar.add(e.Size)
		if err := a.verified(e, bar); err != nil && broken == nil {
			broken = err
		}
	})
	bar.clear()
	if err == nil {
		err = broken
	}
	if err != nil {
		return err
	}
	if a.json {
		err = a.encode(result)
	} else {
		err = a.showVerified(result)
	}
	if err != nil {
		return err
	}
	return verifyOutcome(result)
}

// toVerify finds the numbers of the captures that are named, none for all of
// them, and how many bytes there are to read.
func toVerify(ctx context.Context, from reader, args []string) (ids []int64, bytes int64, err error) {
	for _, arg := range args {
		v, err := from.Show(ctx, arg)
		if err != nil {
			return nil, 0, fmt.Errorf("verify %s: %w", quote.Path(arg), err)
		}
		ids = append(ids, *v.ID)
		bytes += v.Size
	}
	if len(args) > 0 {
		return ids, bytes, nil
	}
	status, err := from.Status(ctx)
	for _, c := range status.Captures {
		bytes += c.Bytes
	}
	return nil, bytes, err
}

// verified prints one capture's answer; without --json only of those that are
// not where and what they were.
func (a *app) verified(e service.VerifyEntry, bar *progress) error {
	if a.json {
		return a.encode(e)
	}
	why := ""
	switch e.Result {
	case service.VerifiedOK, service.VerifiedPurged, service.VerifiedOpen:
		return nil
	case service.VerifiedChanged:
		why = fmt.Sprintf("SHA-256 was %.16s…, is %.16s…", e.SHA256, e.FoundSHA256)
		if e.Size != e.FoundSize {
			why += fmt.Sprintf("; %d bytes, now %d", e.Size, e.FoundSize)
		}
	case service.VerifiedUnreadable:
		why = e.Error
	}
	if why != "" {
		why = "  (" + quote.Text(why) + ")"
	}
	bar.clear()
	_, err := fmt.Fprintf(a.stdout, "%-10s  %5d  %s%s\n", quote.Text(string(e.Result)), e.ID, quote.Path(e.Path), why)
	return err
}

// answers in the order in which they are counted.
var answers = []service.Verified{
	service.VerifiedOK, service.VerifiedChanged, service.VerifiedMissing, service.VerifiedUnreadable,
	service.VerifiedGone, service.VerifiedPurged, service.VerifiedOpen,
}

func (a *app) showVerified(r service.VerifyResult) error {
	total := int64(0)
	var counts []string
	for _, answer := range answers {
		if n := r.Captures[answer]; n > 0 {
			counts = append(counts, fmt.Sprintf("%d %s", n, answer))
			total += n
		}
	}
	line := count(int(total), "capture")
	if len(counts) > 0 {
		line += ": " + strings.Join(counts, ", ")
	}
	if r.Ledger != nil && r.Ledger.OK {
		line += "; ledger: whole"
	}
	if log := r.Audit; log != nil && log.OK() {
		line += "; audit log: " + count(int(log.Lines), "line") + ", unbroken"
	}
	lines := []string{line}
	if r.Ledger != nil && !r.Ledger.OK {
		lines = append(lines, "ledger: "+r.Ledger.Error)
	}
	if log := r.Audit; log != nil {
		for _, n := range log.Noted {
			lines = append(lines, fmt.Sprintf("audit log: noted in %s line %d: %s", n.File, n.Line, n.Event))
		}
		if log.Torn > 0 {
			lines = append(lines, fmt.Sprintf("audit log: %d bytes of an unfinished line at its end; the agent cuts them off and notes it", log.Torn))
		}
		if !log.OK() {
			lines = append(lines, "audit log: broken: "+log.Broken.Error())
		} else if log.Lines > 0 {
			lines = append(lines, fmt.Sprintf("audit log: line %d has SHA-256 %s", log.Seq, log.Head))
		}
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(a.stdout, quote.Text(line)); err != nil {
			return err
		}
	}
	return nil
}

// verifyOutcome is exitSome when only some captures are not what they were. A
// ledger or a log that is not whole makes all that was recorded doubtful.
func verifyOutcome(r service.VerifyResult) error {
	if r.OK() {
		return nil
	}
	var failed, total int64
	for answer, n := range r.Captures {
		total += n
		if answer.Failed() {
			failed += n
		}
	}
	if failed < total && (r.Ledger == nil || r.Ledger.OK) && (r.Audit == nil || r.Audit.OK()) {
		return exitWith(exitSome, nil)
	}
	return exitWith(exitFailed, nil)
}

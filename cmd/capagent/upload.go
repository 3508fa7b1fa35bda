package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/internal/quote"
	"capagent/service"
)

func (a *app) uploadCommand() *cobra.Command {
	var opts service.AddOptions
	var open bool
	cmd := &cobra.Command{
		Use:   "upload FILE... | -",
		Short: "Upload capture files and print a link each",
		Long: `Upload capture files to CloudShark and print one link a line.

"-" reads a capture from standard input:

  tcpdump -w - -c 1000 | capagent upload -

A file that CloudShark has already got from here is not sent again: its link is
printed. What could not be sent now stays queued; "capagent retry" sends it.`,
		Example: "  capagent upload trace.pcapng\n  capagent upload --tag branch-7 --comment 'slow logins' *.pcap",
		Args:    atLeastOne("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkUploadFlags(args, opts); err != nil {
				return err
			}
			return a.upload(cmd.Context(), args, opts, open)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&opts.Tags, "tag", nil, "add a `TAG`; may be repeated")
	f.StringVar(&opts.Comment, "comment", "", "`TEXT` for the session's comment")
	f.StringVar(&opts.Name, "name", "", "name the session `NAME` instead of by the configured template (one file only)")
	f.StringVar(&opts.Keylog, "keylog", "", "send the TLS key log `FILE` along, for CloudShark to decrypt with")
	f.StringVar(&opts.Case, "case", "", "note the captures under case `ID`")
	f.BoolVar(&open, "open", false, "open the link in the browser")
	a.destinationFlags(cmd)
	return cmd
}

func checkUploadFlags(args []string, opts service.AddOptions) error {
	if opts.Name != "" && len(args) > 1 {
		return usageError("--name fits one file only; %d were given", len(args))
	}
	stdin := 0
	for _, arg := range args {
		if arg == "-" {
			stdin++
		}
	}
	if stdin > 1 {
		return usageError("standard input (-) can be read once only")
	}
	return nil
}

func (a *app) upload(ctx context.Context, args []string, opts service.AddOptions, open bool) error {
	agent, err := a.agent(ctx)
	if err != nil {
		return err
	}
	defer agent.Close()
	if err := agent.CheckTags(opts.Tags); err != nil {
		return usageError("%w", err)
	}
	var outcome tally
	queued := 0
	bar := a.newProgress("uploading", 0)
	agent.OnBytes(bar.add)
	for _, arg := range args {
		path, opts := arg, opts
		if arg == "-" {
			again, stop, spooled, err := a.spoolStdin(ctx, agent)
			defer stop()
			if err != nil {
				return err
			}
			ctx, path, opts.Source, opts.Owned = again, spooled, "stdin", true
		}
		view, err := a.uploadOne(ctx, agent, path, opts, bar)
		bar.clear()
		if err == nil && open {
			openBrowser(ctx, *view.SessionURL)
		}
		if err := a.report(arg, view, err); err != nil {
			return err
		}
		outcome.add(err)
		if view.State == ledger.Queued {
			queued++
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	a.sayQueued(queued)
	a.deliver(ctx, agent)
	return outcome.err()
}

func (a *app) uploadOne(ctx context.Context, agent *service.Agent, path string, opts service.AddOptions, bar *progress) (service.View, error) {
	if info, err := os.Stat(path); err == nil {
		bar.restart("reading", info.Size())
	}
	c, err := agent.Add(ctx, path, opts)
	if err != nil {
		return service.NewView(c), err
	}
	// Who uploads a file by name wants it tried, whatever became of it before.
	one := []ledger.Capture{c}
	if err := agent.Release(ctx, one); err != nil {
		return service.NewView(c), err
	}
	bar.restart("uploading", c.Size)
	var view service.View
	stopped := agent.Send(ctx, one, func(_ int, c ledger.Capture, sent error) {
		view, err = service.FullView(context.WithoutCancel(ctx), agent.Ledger, c)
		err = errors.Join(sent, err)
	})
	if err == nil {
		err = stopped
	}
	return view, err
}

// spoolStdin keeps standard input in the spool. Ctrl-C reaches the whole
// pipeline and so ends the capture that is piped in: what came is uploaded all
// the same, under a new context that the next Ctrl-C cancels.
func (a *app) spoolStdin(ctx context.Context, agent *service.Agent) (context.Context, context.CancelFunc, string, error) {
	nothing := context.CancelFunc(func() {})
	if f, ok := a.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return ctx, nothing, "", usageError("standard input is a terminal; pipe a capture into it")
	}
	path, err := agent.Spool(context.WithoutCancel(ctx), a.stdin)
	if err != nil {
		return ctx, nothing, path, err
	}
	again, stop := a.afterPipe(ctx)
	return again, stop, path, nil
}

// samePress is within which Ctrl-C and the end of standard input are one: they
// come by different ways, in any order.
const samePress = time.Second

// afterPipe returns a context that the press which ended the pipeline does not
// end, but the next one.
func (a *app) afterPipe(ctx context.Context) (context.Context, context.CancelFunc) {
	ended := time.Now()
	again, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unwatch := context.AfterFunc(ctx, func() {
		if time.Since(ended) > samePress {
			cancel()
			return
		}
		a.say("interrupted; uploading what came until then")
		next, done := signal.NotifyContext(again, os.Interrupt, syscall.SIGTERM)
		context.AfterFunc(next, func() {
			done()
			cancel()
		})
	})
	return again, func() {
		unwatch()
		cancel()
	}
}

func (a *app) sayQueued(n int) {
	if n > 0 {
		a.say("%s queued; `capagent retry` sends what is queued", count(n, "capture"))
	}
}

// report prints what became of one file: its link (and those of its parts) or
// why there is none.
func (a *app) report(arg string, v service.View, failed error) error {
	if failed != nil && v.Error == nil {
		text := failed.Error()
		v.Error = &text
	}
	if failed != nil {
		a.complain(fmt.Errorf("%s: %w", quote.Path(arg), failed))
	}
	switch {
	case a.json:
		if v.Path == "" {
			v.Path = arg
		}
		return a.encode(v)
	case failed != nil:
		return nil
	case len(v.Parts) > 0:
		for _, p := range v.Parts {
			if _, err := fmt.Fprintln(a.stdout, *p.SessionURL); err != nil {
				return err
			}
		}
		return nil
	default:
		_, err := fmt.Fprintln(a.stdout, *v.SessionURL)
		return err
	}
}

// tally adds up how the files of one command fared.
type tally struct {
	ok, failed int
	worst      error
}

func (t *tally) add(err error) {
	if err == nil {
		t.ok++
		return
	}
	t.failed++
	// What will not mend itself weighs more than what is only queued.
	if t.worst == nil || failure.As(t.worst).Kind == failure.Retry {
		t.worst = err
	}
}

// err is nil when everything went well, has the failure's own code when nothing
// did, and exitSome between the two.
func (t *tally) err() error {
	switch {
	case t.failed == 0:
		return nil
	case t.ok > 0:
		return exitWith(exitSome, nil)
	default:
		return exitWith(exitCode(t.worst), nil)
	}
}

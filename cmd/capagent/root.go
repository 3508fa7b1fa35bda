package main

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"capagent/internal/logs"
	"capagent/internal/quote"
	"capagent/internal/secret"
)

// app is what all commands share: the streams and the global flags.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	redactor       *secret.Redactor

	configPath, logLevel    string
	json, quiet, noProgress bool
	onTerminal              bool // stderr is a terminal
	flags                   destinationFlags
	hinted                  map[string]bool
	onReady                 func() // is told that the agent does its work; may be nil
}

// run executes one command line and returns the process's exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	// The second line of defence: whatever is said, here or by a log, is masked.
	r := secret.NewRedactor()
	a := &app{stdin: stdin, stdout: masked{stdout, r}, stderr: masked{stderr, r}, redactor: r, onTerminal: isTerminal(stderr)}
	root := a.rootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	err := root.ExecuteContext(ctx)
	if errors.Is(err, context.Canceled) {
		err = exitWith(exitInterrupted, errors.New("interrupted; run the same command again to go on"))
	}
	a.complain(err)
	return exitCode(err)
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "capagent",
		Short: "Packet captures to CloudShark",
		Long: `capagent uploads packet captures to CloudShark: one file, or a folder tree of
evidence, each content once, with a link or a reason for every file.

  capagent sandbox                 a stand-in for CloudShark, to try things out
  capagent upload trace.pcapng     one file, one link
  capagent import /evidence        a whole tree, read-only and resumable`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError("unknown command %s; `capagent --help` lists the commands", quote.Path(args[0]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError("%w; see `%s --help`", err, cmd.CommandPath())
	})
	f := root.PersistentFlags()
	f.StringVar(&a.configPath, "config", "", "read the configuration from `FILE`")
	f.StringVar(&a.logLevel, "log-level", "", "log at `LEVEL`: trace, debug, info, warn, error")
	f.BoolVar(&a.json, "json", false, "print JSON: one object, or a line per item")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "print results and errors only")
	root.AddCommand(
		a.runCommand(), a.uploadCommand(), a.importCommand(), a.inspectCommand(), a.findCommand(), a.huntCommand(), a.verdictsCommand(), a.lsCommand(), a.showCommand(), a.statusCommand(),
		a.retryCommand(), a.verifyCommand(), a.reloadCommand(), a.rotateCommand(), a.triggerCommand(), a.captureCommand(), a.interfacesCommand(), a.checkCommand(), a.doctorCommand(), a.supportCommand(), a.serviceCommand(), a.secretCommand(), a.pathsCommand(), a.sandboxCommand(), a.cadoCommand(), a.cloudTraxCommand(), a.cloudShareCommand(), a.versionCommand(),
	)
	return root
}

// logger returns a log at level, or at what --log-level says. Its Limiter is the
// daemon's to run; a command that ends soon can leave it.
func (a *app) logger(level, format string) (zerolog.Logger, *logs.Limiter) {
	if a.logLevel != "" {
		level = a.logLevel
	}
	l, err := zerolog.ParseLevel(level)
	if err != nil || level == "" {
		l = zerolog.WarnLevel
	}
	opts := logs.Options{
		Out: a.stderr, Level: l, Format: format, Terminal: a.onTerminal, NoColor: os.Getenv("NO_COLOR") != "", Env: os.Getenv,
		Mask: func(line []byte) []byte { return []byte(a.redactor.String(string(line))) },
	}
	if m, ok := a.stderr.(masked); ok {
		opts.File, _ = m.w.(*os.File)
	}
	return logs.New(opts)
}

// masked masks each Write; messages, JSON objects and log lines are written whole.
type masked struct {
	w        io.Writer
	redactor *secret.Redactor
}

func (m masked) Write(p []byte) (int, error) {
	if _, err := io.WriteString(m.w, m.redactor.String(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError("%s takes no arguments", cmd.CommandPath())
	}
	return nil
}

func atLeastOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usageError("%s needs a %s; see `%s --help`", cmd.CommandPath(), what, cmd.CommandPath())
		}
		return nil
	}
}

func atMostOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usageError("%s takes one %s at most", cmd.CommandPath(), what)
		}
		return nil
	}
}

func exactlyOne(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usageError("%s needs one %s; see `%s --help`", cmd.CommandPath(), what, cmd.CommandPath())
		}
		return nil
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"capagent/internal/config"
	"capagent/internal/ledger"
	"capagent/internal/paths"
	"capagent/internal/quote"
	"capagent/service"
	"capagent/service/bundle"
)

func (a *app) supportCommand() *cobra.Command {
	var names bool
	cmd := &cobra.Command{
		Use:   "support-bundle [FILE]",
		Short: "Pack what a person who helps needs to know, without secrets",
		Long: `Pack version, paths, the machine, the configuration in effect, what doctor and status
say, the last events and the last log lines into FILE (capagent-support-TIME.tar.gz),
which only you can read. Secrets are *** in it. No packets are in it, and indicators and
names of captured files, sessions and cases only with --with-names. Its README.txt says
what is in it; read it before you give it away.`,
		Example: "  capagent support-bundle\n  capagent support-bundle --with-names /tmp/bundle.tar.gz",
		Args:    atMostOne("file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			file := "capagent-support-" + time.Now().UTC().Format("20060102T150405Z") + ".tar.gz"
			if len(args) > 0 {
				file = args[0]
			}
			return a.support(cmd.Context(), file, names)
		},
	}
	cmd.Flags().BoolVar(&names, "with-names", false, "leave names of files, sessions and cases, and indicators in")
	return cmd
}

func (a *app) support(ctx context.Context, file string, names bool) error {
	f, err := os.OpenFile(filepath.Clean(file), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	list, err := a.writeBundle(ctx, f, names)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(file))
	}
	if a.json {
		return a.encode(map[string]any{"file": file, "with_names": names, "contains": list})
	}
	a.say("read README.txt in it before you give it away")
	_, err = fmt.Fprintln(a.stdout, quote.Path(file))
	return err
}

func (a *app) writeBundle(ctx context.Context, f *os.File, names bool) ([]string, error) {
	report, err := a.examine(ctx)
	if err != nil {
		return nil, err
	}
	cfg, wrong := a.fullConfig(ctx)
	own, _ := paths.Default(a.configPath) // a user's own places can be unknown
	if cfg.StateDir() == "" {
		cfg.Agent.StateDir = own.State
	}
	o := bundle.Options{
		Version: version, Places: own, StateDir: cfg.StateDir(), Doctor: report, System: systemName(), Unit: serviceName,
		LogFiles: logFiles(cfg), WithNames: names, Redactor: a.redactor, Now: time.Now(),
	}
	var all config.Errors
	if errors.As(wrong, &all) {
		for _, e := range all {
			o.Errors = append(o.Errors, e.Error())
		}
	} else if wrong != nil {
		o.Errors = []string{wrong.Error()}
	}
	if cfg.Loaded != nil {
		o.Warnings, o.Values = cfg.Loaded.Warnings, cfg.Loaded.Effective()
	}
	if o.Ledger, err = ledger.Open(ctx, cfg.LedgerPath(), ledger.Options{ReadOnly: true, Log: zerolog.Nop()}); err == nil {
		defer func() { _ = o.Ledger.Close() }() // only read
	} else {
		o.Ledger = nil // the doctor says why
	}
	a.askStatus(ctx, &o, cfg)
	return bundle.Write(ctx, f, o)
}

// askStatus fills in what the agent says, or the ledger where none runs.
func (a *app) askStatus(ctx context.Context, o *bundle.Options, cfg service.Config) {
	client, _, err := a.reach(ctx)
	var from reader = records{&cfg, o.Ledger}
	if err == nil {
		defer func() { _ = client.Close() }() // nothing is on its way
		from = client
	}
	v, err := from.Status(ctx)
	if err != nil {
		o.StatusError = "it could not be asked"
		return
	}
	o.Status = &v
}

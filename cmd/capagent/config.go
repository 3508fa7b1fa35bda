package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"capagent/internal/config"
	"capagent/internal/ledger"
	"capagent/internal/paths"
	"capagent/internal/quote"
	"capagent/service"
)

// destinationFlags override the configuration for one command. There is none
// for the token: a command line is visible to every user of the machine.
type destinationFlags struct {
	url, tokenFile string
	wait           time.Duration
}

func (a *app) destinationFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&a.flags.url, "url", "", "upload to `URL` instead of the configured CloudShark")
	f.StringVar(&a.flags.tokenFile, "token-file", "", "read the API token from `FILE`")
	f.DurationVar(&a.flags.wait, "wait", service.OneShot.Patience, "keep trying for `DURATION` while the server can't be reached or is busy")
}

// config loads what there is, for a command that only looks: nothing in it needs
// to be complete, and no secret is fetched.
func (a *app) config(ctx context.Context) (service.Config, error) { return a.load(ctx, false) }

func (a *app) load(ctx context.Context, secrets bool) (service.Config, error) {
	where, err := paths.Default(a.configPath)
	if err != nil && os.Getenv("CAPAGENT_AGENT_STATE_DIR") == "" {
		return service.DefaultConfig(), exitWith(exitConfig, err)
	}
	opts := config.Options{Path: where.Config, Env: os.Environ(), EnvPrefix: "CAPAGENT"}
	for flag, o := range map[string]config.Override{
		"--url":        {Key: "cloudshark.url", Value: a.flags.url},
		"--token-file": {Key: "cloudshark.token_file", Value: a.flags.tokenFile},
	} {
		if o.Value != "" {
			o.Flag = flag
			opts.Overrides = append(opts.Overrides, o)
		}
	}
	cfg, err := service.LoadConfig(ctx, opts, where.State, secrets)
	if cfg.Loaded != nil {
		a.redactor.Add(cfg.Loaded.Secrets()...)
	}
	if err != nil {
		return cfg, exitWith(exitConfig, err)
	}
	return cfg, nil
}

// fullConfig is config for a command that uploads.
func (a *app) fullConfig(ctx context.Context) (service.Config, error) {
	cfg, err := a.load(ctx, true)
	if err != nil {
		return cfg, err
	}
	if err := cfg.CanUpload(); err != nil {
		return cfg, exitWith(exitConfig, err)
	}
	return cfg, nil
}

// agent opens everything that uploading needs.
func (a *app) agent(ctx context.Context) (*service.Agent, error) {
	return a.agentWith(ctx, func(*service.Config) {})
}

// agentWith is agent with a configuration that change has changed.
func (a *app) agentWith(ctx context.Context, change func(*service.Config)) (*service.Agent, error) {
	cfg, err := a.fullConfig(ctx)
	if err != nil {
		var all config.Errors
		if errors.As(err, &all) && cfg.Loaded != nil && cfg.Loaded.Path == "" {
			defer a.hint("no configuration file was found; `capagent paths` says where it belongs, `capagent sandbox` runs without an account")
		}
		return nil, err
	}
	for _, text := range cfg.Loaded.Warnings {
		a.say("warning: %s", text)
	}
	change(&cfg)
	retrying := service.OneShot
	retrying.Patience = a.flags.wait
	return service.Open(ctx, cfg, version, service.NewGate(retrying), a.commandLogger(cfg))
}

// commandLogger says less than the daemon's: a person reads beside it.
func (a *app) commandLogger(cfg service.Config) zerolog.Logger {
	level := "warn"
	if configured, ok := cfg.LogLevel(); ok {
		level = configured.String()
	}
	log, _ := a.logger(level, cfg.Log.Format)
	return log
}

// openAgent is agent, or one to look around with, which neither needs a token nor
// writes anything.
func (a *app) openAgent(ctx context.Context, lookOnly bool) (*service.Agent, error) {
	if !lookOnly {
		return a.agent(ctx)
	}
	cfg, err := a.config(ctx)
	if err != nil {
		return nil, err
	}
	return service.OpenToLook(ctx, cfg, a.commandLogger(cfg))
}

// readLedger opens the ledger for looking only; nil when there is none yet.
func (a *app) readLedger(ctx context.Context, cfg service.Config) (*ledger.Ledger, error) {
	agent, err := service.OpenToLook(ctx, cfg, a.commandLogger(cfg))
	if err != nil {
		return nil, err
	}
	if agent.Ledger == nil {
		a.say("nothing was recorded yet in %s", quote.Path(agent.Config.StateDir()))
	}
	return agent.Ledger, nil
}

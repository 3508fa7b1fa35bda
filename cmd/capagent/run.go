package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"capagent/internal/confine"
	"capagent/internal/instance"
	"capagent/internal/ledger"
	"capagent/internal/paths"
	"capagent/service"
	"capagent/service/control"
	"capagent/service/daemon"
)

func (a *app) runCommand() *cobra.Command {
	grace := daemon.DefaultGrace
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Capture and watch folders, and upload what comes, until stopped",
		Long: `Run the agent in the foreground: capture from interfaces ([[capture]]), watch
folders ([[watch]]), record every completed capture file, and upload it. This is
what the system's service runs.

SIGTERM or Ctrl-C stops it: uploads under way get --grace to end, a second
signal ends it at once. SIGHUP reads the configuration again; when that is
wrong, the agent goes on with the last good one. SIGUSR1 ends the files that live
captures are writing, as capagent rotate does; SIGUSR2 releases the window of [policy],
as capagent trigger does.`,
		Example: "  capagent run\n  capagent run --config /etc/capagent/agent.toml --log-level debug",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.runDaemon(cmd.Context(), grace) },
	}
	cmd.Flags().DurationVar(&grace, "grace", grace, "let uploads go on for `DURATION` after the first signal")
	return cmd
}

func (a *app) runDaemon(ctx context.Context, grace time.Duration) error {
	cfg, err := a.fullConfig(ctx)
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil
	}
	if err != nil {
		return err
	}
	log, limiter := a.logger(cfg.Log.Level, cfg.Log.Format)
	limiting, stop := context.WithCancel(context.WithoutCancel(ctx))
	var limited sync.WaitGroup
	limited.Go(func() { limiter.Run(limiting) })
	defer func() { stop(); limited.Wait(); _ = limiter.Close() }()
	for _, text := range cfg.Loaded.Warnings {
		log.Warn().Str("class", "config").Msg(text)
	}
	hup, ignore := signals(reloadSignals)
	defer ignore()
	rotate, ignoreRotate := signals(rotateSignals)
	defer ignoreRotate()
	trigger, ignoreTrigger := signals(triggerSignals)
	defer ignoreTrigger()
	own, _ := paths.Default(a.configPath) // a user's own places can be unknown
	sockets := keepApart(ctx, log)
	opts := daemon.Options{
		Socket: sockets.socket(), Confine: a.confine(ctx, cfg),
		Config: cfg, Load: a.fullConfig, Version: version, Log: log, Grace: grace,
		Ready: a.ready, Stopping: func() { notify("STOPPING=1") },
		Told:  func(text string) { notify("STATUS=" + text) },
		Alive: func() { notify("WATCHDOG=1") }, Watchdog: watchdog(),
		Reload: hup, Rotate: rotate, Trigger: trigger, System: systemName(), Control: control.Place(cfg.Control, cfg.StateDir(), own), Redactor: a.redactor,
	}
	err = sockets.during(ctx, func(ctx context.Context) error { return daemon.Run(ctx, opts) })
	var taken *instance.TakenError
	if errors.As(err, &taken) {
		a.hint("%s", "stop that one first, or give this one its own state_dir")
	}
	if errors.Is(err, ledger.ErrNewer) { // trying again makes it no older
		a.hint("%s", "install that version again; install.md among the documents says how to go back to an older one")
		return exitWith(exitConfig, fmt.Errorf("run: %w", err))
	}
	if errors.Is(err, context.Canceled) {
		return nil // told to stop while it was starting: that is no failure
	}
	if err != nil {
		return fmt.Errorf("run: %w", err)
	}
	return nil
}

// confine returns how this process confines itself, or says why it does not.
func (a *app) confine(ctx context.Context, cfg service.Config) func(confine.Bounds) confine.State {
	why := ""
	if !cfg.Agent.Confine {
		why = "[agent] confine is false"
	} else if what := cfg.Program(ctx); what != "" {
		why = "a program is to be started while the agent runs, by " + what
	}
	if why == "" {
		return confine.Self
	}
	return func(confine.Bounds) confine.State { return confine.State{Writable: []string{}, Reason: why} }
}

// signals passes these signals on until stop is called. None are none: to
// signal.Notify they would be all.
func signals(these []os.Signal) (passed <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 1)
	if len(these) > 0 {
		signal.Notify(c, these...)
	}
	return c, func() { signal.Stop(c) }
}

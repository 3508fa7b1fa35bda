package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	system "github.com/kardianos/service"
	"github.com/spf13/cobra"

	"capagent/internal/failure"
	"capagent/service"
)

// serviceName is what the service is called by every manager.
const serviceName = "capagent"

func (a *app) serviceCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "service",
		Short: "Install, start and stop the agent as a service of the system",
		Long: `Have the system run the agent: systemd, the Windows service manager, or launchd. What
is installed runs this very program, with --config where that is given. Where a package
brought the service, its own commands do all this (systemctl enable --now capagent).`,
	}
	add := func(use, short string, do func(ctx context.Context) error) {
		cmd.AddCommand(&cobra.Command{Use: use, Short: short, Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error { return do(cmd.Context()) }})
	}
	add("install", "Have the system start the agent from its next start on", a.installService)
	add("uninstall", "Stop that; state and configuration stay", a.steer("uninstalled", uninstallService))
	add("start", "Start the service now", a.steer("started", system.Service.Start))
	add("stop", "Stop the service now; what is captured is sealed and recorded first", a.steer("stopped", system.Service.Stop))
	add("status", "Say what the service manager says; 69 when it does not run", a.serviceStatus)
	cmd.AddCommand(a.serviceCommands()...)
	return cmd
}

// managers are those that the service is made for.
var managers = map[string]string{"linux-systemd": "systemd", "windows-service": "the Windows service manager", "darwin-launchd": "launchd"}

// idle is the service itself to who only manages it.
type idle struct{}

func (idle) Start(system.Service) error { return nil }
func (idle) Stop(system.Service) error  { return nil }

// managed returns the service for its manager.
func (a *app) managed(change func(*system.Config)) (system.Service, error) {
	if managers[system.Platform()] == "" {
		return nil, &failure.Error{
			Kind: failure.Permanent, Class: "no_manager", Hint: "have the system's own means run `capagent run`, and stop it by SIGTERM",
			Err: fmt.Errorf("service: neither systemd nor launchd nor Windows runs this machine (%s)", orDash(system.Platform())),
		}
	}
	args, err := a.serviceArguments()
	if err != nil {
		return nil, err
	}
	cfg := &system.Config{
		Name: serviceName, DisplayName: serviceName, Description: "Packet captures to CloudShark", Arguments: args,
		Option: system.KeyValue{
			"RunAtLoad": true, "LogOutput": true, // launchd
			// Windows restarts what crashed; see service_windows.go for what that is.
			"OnFailure": "restart", "OnFailureDelayDuration": "10s", "OnFailureResetPeriod": 24 * 60 * 60,
		},
	}
	if change != nil {
		change(cfg)
	}
	return system.New(idle{}, cfg)
}

// serviceArguments are those of the process that the manager starts.
func (a *app) serviceArguments() ([]string, error) {
	args := []string{"run"}
	if runtime.GOOS == "windows" {
		args = []string{"service", "run"}
	}
	if a.configPath == "" {
		return args, nil
	}
	path, err := filepath.Abs(a.configPath)
	return append([]string{"--config", path}, args...), err
}

func (a *app) installService(ctx context.Context) error {
	if err := mustManage(); err != nil {
		return err
	}
	var change func(*system.Config)
	if system.Platform() == "linux-systemd" {
		unit, err := a.unit(ctx)
		if err != nil {
			return err
		}
		change = func(c *system.Config) { c.Option["SystemdScript"] = unit }
	}
	s, err := a.managed(change)
	if err != nil {
		return err
	}
	if err := s.Install(); err != nil {
		return serviceError("install", err)
	}
	if err := a.afterInstall(); err != nil {
		return serviceError("install", err)
	}
	if cfg, wrong := a.fullConfig(ctx); wrong != nil {
		a.hint("the configuration is not right yet; `capagent doctor` says what is missing")
	} else if len(cfg.Watch)+len(cfg.Capture) == 0 {
		a.hint("the configuration has neither a [[capture]] nor a [[watch]]")
	}
	return a.managedTo("installed", "it starts with the system; now: capagent service start")
}

// steer is a command that needs nothing but the manager.
func (a *app) steer(done string, do func(system.Service) error) func(context.Context) error {
	return func(context.Context) error {
		if err := mustManage(); err != nil {
			return err
		}
		s, err := a.managed(nil)
		if err != nil {
			return err
		}
		if err := do(s); err != nil {
			return serviceError("service", err)
		}
		return a.managedTo(done, "")
	}
}

func (a *app) managedTo(done, next string) error {
	if a.json {
		return a.encode(map[string]string{"service": serviceName, "manager": managers[system.Platform()], "did": done})
	}
	if !a.quiet {
		fmt.Fprintf(a.stdout, "%s: %s\n", serviceName, done)
		if next != "" {
			a.say("%s", next)
		}
	}
	return nil
}

// uninstallService ends the service and takes it away. What a package brought is the
// package's to take away.
func uninstallService(s system.Service) error {
	if system.Platform() == "linux-systemd" && installedUnit(ownUnits) == "" {
		if at := installedUnit(packagedUnits); at != "" {
			return &failure.Error{
				Kind: failure.Permanent, Class: "service", Hint: "sudo systemctl disable --now " + serviceName + ", or remove the package",
				Err: fmt.Errorf("a package brought it: %s", at),
			}
		}
		return system.ErrNotInstalled
	}
	if found, err := s.Status(); err == nil && found == system.StatusRunning {
		if err := s.Stop(); err != nil {
			return err
		}
	}
	return s.Uninstall()
}

// mustManage refuses at once what the manager would refuse in words of its own.
func mustManage() error {
	if runtime.GOOS == "windows" || os.Geteuid() == 0 {
		return nil
	}
	return exitWith(exitPermission, errors.New("service: only root may do that; put sudo in front"))
}

func serviceError(op string, err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return exitWith(exitPermission, fmt.Errorf("%s: %w; run it as administrator", op, err))
	}
	return fmt.Errorf("%s: %w", op, err)
}

func (a *app) serviceStatus(context.Context) error {
	s, err := a.managed(nil)
	if err != nil {
		return exitWith(exitUnavailable, err)
	}
	found, err := s.Status()
	state := "unknown"
	switch {
	case errors.Is(err, system.ErrNotInstalled):
		state = "not installed"
	case err != nil && found == system.StatusUnknown && system.Platform() == "linux-systemd":
		state = "failed"
	case found == system.StatusRunning:
		state = "running"
	case found == system.StatusStopped:
		state = "stopped"
	}
	if a.json {
		err = a.encode(map[string]string{"service": serviceName, "manager": managers[system.Platform()], "state": state})
	} else {
		_, err = fmt.Fprintf(a.stdout, "%s: %s, says %s\n", serviceName, state, managers[system.Platform()])
	}
	if err == nil && state != "running" {
		return exitWith(exitUnavailable, nil)
	}
	return err
}

// ready tells who started the agent that it does its work.
func (a *app) ready() {
	notify("READY=1")
	if a.onReady != nil {
		a.onReady()
	}
}

// logFiles are those that an agent which runs as a service logs to, the older first.
func logFiles(cfg service.Config) []string {
	switch runtime.GOOS {
	case "windows":
		name := filepath.Join(cfg.StateDir(), serviceLog)
		return []string{name + ".1", name}
	case "darwin":
		return []string{"/var/log/" + serviceName + ".err.log"}
	}
	return nil
}

// serviceLog is where the Windows service logs to, in the state directory.
const serviceLog = "agent.log"

// unit is the text of the systemd unit, where one may be installed.
func (a *app) unit(ctx context.Context) (string, error) {
	refuse := func(hint, format string, args ...any) (string, error) {
		return "", &failure.Error{Kind: failure.Permanent, Class: "service", Hint: hint, Err: fmt.Errorf("install: "+format, args...)}
	}
	if at := installedUnit(packagedUnits); at != "" {
		return refuse("sudo systemctl enable --now "+serviceName, "the package brought the service: %s", at)
	}
	if at := installedUnit(ownUnits); at != "" {
		return refuse("capagent service uninstall first, or change it: sudo systemctl edit "+serviceName, "it is installed already: %s", at)
	}
	if !userExists(serviceUser) {
		return refuse("sudo useradd --system --home-dir /var/lib/capagent --shell /usr/sbin/nologin "+serviceUser,
			"there is no user %s for it to run as", serviceUser)
	}
	program, err := os.Executable()
	if err != nil {
		return "", err
	}
	args, err := a.serviceArguments()
	if err != nil {
		return "", err
	}
	cfg, _ := a.config(ctx) // of a wrong one, what was right
	text, err := unitText(program, args, writes(cfg))
	if err != nil {
		return refuse("", "%w", err)
	}
	return text, nil
}

// writes lists what the agent writes besides what systemd makes for it.
func writes(cfg service.Config) []string {
	var dirs []string
	if dir := cfg.StateDir(); dir != "" && dir != "/var/lib/capagent" && cfg.Loaded != nil {
		dirs = append(dirs, dir)
	}
	for _, w := range cfg.Watch {
		if w.After == "keep" {
			continue
		}
		dirs = append(dirs, w.Path)
		if w.After == "move" {
			dirs = append(dirs, w.MoveDir())
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

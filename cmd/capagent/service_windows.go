package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"time"

	system "github.com/kardianos/service"
	"github.com/spf13/cobra"
	"golang.org/x/sys/windows/svc"

	"capagent/capture/live"
)

// serviceGrace is how long uploads may go on after a stop. The manager is told all the
// while that it goes on; where it has no patience, as when the machine goes down, what
// was captured is sealed by then: that comes first.
const serviceGrace = 15 * time.Second

// preshutdownTime is how long a stop takes at most.
const preshutdownTime = serviceGrace + 20*time.Second

// serviceRunCommand is what the manager starts. That a process is a service can't be
// told for certain (Wine says it is none), so it is said.
func (a *app) serviceRunCommand() *cobra.Command {
	return &cobra.Command{
		Use: "run", Short: "What the service manager starts", Hidden: true, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.serve(cmd.Context()) },
	}
}

func (a *app) serve(ctx context.Context) error {
	told := a.eventLog()
	return svc.Run(serviceName, &underSCM{
		told: told, tick: 2 * time.Second, crash: os.Exit,
		work: func(ready func()) func(context.Context) error {
			a.onReady = ready
			return func(ctx context.Context) error { return a.serviceRun(ctx, told) }
		},
		ctx: ctx,
	})
}

// serviceRun is the agent as the service, with a log file of its own.
func (a *app) serviceRun(ctx context.Context, told func(bool, string)) error {
	cfg, _ := a.config(ctx) // of a wrong one, what was right
	if err := makeRoom(cfg.StateDir()); err != nil {
		return exitWith(exitPermission, err)
	}
	if dir := cfg.StateDir(); dir != "" {
		log := &rolling{path: filepath.Join(dir, serviceLog), most: 10 << 20}
		defer func() { _ = log.Close() }() // each line is written as it comes
		a.stderr, a.onTerminal = masked{log, a.redactor}, false
	}
	if len(cfg.Capture) > 0 {
		if err := live.Ready(); err != nil {
			text := fmt.Sprintf("live captures can't run under the service's account (%s): %v; watched folders go on", accountName(), err)
			told(true, text)
			a.say("%s", text)
		}
	}
	return a.runDaemon(ctx, serviceGrace)
}

// accountName is the account that this process runs under.
func accountName() string {
	u, err := user.Current()
	if err != nil {
		return "unknown"
	}
	return u.Username
}

// eventLog returns what writes a line to the Event Log, as far as there is one.
func (a *app) eventLog() func(wrong bool, text string) {
	s, err := a.managed(nil)
	if err != nil {
		return func(bool, string) {}
	}
	events, err := s.SystemLogger(nil)
	if err != nil {
		return func(bool, string) {}
	}
	return func(wrong bool, text string) { tellEvents(events, wrong, a.redactor.String(text)) }
}

// tellEvents writes to the Event Log, which may refuse.
func tellEvents(events system.Logger, wrong bool, text string) {
	if wrong {
		_ = events.Error(text)
		return
	}
	_ = events.Info(text)
}

// underSCM is the agent as the service manager sees it.
type underSCM struct {
	ctx   context.Context
	work  func(ready func()) func(context.Context) error
	told  func(wrong bool, text string)
	tick  time.Duration
	crash func(code int)
}

// A service that takes PRESHUTDOWN hears of a shutdown while network and disks still
// work, and has preshutdownTime for its end.
const accepted = svc.AcceptStop | svc.AcceptShutdown | svc.AcceptPreShutdown

// Execute implements svc.Handler. The manager hears of each step within its time: a
// state that lasts is told again and again, each time with another check point.
func (u *underSCM) Execute(_ []string, requests <-chan svc.ChangeRequest, changes chan<- svc.Status) (bool, uint32) {
	ctx, stop := context.WithCancel(u.ctx)
	defer stop()
	started, ended := make(chan struct{}), make(chan error, 1)
	work := u.work(func() { close(started) })
	now := svc.Status{State: svc.StartPending, WaitHint: uint32(10 * u.tick / time.Millisecond)}
	changes <- now
	ready := started // nil once that is no news any more
	go func() { ended <- work(ctx) }()
	tick := time.NewTicker(u.tick)
	defer tick.Stop()
	for {
		select {
		case <-ready:
			ready = nil
			now = svc.Status{State: svc.Running, Accepts: accepted}
			changes <- now
			u.told(false, "capagent "+version+" runs")
		case err := <-ended:
			return u.ended(err, now.State == svc.StopPending)
		case r := <-requests:
			switch r.Cmd {
			case svc.Interrogate:
				changes <- r.CurrentStatus
			case svc.Stop, svc.Shutdown, svc.PreShutdown:
				if now.State == svc.StopPending {
					continue // a stop, and then the machine's end
				}
				ready = nil
				stop()
				now = svc.Status{State: svc.StopPending, CheckPoint: 1, WaitHint: uint32(preshutdownTime / time.Millisecond)}
				changes <- now
			}
		case <-tick.C:
			if now.State != svc.Running {
				now.CheckPoint++
				changes <- now
			}
		}
	}
}

// ended says how the agent ended. Recovery actions are for crashes, so what may go
// better the next time is one; a wrong configuration or a missing right is none.
func (u *underSCM) ended(err error, asked bool) (bool, uint32) {
	if err == nil || asked && errors.Is(err, context.Canceled) {
		u.told(false, "capagent ended")
		return false, 0
	}
	code := exitCode(err)
	u.told(true, fmt.Sprintf("capagent failed: %v", err))
	switch code {
	case exitUsage, exitPermission, exitConfig:
	default:
		u.crash(code)
	}
	return true, uint32(code)
}

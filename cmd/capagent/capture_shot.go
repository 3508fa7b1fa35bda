package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"capagent/capture"
	"capagent/capture/live"
	"capagent/internal/pcapio"
	"capagent/internal/quote"
	"capagent/rotate"
	"capagent/rotate/pcapfile"
	"capagent/service"
	"capagent/service/capturing"
	"capagent/upload"
)

// shot is one run of `capture`.
type shot struct {
	*app
	opts     captureOptions
	format   pcapio.Format
	agent    *service.Agent // nil: nothing is uploaded
	child    *child         // nil: no command
	keys     *keylog        // nil: no key log
	presses  *presses
	happened events
	flows    capture.Flows // the stream's own connection
	session  string        // the name of what is streamed; "": nothing is

	spooled *rotate.Single // nil: the file is the user's
	path    string         // of the file
	ended   atomic.Bool    // Ctrl-C was pressed again: nothing is sent any more
	result  capturing.Result
	view    service.View
	advice  string // what to do about what went wrong
}

func (a *app) capture(ctx context.Context, opts captureOptions) error {
	format, err := opts.check()
	if err != nil {
		return err
	}
	s := &shot{app: a, opts: opts, format: format}
	if opts.keylog != "" {
		if s.keys, err = a.openKeylog(opts.keylog, len(opts.command) > 0); err != nil {
			return err
		}
		defer s.keys.tidy()
	}
	if len(opts.command) > 0 {
		if err := s.prepareCommand(); err != nil {
			return err
		}
	}
	if !opts.noUpload {
		if err := s.prepareUpload(ctx); err != nil {
			return err
		}
		defer s.agent.Close()
	}
	if len(opts.interfaces) == 0 {
		if s.opts.interfaces, err = a.bestInterface(); err != nil {
			return err
		}
	}
	s.presses = catchPresses()
	defer s.presses.close()
	began, failed := s.take(ctx)
	if !began {
		return failed
	}
	return s.finish(ctx, failed)
}

// prepareCommand finds the command and gives it standard output.
func (s *shot) prepareCommand() (err error) {
	var env []string
	if s.keys != nil {
		env = s.keys.env()
	}
	if s.child, err = s.newChild(s.opts.command, env); err != nil {
		return err
	}
	s.stdout, s.noProgress = s.stderr, true
	return nil
}

// take captures. began is false when it did not come to that.
func (s *shot) take(ctx context.Context) (began bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	// Ctrl-C ends the capture, not the command: the file is completed. While a
	// command runs, its end is what counts.
	open := ctx
	if s.child != nil {
		open = context.WithoutCancel(ctx)
	}
	on, stop := context.WithCancel(open)
	defer stop()
	options := capture.Options{
		Interfaces: s.opts.interfaces, Filter: s.opts.filter, SnapLen: s.opts.snapLen, NoPromisc: s.opts.noPromisc,
		Buffer: int64(s.opts.buffer), Fanout: s.opts.fanout,
		Event: func(e capture.Event) { s.happened.add(e); s.sayEvent(e) },
	}
	if s.opts.stream { // or it would capture what it sends
		options.Own = &s.flows
	}
	source, err := live.Open(on, options)
	if err != nil {
		return false, s.cannotCapture(s.opts, err)
	}
	defer func() { _ = source.Close() }() // everything that counts was read
	file, err := s.create()
	if err != nil {
		return false, hintReplace(err)
	}
	var over <-chan struct{}
	if s.child != nil {
		if err = ctx.Err(); err == nil {
			over, err = s.runCommand(on, stop)
		}
		if err != nil {
			_ = file.Close()
			if s.spooled == nil {
				_ = os.Remove(s.path) // made for nothing
			}
			return false, errors.Join(err, s.discard())
		}
	}
	if s.opts.duration > 0 {
		timer := time.AfterFunc(s.opts.duration, stop)
		defer timer.Stop()
	}
	s.stream()
	line := s.newLiveLine()
	o := capturing.Options{
		Source: source, Format: s.format, Tell: line.show,
		Limits:  capturing.Limits{Packets: s.opts.packets, Size: int64(s.opts.size)},
		Section: pcapio.Section{Application: "capagent " + version, OS: systemName(), Comment: strings.Join(s.opts.interfaces, ", ")},
	}
	if s.keys != nil {
		o.Secrets = s.keys.secrets
	}
	if s.opts.stream {
		o.Pulse = upload.Pulse
	}
	s.result, err = capturing.Into(file, o, s.happened.all)
	line.clear()
	if over != nil {
		<-over
	}
	return true, err
}

// create makes the file: the user's, or one in the spool.
func (s *shot) create() (file *os.File, err error) {
	if s.path = s.opts.write; s.path != "" {
		return pcapfile.Create(s.path, s.opts.replace)
	}
	s.spooled, file, err = rotate.NewSingle(spoolOf(s.agent), strings.Join(s.opts.interfaces, "-"), time.Now(), s.format)
	if err == nil {
		s.path = s.spooled.Part()
	}
	return file, err
}

// discard takes away a file of the spool; the user's own stays.
func (s *shot) discard() error {
	if s.session != "" {
		s.agent.Abandon(s.session)
	}
	if s.spooled == nil {
		return nil
	}
	s.path = ""
	return s.spooled.Remove()
}

// runCommand starts the command and ends the capture a moment after its end. over
// is closed when both have ended.
func (s *shot) runCommand(on context.Context, stop func()) (over <-chan struct{}, err error) {
	if err := s.child.start(); err != nil {
		return nil, err
	}
	pressed := 0
	s.presses.meant(func(sig os.Signal) {
		if pressed++; pressed == 1 {
			s.child.pass(sig)
			return
		}
		s.ended.Store(true)
		s.child.kill()
		stop()
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.child.wait()
		late := time.NewTimer(s.opts.linger)
		defer late.Stop()
		select {
		case <-late.C:
		case <-on.Done():
		}
		stop()
	}()
	return done, nil
}

// finish brings what was captured to where it belongs, and says so. failed is
// what ended the capture early.
func (s *shot) finish(ctx context.Context, failed error) error {
	s.sayCaptured()
	s.complain(failed)
	err := s.deliver(ctx, failed)
	s.complain(err)
	if s.advice != "" {
		s.hint("%s", s.advice)
	}
	if err == nil {
		err = failed
	}
	if printed := s.report(err); printed != nil {
		return printed
	}
	if s.agent != nil {
		s.salvage(context.WithoutCancel(ctx))
	}
	switch {
	case s.ended.Load():
		return exitWith(exitInterrupted, nil)
	case s.child != nil:
		return exitWith(s.child.status, nil)
	case failed != nil:
		return exitWith(exitCode(failed), nil)
	case err != nil:
		return exitWith(exitCode(err), nil)
	}
	return nil
}

// deliver uploads what there is.
func (s *shot) deliver(ctx context.Context, failed error) error {
	switch {
	case s.agent == nil && failed != nil && s.result.Packets > 0:
		s.advice = "what was captured before is in " + quote.Path(s.path)
		return nil
	case s.agent == nil:
		return nil
	case s.result.Packets == 0 && failed != nil:
		return s.discard()
	case s.result.Packets == 0:
		if err := s.discard(); err != nil {
			return err
		}
		s.advice = s.adviceOnNothing()
		return exitWith(exitFailed, errors.New("no packet was captured: there is nothing to upload"))
	case s.opts.onFailure && s.child.status == 0 && !s.ended.Load():
		s.say("the command went well: nothing is uploaded")
		return s.discard()
	}
	return s.upload(ctx)
}

func (s *shot) adviceOnNothing() string {
	names := quote.Text(strings.Join(s.opts.interfaces, ", "))
	if s.opts.filter != "" {
		return "nothing on " + names + " passed the filter; without -f everything is captured"
	}
	return "nothing came over " + names + "; `capagent interfaces` lists what there is"
}

// spoolOf is where the files of `capture` lie: apart from the agent's, since what
// a killed one left is queued by the next.
func spoolOf(agent *service.Agent) string { return filepath.Join(agent.Config.SpoolDir(), "once") }

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"

	"capagent/internal/quote"
)

// What a shell says of a command that it can't run.
const (
	exitNotRunnable = 126
	exitNoCommand   = 127
)

// child is the command that runs while packets are captured.
type child struct {
	cmd    *exec.Cmd
	status int // as a shell has it; valid after wait
}

// newChild finds the command. It gets the streams as they are, and env besides
// the environment.
func (a *app) newChild(args, env []string) (*child, error) {
	path, err := exec.LookPath(args[0])
	if err != nil {
		return nil, notStarted(args[0], err)
	}
	cmd := exec.Command(path, args[1:]...) //nolint:gosec,noctx // what the user asks for; Ctrl-C is its own business
	cmd.Args[0] = args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.stdin, plain(a.stdout), plain(a.stderr)
	cmd.Env = append(os.Environ(), env...)
	return &child{cmd: cmd}, nil
}

// plain is the stream itself where w only masks it: the command writes what it
// wants.
func plain(w io.Writer) io.Writer {
	if m, ok := w.(masked); ok {
		return m.w
	}
	return w
}

// notStarted gives the error of a command that can't be run a shell's exit code.
func notStarted(name string, err error) error {
	code := exitNotRunnable
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		code = exitNoCommand
	}
	var of *exec.Error
	var path *fs.PathError
	switch {
	case errors.As(err, &of):
		err = of.Err
	case errors.As(err, &path):
		err = path.Err
	}
	return exitWith(code, fmt.Errorf("run %s: %w", quote.Path(name), err))
}

func (c *child) start() error {
	if err := c.cmd.Start(); err != nil {
		return notStarted(c.cmd.Args[0], err)
	}
	return nil
}

// wait returns when the command has ended.
func (c *child) wait() {
	_ = c.cmd.Wait() // its status tells
	c.status = exitStatus(c.cmd.ProcessState)
}

// pass hands the command a signal that only we have got.
func (c *child) pass(s os.Signal) {
	if s != os.Interrupt || !fromTerminal() {
		_ = c.cmd.Process.Signal(s) // it may have ended
	}
}

func (c *child) kill() { _ = c.cmd.Process.Kill() }

// presses hands each Ctrl-C to whoever it is meant for at that time.
type presses struct {
	signals chan os.Signal
	done    sync.WaitGroup
	mu      sync.Mutex
	to      func(os.Signal)
}

func catchPresses() *presses {
	p := &presses{signals: make(chan os.Signal, 4), to: func(os.Signal) {}}
	signal.Notify(p.signals, os.Interrupt, syscall.SIGTERM)
	p.done.Go(func() {
		for s := range p.signals {
			p.mu.Lock()
			to := p.to
			p.mu.Unlock()
			to(s)
		}
	})
	return p
}

// meant says whom the next ones are for. It is called by one goroutine.
func (p *presses) meant(to func(os.Signal)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to = to
}

// release lets the next one end the process.
func (p *presses) release() { signal.Stop(p.signals) }

func (p *presses) close() {
	signal.Stop(p.signals)
	close(p.signals)
	p.done.Wait()
}

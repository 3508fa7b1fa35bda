//go:build linux

package faulttest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// keepLog bounds what is remembered of a child's log.
const keepLog = 256 << 10

// Process is a child whose log is read line by line.
type Process struct {
	cmd     *exec.Cmd
	Started time.Time

	mu      sync.Mutex
	log     []byte // the end of it
	lines   int64
	crash   string // the line that tells of a crash
	allglen uint64 // where the number of goroutines is
	ready   time.Time
	readyC  chan struct{} // closed at ready

	ended chan struct{} // closed when the child is gone and its log read
	err   error         // of Wait, once ended is closed
}

// Start runs cmd, whose Stderr is taken over.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, readyC: make(chan struct{}), ended: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = w
	p.Started = time.Now()
	err = cmd.Start()
	_ = w.Close() // the child has its own
	if err != nil {
		_ = r.Close()
		return nil, err
	}
	go func() {
		p.read(r)
		_ = r.Close()
		p.err = cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

func (p *Process) read(r io.Reader) {
	lines := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := lines.ReadSlice('\n')
		if len(line) > 0 {
			p.take(line)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

func (p *Process) take(line []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines++
	if over := len(p.log) + len(line) - keepLog; over > 0 && len(p.log) >= over {
		p.log = append(p.log[:0], p.log[over:]...)
	}
	p.log = append(p.log, line...)
	if p.crash == "" && isCrash(line) {
		p.crash = strings.TrimSpace(string(line))
	}
	if p.ready.IsZero() && bytes.Contains(line, []byte(`"ready"`)) {
		var said struct{ Message string }
		if json.Unmarshal(line, &said) == nil && said.Message == "ready" {
			p.ready = time.Now()
			close(p.readyC)
		}
	}
}

// isCrash knows the first lines by which the Go runtime says goodbye, and a
// panic that the agent caught.
func isCrash(line []byte) bool {
	for _, sign := range []string{"panic: ", "fatal error: ", "SIGSEGV", "runtime: "} {
		if bytes.HasPrefix(line, []byte(sign)) || bytes.Contains(line, []byte(`"message":"`+sign)) {
			return true
		}
	}
	return false
}

// PID is the child's process number.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Ready is closed when the child has logged that it is ready.
func (p *Process) Ready() <-chan struct{} { return p.readyC }

// ReadyAfter is the time from the start to the log line "ready", 0 without one.
func (p *Process) ReadyAfter() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ready.IsZero() {
		return 0
	}
	return p.ready.Sub(p.Started)
}

// WaitReady waits for the log line "ready".
func (p *Process) WaitReady(most time.Duration) error {
	select {
	case <-p.readyC:
		return nil
	case <-p.ended:
		return fmt.Errorf("ended before it was ready: %s", p.Ending())
	case <-time.After(most):
		return fmt.Errorf("not ready after %v\n%s", most, p.Log())
	}
}

// Ended is closed when the child is gone.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Kill ends the child with SIGKILL and waits.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may be gone
	<-p.ended
}

// Signal sends s.
func (p *Process) Signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// Stop asks the child to end. It is killed, and an error, when it hasn't after most.
func (p *Process) Stop(most time.Duration) error {
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
		return nil
	case <-time.After(most):
		p.Signal(syscall.SIGQUIT) // says where it is
		select {
		case <-p.ended:
		case <-time.After(2 * time.Second):
		}
		p.Kill()
		return fmt.Errorf("still there %v after SIGTERM\n%s", most, p.Log())
	}
}

// Freeze stops the child and waits until every thread of it stands still.
func (p *Process) Freeze(most time.Duration) error {
	p.Signal(syscall.SIGSTOP)
	for until := time.Now().Add(most); ; time.Sleep(200 * time.Microsecond) {
		still, err := standsStill(p.PID())
		if still || err != nil {
			return err
		}
		if time.Now().After(until) {
			return fmt.Errorf("threads run %v after SIGSTOP", most)
		}
	}
}

// standsStill says whether every thread of a process is stopped (or gone).
func standsStill(pid int) (bool, error) {
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return false, err
	}
	for _, t := range tasks {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/stat", pid, t.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, err
		}
		_, rest, _ := bytes.Cut(stat, []byte(") "))
		if len(rest) == 0 || !bytes.ContainsAny(rest[:1], "TtZX") {
			return false, nil
		}
	}
	return true, nil
}

// ExitCode is the child's, -1 while it runs or when a signal ended it.
func (p *Process) ExitCode() int {
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	default:
		return -1
	}
}

// Ending tells how the child ended, with the end of its log.
func (p *Process) Ending() string {
	select {
	case <-p.ended:
		return fmt.Sprintf("%v\n%s", p.cmd.ProcessState, p.Tail(60))
	default:
		return "it runs"
	}
}

// Log returns the end of what the child logged.
func (p *Process) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.log)
}

// Tail returns the last so many lines of what the child logged.
func (p *Process) Tail(n int) string {
	lines := strings.SplitAfter(p.Log(), "\n")
	return strings.Join(lines[max(0, len(lines)-n-1):], "")
}

// Lines counts the lines logged.
func (p *Process) Lines() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lines
}

// Crash returns the line by which the child told of a panic or a fatal error, or "".
func (p *Process) Crash() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.crash
}

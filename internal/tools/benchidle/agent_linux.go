package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"capagent/internal/faulttest"
	"capagent/internal/traffic"
)

// agent is one that runs.
type agent struct {
	*faulttest.Process
	way
	from, to reading
	most     memory // at any look
}

// startServer starts a sandbox, the agents' CloudShark, in their namespace.
func (b *bench) startServer(ctx context.Context) error {
	cmd := b.pair.Command(ctx, traffic.RX, b.capagent, "sandbox", "--json", "--dir", filepath.Join(b.dir, "sandbox"), "--listen", "127.0.0.1:0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if b.box, err = faulttest.Start(cmd); err != nil {
		return err
	}
	if err := json.NewDecoder(out).Decode(&b.server); err != nil {
		return fmt.Errorf("sandbox: %w: %s", err, b.box.Ending())
	}
	return nil
}

// start starts an agent as systemd would, which also wants to hear from it.
func (b *bench) start(ctx context.Context, how way) error {
	dir := filepath.Join(b.dir, how.folder)
	a := &faulttest.Agent{
		Program: b.capagent, Dir: dir, StateDir: filepath.Join(dir, "state"), Settle: 2 * time.Second,
		Watches: []faulttest.Watch{{Path: filepath.Join(dir, "watched"), After: "keep"}},
	}
	if how.capture {
		a.Tail = fmt.Sprintf("[[capture]]\nname = \"lan\"\ninterface = %q\n", traffic.RX.Interface())
	}
	token, err := os.ReadFile(b.server.TokenFile)
	if err != nil {
		return err
	}
	own := filepath.Join(dir, "token")
	if err := a.Configure(b.server.URL, own); err != nil {
		return err
	}
	if err := os.WriteFile(own, token, 0o600); err != nil {
		return err
	}
	if len(how.command) > 0 {
		if err := giveAway(dir); err != nil {
			return err
		}
	}
	args := slices.Concat(how.command, []string{b.capagent, "--config", a.Config(), "run"})
	cmd := b.pair.Command(ctx, traffic.RX, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "HOME="+dir, "NOTIFY_SOCKET="+b.notify.path, "WATCHDOG_USEC=60000000")
	run, err := faulttest.Start(cmd)
	if err != nil {
		return err
	}
	b.agents = append(b.agents, &agent{Process: run, way: how})
	if err := run.WaitReady(b.startsWithin); err != nil {
		return err
	}
	if how.capture {
		return waitCapturing(ctx, run, b.startsWithin)
	}
	return nil
}

func waitCapturing(ctx context.Context, run *faulttest.Process, most time.Duration) error {
	limit := time.After(most)
	for !strings.Contains(run.Log(), `"message":"capturing"`) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-limit:
			return fmt.Errorf("it does not capture: %s", run.Tail(5))
		case <-run.Ended():
			return fmt.Errorf("ended: %s", run.Ending())
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// giveAway makes a folder and all in it nobody's.
func giveAway(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, nobody, nobody)
	})
}

// listener takes what agents tell systemd.
type listener struct {
	path string
	conn *net.UnixConn
	done chan struct{}
}

func listen(path string) (*listener, error) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	l := &listener{path: path, conn: conn, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		for buf := make([]byte, 4096); ; {
			if _, err := conn.Read(buf); err != nil {
				return
			}
		}
	}()
	return l, os.Chmod(path, 0o777) // any user's agent writes to it
}

func (l *listener) close() {
	_ = l.conn.Close()
	<-l.done
}

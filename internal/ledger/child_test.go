package ledger

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Tests run this test binary again as another process: children[mode] with the
// path of a ledger that newPath named, and arguments. A child says what it did on stdout, a line each.
var children = map[string]func(path string, args []string) error{
	"claim":  childClaim,
	"write":  childWrite,
	"finish": childFinish,
	"once":   childOnce,
	"sight":  childSight,
	"act":    childAct,
}

func TestMain(m *testing.M) {
	mode := os.Getenv("CAPAGENT_TEST_CHILD")
	if mode == "" {
		os.Exit(m.Run())
	}
	if err := children[mode](filepath.Join("state", "ledger.db"), os.Args[1:]); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

type child struct {
	t     testing.TB
	cmd   *exec.Cmd
	lines *bufio.Scanner
	ended bool
}

func start(t testing.TB, mode, path string, args ...string) *child {
	t.Helper()
	self, err := os.Executable()
	ok(t, err)
	cmd := exec.Command(self, args...)
	cmd.Dir = filepath.Dir(filepath.Dir(path)) // of a path that newPath made
	cmd.Env = append(os.Environ(), "CAPAGENT_TEST_CHILD="+mode)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	ok(t, err)
	ok(t, cmd.Start())
	c := &child{t: t, cmd: cmd, lines: bufio.NewScanner(out)}
	t.Cleanup(func() {
		if !c.ended {
			c.kill()
		}
	})
	return c
}

// line waits for the child's next line; false at its end.
func (c *child) line() (string, bool) {
	c.t.Helper()
	if !c.lines.Scan() {
		return "", false
	}
	if text := c.lines.Text(); strings.HasPrefix(text, "error:") {
		c.t.Fatal("child: ", text)
	}
	return c.lines.Text(), true
}

// kill ends the child with SIGKILL and waits for it.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	c.wait()
}

// killSoon sends SIGKILL at some moment of the next commits.
func (c *child) killSoon() {
	time.AfterFunc(time.Duration(rand.IntN(2000))*time.Microsecond, func() { _ = c.cmd.Process.Kill() })
}

func (c *child) wait() {
	c.ended = true
	_ = c.cmd.Wait()
}

// childClaim claims a step and then waits to be killed, or for stdin's end.
func childClaim(path string, args []string) error {
	ctx := context.Background()
	l, err := Open(ctx, path, Options{})
	if err != nil {
		return err
	}
	id, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil {
		return err
	}
	b, err := l.Begin(ctx, id, args[1])
	if err != nil {
		return err
	}
	fmt.Println(b.Outcome, b.Restarted, b.Attempt)
	<-time.After(time.Minute) // the test kills it long before
	return nil
}

// childWrite registers captures for ever and says each number once it is
// recorded.
func childWrite(path string, args []string) error {
	ctx := context.Background()
	fmt.Println("started")
	l, err := Open(ctx, path, Options{})
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		name := fmt.Sprintf("/%s/%d", args[0], i)
		r, err := l.Register(ctx, []Found{found(name, name)})
		if err != nil {
			return err
		}
		fmt.Println(r[0].ID, name)
	}
}

// childFinish claims and finishes the queued captures one after another, for
// ever, and says each.
func childFinish(path string, _ []string) error {
	ctx := context.Background()
	l, err := Open(ctx, path, Options{})
	if err != nil {
		return err
	}
	for c, err := range l.List(ctx, Filter{States: []State{Queued}}) {
		if err != nil {
			return err
		}
		b, err := l.Begin(ctx, c.ID, "cloudshark")
		if err != nil {
			return err
		}
		fmt.Println("begun", c.ID, b.Restarted)
		if err := l.Finish(ctx, c.ID, "cloudshark", Result{SessionID: fmt.Sprintf("%012x", c.ID)}, Done); err != nil {
			return err
		}
		fmt.Println("done", c.ID)
	}
	return nil
}

// childOnce tries to claim every capture and says which it got.
func childOnce(path string, _ []string) error {
	ctx := context.Background()
	l, err := Open(ctx, path, Options{})
	if err != nil {
		return err
	}
	for c, err := range l.List(ctx, Filter{}) {
		if err != nil {
			return err
		}
		b, err := l.Begin(ctx, c.ID, "cloudshark")
		if err != nil {
			return err
		}
		if b.Outcome == Claimed {
			fmt.Println(c.ID, b.Restarted)
			if err := l.Finish(ctx, c.ID, "cloudshark", Result{}, Done); err != nil {
				return err
			}
		}
	}
	return l.Close()
}

// childSight records sightings for ever, of captures from a number on, and says
// each capture once it is recorded.
func childSight(path string, args []string) error {
	ctx := context.Background()
	fmt.Println("started")
	l, err := Open(ctx, path, Options{})
	if err != nil {
		return err
	}
	first, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil {
		return err
	}
	for id := first; ; id++ {
		s := []Sighting{sighting("host", "everywhere.example.com", 1, 1), sighting("host", fmt.Sprintf("h%d.example.com", id), 1, 1)}
		for i := range 40 {
			s = append(s, sighting("file", fmt.Sprintf("%032x", id*1000+int64(i)), 1, 1))
		}
		if err := l.Sight(ctx, id, s); err != nil {
			return err
		}
		fmt.Println(id)
	}
}

//go:build linux

package crash

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"capagent/internal/faulttest"
)

// world is all that one case has: a sandbox, a folder, a state.
type world struct {
	life    life
	dir     string
	remove  func()
	sandbox *faulttest.Sandbox
	agent   *faulttest.Agent
	feeder  *faulttest.Feeder
	stdin   []byte
	acked   bool // the program said that it has the capture
	crash   string
	log     bytes.Buffer
}

func newWorld(bin string, l life, seed uint64) (*world, error) {
	dir, remove, err := memory()
	if err != nil {
		return nil, err
	}
	w := &world{life: l, dir: dir, remove: remove}
	if w.sandbox, err = faulttest.StartSandbox(context.Background(), bin, filepath.Join(dir, "sandbox")); err != nil {
		remove()
		return nil, err
	}
	if err := w.prepare(bin, seed); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *world) prepare(bin string, seed uint64) (err error) {
	watch := faulttest.Watch{Path: filepath.Join(w.dir, "watch"), After: "keep"}
	var watches []faulttest.Watch
	if w.life.after != "" {
		watch.After = w.life.after
		if watch.After == "move" {
			watch.To = filepath.Join(w.dir, "sent")
		}
		watches = append(watches, watch)
	}
	if err := os.MkdirAll(watch.Path, 0o700); err != nil {
		return err
	}
	if w.agent, err = faulttest.NewAgent(bin, filepath.Join(w.dir, "agent"), w.sandbox, watches...); err != nil {
		return err
	}
	w.feeder = faulttest.NewFeeder(watch, w.dir, seed)
	if w.life.stdin {
		w.stdin = faulttest.Capture(seed, 3000)
		return nil
	}
	w.feeder.Drop(faulttest.Closed)
	return w.feeder.Wait()
}

func (w *world) close() {
	w.sandbox.Stop()
	w.remove()
}

// live runs the life once under hook. A daemon is asked to end when nothing is
// left to do; who is not getting on is asked to when patience is over.
func (w *world) live(hook func(p point) faulttest.Action, patience time.Duration) error {
	args := w.life.args
	if w.life.name == "import" {
		args = append(slices.Clone(args), filepath.Join(w.dir, "watch"))
	}
	cmd := w.agent.Command(context.Background(), args...)
	if w.life.stdin {
		cmd.Stdin = bytes.NewReader(w.stdin)
	}
	counts := map[point]int{}
	h, err := faulttest.StartHooked(cmd, func(c faulttest.Call) faulttest.Action {
		p := point{call: c.Name, path: w.kindOf(c.Path)}
		counts[p]++
		p.n = counts[p]
		return hook(p)
	})
	if err != nil {
		return err
	}
	w.waitFor(h.Process, patience)
	if err := h.Stop(10 * time.Second); err != nil {
		w.crash = err.Error()
	}
	if err := h.Wait(); err != nil {
		return err
	}
	if w.crash == "" {
		w.crash = h.Crash()
	}
	w.acked = w.life.stdin && (h.ExitCode() == 0 || h.ExitCode() == 75)
	fmt.Fprintln(&w.log, h.Ending())
	return nil
}

// waitFor waits until the process is gone, or is a daemon that has nothing left
// to do.
func (w *world) waitFor(p *faulttest.Process, most time.Duration) {
	limit := time.After(most)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	ready := false
	for {
		select {
		case <-p.Ended():
			return
		case <-limit:
			return
		case <-p.Ready():
			ready = true
			<-tick.C
		case <-tick.C:
		}
		if ready && w.life.after != "" {
			if done, err := faulttest.Settled(context.Background(), w.agent, w.sandbox, w.feeder); done || err != nil {
				return
			}
		}
	}
}

// variable are the parts of paths that are made up: numbers, and the folder in
// which the control socket is made.
var variable = regexp.MustCompile(`\.c[0-9a-f]+|[0-9a-f]{8,}|[0-9]+`)

// kindOf tells paths apart by what they are, not by the random part of their name.
func (w *world) kindOf(path string) string {
	if rest, ok := strings.CutPrefix(path, w.dir); ok {
		path = rest
	}
	return variable.ReplaceAllString(path, "#")
}

// judge has an undisturbed run finish the work and looks at what there is.
func (w *world) judge() error {
	var problems []string
	if w.crash != "" {
		problems = append(problems, "the disturbed run: "+w.crash)
	}
	for _, args := range w.healing() {
		p, err := faulttest.Start(w.agent.Command(context.Background(), args...))
		if err != nil {
			return err
		}
		w.waitFor(p, 20*time.Second)
		if err := p.Stop(10 * time.Second); err != nil {
			problems = append(problems, err.Error())
		}
		if p.ExitCode() != 0 {
			problems = append(problems, fmt.Sprintf("%v ended with %d", args, p.ExitCode()))
		}
		fmt.Fprintf(&w.log, "--- %v\n%s\n", args, p.Ending())
	}
	v := &faulttest.Verdict{}
	if w.life.stdin {
		w.judgeStdin(v)
	} else {
		v = faulttest.Judge(context.Background(), w.agent, w.sandbox, w.feeder)
	}
	v.Broken = append(v.Broken, problems...)
	if v.OK() {
		return nil
	}
	return fmt.Errorf("%v\nthe log of the disturbed run, then of the last:\n%s", v, w.log.String())
}

// healing are the commands that a person would run after the fault.
func (w *world) healing() [][]string {
	retry := []string{"retry", "--all"}
	switch {
	case w.life.name == "import":
		return [][]string{{"import", "--quiet", filepath.Join(w.dir, "watch")}}
	case w.life.stdin:
		return [][]string{retry}
	default:
		return [][]string{{"run"}}
	}
}

// judgeStdin wants one session of a capture that was acknowledged and at most
// one of another.
func (w *world) judgeStdin(v *faulttest.Verdict) {
	sessions, err := w.sandbox.Sessions()
	if err != nil {
		v.Broken = append(v.Broken, err.Error())
	}
	v.Sessions = len(sessions)
	for _, s := range sessions {
		if s.SHA256 != faulttest.Sum(w.stdin) {
			v.Stray = append(v.Stray, s.Filename)
		}
	}
	if len(sessions) > 1 {
		v.Twice = append(v.Twice, fmt.Sprint(sessions))
	}
	if len(sessions) == 0 && w.acked {
		v.Lost = append(v.Lost, "acknowledged, and in no session")
	}
}

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"capagent/capture/live"
	"capagent/capture/watch"
	"capagent/internal/quote"
	"capagent/service"
	"capagent/service/control"
)

// captures has a job for each [[capture]].
func (x *examination) captures() []job {
	var jobs []job
	for i := range x.Config.Capture {
		one := &x.Config.Capture[i]
		c := about(fmt.Sprintf("capture[%d]", i), "capture "+quote.Text(one.Label()))
		jobs = append(jobs, job{c.ID, c.Title, func(ctx context.Context) []Check { return []Check{x.capture(ctx, c, one)} }})
	}
	return jobs
}

func (x *examination) capture(ctx context.Context, c Check, cfg *service.CaptureConfig) Check {
	if a, ok := capturing(x.running(ctx), cfg.Label()); ok && a.State == control.Capturing && a.Problem == nil {
		if a.Dropped+a.Lost > 0 {
			return c.warn("give it more memory ([[capture]] buffer) or a narrower filter, or see whether the disk keeps up",
				"the agent captures from %s; %d packets dropped by the kernel, %d lost at the disk", cfg.Interface, a.Dropped, a.Lost)
		}
		return c.ok("the agent captures from %s", strings.Join(a.Interfaces, ", "))
	}
	all, err := x.interfaces()
	if err != nil {
		return c.fail(Failed, "capagent interfaces", "%v", err)
	}
	var idle []string
	for _, name := range cfg.Interfaces() {
		found, err := live.Find(all, name)
		switch {
		case errors.Is(err, live.ErrNoInterface):
			return c.fail(Configuration, "set [[capture]] interface to one that `capagent interfaces` lists; one that comes later is taken up then", "%v", err)
		case err != nil:
			// The engine's own word has the remedy behind a semicolon.
			text, fix, ok := strings.Cut(err.Error(), "; ")
			if !ok {
				fix = captureRight()
			}
			return c.fail(Permission, fix, "%s: %s", name, text)
		case found.State() != "up":
			idle = append(idle, fmt.Sprintf("%s is %s", name, stateText(found.State())))
		}
	}
	if len(idle) > 0 {
		return c.warn(bringUp(cfg.Interfaces()[0]), "%s", strings.Join(idle, "\n"))
	}
	return c.ok("%s is up, and this user may capture from it", strings.Join(cfg.Interfaces(), ", "))
}

func stateText(state string) string {
	if state == "no link" {
		return "without a link"
	}
	return state
}

func captureRight() string {
	if runtime.GOOS == "windows" {
		return "install Npcap from https://npcap.com, or run it as administrator"
	}
	return asRoot("capagent doctor") + ", or give this user the right to capture"
}

func bringUp(name string) string {
	if runtime.GOOS == "linux" {
		return "sudo ip link set " + quote.Path(name) + " up, or see to its cable"
	}
	return "switch the interface on, or see to its cable"
}

// watches has a job for each [[watch]], and one for what the system allows of them.
func (x *examination) watches() []job {
	var jobs []job
	for i := range x.Config.Watch {
		w := &x.Config.Watch[i]
		c := about(fmt.Sprintf("watch[%d]", i), "folder "+quote.Path(w.Path))
		jobs = append(jobs, job{c.ID, c.Title, func(ctx context.Context) []Check { return []Check{x.watch(ctx, c, w)} }})
	}
	if len(jobs) > 0 {
		jobs = append(jobs, x.inotify()...)
	}
	return jobs
}

func (x *examination) watch(ctx context.Context, c Check, cfg *watch.Config) Check {
	if cfg.Path == "" {
		return c.skip("the configuration is wrong")
	}
	if w, ok := watching(x.running(ctx), cfg.Path); ok {
		if w.State == string(watch.Unavailable) {
			return c.fail(Permission, "let the agent's user read it, or mount it; it is taken up as soon as it can be read", "the agent can't read it: %s", quoted(w.Error))
		}
		if w.Error != nil {
			return c.warn("see the checks of inotify; files are found by the rescan meanwhile", "the agent scans it: %s", quoted(w.Error))
		}
		return c.ok("the agent watches it: %d files, %d pending", w.Files, w.Pending)
	}
	if class, fix, err := readable(cfg.Path); err != nil {
		return c.fail(class, fix, "%v", err)
	}
	if cfg.After != watch.AfterKeep {
		if err := mayWrite(cfg.Path); err != nil {
			return c.fail(Permission, fmt.Sprintf("let the agent's user write it, or set after = %q in this [[watch]]", watch.AfterKeep),
				"after = %q needs to remove files from it: %v", cfg.After, err)
		}
	}
	if cfg.After == watch.AfterMove {
		if above := existing(cfg.MoveDir()); mayWrite(above) != nil {
			return c.fail(Permission, "let the agent's user write "+quote.Path(above)+", or set move_to in this [[watch]]",
				"files can't be moved to %s: %v", quote.Path(cfg.MoveDir()), mayWrite(above))
		}
	}
	text := "this user may read it"
	if kind := fileSystem(cfg.Path); kind.remote {
		text += fmt.Sprintf("; it is on a network file system (%s), so new files are found by the rescan only", kind.name)
	}
	return c.ok("%s", text)
}

func readable(dir string) (Class, string, error) {
	info, err := os.Stat(dir)
	if err == nil && !info.IsDir() {
		return Configuration, "set path in this [[watch]] to a folder", fmt.Errorf("%s is no folder", quote.Path(dir))
	}
	var f *os.File
	if err == nil {
		f, err = os.Open(filepath.Clean(dir))
	}
	if err == nil {
		_, err = f.Readdirnames(1)
		err = errors.Join(cause(err), f.Close())
	}
	switch {
	case err == nil:
		return "", "", nil
	case errors.Is(err, fs.ErrNotExist):
		return Configuration, "make it, mount it, or set path in this [[watch]]; one that comes later is taken up then", err
	case errors.Is(err, fs.ErrPermission):
		return Permission, "let the agent's user read it, or run this as who may", err
	}
	return Failed, "see whether its disk or its server answers", err
}

// cause leaves out that a folder is empty.
func cause(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// existing is dir, or what of the way to it is there.
func existing(dir string) string {
	for dir != filepath.Dir(dir) {
		if _, err := os.Stat(dir); err == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	return dir
}

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/dustin/go-humanize"

	"capagent/internal/disk"
	"capagent/internal/quote"
)

func (x *examination) config(context.Context) []Check {
	c := about("config", "configuration")
	loaded := x.Config.Loaded
	path := ""
	if loaded != nil {
		path = loaded.Path
	}
	switch {
	case errors.Is(x.Wrong, fs.ErrPermission):
		return one(c.fail(Permission, "run it as who may read the configuration: "+asRoot("capagent doctor"), "%v", x.Wrong))
	case x.Wrong != nil && path == "":
		return one(c.fail(Configuration, "write "+x.wanted()+" by the example agent.toml.example, or try things out with: capagent sandbox",
			"no file; %v", x.Wrong))
	case x.Wrong != nil:
		return one(c.fail(Configuration, "correct that in "+quote.Path(path)+"; then: capagent check", "%v", x.Wrong))
	case len(loaded.Warnings) > 0:
		return one(c.warn("correct that in "+quote.Path(path)+"; then: capagent check", "%s", strings.Join(loaded.Warnings, "\n")))
	case path == "":
		return one(c.ok("defaults and environment; no file"))
	}
	return one(c.ok("%s", quote.Path(path)))
}

// wanted is where a configuration would be found.
func (x *examination) wanted() string {
	if len(x.Places.Candidates) == 0 {
		return "agent.toml"
	}
	return quote.Path(x.Places.Candidates[len(x.Places.Candidates)-1].Path)
}

func (x *examination) state(context.Context) []Check {
	c := about("state", "state directory")
	dir := x.Config.StateDir()
	if dir == "" {
		return one(c.skip("it is not known where that is: the configuration is wrong"))
	}
	shown := quote.Path(dir)
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return one(missing(c, dir))
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return one(c.fail(Permission, "run it as the agent's user, or as root: "+asRoot("capagent doctor"), "%v", err))
	case err != nil:
		return one(c.fail(Failed, "set [agent] state_dir to a directory on a local disk", "%v", err))
	case !info.IsDir():
		return one(c.fail(Configuration, "set [agent] state_dir to a directory", "%s is no directory", shown))
	}
	kind := fileSystem(dir)
	if kind.remote {
		return one(c.fail(Configuration, "set [agent] state_dir to a directory on a local disk",
			"%s is on a network file system (%s): the ledger needs a local one", shown, kind.name))
	}
	owner := ownerOf(info)
	if err := writable(dir); err != nil {
		fix := "run it as the agent's user: " + asUser(owner.name, "capagent doctor")
		if owner.own {
			fix = "sudo chmod 700 " + shown
		}
		if !errors.Is(err, fs.ErrPermission) {
			return one(c.fail(Failed, "mend the disk, or set [agent] state_dir to another one", "%v", err))
		}
		return one(c.fail(Permission, fix, "%s can't be written by this user; it belongs to %s", shown, owner.name))
	}
	if kind.volatile {
		return one(c.warn("set [agent] state_dir to a directory on a disk", "%s is in memory (%s): all is lost when the machine restarts", shown, kind.name))
	}
	if owner.open != "" {
		return one(c.warn("sudo chmod 700 "+shown, "%s can be written by %s", shown, owner.open))
	}
	return one(c.ok("%s", strings.Join(slicesOf(shown, belongs(owner), kind.name), ", ")))
}

func belongs(o owner) string {
	if o.name == "" {
		return ""
	}
	return "of " + o.name
}

// slicesOf leaves out what is empty.
func slicesOf(all ...string) []string {
	var some []string
	for _, s := range all {
		if s != "" {
			some = append(some, s)
		}
	}
	return some
}

// missing looks whether the directory can be made.
func missing(c Check, dir string) Check {
	above := filepath.Dir(dir)
	for above != filepath.Dir(above) {
		if _, err := os.Stat(above); err == nil {
			break
		}
		above = filepath.Dir(above)
	}
	if err := writable(above); err != nil {
		fix := "make it for the agent's user: sudo install -d -m 700 -o capagent -g capagent " + quote.Path(dir)
		if runtime.GOOS == "windows" {
			fix = "run it as administrator, or set [agent] state_dir"
		}
		return c.fail(Permission, fix, "%s is not there, and this user can't make it", quote.Path(dir))
	}
	return c.ok("%s is not there yet; it is made at the first start", quote.Path(dir))
}

// writable tries it: neither modes nor mounts tell all.
func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".doctor-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

const (
	fewInodes = 1000
	smallDisk = 64 << 20
)

func (x *examination) space(context.Context) []Check {
	c := about("space", "free space")
	dir := x.Config.StateDir()
	for dir != "" {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	if dir == "" {
		return one(c.skip("it is not known where the state is"))
	}
	free, total, inodes, err := disk.Free(dir)
	if err != nil {
		return one(c.skip("%v", err))
	}
	text := fmt.Sprintf("%s of %s", humanize.IBytes(free), humanize.IBytes(total))
	least := uint64(max(0, x.Config.Retention.MinFree.Bytes()))
	fix := "make room on the disk of " + quote.Path(dir) + ", or set [retention] max_size so that the agent deletes what it has sent"
	switch {
	case free < max(least, smallDisk):
		return one(c.fail(Failed, fix, "%s, and %s should stay free ([retention] min_free)", text, humanize.IBytes(max(least, smallDisk))))
	case inodes < fewInodes:
		return one(c.fail(Failed, "delete files on the disk of "+quote.Path(dir), "%s, but only %d files can be made", text, inodes))
	case free < least+least/4:
		return one(c.warn(fix, "%s; below %s the agent deletes what it has sent ([retention] min_free)", text, humanize.IBytes(least)))
	}
	return one(c.ok("%s, of which %s stays free", text, humanize.IBytes(least)))
}

func asRoot(command string) string {
	if runtime.GOOS == "windows" {
		return "as administrator: " + command
	}
	return "sudo " + command
}

func asUser(name, command string) string {
	if runtime.GOOS == "windows" || name == "" {
		return asRoot(command)
	}
	return "sudo -u " + quote.Path(name) + " " + command
}

func setClock() string {
	switch runtime.GOOS {
	case "linux":
		return "sudo timedatectl set-ntp true"
	case "windows":
		return "as administrator: w32tm /resync"
	}
	return "sudo sntp -sS time.apple.com"
}

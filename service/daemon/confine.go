package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"capagent/capture/watch"
	"capagent/enrich/cado/bucket"
	"capagent/internal/confine"
	"capagent/internal/quote"
	"capagent/service"
	"capagent/service/control"
)

// confine has this process keep what it needs by the configuration, and nothing else.
// Folders are looked into by threads that may hang there; so it comes before them.
func (d *Daemon) confine(cfg service.Config) {
	if d.opts.Confine == nil {
		return
	}
	d.bounds = d.needs(cfg)
	given := d.bounds
	given.Writable = slices.Concat(given.Writable, scratch(cfg))
	state := d.opts.Confine(given)
	d.confined = &state
	text := "confined"
	if state.Landlock == 0 && !state.Seccomp {
		text = "not confined"
	}
	d.log.Info().Int("landlock", state.Landlock).Bool("seccomp", state.Seccomp).Strs("writable", state.Writable).Str("reason", state.Reason).Msg(text)
	if dir := d.uncovered(d.bounds); dir != "" {
		d.log.Warn().Str("class", "confined").Str("hint", "make it, and restart the agent").
			Msg(quote.Path(dir) + " is not there; files below it can't be changed until the agent is restarted")
	}
}

// needs are the directories in which a configuration has files made and changed.
func (d *Daemon) needs(cfg service.Config) (b confine.Bounds) {
	b.Writable = []string{cfg.StateDir()}
	for _, file := range []string{d.opts.Control.Socket, d.opts.Control.TokenFile, cfg.Metrics.Textfile} {
		if file != "" {
			b.Writable = append(b.Writable, filepath.Dir(file))
		}
	}
	for _, w := range cfg.Watch {
		if w.After == watch.AfterKeep {
			continue
		}
		b.Mounts = append(b.Mounts, w.Path)
		if w.After == watch.AfterMove {
			b.Mounts = append(b.Mounts, w.MoveDir())
		}
	}
	return b
}

// scratch are directories that libraries make files in, as far as they are there: SQLite,
// the journal's for long lines, AWS's for what somebody logged in for.
func scratch(cfg service.Config) (dirs []string) {
	dirs = []string{os.TempDir(), "/var/tmp", "/dev/shm"}
	if cfg.Cado.Chain() {
		dirs = append(dirs, bucket.Caches()...)
	}
	return slices.DeleteFunc(dirs, func(dir string) bool { return !there(dir) })
}

// uncovered returns a directory of these bounds that is not writable any more, "" when there is none.
func (d *Daemon) uncovered(b confine.Bounds) string {
	if d.confined == nil {
		return ""
	}
	for _, dir := range slices.Concat(b.Writable, b.Mounts) {
		if !d.confined.Covers(dir) {
			return dir
		}
	}
	return ""
}

// stillCovers returns an error when a configuration needs what this process gave up.
// What it was started with is no news.
func (d *Daemon) stillCovers(cfg service.Config) error {
	b := d.needs(cfg)
	b.Writable = without(b.Writable, d.bounds.Writable)
	b.Mounts = without(b.Mounts, d.bounds.Mounts)
	if dir := d.uncovered(b); dir != "" {
		return fmt.Errorf("files below %s can't be changed: the agent confined itself at its start; restart it", quote.Path(dir))
	}
	return nil
}

func without(all, these []string) []string {
	return slices.DeleteFunc(all, func(s string) bool { return slices.Contains(these, s) })
}

// confinement is what status tells of it; nil: nobody asked for it.
func (d *Daemon) confinement() *control.Confined {
	if d.confined == nil {
		return nil
	}
	return &control.Confined{Landlock: d.confined.Landlock, Writable: d.confined.Writable, Seccomp: d.confined.Seccomp, Reason: word(d.confined.Reason)}
}

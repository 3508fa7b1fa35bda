package watch

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"capagent/internal/config"
)

// Config is one table [[watch]].
type Config struct {
	Path      string          `toml:"path"`      // the folder; may itself be a symbolic link
	Recursive bool            `toml:"recursive"` // its subfolders too
	Include   []string        `toml:"include"`   // patterns on the base name or, with a slash, on the path below Path; empty: all files
	Settle    config.Duration `toml:"settle"`    // quiet time where the system can't say whether a writer is left
	After     string          `toml:"after"`     // "keep", "move" or "delete": the owner acts on it
	MoveTo    string          `toml:"move_to"`   // for "move", below Path or absolute; never watched
	Copy      bool            `toml:"copy"`      // keep a copy in the spool until it is sent; with After "keep" only
	Rescan    config.Duration `toml:"rescan"`    // between two scans of the whole folder
}

// The values of Config.After.
const (
	AfterKeep   = "keep"
	AfterMove   = "move"
	AfterDelete = "delete"
)

const (
	minSettle = 10 * time.Millisecond
	minRescan = time.Second
)

// SetDefaults sets the values that apply where a table is silent.
func (c *Config) SetDefaults() {
	*c = Config{
		Recursive: true,
		Settle:    config.Duration(2 * time.Second),
		After:     AfterKeep,
		MoveTo:    "done",
		Rescan:    config.Duration(30 * time.Second),
	}
}

// Validate returns what is wrong, each with its key ("path"). It looks at no
// file: the folder may appear later.
func (c *Config) Validate() []*config.Error {
	var all []*config.Error
	check := func(key string, err error) {
		if err != nil {
			all = append(all, &config.Error{Key: key, Err: err})
		}
	}
	switch {
	case c.Path == "":
		check("path", errors.New("not set; expected the folder to watch"))
	case strings.ContainsRune(c.Path, 0):
		check("path", errors.New("expected a folder"))
	default:
		check("move_to", c.checkMoveTo())
	}
	for _, pattern := range c.Include {
		check("include", checkPattern(pattern))
	}
	if c.Settle.Std() < minSettle {
		check("settle", fmt.Errorf("expected at least %s", minSettle))
	}
	switch c.After {
	case AfterKeep, AfterMove, AfterDelete:
	default:
		check("after", fmt.Errorf("expected %q, %q or %q", AfterKeep, AfterMove, AfterDelete))
	}
	if c.Copy && c.After != AfterKeep {
		check("copy", fmt.Errorf("expected after = %q beside it: what is sent is the copy", AfterKeep))
	}
	if c.Rescan.Std() < minRescan {
		check("rescan", fmt.Errorf("expected at least %s", minRescan))
	}
	return all
}

func (c *Config) checkMoveTo() error {
	if c.MoveTo == "" || strings.ContainsRune(c.MoveTo, 0) {
		return errors.New(`expected a folder such as "done"`)
	}
	if inside(absolute(c.Path), c.MoveDir()) {
		return errors.New("expected a folder that is neither path nor above it: it is never watched")
	}
	return nil
}

// checkPattern refuses what would match other files than its author thought.
func checkPattern(pattern string) error {
	if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
		return errors.New(`expected a pattern such as "*.pcap"`)
	}
	if strings.Contains(pattern, "**") {
		return errors.New(`expected no "**": a pattern without a slash looks at the name in folders of any depth`)
	}
	if strings.HasPrefix(pattern, "/") {
		return errors.New("expected a path below the watched folder, without a slash in front")
	}
	return nil
}

// Source names the folder in the records: "watch:" and the path as configured.
func (c *Config) Source() string { return "watch:" + c.Path }

// MoveDir is the absolute path of MoveTo.
func (c *Config) MoveDir() string {
	// On Windows `\done` and `D:done` are neither absolute nor below Path.
	if filepath.IsAbs(c.MoveTo) || filepath.VolumeName(c.MoveTo) != "" || c.MoveTo != "" && os.IsPathSeparator(c.MoveTo[0]) {
		return absolute(c.MoveTo)
	}
	return filepath.Join(absolute(c.Path), c.MoveTo)
}

// absolute makes path absolute; without a working directory it stays as it is.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return filepath.Clean(path)
}

// inside reports whether path is dir or lies below it, by their texts.
func inside(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

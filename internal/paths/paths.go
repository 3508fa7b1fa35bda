// Package paths says where the agent's files are, by operating system and by
// whether it runs for the whole machine or for one user. It looks whether
// configuration files exist and touches nothing else: no directory is made.
//
// The rules are pure functions of an Env, so that every system's can be tested
// on any; only Native asks the real machine.
package paths

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

const (
	app        = "capagent"
	configName = "agent.toml"
	// ConfigVariable names the configuration file and beats every place but a flag.
	ConfigVariable = "CAPAGENT_CONFIG"
)

// Env is what the places depend on.
type Env struct {
	OS string // as runtime.GOOS
	// System is true for root on Unix and for a service's account on Windows.
	System bool
	// Getenv reads the environment; a variable that is not set is empty.
	Getenv func(string) string
	// Home is the user's home by the system's own list of users, for when HOME
	// (USERPROFILE on Windows) is not set; empty when that is unknown too.
	Home string
	// Stat looks at a file.
	Stat func(path string) (fs.FileInfo, error)
}

// Candidate is a place where the configuration may be.
type Candidate struct {
	Path string `json:"path"`
	Why  string `json:"why"` // "--config", "CAPAGENT_CONFIG", "user", "system" …
	// Exists is true also for a file that can't be looked at: it is there to be
	// complained about, not to be passed over.
	Exists bool `json:"exists"`
}

// Paths is where everything is.
type Paths struct {
	// Config is the file to load: the one that was named, or the first candidate
	// that exists; empty when none does.
	Config     string      `json:"config"`
	Candidates []Candidate `json:"candidates"`
	State      string      `json:"state"`   // ledger and spool: must survive
	Cache      string      `json:"cache"`   // may be deleted at any time
	Runtime    string      `json:"runtime"` // sockets, gone after a restart
	System     bool        `json:"system"`  // the machine's places, not a user's
}

// Default returns the places on this machine. named is the value of --config,
// empty when it was not given.
func Default(named string) (Paths, error) { return For(Native(), named) }

// ErrNoHome is wrapped when neither the environment nor the system knows the
// user's home, and no other variable says where the files are.
var ErrNoHome = errors.New("no home directory is known")

// dirs are the directories of one scope; config holds the file agent.toml.
type dirs struct{ config, state, cache, runtime string }

// For returns the places in env. Without a home directory it fails unless the
// environment names every place that is needed; the candidates are filled in
// even then.
func For(env Env, named string) (Paths, error) {
	p := Paths{System: env.System}
	system, user := env.scopes()
	own := system
	if !env.System {
		own = user
	}
	// A systemd unit names the places that it made. Its user need not be root.
	unit := env.unitDirs()
	own = unit.orElse(own)
	p.System = p.System || strings.HasPrefix(unit.state, "/var/lib/") // a user's units have places at home
	p.State, p.Cache, p.Runtime = own.state, own.cache, own.runtime

	p.Candidates = env.candidates(named, unit, user, system)
	for i := range p.Candidates {
		c := &p.Candidates[i]
		_, err := env.Stat(c.Path)
		c.Exists = err == nil || !errors.Is(err, fs.ErrNotExist)
		if p.Config == "" && (c.Exists || c.Why == whyFlag || c.Why == ConfigVariable) {
			p.Config = c.Path
		}
	}
	if p.State == "" || p.Cache == "" || p.Runtime == "" {
		return p, fmt.Errorf("find the places of files: %w; set %s", ErrNoHome, env.homeVariable())
	}
	return p, nil
}

const whyFlag = "--config"

// candidates lists where the configuration may be, in the order of looking. A
// file that was named is the only one: falling back to another would load
// something that the user did not ask for.
func (env Env) candidates(named string, unit, user, system dirs) []Candidate {
	if named != "" {
		return []Candidate{{Path: named, Why: whyFlag}}
	}
	if path := env.Getenv(ConfigVariable); path != "" {
		return []Candidate{{Path: path, Why: ConfigVariable}}
	}
	var out []Candidate
	add := func(dir, why string) {
		if dir == "" {
			return
		}
		path := env.join(dir, configName)
		for _, c := range out {
			if c.Path == path {
				return
			}
		}
		out = append(out, Candidate{Path: path, Why: why})
	}
	add(unit.config, "CONFIGURATION_DIRECTORY")
	if !env.System {
		add(user.config, "user")
	}
	add(system.config, "system")
	return out
}

// orElse fills what d leaves empty.
func (d dirs) orElse(other dirs) dirs {
	pick := func(a, b string) string {
		if a != "" {
			return a
		}
		return b
	}
	return dirs{
		config: pick(d.config, other.config), state: pick(d.state, other.state),
		cache: pick(d.cache, other.cache), runtime: pick(d.runtime, other.runtime),
	}
}

func (env Env) scopes() (system, user dirs) {
	switch env.OS {
	case "windows":
		return env.windows()
	case "darwin":
		return env.darwin()
	default:
		return env.unix()
	}
}

// unitDirs are the directories that systemd made for a unit (systemd.exec,
// RuntimeDirectory=); of several the first counts.
func (env Env) unitDirs() dirs {
	if env.OS != "linux" {
		return dirs{}
	}
	first := func(name string) string {
		dir, _, _ := strings.Cut(env.Getenv(name), ":")
		return dir
	}
	return dirs{
		config: first("CONFIGURATION_DIRECTORY"), state: first("STATE_DIRECTORY"),
		cache: first("CACHE_DIRECTORY"), runtime: first("RUNTIME_DIRECTORY"),
	}
}

func (env Env) homeVariable() string {
	if env.OS == "windows" {
		return "LOCALAPPDATA"
	}
	return "HOME"
}

// home is the user's home directory, empty when unknown. One that is relative
// or "/" (as for users without a home) would scatter files, so it is none.
func (env Env) home() string {
	for _, dir := range []string{env.Getenv("HOME"), env.Home} {
		if strings.HasPrefix(dir, "/") && strings.Trim(dir, "/") != "" {
			return dir
		}
	}
	return ""
}

// unix follows the Filesystem Hierarchy Standard and, for a user, the XDG Base
// Directory Specification, by which a variable that is not absolute is ignored.
func (env Env) unix() (system, user dirs) {
	system = dirs{config: "/etc/" + app, state: "/var/lib/" + app, cache: "/var/cache/" + app, runtime: "/run/" + app}
	if env.OS != "linux" {
		system.runtime = "/var/run/" + app
	}
	xdg := func(name, below string) string {
		dir := env.Getenv(name)
		if !strings.HasPrefix(dir, "/") {
			home := env.home()
			if home == "" || below == "" {
				return ""
			}
			dir = env.join(home, below)
		}
		return env.join(dir, app)
	}
	user = dirs{
		config: xdg("XDG_CONFIG_HOME", ".config"), state: xdg("XDG_STATE_HOME", ".local/state"),
		cache: xdg("XDG_CACHE_HOME", ".cache"), runtime: xdg("XDG_RUNTIME_DIR", ""),
	}
	if user.runtime == "" && user.state != "" {
		// Without a login session (cron, su) there is no runtime directory.
		user.runtime = env.join(user.state, "run")
	}
	return system, user
}

// darwin follows Apple's File System Programming Guide.
func (env Env) darwin() (system, user dirs) {
	library := func(root, runtime string) dirs {
		support := root + "/Library/Application Support/" + app
		if runtime == "" {
			runtime = support + "/run"
		}
		return dirs{config: support, state: support + "/state", cache: root + "/Library/Caches/" + app, runtime: runtime}
	}
	system = library("", "/var/run/"+app)
	if home := env.home(); home != "" {
		user = library(strings.TrimRight(home, "/"), "")
	}
	return system, user
}

// windows keeps everything in one directory under %ProgramData% or, for a user,
// %LOCALAPPDATA% (never the roaming one: captures are large and local).
func (env Env) windows() (system, user dirs) {
	below := func(root string) dirs {
		if root == "" {
			return dirs{}
		}
		dir := env.join(root, app)
		return dirs{config: dir, state: env.join(dir, "state"), cache: env.join(dir, "cache"), runtime: env.join(dir, "run")}
	}
	shared := env.Getenv("ProgramData")
	if shared == "" {
		shared = `C:\ProgramData`
	}
	local := env.Getenv("LOCALAPPDATA")
	for _, home := range []string{env.Getenv("USERPROFILE"), env.Home} {
		if local == "" && home != "" {
			local = env.join(home, `AppData\Local`)
		}
	}
	return below(shared), below(local)
}

// join joins by the rules of env.OS, which path/filepath does for this system only.
func (env Env) join(dir, name string) string {
	if env.OS == "windows" {
		return strings.TrimRight(dir, `\/`) + `\` + name
	}
	return strings.TrimRight(dir, "/") + "/" + name
}

package paths

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// on makes an environment from variables and the files that exist.
func on(system string, isSystem bool, vars map[string]string, files ...string) Env {
	return Env{
		OS: system, System: isSystem,
		Getenv: func(name string) string { return vars[name] },
		Stat: func(path string) (fs.FileInfo, error) {
			for _, f := range files {
				if f == "!"+path {
					return nil, fs.ErrPermission
				}
				if f == path {
					return nil, nil
				}
			}
			return nil, fs.ErrNotExist
		},
	}
}

func TestPlacesOfEverySystem(t *testing.T) {
	home := map[string]string{"HOME": "/home/ann"}
	tests := []struct {
		name       string
		env        Env
		want       Paths
		candidates []string
	}{
		{
			"Linux, root", on("linux", true, map[string]string{"HOME": "/root", "XDG_STATE_HOME": "/x"}),
			Paths{State: "/var/lib/capagent", Cache: "/var/cache/capagent", Runtime: "/run/capagent", System: true},
			[]string{"system /etc/capagent/agent.toml"},
		},
		{
			"Linux, user", on("linux", false, home),
			Paths{State: "/home/ann/.local/state/capagent", Cache: "/home/ann/.cache/capagent", Runtime: "/home/ann/.local/state/capagent/run"},
			[]string{"user /home/ann/.config/capagent/agent.toml", "system /etc/capagent/agent.toml"},
		},
		{
			"Linux, user with XDG variables and no HOME", on("linux", false, map[string]string{"XDG_CONFIG_HOME": "/c", "XDG_STATE_HOME": "/s/", "XDG_CACHE_HOME": "/k", "XDG_RUNTIME_DIR": "/run/user/5"}),
			Paths{State: "/s/capagent", Cache: "/k/capagent", Runtime: "/run/user/5/capagent"},
			[]string{"user /c/capagent/agent.toml", "system /etc/capagent/agent.toml"},
		},
		{
			"Linux, relative XDG variables are ignored", on("linux", false, map[string]string{"HOME": "/home/ann", "XDG_STATE_HOME": "s", "XDG_CONFIG_HOME": "./c", "XDG_RUNTIME_DIR": "r"}),
			Paths{State: "/home/ann/.local/state/capagent", Cache: "/home/ann/.cache/capagent", Runtime: "/home/ann/.local/state/capagent/run"},
			[]string{"user /home/ann/.config/capagent/agent.toml", "system /etc/capagent/agent.toml"},
		},
		{
			"Linux, systemd unit with its own user", on("linux", false, map[string]string{"HOME": "/", "STATE_DIRECTORY": "/var/lib/capagent:/var/lib/other", "CACHE_DIRECTORY": "/var/cache/capagent", "RUNTIME_DIRECTORY": "/run/capagent", "CONFIGURATION_DIRECTORY": "/etc/capagent"}),
			Paths{State: "/var/lib/capagent", Cache: "/var/cache/capagent", Runtime: "/run/capagent", System: true},
			[]string{"CONFIGURATION_DIRECTORY /etc/capagent/agent.toml"},
		},
		{
			"Linux, a user's systemd unit", on("linux", false, map[string]string{"HOME": "/home/ann", "STATE_DIRECTORY": "/home/ann/.local/state/capagent"}),
			Paths{State: "/home/ann/.local/state/capagent", Cache: "/home/ann/.cache/capagent", Runtime: "/home/ann/.local/state/capagent/run"},
			[]string{"user /home/ann/.config/capagent/agent.toml", "system /etc/capagent/agent.toml"},
		},
		{
			"FreeBSD, root", on("freebsd", true, nil),
			Paths{State: "/var/lib/capagent", Cache: "/var/cache/capagent", Runtime: "/var/run/capagent", System: true},
			[]string{"system /etc/capagent/agent.toml"},
		},
		{
			"macOS, root", on("darwin", true, nil),
			Paths{State: "/Library/Application Support/capagent/state", Cache: "/Library/Caches/capagent", Runtime: "/var/run/capagent", System: true},
			[]string{"system /Library/Application Support/capagent/agent.toml"},
		},
		{
			"macOS, user", on("darwin", false, map[string]string{"HOME": "/Users/ann/"}),
			Paths{State: "/Users/ann/Library/Application Support/capagent/state", Cache: "/Users/ann/Library/Caches/capagent", Runtime: "/Users/ann/Library/Application Support/capagent/run"},
			[]string{"user /Users/ann/Library/Application Support/capagent/agent.toml", "system /Library/Application Support/capagent/agent.toml"},
		},
		{
			"Windows, service", on("windows", true, map[string]string{"ProgramData": `D:\PD\`, "LOCALAPPDATA": `C:\x`}),
			Paths{State: `D:\PD\capagent\state`, Cache: `D:\PD\capagent\cache`, Runtime: `D:\PD\capagent\run`, System: true},
			[]string{`system D:\PD\capagent\agent.toml`},
		},
		{
			"Windows, user", on("windows", false, map[string]string{"LOCALAPPDATA": `C:\Users\ann\AppData\Local`}),
			Paths{State: `C:\Users\ann\AppData\Local\capagent\state`, Cache: `C:\Users\ann\AppData\Local\capagent\cache`, Runtime: `C:\Users\ann\AppData\Local\capagent\run`},
			[]string{`user C:\Users\ann\AppData\Local\capagent\agent.toml`, `system C:\ProgramData\capagent\agent.toml`},
		},
		{
			"Windows, user with a profile only", on("windows", false, map[string]string{"USERPROFILE": `C:\Users\bob`}),
			Paths{State: `C:\Users\bob\AppData\Local\capagent\state`, Cache: `C:\Users\bob\AppData\Local\capagent\cache`, Runtime: `C:\Users\bob\AppData\Local\capagent\run`},
			[]string{`user C:\Users\bob\AppData\Local\capagent\agent.toml`, `system C:\ProgramData\capagent\agent.toml`},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := For(tt.env, "")
			if err != nil {
				t.Fatal(err)
			}
			var candidates []string
			for _, c := range got.Candidates {
				candidates = append(candidates, c.Why+" "+c.Path)
			}
			if diff := cmp.Diff(tt.candidates, candidates); diff != "" {
				t.Error(diff)
			}
			got.Candidates = nil
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestConfigurationThatIsChosen(t *testing.T) {
	const user, system = "/home/ann/.config/capagent/agent.toml", "/etc/capagent/agent.toml"
	tests := []struct {
		name, flag, variable string
		files                []string
		want                 string
		exists               []bool
	}{
		{"none exists", "", "", nil, "", []bool{false, false}},
		{"the user's comes first", "", "", []string{user, system}, user, []bool{true, true}},
		{"the system's is the second choice", "", "", []string{system}, system, []bool{false, true}},
		{"a file that can't be looked at is not passed over", "", "", []string{"!" + user, system}, user, []bool{true, true}},
		{"the variable beats both", "", "/v.toml", []string{user, "/v.toml"}, "/v.toml", []bool{true}},
		{"a named file that is absent is still the one", "", "/v.toml", []string{user}, "/v.toml", []bool{false}},
		{"the flag beats the variable", "f.toml", "/v.toml", []string{user, "/v.toml"}, "f.toml", []bool{false}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := For(on("linux", false, map[string]string{"HOME": "/home/ann", ConfigVariable: tt.variable}, tt.files...), tt.flag)
			if err != nil || p.Config != tt.want {
				t.Errorf("chooses %q, %v; want %q", p.Config, err, tt.want)
			}
			var exists []bool
			for _, c := range p.Candidates {
				exists = append(exists, c.Exists)
			}
			if diff := cmp.Diff(tt.exists, exists); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestWithoutAHomeTheUserIsToldWhatToSet(t *testing.T) {
	for system, variable := range map[string]string{"linux": "HOME", "darwin": "HOME", "windows": "LOCALAPPDATA"} {
		for _, vars := range []map[string]string{nil, {"HOME": "/"}, {"HOME": "relative"}} {
			p, err := For(on(system, false, vars), "")
			if !errors.Is(err, ErrNoHome) || !strings.Contains(err.Error(), "set "+variable) {
				t.Errorf("%s with %v: %v", system, vars, err)
			}
			if len(p.Candidates) != 1 || p.Candidates[0].Why != "system" {
				t.Errorf("%s with %v: candidates %v", system, vars, p.Candidates)
			}
		}
	}
	env := on("linux", false, nil)
	env.Home = "/home/by/list"
	if p, err := For(env, ""); err != nil || p.Cache != "/home/by/list/.cache/capagent" {
		t.Errorf("home by the list of users: %v, %v", p.Cache, err)
	}
}

func TestThisMachineHasPlaces(t *testing.T) {
	p, err := Default("")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{p.State, p.Cache, p.Runtime, p.Candidates[0].Path} {
		if !filepath.IsAbs(path) {
			t.Errorf("%q is not absolute", path)
		}
	}
	if runtime.GOOS != "windows" && os.Getenv("STATE_DIRECTORY") == "" && p.System != (os.Geteuid() == 0) {
		t.Errorf("System is %v for user %d", p.System, os.Geteuid())
	}
	named := filepath.Join(t.TempDir(), "agent.toml")
	if err := os.WriteFile(named, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := Default(named); err != nil || p.Config != named || !p.Candidates[0].Exists {
		t.Errorf("named file: %+v, %v", p, err)
	}
}

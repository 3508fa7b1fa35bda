package local_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"capagent/internal/paths"
	"capagent/service/control/local"
)

func TestConfigurationMistakes(t *testing.T) {
	abs, err := filepath.Abs("control.sock")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		cfg  local.Config
		key  string // "" for none
	}{
		{"the defaults", local.DefaultConfig(), ""},
		{"a socket and a group", local.Config{Socket: abs, Group: "capagent", Listen: "[::1]:80"}, ""},
		{"a group by number", local.Config{Group: "998", Listen: "127.0.0.1:0"}, ""},
		{"a relative socket", local.Config{Socket: "control.sock", Listen: "127.0.0.1:0"}, "control.socket"},
		{"a socket that no system takes", local.Config{Socket: abs + strings.Repeat("x", 100), Listen: "127.0.0.1:0"}, "control.socket"},
		{"a directory", local.Config{Socket: abs + string(filepath.Separator), Listen: "127.0.0.1:0"}, "control.socket"},
		{"two groups", local.Config{Group: "a:b", Listen: "127.0.0.1:0"}, "control.group"},
		{"every address", local.Config{Listen: "0.0.0.0:7000"}, "control.listen"},
		{"a name", local.Config{Listen: "localhost:7000"}, "control.listen"},
		{"no port", local.Config{Listen: "127.0.0.1"}, "control.listen"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := tc.cfg.Validate()
			switch {
			case tc.key == "" && len(got) != 0:
				t.Errorf("%v", got)
			case tc.key != "" && (len(got) != 1 || got[0].Key != tc.key):
				t.Errorf("%v, want one for %s", got, tc.key)
			}
		})
	}
}

func TestPlaces(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("sockets are not used here")
	}
	own := paths.Paths{State: "/home/ann/.local/state/capagent", Runtime: "/run/user/5/capagent"}
	long := "/" + strings.Repeat("d", 90)
	machine, err := paths.For(paths.Env{OS: runtime.GOOS, System: true, Getenv: func(string) string { return "" }, Stat: os.Stat}, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, state string
		cfg         local.Config
		want        string
	}{
		{"where the configuration says", own.State, local.Config{Socket: "/x/y.sock"}, "/x/y.sock"},
		{"the user's own", own.State, local.Config{}, own.Runtime + "/control.sock"},
		{"the same, written otherwise", own.State + "/", local.Config{}, own.Runtime + "/control.sock"},
		{"the machine's, asked for by a user", machine.State, local.Config{}, machine.Runtime + "/control.sock"},
		{"another one", "/srv/capagent", local.Config{}, "/srv/capagent/control.sock"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := local.Place(tc.cfg, tc.state, own); got.Socket != tc.want || got.Private || got.TokenFile != "" {
				t.Errorf("%+v, want %s", got, tc.want)
			}
		})
	}
	t.Run("a state directory of a long name", func(t *testing.T) {
		t.Setenv("TMPDIR", "/tmp")
		got, again, other := local.Place(local.Config{}, long, own), local.Place(local.Config{}, long+"/", own), local.Place(local.Config{}, long+"x", own)
		if !got.Private || len(got.Socket) > 95 || got != again || got.Socket == other.Socket || filepath.Dir(filepath.Dir(got.Socket)) != "/tmp" {
			t.Errorf("%+v, %+v, %+v", got, again, other)
		}
	})
}

// transports are the two ways in. Both are tested on every system that has them.
func transports(t *testing.T) map[string]local.Where {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctl") // t.TempDir is too long for a socket on some systems
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ways := map[string]local.Where{"loopback": {TokenFile: filepath.Join(dir, "control.token")}}
	if runtime.GOOS != "windows" {
		ways["socket"] = local.Where{Socket: filepath.Join(dir, "run", "control.sock")}
		ways["private socket"] = local.Where{Socket: filepath.Join(dir, "private", "control.sock"), Private: true}
	}
	return ways
}

// answer lets one connection in and says a word.
func answer(l net.Listener) {
	conn, err := l.Accept()
	if err != nil {
		return
	}
	_, _ = io.WriteString(conn, "hello")
	_ = conn.Close()
}

func greet(ctx context.Context, w local.Where) (token, greeting string, err error) {
	e, err := local.Find(w)
	if err != nil {
		return "", "", err
	}
	conn, err := e.Dial(ctx)
	if err != nil {
		return e.Token, "", err
	}
	defer conn.Close()
	text, err := io.ReadAll(conn)
	return e.Token, string(text), err
}

func TestAnAgentIsFoundWhileItListens(t *testing.T) {
	for name, w := range transports(t) {
		t.Run(name, func(t *testing.T) {
			if _, _, err := greet(t.Context(), w); !errors.Is(err, local.ErrNoAgent) {
				t.Fatalf("before: %v", err)
			}
			for range 2 { // the second takes the place of the first
				l, err := local.Listen(t.Context(), w, local.DefaultConfig())
				if err != nil {
					t.Fatal(err)
				}
				go answer(l)
				token, text, err := greet(t.Context(), w)
				if err != nil || text != "hello" || token != l.Token || (w.Socket == "") != (len(token) == 64) {
					t.Errorf("%q, token %q: %v", text, token, err)
				}
				if err := errors.Join(l.Close(), l.Close()); err != nil {
					t.Error(err)
				}
				if _, _, err := greet(t.Context(), w); !errors.Is(err, local.ErrNoAgent) {
					t.Errorf("after: %v", err)
				}
				if left, _ := filepath.Glob(filepath.Join(filepath.Dir(w.String()), "*")); len(left) > 0 && w.Socket != "" {
					t.Errorf("left behind: %q", left)
				}
			}
		})
	}
}

func TestWhatADeadAgentLeftIsReplaced(t *testing.T) {
	for name, w := range transports(t) {
		t.Run(name, func(t *testing.T) {
			dead, err := local.Listen(t.Context(), w, local.DefaultConfig())
			if err != nil {
				t.Fatal(err)
			}
			if err := dead.Listener.Close(); err != nil { // and nothing is tidied up
				t.Fatal(err)
			}
			if _, err := os.Lstat(w.String()); err != nil {
				t.Fatal(err)
			}
			if _, _, err := greet(t.Context(), w); !errors.Is(err, local.ErrNoAgent) {
				t.Errorf("%v", err)
			}
			l, err := local.Listen(t.Context(), w, local.DefaultConfig())
			if err != nil {
				t.Fatal(err)
			}
			// Whoever comes late must not remove what another one made.
			if err := dead.Close(); err == nil {
				t.Error("the listener was closed before")
			}
			go answer(l)
			if _, text, err := greet(t.Context(), w); err != nil || text != "hello" {
				t.Errorf("%q, %v", text, err)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAFileThatSomebodyNeedsIsLeftAlone(t *testing.T) {
	for name, w := range transports(t) {
		t.Run(name, func(t *testing.T) {
			if err := os.MkdirAll(w.String(), 0o700); err != nil {
				t.Fatal(err)
			}
			if l, err := local.Listen(t.Context(), w, local.DefaultConfig()); err == nil {
				_ = l.Close()
				t.Error("a directory was taken for an old socket")
			}
			if err := os.Remove(w.String()); err != nil {
				t.Fatal(err)
			}
			if w.Socket == "" {
				return
			}
			if err := os.WriteFile(w.Socket, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
			if l, err := local.Listen(t.Context(), w, local.DefaultConfig()); err == nil || !strings.Contains(err.Error(), "something else than a socket") {
				t.Errorf("%v, %v", l, err)
			}
			if text, err := os.ReadFile(w.Socket); string(text) != "precious" {
				t.Errorf("%q, %v", text, err)
			}
		})
	}
}

func TestATokenFileOfNonsenseIsToldNotUsed(t *testing.T) {
	w := transports(t)["loopback"]
	good := `"token":"` + strings.Repeat("ab", 32) + `"`
	for _, text := range []string{
		"", "{", "null", `{"address":"127.0.0.1:1"}`, `{"address":"127.0.0.1:1","token":"ab"}`, `{"address":"192.0.2.1:80",` + good + `}`,
		`{"address":"attacker.example:80",` + good + `}`, strings.Repeat(" ", 1<<20) + `{}`,
	} {
		if err := os.WriteFile(w.TokenFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := local.Find(w); err == nil || errors.Is(err, local.ErrNoAgent) {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

package secret

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/zalando/go-keyring"
)

// TestMain lets the test binary play the command that prints a secret.
func TestMain(m *testing.M) {
	switch os.Getenv("SECRET_TEST_PLAY") {
	case "":
		os.Exit(m.Run())
	case "ok":
		os.Stderr.WriteString("noise " + canary + "\n")
		os.Stdout.WriteString(strings.Join(os.Args[1:], "|") + "\r\n")
	case "fail":
		os.Stdout.WriteString(canary)
		os.Stderr.WriteString(canary)
		os.Exit(7)
	case "flood":
		for {
			if _, err := os.Stdout.WriteString(strings.Repeat(canary, 1000)); err != nil {
				os.Exit(1)
			}
		}
	case "hang":
		os.Stdout.WriteString(canary)
		<-time.After(time.Hour) // a bare select would be a deadlock to a runtime without cgo
	}
}

func self(t *testing.T, play string) string {
	t.Helper()
	t.Setenv("SECRET_TEST_PLAY", play)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return `"` + exe + `"`
}

func write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func literal(t *testing.T, text string) Secret {
	t.Helper()
	var s Secret
	if err := s.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return s
}

func environment(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
}

func TestEveryFormLeadsToTheSecret(t *testing.T) {
	keyring.MockInit()
	if err := keyring.Set("capagent", "entry", canary); err != nil {
		t.Fatal(err)
	}
	plain := write(t, "token", canary+"\n", 0o600)
	creds := filepath.Dir(write(t, "cred", canary, 0o440))
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(plain, link); err != nil {
		t.Skip(err)
	}
	if _, err := os.Stat(link); err != nil {
		link = plain // Wine says that it made links, and makes none
	}
	tests := map[string]Source{
		"literal":                         {Value: literal(t, canary)},
		"file":                            {File: plain},
		"file with CRLF":                  {File: write(t, "token", canary+"\r\n", 0o600)},
		"file with a byte order mark":     {File: write(t, "token", "\ufeff"+canary, 0o600)},
		"file by way of a link":           {File: link},
		"file relative to Dir":            {File: "token", Dir: filepath.Dir(plain)},
		"reference to the environment":    {Value: literal(t, "@{env:TOKEN}")},
		"reference to a file":             {Value: literal(t, "@{file:"+plain+"}")},
		"reference to a credential":       {Value: literal(t, "@{systemd:cred}")},
		"reference to the keyring":        {Value: literal(t, "@{keyring:entry}")},
		"file in the credentials' folder": {File: filepath.Join(creds, "cred")},
		"command":                         {Command: self(t, "ok") + " " + canary},
	}
	for name, src := range tests {
		t.Run(name, func(t *testing.T) {
			src.Key = "x.token"
			src.LookupEnv = environment(map[string]string{"TOKEN": canary, "CREDENTIALS_DIRECTORY": creds})
			s, err := Resolve(t.Context(), src)
			if err != nil || s.Reveal() != canary || s.IsReference() {
				t.Errorf("got %q, %v", s.Reveal(), err)
			}
		})
	}
}

func TestNothingSetIsNoSecretAndNoError(t *testing.T) {
	if s, err := Resolve(t.Context(), Source{Key: "x"}); err != nil || !s.IsZero() {
		t.Errorf("got %v, %v", s.IsZero(), err)
	}
}

func TestRefusalsNameTheKeyAndTheWayOut(t *testing.T) {
	keyring.MockInit()
	dir := t.TempDir()
	world := write(t, "token", canary, 0o644)
	group := write(t, "token", canary, 0o640)
	noProgram := []string{"x.token_command", "could not be run"}
	if runtime.GOOS == "windows" {
		noProgram = []string{"x.token_command", "PATH"} // programs go by their suffix there
	}
	tests := []struct {
		name string
		src  Source
		want []string
	}{
		{"two forms", Source{Value: New(canary), File: "/f"}, []string{"x.token_file: set together with x.token;"}},
		{"two other forms", Source{File: "/f", Command: "c"}, []string{"x.token_command: set together with x.token_file;"}},
		{"world-readable", Source{File: world}, []string{"x.token_file", world, "0644", "chmod 600"}},
		{"group-readable", Source{File: group}, []string{"x.token_file", group, "0640", "chmod 600"}},
		{"absent file", Source{File: filepath.Join(dir, "none")}, []string{"x.token_file", "none"}},
		{"folder", Source{File: dir}, []string{"not a regular file"}},
		{"too long", Source{File: write(t, "t", strings.Repeat(canary, 5000), 0o600)}, []string{"longer than 65536"}},
		{"empty file", Source{File: write(t, "t", "\n", 0o600)}, []string{"empty"}},
		{"UTF-16 file", Source{File: write(t, "t", "\xff\xfea\x00", 0o600)}, []string{"UTF-8"}},
		{"secret given as a file name", Source{File: canary}, []string{"x.token_file: the file"}},
		{"secret given as a command", Source{Command: canary}, []string{"x.token_command", "PATH"}},
		{"secret given as an absolute command", Source{Command: "/" + canary + " a"}, []string{"x.token_command"}},
		{"secret given as a command that is no program", Source{Command: `"` + write(t, canary, "", 0o600) + `"`}, noProgram},
		{"unclosed quote", Source{Command: `prog "` + canary}, []string{"closing", "quote"}},
		{"failing command", Source{Command: self(t, "fail")}, []string{"x.token_command", "7"}},
		{"unset variable", Source{Value: literal(t, "@{env:NOPE}")}, []string{"x.token: @{env:NOPE}", "not set"}},
		{"empty variable", Source{Value: literal(t, "@{env:EMPTY}")}, []string{"@{env:EMPTY}", "empty"}},
		{"no systemd", Source{Value: literal(t, "@{systemd:tok}")}, []string{"@{systemd:tok}", "CREDENTIALS_DIRECTORY", "LoadCredential=tok"}},
		{"credential above the folder", Source{Value: literal(t, "@{systemd:../tok}")}, []string{"name of a credential"}},
		{"no keyring entry", Source{Value: literal(t, "@{keyring:nope}")}, []string{"@{keyring:nope}", "no entry"}},
		{"unknown store", Source{Value: literal(t, "@{vault:"+canary+"}")}, []string{"env, file, systemd, keyring or dpapi"}},
		{"broken reference", Source{Value: literal(t, "@{"+canary)}, []string{"expected a reference"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if runtime.GOOS == "windows" && strings.HasSuffix(tt.name, "-readable") {
				t.Skip("a file's mode says nothing here")
			}
			tt.src.Key = "x.token"
			tt.src.LookupEnv = environment(map[string]string{"EMPTY": ""})
			s, err := Resolve(t.Context(), tt.src)
			if err == nil || !s.IsZero() {
				t.Fatalf("resolved, error %v", err)
			}
			var keyed *Error
			if !errors.As(err, &keyed) || !strings.HasPrefix(err.Error(), keyed.Key+": ") {
				t.Errorf("no key in %q", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if leaks(err.Error()) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error holds the secret or several lines: %q", err)
			}
		})
	}
}

func TestAMachineWithoutKeyringSaysSo(t *testing.T) {
	keyring.MockInitWithError(errors.New("dbus: no session"))
	_, err := Resolve(t.Context(), Source{Key: "x", Value: literal(t, "@{keyring:entry}")})
	if err == nil || !strings.Contains(err.Error(), "desktop session") || !strings.Contains(err.Error(), "_file") {
		t.Errorf("got %v", err)
	}
}

func TestCommandIsBoundedInOutputAndTime(t *testing.T) {
	flood := Source{Key: "x", Command: self(t, "flood")}
	if _, err := Resolve(t.Context(), flood); err == nil || !strings.Contains(err.Error(), "wrote more than 65536") || leaks(err.Error()) {
		t.Errorf("flood: %v", err)
	}
	hang := Source{Key: "x", Command: self(t, "hang"), Timeout: 50 * time.Millisecond}
	if _, err := Resolve(t.Context(), hang); !errors.Is(err, context.DeadlineExceeded) || leaks(err.Error()) {
		t.Errorf("hang: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Resolve(ctx, Source{Key: "x", Command: self(t, "hang")}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestWordsAreSplitLikeAShellSplitsThem(t *testing.T) {
	tests := []struct {
		line    string
		escapes bool
		want    []string
	}{
		{`pass show x`, true, []string{"pass", "show", "x"}},
		{"  a\t b\n", true, []string{"a", "b"}},
		{`a 'b c' "d e"`, true, []string{"a", "b c", "d e"}},
		{`a '' ""`, true, []string{"a", "", ""}},
		{`a b'c'"d"e`, true, []string{"a", "bcde"}},
		{`a \  b\"c`, true, []string{"a", " ", `b"c`}},
		{`a "b\"c\\d\e" 'f\g'`, true, []string{"a", `b"c\d\e`, `f\g`}},
		{`a $HOME *.x ; b | c`, true, []string{"a", "$HOME", "*.x", ";", "b", "|", "c"}},
		{`C:\bin\tool.exe "C:\a b\c"`, false, []string{`C:\bin\tool.exe`, `C:\a b\c`}},
	}
	for _, tt := range tests {
		got, err := splitWords(tt.line, tt.escapes)
		if err != nil || !cmp.Equal(got, tt.want) {
			t.Errorf("splitWords(%q) = %q, %v; want %q", tt.line, got, err, tt.want)
		}
	}
	for _, line := range []string{"", "  ", `"`, `a 'b`, `a\`, `'' a`, "a\x00b"} {
		if got, err := splitWords(line, true); err == nil {
			t.Errorf("splitWords(%q) = %q", line, got)
		}
	}
}

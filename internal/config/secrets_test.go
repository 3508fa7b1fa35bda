package config

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/pelletier/go-toml/v2"
)

// canary stands for a token wherever a user may have pasted it.
const canary = "c0ffee17b5d94a21e3f8067d9acb4e52"

// leak returns a piece of at least 8 bytes of the canary that text holds.
func leak(text string) string {
	for i := 0; i+8 <= len(canary); i++ {
		if piece := canary[i : i+8]; strings.Contains(strings.ToLower(text), piece) {
			return piece
		}
	}
	return ""
}

// everywhere are files with the canary in the place of every kind of thing.
var everywhere = []string{
	"CANARY",
	"CANARY = 1",
	"CANARY.x = 1",
	"\"CANARY\" = 1",
	"x.CANARY = 1",
	"[CANARY]\nx = 1",
	"[[CANARY]]",
	"[cloudshark.CANARY]\nx = 1",
	"[cloudshark]\nCANARY = 1",
	"[cloudshark]\nCANARY",
	"[cloudshark]\nCANARY = \"x",
	"[cloudshark]\ntoken = CANARY",
	"[cloudshark]\ntoken = \"CANARY",
	"[cloudshark]\ntoken = CANARY\"",
	"[cloudshark]\ntoken = \"CANARY\" x",
	"[cloudshark]\ntoken = \"\\CANARY\"",
	"[cloudshark]\ntoken = [\"CANARY\"]",
	"[cloudshark]\ntoken = { CANARY = \"CANARY\" }",
	"[cloudshark]\ntoken = 'CANARY'\ntoken = 'CANARY'",
	"[cloudshark]\ntoken = \"CANARY\"\ntoken_file = \"CANARY\"",
	"[cloudshark]\ntoken = \"CANARY\"\n= 5",
	"[cloudshark]\ntoken = \"CANARY\"\nurl = = 5",
	"= 5\n[cloudshark]\ntoken = \"CANARY\"",
	"[cloudshark]\ntokn = \"CANARY\"",
	"[cloudshark]\nmax_size = \"CANARY\"",
	"[cloudshark]\nmax_size = \"10CANARY\"",
	"[cloudshark]\nbandwidth = \"CANARY\"",
	"[cloudshark]\ntimeout = \"CANARY\"",
	"[cloudshark]\ntimeout = CANARY",
	"[cloudshark]\nconcurrency = \"CANARY\"",
	"[cloudshark]\nallow_http = \"CANARY\"",
	"[cloudshark]\ntags = \"CANARY\"",
	"[cloudshark]\ntags = [\"CANARY\", 5]",
	"[cloudshark]\ntags = [\"CANARY\" \"CANARY\"]",
	"[cloudshark]\ntoken_file = \"CANARY\"",
	"[cloudshark]\ntoken_command = \"CANARY\"",
	"[cloudshark]\ntoken_command = \"CANARY 'CANARY\"",
	"[cloudshark]\ntoken = \"@{CANARY\"",
	"[cloudshark]\ntoken = \"@{vault:CANARY}\"",
	"[cloudshark]\ntoken = \"@{file:CANARY}\"",
	"[cloudshark]\ntoken = \"@{env:CANARY-CANARY}\"",
	"[cloudshark]\nurl = \"https://host/api/v1/CANARY/upload\"\nx = 1",
	"[cloudshark]\nurl = \"https://host/CANARY\"",
	"[log]\nlevel = \"CANARY\"",
	"# CANARY\n\x01",
	"[log]\n# CANARY\xff",
	"log = \"CANARY\"",
	"[[watch]]\npath = 5 # CANARY",
	"[deep]\nsmall = 999 # CANARY",
	"watch = [{CANARY = 1}, {path = \"CANARY\" CANARY}]",
}

// complaints loads text and collects everything that is said about it.
func complaints(t testing.TB, text string, opts Options) string {
	dst, l, errs := load(t, text, opts)
	var said strings.Builder
	fmt.Fprintln(&said, strings.Join(errs, "\n"))
	if l == nil {
		return said.String()
	}
	fmt.Fprintln(&said, l.ResolveSecrets(t.Context()))
	fmt.Fprintln(&said, l.OneOf("log.level", dst.Log.Level, "info", "debug"))
	fmt.Fprintln(&said, l.Errorf("cloudshark.url", "expected a URL without a path"))
	fmt.Fprintln(&said, l.Warnings)
	fmt.Fprintf(&said, "%v %+v %#v\n", l, *l, dst.CloudShark.Token)
	return said.String()
}

func TestNoErrorHoldsASecretWhereverItWasPasted(t *testing.T) {
	for _, text := range everywhere {
		text = strings.ReplaceAll(text, "CANARY", canary)
		if said := complaints(t, text, Options{}); leak(said) != "" {
			t.Errorf("%q makes it say:\n%s", text, said)
		}
	}
	for _, name := range []string{"CLOUDSHARK_TOKEN", "CLOUDSHARK_MAX_SIZE", "CLOUDSHARK_TOKN", "CLOUDSHARK_ALLOW_HTTP", "LOG_" + strings.ToUpper(canary)} {
		if said := complaints(t, "", Options{Env: []string{"CAPAGENT_" + name + "=" + canary}}); leak(said) != "" {
			t.Errorf("variable %s makes it say:\n%s", name, said)
		}
	}
	for _, key := range []string{"cloudshark.token", "cloudshark.max_size", "cloudshark.tokn", canary} {
		if said := complaints(t, "", Options{Overrides: []Override{{Key: key, Value: canary, Flag: "--set"}}}); leak(said) != "" {
			t.Errorf("flag for %s makes it say:\n%s", key, said)
		}
	}
}

func FuzzLoad(f *testing.F) {
	for _, text := range everywhere {
		f.Add(text)
	}
	f.Add("log.level = 'a'\n[deep]\nsmall = 0x1F\nratio = 1_0e3\ncounts = [1_000, -0b11, +0o7]\nspans = [\"1s\", '2d']\ninner = { x = 5 }\n")
	f.Add("[cloudshark]\nmax_size = 5_000\nbandwidth = 0\ntimeout = 0\npins = []\nallow_http = false\ntoken = '@{env:X}'\ncomments = \"\\u00e9\\n\"\n")
	f.Add("[cloudshark]\ntags = [\"a\", # b\n]\nname = '''\nx'''\n[[watch]]\nsettle = \"1d\"\n[watch.x]\n")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ReplaceAll(text, "CANARY", canary)
		path := filepath.Join(dir, "agent.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		dst := &everything{agent: *agentDefaults()}
		l, err := Load(Options{Path: path, EnvPrefix: "CAPAGENT"}, dst)
		if err != nil && leak(err.Error()) != "" {
			t.Fatalf("%q makes it say:\n%s", text, err)
		}
		if err != nil && strings.Count(err.Error(), "\n") > maxErrors {
			t.Fatalf("too many errors")
		}
		if l == nil {
			return
		}
		if err == nil && dst.Watch == nil {
			sameAsGoTOML(t, text, dst)
		}
		for _, row := range l.Effective() {
			if row.Key == "cloudshark.token" && row.Value != `""` && row.Value != `"***"` {
				t.Fatalf("shows the token as %s", row.Value)
			}
		}
	})
}

// sameAsGoTOML takes go-toml's own decoder as the oracle for what was assigned.
// It knows no SetDefaults, so lists of tables are left out.
func sameAsGoTOML(t *testing.T, text string, got *everything) {
	t.Helper()
	want := &everything{agent: *agentDefaults()}
	text = strings.TrimPrefix(text, "\ufeff")
	if err := toml.NewDecoder(strings.NewReader(text)).DisallowUnknownFields().Decode(want); err != nil {
		t.Fatalf("go-toml refuses %q: %v", text, err)
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(everything{}), cmpopts.EquateEmpty(), cmpopts.EquateNaNs()); diff != "" {
		t.Fatalf("%q differs from go-toml (-go-toml +ours):\n%s", text, diff)
	}
}

func TestEveryFormOfASecretResolves(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tok")
	if err := os.WriteFile(path, []byte(canary+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		text string
		env  []string
	}{
		"literal":                       {text: "token = \"" + canary + "\""},
		"file":                          {text: "token_file = '" + path + "'"},
		"file over the literal's layer": {text: "token = \"other\"", env: []string{"CAPAGENT_CLOUDSHARK_TOKEN_FILE=" + path}},
		"literal over the file's layer": {text: "token_file = \"/nowhere\"", env: []string{"CAPAGENT_CLOUDSHARK_TOKEN=" + canary}},
		"reference":                     {text: "token = \"@{env:MY_TOKEN}\"", env: []string{"MY_TOKEN=" + canary}},
		"empty literal beside a file":   {text: "token = \"\"\ntoken_file = '" + path + "'"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dst, l, errs := load(t, "[cloudshark]\n"+tt.text+"\n", Options{Env: tt.env})
			if errs != nil {
				t.Fatal(errs)
			}
			one, err := l.ResolveSecret(t.Context(), "cloudshark.token")
			if err != nil || one.Reveal() != canary {
				t.Errorf("ResolveSecret: %v", err)
			}
			for range 2 { // a reload resolves again
				if err := l.ResolveSecrets(t.Context()); err != nil || dst.CloudShark.Token.Reveal() != canary {
					t.Errorf("ResolveSecrets: %v", err)
				}
			}
			if all := l.Secrets(); len(all) != 1 || !all[0].Equal(one) {
				t.Errorf("Secrets: %d", len(all))
			}
			for _, row := range l.Effective() {
				if leak(row.Value) != "" || row.Key == "cloudshark.token" && row.Value != `"***"` {
					t.Errorf("shows %+v", row)
				}
			}
		})
	}
}

func TestJudgementOfASecretNamesTheFormThatWasUsed(t *testing.T) {
	tests := map[string]string{
		"token = \"x\"":              "agent.toml:2:1: cloudshark.token: expected 32 hexadecimal digits",
		"url=\"\"\ntoken_file=\"x\"": "agent.toml:3:1: cloudshark.token_file: expected 32 hexadecimal digits",
		"token_command = \"x\"":      "agent.toml:2:1: cloudshark.token_command: expected 32 hexadecimal digits",
		"":                           "agent.toml:1:2: cloudshark.token: expected 32 hexadecimal digits",
	}
	for text, want := range tests {
		_, l, _ := load(t, "[cloudshark]\n"+text+"\n", Options{})
		got := lines(l.Errorf("cloudshark.token", "expected 32 hexadecimal digits"), filepath.Dir(l.Path))
		if !cmp.Equal(got, []string{want}) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
		for _, row := range l.Effective() {
			if row.Key == "cloudshark.token" && text != "" && !strings.Contains(row.Origin, "agent.toml:") {
				t.Errorf("%q: the token's origin is %q", text, row.Origin)
			}
		}
	}
}

func TestSecretFileIsSoughtBesideTheConfiguration(t *testing.T) {
	_, l, _ := load(t, "[cloudshark]\ntoken_file = \"tok\"\n", Options{})
	if err := os.WriteFile(filepath.Join(filepath.Dir(l.Path), "tok"), []byte(canary), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := l.ResolveSecret(t.Context(), "cloudshark.token"); err != nil || s.Reveal() != canary {
		t.Errorf("got %v", err)
	}
}

func TestSecretThatCantBeHadIsToldAtItsKey(t *testing.T) {
	tests := []struct {
		text, want string
		env        []string
	}{
		{text: "token = \"@{env:NOPE}\"", want: "agent.toml:2:1: cloudshark.token: @{env:NOPE}: the variable is not set"},
		{text: "token_command = \"no-such-program-here\"", want: "agent.toml:2:1: cloudshark.token_command: the command's program is not in PATH"},
		{env: []string{"CAPAGENT_CLOUDSHARK_TOKEN=@{systemd:tok}"}, want: "environment CAPAGENT_CLOUDSHARK_TOKEN: cloudshark.token: @{systemd:tok}: CREDENTIALS_DIRECTORY is not set; the unit needs LoadCredential=tok:/path"},
	}
	for _, tt := range tests {
		_, l, errs := load(t, "[cloudshark]\n"+tt.text+"\n", Options{Env: tt.env})
		if errs != nil {
			t.Fatal(errs)
		}
		got := lines(l.ResolveSecrets(t.Context()), filepath.Dir(l.Path))
		if diff := cmp.Diff([]string{tt.want}, got); diff != "" {
			t.Error(diff)
		}
	}
}

func TestLiteralSecretInAnOpenFileIsWarnedOf(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a file's mode says nothing here")
	}
	path := filepath.Join(t.TempDir(), "agent.toml")
	for _, tt := range []struct {
		text string
		mode os.FileMode
		want int
	}{
		{"token = \"" + canary + "\"", 0o644, 1},
		{"token = \"" + canary + "\"", 0o640, 1},
		{"token = \"" + canary + "\"", 0o600, 0},
		{"token = \"@{env:X}\"", 0o644, 0},
		{"token_file = \"x\"", 0o644, 0},
		{"url = \"x\"", 0o644, 0},
	} {
		if err := os.WriteFile(path, []byte("[cloudshark]\n"+tt.text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, tt.mode); err != nil {
			t.Fatal(err)
		}
		l, err := Load(Options{Path: path}, agentDefaults())
		if err != nil || len(l.Warnings) != tt.want {
			t.Fatalf("%q with %o: %q, %v", tt.text, tt.mode, l.Warnings, err)
		}
		if tt.want == 1 && (!strings.HasPrefix(l.Warnings[0], path+":2:1: cloudshark.token: ") || leak(l.Warnings[0]) != "") {
			t.Errorf("warns %q", l.Warnings[0])
		}
	}
}

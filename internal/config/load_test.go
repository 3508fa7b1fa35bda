package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type watch struct {
	Path      string   `toml:"path"`
	Recursive bool     `toml:"recursive"`
	Include   []string `toml:"include"`
	Settle    Duration `toml:"settle"`
}

func (w *watch) SetDefaults() { w.Settle = Duration(10 * time.Second) }

type common struct {
	Quiet bool `toml:"quiet"`
}

// everything adds to the agent's tables the shapes that they don't have.
type everything struct {
	common
	agent
	Watch []watch `toml:"watch"`
	Deep  struct {
		Small  uint8      `toml:"small"`
		Ratio  float64    `toml:"ratio"`
		Counts []int      `toml:"counts"`
		Spans  []Duration `toml:"spans"`
		Inner  struct {
			X int `toml:"x"`
		} `toml:"inner"`
	} `toml:"deep"`
}

// load writes text to agent.toml and loads it; the path in errors is cut to
// the file's name.
func load(t testing.TB, text string, opts Options) (*everything, *Loaded, []string) {
	t.Helper()
	dst := &everything{agent: *agentDefaults()}
	dir := t.TempDir()
	opts.Path = filepath.Join(dir, "agent.toml")
	opts.EnvPrefix = "CAPAGENT"
	if err := os.WriteFile(opts.Path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Load(opts, dst)
	return dst, l, lines(err, dir)
}

func lines(err error, dir string) []string {
	if err == nil {
		return nil
	}
	return strings.Split(strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), ""), "\n")
}

func TestWhatIsWrongIsToldWithItsPlace(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"unknown key", "[cloudshark]\nurl = \"u\"\n  concurency = 2\n", `agent.toml:3:3: cloudshark.concurency: unknown key; did you mean "concurrency"?`},
		{"unknown key in another case", "[cloudshark]\nMax-Size = 2\n", `agent.toml:2:1: cloudshark.Max-Size: unknown key; did you mean "max_size"?`},
		{"unknown key like nothing else", "[log]\nfrobnicate = 2\n", `agent.toml:2:1: log.frobnicate: unknown key`},
		{"key of another table", "[log]\nmax_size = 2\n", `agent.toml:2:1: log.max_size: unknown key; it belongs in [cloudshark]`},
		{"key before its table", "url = \"u\"\n", `agent.toml:1:1: url: unknown key; it belongs in [cloudshark]`},
		{"unknown table, once for all its keys", "[cloudshak]\nurl = \"u\"\ntoken = \"t\"\n", `agent.toml:1:2: cloudshak: unknown table; did you mean [cloudshark]?`},
		{"unknown list", "[[wach]]\npath = \"u\"\n", `agent.toml:1:3: wach: unknown table; did you mean [[watch]]?`},
		{"unknown table in a dotted key", "lgo.level = \"u\"\n", `agent.toml:1:1: lgo: unknown table; did you mean [log]?`},
		{"unknown key in an inline table", "log = { level = \"info\", fromat = \"x\" }\n", `agent.toml:1:25: log.fromat: unknown key; did you mean "format"?`},
		{"unknown key in a list", "[[watch]]\npath = \"a\"\n[[watch]]\npaht = \"b\"\n", `agent.toml:4:1: watch[1].paht: unknown key; did you mean "path"?`},
		{"unknown key after wide characters", "log = { \"level\" = \"äöü€\", x = 1 }\n", `agent.toml:1:27: log.x: unknown key`},
		{"size without sense", "[cloudshark]\nmax_size = \"12 parsec\"\n", `agent.toml:2:12: cloudshark.max_size: expected a size such as "512MiB" or "10MB", found a string that isn't one`},
		{"rate without a unit", "[cloudshark]\nbandwidth = 10\n", `agent.toml:2:13: cloudshark.bandwidth: expected a rate such as "10MB/s" or "100Mbit/s", found a number without a unit`},
		{"time span without a unit", "[cloudshark]\ntimeout = 60\n", `agent.toml:2:11: cloudshark.timeout: expected a time span such as "90s", "5m" or "1d", found a number without a unit`},
		{"string for a number", "[cloudshark]\nconcurrency = \"2\"\n", `agent.toml:2:15: cloudshark.concurrency: expected a whole number, found a string`},
		{"fraction for a number", "[cloudshark]\nconcurrency = 2.5\n", `agent.toml:2:15: cloudshark.concurrency: expected a whole number, found a number with a fraction`},
		{"number out of range", "[deep]\nsmall = 256\n", `agent.toml:2:9: deep.small: expected a whole number from 0 to 255, found one that is out of range`},
		{"negative number", "[deep]\nsmall = -1\n", `agent.toml:2:9: deep.small: expected a whole number from 0 to 255, found one that is out of range`},
		{"number for a string", "[cloudshark]\nurl = 5\n", `agent.toml:2:7: cloudshark.url: expected a string in quotes, found a whole number`},
		{"number for a secret", "[cloudshark]\ntoken = 5\n", `agent.toml:2:9: cloudshark.token: expected a secret or a reference such as "@{env:NAME}" or "@{file:/path}", found a whole number`},
		{"string for a switch", "[cloudshark]\nallow_http = \"yes\"\n", `agent.toml:2:14: cloudshark.allow_http: expected true or false, found a string`},
		{"string for a list", "[cloudshark]\ntags = \"a\"\n", `agent.toml:2:8: cloudshark.tags: expected a list such as ["a", "b"], found a string`},
		{"list of something else", "[cloudshark]\ntags = [\n \"a\", 5]\n", `agent.toml:2:8: cloudshark.tags: expected a list such as ["a", "b"], found a list with something else in it`},
		{"list for a string", "[cloudshark]\nurl = [\"a\"]\n", `agent.toml:2:7: cloudshark.url: expected a string in quotes, found a list`},
		{"table for a string", "[cloudshark.url]\nx = 1\n", `agent.toml:1:13: cloudshark.url: expected a string in quotes, found a table`},
		{"string for a table", "log = \"info\"\n", `agent.toml:1:7: log: expected a table [log], found a string`},
		{"table for a list of tables", "[watch]\npath = \"x\"\n", `agent.toml:1:2: watch: expected [[watch]]`},
		{"list for a table", "[[log]]\nlevel = \"x\"\n", `agent.toml:1:3: log: expected [log]`},
		{"key set twice", "[log]\nlevel = \"info\"\nformat = \"json\"\nlevel = \"info\"\n", `agent.toml:4:1: log.level: set a second time; the first is on line 2`},
		{"table set twice", "[log]\n[agent]\n[log]\n", `agent.toml:3:2: the key or table is defined a second time`},
		{"date that does not exist", "[log]\nlevel = 2021-13-41\n", `agent.toml:2:9: log.level: expected a string in quotes, found a date`},
		{"no value", "[log]\nlevel =\n", `agent.toml:2:8: expected a value; a string stands in quotes`},
		{"string without quotes", "[log]\nlevel = info\n", `agent.toml:2:12: expected the end of the line; a string stands in quotes`},
		{"no equals sign", "[log]\nlevel \"info\"\n", `agent.toml:2:7: expected = and a value after the key`},
		{"open string", "[log]\nlevel = \"info\nformat = \"x\"\n", `agent.toml:2:14: expected a closing quote before the end of the line`},
		{"open list", "[cloudshark]\ntags = [\"a\"\n", `agent.toml:2:12: expected ] at the end of the list`},
		{"open table name", "[log\nlevel = 1\n", `agent.toml:1:5: expected ] after the name of the table`},
		{"two values", "[log]\nlevel = \"a\" \"b\"\n", `agent.toml:2:13: expected the end of the line; a string stands in quotes`},
		{"Windows path in double quotes", "[agent]\nstate_dir = \"C:\\data\"\n", `agent.toml:2:16: expected an escape such as \\ or \"; a Windows path stands in 'single quotes'`},
		{"Windows path that looks like an escape", "[agent]\nstate_dir = \"C:\\users\"\n", `agent.toml:2:18: expected a \u with four hexadecimal digits; a Windows path stands in 'single quotes'`},
		{"not UTF-8", "[log]\nlevel = \"\xff\"\n", `agent.toml:2:10: expected UTF-8 text`},
		{"UTF-16", "\xff\xfe[\x00", `agent.toml:1:1: expected UTF-8 text, found UTF-16; save the file as UTF-8`},
		{"nested without end", "a" + strings.Repeat(".a", 40) + " = 1\n", `agent.toml:1:33: nested too deeply; expected at most 16 levels`},
		{"two forms of a secret", "[cloudshark]\ntoken = \"a\"\ntoken_file = \"b\"\n", `agent.toml:3:1: cloudshark.token_file: set together with cloudshark.token; give one of them`},
		{"mask for a secret", "[cloudshark]\ntoken = \"***\"\n", `agent.toml:2:9: cloudshark.token: expected a secret or a reference such as "@{env:NAME}" or "@{file:/path}", found a string that isn't one`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, l, got := load(t, tt.text, Options{})
			if diff := cmp.Diff([]string{tt.want}, got); diff != "" {
				t.Error(diff)
			}
			if l == nil {
				t.Error("no Loaded")
			}
		})
	}
}

func TestAllErrorsComeAtOnceInTheOrderOfTheFile(t *testing.T) {
	text := strings.Join([]string{
		`[agnt]`, `name = 5`, `[cloudshark]`, `max_size = "many"`, `urll = "x"`, `concurrency = "x"`, `concurrency = 1`, `concurrency = 2`, `[log]`, `level = `,
	}, "\n")
	_, _, got := load(t, text, Options{
		Env:       []string{"CAPAGENT_LOG_LEVELL=x", "CAPAGENT_CLOUDSHARK_MAX_SIZE=x"},
		Overrides: []Override{{Key: "cloudshark.timeout", Value: "soon", Flag: "--timeout"}},
	})
	want := []string{
		`agent.toml:1:2: agnt: unknown table; did you mean [agent]?`,
		`agent.toml:4:12: cloudshark.max_size: expected a size such as "512MiB" or "10MB", found a string that isn't one`,
		`agent.toml:5:1: cloudshark.urll: unknown key; did you mean "url"?`,
		`agent.toml:6:15: cloudshark.concurrency: expected a whole number, found a string`,
		`agent.toml:8:1: cloudshark.concurrency: set a second time; the first is on line 7`,
		`agent.toml:10:8: expected a value`,
		`environment CAPAGENT_CLOUDSHARK_MAX_SIZE: cloudshark.max_size: expected a size such as "512MiB" or "10MB"`,
		`environment CAPAGENT_LOG_LEVELL: unknown key; did you mean CAPAGENT_LOG_LEVEL?`,
		`flag --timeout: cloudshark.timeout: expected a time span such as "90s", "5m" or "1d"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLaterLayersBeatEarlierOnes(t *testing.T) {
	dst, l, errs := load(t, "quiet = true\n[cloudshark]\nurl = \"file\"\nmethod = \"post\"\nmax_size = 5\nname = \"n\"\ncomments = \"c\"\n", Options{
		Env: []string{
			"CAPAGENT_CLOUDSHARK_URL=env", "CAPAGENT_CLOUDSHARK_TAGS= a, b ,,c", "CAPAGENT_CLOUDSHARK_MAX_SIZE=10MB", "CAPAGENT_DEEP_INNER_X=7",
			"CAPAGENT_CLOUDSHARK_ALLOW_HTTP=true", "CAPAGENT_CLOUDSHARK_COMMENTS=", "CAPAGENT_CONFIG=/x", "CAPAGENT_OTHER_THING=1", "OTHER=1", "=C:=x",
		},
		Overrides: []Override{{Key: "cloudshark.url", Value: "flag", Flag: "--url"}},
	})
	if errs != nil {
		t.Fatal(errs)
	}
	c := dst.CloudShark
	if c.URL != "flag" || c.Method != "post" || c.MaxSize != 10e6 || !c.AllowHTTP || c.Concurrency != 2 || c.Comments != "c" ||
		!reflect.DeepEqual(c.Tags, []string{"a", "b", "c"}) || dst.Deep.Inner.X != 7 || !dst.Quiet {
		t.Errorf("loaded %+v", dst)
	}
	origins := map[string]string{
		"cloudshark.url": "flag --url", "cloudshark.max_size": "environment CAPAGENT_CLOUDSHARK_MAX_SIZE",
		"cloudshark.method": "agent.toml:4:1", "cloudshark.concurrency": "default", "quiet": "agent.toml:1:1",
	}
	for key, want := range origins {
		if got := l.Origin(key).String(); !strings.HasSuffix(got, want) {
			t.Errorf("%s came from %s, want %s", key, got, want)
		}
	}
}

func TestEveryShapeOfTOMLIsUnderstood(t *testing.T) {
	text := "\ufeff" + strings.ReplaceAll(`# comment
quiet = true
log.level = "debug"
deep = { small = 0x1F, ratio = 2, counts = [1_000, -2, +3], spans = ["1s", "2d"], inner.x = 0o17 }
[cloudshark]
"name" = 'C:\literal'
tags = [ # why
  "a",
  "b", # more
]
comments = """
two
lines"""
max_size = 1_500
bandwidth = 0
[[watch]]
path = "one"
include = []
[[watch]]
path = "two"
settle = "0s"
recursive = true
`, "\n", "\r\n")
	dst, l, errs := load(t, text, Options{})
	if errs != nil {
		t.Fatal(errs)
	}
	if dst.Log.Level != "debug" || dst.Deep.Small != 31 || dst.Deep.Ratio != 2 || !reflect.DeepEqual(dst.Deep.Counts, []int{1000, -2, 3}) ||
		len(dst.Deep.Spans) != 2 || dst.Deep.Inner.X != 15 || dst.CloudShark.Name != `C:\literal` || dst.CloudShark.Comments != "two\r\nlines" ||
		dst.CloudShark.MaxSize != 1500 || !reflect.DeepEqual(dst.CloudShark.Tags, []string{"a", "b"}) {
		t.Errorf("loaded %+v", dst)
	}
	want := []watch{{Path: "one", Include: []string{}, Settle: Duration(10 * time.Second)}, {Path: "two", Recursive: true}}
	if diff := cmp.Diff(want, dst.Watch); diff != "" {
		t.Error(diff)
	}
	for key, place := range map[string]string{"watch[1].path": ":20:1", "watch[1]": ":19:3", "deep.inner.x": ":4:89", "log.level": ":3:5", "quiet": ":2:1"} {
		if got := l.Origin(key).String(); !strings.HasSuffix(got, place) {
			t.Errorf("%s is at %s, want %s", key, got, place)
		}
	}
}

func TestFileListReplacesTheDefaultList(t *testing.T) {
	for text, want := range map[string]int{"": 2, "watch = []": 0, "[[watch]]\npath=\"x\"": 1, "watch = [{path=\"a\"}, {path=\"b\"}, {path=\"c\"}]": 3} {
		dst := &everything{Watch: []watch{{Path: "d"}, {Path: "e"}}}
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(Options{Path: path}, dst); err != nil || len(dst.Watch) != want {
			t.Errorf("%q leaves %v, %v", text, dst.Watch, err)
		}
	}
}

func TestVariablesAreJudgedAsStrictlyAsTheFile(t *testing.T) {
	tests := map[string]string{
		"CAPAGENT_CLOUDSHARK_CONCURRENCY=two":  "environment CAPAGENT_CLOUDSHARK_CONCURRENCY: cloudshark.concurrency: expected a whole number",
		"CAPAGENT_CLOUDSHARK_CONCURRENCY=010":  "environment CAPAGENT_CLOUDSHARK_CONCURRENCY: cloudshark.concurrency: expected a whole number",
		"CAPAGENT_CLOUDSHARK_ALLOW_HTTP=yes":   "environment CAPAGENT_CLOUDSHARK_ALLOW_HTTP: cloudshark.allow_http: expected true or false",
		"CAPAGENT_CLOUDSHARK_TOKENFILE=x":      "environment CAPAGENT_CLOUDSHARK_TOKENFILE: unknown key; did you mean CAPAGENT_CLOUDSHARK_TOKEN_FILE?",
		"CAPAGENT_DEEP_COUNTS=1,x":             "environment CAPAGENT_DEEP_COUNTS: deep.counts: expected a list separated by commas, each a whole number",
		"CAPAGENT_WATCH_PATH=x":                "environment CAPAGENT_WATCH_PATH: [[watch]] can't be set by a variable; write it into the file",
		"CAPAGENT_LOG_0123456789ABCDEF0123=x":  "environment CAPAGENT_LOG_…: unknown key",
		"CAPAGENT_CLOUDSHARK_TOKEN_FILES=/run": "environment CAPAGENT_CLOUDSHARK_TOKEN_FILES: unknown key; did you mean CAPAGENT_CLOUDSHARK_TOKEN_FILE?",
	}
	for pair, want := range tests {
		if _, _, got := load(t, "", Options{Env: []string{pair}}); !cmp.Equal(got, []string{want}) {
			t.Errorf("%s: %q, want %q", pair, got, want)
		}
	}
}

func TestFlagsAreJudgedToo(t *testing.T) {
	tests := map[Override]string{
		{Key: "cloudshark.tokn", Value: "x", Flag: "--set"}:                  `flag --set: unknown key; did you mean "cloudshark.token"?`,
		{Key: "cloudshark.token", Value: "0123456789abcdef", Flag: "--set"}:  `flag --set: cloudshark.token: a secret on the command line can be read by every user; expected a reference or token_file`,
		{Key: "cloudshark.token", Value: "@{env:TOKEN}", Flag: "--set"}:      ``,
		{Key: "cloudshark.token_file", Value: "/run/token", Flag: "--token"}: ``,
	}
	for o, want := range tests {
		if _, _, got := load(t, "", Options{Overrides: []Override{o}}); strings.Join(got, "\n") != want {
			t.Errorf("%+v: %q, want %q", o, got, want)
		}
	}
}

func TestErrorsFoundLaterStandAtTheirKey(t *testing.T) {
	_, l, errs := load(t, "[cloudshark]\nmethod = \"putt\"\nname = \"x\"\n", Options{Env: []string{"CAPAGENT_LOG_LEVEL=x"}})
	if errs != nil {
		t.Fatal(errs)
	}
	sentinel := errors.New("expected a name with {sha}")
	err := Join(
		l.OneOf("log.level", "x", "info", "debug"),
		l.Errorf("agent.name", "expected a name"),
		l.Errorf("cloudshark.name", "%w", sentinel),
		l.OneOf("cloudshark.method", "putt", "post", "put"),
		l.OneOf("log.format", "auto", "auto"),
		l.Errorf("cloudshark.url", "expected the URL of a CloudShark"),
	)
	want := []string{
		`agent.toml: agent.name: expected a name`,
		`agent.toml:1:2: cloudshark.url: expected the URL of a CloudShark`,
		`agent.toml:2:1: cloudshark.method: expected one of post, put; did you mean "put"?`,
		`agent.toml:3:1: cloudshark.name: expected a name with {sha}`,
		`environment CAPAGENT_LOG_LEVEL: log.level: expected one of info, debug`,
	}
	if diff := cmp.Diff(want, lines(err, filepath.Dir(l.Path))); diff != "" {
		t.Error(diff)
	}
	if !errors.Is(err, sentinel) || Join(nil, nil) != nil {
		t.Error("Join loses what it joins")
	}
}

func TestFileItselfIsJudged(t *testing.T) {
	dir := t.TempDir()
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, make([]byte, 1<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(dir, "none")
	for path, want := range map[string]string{dir: "not a regular file", big: "at most 1048576 bytes", none: "no such file"} {
		if runtime.GOOS == "windows" && path == none {
			continue
		}
		l, err := Load(Options{Path: path}, new(agent))
		if l != nil || err == nil || !strings.HasPrefix(err.Error(), path+": ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := Load(Options{Path: none}, new(agent)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
	if l, err := Load(Options{}, new(agent)); err != nil || l.Path != "" {
		t.Errorf("no file: %v", err)
	}
}

func TestAFileOfNonsenseGivesABoundedAnswer(t *testing.T) {
	for name, text := range map[string]string{
		"unknown keys":       strings.Repeat("a = 1\n", 150_000),
		"one long line":      "log = { " + strings.Repeat("a = 1, ", 70_000) + "}",
		"lists of tables":    strings.Repeat("[[watch]]\n", 50_000),
		"lists on one line":  "watch = [" + strings.Repeat("{},", 100_000) + "]",
		"deep inline tables": strings.Repeat("a={", 9000),
		"deep lists":         "a=" + strings.Repeat("[", 500_000),
		"dots":               strings.Repeat("a.", 100_000) + "a = 1",
	} {
		if len(text) > maxFile {
			t.Fatalf("%s is too long", name)
		}
		t.Run(name, func(t *testing.T) {
			if _, _, errs := load(t, text, Options{}); len(errs) > maxErrors+1 {
				t.Errorf("%d errors", len(errs))
			}
		})
	}
}

func TestKeysAreListedWithTypeAndDefault(t *testing.T) {
	keys := map[string]Key{}
	for _, k := range Keys(&everything{agent: *agentDefaults()}) {
		keys[k.Path] = k
	}
	for _, want := range []Key{
		{Path: "quiet", Type: "true or false", Default: "false"},
		{Path: "cloudshark.token", Type: `a secret or a reference such as "@{env:NAME}" or "@{file:/path}"`, Default: `""`, Secret: true},
		{Path: "cloudshark.token_file", Type: "a string in quotes", Default: `""`},
		{Path: "cloudshark.timeout", Type: `a time span such as "90s", "5m" or "1d"`, Default: `"1m"`},
		{Path: "cloudshark.bandwidth", Type: `a rate such as "10MB/s" or "100Mbit/s"`, Default: "0"},
		{Path: "watch[].settle", Type: `a time span such as "90s", "5m" or "1d"`, Default: `"10s"`},
		{Path: "deep.inner.x", Type: "a whole number", Default: "0"},
		{Path: "deep.ratio", Type: "a number", Default: "0.0"},
	} {
		if got := keys[want.Path]; got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}

// What Effective shows must load again and mean the same.
func TestEffectiveRowsAreTOML(t *testing.T) {
	dst, l, errs := load(t, "[cloudshark]\ncomments = \"q\\\"\\\\ \\u0001 ä\"\ntags = [\"a\", \"b\"]\ntimeout = \"90s\"\n[[watch]]\npath='w'\n", Options{})
	if errs != nil {
		t.Fatal(errs)
	}
	again := new(everything)
	again.Watch = make([]watch, 1)
	var text strings.Builder
	for _, row := range l.Effective() {
		key := strings.Replace(row.Key, "watch[0].", "watch.", 1)
		if key != row.Key {
			continue // a list can't be written as dotted keys
		}
		fmt.Fprintf(&text, "%s = %s\n", key, row.Value)
	}
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(Options{Path: path}, again); err != nil {
		t.Fatalf("%v in:\n%s", err, text.String())
	}
	again.Watch = dst.Watch
	opts := []cmp.Option{cmp.AllowUnexported(everything{}), cmp.Transformer("empty", func(s []string) string { return strings.Join(s, "\x00") }), cmp.Transformer("ints", func(s []int) int { return len(s) }), cmp.Transformer("spans", func(s []Duration) int { return len(s) })}
	if diff := cmp.Diff(dst, again, opts...); diff != "" {
		t.Error(diff)
	}
}

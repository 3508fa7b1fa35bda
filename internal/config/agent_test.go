package config

import (
	"os"
	"strings"
	"testing"
	"time"

	"capagent/internal/secret"
)

// agent has the tables of testdata/example.toml; the program's own structs are
// compared with the file where they live.
type agent struct {
	Agent struct {
		Name     string `toml:"name"`
		StateDir string `toml:"state_dir"`
	} `toml:"agent"`
	Log struct {
		Level  string `toml:"level"`
		Format string `toml:"format"`
	} `toml:"log"`
	CloudShark struct {
		URL          string        `toml:"url"`
		Token        secret.Secret `toml:"token"`
		TokenFile    string        `toml:"token_file"`
		TokenCommand string        `toml:"token_command"`
		Tags         []string      `toml:"tags"`
		Comments     string        `toml:"comments"`
		Name         string        `toml:"name"`
		Method       string        `toml:"method"`
		Concurrency  int           `toml:"concurrency"`
		Bandwidth    Rate          `toml:"bandwidth"`
		MaxSize      Size          `toml:"max_size"`
		MaxPackets   uint32        `toml:"max_packets"`
		Timeout      Duration      `toml:"timeout"`
		AllowHTTP    bool          `toml:"allow_http"`
		CAFile       string        `toml:"ca_file"`
		Pins         []string      `toml:"pins"`
	} `toml:"cloudshark"`
}

func agentDefaults() *agent {
	a := new(agent)
	a.Log.Level, a.Log.Format = "info", "auto"
	a.CloudShark.Name = "{host}-{source}-{first}-{sha}"
	a.CloudShark.Method = "put"
	a.CloudShark.Concurrency = 2
	a.CloudShark.Timeout = Duration(time.Minute)
	return a
}

func exampleText(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("testdata/example.toml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestExampleFileMatchesTheStruct(t *testing.T) {
	if err := CheckExample(exampleText(t), agentDefaults()); err != nil {
		t.Error(err)
	}
}

func TestExampleFileLoadsAsItIs(t *testing.T) {
	a := agentDefaults()
	l, err := Load(Options{Path: "testdata/example.toml"}, a)
	if err != nil {
		t.Fatal(err)
	}
	if a.CloudShark.URL != "https://www.cloudshark.org" || l.Origin("cloudshark.url").Line == 0 || a.CloudShark.Concurrency != 2 {
		t.Errorf("loaded %+v", a.CloudShark)
	}
}

func TestExampleOfAListOfTables(t *testing.T) {
	type withList struct {
		Watch []watch `toml:"watch"`
	}
	const text = `# Folders.
#[[watch]]
# Where files appear.
#path = "/srv/pcaps" # example
# Below it too?
#recursive = false
# Which names.
#include = []
# How long a file must be still.
#settle = "10s"
`
	if err := CheckExample(text, new(withList)); err != nil {
		t.Error(err)
	}
	err := CheckExample(strings.Replace(text, "10s", "11s", 1), new(withList))
	if err == nil || err.Error() != `watch[].settle: the example shows "11s", the default is "10s"` {
		t.Errorf("got %v", err)
	}
}

func TestCheckExampleSeesEveryDifference(t *testing.T) {
	good := exampleText(t)
	tests := []struct{ name, old, new, want string }{
		{"key missing in the example", "#concurrency = 2\n", "", "cloudshark.concurrency: missing"},
		{"key unknown to the struct", "#concurrency = 2\n", "#concurrency = 2\n# Why.\n#colour = 3\n", "cloudshark.colour: unknown key"},
		{"default that differs", "#concurrency = 2\n", "#concurrency = 3\n", "the example shows 3, the default is 2"},
		{"default of a list that differs", "#pins = []", `#pins = ["x"]`, `shows ["x"]`},
		{"value of the wrong type", "#concurrency = 2\n", "#concurrency = \"2\"\n", "expected a whole number"},
		{"key without a line of why", "# How many files are sent at the same time.\n", "", "no line of why"},
		{"sample that is not marked", `"/etc/capagent/ca.pem" # example`, `"/etc/capagent/ca.pem"`, "cloudshark.ca_file: the example shows"},
		{"broken TOML", "#pins = []", "#pins = [", "expected ] at the end of the list"},
		{"table that is missing", "[log]\n", "", "log.level: missing"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !strings.Contains(good, tt.old) {
				t.Fatalf("the example has no %q", tt.old)
			}
			err := CheckExample(strings.Replace(good, tt.old, tt.new, 1), agentDefaults())
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

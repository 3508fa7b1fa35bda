package service

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capagent/internal/config"
)

func TestTheExampleShowsEveryKeyAndItsDefault(t *testing.T) {
	text, err := os.ReadFile("../agent.toml.example")
	if err != nil {
		t.Fatal(err)
	}
	cfg := DefaultConfig()
	if err := config.CheckExample(string(text), &cfg); err != nil {
		t.Error(err)
	}
	// And the check can fail.
	without := strings.Replace(string(text), "max_packets", "max_pakets", 1)
	if err := config.CheckExample(without, &cfg); err == nil {
		t.Error("a misspelt key went unnoticed")
	}
	other := strings.Replace(string(text), "#concurrency = 2", "#concurrency = 3", 1)
	if err := config.CheckExample(other, &cfg); err == nil {
		t.Error("another default went unnoticed")
	}
}

func load(t *testing.T, text string, env ...string) (Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return LoadConfig(context.Background(), config.Options{Path: path, Env: env, EnvPrefix: "CAPAGENT"}, t.TempDir(), true)
}

func TestEveryMistakeIsReportedAtItsPlace(t *testing.T) {
	const canary = "feedfacefeedfacefeedfacefeedface0"
	for _, tc := range []struct{ name, text, want string }{
		{"no protocol", "[cloudshark]\nurl = \"www.cloudshark.org\"", ":2:1: cloudshark.url: expected a full URL with its protocol"},
		{"plain http", "[cloudshark]\nurl = \"http://cs.example.org\"", ":2:1: cloudshark.url: expected https"},
		{"a token in the url", "[cloudshark]\nurl = \"https://cs.example.org/api/v1/" + canary + "/upload\"", ":2:1: cloudshark.url: "},
		{"a token that is too long", "[cloudshark]\ntoken = \"" + canary + "\"", ":2:1: cloudshark.token: expected 32 hexadecimal"},
		{"two forms of the token", "[cloudshark]\ntoken = \"" + canary + "\"\ntoken_file = \"x\"", "give one of them"},
		{"a unit", "[cloudshark]\ntimeout = \"60 seconds\"", ":2:11: cloudshark.timeout: expected"},
		{"a level", "[log]\nlevel = \"warning\"", ":2:1: log.level: expected one of"},
		{"31 tags", "[cloudshark]\ntags = [" + strings.Repeat("\"t\",", 31) + "]", ":2:1: cloudshark.tags: expected at most 30"},
		{"a capture of nothing", "[[capture]]\nname = \"x\"", ": capture[0].interface: not set"},
		{"a filter", "[[capture]]\ninterface = \"eth0\"\nfilter = \"tcp prot 443\"", ":3:1: capture[0].filter: "},
		{"two captures of a name", "[[capture]]\ninterface = \"eth0\"\n[[capture]]\nname = \"ETH0\"\ninterface = \"eth1\"", ":4:1: capture[1].name: an earlier capture has this name"},
		{"a file that never ends", "[rotate]\npackets = 0", ":2:1: rotate.packets: expected a limit"},
		{"one that never ends here", "[rotate]\nsize = \"1GiB\"\n[[capture]]\ninterface = \"eth0\"\n[capture.rotate]\npackets = 0\nsize = 0", ":6:1: capture[0].rotate.packets: expected a limit"},
		{"a store of nothing", "[retention]\nsightings_size = \"1MiB\"", ":2:1: retention.sightings_size: expected at least 256MiB"},
		{"a slip of the pen", "[retention]\nsightings = \"1s\"", ":2:1: retention.sightings: expected at least 1m"},
		{"a policy without a source", "[policy]\nupload = \"flagged\"", ":2:1: policy.upload: \"flagged\" needs a [threatconnect] or a [[list]]"},
		{"a delay without an end", "[policy]\nmax_delay = \"2h\"", ":2:1: policy.max_delay: expected 1h at most"},
		{"another policy", "[policy]\nupload = \"trigered\"", "did you mean \"triggered\""},
		{"no window", "[policy]\nbefore = 0\nafter = 0", "policy.before: with policy.after"},
		{"a trigger without a log", "[policy]\nupload = \"triggered\"\n[[trigger]]\nname = \"x\"\npattern = \"x\"", "trigger[0].file: expected"},
		{"a trigger's pattern", "[policy]\nupload = \"triggered\"\n[[trigger]]\nname = \"x\"\nfile = \"/x\"\npattern = \"(\"", ":6:1: trigger[0].pattern: expected"},
		{"a trigger of nothing", "[[trigger]]\nname = \"x\"\nfile = \"/x\"\npattern = \"x\"", "trigger[0].name: a trigger needs policy.upload"},
		{"a schedule's cron", "[[capture]]\ninterface = \"eth0\"\n[[schedule]]\nname = \"x\"\ncapture = \"eth0\"\ncron = \"61 * * * *\"\nduration = \"1h\"", ":6:1: schedule[0].cron: expected"},
		{"a day that never comes", "[[capture]]\ninterface = \"eth0\"\n[[schedule]]\nname = \"x\"\ncapture = \"eth0\"\ncron = \"0 0 30 2 *\"\nduration = \"1h\"", ":6:1: schedule[0].cron: there is no such day"},
		{"a schedule of nothing", "[[schedule]]\nname = \"x\"\ncapture = \"eth0\"\ncron = \"TZ=0\"\ntimezone = \"Mars\"\nduration = \"1s\"", "schedule[0].capture: expected"},
		{"a placeholder", "[cloudshark]\nname = \"{hots}-{sha}\"", ":2:1: cloudshark.name: unknown placeholder"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := load(t, tc.text)
			if err == nil || !strings.Contains(err.Error(), tc.want) || strings.Contains(err.Error(), canary[:8]) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			var all config.Errors
			if !errors.As(err, &all) {
				t.Errorf("%T", err)
			}
		})
	}
}

func TestPlainHTTPIsForLoopbackOrOnDemand(t *testing.T) {
	for _, text := range []string{
		"url = \"http://127.0.0.1:8765\"", "url = \"http://[::1]:8765/\"", "url = \"http://localhost\"",
		"url = \"http://cs.example.org\"\nallow_http = true", "url = \"https://cs.example.org\"",
	} {
		if _, err := load(t, "[cloudshark]\n"+text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A capture's own [capture.rotate] takes what it does not say from [rotate].
func TestCapturesTakeWhatTheyDontSayFromRotate(t *testing.T) {
	cfg, err := load(t, `
[[capture]]
interface = "eth0"
[capture.rotate]
packets = 500
[[capture]]
interface = "eth1,eth2"
promiscuous = false
[rotate]
packets = 7
interval = "5m"
aligned = true
`)
	if err != nil {
		t.Fatal(err)
	}
	first, second := cfg.Capture[0], cfg.Capture[1]
	if r := first.Rotate; r.Packets != 500 || r.Interval.Std() != 5*time.Minute || !r.Aligned || r.Format != "pcapng" {
		t.Errorf("%+v", r)
	}
	if second.Rotate != cfg.Rotate || second.Label() != "eth1-eth2" || second.Promiscuous || !second.ExcludeUploads || second.Buffer != 64<<20 {
		t.Errorf("%+v", second)
	}
}

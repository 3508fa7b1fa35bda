package watch

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capagent/internal/config"
)

func TestValidate(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Config)
		key    string // "" when it is right
		text   string
	}{
		{"the defaults", func(*Config) {}, "", ""},
		{"patterns", func(c *Config) { c.Include = []string{"*.pcap", "eth?/[a-c]*", "x"} }, "", ""},
		{"moving", func(c *Config) { c.After, c.MoveTo = "move", absolute("/elsewhere") }, "", ""},
		{"moving beside", func(c *Config) { c.MoveTo = "../done" }, "", ""},
		{"no path", func(c *Config) { c.Path = "" }, "path", "not set"},
		{"a path that can't be", func(c *Config) { c.Path = "a\x00b" }, "path", "folder"},
		{"an empty pattern", func(c *Config) { c.Include = []string{""} }, "include", "*.pcap"},
		{"a broken pattern", func(c *Config) { c.Include = []string{"[a"} }, "include", "*.pcap"},
		{"any depth", func(c *Config) { c.Include = []string{"**/*.pcap"} }, "include", "any depth"},
		{"an absolute pattern", func(c *Config) { c.Include = []string{"/srv/*.pcap"} }, "include", "below"},
		{"no quiet time", func(c *Config) { c.Settle = 0 }, "settle", "10ms"},
		{"after", func(c *Config) { c.After = "shred" }, "after", `"keep"`},
		{"nowhere to move to", func(c *Config) { c.MoveTo = "" }, "move_to", "folder"},
		{"moving to itself", func(c *Config) { c.MoveTo = "." }, "move_to", "never watched"},
		{"moving above", func(c *Config) { c.MoveTo = absolute("/srv") }, "move_to", "never watched"},
		{"scanning all the time", func(c *Config) { c.Rescan = config.Duration(time.Millisecond) }, "rescan", "1s"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var c Config
			c.SetDefaults()
			c.Path = absolute("/srv/captures")
			tc.change(&c)
			all := c.Validate()
			switch {
			case tc.key == "" && len(all) > 0:
				t.Errorf("refused: %v", all[0])
			case tc.key != "" && (len(all) != 1 || all[0].Key != tc.key || !strings.Contains(all[0].Error(), tc.text)):
				t.Errorf("got %v, want %s: …%s…", all, tc.key, tc.text)
			}
		})
	}
}

func TestMoveDirAndSource(t *testing.T) {
	c := Config{Path: filepath.FromSlash("/srv/captures/"), MoveTo: "done"}
	if got, want := c.MoveDir(), absolute("/srv/captures/done"); got != want {
		t.Errorf("MoveDir() = %s, want %s", got, want)
	}
	c.MoveTo = absolute("/done/../moved")
	if got, want := c.MoveDir(), absolute("/moved"); got != want {
		t.Errorf("MoveDir() = %s, want %s", got, want)
	}
	if got, want := c.Source(), "watch:"+c.Path; got != want {
		t.Errorf("Source() = %s, want %s", got, want)
	}
}

func TestScansOfALargeFolderAreRare(t *testing.T) {
	now := time.Now()
	for _, tc := range []struct {
		name   string
		took   time.Duration
		change func(*loop)
		want   time.Duration
	}{
		{"small", time.Millisecond, func(*loop) {}, 30 * time.Second},
		{"large", time.Second, func(*loop) {}, 100 * time.Second},
		{"huge", time.Minute, func(*loop) {}, 5 * time.Minute},
		{"small and wanted", time.Millisecond, func(l *loop) { l.wanted = true }, 200 * time.Millisecond},
		{"large and wanted", time.Second, func(l *loop) { l.wanted = true }, 5 * time.Second},
		{"with what had no room", time.Millisecond, func(l *loop) { l.dropped = true }, 200 * time.Millisecond},
		{"missing", 0, func(l *loop) { l.err = errLink }, time.Second},
	} {
		var c Config
		c.SetDefaults()
		l := newLoop(New(Options{Config: c}))
		l.scans, l.ended, l.took = 1, now, tc.took
		tc.change(l)
		if got := l.scanDue().Sub(now); got != tc.want {
			t.Errorf("%s: the next scan after %s, want %s", tc.name, got, tc.want)
		}
	}
}

func TestRefusalIsRememberedUntilItsFileWasLookedAt(t *testing.T) {
	l := newLoop(New(Options{}))
	l.memory.tell("x", "unreadable")
	l.memory.round++
	l.looks.add(look{path: "x", scanned: true})
	l.scanEnded(&scan{full: true})
	if l.memory.tell("x", "unreadable") {
		t.Error("told again, as the scan ended before the look")
	}
	l.looks.drop(l.looks.byPath["x"])
	l.memory.round++
	l.scanEnded(&scan{full: true})
	if !l.memory.tell("x", "unreadable") {
		t.Error("remembered though the file is gone")
	}
}

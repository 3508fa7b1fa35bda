package logs_test

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rs/zerolog"

	"capagent/internal/logs"
)

func TestJSONHasMillisecondsInUTC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // begins at 2000-01-01T00:00:00Z
		var out bytes.Buffer
		log, limiter := logs.New(logs.Options{Out: &out, Format: logs.JSON})
		log.Info().Str("session", "0123456789ab").Msg("uploaded")
		if err := limiter.Close(); err != nil {
			t.Fatal(err)
		}
		want := `{"level":"info","session":"0123456789ab","time":"2000-01-01T00:00:00.000Z","message":"uploaded"}` + "\n"
		if out.String() != want {
			t.Errorf("got  %swant %s", out.String(), want)
		}
	})
}

func TestFormats(t *testing.T) {
	for _, tc := range []struct {
		name    string
		opts    logs.Options
		console bool
		colour  bool
	}{
		{"auto, no terminal", logs.Options{Format: logs.Auto}, false, false},
		{"auto, terminal", logs.Options{Format: logs.Auto, Terminal: true}, true, true},
		{"auto, terminal, NO_COLOR", logs.Options{Format: logs.Auto, Terminal: true, NoColor: true}, true, false},
		{"auto, JOURNAL_STREAM of somebody else", logs.Options{Format: logs.Auto, File: os.Stderr, Env: env("1:2")}, false, false},
		{"auto, JOURNAL_STREAM is nonsense", logs.Options{Format: logs.Auto, File: os.Stderr, Env: env("x")}, false, false},
		{"console, no terminal", logs.Options{Format: logs.Console}, true, false},
		{"json, terminal", logs.Options{Format: logs.JSON, Terminal: true}, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out bytes.Buffer
			tc.opts.Out = &out
			log, _ := logs.New(tc.opts)
			log.Warn().Str("class", "network").Msg("down")
			if console := !json.Valid(out.Bytes()); console != tc.console {
				t.Errorf("console is %v: %s", console, out.String())
			}
			if colour := strings.Contains(out.String(), "\x1b["); colour != tc.colour {
				t.Errorf("colour is %v: %q", colour, out.String())
			}
		})
	}
}

func env(stream string) func(string) string {
	return func(name string) string {
		if name == "JOURNAL_STREAM" {
			return stream
		}
		return ""
	}
}

func TestLevel(t *testing.T) {
	var out bytes.Buffer
	log, _ := logs.New(logs.Options{Out: &out, Level: zerolog.WarnLevel})
	log.Info().Msg("not said")
	log.Warn().Msg("said")
	if s := out.String(); strings.Contains(s, "not said") || !strings.Contains(s, `"said"`) {
		t.Errorf("got %s", s)
	}
}

func TestNoJournalIsJSON(t *testing.T) {
	if _, err := os.Stat("/run/systemd/journal/socket"); err == nil {
		t.Skip("this machine has a journal")
	}
	path := filepath.Join(t.TempDir(), "stderr")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for _, format := range []string{logs.Journal, logs.Auto} {
		var out bytes.Buffer
		log, _ := logs.New(logs.Options{Out: &out, Format: format, File: f, Env: env(streamOf(t, f))})
		log.Info().Msg("still said")
		if !json.Valid(out.Bytes()) {
			t.Errorf("%s: got %q", format, out.String())
		}
	}
}

func BenchmarkStorm(b *testing.B) {
	log, _ := logs.New(logs.Options{Out: io.Discard})
	b.ReportAllocs()
	for b.Loop() {
		log.Warn().Str("class", "network").Str("destination", "https://cloudshark.example").Int64("capture", 12345).
			Msg("dial tcp 192.0.2.1:443: connection refused; trying again")
	}
}

func BenchmarkPassing(b *testing.B) {
	log, _ := logs.New(logs.Options{Out: io.Discard})
	b.ReportAllocs()
	for b.Loop() {
		log.Info().Str("session", "0123456789ab").Int64("capture", 12345).Msg("uploaded")
	}
}

// Package logs makes the agent's log: JSON for machines, lines for people, and
// fields for the systemd journal, each behind a Limiter that keeps a failure
// that repeats from filling the disk.
//
// Times in JSON are RFC 3339, UTC, with milliseconds.
package logs

import (
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"
)

// The values of Options.Format.
const (
	Auto    = "auto"     // Console on a terminal, Journal where stderr goes there anyway, else JSON
	JSON    = "json"     // one object a line
	Console = "console"  // for people
	Journal = "journald" // fields in the systemd journal; JSON where there is no journal
)

// Formats lists what Options.Format takes.
var Formats = []string{Auto, JSON, Console, Journal}

// timeLayout is RFC 3339 with exactly three decimals, so that lines sort.
const timeLayout = "2006-01-02T15:04:05.000Z"

// Options say where log lines go and what they look like.
type Options struct {
	Out      io.Writer
	Level    zerolog.Level
	Format   string // one of Formats; any other value is JSON
	Terminal bool   // Out is a terminal
	NoColor  bool
	// File is what stands behind Out (os.Stderr), and Env the environment
	// (os.Getenv): by both, Auto sees that the journal reads Out. It never does
	// where one is nil.
	File *os.File
	Env  func(string) string
	// Mask takes secrets out of what goes to the journal, which passes Out by;
	// nil changes nothing. It must not keep its argument.
	Mask func([]byte) []byte
}

// New returns a logger and the Limiter in front of what it writes. The owner
// runs the Limiter and closes it behind the last line; one that does neither
// still gets the first line of every cause.
func New(opts Options) (zerolog.Logger, *Limiter) {
	limiter := newLimiter(opts.writer())
	return zerolog.New(limiter).Level(opts.Level).Hook(zerolog.HookFunc(stamp)), limiter
}

// stamp is zerolog's Timestamp without its package-wide settings.
func stamp(e *zerolog.Event, _ zerolog.Level, _ string) {
	e.Str(zerolog.TimestampFieldName, time.Now().UTC().Format(timeLayout))
}

func (o Options) writer() io.Writer {
	format := o.Format
	if format == Auto {
		switch {
		case o.Terminal:
			format = Console
		case o.File != nil && o.Env != nil && isJournal(o.Env("JOURNAL_STREAM"), o.File):
			format = Journal
		}
	}
	switch format {
	case Console:
		return zerolog.ConsoleWriter{Out: o.Out, NoColor: o.NoColor || !o.Terminal, TimeFormat: "15:04:05"}
	case Journal:
		if w := journal(); w != nil {
			return fallback{first: maskedWriter{w, o.Mask}, second: o.Out}
		}
	}
	return o.Out
}

// maskedWriter masks whole lines.
type maskedWriter struct {
	w    io.Writer
	mask func([]byte) []byte
}

func (m maskedWriter) Write(line []byte) (int, error) {
	masked := line
	if m.mask != nil {
		masked = m.mask(line)
	}
	if _, err := m.w.Write(masked); err != nil {
		return 0, err
	}
	return len(line), nil
}

// fallback writes to second what first refuses: a line must not be lost because
// the journal is down.
type fallback struct{ first, second io.Writer }

func (f fallback) Write(line []byte) (int, error) {
	if n, err := f.first.Write(line); err == nil {
		return n, nil
	}
	return f.second.Write(line)
}

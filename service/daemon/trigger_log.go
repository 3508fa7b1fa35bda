package daemon

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"time"

	"capagent/internal/quote"
	"capagent/internal/safefile"
	"capagent/service"
	"capagent/service/control"
)

const (
	logLook   = 250 * time.Millisecond // how often a log file is looked at
	longLine  = 16 << 10               // bytes of a line that the pattern sees
	shownLine = 200                    // bytes of it that a reason holds
	logAtOnce = 64 << 20               // bytes that are read before the file is looked at again
)

// followed is a [[trigger]]: a log file of which lines ask for a window.
type followed struct {
	d       *Daemon
	config  service.TriggerConfig
	pattern *regexp.Regexp
	stop    context.CancelFunc
	done    chan struct{}

	file   *os.File // nil: there is none
	at     int64    // what was read of it
	line   []byte   // that has no end yet, as far as longLine
	rearm  time.Time
	buffer []byte
}

// follow has these triggers follow their files and no others. Those that stay as
// they are miss nothing. It waits for those that end.
func (t *triggers) follow(want []service.TriggerConfig) {
	t.mu.Lock()
	before := t.logs
	t.logs = map[string]*followed{}
	for _, cfg := range want {
		if f := before[cfg.Name]; f != nil && f.config == cfg {
			delete(before, cfg.Name)
			t.logs[cfg.Name] = f
			continue
		}
		ctx, stop := context.WithCancel(context.WithoutCancel(t.d.parent))
		f := &followed{d: t.d, config: cfg, pattern: regexp.MustCompile(cfg.Pattern), stop: stop, done: make(chan struct{})} // it was compiled before
		t.logs[cfg.Name] = f
		f.open(ctx, true)
		go func() {
			defer close(f.done)
			f.run(ctx)
		}()
	}
	t.mu.Unlock()
	for _, f := range before {
		f.stop()
	}
	for _, f := range before {
		within(f.done, giveUp) // one that reads from a dead server is left
		t.d.problems.clear("trigger_log", f.config.Name)
	}
}

func (f *followed) run(ctx context.Context) {
	tick := time.NewTicker(logLook)
	defer tick.Stop()
	f.buffer = make([]byte, 64<<10)
	for {
		f.look(ctx)
		select {
		case <-ctx.Done():
			f.close()
			return
		case <-tick.C:
		}
	}
}

// open opens the file at its beginning, or where it was there before at its end.
func (f *followed) open(ctx context.Context, old bool) {
	file, info, err := safefile.Open(f.config.File)
	if err != nil {
		hint := "it is followed as soon as it can be read"
		if !errors.Is(err, fs.ErrNotExist) {
			hint = "check that the agent may read it; it is tried again"
		}
		f.d.problems.raise("trigger_log", f.config.Name, "trigger "+quote.Text(f.config.Name)+": the log "+quote.Path(f.config.File)+" can't be read: "+safefile.Cause(err).Error(), hint)
		return
	}
	f.d.problems.clear("trigger_log", f.config.Name)
	f.file, f.at = file, 0
	if old {
		f.at = info.Size()
	}
}

func (f *followed) close() {
	if f.file != nil {
		_ = f.file.Close() // only read
	}
	f.file, f.line = nil, f.line[:0]
}

// look takes what the file has grown by, and what has taken its place.
func (f *followed) look(ctx context.Context) {
	if f.file == nil {
		f.open(ctx, false)
	}
	if f.file == nil {
		return
	}
	f.read(ctx)
	now, err := os.Stat(f.config.File)
	if err != nil {
		return // between two files, or for a while; what is open may still grow
	}
	mine, err := f.file.Stat()
	if err == nil && os.SameFile(now, mine) {
		return
	}
	f.read(ctx) // the last lines before it was renamed
	f.close()
	if f.open(ctx, false); f.file != nil {
		f.read(ctx)
	}
}

// read takes lines until the end of the file.
func (f *followed) read(ctx context.Context) {
	if info, err := f.file.Stat(); err == nil && info.Size() < f.at {
		f.at, f.line = 0, f.line[:0] // it was cut, and begins anew
	}
	for left := logAtOnce; left > 0 && ctx.Err() == nil; {
		n, err := f.file.ReadAt(f.buffer, f.at)
		f.at += int64(n)
		left -= n
		f.take(ctx, f.buffer[:n])
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			f.close() // a dead disk or server: opened anew
			return
		}
	}
}

// take goes through lines; the last one may still grow.
func (f *followed) take(ctx context.Context, text []byte) {
	for len(text) > 0 {
		end := bytes.IndexByte(text, '\n')
		piece := text
		if end >= 0 {
			piece = text[:end]
		}
		f.line = append(f.line, piece[:min(len(piece), longLine-len(f.line))]...)
		if end < 0 {
			return
		}
		if f.pattern.Match(f.line) {
			f.fire(ctx, f.line)
		}
		f.line, text = f.line[:0], text[end+1:]
	}
}

// fire asks for the window, unless the last one is too young.
func (f *followed) fire(ctx context.Context, line []byte) {
	now := time.Now()
	if now.Before(f.rearm) {
		return
	}
	f.rearm = now.Add(f.config.Cooldown.Std())
	ask := control.TriggerRequest{By: "log: " + f.config.Name, Reason: f.reason(line), Capture: f.config.Capture}
	if f.config.Before+f.config.After > 0 {
		ask.Before, ask.After = &f.config.Before, &f.config.After
	}
	_, _ = f.d.Trigger(ctx, ask) // it is logged
}

// reason fills the template in. What comes from the log is foreign: quoted, and
// short.
func (f *followed) reason(line []byte) string {
	shown := bytes.TrimRight(line, "\r\n \t")
	shown = bytes.ToValidUTF8(shown[:min(len(shown), shownLine)], []byte("\uFFFD"))
	text := strings.NewReplacer("{name}", f.config.Name, "{line}", quote.Text(string(shown))).Replace(f.config.Reason)
	return strings.ToValidUTF8(text[:min(len(text), service.MaxReason)], "")
}

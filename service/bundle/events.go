package bundle

import (
	"bytes"
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"time"

	"capagent/internal/audit"
)

// How much of what happened goes in, and how long asking for it may take.
const (
	lastLines = 1000
	maxLogs   = 8 << 20
	patience  = 10 * time.Second
)

// events are the last lines of the audit log, and behind them what waits to be there.
func (b *bundle) events(ctx context.Context) {
	var lines [][]byte
	names, _ := filepath.Glob(filepath.Join(b.StateDir, "audit-*.log")) // the pattern is right
	slices.Sort(names)                                                  // the order of their events
	names = append(names, filepath.Join(b.StateDir, audit.Name))
	for len(names) > 0 && len(lines) < lastLines {
		text, err := read(names[len(names)-1], maxLogs)
		names = names[:len(names)-1]
		if err == nil {
			lines = append(split(text), lines...)
		}
	}
	if b.Ledger != nil {
		waiting, err := b.Ledger.Events(ctx, lastLines)
		for _, e := range waiting {
			line, wrong := json.Marshal(audit.Line{Seq: e.Seq, Time: e.Time.UTC().Format(time.RFC3339Nano), Event: e.Name, Capture: e.Capture, Data: e.Data})
			if err == nil && wrong == nil {
				lines = append(lines, line)
			}
		}
	}
	b.lines("events.jsonl", "the last events of the ledger, as the audit log has them", lines)
}

// lines adds the last of them that are objects, each without names.
func (b *bundle) lines(name, about string, lines [][]byte) {
	lines = lines[max(0, len(lines)-lastLines):]
	var out bytes.Buffer
	for _, line := range lines {
		if text, ok := b.hide.object(line); ok {
			out.Write(text)
			out.WriteByte('\n')
		} else if len(line) > 0 { // text for people
			out.WriteString(b.hide.text(string(line)))
			out.WriteByte('\n')
		}
	}
	if out.Len() == 0 {
		b.missing(name, "nothing was found")
		return
	}
	b.add(name, about, out.Bytes())
}

// split returns the lines of text but a cut one at its beginning.
func split(text []byte) [][]byte {
	if len(text) == maxLogs {
		_, text, _ = bytes.Cut(text, []byte("\n"))
	}
	var lines [][]byte
	for line := range bytes.Lines(text) {
		lines = append(lines, bytes.TrimSpace(line))
	}
	return lines
}

// logs are the agent's last lines, of the journal or of a file.
func (b *bundle) logs(ctx context.Context) {
	var lines [][]byte
	for _, name := range b.LogFiles {
		if text, err := read(name, maxLogs); err == nil {
			lines = append(lines, split(text)...)
		}
	}
	if len(lines) == 0 && b.Unit != "" && runtime.GOOS == "linux" {
		lines = journal(ctx, b.Unit)
	}
	b.lines("log.jsonl", "the agent's last log lines", lines)
}

// journal asks for the last lines of a unit, none where there is no journal.
func journal(ctx context.Context, unit string) [][]byte {
	program, err := exec.LookPath("journalctl")
	if err != nil {
		return nil
	}
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	cmd := exec.CommandContext(ctx, program, "-u", unit, "-n", strconv.Itoa(lastLines), "-o", "json", "--no-pager", "-q", //nolint:gosec // the unit is a constant of ours
		"--output-fields=MESSAGE,PRIORITY,CLASS,STEP,STATE,ERROR,HINT,REASON,CAPTURE")
	out := &limited{most: maxLogs}
	cmd.Stdout = out
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil && out.text.Len() == 0 {
		return nil
	}
	return split(out.text.Bytes())
}

// limited takes so many bytes and drops the rest.
type limited struct {
	text bytes.Buffer
	most int
}

func (l *limited) Write(p []byte) (int, error) {
	if room := l.most - l.text.Len(); room > 0 {
		l.text.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

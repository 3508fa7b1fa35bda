package daemon

import (
	"context"
	"fmt"
	"os"
	"time"

	"capagent/capture"
	"capagent/internal/disk"
	"capagent/internal/ledger"
	"capagent/rotate"
)

// How a capture goes on after its disk was full or broken: it is tried so often
// whether files can be written, and on a full disk that there is some room, so
// that a few bytes that become free don't make a file each.
const (
	resumeEvery = 3 * time.Second
	resumeRoom  = 16 << 20 // or a sixteenth of a small disk
)

// guard raises a problem when the Rotator has stopped or a file failed, has
// retention make room, and says when the Rotator may go on.
func (l *live) guard(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case err := <-l.broken:
			if !l.untilWritable(ctx, err) {
				return
			}
			l.resume.Store(true)
			l.heard() // one that is still in the way calls again
		}
	}
}

// heard forgets what the guard was called for meanwhile.
func (l *live) heard() {
	select {
	case <-l.broken: //nolint:errcheck // that is what is forgotten
	default:
	}
}

func (l *live) untilWritable(ctx context.Context, err error) bool {
	lost := l.lost()
	class := ledger.Trouble(err)
	l.d.problems.raise("capture_write", l.name, "capture "+l.name+" can't be written, what comes is lost: "+err.Error(), troubles[class].hint)
	l.d.note("capture_stopped", map[string]any{"capture": l.name, "error": err.Error()})
	tick := time.NewTicker(resumeEvery)
	defer tick.Stop()
	for {
		l.d.keeper.makeRoom(class)
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
		if now := l.tryToWrite(); now == nil {
			break
		} else if c := ledger.Trouble(now); c != "" {
			class = c
		}
		l.d.problems.raise("capture_write", l.name, fmt.Sprintf("capture %s can't be written, what comes is lost (%d packets so far): %v", l.name, l.lost()-lost, err), troubles[class].hint)
	}
	l.d.problems.clear("capture_write", l.name)
	l.d.note("capture_resumed", map[string]any{"capture": l.name, "lost": l.lost() - lost})
	return true
}

func (l *live) lost() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts.lost
}

// tryToWrite says why no file could be written now.
func (l *live) tryToWrite() error {
	dir := l.d.opts.Config.SpoolDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if free, total, _, err := disk.Free(dir); err == nil && free < min(resumeRoom, total/16) {
		return errFull
	}
	return tryToWrite(dir)
}

// event is told by the source, on the reader's goroutine, so it only notes.
func (l *live) event(e capture.Event) {
	l.gap(e)
	l.tell.put(func() { l.tellEvent(e) })
}

// gap keeps the times of which packets are missing for the files.
func (l *live) gap(e capture.Event) {
	switch e.Kind {
	case capture.Down, capture.Gone:
		if _, known := l.away[e.Interface]; !known {
			l.away[e.Interface] = rotate.Gap{Interface: e.Interface, From: e.Time.UTC(), Cause: "the interface was " + string(e.Kind)}
		}
	case capture.Renamed:
		if g, known := l.away[e.Was]; known {
			delete(l.away, e.Was)
			g.Interface = e.Interface
			l.away[e.Interface] = g
		}
	case capture.Up, capture.Back:
		g := rotate.Gap{Interface: e.Interface, From: e.Time.Add(-e.Gap).UTC(), Cause: "the interface was away"}
		if known, ok := l.away[e.Interface]; ok {
			g.Cause = known.Cause
			delete(l.away, e.Interface)
		}
		g.To = e.Time.UTC()
		l.mu.Lock()
		r := l.rotator
		l.mu.Unlock()
		if r != nil {
			r.Miss(g)
		}
	}
}

// eventClasses are the problems that events raise, by what happened.
var eventClasses = map[capture.EventKind]string{
	capture.Down: "capture_down", capture.Gone: "capture_gone", capture.Blind: "capture_blind",
}

// tellEvent says what happened to an interface.
func (l *live) tellEvent(e capture.Event) {
	about := func(name string) string { return l.name + " " + name }
	over := func(kinds ...capture.EventKind) {
		for _, k := range kinds {
			l.d.problems.clear(eventClasses[k], about(e.Interface))
		}
	}
	what := "capture " + l.name + ": interface " + e.Interface
	switch e.Kind {
	case capture.Down:
		l.d.problems.raise(eventClasses[e.Kind], about(e.Interface), what+" is down", "it is captured from as soon as it is up")
	case capture.Gone:
		l.d.problems.raise(eventClasses[e.Kind], about(e.Interface), what+" is gone", "it is taken up as soon as it is there again")
		l.d.note("gap", map[string]any{"capture": l.name, "interface": e.Interface})
	case capture.Blind:
		l.d.problems.raise(eventClasses[e.Kind], about(e.Interface), what+" counts packets, but none of them arrives here", "check the filter, and whether something else takes them (XDP)")
	case capture.Up:
		over(capture.Down)
	case capture.Back:
		over(capture.Gone, capture.Down)
		l.d.note("gap_end", map[string]any{"capture": l.name, "interface": e.Interface, "seconds": e.Gap.Seconds()})
	case capture.Seeing:
		over(capture.Blind)
	case capture.Renamed:
		l.log.Warn().Str("class", "capture_renamed").Str("was", e.Was).Str("interface", e.Interface).Msg(what + " was " + e.Was + " until now")
		for _, class := range eventClasses {
			if p := l.d.problems.clear(class, about(e.Was)); p != nil {
				l.d.problems.raise(class, about(e.Interface), p.Text, p.Hint)
			}
		}
	}
}

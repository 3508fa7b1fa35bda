package main

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize"

	"capagent/service/capturing"
)

// liveLine is the line that a capture rewrites on a terminal: how long, how much,
// how fast, how much was lost. Elsewhere, and on nil, it shows nothing.
type liveLine struct {
	app    *app
	drawn  bool
	before capturing.Progress
	rate   float64 // packets per second, smoothed
	speed  float64 // bytes per second, smoothed
}

func (a *app) newLiveLine() *liveLine {
	if a.quiet || a.json || a.noProgress || !a.onTerminal {
		return nil
	}
	return &liveLine{app: a}
}

// show draws p. It is called by one goroutine.
func (l *liveLine) show(p capturing.Progress) {
	if l == nil {
		return
	}
	if dt := (p.Elapsed - l.before.Elapsed).Seconds(); dt > 0.05 {
		const weight = 0.4 // of the last quarter of a second
		l.rate += weight * (float64(p.Packets-l.before.Packets)/dt - l.rate)
		l.speed += weight * (float64(p.Size-l.before.Size)/dt - l.speed)
		l.before = p
	}
	lost := "none dropped"
	if p.Dropped > 0 {
		lost = humanize.Comma(int64(p.Dropped)) + " DROPPED"
	}
	fmt.Fprintf(l.app.stderr, "\r\x1b[K%s  %s packets  %s  %s/s  %s/s  %s", clock(p.Elapsed),
		humanize.Comma(int64(p.Packets)), humanize.IBytes(uint64(p.Size)),
		humanize.Comma(int64(l.rate)), humanize.IBytes(uint64(max(0, l.speed))), lost)
	l.drawn = true
}

// clear takes the line off the screen.
func (l *liveLine) clear() {
	if l != nil && l.drawn {
		fmt.Fprint(l.app.stderr, "\r\x1b[K")
	}
}

// clock is a duration as a stop-watch shows it.
func clock(d time.Duration) string {
	d = d.Round(time.Second)
	if d >= time.Hour {
		return fmt.Sprintf("%d:%02d:%02d", int(d.Hours()), int(d.Minutes())%60, int(d.Seconds())%60)
	}
	return fmt.Sprintf("%02d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

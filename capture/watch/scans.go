package watch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// scanDue is when the next scan of everything begins.
func (l *loop) scanDue() time.Time {
	if l.scans == 0 {
		return time.Time{}
	}
	soonest := l.ended.Add(max(scanPause, 5*l.took))
	if l.wanted || l.dropped && len(l.looks.queue) < maxLooks/2 {
		return soonest
	}
	every := l.Config.Rescan.Std()
	if l.err != nil {
		every = min(every, waitForFolder)
	} else {
		every = max(every, min(scanShare*l.took, scanStretch*every))
	}
	if due := l.ended.Add(every); due.After(soonest) {
		return due
	}
	return soonest
}

func (l *loop) scanAll(ctx context.Context) {
	l.scanning, l.wanted, l.dropped = true, false, false
	l.memory.round++
	switch {
	case l.NoEvents:
		l.blind = errors.New("events are not used")
	case l.events == nil:
		l.events, l.blind = openEvents()
		if l.blind != nil {
			l.events = nil
		}
	}
	if l.events != nil {
		l.events.begin()
	}
	l.scan(ctx, &scan{full: true})
}

func (l *loop) scanSubfolders(ctx context.Context) {
	s := &scan{place: l.place}
	for dir := range l.sub {
		s.dirs = append(s.dirs, dir)
	}
	clear(l.sub)
	l.subs = true
	l.scan(ctx, s)
}

func (l *loop) scan(ctx context.Context, s *scan) {
	s.config, s.events, s.out = &l.Config, l.events, l.batches
	l.wg.Go(func() { s.run(ctx) })
}

// batch takes in what a scan found.
func (l *loop) batch(b batch) {
	if b.place.root != "" {
		l.moveTo(b.place)
	}
	for _, r := range b.refused {
		l.refuse(r.path, r.reason)
	}
	for _, f := range b.files {
		if f.facts.links > 1 {
			l.memory.met(join(b.dir, f.name), hardLink)
		}
		if l.memory.handled(l.memory.keyIn(b.dir, f.name), l.memory.hash(f.facts)) {
			continue
		}
		path := join(b.dir, f.name)
		if l.looks.byPath[path] == nil {
			l.looks.add(look{path: path, due: time.Now(), scanned: true})
		}
	}
	if b.end != nil {
		l.scanEnded(b.end)
	}
}

// moveTo begins with the folder as a scan has found it. It may be another one
// than before.
func (l *loop) moveTo(p place) {
	if l.place.root != p.root {
		for path, look := range l.looks.byPath {
			if _, ok := below(p.root, path); !ok {
				l.looks.drop(look)
			}
		}
	}
	l.place, l.err = p, nil
	l.showState()
}

func (l *loop) scanEnded(s *scan) {
	if !s.full {
		l.subs = false
		if s.blind != nil {
			l.blind = s.blind
			l.showState()
		}
		return
	}
	l.scanning, l.err = false, s.err
	l.scans++
	l.took, l.ended = s.took, time.Now()
	if l.events != nil {
		l.blind = s.blind
		if !s.partial {
			l.events.prune()
		}
	}
	if s.err == nil && !s.partial {
		l.memory.sweep()
		if l.looks.scanned == 0 && !l.busy {
			l.memory.sweepTold()
		}
	}
	l.showState()
	l.w.update(func(st *Status) {
		st.Scans, st.LastScan, st.ScanTook = l.scans, l.ended, l.took
		if s.err == nil {
			st.Files = s.files
		}
	})
}

func (l *loop) showState() {
	switch {
	case l.err != nil:
		l.setState(Unavailable, l.err)
	case l.blind != nil:
		l.setState(Polling, explain(l.blind))
	case l.place.foreign != "":
		l.setState(Polling, fmt.Errorf("%s doesn't tell of changes by others", strings.ToUpper(l.place.foreign)))
	default:
		l.setState(Watching, nil)
	}
}

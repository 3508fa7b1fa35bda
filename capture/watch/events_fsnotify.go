//go:build linux || windows

package watch

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	maxEvents = 4096 // that wait to be taken
	// writeRest is how long nothing is read from fsnotify after writes on Linux.
	writeRest = 10 * time.Millisecond
	// writeBurst is how many events in a millisecond are a backlog.
	writeBurst = 256
)

// events watches folders one by one with fsnotify and, on Linux, tells of
// writers that close. It is safe for use by several goroutines.
type events struct {
	C      chan []event
	notify *fsnotify.Watcher
	closes *closes
	done   chan struct{}
	wg     sync.WaitGroup

	mu    sync.Mutex
	round uint32
	dirs  map[string]uint32 // folders under watch and the round in which they were last met
}

func openEvents() (*events, error) {
	e := &events{C: make(chan []event), done: make(chan struct{}), dirs: map[string]uint32{}}
	var err error
	if e.notify, err = fsnotify.NewWatcher(); err != nil {
		return nil, err
	}
	if e.closes, err = openCloses(); err != nil {
		_ = e.notify.Close()
		return nil, fmt.Errorf("watch for closing writers: %w", err)
	}
	e.wg.Go(e.pump)
	e.wg.Go(func() { e.closes.run(e.emit) })
	return e, nil
}

// close ends everything; no other method may be called any more.
func (e *events) close() {
	close(e.done)
	_ = e.notify.Close()
	e.closes.close()
	e.wg.Wait()
}

// emit passes events on; false when that is over.
func (e *events) emit(all []event) bool {
	select {
	case e.C <- all:
		return true
	case <-e.done:
		return false
	}
}

// add puts a folder under watch; again and again, as it may be another one now.
func (e *events) add(dir string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	// fsnotify would go on reporting a folder that was moved under its old name.
	old, err := e.closes.add(dir)
	if old != "" {
		_ = e.notify.Remove(old)
		delete(e.dirs, old)
	}
	if err == nil {
		err = e.notify.Add(dir)
	}
	if err != nil {
		e.forget(dir)
		return err
	}
	e.dirs[dir] = e.round
	return nil
}

// drop ends the watch on a folder and, if below is set, on all in it.
func (e *events) drop(dir string, below bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, ok := e.dirs[dir]; !ok {
		return
	}
	e.forget(dir)
	if !below {
		return
	}
	for d := range e.dirs {
		if strings.HasPrefix(d, dir+string(os.PathSeparator)) {
			e.forget(d)
		}
	}
}

func (e *events) forget(dir string) {
	e.closes.drop(dir)
	_ = e.notify.Remove(dir) // it has none if the folder is gone
	delete(e.dirs, dir)
}

// begin starts a round: a scan of everything.
func (e *events) begin() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.round++
}

// prune ends the watch on folders that this round has not met.
func (e *events) prune() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for dir, round := range e.dirs {
		if round != e.round {
			e.forget(dir)
		}
	}
}

// pump takes events from fsnotify at once, whatever the receiver does, since a
// blocked fsnotify also blocks add.
func (e *events) pump() {
	var waiting []event
	var rest <-chan time.Time
	for {
		in := e.notify.Events
		if rest != nil {
			in = nil
		}
		var out chan []event
		if len(waiting) > 0 {
			out = e.C
		}
		select {
		case <-e.done:
			return
		case <-rest:
			rest = nil
		case out <- waiting:
			waiting = nil
		case ev, ok := <-in:
			if !ok {
				return
			}
			var wrote bool
			if waiting, wrote = e.gather(ev, waiting); wrote {
				rest = time.After(writeRest)
			}
		case err, ok := <-e.notify.Errors:
			if !ok {
				return
			}
			_ = err // an overflow, or a read that failed: events are missing
			waiting = []event{{kind: missed}}
		}
	}
}

// gather adds ev to waiting. It reports whether it was a write on a system that
// also tells of closing. Those need no look, but to be woken for each of them
// would cost more than all else: the kernel makes one event of equal ones only
// while nobody reads. So what is there is read in one go, and then nothing for
// a while.
func (e *events) gather(ev fsnotify.Event, waiting []event) ([]event, bool) {
	if ev.Op != fsnotify.Write || runtime.GOOS != "linux" {
		return limit(append(waiting, translate(ev))), false
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for fresh, ticks := 0, 0; ; {
		select {
		case ev := <-e.notify.Events:
			fresh++
			if ev.Op != fsnotify.Write && ev.Op != 0 {
				waiting = limit(append(waiting, translate(ev)))
			}
		case <-tick.C:
			if ticks++; fresh < writeBurst || ticks == 10 {
				return waiting, true
			}
			fresh = 0
		}
	}
}

// limit keeps what waits small: beyond that a scan is cheaper.
func limit(waiting []event) []event {
	if len(waiting) > maxEvents {
		return []event{{kind: missed}}
	}
	return waiting
}

func translate(ev fsnotify.Event) event {
	switch {
	case ev.Has(fsnotify.Create):
		return event{ev.Name, made}
	case ev.Has(fsnotify.Rename):
		return event{ev.Name, moved}
	case ev.Has(fsnotify.Remove):
		return event{ev.Name, removed}
	default:
		return event{ev.Name, touched}
	}
}

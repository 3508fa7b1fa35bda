package watch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"capagent/internal/quote"
)

const (
	scanPause      = 200 * time.Millisecond // between two scans, at least; and 5 times the last
	scanShare      = 100                    // scanning costs one part in so many of a core
	scanStretch    = 10                     // unless that is more than so many times Rescan
	waitForFolder  = time.Second
	maxScanned     = 1024   // found by a scan and not looked at: then the scan waits
	maxLooks       = 10_000 // in the queue: what is beyond, the next scan finds
	maxSubfolders  = 1000   // to be scanned by themselves: beyond, everything is
	maxToBeRefused = 1000
)

// loop owns all that is known of the folder. It never waits for the file system
// or for the owner: scans and looks are made by other goroutines, to which it
// hands copies.
type loop struct {
	Options
	w      *Watcher
	wg     sync.WaitGroup
	memory *memory
	looks  *looks
	events *events // nil: none
	place  place
	state  string // as logged

	jobs    chan job
	results chan result
	busy    bool   // a job is under way
	path    string // that it looks at
	later   []again
	refused []refusal

	batches  chan batch
	scanning bool
	scans    int
	ended    time.Time // the last scan
	took     time.Duration
	err      error // why the folder can't be read
	blind    error // why there are no events of some or all folders
	wanted   bool  // a scan is, as soon as can be
	dropped  bool  // a scan is, as soon as there is room in the queue
	sub      map[string]struct{}
	subs     bool // a scan of subfolders is under way
}

// job is one call into the owner's world: a refusal to tell, or a look.
type job struct {
	refusal refusal
	look    look
}

func newLoop(w *Watcher) *loop {
	return &loop{
		Options: w.opts, w: w, memory: newMemory(), looks: newLooks(),
		jobs: make(chan job), results: make(chan result, 1), batches: make(chan batch),
		sub: map[string]struct{}{},
	}
}

func (l *loop) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	l.wg.Go(func() { l.work(ctx) })
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		l.step(ctx, timer)
	}
	cancel()
	close(l.jobs)
	l.wg.Wait()
	if l.events != nil {
		l.events.close()
	}
}

// work makes the calls into the owner's world, one at a time.
func (l *loop) work(ctx context.Context) {
	looker := &looker{Options: l.Options, hash: l.memory.hash}
	for job := range l.jobs {
		if job.refusal.path != "" {
			l.Refuse(job.refusal.path, job.refusal.reason)
			l.results <- result{verdict: told}
			continue
		}
		l.results <- looker.look(ctx, job.look)
	}
}

// step waits for one thing to happen and acts on it.
func (l *loop) step(ctx context.Context, timer *time.Timer) {
	now := time.Now()
	if !l.scanning && !now.Before(l.scanDue()) {
		l.scanAll(ctx)
	}
	if len(l.sub) > 0 && !l.subs {
		l.scanSubfolders(ctx)
	}
	job, jobs := l.next(now)
	timer.Stop()
	if wait := l.wait(now, jobs != nil); wait > 0 {
		timer.Reset(wait)
	}
	var events chan []event
	if l.events != nil {
		events = l.events.C
	}
	batches := l.batches
	if l.looks.scanned >= maxScanned || len(l.refused) >= maxToBeRefused {
		batches = nil
	}
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-l.w.wake:
		l.wakened()
	case all := <-events:
		for _, e := range all {
			l.event(e)
		}
	case b := <-batches:
		l.batch(b)
	case jobs <- job:
		l.sent(job)
	case r := <-l.results:
		l.result(r)
	}
	l.w.update(func(s *Status) { s.Pending = len(l.looks.queue) })
}

// next returns the job that is due, and where to send it: nil if there is none
// or one is under way.
func (l *loop) next(now time.Time) (job, chan<- job) {
	switch {
	case l.busy:
	case len(l.refused) > 0:
		return job{refusal: l.refused[0]}, l.jobs
	case len(l.looks.queue) > 0 && !l.looks.queue[0].due.After(now):
		look := *l.looks.queue[0]
		look.root = l.place.root
		if r, ok := l.memory.files[l.memory.key(look.path)]; ok {
			look.last, look.handled, look.asked = r, true, true
		}
		return job{look: look}, l.jobs
	}
	return job{}, nil
}

func (l *loop) sent(j job) {
	l.busy, l.path = true, j.look.path
	if j.refusal.path != "" {
		l.refused = l.refused[1:]
		return
	}
	l.looks.drop(l.looks.byPath[j.look.path])
}

// wait is how long nothing is due: 0 for no end.
func (l *loop) wait(now time.Time, sending bool) time.Duration {
	var due []time.Time
	if !l.scanning {
		due = append(due, l.scanDue())
	}
	if !l.busy && !sending && len(l.looks.queue) > 0 {
		due = append(due, l.looks.queue[0].due)
	}
	var wait time.Duration
	for _, d := range due {
		if left := max(d.Sub(now), 1); wait == 0 || left < wait {
			wait = left
		}
	}
	return wait
}

func (l *loop) wakened() {
	l.w.mu.Lock()
	l.wanted = l.wanted || l.w.rescan
	all := l.w.again
	l.w.rescan, l.w.again = false, nil
	l.w.mu.Unlock()
	for _, a := range all {
		if l.busy && a.path == l.path {
			l.later = append(l.later, a) // what comes of this look is forgotten then
		} else {
			l.again(a)
		}
	}
}

func (l *loop) again(a again) {
	if _, ok := below(l.place.root, a.path); !ok {
		return
	}
	l.memory.forget(l.memory.key(a.path))
	if old := l.looks.byPath[a.path]; old != nil {
		l.looks.drop(old)
	}
	l.looks.add(look{path: a.path, due: a.due, held: true, asked: true})
}

func (l *loop) event(e event) {
	if e.kind == missed {
		l.wanted = true
		return
	}
	if e.kind == removed || e.kind == moved {
		l.events.drop(e.path, e.kind == moved)
		l.wanted = l.wanted || e.path == l.place.root
	}
	rel, ok := below(l.place.root, e.path)
	if !ok || rel == "" {
		return
	}
	if e.kind == made && l.Config.Recursive {
		if info, err := os.Lstat(e.path); err == nil && info.IsDir() {
			l.subfolder(e.path)
			return
		}
	}
	dir, name := filepath.Split(rel)
	if !l.Config.wanted(dir, name) {
		return
	}
	// What was removed is looked at too: there may be another file already.
	if old := l.looks.byPath[e.path]; old == nil {
		l.enqueue(look{path: e.path})
	} else if !old.held {
		old.delay = 0
		l.looks.soon(old, time.Time{})
	}
}

// enqueue adds a look as long as there is room.
func (l *loop) enqueue(n look) {
	if len(l.looks.queue) >= maxLooks {
		l.dropped = true
		return
	}
	l.looks.add(n)
}

// subfolder has a new folder scanned: what is in it may have come before it was
// put under watch.
func (l *loop) subfolder(path string) {
	if !l.place.entered(&l.Config, path) {
		return
	}
	if len(l.sub) >= maxSubfolders {
		clear(l.sub)
		l.wanted = true
		return
	}
	l.sub[path] = struct{}{}
}

func (l *loop) refuse(path, reason string) {
	if l.Refuse == nil || len(l.refused) >= 2*maxToBeRefused || !l.memory.tell(path, reason) {
		return
	}
	l.refused = append(l.refused, refusal{path, reason})
}

func (l *loop) result(r result) {
	l.busy, l.path = false, ""
	key := l.memory.key(r.path)
	switch r.verdict {
	case taken:
		l.memory.keep(key, r.facts)
	case refused:
		l.memory.keep(key, r.facts)
		l.refuse(r.path, r.reason)
	case denied:
		l.refuse(r.path, r.reason)
	case vanished:
		l.memory.forget(key)
	case directory:
		l.subfolder(r.path)
	case unsettled:
		l.unsettled(r.look)
	}
	for _, a := range l.later {
		l.again(a)
	}
	l.later = nil
}

// unsettled puts a look back, with what it has shown.
func (l *loop) unsettled(n look) {
	n.scanned, n.held = false, false
	if came := l.looks.byPath[n.path]; came != nil { // an event, meanwhile
		if came.due.Before(n.due) {
			n.due, n.delay = came.due, 0
		}
		l.looks.drop(came)
	}
	l.enqueue(n)
}

func (l *loop) setState(state string, why error) {
	text := ""
	if why != nil {
		text = why.Error()
	}
	l.w.update(func(s *Status) { s.State, s.Error = state, text })
	if now := state + text; now != l.state {
		l.state = now
		log := l.Log.With().Str("path", quote.Path(l.Config.Path)).Str("state", state).Logger()
		switch state {
		case Watching:
			log.Info().Msg("folder is watched")
		case Polling:
			log.Warn().Str("reason", text).Msg("folder is scanned only; new files are found later")
		default:
			log.Warn().Str("reason", text).Msg("folder can't be read; waiting for it")
		}
	}
}

// explain says which limit stands behind an error of the events.
func explain(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return errors.New("the system's limit of watched folders is reached (fs.inotify.max_user_watches)")
	case errors.Is(err, syscall.EMFILE):
		return errors.New("too many open files or inotify instances (fs.inotify.max_user_instances)")
	default:
		return err
	}
}

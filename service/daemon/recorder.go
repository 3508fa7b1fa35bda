package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/internal/pcapio"
	"capagent/internal/quote"
	"capagent/rotate"
	"capagent/service"
)

// When a file of the spool that could not be recorded is tried again.
const recordAgain = 5 * time.Second

// spooled is a sealed file of the spool that the ledger does not know yet.
type spooled struct {
	source  string // "capture:" and the capture's name
	sealed  rotate.Sealed
	session string // its name, when it is streamed
	seq     uint64
	busy    bool
	due     time.Time // not to be tried before
}

// recorder brings the files of live captures into the ledger, one after the
// other. Its queue has no bound: the files are safe in the spool, and who
// captures never waits.
type recorder struct {
	d *Daemon

	mu      sync.Mutex
	items   []*spooled
	last    uint64
	changed chan struct{} // closed with each change, and made anew
}

func newRecorder(d *Daemon) *recorder { return &recorder{d: d, changed: make(chan struct{})} }

func (r *recorder) put(s spooled) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	s.seq = r.last
	r.items = append(r.items, &s)
	r.tell()
}

func (r *recorder) tell() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// mark stands for all that was put in so far.
func (r *recorder) mark() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// wait waits until all of source up to mark was tried, and returns how many files
// could not be recorded and are to be tried again.
func (r *recorder) wait(ctx context.Context, source string, mark uint64) (left int, err error) {
	concerned := func(s *spooled) bool { return s.source == source && s.seq <= mark }
	err = r.until(ctx, func(s *spooled) bool { return concerned(s) && (s.busy || s.due.IsZero()) })
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.items {
		if concerned(s) {
			left++
		}
	}
	return left, err
}

// settle waits until nothing is left but what failed and is to be tried later.
func (r *recorder) settle(ctx context.Context) error {
	return r.until(ctx, func(s *spooled) bool { return s.busy || s.due.IsZero() })
}

// until waits until no item is as it says.
func (r *recorder) until(ctx context.Context, open func(*spooled) bool) error {
	for {
		r.mu.Lock()
		left, changed := slices.ContainsFunc(r.items, open), r.changed
		r.mu.Unlock()
		if !left {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// next returns the first item that is due; nil when ctx is done.
func (r *recorder) next(ctx context.Context) *spooled {
	timer := time.NewTimer(recordAgain)
	defer timer.Stop()
	for ctx.Err() == nil {
		r.mu.Lock()
		now, wait, changed := time.Now(), recordAgain, r.changed
		for _, s := range r.items {
			left := s.due.Sub(now)
			if left <= 0 {
				s.busy = true
				r.mu.Unlock()
				return s
			}
			wait = min(wait, left)
		}
		r.mu.Unlock()
		timer.Reset(wait)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// done takes an item out, or keeps it for later.
func (r *recorder) done(s *spooled, again bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.busy = false
	if again {
		s.due = time.Now().Add(recordAgain)
	} else if i := slices.Index(r.items, s); i >= 0 {
		r.items = slices.Delete(r.items, i, i+1)
	}
	r.tell()
}

// run records until ctx is done.
func (r *recorder) run(ctx context.Context) {
	lowPriority()
	for {
		s := r.next(ctx)
		if s == nil {
			return
		}
		r.done(s, r.record(ctx, s))
	}
}

// record takes a file into the ledger. It says whether that is to be tried again.
func (r *recorder) record(ctx context.Context, s *spooled) (again bool) {
	path := s.sealed.Path
	if strings.HasSuffix(path, rotate.Part) {
		return r.salvage(path)
	}
	g := r.d.current()
	c, err := g.agent.Add(ctx, path, service.AddOptions{Source: s.source, Owned: true, Live: liveOf(s.sealed), Policy: true, Name: s.session, Later: g.looker.put})
	file := filepath.Base(path)
	about := strings.TrimPrefix(s.source, service.CapturePrefix) + " " + file // so it is the capture's problem
	switch f := failure.As(err); {
	case ctx.Err() != nil:
		return true
	case c.ID != 0: // recorded, whatever it holds
		r.d.problems.clear("capture_file", about)
		r.d.fine()
		r.d.recorded(ctx, g, nil, ledger.Registered{Capture: c, New: true})
		return false
	case errors.Is(err, fs.ErrNotExist):
		r.d.log.Error().Str("class", "capture_file").Str("path", path).Msg("the file of a capture is gone before it was recorded")
		r.d.note("missing", map[string]any{"path": path, "source": s.source})
		return false
	case err != nil && f.Class == "unreadable":
		r.d.problems.raise("capture_file", about, "can't read "+quote.Path(file)+" of the spool: "+err.Error(), "it is tried again")
		return true
	default:
		r.d.troubled(err)
		return true
	}
}

// salvage tries again to give a file its last name, which failed when it was
// sealed. What comes of it is told to put.
func (r *recorder) salvage(part string) (again bool) {
	err := rotate.Salvage(filepath.Dir(part), func(s rotate.Sealed) { r.salvaged(s) })
	if _, gone := os.Lstat(part); errors.Is(gone, fs.ErrNotExist) {
		return false
	}
	r.d.log.Warn().Str("class", "capture_file").Str("path", part).Err(err).Msg("a file of the spool still can't be completed")
	return true
}

// salvaged takes what a killed or failing agent left in the spool.
func (r *recorder) salvaged(s rotate.Sealed) {
	file := filepath.Base(s.Path)
	if strings.HasSuffix(file, rotate.Part) {
		r.d.problems.raise("capture_file", file, "what was left of a capture can't be completed: "+s.Err.Error(), "it stays in the spool, and is tried again at the next start")
		return
	}
	event := r.d.log.Warn().Str("class", "recovered").Str("path", s.Path).Uint64("packets", s.Packets)
	if s.Err != nil {
		event = event.Err(s.Err)
	}
	event.Msg("took up " + quote.Path(file) + ", which was cut short")
	if source, ok := sourceOf(s.Path); ok {
		r.put(spooled{source: source, sealed: s})
	}
}

// capturedName is that of a file of a live capture (rotate/name.go).
var capturedName = regexp.MustCompile(`^(.+)_\d{8}T\d{6}\.\d{6}Z_\d{6,}\.(pcapng|pcap)$`)

// sourceOf finds the capture that a file of the spool came from by its name.
func sourceOf(path string) (source string, ok bool) {
	m := capturedName.FindStringSubmatch(filepath.Base(path))
	if m == nil {
		return "", false
	}
	return service.CapturePrefix + m[1], true
}

// liveOf is what is known of a file, for the ledger.
func liveOf(s rotate.Sealed) *ledger.Live {
	l := &ledger.Live{Began: s.Began, Ended: s.Ended, Reason: string(s.Reason), Recovered: s.Reason == rotate.Recovered}
	if s.Err != nil {
		l.Error = s.Err.Error()
	}
	for i, known := range s.Interfaces[:min(len(s.Interfaces), ledger.MaxLive)] {
		one := ledger.LiveInterface{Name: known.Name, LinkType: pcapio.LinkTypeName(known.LinkType), Filter: known.Filter, SnapLen: known.SnapLen}
		if i < len(s.Stats) {
			one.Received, one.Dropped = s.Stats[i].Received, s.Stats[i].Dropped
		}
		l.Interfaces = append(l.Interfaces, one)
	}
	for _, n := range s.Stats {
		l.Received, l.Dropped = l.Received+n.Received, l.Dropped+n.Dropped
	}
	for _, g := range s.Gaps {
		l.Gaps = missing(l.Gaps, ledger.LiveGap{Interface: g.Interface, From: g.From.UTC(), To: g.To.UTC(), Packets: g.Packets, Cause: g.Cause})
	}
	for _, j := range s.Jumps[:min(len(s.Jumps), ledger.MaxLive)] {
		l.Jumps = append(l.Jumps, ledger.LiveJump{At: j.At.UTC(), By: j.By.Seconds()})
	}
	return l
}

// missing adds a gap; those beyond MaxLive become one with the last.
func missing(gaps []ledger.LiveGap, g ledger.LiveGap) []ledger.LiveGap {
	if len(gaps) < ledger.MaxLive {
		return append(gaps, g)
	}
	last := &gaps[len(gaps)-1]
	if g.From.Before(last.From) {
		last.From = g.From
	}
	if g.To.After(last.To) {
		last.To = g.To
	}
	if g.Interface != last.Interface {
		last.Interface = ""
	}
	if g.Cause != last.Cause {
		last.Cause = "several causes"
	}
	last.Packets += g.Packets
	return gaps
}

// spooled lists the spool before anything of it is made anew: what lies there
// came from an earlier life.
func (d *Daemon) spooled() []fs.DirEntry {
	dir := d.opts.Config.SpoolDir()
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.problems.raise("spool", dir, fmt.Sprintf("the spool can't be read: %v", err), "")
	}
	return entries
}

// salvage completes what a killed agent was writing, before anything is captured
// anew, and returns those of left that may lack a row.
func (d *Daemon) salvage(left []fs.DirEntry) []fs.DirEntry {
	dir := d.opts.Config.SpoolDir()
	done := map[string]bool{}
	err := rotate.Salvage(dir, func(s rotate.Sealed) {
		done[filepath.Base(s.Path)] = true
		d.recorder.salvaged(s)
	})
	if err != nil {
		d.problems.raise("spool", dir, fmt.Sprintf("the spool can't be read: %v", err), "")
	}
	return slices.DeleteFunc(left, func(e fs.DirEntry) bool { return done[e.Name()] })
}

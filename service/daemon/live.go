package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"capagent/capture"
	"capagent/capture/filter"
	"capagent/internal/packet"
	"capagent/internal/pcapio"
	"capagent/rotate"
	"capagent/service"
	"capagent/service/control"
	"capagent/upload"
)

// A capture that can't be opened, or breaks off, is tried again after so long,
// each time twice as long.
const (
	reopenFirst  = time.Second
	reopenMost   = 30 * time.Second
	reopenSteady = time.Minute // a capture that went on for so long begins anew
)

// lookEvery is how often the counts that others may see are brought up to date.
const lookEvery = capture.Idle

// batchSize is how many packets are taken at a time, as in service/capturing.
const batchSize = 256

// live is one [[capture]]. One goroutine reads packets and hands them to the
// Rotator; it never waits for anything but these two.
type live struct {
	d      *Daemon
	open   capture.Opener
	flows  *capture.Flows
	ready  <-chan struct{}
	config service.CaptureConfig
	name   string
	log    zerolog.Logger
	after  <-chan struct{} // when not nil: the end of the one that it replaces
	stop   context.CancelFunc
	done   chan struct{}
	tell   *line[func()] // what the reader and the sealer have to say

	// Of the reader:
	missing rotate.Gap            // since when nothing is captured; Cause "": nothing is missing
	away    map[string]rotate.Gap // interfaces that are down or gone, by name
	looked  time.Time
	begun   uint64 // files, of this life
	sizeAt  int64  // bytes written when the last of them was begun
	stopped bool
	broken  chan error  // to the guard
	resume  atomic.Bool // from the guard

	seen  atomic.Int64 // the latest packet time that was written
	quiet atomic.Int64 // when nothing more was there to read

	mu      sync.Mutex
	rotator *rotate.Rotator // nil while nothing is captured
	counts  liveCounts
	earlier liveCounts        // of lives before
	streams map[string]string // sessions' names by the files' paths
}

// liveCounts are what is known of a capture since the agent began it.
type liveCounts struct {
	since       time.Time // of this life; zero: nothing is captured
	interfaces  []string
	packets     uint64 // taken
	dropped     uint64 // by the kernel
	lost        uint64 // for want of room on the disk and the like
	bytes       int64  // written
	sealed      uint64 // files
	lastSealed  time.Time
	begun       uint64 // files, of this life
	told        uint64 // files, of this life, that are sealed or failed
	toldPackets uint64 // in these
	openSize    int64
}

func newLive(c *captures, cfg service.CaptureConfig) *live {
	name := cfg.Label()
	return &live{
		d: c.d, open: c.open, flows: &c.flows, ready: c.ready, config: cfg, name: name, log: c.d.log.With().Str("name", name).Logger(),
		done: make(chan struct{}), tell: newLine[func()](), away: map[string]rotate.Gap{}, broken: make(chan error, 1),
	}
}

// run captures until ctx is done, through all that may happen to interfaces and
// disks, and returns when the last file is sealed and handed to the recorder.
func (l *live) run(ctx context.Context) {
	defer close(l.done)
	highPriority()
	telling, told := context.WithCancel(context.Background())
	var teller sync.WaitGroup
	teller.Go(func() { l.tell.each(telling, func(f func()) { f() }) })
	defer func() {
		told()
		teller.Wait()
		l.forget()
	}()
	if l.after != nil {
		l.missing = rotate.Gap{From: time.Now().UTC(), Cause: "the configuration was changed"}
		<-l.after
	}
	select {
	case <-l.ready:
	case <-ctx.Done():
		return
	}
	for wait := reopenFirst; ; wait = min(2*wait, reopenMost) {
		began := time.Now()
		err := l.life(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("it ended by itself")
		}
		if time.Since(began) > reopenSteady {
			wait = reopenFirst
		}
		if l.missing.Cause == "" {
			l.missing = rotate.Gap{From: time.Now().UTC(), Cause: err.Error()}
		}
		l.tell.put(func() {
			l.d.problems.raise("capture_open", l.name, "capture "+l.name+" does not run: "+err.Error(), openingHint(err))
		})
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

func openingHint(err error) string {
	var wrong *filter.Error
	switch {
	case errors.As(err, &wrong):
		return "mend the filter and run: capagent reload; until then it is tried again"
	case errors.Is(err, fs.ErrPermission):
		return "it is tried again; `capagent interfaces` says what is missing"
	case errors.Is(err, fs.ErrNotExist):
		return "it is taken up as soon as it is there; `capagent interfaces` lists what there is"
	default:
		return "it is tried again"
	}
}

// life is one opening of the source, to its end.
func (l *live) life(ctx context.Context) error {
	options := l.config.Options()
	options.Event, options.Socket = l.event, l.d.opts.Socket
	if l.config.ExcludeUploads {
		options.Own = l.flows
	}
	source, err := l.open(ctx, options)
	if err != nil {
		return err
	}
	r, err := rotate.New(rotate.Options{
		Dir: l.d.opts.Config.SpoolDir(), Name: l.name, Config: l.config.Rotate, Source: source, Sealed: l.sealed,
		Begun: l.begin, Pulse: upload.Pulse,
		Section: pcapio.Section{Application: "capagent " + l.d.opts.Version, OS: l.d.opts.System, Comment: l.config.Source()},
	})
	if err != nil {
		return errors.Join(err, source.Close())
	}
	l.opened(r, source)
	guarded, unguard := context.WithCancel(ctx)
	var guard sync.WaitGroup
	guard.Go(func() { l.guard(guarded) })
	err = l.take(source, r)
	unguard()
	guard.Wait()
	now := time.Now().UTC()
	for _, gap := range l.away {
		gap.To = now
		r.Miss(gap)
	}
	clear(l.away)
	l.look(source, r)
	err = errors.Join(err, r.Close(), source.Close()) // the Rotator asks the source until its end
	l.closed()
	return err
}

func (l *live) opened(r *rotate.Rotator, source capture.Source) {
	if l.missing.Cause != "" {
		l.missing.To = time.Now().UTC()
		r.Miss(l.missing)
		l.missing = rotate.Gap{}
	}
	l.begun, l.sizeAt, l.stopped = 0, 0, false
	l.resume.Store(false)
	l.heard()
	l.mu.Lock()
	l.rotator = r
	l.counts.since = time.Now().UTC()
	l.mu.Unlock()
	l.look(source, r)
	l.tell.put(func() {
		l.d.problems.clear("capture_open", l.name)
		l.log.Info().Strs("interfaces", l.config.Interfaces()).Str("filter", l.config.Filter).Msg("capturing")
	})
}

// closed keeps the counts of a life that has ended.
func (l *live) closed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts
	l.rotator = nil
	l.earlier = liveCounts{packets: c.packets, dropped: c.dropped, lost: c.lost, bytes: c.bytes, sealed: c.sealed, lastSealed: c.lastSealed}
	l.counts = l.earlier
	l.counts.interfaces = c.interfaces
}

// take hands packets to the Rotator until the source has no more.
func (l *live) take(source capture.Source, r *rotate.Rotator) error {
	batch := make([]packet.Packet, batchSize)
	heart := l.d.pulse.begin("capture "+l.name, silentCapture)
	defer heart.end()
	for {
		heart.beat()
		n, err := source.Read(batch)
		if n > 0 || err == nil {
			l.write(source, r, batch[:n])
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

func (l *live) write(source capture.Source, r *rotate.Rotator, batch []packet.Packet) {
	if l.resume.CompareAndSwap(true, false) && l.stopped {
		r.Resume()
	}
	size := r.Totals().Size
	err := r.Write(batch)
	if n := len(batch); n == 0 {
		l.quiet.Store(time.Now().UnixNano())
	} else {
		l.seen.Store(max(l.seen.Load(), batch[n-1].Time))
	}
	if files := r.Totals().Files; files != l.begun {
		l.begun, l.sizeAt = files, size
	}
	if l.stopped = err != nil; l.stopped {
		l.wake(err)
	}
	if now := time.Now(); len(batch) == 0 || now.Sub(l.looked) >= lookEvery {
		l.looked = now
		l.look(source, r)
	}
}

// wake calls the guard, if it is not at work already.
func (l *live) wake(err error) {
	select {
	case l.broken <- err:
	default:
	}
}

// look brings the counts up to date.
func (l *live) look(source capture.Source, r *rotate.Rotator) {
	t := r.Totals()
	var dropped uint64
	for _, s := range source.Stats() {
		dropped += s.Dropped
	}
	interfaces := source.Interfaces()
	l.mu.Lock()
	defer l.mu.Unlock()
	c := &l.counts
	c.packets, c.lost = l.earlier.packets+t.Packets, l.earlier.lost+t.Lost
	c.dropped, c.bytes = l.earlier.dropped+dropped, l.earlier.bytes+t.Size
	c.begun, c.openSize = t.Files, t.Size-l.sizeAt
	c.interfaces = c.interfaces[:0:0]
	for _, i := range interfaces {
		if !slices.Contains(c.interfaces, i.Name) { // one may have come back with another link type
			c.interfaces = append(c.interfaces, i.Name)
		}
	}
}

// sealed is told of each file, by the Rotator.
func (l *live) sealed(s rotate.Sealed) {
	file := s.Path != "" || s.Reason == rotate.Failed || s.Err != nil
	l.mu.Lock()
	if file {
		l.counts.told++
		l.counts.toldPackets += s.Packets
	}
	if s.Path != "" {
		l.counts.sealed++
		l.counts.lastSealed = s.Ended
	}
	l.mu.Unlock()
	if s.Err != nil {
		l.wake(s.Err)
		l.tell.put(func() {
			l.log.Error().Str("class", "capture_file").Str("path", s.Path).Err(s.Err).Msg("a file could not be written as it should")
		})
	}
	if s.Path != "" {
		l.d.recorder.put(spooled{source: l.config.Source(), sealed: s, session: l.streamed(s.Path)})
		return
	}
	if missed := liveOf(s); missed.Dropped > 0 || len(missed.Gaps)+len(missed.Jumps) > 0 {
		l.tell.put(func() { // no file will tell it
			l.d.note("missed", map[string]any{"capture": l.name, "dropped": missed.Dropped, "gaps": missed.Gaps, "jumps": missed.Jumps})
		})
	}
}

// rotateNow ends the open file and waits until it is recorded.
func (l *live) rotateNow(ctx context.Context) (control.Rotated, error) {
	out := control.Rotated{Name: l.name}
	l.mu.Lock()
	r, before := l.rotator, l.counts.sealed
	l.mu.Unlock()
	if r != nil {
		select {
		case <-r.Rotate():
		case <-ctx.Done():
			return out, ctx.Err()
		}
	}
	left, err := l.d.recorder.wait(ctx, l.config.Source(), l.d.recorder.mark())
	if err != nil {
		return out, err
	}
	l.mu.Lock()
	sealed := int(l.counts.sealed - before)
	l.mu.Unlock()
	out.Files = max(0, sealed-left)
	problem := l.problem()
	if left > 0 && problem == "" {
		problem = fmt.Sprintf("%d files of capture %s are complete but can't be recorded now; the agent goes on trying", left, l.name)
	}
	out.Problem = word(problem)
	return out, nil
}

// problem is what stands in the capture's way, "" when nothing does.
func (l *live) problem() string {
	var texts []string
	for _, p := range l.d.problems.list() {
		if l.concerns(p) {
			texts = append(texts, p.Text)
		}
	}
	return strings.Join(texts, "; ")
}

func (l *live) concerns(p Problem) bool {
	return strings.HasPrefix(p.Class, "capture_") && (p.About == l.name || strings.HasPrefix(p.About, l.name+" "))
}

// forget ends the problems of a capture that has ended.
func (l *live) forget() {
	for _, p := range l.d.problems.list() {
		if l.concerns(p) {
			l.d.problems.clear(p.Class, p.About)
		}
	}
}

func (l *live) capturing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rotator != nil
}

// status is the capture as others see it.
func (l *live) status() control.Capture {
	problem := l.problem()
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts
	out := control.Capture{
		Name: l.name, State: control.Waiting, Interfaces: c.interfaces, Filter: l.config.Filter, Since: when(c.since),
		Packets: c.packets, Dropped: c.dropped, Lost: c.lost, Bytes: c.bytes, Files: c.sealed, LastSealed: when(c.lastSealed), Problem: word(problem),
	}
	if len(out.Interfaces) == 0 {
		out.Interfaces = l.config.Interfaces()
	}
	if l.rotator != nil {
		out.State = control.Capturing
		if c.begun > c.told {
			open := c.packets - l.earlier.packets
			out.Open = &control.OpenFile{Packets: open - min(open, c.toldPackets), Size: c.openSize}
		}
	}
	return out
}

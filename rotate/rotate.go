// Package rotate turns the packets of a capture into a row of sealed files.
//
// A file is <source>_<time of its first packet>_<number>.pcapng, in UTC, with
// ".part" behind it until it is sealed: complete, on the disk, renamed, and the
// directory synced. Then the caller is told and records it. Whatever ends the
// process, each file of the directory either has its last name and is whole, or
// is a .part of which Salvage keeps all but a torn last record.
package rotate

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"capagent/internal/packet"
	"capagent/internal/pcapio"
	"capagent/rotate/pcapfile"
)

// Source is what a Rotator asks of where packets come from; see capture.Source.
type Source interface {
	Interfaces() []packet.Interface
	Stats() []packet.Stats
}

// Options say what to write where.
type Options struct {
	Dir     string // made when there is none
	Name    string // of the source: what the names of its files begin with
	Config  Config
	Source  Source
	Section pcapio.Section
	Writer  pcapfile.Options
	// Sealed is told of each file, in order, by one goroutine. The next files are
	// written meanwhile, but only so many that a slow one (more than 16 files
	// behind) makes Write wait.
	Sealed func(Sealed)
	// Begun is told of each file by the goroutine that writes, which it must not
	// keep: of the name that it has now, and of the one that it will have. Optional.
	Begun func(part, path string, first time.Time)
	// Pulse is after how long without a packet counts are written into a pcapng
	// file, for those who follow it; 0: never. It needs calls of Write with none.
	Pulse time.Duration
}

// Reason is why a file ended.
type Reason string

// The reasons.
const (
	Packets   Reason = "packets"   // Config.Packets
	Size      Reason = "size"      // Config.Size
	Interval  Reason = "interval"  // Config.Interval
	Asked     Reason = "asked"     // Rotator.Rotate
	Changed   Reason = "changed"   // an interface came that the file can't hold
	Ended     Reason = "ended"     // Rotator.Close
	Failed    Reason = "failed"    // it could not be written
	Recovered Reason = "recovered" // by Salvage: its writer had been killed
)

// Sealed is a file and what is known of it.
type Sealed struct {
	// Path is "" when nothing is left of a file that failed, and in a last call
	// for what was missed after the last file.
	Path    string
	Format  pcapio.Format
	Packets uint64
	Size    int64
	// First and Last are the earliest and the latest of the packets' times.
	First, Last time.Time
	// Began and Ended are when the file was begun and ended, by the clock.
	Began, Ended time.Time
	Interfaces   []packet.Interface // of the source
	Stats        []packet.Stats     // of each interface, what was added since the file before
	Gaps         []Gap              // since the file before
	Jumps        []Jump             // since the file before
	Reason       Reason
	// Err is what kept the file from being good. It then is cut to the last whole
	// record, may be lost with a power cut, and at worst still is a .part.
	Err error
}

// Gap is a time of which packets are missing.
type Gap struct {
	Interface string // "": all
	From, To  time.Time
	Packets   uint64 // how many; 0: not known
	Cause     string
}

// Jump is a step of the system's clock: somebody set it, or the system slept.
type Jump struct {
	At time.Time // by the new time
	By time.Duration
}

// Totals are a Rotator's counts so far.
type Totals struct {
	Files   uint64 // begun
	Packets uint64 // taken, the lost ones left out as far as known
	Lost    uint64 // that came while nothing could be written, or that a failed file did not keep
	Size    int64  // bytes written to all files
}

const (
	// onTheirWay is how many ended files may wait to be sealed.
	onTheirWay = 16
	// late is for how long packets of an interval may still come after it.
	late = time.Second
	// later is the same while packets do come: somebody is behind.
	later = 10 * time.Second
	// jump is by how much the clock must be set for it to be noted: not the
	// gentle ways of a time server.
	jump = time.Second
	// remembered bounds the gaps and jumps of one file.
	remembered = 1000
	// overhead is what a file needs for a packet at most, besides its bytes.
	overhead = 36
	// mostExpected bounds what is allocated ahead.
	mostExpected = 1 << 30
)

// Rotator writes packets to one file after the other. One goroutine calls Write,
// Resume, Totals and Close; Rotate and Miss may be called by any.
//
// When a file can't be written, it is sealed with what it has, and the Rotator
// has stopped: Write counts what comes as lost and returns the error until
// Resume.
type Rotator struct {
	opts  Options
	w     *pcapfile.Writer
	clock func() (wall time.Time, since time.Duration) // since: monotonic

	known   []packet.Interface
	stats   []packet.Stats // when the last file ended
	number  uint64
	expect  int64
	file    file // that is being written; file.part "": none
	stopped error
	missing Gap           // since stopped
	ahead   time.Duration // of the wall clock before the monotonic one
	totals  Totals
	lost    atomic.Uint64 // by failed files

	ends    chan ending
	done    chan struct{} // the sealing goroutine has ended
	asked   atomic.Bool
	mu      sync.Mutex
	closed  bool
	waiting []chan struct{} // of Rotate
	carried Sealed          // what the next file is to tell besides: Stats, Gaps, Jumps
}

// file is the one that is being written.
type file struct {
	path, part  string // its name in the end, and now
	lock        *os.File
	format      pcapio.Format
	interfaces  []packet.Interface
	first, last int64         // packet times
	packets     uint64        // handed to the writer
	until       int64         // packet time of the next file
	over        time.Duration // monotonic time at which the interval is over
	wrote       time.Duration // monotonic time at which something was written
	began       time.Time
}

// New begins no file: the first packet does. Close the Rotator.
func New(o Options) (*Rotator, error) {
	start := time.Now()
	return newRotator(o, func() (time.Time, time.Duration) {
		now := time.Now()
		return now, now.Sub(start)
	})
}

func newRotator(o Options, clock func() (time.Time, time.Duration)) (*Rotator, error) {
	w, err := pcapfile.New(o.Writer)
	if err != nil {
		return nil, err
	}
	o.Name = safe(o.Name)
	r := &Rotator{
		opts: o, w: w, clock: clock, known: o.Source.Interfaces(),
		ends: make(chan ending, onTheirWay), done: make(chan struct{}),
	}
	wall, since := clock()
	r.ahead = time.Duration(wall.UnixNano()) - since
	go r.seal()
	return r, nil
}

// Write takes packets, which are in a buffer when it returns. Call it with none
// when nothing came for a while, at least each second: so an interval ends on a
// quiet line, too. Nothing is allocated, but by the beginning and end of files.
func (r *Rotator) Write(batch []packet.Packet) error {
	wall, since := r.clock()
	r.lookAtClock(wall, since)
	if r.asked.Load() {
		r.rotateNow()
	}
	if r.file.part != "" && since >= r.file.over {
		if len(batch) == 0 && since-r.file.over >= late || since-r.file.over >= later {
			r.end(Interval)
		}
	}
	if r.file.part != "" && len(batch) > 0 {
		r.file.wrote = since
	}
	if len(batch) == 0 && r.file.part != "" {
		if err := errors.Join(r.pulse(wall, since), r.w.Flush()); err != nil {
			r.fail(err)
		}
	}
	for len(batch) > 0 && r.stopped == nil {
		n, err := r.some(batch)
		r.totals.Packets += uint64(n)
		batch = batch[n:]
		if err != nil {
			r.fail(err)
		}
	}
	if r.stopped != nil {
		r.lose(batch)
	}
	return r.stopped
}

// pulse tells those who follow the file that it lives.
func (r *Rotator) pulse(wall time.Time, since time.Duration) error {
	f := &r.file
	if r.opts.Pulse == 0 || since-f.wrote < r.opts.Pulse {
		return nil
	}
	f.wrote = since
	if limit := r.room(); limit > 0 && r.w.Size()+int64(len(f.interfaces))*statsBytes > limit {
		return nil
	}
	t := pcapfile.Trailer{Start: f.began, End: wall.Round(0).UTC()}
	for _, s := range r.grown(r.opts.Source.Stats()) {
		t.Stats = append(t.Stats, pcapfile.Stats{Stats: s})
	}
	return r.w.Pulse(t)
}

// Rotate ends the file that is open, if any, with the next Write. What it returns
// is closed when all that came before is sealed and told.
func (r *Rotator) Rotate() <-chan struct{} {
	c := make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		close(c)
		return c
	}
	r.waiting = append(r.waiting, c)
	r.asked.Store(true)
	return c
}

func (r *Rotator) rotateNow() {
	r.mu.Lock()
	waiting := r.waiting
	r.waiting = nil
	r.asked.Store(false)
	r.mu.Unlock()
	if r.file.part != "" {
		r.end(Asked)
	}
	r.ends <- ending{tell: waiting}
}

// Miss tells of a time that the source could not capture.
func (r *Rotator) Miss(g Gap) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.carried.miss(g)
}

// Resume has the Rotator try again, with a new file, after it has stopped: when
// there is room on the disk again. When that fails, Write says so as before.
func (r *Rotator) Resume() {
	r.stopped = nil
	r.tellMissing()
}

// Stopped is why the Rotator has stopped, nil when it has not.
func (r *Rotator) Stopped() error { return r.stopped }

// Totals are the counts so far.
func (r *Rotator) Totals() Totals {
	t := r.totals
	failed := r.lost.Load()
	t.Packets -= failed
	t.Lost += failed
	t.Size += r.w.Size()
	return t
}

// Close ends the file that is open and returns when all are sealed. Its error is
// not about a file, of which Sealed is told.
func (r *Rotator) Close() error {
	r.mu.Lock()
	r.closed = true
	waiting := r.waiting
	r.waiting = nil
	r.mu.Unlock()
	if r.file.part != "" {
		r.end(Ended)
	}
	r.tellMissing()
	r.ends <- ending{tell: waiting, last: true, stats: r.since()}
	close(r.ends)
	<-r.done
	if err := r.w.Close(); err != nil {
		return fmt.Errorf("rotate: %w", err)
	}
	return nil
}

// lookAtClock notes when somebody has set the clock.
func (r *Rotator) lookAtClock(wall time.Time, since time.Duration) {
	ahead := time.Duration(wall.UnixNano()) - since
	by := ahead - r.ahead
	r.ahead = ahead
	if by >= jump || by <= -jump {
		r.mu.Lock()
		r.carried.jumped(Jump{At: wall.Round(0).UTC(), By: by})
		r.mu.Unlock()
	}
}

// fail ends the file and stops.
func (r *Rotator) fail(err error) {
	if r.file.part != "" {
		r.end(Failed)
	}
	r.stopped = err
	r.missing = Gap{Cause: cause(err)}
}

// lose counts packets that can't be written.
func (r *Rotator) lose(batch []packet.Packet) {
	if len(batch) == 0 {
		return
	}
	s, g := scan(batch), &r.missing
	if first := at(s.first); g.Packets == 0 || first.Before(g.From) {
		g.From = first
	}
	if last := at(s.last); g.Packets == 0 || last.After(g.To) {
		g.To = last
	}
	g.Packets += uint64(len(batch))
	r.totals.Lost += uint64(len(batch))
}

func (r *Rotator) tellMissing() {
	if r.missing.Packets > 0 {
		r.Miss(r.missing)
	}
	r.missing = Gap{}
}

func at(ns int64) time.Time { return time.Unix(0, ns).UTC() }

// cause is an error in the words of a gap.
func cause(err error) string {
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(err) {
		err = next
	}
	return err.Error()
}

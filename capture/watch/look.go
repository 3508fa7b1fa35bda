package watch

import (
	"container/heap"
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"

	"capagent/internal/safefile"
)

// look is a file that has to be looked at, and what earlier looks have shown.
type look struct {
	path  string
	root  string    // the watched folder, set when the look is made
	due   time.Time // zero: before all others
	index int       // in the queue

	scanned bool // found by a scan and not looked at since
	held    bool // the owner has set the time
	handled bool // it was handed over as last says
	last    record
	asked   bool
	known   Stamp // what Known said

	seen  bool
	facts facts     // at the last look
	first time.Time // the first look
	since time.Time // the file has had these facts at least since then
	delay time.Duration
}

// verdict is what came out of a look.
type verdict uint8

const (
	vanished  verdict = iota
	unchanged         // it is what was handed over
	taken             // handed over, or known from an earlier life
	unsettled         // due says when to look again
	refused           // for a reason that new facts may remove
	denied            // for a reason that may vanish without a trace in the file
	directory
	told // not a look
)

type result struct {
	look
	verdict verdict
	reason  string
}

// looker looks at one file after the other and calls the owner, all in one goroutine.
type looker struct {
	Options
	hash func(facts) uint64
	sick bool // Known has failed and that was logged
}

func (l *looker) look(ctx context.Context, job look) result {
	r := result{look: job}
	info, err := os.Lstat(job.path)
	if err != nil {
		return r.failed(err)
	}
	switch mode := info.Mode(); {
	case mode.IsDir():
		r.verdict = directory
		return r
	case !mode.IsRegular():
		r.verdict, r.reason = denied, safefile.Describe(mode)
		return r
	}
	f := factsOf(info)
	if r.handled && r.last.print == l.hash(f) {
		r.facts, r.verdict = f, unchanged
		return r
	}
	if !l.ask(ctx, &r.look) {
		return r.again(grow(r.delay, longDelay))
	}
	if r.known != "" && r.known == f.stamp() {
		r.facts, r.verdict = f, taken
		return r
	}
	return l.settle(ctx, r)
}

// ask calls Known once for a path. It reports false when Known can't answer now.
func (l *looker) ask(ctx context.Context, job *look) bool {
	if job.asked || l.Known == nil {
		return true
	}
	known, err := l.Known(ctx, job.path)
	if err != nil {
		if !l.sick && ctx.Err() == nil {
			l.Log.Warn().Err(err).Msg("not known what was dealt with earlier; asking again")
		}
		l.sick = true
		return false
	}
	l.sick = false
	job.known, job.asked = known, true
	return true
}

// settle hands the file over if it is complete.
func (l *looker) settle(ctx context.Context, r result) result {
	begin := time.Now()
	f, state, err := inspect(r.path)
	if err != nil {
		return r.failed(err)
	}
	if l.quiet && state != written {
		state = unsure
	}
	now := time.Now()
	changed := r.seen && r.facts != f
	if !r.seen {
		r.seen, r.first, r.since = true, now, now
	} else if changed {
		r.since = now
	}
	r.facts = f
	quiet := l.Config.Settle.Std()
	switch {
	case state == written && l.onlyEvents:
		return r.again(time.Hour)
	case state == written:
		return r.again(grow(r.delay, lastDelay))
	case state == young:
		return r.again(youngDelay)
	case begin.Sub(r.since) < quiet && (state == unsure || r.doubtful() && begin.Sub(r.first) < patience*quiet):
		// While it changes it is looked at more often, to learn soon that it has ceased.
		left := r.since.Add(quiet).Sub(now)
		if changed {
			left = min(left, quiet/4)
		}
		return r.again(left)
	case f.links > 1:
		r.verdict, r.reason = refused, hardLink
		return r
	}
	r.verdict = taken
	if r.known == "" || r.known != f.stamp() {
		name, _ := below(r.root, r.path)
		l.Take(ctx, File{Path: r.path, Name: name, Stamp: f.stamp(), Seen: now})
	}
	return r
}

// doubtful reports whether a file without a writer had better be quiet for a
// while too: one that is empty, that may be getting its name in two steps, or
// that was handed over and is being written to again, as by programs that open
// the file for each packet.
func (l *look) doubtful() bool {
	return l.facts.size == 0 || l.facts.links > 1 || l.handled && l.last.inode == uint32(l.facts.inode)
}

// again asks for another look after d.
func (r result) again(d time.Duration) result {
	r.verdict, r.delay, r.due = unsettled, d, time.Now().Add(d)
	return r
}

func (r result) failed(err error) result {
	switch {
	case exhausted(err):
		return r.again(grow(r.delay, longDelay))
	case gone(err), errors.Is(err, safefile.ErrNotRegular): // replaced since it was listed
		r.verdict = vanished
	case errors.Is(err, errLink), errors.Is(err, errLinks):
		r.verdict, r.reason = denied, err.Error()
	default:
		r.verdict, r.reason = denied, unreadable(err)
	}
	return r
}

// gone reports whether there is nothing at the path any more.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// exhausted reports whether the error is about this process, not about the file.
func exhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOMEM)
}

func unreadable(err error) string { return "unreadable: " + safefile.Cause(err).Error() }

// queue holds looks, the next one first.
type queue []*look

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i]; q[i].index, q[j].index = i, j }
func (q *queue) Push(x any)        { l := x.(*look); l.index = len(*q); *q = append(*q, l) }
func (q *queue) Pop() any {
	old := *q
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return last
}

// looks is a queue in which every path is once.
type looks struct {
	queue
	byPath  map[string]*look
	scanned int // those with that mark
}

func newLooks() *looks { return &looks{byPath: map[string]*look{}} }

func (s *looks) add(l look) {
	s.byPath[l.path] = &l
	heap.Push(&s.queue, &l)
	if l.scanned {
		s.scanned++
	}
}

// soon moves l to due if that is earlier.
func (s *looks) soon(l *look, due time.Time) {
	if due.Before(l.due) {
		l.due = due
		heap.Fix(&s.queue, l.index)
	}
}

// drop takes l out.
func (s *looks) drop(l *look) {
	heap.Remove(&s.queue, l.index)
	delete(s.byPath, l.path)
	if l.scanned {
		s.scanned--
	}
}

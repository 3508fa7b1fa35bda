package pcapfile

import (
	"encoding/binary"
	"fmt"
	"sync"

	"capagent/internal/quote"
	"capagent/internal/safefile"
)

// job is bytes of a buffer that belong into a file.
type job struct {
	file     *file
	buf      []byte
	from, to int // in buf
	marks    marks
	keep     bool    // more of buf follows: it isn't free yet
	end      *Ending // not nil: the file ends here
}

// marks tell where a buffer's records are.
type marks struct {
	base       int64  // of the buffer, in the file
	open       int64  // of the record in which the buffer begins, in the file
	openPacket bool   // that is a packet
	next       int64  // of the first record that begins in the buffer, in the buffer or beyond
	packets    uint64 // before open
}

// onDisk is what only the writing goroutine knows of a file.
type onDisk struct {
	regular   bool
	direct    bool // O_DIRECT has not failed yet
	isDirect  bool // it is switched on
	expect    int64
	allocated bool   // blocks beyond the end, perhaps
	cached    bool   // the buffer that is written went, partly, through the page cache
	going     span   // on its way from the page cache to the disk
	cut       Result // after an error: what is whole
}

type span struct{ from, to int64 }

const (
	// leastDirect is the least that is worth a write past the page cache, which
	// waits for the disk.
	leastDirect = 256 << 10
	// finishing is how many files are synced and closed at a time.
	finishing = 4
	// mostTogether is how many buffers one call writes at most.
	mostTogether = 4
)

// run writes what it is given until there is no more.
func (w *Writer) run() {
	defer close(w.done)
	var finishers sync.WaitGroup
	defer finishers.Wait()
	room := make(chan struct{}, finishing)
	var some [mostTogether]job
	for {
		n := w.next(&some)
		if n == 0 {
			return
		}
		if n == 1 || !some[0].file.writeTogether(some[:n]) {
			for _, j := range some[:n] { // what is written already is written again
				j.file.writeOrFail(j)
			}
		}
		for _, j := range some[:n] {
			if j.keep {
				w.flushing.Store(false)
				continue
			}
			w.free <- j.buf
			if j.end != nil {
				room <- struct{}{}
				f, e := j.file, j.end
				finishers.Go(func() {
					f.finish(e, !w.opts.NoSync)
					w.finished(e)
					<-room
				})
			}
		}
	}
}

// next gets a job, and those that wait behind it as long as one write can do them
// all: a busy machine tells late that a write is done, and a writer that is behind
// catches up by waiting less often. It returns how many; 0 at the end.
func (w *Writer) next(some *[mostTogether]job) (n int) {
	if w.held.file != nil {
		some[0], w.held = w.held, job{}
	} else {
		j, ok := <-w.jobs
		if !ok {
			return 0
		}
		some[0] = j
	}
	for n = 1; n < len(some) && some[0].full(); n++ {
		select {
		case j, ok := <-w.jobs:
			if !ok {
				return n
			}
			if j.file != some[0].file || !j.full() {
				w.held = j
				return n
			}
			some[n] = j
		default:
			return n
		}
	}
	return n
}

// full says that a job is a whole buffer that goes to the disk directly.
func (j *job) full() bool {
	return j.file.disk.direct && !j.keep && j.end == nil && j.to == len(j.buf)
}

// writeTogether writes full buffers that follow each other with one call. It says
// whether that went well.
func (f *file) writeTogether(some []job) bool {
	if f.failure() != nil || !f.goDirect() {
		return false
	}
	var room [mostTogether][]byte
	parts, want := room[:0], 0
	for _, j := range some {
		parts, want = append(parts, j.buf), want+len(j.buf)
	}
	first := some[0]
	n, err := writeParts(f.f, parts, first.marks.base)
	if err != nil || n != want {
		return false
	}
	if f.disk.cached { // the first bytes, by a flush
		f.disk.cached = false
		return f.evict(span{first.marks.base, first.marks.base + int64(first.to)}) == nil
	}
	return true
}

// goDirect switches to writing past the page cache, if that can be done.
func (f *file) goDirect() bool {
	d := &f.disk
	if !d.isDirect {
		if setDirect(f.f, true) != nil {
			d.direct = false
			return false
		}
		d.isDirect = true
	}
	if d.expect > 0 && !d.allocated {
		preallocate(f.f, d.expect)
		d.allocated = true // a part, it may be
	}
	return true
}

func (f *file) writeOrFail(j job) {
	if f.failure() == nil {
		if err := f.write(j); err != nil {
			f.fail(err)
		}
	}
}

func (f *file) fail(err error) {
	err = failed(f.path, err)
	f.err.Store(&err)
}

// write writes a job's bytes. After an error it notes what of the file is whole.
func (f *file) write(j job) error {
	d := &f.disk
	pos := j.from
	var err error
	if d.direct && !j.keep && j.to-pos >= min(leastDirect, len(j.buf)) {
		pos, err = f.writeDirect(j)
	}
	if err == nil && pos < j.to {
		pos, err = f.writeBuffered(j, pos)
	}
	if err == nil && d.regular && d.cached && !j.keep && j.end == nil {
		d.cached = false
		err = f.evict(span{j.marks.base, j.marks.base + int64(j.to)})
	}
	if err != nil {
		d.cut = j.whole(pos)
	}
	return err
}

// evict sends what is in the page cache on its way to the disk, and has the
// cache give up what was on its way. So a long file does not displace everything
// else, and its writer is not stopped, for seconds, for having too much there.
// The last part stays: it is read next.
func (f *file) evict(s span) error {
	d := &f.disk
	if err := writeBack(f.f, s); err != nil {
		return err
	}
	before := d.going
	d.going = s
	if before == (span{}) {
		return nil
	}
	return dropCache(f.f, before)
}

// writeDirect writes the whole pages of a job past the page cache and returns
// how far it got. Where that can't be done it gets nowhere without an error.
func (f *file) writeDirect(j job) (int, error) {
	if !f.goDirect() {
		return j.from, nil
	}
	// All of the buffer, also what a flush has written: its pages must not stay in
	// the cache when the file grows beyond them, or a power cut would leave a hole.
	to := j.to &^ (page - 1)
	n, err := writeAt(f.f, j.buf[:to], j.marks.base)
	pos := max(n, j.from)
	if err != nil && refusesDirect(err) {
		// Also after a short write, which leaves a rest that is not aligned.
		f.disk.direct, err = false, nil
	}
	return pos, err
}

func (f *file) writeBuffered(j job, pos int) (int, error) {
	d := &f.disk
	if d.isDirect {
		if err := setDirect(f.f, false); err != nil {
			return pos, err
		}
		d.isDirect = false
	}
	d.cached = true
	var n int
	var err error
	if d.regular {
		n, err = writeAt(f.f, j.buf[pos:j.to], j.marks.base+int64(pos))
	} else {
		n, err = f.f.Write(j.buf[pos:j.to])
	}
	return pos + n, err
}

// whole is what the file holds when it is cut behind the last record that ends
// at or before buf[:end].
func (j *job) whole(end int) Result {
	m := j.marks
	if int64(end) < m.next {
		return Result{Size: m.open, Packets: m.packets}
	}
	r := Result{Packets: m.packets}
	if m.openPacket {
		r.Packets++
	}
	pos := int(m.next)
	le := binary.LittleEndian
	for {
		size, packet := pcapFirst, false
		switch b := j.buf[pos:end]; {
		case j.file.ng != nil && len(b) >= 8:
			size, packet = int(le.Uint32(b[4:])), le.Uint32(b) == ngPacket
		case j.file.ng == nil && m.base+int64(pos) == 0:
		case j.file.ng == nil && len(b) >= pcapHead:
			size, packet = pcapHead+int(le.Uint32(b[8:])), true
		default:
			size = len(b) + 1
		}
		if size > end-pos {
			r.Size = m.base + int64(pos)
			return r
		}
		pos += size
		if packet {
			r.Packets++
		}
	}
}

// finish makes f complete and closes it.
func (f *file) finish(e *Ending, sync bool) {
	err := f.failure()
	if err != nil {
		e.result, e.err = f.disk.cut, nil
	}
	then := func(next error) {
		if next != nil && err == nil {
			err = failed(f.path, next)
		}
	}
	if f.disk.regular {
		if err != nil || f.disk.allocated {
			then(f.f.Truncate(e.result.Size))
		}
		if sync {
			then(f.f.Sync())
		}
	}
	then(f.f.Close())
	if e.err == nil {
		e.err = err
	}
}

func failed(path string, err error) error {
	return fmt.Errorf("write %s: %w", quote.Path(path), safefile.Cause(err))
}

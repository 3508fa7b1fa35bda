// Package pcapfile writes packets to capture files at the rate of a fast
// network: pcap with nanoseconds, or pcapng.
//
// Packets are copied into large page-aligned buffers, which one goroutine writes
// to the file: past the page cache where the file system can do that (O_DIRECT),
// since filling that cache costs more than everything else together and makes
// writers stall. The reader of packets never waits for the disk until all
// buffers are on their way to it.
//
// A file only ever grows at its end, in order, and every byte within its size is
// data: there is no padding and no hole. So when the process is killed, at
// whatever moment, the file is a valid capture up to its last record, which may
// be torn. Its size may be 0. Blocks that were preallocated beyond its size are
// given back by cutting it to any size.
//
// When the power fails, a file whose Ending was good is there. One that was still
// written has lost what its file system had not committed: all of the last 5
// seconds on ext4, 30 on XFS, or up to a minute where the page cache was used. It
// is a prefix all the same.
package pcapfile

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"capagent/internal/packet"
	"capagent/internal/pcapio"
)

// MaxPacket is how many bytes of a packet a file holds at most: the limit of
// those who read the files. Of a longer one the rest is cut off.
const MaxPacket = 262144

// Defaults and bounds of Options.
const (
	DefaultBuffers    = 4
	DefaultBufferSize = 4 << 20
	DefaultFlush      = time.Second

	page = 4096 // a multiple of every disk's sector
)

// Options say how to write. The zero value of each field is its default.
type Options struct {
	Buffers    int           // how many buffers, at least 2; 0: DefaultBuffers
	BufferSize int           // bytes of each, rounded up to whole pages of 4096; 0: DefaultBufferSize
	Flush      time.Duration // after which bytes of a buffer that does not fill are written; 0: DefaultFlush, < 0: never
	Buffered   bool          // write through the page cache even where that can be avoided
	NoSync     bool          // a file that has ended need not survive a power cut
}

// Header says what a file begins with.
type Header struct {
	Format     pcapio.Format
	Interfaces []packet.Interface // in the order in which packets count them
	Section    pcapio.Section     // pcapng only
	Expect     int64              // bytes that the file will have, to be allocated at once; 0: not known
}

// Trailer says what a pcapng file ends with. A pcap file can't hold it.
type Trailer struct {
	Start, End time.Time // of the capture; zero: left out
	Stats      []Stats   // of each interface, as far as known
}

// Stats are an interface's counts at the end of a file.
type Stats struct {
	packet.Stats
	Comment string // such as gaps; cut to 65,535 bytes
}

// Result is what a file holds.
type Result struct {
	Size    int64  // bytes
	Packets uint64 // whole ones; after an error fewer than were written
}

// Writer writes one file after the other. One goroutine uses it; what End
// returns may be used by any. Its memory is that of its buffers.
type Writer struct {
	opts Options
	free chan []byte
	jobs chan job
	done chan struct{} // the writing goroutine has ended
	pool func()        // gives the buffers back

	file    *file  // that is being written; nil: none
	buf     []byte // the last part of file
	used    int    // bytes in buf
	flushed int    // bytes of buf that were handed over
	marks   marks  // of buf
	packets uint64
	// The record that is written across buffers.
	recStart, recEnd int64
	recPacket        bool

	held job // what the writing goroutine has to do next; file nil: nothing

	flushing atomic.Bool // a flush is on its way
	handed   time.Time   // when bytes were handed over
	waited   atomic.Int64

	mu     sync.Mutex
	failed []*Ending
}

// file is a file from Begin to the end of its Ending.
type file struct {
	f          *os.File
	path       string
	ng         *pcapio.PcapngWriter // nil: pcap
	interfaces []int                // their link types
	os         string
	err        atomic.Pointer[error]
	disk       onDisk
}

var errNoFile = errors.New("write packets: no file was begun")

// New makes a Writer. Close it.
func New(o Options) (*Writer, error) {
	if o.Buffers == 0 {
		o.Buffers = DefaultBuffers
	}
	if o.BufferSize == 0 {
		o.BufferSize = DefaultBufferSize
	}
	if o.Flush == 0 {
		o.Flush = DefaultFlush
	}
	if o.Buffers < 2 || o.BufferSize < 0 || o.BufferSize > 1<<30 {
		return nil, fmt.Errorf("write packets: %d buffers of %d bytes make no sense", o.Buffers, o.BufferSize)
	}
	o.BufferSize = (o.BufferSize + page - 1) &^ (page - 1)
	bufs, pool, err := allocate(o.Buffers, o.BufferSize)
	if err != nil {
		return nil, fmt.Errorf("allocate %d buffers of %d bytes: %w", o.Buffers, o.BufferSize, err)
	}
	w := &Writer{
		opts: o, pool: pool, done: make(chan struct{}),
		free: make(chan []byte, o.Buffers), jobs: make(chan job, o.Buffers+1), // and a flush: sending never waits
	}
	for _, b := range bufs {
		w.free <- b
	}
	go w.run()
	return w, nil
}

// Begin starts a file in f, which it closes in the end. f is a regular file that
// is empty and not open for appending, or something that takes bytes in order,
// such as a pipe. After an error f is still the caller's.
func (w *Writer) Begin(f *os.File, h Header) error {
	if w.file != nil {
		return errors.New("write packets: the file before has not ended")
	}
	info, err := f.Stat()
	if err != nil {
		return failed(f.Name(), err)
	}
	regular := info.Mode().IsRegular()
	if regular && info.Size() != 0 {
		return failed(f.Name(), errors.New("it is not empty"))
	}
	if regular && appends(f) {
		return failed(f.Name(), errors.New("it is open for appending"))
	}
	if _, err := h.write(io.Discard); err != nil { // before anything is on its way
		return failed(f.Name(), err)
	}
	w.file = &file{f: f, path: f.Name(), os: h.Section.OS, disk: onDisk{regular: regular, direct: regular && !w.opts.Buffered, expect: h.Expect}}
	w.packets, w.handed = 0, time.Now()
	w.take(marks{})
	if w.file.ng, err = h.write(sink{w}); err != nil {
		return failed(f.Name(), err)
	}
	for _, i := range h.Interfaces {
		w.file.interfaces = append(w.file.interfaces, i.LinkType)
	}
	return nil
}

// write writes the header to dst.
func (h Header) write(dst io.Writer) (*pcapio.PcapngWriter, error) {
	switch h.Format {
	case pcapio.Pcapng:
		ng, err := pcapio.NewPcapngWriter(dst, h.Section)
		for _, i := range h.Interfaces {
			if err == nil {
				err = describe(ng, i, h.Section.OS)
			}
		}
		return ng, err
	case pcapio.Pcap:
		if len(h.Interfaces) == 0 {
			return nil, errors.New("pcap needs an interface to tell the link type")
		}
		link, snap := h.Interfaces[0].LinkType, uint32(1)
		for _, i := range h.Interfaces {
			if i.LinkType != link {
				return nil, linkTypes(link, i.LinkType)
			}
			snap = max(snap, i.SnapLen-1) // so that 0, no limit, is the largest
		}
		_, err := pcapio.NewPcapWriter(dst, pcapio.PcapOptions{LinkType: link, SnapLen: min(snap, MaxPacket-1) + 1})
		return nil, err
	default:
		return nil, fmt.Errorf("%q is no format to write", h.Format)
	}
}

func linkTypes(a, b int) error {
	return fmt.Errorf("pcap can't hold interfaces of two link types, %s and %s: use pcapng", pcapio.LinkTypeName(a), pcapio.LinkTypeName(b))
}

func describe(ng *pcapio.PcapngWriter, i packet.Interface, system string) error {
	_, err := ng.AddInterface(pcapio.Interface{
		Name: i.Name, Description: i.Description, Filter: i.Filter, OS: system,
		LinkType: i.LinkType, SnapLen: i.SnapLen, MAC: i.MAC, Speed: i.Speed,
	})
	return err
}

// AddInterface describes another interface, whose packets may follow. A pcap
// file takes it only when its link type is that of the others.
func (w *Writer) AddInterface(i packet.Interface) error {
	f := w.file
	switch {
	case f == nil:
		return errNoFile
	case f.ng != nil:
		if err := describe(f.ng, i, f.os); err != nil {
			return failed(f.path, err)
		}
	case i.LinkType != f.interfaces[0]:
		return failed(f.path, linkTypes(f.interfaces[0], i.LinkType))
	}
	f.interfaces = append(f.interfaces, i.LinkType)
	return f.failure()
}

// KeyLog writes secrets in the format of SSLKEYLOGFILE, which open the packets
// that follow. Only pcapng can hold them.
func (w *Writer) KeyLog(secrets []byte) error {
	switch f := w.file; {
	case f == nil:
		return errNoFile
	case f.ng == nil:
		return failed(f.path, errors.New("pcap can't hold secrets: use pcapng"))
	default:
		if err := f.ng.WriteSecrets(pcapio.TLSKeyLog, secrets); err != nil {
			return failed(f.path, err)
		}
		return f.failure()
	}
}

// Pulse writes the counts so far into a pcapng file, between its packets, so that
// who follows the growing file hears of it on a quiet line, too. A pcap file has
// no place for them.
func (w *Writer) Pulse(t Trailer) error {
	f := w.file
	if f == nil {
		return errNoFile
	}
	if f.ng != nil && f.failure() == nil {
		if err := t.write(f.ng, len(f.interfaces)); err != nil {
			return failed(f.path, err)
		}
	}
	return f.failure()
}

// Size is how many bytes the file has so far, those in buffers included.
func (w *Writer) Size() int64 {
	if w.file == nil {
		return 0
	}
	return w.marks.base + int64(w.used)
}

// Packets is how many packets were written to the file so far.
func (w *Writer) Packets() uint64 { return w.packets }

// Waited is for how long Write has waited altogether because all buffers were on
// their way to the disk. Any goroutine may ask.
func (w *Writer) Waited() time.Duration { return time.Duration(w.waited.Load()) }

// End ends the file and returns at once; the next one may begin. Ask the Ending
// whether the file is good. (Its name is on the disk when its folder was synced,
// which is the caller's business.)
func (w *Writer) End(t Trailer) *Ending {
	e := &Ending{done: make(chan struct{})}
	f := w.file
	if f == nil {
		e.err = errNoFile
		close(e.done)
		return e
	}
	if f.ng != nil && f.failure() == nil {
		e.err = t.write(f.ng, len(f.interfaces))
	}
	e.result = Result{Size: w.Size(), Packets: w.packets}
	w.jobs <- job{file: f, buf: w.buf, from: w.flushed, to: w.used, marks: w.marks, end: e}
	w.file, w.buf, w.packets = nil, nil, 0
	return e
}

func (t Trailer) write(ng *pcapio.PcapngWriter, interfaces int) error {
	ns := func(t time.Time) int64 {
		if t.IsZero() || t.Year() < 1970 || t.Year() > 2261 {
			return 0
		}
		return t.UnixNano()
	}
	at := ns(t.End)
	if at == 0 {
		at = time.Now().UnixNano()
	}
	count := func(n uint64) int64 { return int64(min(n, math.MaxInt64)) }
	for i, s := range t.Stats[:min(len(t.Stats), interfaces)] {
		if len(s.Comment) > math.MaxUint16 {
			s.Comment = strings.ToValidUTF8(s.Comment[:math.MaxUint16], "")
		}
		err := ng.WriteStats(i, pcapio.Stats{
			Time: at, Start: ns(t.Start), End: ns(t.End), Comment: s.Comment, Received: count(s.Received + s.Dropped),
			Dropped: count(s.Dropped), OSDrop: count(s.Dropped), Accepted: -1,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Ending is the end of a file, which may still be on its way.
type Ending struct {
	done   chan struct{}
	result Result
	err    error
	seen   atomic.Bool
}

// Wait returns when the file is complete, on the disk (unless NoSync) and
// closed, or when that has failed. The error names the file. Then Result tells
// what the file holds all the same: it was cut to its last whole record.
func (e *Ending) Wait() (Result, error) {
	<-e.done
	e.seen.Store(true)
	return e.result, e.err
}

// Close ends a file that has not ended, waits for all, as long as the disk needs,
// and gives the memory back. It returns the errors of those files for whose Ending nobody waited.
func (w *Writer) Close() error {
	if w.file != nil {
		w.End(Trailer{})
	}
	close(w.jobs)
	<-w.done
	w.pool()
	var errs []error
	for _, e := range w.failed {
		if !e.seen.Load() {
			errs = append(errs, e.err)
		}
	}
	return errors.Join(errs...)
}

// finished tells that e is complete.
func (w *Writer) finished(e *Ending) {
	if e.err != nil {
		w.mu.Lock()
		w.failed = append(slices.DeleteFunc(w.failed, func(e *Ending) bool { return e.seen.Load() }), e)
		w.mu.Unlock()
	}
	close(e.done)
}

func (f *file) failure() error {
	if err := f.err.Load(); err != nil {
		return *err
	}
	return nil
}

// Package capturing takes packets from a source into a file: the loop between
// capture and rotate, which know nothing of each other.
package capturing

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"capagent/capture"
	"capagent/internal/packet"
	"capagent/internal/pcapio"
	"capagent/rotate/pcapfile"
)

// batchSize is how many packets are taken at a time: enough to make what is done
// once a batch cheap, few enough to stay in the processor's first cache.
const batchSize = 256

// buffers of 4 MiB wait for a disk that stalls, on top of what the kernel holds:
// most stalls are shorter than 100 ms, which at 0.8 GB/s is all of the default ring.
const buffers = 7

// Limits end a capture. Zero is none. (For how long it lasts is the business of
// the context that opened the source.)
type Limits struct {
	Packets uint64
	// Size is that of the file in bytes, the room for Secrets left out; the packet
	// with which it is reached is the last one.
	Size int64
}

// Progress is what is known while a capture goes on.
type Progress struct {
	Elapsed  time.Duration
	Packets  uint64
	Size     int64
	Received uint64
	Dropped  uint64 // by the kernel
}

// Options say how to capture into one file.
type Options struct {
	Source  capture.Source
	Limits  Limits
	Format  pcapio.Format
	Section pcapio.Section
	Tell    func(Progress) // is told four times a second and at the end; may be nil
	// Secrets returns the TLS secrets to put into the file, in the format of
	// SSLKEYLOGFILE, when the capture has ended. It may be nil; a pcap file can't
	// hold them. Those beyond SecretsRoom are left out.
	Secrets func() []byte
	// Pulse is after how long without a packet counts are written into a pcapng
	// file, for those who follow it; 0: never.
	Pulse time.Duration
}

// End is why a capture ended.
type End string

// The ends.
const (
	Stopped   End = "stopped" // by its context: the time is over, or somebody said so
	AtPackets End = "packets" // Limits.Packets
	AtSize    End = "size"    // Limits.Size
	Failed    End = "failed"  // by an error; what came before is in the file
)

// Result is what was captured.
type Result struct {
	pcapfile.Result
	End         End
	Began       time.Time
	Took        time.Duration
	First, Last time.Time // of the packets; zero when there are none
	Interfaces  []packet.Interface
	Stats       []packet.Stats
	Gaps        []capture.Event // of kind Back
}

// Dropped is what the kernel lost altogether.
func (r Result) Dropped() (n uint64) {
	for _, s := range r.Stats {
		n += s.Dropped
	}
	return n
}

// Into captures into f until the source ends, a limit is reached or something
// fails, and returns when the file is complete. events are those that the source
// told until then. The error of the source or of the file comes with the Result
// of what there is nevertheless.
func Into(f *os.File, o Options, events func() []capture.Event) (Result, error) {
	w, err := pcapfile.New(pcapfile.Options{Buffers: buffers})
	if err != nil {
		return Result{}, errors.Join(err, f.Close())
	}
	defer func() { _ = w.Close() }() // the only file's Ending is asked
	l := loop{Options: o, w: w, known: o.Source.Interfaces(), began: time.Now()}
	if err := w.Begin(f, pcapfile.Header{Format: o.Format, Interfaces: l.known, Section: o.Section}); err != nil {
		return Result{}, err
	}
	// The collector looks after a heap that hardly grows every two minutes, but
	// only from its first run on.
	runtime.GC()
	var keys *secrets
	if o.Secrets != nil && o.Format == pcapio.Pcapng {
		if keys, err = makeRoom(w, f.Name()); err != nil {
			return Result{}, err
		}
		if l.Limits.Size > 0 {
			l.Limits.Size += SecretsRoom
		}
	}
	end, failed := l.run()
	r := Result{End: end, Began: l.began, Took: time.Since(l.began), Interfaces: l.known, Stats: o.Source.Stats()}
	if l.first != 0 || l.last != 0 {
		r.First, r.Last = time.Unix(0, l.first), time.Unix(0, l.last)
	}
	for _, e := range events() {
		if e.Kind == capture.Back {
			r.Gaps = append(r.Gaps, e)
		}
	}
	l.tell(time.Now())
	var sealed error
	r.Result, sealed = w.End(trailer(r)).Wait()
	if sealed == nil && keys != nil {
		if text := o.Secrets(); len(text) > 0 {
			sealed = keys.fill(text)
		}
	}
	if err := errors.Join(failed, sealed); err != nil {
		r.End = Failed
		return r, err
	}
	return r, nil
}

// trailer is what a pcapng file says of the capture.
func trailer(r Result) pcapfile.Trailer {
	t := pcapfile.Trailer{Start: r.Began, End: r.Began.Add(r.Took)}
	for i, s := range r.Stats[:min(len(r.Stats), len(r.Interfaces))] {
		t.Stats = append(t.Stats, pcapfile.Stats{Stats: s, Comment: gaps(r.Interfaces[i].Name, r.Gaps)})
	}
	return t
}

func gaps(name string, events []capture.Event) string {
	var b strings.Builder
	for _, e := range events {
		if e.Interface == name {
			fmt.Fprintf(&b, "nothing could be captured for %s until %s\n", e.Gap.Round(time.Millisecond), e.Time.UTC().Format(time.RFC3339Nano))
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// loop is one capture on its way.
type loop struct {
	Options
	w           *pcapfile.Writer
	known       []packet.Interface
	began, told time.Time
	first, last int64
	quiet       time.Time // since when no packet came; zero: one just did
}

func (l *loop) run() (End, error) {
	batch := make([]packet.Packet, batchSize)
	for {
		n, err := l.Source.Read(batch)
		if n > 0 {
			end, err := l.write(batch[:n])
			if err != nil || end != "" {
				return end, err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return Stopped, nil
		case err != nil:
			return Failed, err
		case n == 0: // on a quiet line what came is in the file soon, too
			if err := errors.Join(l.pulse(), l.w.Flush()); err != nil {
				return Failed, err
			}
		default:
			l.quiet = time.Time{}
		}
		if now := time.Now(); now.Sub(l.told) >= time.Second/4 {
			l.tell(now)
		}
	}
}

// pulse tells those who follow the file that it lives.
func (l *loop) pulse() error {
	now := time.Now()
	if l.quiet.IsZero() {
		l.quiet = now
	}
	if l.Pulse == 0 || now.Sub(l.quiet) < l.Pulse {
		return nil
	}
	l.quiet = now
	t := pcapfile.Trailer{Start: l.began, End: now}
	for _, s := range l.Source.Stats() {
		t.Stats = append(t.Stats, pcapfile.Stats{Stats: s})
	}
	return l.w.Pulse(t)
}

// write writes batch, or as much of it as the limits let in; the end is "" as
// long as they don't.
func (l *loop) write(batch []packet.Packet) (End, error) {
	end := End("")
	if left := l.Limits.Packets - l.w.Packets(); l.Limits.Packets > 0 && uint64(len(batch)) >= left {
		batch, end = batch[:left], AtPackets
	}
	bytes := 0
	for i := range batch {
		p := &batch[i]
		bytes += len(p.Data) + overhead
		if int(p.Interface) >= len(l.known) {
			if err := l.learn(); err != nil {
				return Failed, err
			}
		}
		if l.first == 0 && l.last == 0 {
			l.first, l.last = p.Time, p.Time
		}
		l.first, l.last = min(l.first, p.Time), max(l.last, p.Time)
	}
	if l.Limits.Size > 0 && l.w.Size()+int64(bytes) >= l.Limits.Size {
		for i := range batch {
			if err := l.w.Write(batch[i : i+1]); err != nil {
				return Failed, err
			}
			if l.w.Size() >= l.Limits.Size {
				return AtSize, nil
			}
		}
		return end, nil
	}
	if err := l.w.Write(batch); err != nil {
		return Failed, err
	}
	return end, nil
}

// overhead is what a file needs for a packet at most, besides its bytes.
const overhead = 64

// learn takes up interfaces that have appeared.
func (l *loop) learn() error {
	all := l.Source.Interfaces()
	for _, i := range all[min(len(l.known), len(all)):] {
		if err := l.w.AddInterface(i); err != nil {
			return err
		}
	}
	l.known = all
	return nil
}

func (l *loop) tell(now time.Time) {
	l.told = now
	if l.Tell == nil {
		return
	}
	p := Progress{Elapsed: now.Sub(l.began), Packets: l.w.Packets(), Size: l.w.Size()}
	for _, s := range l.Source.Stats() {
		p.Received += s.Received
		p.Dropped += s.Dropped
	}
	l.Tell(p)
}

//go:build linux

package faulttest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Dropped is a capture that was put into a watched folder.
type Dropped struct {
	Path    string // the last one it had in there
	How     string
	File    string // SHA-256 of the file
	Payload string // SHA-256 of what its session must hold
	Seed    uint64
	Size    int  // as Capture was asked for
	Unsure  bool // it may have got in or not: one session at most

	sync bool
}

// Feeder drops captures the ways that capture tools do. All methods may be
// called from several goroutines.
type Feeder struct {
	Sync bool // writers fsync what they write, and its folder

	watch   Watch
	outside string // on the same file system, not watched

	mu      sync.Mutex
	random  *rand.Rand
	seed    uint64
	n       int
	dropped []*Dropped
	err     error
	writing sync.WaitGroup
}

// The ways to drop a capture.
const (
	Closed  = "closed"  // made under its name and closed at once
	Renamed = "renamed" // written as a hidden file beside it and renamed
	MovedIn = "moved"   // renamed from another folder
	Slow    = "slow"    // written in pieces over a while
	Nested  = "nested"  // closed, in a new subfolder
	Zipped  = "gzip"    // closed, compressed
	Big     = "big"     // some MB, written in pieces without pause
	Twin    = "twin"    // the content of an earlier one
	Again   = "again"   // the name of an earlier one that is gone
	Handed  = "handed"  // not dropped, but given to a command
)

// Ways are all of them, the plain ones more often.
var Ways = []string{Closed, Closed, Closed, Renamed, Renamed, MovedIn, MovedIn, Slow, Slow, Nested, Zipped, Big, Twin, Again}

// NewFeeder returns a Feeder for a folder. Captures of different seeds differ.
func NewFeeder(w Watch, outside string, seed uint64) *Feeder {
	return &Feeder{watch: w, outside: outside, seed: seed, random: rand.New(rand.NewPCG(seed, 1))}
}

// Any drops a capture some way.
func (f *Feeder) Any() { f.Drop(Ways[f.intN(len(Ways))]) }

// Drop drops one capture. A slow one goes on being written behind it.
func (f *Feeder) Drop(how string) { f.drop(how, f.Sync) }

// DropLoose drops a capture as most writers do: not synced. A power cut may take
// it away, or a part of it.
func (f *Feeder) DropLoose(how string) { f.drop(how, false).Unsure = true }

func (f *Feeder) drop(how string, sync bool) *Dropped {
	d := f.plan(how)
	d.sync = sync
	data := Capture(d.Seed, d.Size)
	d.Payload = Sum(data)
	if how == Zipped {
		data = Gzip(data)
	}
	d.File = Sum(data)
	f.mu.Lock()
	f.dropped = append(f.dropped, d)
	f.mu.Unlock()
	if how == Slow {
		f.writing.Go(func() { f.note(f.writeSlowly(d, data)) })
		return d
	}
	f.note(f.write(d, data))
	return d
}

// plan chooses name and content.
func (f *Feeder) plan(how string) *Dropped {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n++
	d := &Dropped{How: how, Seed: f.seed<<20 + uint64(f.n), Size: 100 + f.random.IntN(4000)}
	name := fmt.Sprintf("%06d.pcap", f.n)
	dir := f.watch.Path
	switch how {
	case Nested:
		dir = filepath.Join(dir, fmt.Sprintf("sub%d", f.random.IntN(1000)))
		if f.random.IntN(2) == 0 {
			dir = filepath.Join(dir, "deeper")
		}
	case Zipped:
		name += ".gz"
	case Big:
		d.Size = 1<<20 + f.random.IntN(3<<20)
	case Slow:
		d.Size = 2000 + f.random.IntN(20000)
	case Twin:
		if n := len(f.dropped); n > 0 {
			if other := f.dropped[f.random.IntN(n)]; other.How != Zipped { // wrapped, it is another file
				d.Seed, d.Size = other.Seed, other.Size
			}
		}
	}
	d.Path = filepath.Join(dir, name)
	if how == Again {
		for range 20 {
			if len(f.dropped) == 0 {
				break
			}
			other := f.dropped[f.random.IntN(len(f.dropped))]
			if _, err := os.Lstat(other.Path); os.IsNotExist(err) && other.How == Closed {
				d.Path = other.Path
				break
			}
		}
	}
	return d
}

// Plan returns a capture that somebody else hands over, not through the folder.
func (f *Feeder) Plan() *Dropped {
	d := f.plan(Handed)
	d.Path = ""
	d.File = Sum(Capture(d.Seed, d.Size))
	d.Payload = d.File
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dropped = append(f.dropped, d)
	return d
}

// Unsure notes that d may never have got in.
func (f *Feeder) Unsure(d *Dropped) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d.Unsure = true
}

func (f *Feeder) write(d *Dropped, data []byte) error {
	dir, base := filepath.Split(d.Path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	at := d.Path
	switch d.How {
	case Renamed:
		at = filepath.Join(dir, "."+base+".tmp")
	case MovedIn:
		at = filepath.Join(f.outside, base)
	}
	if err := writeFile(at, data, d.sync); err != nil {
		return err
	}
	if at != d.Path {
		if err := os.Rename(at, d.Path); err != nil {
			return err
		}
	}
	if d.sync {
		return SyncDir(dir)
	}
	return nil
}

func writeFile(path string, data []byte, sync bool) error {
	w, err := os.Create(path)
	if err != nil {
		return err
	}
	for len(data) > 0 && err == nil {
		n := min(len(data), 256<<10)
		_, err = w.Write(data[:n])
		data = data[n:]
	}
	if err == nil && sync {
		err = w.Sync()
	}
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	return err
}

func (f *Feeder) writeSlowly(d *Dropped, data []byte) error {
	w, err := os.Create(d.Path)
	if err != nil {
		return err
	}
	pieces := 3 + f.intN(4)
	for i := range pieces {
		from, to := len(data)*i/pieces, len(data)*(i+1)/pieces
		if _, err := w.Write(data[from:to]); err != nil {
			_ = w.Close()
			return err
		}
		pause := 5 + f.intN(40)
		if f.intN(10) == 0 {
			pause = 300 // longer than any settle time here
		}
		time.Sleep(time.Duration(pause) * time.Millisecond)
	}
	if d.sync {
		if err := w.Sync(); err != nil {
			return err
		}
	}
	return w.Close()
}

// SyncDir makes the names in a folder durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func (f *Feeder) intN(n int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.random.IntN(n)
}

func (f *Feeder) note(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
}

// Wait waits for the slow ones and returns the first error of a writer.
func (f *Feeder) Wait() error {
	f.writing.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// Dropped returns all that was dropped.
func (f *Feeder) Dropped() []*Dropped {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*Dropped(nil), f.dropped...)
}

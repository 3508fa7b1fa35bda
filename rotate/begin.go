package rotate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"capagent/internal/packet"
	"capagent/internal/pcapio"
	"capagent/internal/quote"
	"capagent/internal/safefile"
	"capagent/rotate/pcapfile"
)

// errHeld says that a file is somebody else's now.
var errHeld = errors.New("another process has it")

// begin begins a file for a packet of time t and those that follow.
func (r *Rotator) begin(t int64) error {
	wall, since := r.clock()
	r.known = r.opts.Source.Interfaces()
	next := file{format: pcapio.Format(r.opts.Config.Format), first: t, last: t, began: wall.Round(0).UTC(), interfaces: slices.Clone(r.known)}
	if next.format == pcapio.Pcap && mixed(r.known) {
		next.format = pcapio.Pcapng // the other can't hold them
	}
	next.until, next.over = r.interval(t, since)
	f, err := r.create(&next)
	if err != nil {
		return err
	}
	err = r.w.Begin(f, pcapfile.Header{Format: next.format, Interfaces: r.known, Section: r.opts.Section, Expect: r.expect})
	if err != nil {
		_ = f.Close()
		_ = os.Remove(next.part)
		next.unlock()
		return err
	}
	next.wrote = since
	r.file = next
	r.totals.Files++
	if r.opts.Begun != nil {
		r.opts.Begun(next.part, next.path, at(t))
	}
	return nil
}

// create makes the file, under a name that nothing has.
func (r *Rotator) create(next *file) (*os.File, error) {
	const tries = 1000
	for range tries {
		next.path = filepath.Join(r.opts.Dir, fileName(r.opts.Name, at(next.first), r.number, next.format))
		next.part = next.path + Part
		r.number++
		if _, err := os.Lstat(next.path); err == nil {
			continue
		}
		f, err := pcapfile.Create(next.part, false)
		if errors.Is(err, fs.ErrNotExist) {
			if err = os.MkdirAll(r.opts.Dir, 0o700); err == nil {
				f, err = pcapfile.Create(next.part, false)
			}
		}
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if next.lock, err = holdNew(next.part); err == nil {
			return f, nil
		}
		_ = f.Close()
		if !errors.Is(err, errHeld) { // by a Salvage that came in between: it removes the empty file
			_ = os.Remove(next.part)
			return nil, fmt.Errorf("lock %s: %w", quote.Path(next.part), safefile.Cause(err))
		}
	}
	return nil, fmt.Errorf("create %s: the names are taken", quote.Path(next.part))
}

func (f *file) unlock() {
	if f.lock != nil {
		_ = f.lock.Close()
	}
}

func mixed(interfaces []packet.Interface) bool {
	return slices.ContainsFunc(interfaces, func(i packet.Interface) bool { return i.LinkType != interfaces[0].LinkType })
}

// since is what the counts have grown by since the last call.
func (r *Rotator) since() []packet.Stats {
	now := r.opts.Source.Stats()
	grown := r.grown(now)
	r.stats = slices.Clone(now)
	return grown
}

// grown is by what the counts now exceed those of the last file's end.
func (r *Rotator) grown(now []packet.Stats) []packet.Stats {
	grown := slices.Clone(now)
	for i := range grown[:min(len(grown), len(r.stats))] {
		grown[i].Received -= min(grown[i].Received, r.stats[i].Received)
		grown[i].Dropped -= min(grown[i].Dropped, r.stats[i].Dropped)
	}
	return grown
}

// end ends the file, to be sealed while the next one is written.
func (r *Rotator) end(why Reason) {
	wall, _ := r.clock()
	f := r.file
	r.file = file{}
	s := Sealed{
		Path: f.path, Format: f.format, Packets: f.packets, First: at(f.first), Last: at(f.last), Began: f.began,
		Ended: wall.Round(0).UTC(), Reason: why, Stats: r.since(), Interfaces: slices.Clone(r.opts.Source.Interfaces()),
	}
	r.mu.Lock()
	s.take(&r.carried)
	r.mu.Unlock()
	r.expect = 0
	if size := r.opts.Config.Size.Bytes(); size > 0 {
		r.expect = min(size, mostExpected)
	} else if why == Packets {
		r.expect = min(r.w.Size(), mostExpected)
	}
	r.totals.Size += r.w.Size()
	r.ends <- ending{sealed: s, file: f, ending: r.w.End(s.trailer())}
}

package rotate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"capagent/internal/disk"
	"capagent/internal/packet"
	"capagent/internal/quote"
	"capagent/internal/safefile"
	"capagent/rotate/pcapfile"
)

const (
	// statsBytes is what an interface's counts need at the end of a file.
	statsBytes = 128
	// commentBytes bounds what the end of a file says of gaps and jumps.
	commentBytes = 4096
)

// ending is a file that has ended, or a request to tell when all before it are
// sealed.
type ending struct {
	sealed Sealed
	file   file
	ending *pcapfile.Ending // nil: no file
	tell   []chan struct{}
	last   bool           // no file follows
	stats  []packet.Stats // since the last file
}

// seal seals files one after the other, so that they are told in order.
func (r *Rotator) seal() {
	defer close(r.done)
	for e := range r.ends {
		if e.ending != nil {
			r.tell(r.sealOne(e))
		}
		if e.last {
			r.sealRest(e)
		}
		for _, c := range e.tell {
			close(c)
		}
	}
}

func (r *Rotator) tell(s Sealed) {
	if r.opts.Sealed != nil {
		r.opts.Sealed(s)
	}
}

// sealRest tells what no file could.
func (r *Rotator) sealRest(e ending) {
	s := Sealed{Reason: Ended, Stats: e.stats, Interfaces: r.known}
	r.mu.Lock()
	s.take(&r.carried)
	r.mu.Unlock()
	dropped := uint64(0)
	for _, i := range s.Stats {
		dropped += i.Dropped
	}
	if dropped > 0 || len(s.Gaps) > 0 || len(s.Jumps) > 0 {
		r.tell(s)
	}
}

func (r *Rotator) sealOne(e ending) Sealed {
	s, f := e.sealed, e.file
	defer f.unlock()
	result, err := e.ending.Wait()
	s.Size, s.Packets, s.Err = result.Size, result.Packets, err
	if err != nil {
		r.cut(&s, f)
	}
	if s.Packets == 0 { // nothing of it reached the disk
		s.Path = ""
		if err := os.Remove(f.part); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.Err = errors.Join(s.Err, fmt.Errorf("remove %s: %w", quote.Path(f.part), safefile.Cause(err)))
		}
		r.mu.Lock()
		r.carried.give(&s)
		r.mu.Unlock()
		return s
	}
	if err := publish(f.part, f.path, !r.opts.Writer.NoSync); err != nil {
		s.Err = errors.Join(s.Err, err)
		if _, err := os.Lstat(f.path); err != nil {
			s.Path = f.part
		}
	}
	return s
}

// cut sets what is known of a file that failed to what it holds.
func (r *Rotator) cut(s *Sealed, f file) {
	lost := f.packets - min(s.Packets, f.packets)
	r.lost.Add(lost)
	from := s.First
	if s.Packets > 0 {
		if c, err := look(f.part); err == nil && c.packets > 0 {
			s.First, s.Last, from = at(c.first), at(c.last), at(c.last)
		}
	}
	if lost > 0 {
		s.miss(Gap{From: from, To: at(f.last), Packets: lost, Cause: cause(s.Err)})
	}
}

// publish gives a complete file its last name, with sync durably.
func publish(part, path string, sync bool) error {
	err := renameNew(part, path)
	if err == nil && sync {
		err = disk.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("seal %s: %w", quote.Path(path), rootCause(err))
	}
	return nil
}

// renameFree renames a file after a look whether the name is taken.
func renameFree(from, to string) error {
	if _, err := os.Lstat(to); err == nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: fs.ErrExist}
	}
	return os.Rename(from, to)
}

func (s *Sealed) miss(g Gap) {
	if len(s.Gaps) < remembered {
		s.Gaps = append(s.Gaps, g)
		return
	}
	last := &s.Gaps[len(s.Gaps)-1] // the rest becomes one
	if g.From.Before(last.From) {
		last.From = g.From
	}
	if g.To.After(last.To) {
		last.To = g.To
	}
	last.Packets += g.Packets
	if last.Interface != g.Interface {
		last.Interface = ""
	}
	if last.Cause != g.Cause {
		last.Cause = "several causes"
	}
}

func (s *Sealed) jumped(j Jump) {
	if len(s.Jumps) == remembered {
		s.Jumps = append(s.Jumps[:0], s.Jumps[1:]...)
	}
	s.Jumps = append(s.Jumps, j)
}

// take moves what was carried to s.
func (s *Sealed) take(carried *Sealed) {
	s.Gaps, s.Jumps = carried.Gaps, carried.Jumps
	for i, c := range carried.Stats {
		if i == len(s.Stats) {
			s.Stats = append(s.Stats, packet.Stats{})
		}
		s.Stats[i].Received += c.Received
		s.Stats[i].Dropped += c.Dropped
	}
	*carried = Sealed{}
}

// give has the next file tell what s, of which nothing is left, would have told.
func (s *Sealed) give(lost *Sealed) {
	for _, g := range lost.Gaps {
		s.miss(g)
	}
	for _, j := range lost.Jumps {
		s.jumped(j)
	}
	stats := Sealed{Stats: lost.Stats}
	stats.take(&Sealed{Stats: s.Stats})
	s.Stats = stats.Stats
	lost.Gaps, lost.Jumps, lost.Stats = nil, nil, nil
}

// trailer is what the file itself says in the end.
func (s *Sealed) trailer() pcapfile.Trailer {
	t := pcapfile.Trailer{Start: s.Began, End: s.Ended}
	left := commentBytes
	for i, stats := range s.Stats[:min(len(s.Stats), len(s.Interfaces))] {
		comment := s.comment(i)
		if len(comment) > left {
			comment = strings.ToValidUTF8(comment[:left], "")
		}
		left -= len(comment)
		t.Stats = append(t.Stats, pcapfile.Stats{Stats: stats, Comment: comment})
	}
	return t
}

// comment is what is said at interface i: what concerns all is said at the first.
func (s *Sealed) comment(i int) string {
	var b strings.Builder
	for _, g := range s.Gaps {
		if g.Interface == s.Interfaces[i].Name || i == 0 && g.Interface == "" {
			b.WriteString(g.String() + "\n")
		}
	}
	if i == 0 {
		for _, j := range s.Jumps {
			b.WriteString(j.String() + "\n")
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// String is the gap in words.
func (g Gap) String() string {
	what := "packets are missing"
	switch {
	case g.Packets == 1:
		what = "1 packet is missing"
	case g.Packets > 0:
		what = fmt.Sprintf("%d packets are missing", g.Packets)
	}
	if g.Interface != "" {
		what += " of " + quote.Text(g.Interface)
	}
	what += " from " + g.From.UTC().Format(time.RFC3339Nano) + " to " + g.To.UTC().Format(time.RFC3339Nano)
	if g.Cause != "" {
		what += ": " + quote.Text(g.Cause)
	}
	return what
}

// String is the jump in words.
func (j Jump) String() string {
	way, by := "forward", j.By
	if by < 0 {
		way, by = "back", -by
	}
	return fmt.Sprintf("the clock went %s by %s at %s", way, by.Round(time.Millisecond), j.At.UTC().Format(time.RFC3339Nano))
}

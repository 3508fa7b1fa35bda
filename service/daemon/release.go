package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"capagent/internal/disk"
	"capagent/internal/ledger"
	"capagent/internal/pcapio"
	"capagent/internal/quote"
	"capagent/rotate"
	"capagent/service"
)

const (
	// onItsWay is how long a packet may take from the wire to who captures: twice
	// what the kernel keeps one.
	onItsWay = 300 * time.Millisecond
	// behind is how long a capture that does not keep up is waited for.
	behind = 10 * time.Second
	// mostSegments bounds what one window is made of.
	mostSegments = 20_000
	// spare is what a window must leave of the disk, besides its own size.
	spare = 64 << 20
)

// errNoPackets is what a trigger ends with when its time is empty.
var errNoPackets = errors.New("no packet of this time is there")

// segment is a file that a window may be cut from.
type segment struct {
	id    int64 // 0: not recorded yet
	path  string
	size  int64
	first time.Time
	last  time.Time
	live  *ledger.Live
}

// release makes a capture of a window, and queues it. The error is one that may
// pass; that there is nothing is in the result.
func (t *triggers) release(ctx context.Context, one ledger.Trigger) (ledger.TriggerResult, error) {
	var out ledger.TriggerResult
	var notes []string
	if made, err := t.made(ctx, one); err != nil {
		return out, err
	} else if made != 0 { // it was carried out, and the process ended before that was recorded
		out.Captures = append(out.Captures, made)
		return out, nil
	}
	if late := t.seal(ctx, one); late != "" {
		notes = append(notes, late)
	}
	segments, foreign, err := t.segments(ctx, one)
	if err != nil || ctx.Err() != nil {
		return out, errors.Join(err, ctx.Err())
	}
	for _, s := range segments {
		if s.id != 0 {
			out.Segments = append(out.Segments, s.id)
		}
	}
	made, note, err := t.cut(ctx, one, segments)
	if err != nil && !errors.Is(err, errNoPackets) {
		return out, err
	}
	if made != 0 {
		out.Captures = append(out.Captures, made)
	}
	for _, c := range foreign { // files of others go as they are
		err := t.d.ledger.SetState(ctx, c.ID, ledger.Queued, "")
		var moved *ledger.TransitionError
		if err != nil && !errors.As(err, &moved) {
			return out, err
		}
		out.Captures = append(out.Captures, c.ID)
	}
	if len(out.Captures) == 0 {
		out.Error = errNoPackets.Error()
	}
	if note != "" {
		notes = append(notes, note)
	}
	out.Note = strings.Join(notes, "; ")
	return out, nil
}

// made finds the capture of a trigger that is recorded already, 0 when none is.
func (t *triggers) made(ctx context.Context, one ledger.Trigger) (int64, error) {
	for c, err := range t.d.ledger.List(ctx, ledger.Filter{Source: service.SourceTrigger, Newest: true, Limit: 500}) {
		if err != nil {
			return 0, err
		}
		if c.Name == nameOf(one) {
			return c.ID, nil
		}
	}
	return 0, nil
}

// seal has all that came until the window's end be in sealed files, and says what
// may be missing.
func (t *triggers) seal(ctx context.Context, one ledger.Trigger) (late string) {
	var sealing sync.WaitGroup
	var mu sync.Mutex
	ctx, stop := context.WithTimeout(ctx, behind)
	defer stop()
	for _, l := range t.d.captures.list() {
		if one.Source != "" && l.config.Source() != one.Source {
			continue
		}
		sealing.Go(func() {
			if l.sealUntil(ctx, one.To) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			late = fmt.Sprintf("capture %s did not keep up: the window's last packets may be missing", l.name)
		})
	}
	sealing.Wait()
	return late
}

// sealUntil waits until a capture has taken all packets up to a time, and ends its
// file. It is false when that does not come about while ctx lasts.
func (l *live) sealUntil(ctx context.Context, to time.Time) bool {
	enough := to.Add(onItsWay)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	l.mu.Lock()
	r := l.rotator
	l.mu.Unlock()
	if r == nil {
		return true // nothing is open
	}
	for since := enough.UnixNano(); l.seen.Load() < since && l.quiet.Load() < since; {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	select {
	case <-r.Rotate():
		return true
	case <-ctx.Done():
		return false
	}
}

// segments returns the files of live captures that overlap a window, and held
// captures from elsewhere.
func (t *triggers) segments(ctx context.Context, one ledger.Trigger) (segments []segment, foreign []ledger.Capture, err error) {
	known := map[string]bool{} // by base name: all are in the spool
	// What is not recorded yet first: it may be meanwhile, but not the other way round.
	for _, s := range t.d.recorder.waiting() {
		about := s.sealed
		if one.Source != "" && s.source != one.Source || about.Last.Before(one.From) && !about.Last.IsZero() || about.First.After(one.To) {
			continue
		}
		known[filepath.Base(about.Path)] = true
		segments = append(segments, segment{path: about.Path, size: about.Size, first: about.First, last: about.Last, live: liveOf(about)})
	}
	captures, err := t.d.ledger.Overlapping(ctx, one.From, one.To, mostSegments)
	if err != nil {
		return nil, nil, err
	}
	for _, c := range captures {
		switch live := strings.HasPrefix(c.Source, service.CapturePrefix); {
		case !live && one.Source == "" && c.State == ledger.Held:
			foreign = append(foreign, c)
		case live && !known[filepath.Base(c.Path)] && (one.Source == "" || c.Source == one.Source):
			segments = append(segments, segment{id: c.ID, path: c.Path, size: c.Size, first: c.First, last: c.Last, live: c.Live})
		}
	}
	return segments, foreign, nil
}

// waiting are the files that are not in the ledger yet.
func (r *recorder) waiting() []spooled {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]spooled, 0, len(r.items))
	for _, s := range r.items {
		out = append(out, *s)
	}
	return out
}

// cut merges segments into a capture of the window and records it.
func (t *triggers) cut(ctx context.Context, one ledger.Trigger, segments []segment) (id int64, note string, err error) {
	if len(segments) == 0 {
		return 0, "", errNoPackets
	}
	dir := t.d.opts.Config.SpoolDir()
	if err := room(dir, one, segments); err != nil {
		return 0, "", err
	}
	path := filepath.Join(dir, nameOf(one))
	part := path + rotate.Part
	f, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, "", err
	}
	sealed := false
	defer func() {
		if !sealed {
			_ = os.Remove(part) // what stays is made anew
		}
	}()
	o := rotate.WindowOptions{From: one.From, To: one.To, Section: pcapio.Section{
		Application: "capagent " + t.d.opts.Version, OS: t.d.opts.System, Comment: fmt.Sprintf("trigger %d: %s", one.ID, commentOf(one)),
	}}
	for _, s := range segments {
		o.Segments = append(o.Segments, rotate.Segment{Path: s.path, First: s.first, Name: s.name()})
	}
	w, err := rotate.Window(ctx, f, o)
	if err == nil && w.Packets > 0 {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, "", err
	}
	if note = noteOf(one, w); w.Packets == 0 {
		return 0, note, errNoPackets
	}
	if err := os.Rename(part, path); err != nil {
		return 0, "", err
	}
	sealed = true
	if err := disk.SyncDir(dir); err != nil {
		return 0, "", err
	}
	id, err = t.add(ctx, one, path, note, w, segments)
	return id, note, err
}

// add records the capture of a window, and so queues it.
func (t *triggers) add(ctx context.Context, one ledger.Trigger, path, note string, w rotate.Windowed, segments []segment) (int64, error) {
	comment := commentOf(one)
	if note != "" {
		comment += "; " + note
	}
	g := t.d.current()
	c, err := g.agent.Add(ctx, path, service.AddOptions{
		Source: service.SourceTrigger, Owned: true, Tags: []string{service.SourceTrigger}, Comment: comment, Live: windowed(one, w, segments),
	})
	if c.ID == 0 {
		return 0, err
	}
	t.d.recorded(ctx, g, nil, ledger.Registered{Capture: c, New: true})
	return c.ID, nil
}

// name is what an interface that has none is called.
func (s segment) name() string {
	if s.live != nil && len(s.live.Interfaces) == 1 {
		return s.live.Interfaces[0].Name
	}
	return ""
}

// room says whether the disk has room for a window, so that those who capture
// don't meet its end.
func room(dir string, one ledger.Trigger, segments []segment) error {
	var need int64
	for _, s := range segments {
		from, to := one.From, one.To
		if s.first.After(from) {
			from = s.first
		}
		if s.last.Before(to) {
			to = s.last
		}
		part := 1.0
		if whole := s.last.Sub(s.first); whole > 0 {
			part = min(1, max(0, float64(to.Sub(from))/float64(whole)))
		}
		need += int64(float64(s.size) * part)
	}
	free, _, _, err := disk.Free(dir)
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if free < uint64(need)+spare {
		return fmt.Errorf("no room in the spool for about %d MB", need>>20)
	}
	return nil
}

// commentOf says what a capture is, in its session.
func commentOf(one ledger.Trigger) string {
	reason := one.Reason
	if reason == "" {
		reason = "No reason given"
	}
	const layout = "2006-01-02 15:04:05.000"
	return fmt.Sprintf("%s (%s to %s UTC, asked for by %s)", quote.Text(reason), one.From.UTC().Format(layout), one.To.UTC().Format(layout), quote.Text(one.By))
}

// noteOf says what is missing.
func noteOf(one ledger.Trigger, w rotate.Windowed) string {
	var notes []string
	if w.Packets > 0 && w.First.Sub(one.From) > time.Second {
		notes = append(notes, fmt.Sprintf("the first packet that is there of the window is of %s UTC", w.First.Format("2006-01-02 15:04:05.000")))
	}
	broken, first := 0, error(nil)
	for _, in := range w.Inputs {
		if in.Err != nil {
			if broken++; first == nil {
				first = in.Err
			}
		}
	}
	if broken > 0 {
		notes = append(notes, fmt.Sprintf("%d of %d segments could not be read in full: %v", broken, len(w.Inputs), first))
	}
	return strings.Join(notes, "; ")
}

// windowed is what is known of a window, for the ledger.
func windowed(one ledger.Trigger, w rotate.Windowed, segments []segment) *ledger.Live {
	l := &ledger.Live{Began: one.From, Ended: one.To, Reason: service.SourceTrigger}
	for i, known := range w.Interfaces[:min(len(w.Interfaces), ledger.MaxLive)] {
		is := ledger.LiveInterface{Name: known.Name, LinkType: pcapio.LinkTypeName(known.LinkType), Filter: known.Filter, SnapLen: known.SnapLen}
		is.Received, is.Dropped = uint64(max(0, w.Stats[i].Received)), uint64(max(0, w.Stats[i].Dropped))
		l.Interfaces = append(l.Interfaces, is)
		l.Received, l.Dropped = l.Received+is.Received, l.Dropped+is.Dropped
	}
	for _, s := range segments {
		if s.live == nil {
			continue
		}
		l.Recovered = l.Recovered || s.live.Recovered
		for _, g := range s.live.Gaps {
			if !g.To.Before(one.From) && !g.From.After(one.To) {
				l.Gaps = missing(l.Gaps, g)
			}
		}
		for _, j := range s.live.Jumps {
			if len(l.Jumps) < ledger.MaxLive && !j.At.Before(one.From) && !j.At.After(one.To) {
				l.Jumps = append(l.Jumps, j)
			}
		}
	}
	return l
}

package imports

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"capagent/enrich/device"
	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/internal/safefile"
	"capagent/service"
)

// States of files that never become captures in the ledger.
const (
	Skipped    ledger.State = "skipped" // not a capture by content nor by name, or not a regular file
	New        ledger.State = "new"     // dry run: would be uploaded
	Unreadable              = service.Unreadable
)

// Entry accounts for one file. Failure says why it has no session, where it
// should have one.
type Entry struct {
	ledger.Capture
	Parts   []ledger.Part // of a capture that was split, else nil
	Failure *failure.Error
	Known   []service.FindingView // findings, the worst first

	staged place
}

// Options of an import. The callbacks may be nil; they are never called by two
// goroutines at once.
type Options struct {
	Roots       []string
	Case        string
	Tags        func(ledger.Capture) []string
	Comment     string
	Destination string
	Inspect     service.InspectConfig
	StateDir    string // for what memory may not hold
	// Explain looks a capture up that is recorded now, and queues it; nil where nobody
	// is asked. Machines is what it tells of them, where Names wants that.
	Explain     func(ctx context.Context, c ledger.Capture, list []ledger.Sighting, machines *device.Capture) (ledger.Capture, error)
	Names       bool
	Deliver     func(ledger.State) []string                 // where a capture is brought besides; may be nil
	Sent        func(ctx context.Context, c ledger.Capture) // told of each that has its session now; may be nil
	Log         zerolog.Logger
	DryRun      bool
	Concurrency int

	OnFound   func(size int64)             // a file will be read
	OnRead    func(n int64)                // so many bytes were read
	OnPlanned func(files int, bytes int64) // reading is over; so much is to be uploaded
	OnEnd     func(e Entry)                // the last word about a file
}

// Run imports everything below opts.Roots and returns an entry for every file,
// in the order of first packet times; files without packets come last. The
// error is what ended the import as a whole: a root that can't be read, the
// ledger, a cancelled ctx. Entries are returned only when all files were read: an
// account with gaps would be none.
func Run(ctx context.Context, l *ledger.Ledger, p *service.Pipeline, opts Options) ([]Entry, error) {
	im := &run{ledger: l, pipeline: p, opts: opts}
	if !opts.DryRun && opts.Inspect.Indicators {
		stage, err := newStage(opts.StateDir)
		if err != nil {
			return nil, err
		}
		im.stage = stage
		defer func() { _ = stage.close() }() // it is of no use any more
	}
	if err := im.read(ctx); err != nil {
		return nil, err
	}
	slices.SortStableFunc(im.entries, byFirstPacket)
	if opts.DryRun {
		return im.entries, im.compare(ctx)
	}
	if err := im.register(ctx); err != nil {
		return im.entries, err
	}
	return im.entries, im.send(ctx)
}

type run struct {
	ledger   *ledger.Ledger
	pipeline *service.Pipeline
	opts     Options
	stage    *stage // nil: sightings are not wanted

	mu      sync.Mutex // guards entries while they are collected, and the callbacks
	entries []Entry
}

// read walks the trees and inspects every file that may be a capture.
func (im *run) read(ctx context.Context) error {
	files := make(chan found, 256)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(files)
		return walk(ctx, im.opts.Roots, func(f found) {
			if im.opts.OnFound != nil && f.refused == "" {
				im.locked(func() { im.opts.OnFound(f.size) })
			}
			select {
			case files <- f:
			case <-ctx.Done():
			}
		})
	})
	for range max(1, runtime.GOMAXPROCS(0)) {
		group.Go(func() error {
			for f := range files {
				entry, err := im.look(ctx, f)
				if err != nil {
					return err
				}
				im.locked(func() {
					im.entries = append(im.entries, entry)
				})
			}
			return nil
		})
	}
	return group.Wait()
}

// look finds out what one file is. Only a cancelled ctx is an error.
func (im *run) look(ctx context.Context, f found) (Entry, error) {
	e := Entry{Capture: ledger.Capture{
		Source: "import", Path: f.path, Name: f.name, Case: im.opts.Case, Destination: im.opts.Destination,
		Comment: im.opts.Comment, Inspection: ledger.Inspection{Size: f.size},
	}}
	e.Tags = im.opts.Tags(e.Capture)
	switch {
	case f.err != nil:
		return e.failed(Unreadable, "unreadable", f.err), nil
	case f.refused != "":
		e.State, e.Reason = Skipped, f.refused+": not followed, not opened"
		return e, nil
	}
	file, _, err := safefile.Open(f.path)
	if err != nil {
		return e.failed(Unreadable, "unreadable", safefile.Cause(err)), nil
	}
	defer func() { _ = file.Close() }()
	if !service.LooksLikeCapture(f.name) && !service.IsCapture(file) {
		e.State, e.Reason = Skipped, "not a capture file"
		return e, nil
	}
	looked, err := im.opts.Inspect.Look(ctx, file, func(n int64) {
		if im.opts.OnRead != nil {
			im.locked(func() { im.opts.OnRead(n) })
		}
	})
	e.Inspection = looked.Inspection
	switch {
	case ctx.Err() != nil:
		return e, ctx.Err()
	case err != nil && service.Unfit(err):
		return e.failed(ledger.Quarantined, "not_capture", err), nil
	case err != nil:
		return e.failed(Unreadable, "unreadable", safefile.Cause(err)), nil
	default:
		e.State, e.Reason = service.Sort(e.Inspection)
		if e.State == ledger.Queued && im.opts.Explain != nil && !im.opts.DryRun {
			e.State, e.Reason = ledger.Sealed, service.SealedReason
		}
	}
	if im.stage != nil {
		one := staged{Sightings: looked.Sightings()}
		if im.opts.Names {
			one.Machines = looked.Machines()
		}
		if e.staged, err = im.stage.put(one); err != nil {
			return e, fmt.Errorf("keep sightings: %w", err)
		}
	}
	return e, nil
}

func (e Entry) failed(state ledger.State, class string, err error) Entry {
	e.State, e.Reason = state, err.Error()
	e.Failure = &failure.Error{Kind: failure.Permanent, Class: class, Err: err}
	return e
}

func byFirstPacket(a, b Entry) int {
	switch {
	case a.First.IsZero() != b.First.IsZero():
		if a.First.IsZero() {
			return 1
		}
		return -1
	case !a.First.Equal(b.First):
		return a.First.Compare(b.First)
	default:
		return cmp.Compare(a.Path, b.Path)
	}
}

// recorded says that a file becomes a row of the ledger.
func (e Entry) recorded() bool { return e.State != Skipped && e.State != Unreadable }

func (im *run) locked(do func()) {
	im.mu.Lock()
	defer im.mu.Unlock()
	do()
}

// ended has the last word about an entry told.
func (im *run) ended(ctx context.Context, i int) {
	if e := &im.entries[i]; e.SessionID != "" && !im.opts.DryRun {
		parts, err := service.Parts(context.WithoutCancel(ctx), im.ledger, e.Capture)
		if err != nil && e.Failure == nil {
			e.Failure = failure.As(err)
		}
		if len(parts) > 1 {
			e.Parts = parts
		}
	}
	im.locked(func() {
		if im.opts.OnEnd != nil {
			im.opts.OnEnd(im.entries[i])
		}
	})
}

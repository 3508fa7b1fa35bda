package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/semaphore"

	"capagent/capture/watch"
	"capagent/internal/disk"
	"capagent/internal/ledger"
	"capagent/internal/quote"
	"capagent/internal/safefile"
	"capagent/service"
)

// When a file that could not be dealt with is looked at again.
const (
	againSoon  = 100 * time.Millisecond // it changed while it was read
	againLater = 30 * time.Second       // the machine was in the way
	againRare  = 10 * time.Minute       // the file itself was
)

// batch is how many captures one transaction records at most.
const batch = 500

// maxReaders is how many files are read at once: an analysis may take up to 200 MB.
const maxReaders = 4

// intake brings settled files into the ledger: it reads each once, and records
// what it is. A file that can't be read or recorded now is handed over again.
type intake struct {
	agent  *service.Agent
	looker *looker
	log    zerolog.Logger
	// troubled is told of errors that are the machine's, with what was concerned,
	// and of nil when a recording went well.
	troubled func(error)
	problems *problems
	// recorded is told of every capture that is now in the ledger.
	recorded func(ctx context.Context, f *folder, r ledger.Registered)

	files   chan settled
	results chan result
	// held is room for the sightings of captures that are not recorded yet.
	held *semaphore.Weighted
}

// maxHeld is how many sightings wait at most, some 150 bytes each.
const maxHeld = 200_000

// settled is a file that a folder hands over.
type settled struct {
	folder *folder
	watch.File
	copied string // the copy in the spool, "" when the file itself is the capture
}

// result is what became of it: a capture to record, or a file to remember that
// is none.
type result struct {
	settled
	found     ledger.Found
	other     bool
	looked    service.Looked
	sightings []ledger.Sighting // room for them was asked of intake.held
}

func newIntake(a *service.Agent, log zerolog.Logger) *intake {
	return &intake{agent: a, log: log, files: make(chan settled), results: make(chan result, batch), held: semaphore.NewWeighted(maxHeld)}
}

// take accepts a file; it blocks while all readers are busy.
func (in *intake) take(ctx context.Context, f *folder, file watch.File) {
	select {
	case in.files <- settled{folder: f, File: file}:
	case <-ctx.Done():
	}
}

// run reads and records until ctx is done.
func (in *intake) run(ctx context.Context) {
	var readers sync.WaitGroup
	for range min(max(2, runtime.GOMAXPROCS(0)), maxReaders) {
		readers.Go(func() {
			if len(in.agent.Config.Capture) > 0 {
				lowPriority()
			}
			for {
				select {
				case f := <-in.files:
					in.read(ctx, f)
				case <-ctx.Done():
					return
				}
			}
		})
	}
	in.record(ctx)
	readers.Wait()
}

// read finds out what a file is.
func (in *intake) read(ctx context.Context, f settled) {
	r := result{settled: f}
	looked, stamp, err := in.inspect(ctx, &r.settled)
	kept := false
	defer func() {
		if !kept {
			r.dropCopy()
		}
	}()
	switch {
	case ctx.Err() != nil:
		return
	case errors.Is(err, fs.ErrNotExist):
		in.log.Debug().Str("path", f.Path).Msg("the file is gone again")
		return
	case errors.Is(err, errNoCapture):
		r.other = true
		in.log.Debug().Str("path", f.Path).Msg("not a capture file; ignored")
	case err != nil && !service.Unfit(err):
		in.unreadable(f, err)
		return
	case stamp != f.Stamp:
		f.folder.watcher.Again(f.Path, againSoon) // it changed meanwhile
		return
	default:
		in.problems.clear("unreadable", f.Path)
		r.found = in.found(&r.settled, looked.Inspection, err)
		r.looked, r.sightings = looked, looked.Sightings()
		if in.held.Acquire(ctx, r.weight()) != nil {
			return
		}
	}
	select {
	case in.results <- r:
		kept = true
	case <-ctx.Done():
	}
}

// weight is the room that a result's sightings take.
func (r *result) weight() int64 { return min(int64(len(r.sightings)), maxHeld) }

var (
	errNoCapture = errors.New("not a capture file")
	errCopyGone  = errors.New("its copy in the spool is gone")
)

// inspect reads a file once, or a copy of it where the folder wants one; the
// stamp is that of the file that was read, after it was.
func (in *intake) inspect(ctx context.Context, f *settled) (service.Looked, watch.Stamp, error) {
	file, before, err := safefile.Open(f.Path)
	if err != nil {
		return service.Looked{}, "", err
	}
	defer func() { _ = file.Close() }() // only read
	if watch.StampOf(before) != f.Stamp {
		return service.Looked{}, watch.StampOf(before), nil
	}
	if !service.LooksLikeCapture(f.Name) && !service.IsCapture(file) {
		return service.Looked{}, f.Stamp, errNoCapture
	}
	read := file
	if f.folder.config.Copy {
		copied, err := in.copy(ctx, f, file)
		if err != nil {
			return service.Looked{}, "", err
		}
		defer func() { _ = copied.Close() }() // only read
		read = copied
	}
	// What is recorded must survive a power cut, and few writers see to that. The
	// file may be somebody else's, or on a system that can't: only a failing disk
	// is an error.
	synced := make(chan error, 1)
	go func() { synced <- read.Sync() }()
	looked, err := in.agent.Config.Inspect.Look(ctx, read, nil)
	if syncErr := <-synced; ledger.Trouble(syncErr) == "io" && err == nil {
		err = syncErr
	}
	after, statErr := file.Stat()
	if statErr != nil {
		return looked, "", statErr
	}
	return looked, watch.StampOf(after), err
}

// copy copies a file into the spool and opens the copy. That the copy is not
// there is no word about the file itself, whose absence would end the matter.
func (in *intake) copy(ctx context.Context, f *settled, file *os.File) (copied *os.File, err error) {
	if f.copied, err = in.agent.Copy(ctx, file); err == nil {
		copied, _, err = safefile.Open(f.copied)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %s", errCopyGone, err.Error())
	}
	return copied, err
}

// dropCopy deletes a copy that nothing needs.
func (f *settled) dropCopy() {
	if f.copied != "" {
		_ = os.Remove(f.copied) // what stays is found at the next start
		f.copied = ""
	}
}

// found describes a capture for the ledger. Only what is to be sent keeps its
// copy.
func (in *intake) found(f *settled, inspection ledger.Inspection, unfit error) ledger.Found {
	found := ledger.Found{
		Source: f.folder.config.Source(), Path: f.Path, Name: f.Name, Destination: in.agent.Destination(),
		Inspection: inspection, Stamp: string(f.Stamp),
	}
	state, reason := service.Sort(inspection)
	found.State, found.Reason = in.agent.Config.Policy.Sort(state, reason, in.agent.Explains())
	if unfit != nil {
		found.State, found.Reason = ledger.Quarantined, unfit.Error()
	}
	if found.State != ledger.Queued && found.State != ledger.Held && found.State != ledger.Sealed {
		f.dropCopy()
	}
	if f.copied != "" {
		found.Path, found.Original, found.Owned = f.copied, f.Path, true
	}
	found.Deliver = in.agent.Deliveries(found.State)
	found.Tags = in.agent.Tags(nil, ledger.Capture{Source: found.Source, Name: found.Name, Path: f.Path})
	return found
}

func (in *intake) unreadable(f settled, err error) {
	wait := againRare
	if errors.Is(err, errCopyGone) || ledger.Trouble(err) != "" && !errors.Is(err, fs.ErrPermission) {
		wait = againLater
	}
	in.problems.raise("unreadable", f.Path, "can't read "+quote.Path(f.Name)+": "+safefile.Cause(err).Error(),
		"the agent tries again; check that it may read the file")
	f.folder.watcher.Again(f.Path, wait)
}

// record writes results to the ledger, as many at once as there are.
func (in *intake) record(ctx context.Context) {
	for {
		var some []result
		select {
		case r := <-in.results:
			some = append(some, r)
		case <-ctx.Done():
			return
		}
	more:
		for len(some) < batch {
			select {
			case r := <-in.results:
				some = append(some, r)
			default:
				break more
			}
		}
		err := in.write(ctx, some)
		for i := range some {
			in.held.Release(some[i].weight())
		}
		in.troubled(err)
		if err == nil {
			continue
		}
		for _, r := range some {
			r.dropCopy()
			r.folder.watcher.Again(r.Path, againLater)
		}
	}
}

func (in *intake) write(ctx context.Context, some []result) error {
	var found []ledger.Found
	var from []result
	var others []ledger.KnownFile
	for _, r := range some {
		if r.other {
			others = append(others, ledger.KnownFile{Path: r.Path, Stamp: string(r.Stamp)})
			continue
		}
		found, from = append(found, r.found), append(from, r)
	}
	if len(others) > 0 {
		if err := in.agent.Ledger.Remember(ctx, others); err != nil {
			return err
		}
	}
	if len(found) == 0 {
		return nil
	}
	syncFolders(found)
	known, err := in.agent.Ledger.Register(ctx, found)
	if err != nil {
		return err
	}
	for i, r := range known {
		service.Sight(ctx, in.agent.Ledger, in.log, r.ID, from[i].sightings)
		in.recorded(ctx, from[i].folder, r)
		if r.State == ledger.Sealed {
			in.looker.put(r.Capture, from[i].looked.Contents())
		}
	}
	return nil
}

// syncFolders makes the names of files durable before they are recorded, as far
// as the system lets us with folders that need not be ours.
func syncFolders(found []ledger.Found) {
	done := map[string]bool{}
	for _, f := range found {
		if dir := filepath.Dir(f.Path); !done[dir] {
			done[dir] = true
			_ = disk.SyncDir(dir)
		}
	}
}

// Package watch finds the files of a folder tree that are complete and hands
// them over: every one, again when it has changed, for as long as it runs.
//
// The truth is a periodic scan of the whole folder, compared with what was
// handed over. Events of the system only make it faster. A file is complete
// when no process has it open for writing; where the system can't tell, when it
// was quiet for a while. What the files contain is not looked at here.
package watch

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"
)

// File is a file that was found to be complete.
type File struct {
	Path  string // absolute, without a symbolic link
	Name  string // the path below Config.Path
	Stamp Stamp
	Seen  time.Time // when it was found to be complete
}

// Options are what a Watcher needs. Known, Take and Refuse are called from one
// goroutine, one at a time; while one of them blocks, nothing is handed over.
type Options struct {
	Config Config
	Log    zerolog.Logger

	// Known returns the stamp under which path was dealt with in an earlier
	// life, "" if it was not. Optional. It is asked when a path is met for the
	// first time, and again after an error or when the path was gone meanwhile.
	Known func(ctx context.Context, path string) (Stamp, error)

	// Take is handed every complete file that is new or has changed. Who can't
	// deal with it now calls Again.
	Take func(ctx context.Context, f File)

	// Refuse is told, once per path and reason as long as that is there, of
	// what is never taken although its name is right: links, named pipes,
	// devices, sockets, folders with a capture's name, files with more than one
	// name, and what can't be read. Optional.
	Refuse func(path, reason string)

	// NoEvents leaves it to the scans alone.
	NoEvents bool

	// For tests:
	quiet      bool // judges every file by its quiet time
	onlyEvents bool // looks at a file that is being written when an event says so
}

// The values of Status.State.
const (
	Watching    = "watching"
	Polling     = "polling"     // there are scans, but no events of some or all folders
	Unavailable = "unavailable" // the folder can't be read now; it is waited for
)

// Status is how a Watcher is doing.
type Status struct {
	Path     string        `json:"path"`
	State    string        `json:"state"`
	Error    string        `json:"error,omitempty"` // why it is not watching
	Files    int           `json:"files"`           // that could be taken by their names, at the last scan
	Pending  int           `json:"pending"`         // found and not handed over yet
	Scans    int           `json:"scans"`           // of the whole folder
	LastScan time.Time     `json:"last_scan"`       // its end, zero before the first
	ScanTook time.Duration `json:"scan_took"`       // without waiting for Take
}

// Watcher watches one folder. Its methods are safe for use by several
// goroutines, Rescan, Again and Status also from within Take.
type Watcher struct {
	opts Options
	wake chan struct{}

	mu     sync.Mutex
	status Status
	rescan bool
	again  []again
}

type again struct {
	path string
	due  time.Time
}

// New returns a Watcher for a Config that is valid.
func New(opts Options) *Watcher {
	return &Watcher{
		opts: opts, wake: make(chan struct{}, 1),
		status: Status{Path: opts.Config.Path, State: Unavailable, Error: "not looked at yet"},
	}
}

// Run watches until ctx is done and then returns nil, after everything that it
// started has ended. It is called once. A folder that isn't there is waited for.
func (w *Watcher) Run(ctx context.Context) error {
	newLoop(w).run(ctx)
	return nil
}

// Rescan has the whole folder scanned as soon as can be. It doesn't wait.
func (w *Watcher) Rescan() {
	w.mu.Lock()
	w.rescan = true
	w.mu.Unlock()
	w.poke()
}

// Again forgets that the file was handed over, and has it handed over after that
// time, unless it is gone then.
func (w *Watcher) Again(path string, after time.Duration) {
	w.mu.Lock()
	w.again = append(w.again, again{path, time.Now().Add(after)})
	w.mu.Unlock()
	w.poke()
}

func (w *Watcher) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Status returns how it is doing. It never waits for the file system.
func (w *Watcher) Status() Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

func (w *Watcher) update(change func(*Status)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.status)
}

// Package control is the way to steer a running agent from the same machine:
// HTTP with JSON (package local says how it gets from one process to the other).
// The Server is the agent's part, the Client that of the commands.
//
//	GET  /v1/status
//	GET  /v1/captures?state=&case=&source=&destination=&ids=&after=&limit=&newest=   JSON lines
//	GET  /v1/captures/{number, session or start of a SHA-256}
//	GET  /v1/sightings?type=&value=&below=&since=&limit=   JSON lines, the last one the result
//	POST /v1/retry    {"ids": [1, 2]}, {"all": true}, or {} for what is queued
//	POST /v1/reload   {}
//	POST /v1/rotate   {"name": "lan"}, or {} for every live capture
//	POST /v1/trigger  {"before": "5m", "after": "1m", "reason": "...", "capture": "lan"}, all of them optional
//	GET  /v1/triggers/{number}
//	POST /v1/verify   {"ids": [1, 2]}, or {} for everything   JSON lines, the last one the result
//
// A failure is {"error": "...", "hint": "..."} with the status that fits; one
// that comes in the middle of JSON lines is such an object as the last line,
// which has no "id" then. Nobody is served a web page's request: whatever has an
// Origin is refused.
package control

import (
	"context"
	"errors"
	"time"

	"capagent/internal/ledger"
	"capagent/internal/paths"
	"capagent/service"
	"capagent/service/control/local"
)

// Config is the table [control].
type Config = local.Config

// Where is the place at which one agent can be reached.
type Where = local.Where

// ErrNoAgent says that nothing listens where the agent would.
var ErrNoAgent = local.ErrNoAgent

// ErrGone says that the agent ended, or let go of a call, before its answer was
// complete.
var ErrGone = errors.New("the agent went away")

// Place says where the agent of stateDir listens; server and client both ask it.
func Place(cfg Config, stateDir string, own paths.Paths) Where {
	return local.Place(cfg, stateDir, own)
}

// Status is what `capagent status --json` prints. What is not known is null;
// lists are never null.
type Status struct {
	Version            string                        `json:"version"` // of the agent where one runs, else of the command
	StateDir           string                        `json:"state_dir"`
	Destination        string                        `json:"destination"`
	Captures           map[ledger.State]ledger.Count `json:"captures"`
	OldestQueued       *time.Time                    `json:"oldest_queued"`
	PossibleDuplicates int64                         `json:"possible_duplicates"`
	Flagged            int64                         `json:"flagged"` // captures with findings
	Pauses             []Pause                       `json:"pauses"`
	Agent              *Agent                        `json:"agent"` // null when none runs
}

// Pause is a destination that takes no captures, as the ledger has it.
type Pause struct {
	Destination string     `json:"destination"`
	Class       string     `json:"class"`
	Reason      string     `json:"reason"`
	Since       time.Time  `json:"since"`
	Until       *time.Time `json:"until"` // null: until someone or something changes it
}

// AgentState is how the agent fares as a whole.
type AgentState string

// The states of an agent.
const (
	Running  AgentState = "running"
	Degraded AgentState = "degraded" // something does not work; Problems say what
	Paused   AgentState = "paused"   // the destination takes nothing
	Draining AgentState = "draining" // it ends
)

// Agent is what only the running agent knows.
type Agent struct {
	PID         int              `json:"pid"`
	Started     time.Time        `json:"started"`
	State       AgentState       `json:"state"`
	Text        string           `json:"text"` // one line for people, the same as the service manager's
	Uploading   []Uploading      `json:"uploading"`
	Reloaded    *time.Time       `json:"reloaded"`     // when the configuration was last read again
	ConfigError *string          `json:"config_error"` // why the last reload failed; null when it did not
	Problems    []Problem        `json:"problems"`
	Watches     []Watch          `json:"watches"`
	Captures    []Capture        `json:"captures"`
	Destination DestinationState `json:"destination_state"`
	Disk        Disk             `json:"disk"`
	Names       []Names          `json:"names"`      // who has names for machines
	Deliveries  []Delivery       `json:"deliveries"` // where captures are brought besides
	Blocked     []Blocked        `json:"blocked"`    // clients that are blocked by this agent
	Confined    *Confined        `json:"confined"`   // what it took from itself; null: not known
}

// Confined is what the agent took from itself once it was started, for good.
type Confined struct {
	Landlock int      `json:"landlock"` // the version that bounds files; 0: none does
	Writable []string `json:"writable"` // the directories below which it can change files; nothing without Landlock
	Seccomp  bool     `json:"seccomp"`  // it filters its system calls
	Reason   *string  `json:"reason"`   // why something is not in force; null: everything is
}

// Names is what a source of names knows.
type Names struct {
	Source string     `json:"source"`
	Text   string     `json:"text"`
	At     *time.Time `json:"at"` // when that was asked; null: not yet
	Stale  bool       `json:"stale"`
	Error  *string    `json:"error"`
}

// Delivery is how the captures for one destination stand.
type Delivery struct {
	Destination string `json:"destination"`
	Pending     int64  `json:"pending"`
	Done        int64  `json:"done"`
	Failed      int64  `json:"failed"`
	Skipped     int64  `json:"skipped"`
}

// Blocked is a client of a network that is blocked for a while.
type Blocked struct {
	MAC    string    `json:"mac"`
	Name   string    `json:"name"`
	Until  time.Time `json:"until"`
	Reason string    `json:"reason"`
}

// Uploading is a capture on its way.
type Uploading struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
	Size int64  `json:"size"`
	Sent *int64 `json:"sent"` // bytes of this attempt
}

// Problem is one cause of trouble, told once for all that suffer from it.
type Problem struct {
	Class string    `json:"class"`
	Text  string    `json:"text"`
	Hint  *string   `json:"hint"`
	Since time.Time `json:"since"`
	Count int64     `json:"count"` // how often it was met
}

// Watch is a folder that is looked after.
type Watch struct {
	Path     string     `json:"path"`
	State    string     `json:"state"`
	Error    *string    `json:"error"`
	Files    int64      `json:"files"`
	Pending  int64      `json:"pending"` // of Files: not known to be complete yet
	LastScan *time.Time `json:"last_scan"`
}

// Capture is a live capture. Its counts are since the agent began it.
type Capture struct {
	Name       string       `json:"name"`
	State      CaptureState `json:"state"`
	Interfaces []string     `json:"interfaces"`
	Filter     string       `json:"filter"`
	Since      *time.Time   `json:"since"`   // it captures without a break; null: it does not
	Packets    uint64       `json:"packets"` // captured
	Dropped    uint64       `json:"dropped"` // by the kernel, for want of room in memory
	Lost       uint64       `json:"lost"`    // for want of room on the disk, or by its errors
	Bytes      int64        `json:"bytes"`   // written
	Files      uint64       `json:"files"`   // sealed
	Open       *OpenFile    `json:"open"`    // null: no packet since the last file
	LastSealed *time.Time   `json:"last_sealed"`
	Next       *time.Time   `json:"next"` // when its schedule begins it; null where it runs
	Problem    *string      `json:"problem"`
}

// CaptureState is how a live capture fares.
type CaptureState string

// The states of a live capture.
const (
	Capturing CaptureState = "capturing"
	Waiting   CaptureState = "waiting"   // it can't be opened; Problem says why
	Scheduled CaptureState = "scheduled" // its time has not come; Next says when
)

// OpenFile is what is in files that are not sealed yet, mostly one.
type OpenFile struct {
	Packets uint64 `json:"packets"`
	Size    int64  `json:"size"` // about
}

// Rotated is a live capture of which the open file was ended.
type Rotated struct {
	Name    string  `json:"name"`
	Files   int     `json:"files"`   // that were sealed meanwhile, and are recorded
	Problem *string `json:"problem"` // what stands in the capture's way
}

// DestinationState says whether the destination takes captures.
type DestinationState struct {
	State service.DoorState `json:"state"`
	// Kind is failure.Error.Kind of the cause, as text: "pause" where the
	// destination refuses until somebody mends something, "retry" where it fails.
	Kind   *string    `json:"kind"`
	Class  *string    `json:"class"`
	Reason *string    `json:"reason"`
	Hint   *string    `json:"hint"`
	Since  *time.Time `json:"since"`
	Until  *time.Time `json:"until"` // when it is asked again; a new refusal has a new one
}

// Disk is the room where the state is kept, in bytes.
type Disk struct {
	Free       int64 `json:"free"`
	SpoolBytes int64 `json:"spool_bytes"`
	MinFree    int64 `json:"min_free"` // that is to stay free; 0: no such limit
}

// whole is s with empty lists where there are none.
func (s Status) whole() Status {
	fill(&s.Pauses)
	if s.Captures == nil {
		s.Captures = map[ledger.State]ledger.Count{}
	}
	if s.Agent != nil {
		a := *s.Agent
		fill(&a.Uploading)
		fill(&a.Problems)
		fill(&a.Watches)
		fill(&a.Captures)
		fill(&a.Names)
		fill(&a.Deliveries)
		fill(&a.Blocked)
		if a.Confined != nil {
			c := *a.Confined
			fill(&c.Writable)
			a.Confined = &c
		}
		s.Agent = &a
	}
	return s
}

func fill[T any](list *[]T) {
	if *list == nil {
		*list = []T{}
	}
}

// Recorded returns what the ledger alone can say, for an agent to add itself
// to. l is nil where nothing was recorded yet.
func Recorded(ctx context.Context, version string, cfg *service.Config, l *ledger.Ledger) (Status, error) {
	v := Status{
		Version: version, StateDir: cfg.StateDir(), Destination: cfg.Destination(),
		Captures: map[ledger.State]ledger.Count{}, Pauses: []Pause{},
	}
	if l == nil {
		return v, nil
	}
	s, err := l.Counts(ctx)
	if err != nil {
		return v, err
	}
	v.Captures, v.PossibleDuplicates, v.Flagged = s.States, s.PossibleDuplicates, s.Flagged
	v.OldestQueued = known(s.OldestQueued)
	pauses, err := l.Pauses(ctx)
	for _, p := range pauses {
		v.Pauses = append(v.Pauses, Pause{p.Destination, p.Class, p.Reason, p.Since, known(p.Until)})
	}
	return v, err
}

func known(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

package ledger

import "time"

// State is where a capture stands in its life. The transitions between states
// are listed in one table, in transitions.go.
type State string

// The states of design.md, "The capture's life".
const (
	StateOpen   State = "open"        // still being written; not "Open", which opens a ledger
	Sealed      State = "sealed"      // complete and recorded; must not be lost
	Held        State = "held"        // kept here until policy or a person releases it
	Queued      State = "queued"      // on its way out
	Done        State = "done"        // every step ended
	Purged      State = "purged"      // the agent's own file was deleted, the record stays
	Quarantined State = "quarantined" // not understood: kept and reported, never deleted
	Failed      State = "failed"      // parked after a permanent error
)

// States lists the states in the order of a capture's life.
var States = []State{StateOpen, Sealed, Held, Queued, Done, Purged, Quarantined, Failed}

// StepState is where one step of one capture stands.
type StepState string

// The states of a step.
const (
	StepPending StepState = "pending"
	StepStarted StepState = "started"
	StepDone    StepState = "done"
	StepSkipped StepState = "skipped"
	StepFailed  StepState = "failed"
)

// Inspection is what one pass over a file found. Times are UTC with nanosecond
// precision and zero when the file holds no packet.
type Inspection struct {
	Format      string // "pcap" or "pcapng"
	Wrapper     string // "", "gzip" or "zstd"
	Size        int64  // bytes of the file as it lies on disk
	PayloadSize int64  // bytes after unwrapping; Size when nothing wraps it
	SHA256      string // of the file as it lies on disk, lower-case hex
	SHA1        string
	Packets     int64
	PacketBytes int64     // captured bytes of all packets
	First       time.Time // earliest packet
	Last        time.Time // latest packet
	Disorder    int64     // packets older than the one before them
	LinkTypes   []string  // in order of appearance: "EN10MB", "RAW", or "LINKTYPE_<n>"
	Interfaces  int
	Truncated   bool   // the file ends inside a packet or block
	Note        string // what a reader should know of the file, "" when nothing
	Summary     string // what its flows were, a few lines for people; "" where nobody looked
}

// Capture is one completed capture file and all that is known of it. One row
// stands for one content at one path for one destination.
type Capture struct {
	ID          int64
	Source      string // "import", "upload", "stdin", "watch:<path>" or "capture:<name>"
	Path        string // absolute
	Name        string // the original name as people should see it: the path below the import's root, or the base name
	Case        string
	Destination string // canonical base URL of the CloudShark instance, never with a token
	State       State
	Reason      string // why the capture is not done, for people; "" when there is nothing to say
	Owned       bool   // the agent made this file and may delete it
	Inspection
	Tags              []string
	Comment           string
	Method            string // "put", "post", or "" for the configuration's choice
	Keylog            string // path of a TLS key log that goes along, or ""
	SessionName       string // the file name that CloudShark was given (of the first part)
	SessionID         string // of the first part
	SessionURL        string
	DuplicateOf       int64  // the capture of equal content that was uploaded instead, 0 when none
	PossibleDuplicate bool   // a second session of this content may exist
	Threats           string // what its findings are, a few lines for people
	Machines          string // who was in it, a few lines for people
	Findings          int    // how many indicators with verdicts that count it holds, as far as is known
	Live              *Live  // of captures that the agent took itself; nil for others
	Created, Updated  time.Time
}

// Live is what is known of a capture that the agent took from interfaces, besides
// what lies in the file. Times are UTC, and zero where nobody saw them.
type Live struct {
	Interfaces []LiveInterface `json:"interfaces"`
	Began      time.Time       `json:"began,omitzero"` // by the clock
	Ended      time.Time       `json:"ended,omitzero"`
	Reason     string          `json:"reason"`          // why the file ended: rotate.Reason
	Recovered  bool            `json:"recovered"`       // its writer was killed: the end may be missing
	Received   uint64          `json:"received"`        // by all interfaces, since the file before
	Dropped    uint64          `json:"dropped"`         // by the kernel, likewise
	Gaps       []LiveGap       `json:"gaps,omitempty"`  // at most MaxLive, the last of which may stand for more
	Jumps      []LiveJump      `json:"jumps,omitempty"` // at most MaxLive
	Error      string          `json:"error,omitempty"` // why the file is not good
}

// MaxLive bounds each of the lists of a Live.
const MaxLive = 100

// LiveInterface is an interface that packets came from.
type LiveInterface struct {
	Name     string `json:"name"`
	LinkType string `json:"link_type"`
	Filter   string `json:"filter"`  // "": everything
	SnapLen  uint32 `json:"snaplen"` // bytes
	Received uint64 `json:"received"`
	Dropped  uint64 `json:"dropped"`
}

// LiveGap is a time of which packets are missing.
type LiveGap struct {
	Interface string    `json:"interface,omitempty"` // "": all
	From      time.Time `json:"from"`
	To        time.Time `json:"to"`
	Packets   uint64    `json:"packets,omitempty"` // 0: not known
	Cause     string    `json:"cause"`
}

// LiveJump is a step of the clock.
type LiveJump struct {
	At time.Time `json:"at"` // by the new time
	By float64   `json:"by"` // seconds
}

// Step is one step's record.
type Step struct {
	Capture   int64
	Name      string
	State     StepState
	Attempts  int
	NotBefore time.Time // zero: at once
	Class     string    // of the last failure: failure.Error.Class
	Error     string    // text of the last failure, for people
	Note      string    // what a done or skipped step has to say
	Updated   time.Time
}

// Part is one upload of a capture: the whole file, or a piece of one that was
// over a limit. Its bytes are Prefix followed by Length bytes of the payload
// (the unwrapped file) from Offset.
type Part struct {
	Number, Of        int // from 1
	Prefix            []byte
	Offset, Length    int64
	Size              int64 // len(Prefix) + Length
	SHA256, SHA1      string
	Packets           int64
	First, Last       time.Time
	Name              string // the file name that CloudShark is given
	SessionID         string // "" until the part is uploaded
	PossibleDuplicate bool
}

// Result is what a step hands back. Zero fields change nothing.
type Result struct {
	Skipped           bool // there was nothing to do; Note says why
	Note              string
	SessionName       string
	SessionID         string
	SessionURL        string
	DuplicateOf       int64
	PossibleDuplicate bool
}

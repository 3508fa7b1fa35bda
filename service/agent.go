// Package service puts the agent together: configuration to running parts, and
// the pipeline that takes every capture through its steps. It owns the ledger
// and the lifetime of everything that writes to it.
package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"capagent/enrich/cloudtrax"
	"capagent/enrich/device"
	"capagent/internal/audit"
	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/internal/safefile"
	"capagent/service/lookup"
	"capagent/service/metrics/observe"
	"capagent/upload"
)

// Agent is the assembled program. Close it.
type Agent struct {
	Config   Config
	Ledger   *ledger.Ledger
	Pipeline *Pipeline
	Client   *upload.Client

	Lookup  *lookup.Lookup // nil: indicators are not looked up
	Reports Reporter       // nil: nothing is written back
	Namers  []Namer        // who has names for machines

	// Deliverers do something because of a capture, once it has a session.
	Deliverers []Deliverer
	rests      rests

	blocks *cloudtrax.Blocker // nil without CloudTrax: it ends what it began

	fresh   sync.Once // namers were asked for what Devices needs
	unnamed sync.Once // that they did not answer was told

	step    *upload.Step
	audit   *audit.Log // nil where the ledger is not this Agent's own
	log     zerolog.Logger
	onBytes atomic.Pointer[func(int64)]
}

// Open opens the ledger and builds the steps. Nothing is sent.
func Open(ctx context.Context, cfg Config, version string, policy Policy, log zerolog.Logger) (*Agent, error) {
	if err := os.MkdirAll(cfg.StateDir(), 0o700); err != nil {
		return nil, fmt.Errorf("state_dir: %w", err)
	}
	l, err := ledger.Open(ctx, cfg.LedgerPath(), ledger.Options{Log: log})
	if err != nil {
		return nil, err
	}
	a, err := Assemble(cfg, l, version, policy, log)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	a.audit = AuditLog(cfg, l, version, log)
	return a, nil
}

// AuditLog returns the log in which everything that happens to captures is kept.
func AuditLog(cfg Config, l *ledger.Ledger, version string, log zerolog.Logger) *audit.Log {
	return audit.New(l, audit.Options{Dir: cfg.StateDir(), Host: cfg.Agent.Name, Version: version, Log: log})
}

// Assemble is Open on a ledger that the caller has opened, and closes.
func Assemble(cfg Config, l *ledger.Ledger, version string, policy Policy, log zerolog.Logger) (*Agent, error) {
	a := &Agent{Config: cfg, Ledger: l, log: log}
	client, err := upload.NewClient(cfg.CloudShark, version)
	if err != nil {
		return nil, err
	}
	a.Client = client
	if cfg.CloudShark.AllowHTTP && strings.HasPrefix(a.Destination(), "http://") {
		log.Warn().Str("url", a.Destination()).Msg("allow_http: token and captures travel in the clear")
	}
	a.step = upload.NewStep(upload.StepOptions{
		Config: cfg.CloudShark, Client: client, Ledger: l, Host: cfg.Agent.Name, Log: log, OnBytes: a.moved,
	})
	a.Pipeline = NewPipeline(l, policy, log, a.step)
	if a.Lookup, a.Reports, err = sources(cfg, l, version, log); err != nil {
		return nil, err
	}
	if a.Namers, err = namers(cfg, version, log); err != nil {
		return nil, err
	}
	if cfg.CloudTrax.Key != "" {
		if a.blocks, err = NewBlocker(cfg, version, log); err != nil {
			return nil, err
		}
	}
	if err := a.deliverers(version); err != nil {
		return nil, err
	}
	return a, nil
}

// Observe has an Observer told how long steps take, and what look-ups cost.
func (a *Agent) Observe(o *observe.Observer) {
	a.Pipeline.observer = o
	if a.Lookup != nil {
		a.Lookup.Observer = o
	}
}

// Close ends the agent's use of the ledger.
func (a *Agent) Close() error {
	a.Hangup()
	if a.Ledger == nil {
		return nil
	}
	if a.audit != nil {
		// What can't be written now is kept in the ledger, for the next one.
		if err := a.audit.Drain(context.Background()); err != nil {
			a.log.Warn().Err(err).Msg("the audit log is not up to date")
		}
	}
	return a.Ledger.Close()
}

// Hangup gives up streams and drops connections.
func (a *Agent) Hangup() {
	if a.step != nil {
		a.step.Close()
	}
	if a.Client != nil {
		a.Client.Close()
	}
	for _, d := range a.Deliverers {
		d.Close()
	}
}

// Stream begins to upload a capture that is still written to the file part; path
// is what it will be called. What Add is given besides must be the same here. The
// name that is returned is the session's, for AddOptions.Name.
func (a *Agent) Stream(part, path string, first time.Time, opts AddOptions) (name string, err error) {
	if a.step == nil {
		return "", errors.ErrUnsupported
	}
	f, _, err := safefile.Open(part)
	if err != nil {
		return "", err
	}
	c := ledger.Capture{Source: opts.Source, Path: path, Name: filepath.Base(path), Owned: opts.Owned, Comment: opts.Comment}
	c.First = first
	c.Tags = a.Tags(opts.Tags, c)
	return a.step.Stream(f, c, opts.Name), nil
}

// Abandon gives up the stream of a capture that will not be sent.
func (a *Agent) Abandon(name string) { a.step.Abandon(name) }

// OpenToLook returns an Agent that can look around but not send: its ledger is
// open for reading, or nil when there is none yet.
func OpenToLook(ctx context.Context, cfg Config, log zerolog.Logger) (*Agent, error) {
	l, err := ledger.Open(ctx, cfg.LedgerPath(), ledger.Options{ReadOnly: true, Log: log})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return &Agent{Config: cfg, Ledger: l, Pipeline: NewPipeline(nil, NewGate(OneShot), log)}, nil
}

// Destination is the canonical base URL of the CloudShark instance.
func (a *Agent) Destination() string { return a.Config.Destination() }

// OnBytes has f told of bytes as they are read by Add and as they go out.
func (a *Agent) OnBytes(f func(n int64)) { a.onBytes.Store(&f) }

func (a *Agent) moved(n int64) {
	if f := a.onBytes.Load(); f != nil {
		(*f)(n)
	}
}

// AddOptions describe a single capture that a person hands over.
type AddOptions struct {
	Source  string // "upload" when empty
	Owned   bool
	Tags    []string
	Comment string
	Name    string
	Keylog  string
	Case    string
	Live    *ledger.Live // of a file that the agent captured
	Policy  bool         // [policy] decides whether it is sent
	// Later is told of a capture that is to be looked up; when it is nil, Add does so.
	Later func(ledger.Capture, Contents)
}

// Add inspects the file at path and records it. A file that is no capture, or
// holds no packet, is recorded too, and is an error of kind Permanent.
func (a *Agent) Add(ctx context.Context, path string, opts AddOptions) (ledger.Capture, error) {
	if opts.Source == "" {
		opts.Source = "upload"
	}
	// The record must hold from any working directory. What a person names may
	// be a link; the name that people know stays.
	name := filepath.Base(path)
	var err error
	if path, err = real(path); err == nil && opts.Keylog != "" {
		opts.Keylog, err = real(opts.Keylog)
	}
	c := ledger.Capture{Source: opts.Source, Path: path, Name: name, Case: opts.Case, Destination: a.Destination(), Owned: opts.Owned, State: Unreadable}
	if err != nil {
		return c, permanent("unreadable", safefile.Cause(err))
	}
	found := ledger.Found{
		Source: opts.Source, Path: path, Name: name, Case: opts.Case, Destination: a.Destination(),
		Owned: opts.Owned, Comment: opts.Comment, Keylog: opts.Keylog, SessionName: opts.Name,
		Live: opts.Live,
	}
	found.Tags = a.Tags(opts.Tags, c)
	looked, err := a.look(ctx, path)
	found.Inspection = looked.Inspection
	var reason error
	switch {
	case err != nil && Unfit(err):
		found.State, reason = ledger.Quarantined, permanent("not_capture", err)
	case err != nil:
		return c, permanent("unreadable", safefile.Cause(err))
	default:
		found.State, found.Reason = Sort(found.Inspection)
		if opts.Policy {
			found.State, found.Reason = a.Config.Policy.Sort(found.State, found.Reason, a.Explains())
		} else if found.State == ledger.Queued && a.Explains() {
			found.State, found.Reason = ledger.Sealed, SealedReason
		}
		if found.State == ledger.Done {
			reason = permanent("empty", errors.New(found.Reason))
		}
	}
	if reason != nil {
		found.Reason = reason.Error()
	}
	found.Deliver = a.Deliveries(found.State)
	known, err := a.Ledger.Register(ctx, []ledger.Found{found})
	if err != nil {
		return c, err
	}
	Sight(ctx, a.Ledger, a.log, known[0].ID, looked.Sightings())
	if c := known[0].Capture; c.State == ledger.Sealed && opts.Later != nil {
		opts.Later(c, looked.Contents())
	} else if c.State == ledger.Sealed {
		return a.now(ctx, c, looked.Contents())
	}
	return known[0].Capture, reason
}

// real returns the absolute path of the file itself.
func real(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return path, err
	}
	resolved, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return abs, err
	}
	return resolved, nil
}

func (a *Agent) look(ctx context.Context, path string) (Looked, error) {
	f, _, err := safefile.Open(path)
	if err != nil {
		return Looked{}, err
	}
	defer func() { _ = f.Close() }()
	return a.Config.Inspect.Look(ctx, f, a.moved)
}

func permanent(class string, err error) error {
	return &failure.Error{Kind: failure.Permanent, Class: class, Err: err}
}

// Send takes captures through the pipeline, several at a time, and tells ended of
// each by its index, one at a time. The agent's own copy of a stream is deleted
// once its session is confirmed.
func (a *Agent) Send(ctx context.Context, captures []ledger.Capture, ended func(i int, c ledger.Capture, err error)) error {
	ids := make([]int64, len(captures))
	for i, c := range captures {
		ids[i] = c.ID
	}
	var mu sync.Mutex
	return a.Pipeline.Each(ctx, ids, a.Config.CloudShark.Concurrency, func(i int, c ledger.Capture, err error) {
		if err == nil {
			a.Annotated(ctx, c)
			err = a.Purge(context.WithoutCancel(ctx), c)
		}
		mu.Lock()
		defer mu.Unlock()
		ended(i, c, err)
	})
}

// CapturePrefix begins the source of what the agent captured itself.
const CapturePrefix = "capture:"

// Purge deletes the agent's own copy of a capture that is done; the ledger knows
// it before. Other captures are left alone, and so is what the agent captured
// itself: that is retention's.
func (a *Agent) Purge(ctx context.Context, c ledger.Capture) error {
	if !c.Owned || c.State != ledger.Done || strings.HasPrefix(c.Source, CapturePrefix) || a.Delivering(ctx, c.ID) {
		return nil
	}
	err := a.Ledger.SetState(ctx, c.ID, ledger.Purged, "")
	var moved *ledger.TransitionError
	if errors.As(err, &moved) && moved.From == string(ledger.Purged) {
		err = nil // another process was faster
	}
	if err != nil {
		return err
	}
	if err := os.Remove(c.Path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Release lets captures that wait or have failed be tried at once.
func (a *Agent) Release(ctx context.Context, captures []ledger.Capture) error {
	ids := make([]int64, len(captures))
	for i, c := range captures {
		ids[i] = c.ID
	}
	if len(ids) == 0 {
		return nil
	}
	_, err := a.Ledger.Retry(ctx, ids...)
	for _, id := range ids {
		_, again := a.Ledger.Redeliver(ctx, id)
		err = errors.Join(err, again)
	}
	return err
}

// Parts returns the uploads that c stands for: its own, or those of the capture
// that has the same content.
func Parts(ctx context.Context, l *ledger.Ledger, c ledger.Capture) ([]ledger.Part, error) {
	if c.DuplicateOf != 0 {
		return l.Parts(ctx, c.DuplicateOf)
	}
	return l.Parts(ctx, c.ID)
}

// FullView shows a capture with its parts and steps.
func FullView(ctx context.Context, l *ledger.Ledger, c ledger.Capture) (View, error) {
	v, err := Shown(ctx, l, c)
	if err != nil {
		return v, err
	}
	parts, err := Parts(ctx, l, c)
	if err != nil {
		return v, err
	}
	steps, err := l.Steps(ctx, c.ID)
	if err != nil {
		return v, err
	}
	deliveries, err := l.Deliveries(ctx, c.ID)
	if err != nil {
		return v, err
	}
	devices, err := l.Devices(ctx, c.ID)
	if err != nil {
		return v, err
	}
	v.Machines, err = device.Decode(devices)
	return v.WithParts(parts).WithSteps(steps).WithDeliveries(deliveries), err
}

// Spool keeps what r delivers as a file of the agent's own, durable before it
// has its name (design.md, "The capture's life", rule 1). The path is returned.
func (a *Agent) Spool(ctx context.Context, r io.Reader) (string, error) {
	return spool(a.Config.SpoolDir(), "stdin-*.pcap", func(f *os.File) error {
		n, err := io.Copy(f, readerContext{ctx, r})
		if err == nil && n == 0 {
			err = errors.New("standard input: no bytes")
		}
		return err
	})
}

// Copy keeps a copy of src in the spool, for a file that its owner may overwrite
// before it is sent. Where the file system can share blocks it costs none.
func (a *Agent) Copy(ctx context.Context, src *os.File) (string, error) {
	return spool(a.Config.SpoolDir(), "copy-*.pcap", func(f *os.File) error {
		if clone(f, src) {
			return nil
		}
		_, err := io.Copy(f, readerContext{ctx, io.NewSectionReader(src, 0, math.MaxInt64)})
		return err
	})
}

// caseTag marks every session of a case.
const caseTag = "case:{case}"

// Tags returns what the session of c is tagged: by the user, by its case, and by
// the configuration.
func (a *Agent) Tags(flags []string, c ledger.Capture) []string {
	return upload.Tags(a.tagTemplates(flags), a.Config.Agent.Name, &c)
}

// CheckTags says what is wrong with tags that came from flags.
func (a *Agent) CheckTags(flags []string) error {
	if err := upload.CheckTags(a.tagTemplates(flags)); err != nil {
		return fmt.Errorf("--tag: %w", err)
	}
	return nil
}

func (a *Agent) tagTemplates(flags []string) []string {
	return slices.Concat(flags, []string{caseTag}, a.Config.CloudShark.Tags)
}

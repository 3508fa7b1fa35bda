package upload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/rs/zerolog"

	"capagent/internal/ledger"
)

// Ledger is what the step needs to remember: which parts a capture has, recorded
// before the first is sent, and which session each became.
type Ledger interface {
	Parts(ctx context.Context, capture int64) ([]ledger.Part, error)
	PlanParts(ctx context.Context, capture int64, parts []ledger.Part) ([]ledger.Part, error)
	FinishPart(ctx context.Context, capture int64, number int, sessionID string, possibleDuplicate bool) error
}

// StepOptions configure a Step.
type StepOptions struct {
	Config Config
	Client *Client
	Ledger Ledger
	Host   string // the agent's name, {host}
	Log    zerolog.Logger
	// OnBytes is called as bytes of captures go out, and with a negative number
	// when an upload failed and they do not count. It must be safe for
	// concurrent use.
	OnBytes func(n int64)
}

// Step uploads captures. It is safe for concurrent use on different captures.
type Step struct {
	opts StepOptions

	running sync.WaitGroup // streams

	mu      sync.Mutex
	doubts  map[part]bool      // parts of which Find could not tell
	streams map[string]*stream // that are open, by their sessions' names
	closed  bool
}

type part struct {
	capture int64
	number  int
}

// NewStep returns the step. Close it where something is streamed.
func NewStep(o StepOptions) *Step {
	return &Step{opts: o, doubts: map[part]bool{}, streams: map[string]*stream{}}
}

// Name returns "cloudshark".
func (*Step) Name() string { return "cloudshark" }

// Run sends what of the capture is not uploaded yet. The capture's SessionName,
// if any, is used in place of the name template.
func (s *Step) Run(ctx context.Context, c ledger.Capture) (ledger.Result, error) {
	parts, err := s.parts(ctx, &c)
	if err != nil {
		return ledger.Result{}, err
	}
	if len(parts) > 1 {
		s.Abandon(c.SessionName) // it went out as one
	}
	for i := range parts {
		if parts[i].SessionID != "" {
			continue
		}
		if err := s.send(ctx, &c, &parts[i]); err != nil {
			return ledger.Result{}, err
		}
	}
	return s.result(&c, parts), nil
}

// Find asks CloudShark for the parts whose upload may have happened without us
// knowing, and records those that are there. It reports true when the capture is
// uploaded as a whole. An error means that nothing is known and nothing must be
// sent yet.
func (s *Step) Find(ctx context.Context, c ledger.Capture) (ledger.Result, bool, error) {
	parts, err := s.opts.Ledger.Parts(ctx, c.ID)
	if err != nil {
		return ledger.Result{}, false, err
	}
	if len(parts) == 0 {
		// Nothing is sent before parts are recorded. A ledger that was lost is
		// the exception: then the parts are what they would be now.
		if parts, err = s.parts(ctx, &c); err != nil {
			return ledger.Result{}, false, err
		}
	}
	all := true
	for i := range parts {
		p := &parts[i]
		if p.SessionID != "" {
			continue
		}
		session, found, err := s.opts.Client.Find(ctx, p.Name, p.Size, p.SHA1, p.Packets)
		switch {
		case errors.Is(err, ErrNoSearch), errors.Is(err, ErrOtherContent):
			s.doubt(c.ID, p.Number, true)
			s.opts.Log.Warn().Int64("capture", c.ID).Int("part", p.Number).Str("name", p.Name).Err(err).
				Msg("the capture may be uploaded twice")
		case err != nil:
			return ledger.Result{}, false, err
		case found:
			if err := s.finish(ctx, &c, p, session, false); err != nil {
				return ledger.Result{}, false, err
			}
			s.opts.Log.Info().Int64("capture", c.ID).Int("part", p.Number).Str("session", session.ID).
				Msg("found the session of an earlier upload")
		}
		all = all && found
	}
	if !all {
		return ledger.Result{}, false, nil
	}
	return s.result(&c, parts), true, nil
}

// parts returns the recorded parts, or plans and records them.
func (s *Step) parts(ctx context.Context, c *ledger.Capture) ([]ledger.Part, error) {
	parts, err := s.opts.Ledger.Parts(ctx, c.ID)
	if err != nil {
		return nil, err
	}
	if len(parts) > 0 {
		return parts, nil
	}
	parts, err = s.plan(ctx, c)
	if err != nil {
		return nil, about("upload", c.Name, err)
	}
	return s.opts.Ledger.PlanParts(ctx, c.ID, parts)
}

func (s *Step) send(ctx context.Context, c *ledger.Capture, p *ledger.Part) error {
	if done, err := s.streamed(ctx, c, p); done {
		return err
	}
	count := int64(0)
	session, err := s.opts.Client.Upload(ctx, Upload{
		Name: p.Name, Tags: c.Tags, Size: p.Size, Method: c.Method, Keylog: c.Keylog,
		Comments: sessionComments(s.opts.Config.Comments, s.opts.Host, c, p),
		Body: func() (io.ReadCloser, error) {
			body, err := openContent(ctx, c, p, func(n int64) {
				count += n
				s.moved(n)
			})
			if err != nil || p.Size <= aheadChunk {
				return body, err
			}
			return newAhead(body), nil
		},
	})
	if err != nil {
		s.moved(-count)
		return err
	}
	return s.finish(ctx, c, p, session, s.doubt(c.ID, p.Number, false))
}

func (s *Step) moved(n int64) {
	if s.opts.OnBytes != nil && n != 0 {
		s.opts.OnBytes(n)
	}
}

// finish records the session. It does so even when the caller gives up at this
// moment: the session exists.
func (s *Step) finish(ctx context.Context, c *ledger.Capture, p *ledger.Part, session Session, doubt bool) error {
	if err := s.opts.Ledger.FinishPart(context.WithoutCancel(ctx), c.ID, p.Number, session.ID, doubt); err != nil {
		return err
	}
	p.SessionID, p.PossibleDuplicate = session.ID, doubt
	s.opts.Log.Info().Int64("capture", c.ID).Int("part", p.Number).Int("parts", p.Of).Str("name", p.Name).
		Str("session", session.ID).Bool("possible_duplicate", doubt).Msg("uploaded")
	return nil
}

// doubt remembers that a part may be uploaded already, or forgets it and returns
// what was remembered.
func (s *Step) doubt(capture int64, number int, set bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := part{capture, number}
	was := s.doubts[key]
	if set {
		s.doubts[key] = true
	} else {
		delete(s.doubts, key)
	}
	return was
}

func (s *Step) result(c *ledger.Capture, parts []ledger.Part) ledger.Result {
	first := parts[0]
	r := ledger.Result{SessionName: first.Name, SessionID: first.SessionID, SessionURL: s.opts.Client.Link(first.SessionID)}
	if len(parts) > 1 {
		r.Note = fmt.Sprintf("uploaded in %d parts", len(parts))
	}
	for _, p := range parts {
		r.PossibleDuplicate = r.PossibleDuplicate || p.PossibleDuplicate
	}
	return r
}

package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"capagent/enrich/device"
	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/service/lookup"
	"capagent/upload"
)

// maxAnnotations is how many packets of a session are annotated, those of the worst
// findings: each is a request.
const maxAnnotations = 20

// maxThreats is how many bytes of a session's comment tell of findings.
const maxThreats = 1000

// Explains says that captures are looked up before they are sent.
func (a *Agent) Explains() bool { return a.LooksUp() || len(a.Namers) > 0 }

// LooksUp says that indicators are looked up.
func (a *Agent) LooksUp() bool { return a.Lookup != nil }

// Explanation is what looking a capture up has come to.
type Explanation struct {
	lookup.Result
	Devices []device.Device
	Unnamed error // why a namer did not answer
}

// Explain looks up what a capture holds, until max_delay after since, and records what
// it came to: its findings and machines, and the tags and lines of its session. That
// a source did not answer is no error: the result says so, and Late asks again.
func (a *Agent) Explain(ctx context.Context, c ledger.Capture, what Contents, since time.Time) (e Explanation, err error) {
	deadline := since.Add(a.Config.Policy.MaxDelay.Std())
	var naming sync.WaitGroup
	naming.Go(func() {
		soon, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		e.Devices, e.Unnamed = a.devices(soon, what)
		if !strings.HasPrefix(c.Source, CapturePrefix) && c.Source != SourceTrigger {
			e.Devices = slices.DeleteFunc(e.Devices, elsewhere)
		}
	})
	if a.LooksUp() {
		e.Result = a.Lookup.Indicators(ctx, deadline, what.Indicators)
	}
	naming.Wait()
	if ctx.Err() != nil {
		return e, ctx.Err()
	}
	return e, a.explained(ctx, c, e)
}

// explained records what looking up has come to.
func (a *Agent) explained(ctx context.Context, c ledger.Capture, r Explanation) error {
	rows := make([]ledger.Finding, 0, len(r.Findings))
	shown := r.Findings[:min(len(r.Findings), ledger.MaxFindings)]
	var frames []int64
	for _, f := range shown {
		frames = append(frames, f.Indicator.First.Frame)
	}
	whose := a.whose(ctx, c, frames, r.Devices)
	for i := range shown {
		f := &shown[i]
		f.Machines = labels(whose[f.Indicator.First.Frame])
		row, err := findingRow(*f)
		if err != nil {
			return err
		}
		rows = append(rows, row)
	}
	if r.Missing > 0 && c.Findings > 0 {
		// What was found before stays while nobody says otherwise.
		before, err := a.Ledger.Findings(ctx, c.ID)
		if err != nil {
			return err
		}
		for _, old := range before {
			if len(rows) < ledger.MaxFindings && !slices.ContainsFunc(rows, func(f ledger.Finding) bool { return f.VerdictKey == old.VerdictKey }) {
				rows = append(rows, old)
			}
		}
	}
	if err := a.deliverFlagged(ctx, c.ID, len(rows)); err != nil {
		return err
	}
	if len(rows) > 0 || c.Findings > 0 {
		if err := a.Ledger.SetFindings(ctx, c.ID, rows); err != nil {
			return err
		}
	}
	told := ledger.Explained{Tags: slices.Clone(c.Tags), Threats: c.Threats, Machines: c.Machines, Unanswered: r.Missing}
	var err error
	if told.Devices, err = encodeDevices(r.Devices); err == nil && len(r.Devices) == 0 {
		told.Devices, err = a.Ledger.Devices(ctx, c.ID)
	}
	if err != nil {
		return err
	}
	if c.SessionID == "" { // else it can't be changed any more
		if len(r.Findings) > 0 {
			told.Tags = addTags(told.Tags, verdict.Tags(r.Findings, upload.MaxTags))
			told.Threats = verdict.Summary(r.Findings, maxThreats)
		}
		if len(r.Devices) > 0 {
			told.Tags = addTags(told.Tags, device.Tags(r.Devices, maxMachineTags))
			told.Machines = device.Summary(r.Devices, maxMachines, a.macText)
		}
	}
	return a.Ledger.Explain(ctx, c.ID, told)
}

// addTags adds those for which there is room, each once: a capture may be looked up
// more than once.
func addTags(tags, more []string) []string {
	for _, tag := range more {
		if len(tags) < upload.MaxTags && !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return tags
}

// findingData is what the ledger keeps of a finding besides its columns.
type findingData struct {
	First    time.Time         `json:"first"`
	Last     time.Time         `json:"last"`
	Role     uint64            `json:"role"`
	Filter   string            `json:"filter"` // Wireshark's display filter
	Note     string            `json:"note"`   // for the frame
	Verdicts []verdict.Verdict `json:"verdicts"`
	Machines []string          `json:"machines,omitempty"`
}

func findingRow(f verdict.Finding) (ledger.Finding, error) {
	i, w := f.Indicator, f.Worst()
	data, err := json.Marshal(findingData{i.FirstTime(), i.LastTime(), uint64(i.Role), verdict.DisplayFilter(i), verdict.Annotation(f), f.Verdicts, f.Machines})
	return ledger.Finding{
		VerdictKey: ledger.VerdictKey{Type: i.Type.String(), Value: i.Value},
		Frame:      i.First.Frame, Count: i.Count, Rating: w.Rating, Confidence: w.Confidence, Data: data,
	}, err
}

// Late asks again of what a capture holds, without a deadline of its own, and
// releases the capture if that was what it waited for.
func (a *Agent) Late(ctx context.Context, id int64) (lookup.Result, error) {
	c, err := a.Ledger.Get(ctx, id)
	if err != nil {
		return lookup.Result{}, err
	}
	what, err := a.Contents(ctx, c)
	if err != nil {
		return lookup.Result{}, err
	}
	result := a.Lookup.Indicators(ctx, time.Time{}, what.Indicators)
	if ctx.Err() != nil {
		return result, ctx.Err()
	}
	known, err := a.Ledger.Devices(ctx, id)
	if err != nil {
		return result, err
	}
	devices, err := device.Decode(known)
	if err != nil {
		return result, fmt.Errorf("machines of capture %d: %w", id, err)
	}
	if err := a.explained(ctx, c, Explanation{Result: result, Devices: devices}); err != nil {
		return result, err
	}
	if c.State == ledger.Held && c.Reason == FlaggedReason && len(result.Findings) > 0 {
		return result, a.Ledger.SetState(ctx, id, ledger.Queued, "")
	}
	return result, nil
}

// Contents is what the ledger knows of a capture. Where it knows no indicators, the
// agent may have been killed between recording the capture and what it holds: then its
// file is read again, if it is still the same. So it is for machines, which only the
// file tells of, before the capture has a session.
func (a *Agent) Contents(ctx context.Context, c ledger.Capture) (Contents, error) {
	sightings, err := a.Ledger.Sightings(ctx, c.ID)
	names := len(a.Namers) > 0 && c.SessionID == ""
	if err != nil || len(sightings) > 0 && !names || c.Packets == 0 {
		return Contents{Indicators: fromSightings(sightings)}, err
	}
	looked, err := a.look(ctx, c.Path)
	if ctx.Err() != nil {
		return Contents{}, ctx.Err()
	}
	if err != nil || looked.SHA256 != c.SHA256 {
		return Contents{Indicators: fromSightings(sightings)}, nil // it is gone, or another one: nothing more can be said of it
	}
	if len(sightings) == 0 {
		Sight(ctx, a.Ledger, a.log, c.ID, looked.Sightings())
	}
	return looked.Contents(), nil
}

func fromSightings(sightings []ledger.Sighting) []indicator.Indicator {
	list := make([]indicator.Indicator, 0, len(sightings))
	for _, s := range sightings {
		if t, ok := indicator.ParseType(s.Type); ok {
			list = append(list, indicator.Indicator{
				Type: t, Value: s.Value, Role: indicator.Role(s.Role), Count: s.Count,
				First: indicator.At{Frame: s.FirstFrame, Time: s.First.UnixNano()}, Last: s.Last.UnixNano(),
			})
		}
	}
	return list
}

// ExplainNow looks a capture up that a person handed over, and queues it whatever was
// found.
func (a *Agent) ExplainNow(ctx context.Context, c ledger.Capture, list []ledger.Sighting, machines *device.Capture) (ledger.Capture, error) {
	return a.now(ctx, c, Contents{fromSightings(list), machines})
}

// Decide says what becomes of a capture that was looked up.
func (a *Agent) Decide(ctx context.Context, id int64, findings int) error {
	state, reason := a.Config.Policy.Decide(findings)
	return a.Ledger.SetState(ctx, id, state, reason)
}

// Annotation is the act of putting a finding onto its packet.
const Annotation = "annotation"

// Annotate puts the findings of a capture onto the packets of its session, each
// once. An error of kind Retry or Pause says that some are left for later.
func (a *Agent) Annotate(ctx context.Context, id int64) error {
	c, err := a.Ledger.Get(ctx, id)
	if err != nil {
		return err
	}
	findings, err := a.Ledger.Findings(ctx, id)
	if err != nil || len(findings) == 0 {
		return err
	}
	parts, err := Parts(ctx, a.Ledger, c)
	if err != nil {
		return err
	}
	n := annotator{a: a, notes: map[string][]upload.Annotation{}}
	for i, f := range findings {
		state := f.Acts[Annotation].State
		if state == ledger.ActDone || state == ledger.ActFailed {
			continue
		}
		session, frame := place(c, parts, f.Frame)
		if !a.Config.CloudShark.Annotate || i >= maxAnnotations || session == "" || frame == 0 { // a deep search names no frame
			if err := n.give(ctx, f.ID); err != nil {
				return err
			}
			continue
		}
		if err := n.one(ctx, f, session, frame); err != nil {
			return err
		}
	}
	return nil
}

// place returns the session that holds a frame of a capture, and its number there.
func place(c ledger.Capture, parts []ledger.Part, frame int64) (session string, in int64) {
	if len(parts) < 2 {
		return c.SessionID, frame
	}
	for _, p := range parts {
		if frame <= p.Packets {
			return p.SessionID, frame
		}
		frame -= p.Packets
	}
	return "", 0
}

type annotator struct {
	a     *Agent
	notes map[string][]upload.Annotation // by session, as they are there
}

// give says of a finding that it gets no annotation: there are more than are wanted,
// or nobody knows its frame.
func (n *annotator) give(ctx context.Context, finding int64) error {
	if _, err := n.a.Ledger.BeginAct(ctx, finding, Annotation); err != nil {
		return err
	}
	return n.a.Ledger.EndAct(ctx, finding, Annotation, ledger.ActFailed, "there is no annotation for it")
}

func (n *annotator) one(ctx context.Context, f ledger.Finding, session string, frame int64) error {
	var data findingData
	if err := json.Unmarshal(f.Data, &data); err != nil {
		return fmt.Errorf("finding %d: %w", f.ID, err)
	}
	notes, known := n.notes[session]
	if !known {
		var err error
		if notes, err = n.a.Client.Annotations(ctx, session); err != nil {
			return n.ended(ctx, f.ID, err)
		}
		n.notes[session] = notes
	}
	text := data.Note
	at := slices.IndexFunc(notes, func(o upload.Annotation) bool { return o.Frame == frame })
	if at >= 0 {
		// A packet has one text: what is there stays, whoever wrote it.
		if strings.Contains(notes[at].Text, text) {
			return n.ended(ctx, f.ID, nil)
		}
		text = notes[at].Text + " | " + text
	}
	if len(text) > upload.MaxAnnotation {
		return n.give(ctx, f.ID)
	}
	if _, err := n.a.Ledger.BeginAct(ctx, f.ID, Annotation); err != nil {
		return err
	}
	err := n.a.Client.Annotate(ctx, session, upload.Annotation{Frame: frame, Text: text})
	if err == nil {
		if at >= 0 {
			notes[at].Text = text
		} else {
			n.notes[session] = append(notes, upload.Annotation{Frame: frame, Text: text})
		}
	}
	return n.ended(ctx, f.ID, err)
}

// ended records how the act for a finding went. An error that will not change is
// recorded, and is none for the caller.
func (n *annotator) ended(ctx context.Context, finding int64, err error) error {
	if _, begun := n.a.Ledger.BeginAct(ctx, finding, Annotation); begun != nil {
		return begun
	}
	switch f := failure.As(err); {
	case err == nil:
		return n.a.Ledger.EndAct(ctx, finding, Annotation, ledger.ActDone, "")
	case f.Kind == failure.Permanent || f.Class == upload.ClassNoPermission:
		return n.a.Ledger.EndAct(ctx, finding, Annotation, ledger.ActFailed, f.Error())
	default:
		if e := n.a.Ledger.EndAct(ctx, finding, Annotation, ledger.ActPending, f.Error()); e != nil {
			return e
		}
		return err
	}
}

// now looks a capture up that a person handed over, and queues it whatever was
// found.
func (a *Agent) now(ctx context.Context, c ledger.Capture, what Contents) (ledger.Capture, error) {
	a.refresh(ctx)
	result, err := a.Explain(ctx, c, what, time.Now())
	if err != nil {
		return c, err
	}
	if result.Unnamed != nil {
		a.unnamed.Do(func() {
			a.log.Warn().Err(result.Unnamed).Str("class", "machines").Msg("not all machines have their names; the upload goes on")
		})
	}
	if result.Err != nil {
		a.log.Warn().Err(result.Err).Str("class", "lookup").Int("unanswered", result.Missing).Msg("not all indicators were answered for; the upload goes on")
	}
	err = a.Ledger.SetState(ctx, c.ID, ledger.Queued, "")
	var moved *ledger.TransitionError
	if err != nil && !errors.As(err, &moved) && !errors.Is(err, ledger.ErrBusy) { // else another process was faster
		return c, err
	}
	return a.Ledger.Get(ctx, c.ID)
}

// Annotated annotates what was sent just now. What does not work is told, and left
// to the agent, or to the next time.
func (a *Agent) Annotated(ctx context.Context, c ledger.Capture) {
	if c.Findings == 0 {
		return
	}
	if err := a.Annotate(ctx, c.ID); err != nil && ctx.Err() == nil {
		a.log.Warn().Err(err).Str("class", "annotate").Int64("capture", c.ID).Msg("findings are not on the packets of their session")
	}
	if a.Reports == nil {
		return
	}
	if err := a.Report(ctx, c.ID); err != nil && ctx.Err() == nil {
		a.log.Warn().Err(err).Str("class", "report").Int64("capture", c.ID).Msg("what was found is not written back")
	}
}

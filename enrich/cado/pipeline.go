package cado

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"time"
)

// State is how far a pipeline is.
type State string

// The states, in both versions' pipelines (contracts/cado.md 5.3).
const (
	Queued    State = "queued"
	Running   State = "running"
	Done      State = "done"
	Failed    State = "failed"
	Cancelled State = "cancelled"
)

// Ended says whether nothing more will come.
func (s State) Ended() bool { return s == Done || s == Failed || s == Cancelled }

// Types of pipelines that concern us.
const (
	typeAcquisition = "acquisition"
	typeProcessing  = "processing"
)

// Pipeline is one piece of the platform's work.
type Pipeline struct {
	ID         string    `json:"id"`
	Type       string    `json:"type,omitempty"`
	Name       string    `json:"name,omitempty"`
	Project    string    `json:"project_id,omitempty"`
	EvidenceID string    `json:"evidence_id,omitempty"`
	Evidence   string    `json:"evidence,omitempty"`
	Trigger    string    `json:"triggered_by,omitempty"` // the pipeline that this one follows
	Created    time.Time `json:"created,omitzero"`
	State      State     `json:"state"`
	Text       string    `json:"text,omitempty"` // the platform's own, of what went wrong
	Done       int       `json:"done"`           // subtasks
	Total      int       `json:"total"`
}

// rawPipeline is either version's form.
type rawPipeline struct {
	PipelineID   text `json:"pipeline_id"`
	ID           text `json:"id"`
	PipelineType text `json:"pipeline_type"`
	Name         text `json:"name"`
	ProjectID    text `json:"project_id"`
	EvidenceID   text `json:"evidence_id"`
	EvidenceName text `json:"evidence_name"`
	Trigger      text `json:"triggering_pipeline_id"`
	Created      date `json:"created"`
	Terminated   flag `json:"terminated"`
	IsTerminated flag `json:"is_terminated"`
	Aborted      flag `json:"aborted"`
	Status       text `json:"status"`
	Pipeline     struct {
		ID   text `json:"id"`
		Type text `json:"type"`
	} `json:"pipeline"`
	Project struct {
		ID text `json:"id"`
	} `json:"project"`
	Evidence struct {
		ID   text `json:"id"`
		Name text `json:"name"`
	} `json:"evidence"`
	Summary struct {
		Total     number `json:"total"`
		Success   number `json:"success"`
		Failure   number `json:"failure"`
		Cancelled number `json:"cancelled"`
		Running   number `json:"running"`
	} `json:"summary"`
	Subtasks json.RawMessage `json:"subtasks"`
}

const maxSubtasks = 10_000

func decodePipeline(raw json.RawMessage) Pipeline {
	var v rawPipeline
	_ = json.Unmarshal(raw, &v) // a wrong type is an unset field
	p := Pipeline{
		ID:         first(v.PipelineID.id(), v.Pipeline.ID.id(), v.ID.id()),
		Type:       strings.ToLower(line(first(string(v.PipelineType), string(v.Pipeline.Type)), maxName)),
		Name:       line(string(v.Name), maxName),
		Project:    first(v.ProjectID.id(), v.Project.ID.id()),
		EvidenceID: first(v.Evidence.ID.id(), v.EvidenceID.id()),
		Evidence:   line(first(string(v.Evidence.Name), string(v.EvidenceName)), maxObjectKey),
		Trigger:    v.Trigger.id(),
		Created:    v.Created.Time,
		Done:       int(v.Summary.Success), Total: int(v.Summary.Total),
	}
	tasks := decodeSubtasks(v.Subtasks)
	if p.Total == 0 {
		p.Total, p.Done = tasks.total, tasks.success
		v.Summary.Failure, v.Summary.Cancelled, v.Summary.Running = number(tasks.failure), number(tasks.cancelled), number(tasks.running)
	}
	p.State = v.state(p.Done, p.Total)
	if p.State == Failed || p.State == Cancelled {
		p.Text = tasks.text()
		if p.Text == "" && p.State == Failed && p.Total == 0 {
			p.Text = "it ended and does not say how"
		}
	}
	return p
}

// state is v3's status where there is one; in v2 a pipeline is over when it is
// terminated, and its summary says how.
func (v *rawPipeline) state(done, total int) State {
	switch strings.ToLower(string(v.Status)) {
	case "complete", "completed", "success":
		return Done
	case "failed", "failure":
		return Failed
	case "cancelled", "canceled":
		return Cancelled
	case "queued", "pending":
		if !bool(v.Terminated) && !bool(v.IsTerminated) && !bool(v.Aborted) {
			return Queued
		}
	}
	over := bool(v.Terminated) || bool(v.IsTerminated)
	switch {
	case !over && bool(v.Aborted):
		return Running // it is being ended
	case !over && done == 0 && v.Summary.Running == 0 && v.Status == "":
		return Queued
	case !over:
		return Running
	case v.Summary.Failure > 0:
		return Failed
	case bool(v.Aborted), v.Summary.Cancelled > 0:
		return Cancelled
	case total > 0 && done >= total:
		return Done
	default:
		return Failed
	}
}

type subtasks struct {
	total, success, failure, cancelled, running int
	failed                                      []string
}

func decodeSubtasks(raw json.RawMessage) subtasks {
	var s subtasks
	_ = each(raw, maxSubtasks, func(one json.RawMessage) error {
		var t struct {
			Name     text            `json:"name"`
			State    text            `json:"state"`
			Progress json.RawMessage `json:"progress_text"`
		}
		_ = json.Unmarshal(one, &t)
		s.total++
		switch strings.ToUpper(string(t.State)) {
		case "SUCCESS":
			s.success++
		case "RUNNING":
			s.running++
		case "CANCELLED":
			s.cancelled++
		case "FAILURE":
			if s.failure++; len(s.failed) < 3 {
				s.failed = append(s.failed, failedTask(string(t.Name), t.Progress))
			}
		}
		return nil
	})
	return s
}

// failedTask is the name of a subtask and the last that it said.
func failedTask(name string, progress json.RawMessage) string {
	var last text
	_ = each(progress, maxSubtasks, func(one json.RawMessage) error { return last.UnmarshalJSON(one) })
	if last == "" && len(progress) > 0 && progress[0] == '"' {
		_ = last.UnmarshalJSON(progress)
	}
	name, said := line(name, maxName), line(string(last), maxText)
	if name != "" && said != "" {
		name += ": "
	}
	return name + said
}

func (s subtasks) text() string { return line(strings.Join(s.failed, "; "), maxText) }

// Pipeline asks how far one is. project may be "".
func (c *Client) Pipeline(ctx context.Context, id, project string) (Pipeline, error) {
	r := request{path: "/pipelines/" + url.PathEscape(id)}
	if !c.v3 {
		r = request{path: "/tasks/pipelines", query: url.Values{"pipeline_id": {id}}}
		if project != "" {
			r.query.Set("project_id", project)
		}
	}
	e, err := c.call(ctx, r)
	if err != nil {
		return Pipeline{}, about("ask for pipeline "+id, err)
	}
	var found Pipeline
	// One object is documented for v2, a list was seen, too.
	list, n := listOf(e.Data, "pipelines"), 0
	if each(list, maxPages*perPage, func(one json.RawMessage) error {
		n++
		if p := decodePipeline(one); p.ID == id {
			found = p
		}
		return nil
	}) != nil {
		found = decodePipeline(list)
	} else if n == 0 {
		return Pipeline{}, failf(ClassNotFound, "ask for pipeline %s: there is none", id)
	}
	if found.ID != id {
		return Pipeline{}, failf(ClassBadReply, "ask for pipeline %s: it is not in the answer", id)
	}
	return found, nil
}

// Pipelines lists a project's, the newest first where the platform keeps that order.
func (c *Client) Pipelines(ctx context.Context, project string) ([]Pipeline, error) {
	return c.pipelines(ctx, url.Values{"project_id": {project}})
}

func (c *Client) pipelines(ctx context.Context, query url.Values) ([]Pipeline, error) {
	var all []Pipeline
	take := func(raw json.RawMessage) error {
		if p := decodePipeline(raw); p.ID != "" {
			all = append(all, p)
		}
		return nil
	}
	var err error
	if c.v3 {
		err = c.pages(ctx, request{path: "/pipelines", query: query}, take)
	} else {
		var e envelope
		if e, err = c.call(ctx, request{path: "/tasks/pipelines", query: query}); err == nil {
			list := listOf(e.Data, "pipelines")
			if err = each(list, maxPages*perPage, take); err != nil {
				if p := decodePipeline(list); p.ID != "" { // one object
					all, err = []Pipeline{p}, nil
				} else {
					err = fail(ClassBadReply, err)
				}
			}
		}
	}
	return all, about("list pipelines", err)
}

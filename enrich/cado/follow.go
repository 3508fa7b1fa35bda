package cado

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"
	"reflect"
)

const (
	noPipeline   = "the platform has the file and began no pipeline"
	noProcessing = "the platform began no processing"
)

// follow asks once how far the pipelines are.
func (t *task) follow(ctx context.Context) error {
	before := *t.p
	var running string
	for _, item := range t.items() {
		if item.over() {
			continue
		}
		text, err := t.look(ctx, item)
		if err != nil {
			return errors.Join(err, t.changed(before))
		}
		if running == "" && !item.over() {
			running = text
		}
	}
	if running != "" {
		if err := t.changed(before); err != nil {
			return err
		}
		return t.wait(running)
	}
	t.end()
	return t.saved()
}

// changed saves what is known now, if it is something else.
func (t *task) changed(before Progress) error {
	if reflect.DeepEqual(*t.p, before) {
		return nil
	}
	return t.saved()
}

// look asks how far the pipelines of one file are, and says what is waited for.
func (t *task) look(ctx context.Context, item *Item) (string, error) {
	if item.Pipeline == "" {
		return "the platform has the file and may begin a pipeline", nil
	}
	if item.Processing == "" {
		p, err := t.c.Pipeline(ctx, item.Pipeline, t.p.Project.ID)
		if isClass(err, ClassNotFound) {
			item.State, item.Text = Failed, "the platform does not know pipeline "+item.Pipeline+" any more"
			return "", nil
		}
		if err != nil {
			return "", err
		}
		item.State = p.State
		switch {
		case p.State == Failed || p.State == Cancelled:
			item.Text = p.says()
			return "", nil
		case p.State != Done:
			return p.says(), nil
		case p.Type == typeProcessing:
			item.State = Stored
			return "", nil
		}
		item.State = Running
		if err := t.processing(ctx, item, p); err != nil || item.Processing == "" {
			return "pipeline " + p.ID + " has ended; its processing may begin", err
		}
	}
	p, err := t.c.Pipeline(ctx, item.Processing, t.p.Project.ID)
	if err != nil {
		return "", err
	}
	item.State = p.State
	switch p.State {
	case Done:
		item.State = Stored
	case Failed, Cancelled:
		item.Text = "stored as evidence, but " + p.says()
	}
	return p.says(), nil
}

// says is how far a pipeline is, in a line.
func (p *Pipeline) says() string {
	s := "pipeline " + p.ID
	if p.Type == typeProcessing {
		s = "processing, " + s + ","
	}
	switch {
	case p.State == Failed && p.Text != "":
		return s + " failed: " + p.Text
	case p.State == Failed || p.State == Cancelled || p.State == Queued || p.Total == 0:
		return s + " is " + string(p.State)
	default:
		return fmt.Sprintf("%s is %s: %d of %d done", s, p.State, p.Done, p.Total)
	}
}

// processing looks for the pipeline that follows an import: that is a pipeline of
// its own (contracts/cado.md 5.3). None may come.
func (t *task) processing(ctx context.Context, item *Item, p Pipeline) error {
	query := url.Values{"project_id": {t.p.Project.ID}}
	if t.c.v3 {
		query.Set("triggering_pipeline_id", p.ID)
	}
	all, err := t.c.pipelines(ctx, query)
	if err != nil {
		return err
	}
	for _, next := range all {
		follows := next.Trigger == p.ID || next.Trigger == "" && next.Type == typeProcessing && p.EvidenceID != "" && next.EvidenceID == p.EvidenceID
		if follows && next.ID != p.ID && (next.Project == "" || next.Project == t.p.Project.ID) {
			item.Processing = next.ID
			return nil
		}
	}
	switch {
	case item.Imported.IsZero():
		item.Imported = t.c.now().UTC()
	case t.since(item.Imported) >= followPolls*t.poll:
		item.State, item.Text = Stored, noProcessing
	}
	return nil
}

// end sums the items up.
func (t *task) end() {
	t.p.State, t.p.Text, t.p.Ended = Stored, "stored as evidence", t.c.now().UTC()
	for _, item := range t.items() {
		switch {
		case item.State == Failed || item.State == Cancelled:
			t.p.State, t.p.Text = item.State, path.Base(item.Key)+": "+item.Text
			return
		case item.Text != "" && item == &t.p.Capture:
			t.p.Text += "; " + item.Text
		}
	}
}

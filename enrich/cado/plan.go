package cado

import (
	"context"
	"fmt"

	"github.com/dustin/go-humanize"

	"capagent/internal/quote"
)

// Plan says in lines what Import would do. It only reads.
func (i *Importer) Plan(ctx context.Context, e Evidence) ([]string, error) {
	what := "plan the import of " + quote.Text(e.Name)
	if err := e.check(); err != nil {
		return nil, about(what, fail(ClassBadRequest, err))
	}
	found, err := i.c.Projects(ctx, e.Project)
	if err != nil {
		return nil, about(what, err)
	}
	name := quote.Path(e.Project)
	lines := []string{fmt.Sprintf("project %s would be created", name)}
	if len(found) > 0 {
		lines = []string{fmt.Sprintf("project %s is there (%s)", name, found[0].ID)}
	}
	log := Log(e.Lines)
	t := &task{Importer: i, e: &e, p: &Progress{Project: head(found), Capture: Item{Key: e.Key}}, log: log, save: func(Progress) error { return nil }}
	if len(log) > 0 {
		t.p.Log.Key = e.logKey(log)
	}
	for _, item := range t.items() {
		size := uint64(len(log))
		if item == &t.p.Capture {
			size = uint64(max(e.Size, 0))
		}
		more, err := t.planItem(ctx, item, humanize.Bytes(size))
		if err != nil {
			return nil, about(what, err)
		}
		lines = append(lines, more...)
	}
	return lines, nil
}

func (t *task) planItem(ctx context.Context, item *Item, size string) ([]string, error) {
	place := "the platform's store, as " + quote.Path(item.Key)
	if t.store != nil {
		place = t.store.Place(item.Key)
		there := false
		if item == &t.p.Capture {
			var err error
			if there, err = t.store.Has(ctx, item.Key, t.e.Size, t.e.SHA256); err != nil {
				return nil, err
			}
		}
		if there {
			place += " (is there)"
		}
	}
	if t.p.Project.ID != "" {
		done, _, err := t.find(ctx, item)
		if err != nil {
			return nil, err
		}
		if done {
			return []string{fmt.Sprintf("%s is imported (pipeline %s)", place, item.Pipeline)}, nil
		}
	}
	return []string{fmt.Sprintf("%s, %s, would be uploaded and imported", place, size)}, nil
}

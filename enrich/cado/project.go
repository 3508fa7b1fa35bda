package cado

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"capagent/internal/failure"
	"capagent/internal/quote"
)

// Project is a case of the platform.
type Project struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty"`
	Status      string    `json:"status,omitempty"`
	Created     time.Time `json:"created,omitzero"`
}

// Projects lists the projects that the key's user sees. With a name only those of
// exactly that name, the oldest first.
func (c *Client) Projects(ctx context.Context, name string) ([]Project, error) {
	var all []Project
	take := func(raw json.RawMessage) error {
		p, deleted := decodeProject(raw)
		if p.ID == "" || deleted || name != "" && p.Name != name {
			return nil
		}
		all = append(all, p)
		return nil
	}
	var err error
	if c.v3 {
		r := request{path: "/projects", query: url.Values{"order_by": {"-created"}}}
		if name != "" { // how it is matched is not documented: compared again above
			r.query.Set("name", name)
		}
		err = c.pages(ctx, r, take)
	} else {
		var e envelope
		if e, err = c.call(ctx, request{path: "/projects"}); err == nil {
			if err = each(listOf(e.Data, "projects"), maxPages*perPage, take); err != nil {
				err = fail(ClassBadReply, err)
			}
		}
	}
	if err != nil {
		return nil, about("list projects", err)
	}
	if name != "" {
		slices.SortFunc(all, byAge)
	}
	return all, nil
}

// decodeProject reads either version's form.
func decodeProject(raw json.RawMessage) (p Project, deleted bool) {
	var v struct {
		ID          text `json:"id"`
		CaseName    text `json:"caseName"`  // v2
		CaseNameV3  text `json:"case_name"` // as v3 takes it
		Description text `json:"description"`
		Status      text `json:"status"`
		Deleted     flag `json:"deleted"`
		Created     date `json:"created"`
		Details     struct {
			Name        text `json:"name"`
			Description text `json:"description"`
			Status      text `json:"status"`
		} `json:"details"`
	}
	_ = json.Unmarshal(raw, &v) // a wrong type is an unset field
	p = Project{ID: v.ID.id(), Created: v.Created.Time}
	p.Name = first(string(v.Details.Name), string(v.CaseName), string(v.CaseNameV3))
	if len(p.Name) > maxName || line(p.Name, maxName) != p.Name {
		p.Name = line(p.Name, maxName) // none of ours
	}
	p.Description = line(first(string(v.Details.Description), string(v.Description)), maxText)
	p.Status = line(first(string(v.Details.Status), string(v.Status)), maxName)
	return p, bool(v.Deleted)
}

func first(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}

// byAge puts the project that everybody takes first: the one of the lowest id.
func byAge(a, b Project) int {
	x, err1 := strconv.ParseUint(a.ID, 10, 64)
	y, err2 := strconv.ParseUint(b.ID, 10, 64)
	if err1 == nil && err2 == nil {
		return cmp.Compare(x, y)
	}
	return cmp.Or(cmp.Compare(len(a.ID), len(b.ID)), cmp.Compare(a.ID, b.ID))
}

// EnsureProject finds the project of exactly that name, or creates it. Several
// agents may do so at once: whatever the platform answers to the creation, the
// projects of that name are looked at again, and all take the oldest one.
func (c *Client) EnsureProject(ctx context.Context, name string) (Project, error) {
	if name == "" || line(name, maxName) != name {
		return Project{}, failf(ClassBadRequest, "find project: no usable name")
	}
	found, err := c.Projects(ctx, name)
	if err != nil || len(found) > 0 {
		return head(found), err
	}
	what := "create project " + quote.Text(name)
	created, refused := c.createProject(ctx, name)
	if refused != nil && !isRefusal(refused) {
		return Project{}, about(what, refused)
	}
	if found, err = c.Projects(ctx, name); err != nil {
		return Project{}, err
	}
	switch {
	case len(found) > 0:
		return found[0], nil
	case refused != nil:
		return Project{}, about(what, refused)
	default: // created, and not listed yet
		return created, nil
	}
}

func head(list []Project) Project {
	if len(list) == 0 {
		return Project{}
	}
	return list[0]
}

// isRefusal says that the platform answered with 4xx, so that somebody else may
// have been first.
func isRefusal(err error) bool {
	f := failure.As(err)
	return f.Class == ClassConflict || f.Class == ClassBadRequest || f.Class == ClassNotFound || f.Class == ClassNoPermission
}

func (c *Client) createProject(ctx context.Context, name string) (Project, error) {
	const description = "Packet captures, imported by capagent"
	body := map[string]any{"caseName": name, "description": description}
	if c.v3 {
		body = map[string]any{"case_name": name, "description": description}
	}
	e, err := c.call(ctx, request{method: http.MethodPost, path: "/projects", body: body})
	if err != nil {
		return Project{}, err
	}
	p, _ := decodeProject(e.Data)
	if p.ID == "" {
		return Project{}, fail(ClassBadReply, fmt.Errorf("the platform gives the new project no id"))
	}
	p.Name = name
	return p, nil
}

// listOf returns the list in raw: raw itself, or the one under that key.
func listOf(raw json.RawMessage, key string) json.RawMessage {
	var o map[string]json.RawMessage
	if json.Unmarshal(raw, &o) == nil {
		if inner, ok := o[key]; ok {
			return inner
		}
	}
	return raw
}

package threatconnect

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
)

// branchesV2 are the path segments of our types.
var branchesV2 = map[string]string{
	"Address": "addresses", "Host": "hosts", "URL": "urls", typeFile: "files",
	"EmailAddress": "emailAddresses", "User Agent": "userAgents",
}

const (
	maxMembers        = 10 // of a reply's data
	maxIndicatorTypes = 1000
)

// planV2 makes jobs of queries: one each, or lists where the configuration allows.
func (c *Client) planV2(ctx context.Context, queries []verdict.Query) ([]job, error) {
	if err := c.learnBranches(ctx, queries); err != nil {
		return nil, err
	}
	var owners []string
	if c.conf.LargeBatches && !c.small.Load() {
		var err error
		if owners, err = c.askedOwners(ctx); err != nil {
			return nil, err
		}
	}
	if len(owners) == 0 || len(owners) > maxListOwners {
		return c.singles(queries), nil
	}
	if ok, err := c.listsWork(ctx, owners); err != nil || !ok {
		return c.singles(queries), err
	}
	var jobs []job
	open := map[string]*listV2{}
	for _, q := range queries {
		name := c.typeName(q.Type)
		if strings.EqualFold(name, typeFile) || strings.ContainsAny(q.Value, ",=<>^") {
			jobs = append(jobs, c.single(q)) // a file's summary is its digests joined; the rest would be operators
			continue
		}
		if l := open[name]; l != nil && l.add(q) {
			continue
		}
		l := &listV2{client: c, name: name, owners: owners}
		l.add(q)
		open[name] = l
		jobs = append(jobs, l)
	}
	return jobs, nil
}

func (c *Client) singles(queries []verdict.Query) []job {
	jobs := make([]job, len(queries))
	for i, q := range queries {
		jobs[i] = c.single(q)
	}
	return jobs
}

// learnBranches asks once where the custom types are, when a query has one.
func (c *Client) learnBranches(ctx context.Context, queries []verdict.Query) error {
	c.mu.Lock()
	known := c.branches != nil
	c.mu.Unlock()
	if known || !slices.ContainsFunc(queries, func(q verdict.Query) bool { return branchesV2[c.typeName(q.Type)] == "" }) {
		return nil
	}
	list, err := c.callV2(ctx, request{path: "/v2/types/indicatorTypes"})
	if err != nil {
		return err
	}
	branches := map[string]string{}
	err = each(list, maxIndicatorTypes, func(one json.RawMessage) error {
		var t struct {
			Name   text `json:"name"`
			Branch text `json:"apiBranch"`
		}
		if err := json.Unmarshal(one, &t); err != nil {
			return errList
		}
		branches[strings.ToLower(string(t.Name))] = string(t.Branch)
		return nil
	})
	if err != nil {
		return fail(ClassBadReply, err)
	}
	c.mu.Lock()
	c.branches = branches
	c.mu.Unlock()
	return nil
}

// branch is the path segment of a type, "" when there is none.
func (c *Client) branch(name string) string {
	if b := branchesV2[name]; b != "" {
		return b
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.branches[strings.ToLower(name)]
}

// entity returns what a reply of API v2 is about: {"resultCount": 1, "address": X}.
// An empty list may be left out.
func entity(data json.RawMessage) (json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fail(ClassBadReply, errData)
	}
	for range maxMembers {
		if t, err := d.Token(); err != nil || t == json.Delim('}') {
			return nil, nil
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			break
		}
		if value[0] == '{' || value[0] == '[' {
			return value, nil
		}
	}
	return nil, fail(ClassBadReply, errData)
}

// callV2 sends r and returns what the reply is about.
func (c *Client) callV2(ctx context.Context, r request) (json.RawMessage, error) {
	e, err := c.call(ctx, r)
	if err != nil {
		return nil, err
	}
	return entity(e.Data)
}

// singleV2 asks for one indicator.
type singleV2 struct {
	client *Client
	query  verdict.Query
}

func (c *Client) single(q verdict.Query) *singleV2 { return &singleV2{c, q} }

func (s *singleV2) do(ctx context.Context, r *run) ([]job, error) {
	c, name := s.client, s.client.typeName(s.query.Type)
	branch := c.branch(name)
	if branch == "" {
		r.answer([]verdict.Query{s.query}, nil) // there is no such type: it knows none
		return nil, nil
	}
	var found []verdict.Verdict
	for _, form := range c.forms(s.query) {
		path := "/v2/indicators/" + segment(branch) + "/" + segment(form)
		if len(path) > maxLine {
			r.refuse(s.query, fail(ClassBadQuery, errTooLong))
			return nil, nil
		}
		owners, err := c.knownTo(ctx, path)
		for _, owner := range owners {
			var v []verdict.Verdict
			if v, err = c.fromOwner(ctx, path, owner); err != nil {
				break
			}
			found = append(found, v...)
		}
		switch {
		case isClass(err, ClassBadQuery):
			r.refuse(s.query, err)
			return nil, nil
		case err != nil:
			return nil, err
		}
	}
	r.answer([]verdict.Query{s.query}, map[verdict.Query][]verdict.Verdict{s.query: found[:min(len(found), maxVerdicts)]})
	return nil, nil
}

// knownTo returns the owners that are worth asking: the only one that is
// configured, or those that say that they have the indicator.
func (c *Client) knownTo(ctx context.Context, path string) ([]string, error) {
	if len(c.conf.Owners) == 1 {
		return c.conf.Owners, nil
	}
	list, err := c.callV2(ctx, request{path: path + "/owners", mayMiss: true})
	if isClass(err, classUnknown) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all, err := ownersOf(list)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, o := range all {
		if len(c.conf.Owners) == 0 || slices.ContainsFunc(c.conf.Owners, func(name string) bool { return strings.EqualFold(name, o.Name) }) {
			names = append(names, o.Name)
		}
	}
	return names, nil
}

// fromOwner returns what one owner says: a verdict or nothing.
func (c *Client) fromOwner(ctx context.Context, path, owner string) ([]verdict.Verdict, error) {
	one, err := c.callV2(ctx, request{path: path, query: query("owner", owner, "includes", "additional"), mayMiss: true})
	if isClass(err, classUnknown) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var i item
	if len(one) == 0 || one[0] != '{' || json.Unmarshal(one, &i) != nil {
		return nil, fail(ClassBadReply, errList)
	}
	if i.Inactive {
		return nil, nil
	}
	v := i.verdict(c.base)
	if v.Owner == "" {
		v.Owner = owner
	}
	if c.conf.Groups {
		if v.Groups, err = c.groupsV2(ctx, path, owner); err != nil {
			return nil, err
		}
	}
	return []verdict.Verdict{v}, nil
}

func (c *Client) groupsV2(ctx context.Context, path, owner string) ([]verdict.Group, error) {
	list, err := c.callV2(ctx, request{path: path + "/groups", query: query("owner", owner), mayMiss: true})
	if isClass(err, classUnknown) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return groups(c.base, list), nil
}

// ownersV2 lists the owners that the account may read.
func (c *Client) ownersV2(ctx context.Context) ([]Owner, error) {
	list, err := c.callV2(ctx, request{path: "/v2/owners"})
	if err != nil {
		return nil, err
	}
	return ownersOf(list)
}

// pathsV2 are where API v2 has an indicator, in each form that it may have there.
func (c *Client) pathsV2(ctx context.Context, q verdict.Query) ([]string, error) {
	if err := c.learnBranches(ctx, []verdict.Query{q}); err != nil {
		return nil, err
	}
	branch := c.branch(c.typeName(q.Type))
	if branch == "" {
		return nil, fail(ClassBadQuery, fmt.Errorf("ThreatConnect has no type for %s", indicator.Type.String(q.Type)))
	}
	var paths []string
	for _, form := range c.forms(q) {
		paths = append(paths, "/v2/indicators/"+segment(branch)+"/"+segment(form))
	}
	return paths, nil
}

package threatconnect

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

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
	maxListOwners     = 10        // with more, lists cost more than they save
	ownersFor         = time.Hour // how long the visible owners are believed
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

// askedOwners are the configured owners, or else all that are visible.
func (c *Client) askedOwners(ctx context.Context) ([]string, error) {
	if len(c.conf.Owners) > 0 {
		return c.conf.Owners, nil
	}
	c.mu.Lock()
	visible, fresh := c.visible, c.now().Sub(c.seen) < ownersFor
	c.mu.Unlock()
	if !fresh {
		var err error
		if visible, err = c.Owners(ctx); err != nil {
			return nil, err
		}
		c.mu.Lock()
		c.visible, c.seen = visible, c.now()
		c.mu.Unlock()
	}
	names := make([]string, len(visible))
	for i, o := range visible {
		names[i] = o.Name
	}
	return names, nil
}

// listsWork finds out once whether the server joins filters by "or": one that
// joined them by "and" would say of everything that it is unknown. It asks for an
// indicator that is there, and one that is not.
func (c *Client) listsWork(ctx context.Context, owners []string) (bool, error) {
	if c.lists.Load() {
		return true, nil
	}
	const path = "/v2/indicators/hosts"
	for _, owner := range owners {
		var some item
		list, err := c.callV2(ctx, request{path: path, query: query("owner", owner, "resultLimit", "1"), mayMiss: true})
		if err == nil {
			_ = each(list, pageSize, func(raw json.RawMessage) error { return json.Unmarshal(raw, &some) })
		} else if !isClass(err, classUnknown) {
			return false, err
		}
		name, ok := indicator.Canonical(indicator.Host, string(some.HostName))
		if !ok || len(name) > maxName || strings.ContainsAny(name, ",=<>^") {
			continue // this owner has none to try it with
		}
		l := &listV2{client: c, name: "Host", owners: []string{owner}}
		l.add(verdict.Query{Type: indicator.Host, Value: "nobody-has-this.invalid"})
		l.add(verdict.Query{Type: indicator.Host, Value: name})
		found := map[verdict.Query][]verdict.Verdict{}
		err = l.ask(ctx, path, owner, found)
		if err != nil && !unfit(err) {
			return false, err
		}
		c.lists.Store(len(found) == 1)
		break
	}
	if !c.lists.Load() && c.small.CompareAndSwap(false, true) {
		c.log.Warn().Msg("ThreatConnect does not prove that it takes large batches: asking for one indicator at a time")
	}
	return c.lists.Load(), nil
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

// listV2 asks each owner for many indicators of one type.
type listV2 struct {
	client  *Client
	name    string
	owners  []string
	queries []verdict.Query
	filter  []byte // encoded
}

func (l *listV2) add(q verdict.Query) bool {
	filter := slices.Clone(l.filter)
	for _, form := range l.client.forms(q) {
		if len(filter) > 0 {
			filter = append(filter, ',')
		}
		filter = escape(append(filter, "summary%3D"...), form, inQuery)
	}
	longest := 0
	for _, o := range l.owners {
		longest = max(longest, len(escape(nil, o, inQuery)))
	}
	const rest = len("filters=&orParams=true&includes=additional&resultLimit=500&resultStart=10000&owner=")
	if len(l.queries) > 0 && len(filter)+longest+rest >= maxQuery {
		return false
	}
	l.filter, l.queries = filter, append(l.queries, q)
	return true
}

func (l *listV2) do(ctx context.Context, r *run) ([]job, error) {
	c := l.client
	branch := c.branch(l.name)
	if branch == "" || len(l.filter) > maxLine {
		return c.singles(l.queries), nil // which say what is wrong
	}
	found := map[verdict.Query][]verdict.Verdict{}
	for _, owner := range l.owners {
		err := l.ask(ctx, "/v2/indicators/"+segment(branch), owner, found)
		if unfit(err) {
			if c.small.CompareAndSwap(false, true) {
				c.log.Warn().Err(err).Msg("ThreatConnect does not take large batches: asking for one indicator at a time from now on")
			}
			return c.singles(l.queries), nil
		}
		if err != nil {
			return nil, err
		}
	}
	if c.conf.Groups { // lists don't name them; what is known is asked for again
		var known, unknown []verdict.Query
		for _, q := range l.queries {
			if len(found[q]) > 0 {
				known = append(known, q)
			} else {
				unknown = append(unknown, q)
			}
		}
		r.answer(unknown, nil)
		return c.singles(known), nil
	}
	r.answer(l.queries, found)
	return nil, nil
}

func (l *listV2) ask(ctx context.Context, path, owner string, found map[verdict.Query][]verdict.Verdict) error {
	c := l.client
	x := c.index(l.queries)
	for page := range maxPages {
		q := "filters=" + string(l.filter) + "&orParams=true&" +
			query("includes", "additional", "resultLimit", strconv.Itoa(pageSize), "resultStart", fmt.Sprint(page*pageSize), "owner", owner)
		list, err := c.callV2(ctx, request{path: path, query: q, mayMiss: true})
		if isClass(err, classUnknown) {
			return nil
		}
		if err != nil {
			return err
		}
		got, foreign := 0, 0
		err = each(list, pageSize, func(raw json.RawMessage) error {
			var i item
			if err := json.Unmarshal(raw, &i); err != nil {
				return errList
			}
			if i.OwnerName == "" && i.owner() == "" {
				i.OwnerName = text(owner)
			}
			got++
			if i.Type = ""; !c.collect(x, &i, l.name, found) {
				foreign++
			}
			return nil
		})
		if err != nil {
			return fail(ClassBadReply, err)
		}
		if foreign*2 > got {
			return fail(ClassBadReply, errNotAsked)
		}
		if got < pageSize {
			return nil
		}
	}
	return fail(ClassBadReply, errPages)
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

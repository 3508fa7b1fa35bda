package threatconnect

import (
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

const (
	maxListOwners = 10        // with more, lists cost more than they save
	ownersFor     = time.Hour // how long the visible owners are believed
)

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

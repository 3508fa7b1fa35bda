package threatconnect

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"capagent/enrich/verdict"
	"capagent/internal/failure"
)

const (
	listV3 = "/v3/indicators"
	// maxQuery is the length from which a query's encoded form counts as too long
	// (contracts/threatconnect.md 3.3).
	maxQuery = 2000
	// maxLine is how long one is that a single value may make, so that the request
	// line stays below the 8 KiB that common servers take.
	maxLine = 7 << 10
	// A large batch is in the request's body.
	largeValues = 400
	largeTQL    = 32 << 10

	pageSize = 500
	maxPages = 40 // of one batch
	// maxSplits is how often one Look parts batches that the server refuses.
	maxSplits = 24
)

// batch is one question of API v3: files, or anything else.
type batch struct {
	client  *Client
	queries []verdict.Query
	names   []string            // types
	values  map[string][]string // by type; of files by the field that holds the digest
	seen    map[string]bool
	cost    int // bytes of the question, encoded as it is sent
	count   int
	files   bool
	large   bool
	splits  *splits
}

// splits counts down what one Look may ask twice.
type splits struct{ left int }

func (c *Client) newBatch(files, large bool, s *splits) *batch {
	b := &batch{client: c, files: files, large: large, splits: s, values: map[string][]string{}, seen: map[string]bool{}}
	b.cost = b.frame()
	return b
}

// plan makes jobs of queries, in their order as far as batches allow.
func (c *Client) plan(ctx context.Context, queries []verdict.Query) ([]job, error) {
	if !c.v3 {
		return c.planV2(ctx, queries)
	}
	if err := c.checkOwners(ctx); err != nil {
		return nil, err
	}
	return c.batches(queries, c.conf.LargeBatches && !c.small.Load(), &splits{left: maxSplits}), nil
}

func (c *Client) batches(queries []verdict.Query, large bool, s *splits) []job {
	var jobs []job
	var open [2]*batch // of anything, of files
	for _, q := range queries {
		files, n := strings.EqualFold(c.typeName(q.Type), typeFile), 0
		if files {
			n = 1
		}
		if open[n] != nil && !open[n].add(q) {
			open[n] = nil
		}
		if open[n] == nil {
			open[n] = c.newBatch(files, large, s)
			jobs = append(jobs, open[n])
			open[n].add(q)
		}
	}
	return jobs
}

// add takes q in, unless the batch would become too large; the first always fits.
func (b *batch) add(q verdict.Query) bool {
	name := b.client.typeName(q.Type)
	place, cost := name, 0
	if b.files {
		place = map[int]string{32: "value1", 40: "value2", 64: "value3"}[len(q.Value)]
	}
	if _, known := b.values[place]; !known && b.files {
		cost += b.len("+or+") + b.len(place) + b.len("+in+()")
	} else if !known {
		cost += b.len(quoted(name)) + 1
	}
	var fresh []string
	for _, form := range b.client.forms(q) {
		if !b.seen[place+"|"+form] {
			fresh = append(fresh, form)
			cost += b.len(quoted(form)) + 1
		}
	}
	if len(b.queries) > 0 && !b.room(cost, len(fresh)) {
		return false
	}
	if _, known := b.values[place]; !known && !b.files {
		b.names = append(b.names, name)
	}
	for _, form := range fresh {
		b.seen[place+"|"+form] = true
	}
	b.values[place] = append(b.values[place], fresh...)
	b.queries = append(b.queries, q)
	b.cost += cost
	b.count += len(fresh)
	return true
}

// len is what text takes where the question stands.
func (b *batch) len(text string) int {
	if b.large {
		return len(text)
	}
	return len(escape(nil, text, inQuery))
}

func (b *batch) room(cost, count int) bool {
	if b.large {
		return b.count+count <= largeValues && b.cost+cost < largeTQL
	}
	return b.cost+cost < maxQuery
}

// frame is what a question takes without its values and types. Of each of their
// lists one comma is counted that is not there; they are kept in hand.
func (b *batch) frame() int {
	n := len("tql=&resultLimit=500") + b.len("typeName in () and summary in ()")
	if b.files {
		n = len("tql=&resultLimit=500") + b.len(`typeName in ("File") and ()`)
	}
	if b.client.conf.Groups {
		n += len("&fields=associatedGroups")
	}
	if owners := b.client.conf.Owners; len(owners) > 0 {
		n += b.len(" and ownerName in " + list(owners))
	}
	return n
}

func list(values []string) string {
	var b strings.Builder
	b.WriteByte('(')
	for i, v := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(quoted(v))
	}
	b.WriteByte(')')
	return b.String()
}

// tql is the question in ThreatConnect's query language.
func (b *batch) tql() string {
	var q string
	if b.files {
		var either []string
		for _, field := range []string{"value1", "value2", "value3"} {
			if len(b.values[field]) > 0 {
				either = append(either, field+" in "+list(b.values[field]))
			}
		}
		q = "typeName in " + list([]string{typeFile}) + " and (" + strings.Join(either, " or ") + ")"
	} else {
		var all []string
		for _, name := range b.names {
			all = append(all, b.values[name]...)
		}
		q = "typeName in " + list(b.names) + " and summary in " + list(all)
	}
	if len(b.client.conf.Owners) > 0 {
		q += " and ownerName in " + list(b.client.conf.Owners)
	}
	return q
}

// request is the question from that result on.
func (b *batch) request(start int) request {
	c := b.client
	if !b.large {
		pairs := []string{"tql", b.tql(), "resultLimit", strconv.Itoa(pageSize)}
		if c.conf.Groups {
			pairs = append(pairs, "fields", "associatedGroups")
		}
		if start > 0 {
			pairs = append(pairs, "resultStart", strconv.Itoa(start))
		}
		return request{path: listV3, query: query(pairs...)}
	}
	// The body belongs to a GET: contracts/threatconnect.md 3.3.
	type data struct {
		TQL    string   `json:"tql"`
		Fields []string `json:"fields,omitempty"`
		Start  int      `json:"resultStart"`
		Limit  int      `json:"resultLimit"`
	}
	d := data{TQL: b.tql(), Start: start, Limit: pageSize}
	if c.conf.Groups {
		d.Fields = []string{"associatedGroups"}
	}
	body, _ := json.Marshal(map[string]data{"data": d}) // strings and numbers: it can't fail
	return request{path: listV3, body: body}
}

var (
	errNotAsked = errors.New("the reply is about other indicators than those that were asked for")
	errTooLong  = errors.New("the value is too long to be asked for")
	errPages    = errors.New("the pages of a reply do not end")
	errElse     = errors.New("the next page is said to be somewhere else")
)

func (b *batch) do(ctx context.Context, r *run) ([]job, error) {
	if first := b.request(0); len(first.query) > maxLine {
		return b.part(r, fail(ClassBadQuery, errTooLong))
	}
	found, err := b.ask(ctx)
	switch {
	case err == nil:
		r.answer(b.queries, found)
		return nil, nil
	case b.large && unfit(err):
		if b.client.small.CompareAndSwap(false, true) {
			b.client.log.Warn().Err(err).Msg("ThreatConnect, or a proxy in between, does not take large batches: asking in small ones from now on")
		}
		return b.client.batches(b.queries, false, b.splits), nil
	case isClass(err, ClassBadQuery):
		return b.part(r, err)
	}
	return nil, err
}

// unfit says whether err may come from large batches being unknown to the server
// or to a proxy.
func unfit(err error) bool {
	return errors.Is(err, errNotAsked) || isClass(err, ClassBadQuery) || isClass(err, ClassBadReply) ||
		isClass(err, ClassBadURL) || isClass(err, ClassServerError)
}

// part makes two batches of one that the server refuses, to find the value that
// is the reason, and gives up on that one alone.
func (b *batch) part(r *run, err error) ([]job, error) {
	if len(b.queries) == 1 {
		r.refuse(b.queries[0], err)
		return nil, nil
	}
	r.mu.Lock()
	left := b.splits.left
	b.splits.left--
	r.mu.Unlock()
	if left <= 0 {
		f := *failure.As(err)
		f.Kind = failure.Retry // it is not about single values
		return nil, &f
	}
	half := len(b.queries) / 2
	return append(b.client.batches(b.queries[:half], b.large, b.splits),
		b.client.batches(b.queries[half:], b.large, b.splits)...), nil
}

// ask collects the verdicts of all pages.
func (b *batch) ask(ctx context.Context) (map[verdict.Query][]verdict.Verdict, error) {
	c := b.client
	x := c.index(b.queries)
	found := map[verdict.Query][]verdict.Verdict{}
	req := b.request(0)
	for page, total := 0, 0; page < maxPages; page++ {
		e, err := c.call(ctx, req)
		if err != nil {
			return nil, err
		}
		if len(e.Data) == 0 {
			return nil, fail(ClassBadReply, errData)
		}
		got, foreign := 0, 0
		err = each(e.Data, pageSize, func(raw json.RawMessage) error {
			var i item
			if err := json.Unmarshal(raw, &i); err != nil {
				return errList
			}
			got++
			if !c.collect(x, &i, "", found) {
				foreign++
			}
			return nil
		})
		if err != nil {
			return nil, fail(ClassBadReply, err)
		}
		if b.large && foreign*2 > got {
			return nil, fail(ClassBadReply, errNotAsked) // the question was lost on the way
		}
		total += got
		if e.Next == "" || got == 0 {
			return found, nil
		}
		if req, err = b.following(string(e.Next), req, total); err != nil {
			return nil, fail(ClassBadReply, err)
		}
	}
	return nil, fail(ClassBadReply, errPages)
}

// collect notes what i says, and reports whether it is about what was asked.
func (c *Client) collect(x *index, i *item, name string, found map[verdict.Query][]verdict.Verdict) bool {
	queries := x.of(i, name)
	if len(queries) == 0 || bool(i.Inactive) {
		return len(queries) > 0
	}
	v := i.verdict(c.base)
	for _, q := range queries {
		if len(found[q]) < maxVerdicts {
			found[q] = append(found[q], v)
		}
	}
	return true
}

// following is the request for the next page. Whatever host the server thinks it
// has, its path and query are signed anew and go to the configured one.
func (b *batch) following(next string, last request, total int) (request, error) {
	if b.large {
		return b.request(total), nil
	}
	if _, rest, ok := strings.Cut(next, "://"); ok {
		slash := strings.IndexByte(rest, '/')
		if slash < 0 {
			return request{}, errElse
		}
		next = rest[slash:]
	}
	if !strings.HasPrefix(next, b.client.base.path+listV3+"?") || len(next) > maxLine || next == last.uri {
		return request{}, errElse
	}
	for i := range len(next) {
		if c := next[i]; c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}#", c) >= 0 {
			return request{}, errElse
		}
	}
	return request{uri: next}, nil
}

// ownersV3 lists the owners that the account may read.
func (c *Client) ownersV3(ctx context.Context) ([]Owner, error) {
	e, err := c.call(ctx, request{path: "/v3/security/owners", query: "resultLimit=" + strconv.Itoa(maxAccountOwners)})
	if err != nil {
		return nil, err
	}
	return ownersOf(e.Data)
}

// observeV3 counts sightings of the indicator that v is about.
func (c *Client) observeV3(ctx context.Context, v verdict.Verdict, count int64) error {
	body := fmt.Sprintf(`{"observations":%d}`, count)
	_, err := c.call(ctx, request{method: http.MethodPut, path: listV3 + "/" + strconv.FormatInt(v.ID, 10), query: "fields=observations", body: []byte(body), mayMiss: true})
	return err
}

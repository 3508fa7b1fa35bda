package threatconnecttest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// listParams are the parameters of a v3 list, from the query or from the body
// (contracts/threatconnect.md 3.3).
func (c *call) listParams() (url.Values, error) {
	if len(c.body) == 0 || c.s.opts.NoBody {
		return c.query, nil
	}
	var in struct {
		Data map[string]any `json:"data"`
	}
	d := json.NewDecoder(bytes.NewReader(c.body))
	d.UseNumber()
	if err := d.Decode(&in); err != nil || in.Data == nil {
		return nil, malformed("The body is not valid JSON")
	}
	out := url.Values{}
	for key, v := range in.Data {
		switch v := v.(type) {
		case []any:
			for _, one := range v {
				out.Add(key, fmt.Sprint(one))
			}
		default:
			out.Set(key, fmt.Sprint(v))
		}
	}
	return out, nil
}

// selectIndicators returns those that the API user may see and that match.
func (c *call) selectIndicators(q *query, owner string) []*Indicator {
	st := c.s.store
	var out []*Indicator
	for _, i := range st.indicators {
		switch {
		case !st.visible(i.Owner), owner != "" && i.Owner != owner:
		case i.Inactive && (q == nil || !q.active):
		case q != nil && !q.match(st.subject(i)):
		default:
			out = append(out, i)
		}
	}
	return out
}

func (c *call) v3Indicators() (int, any, error) {
	params, err := c.listParams()
	if err != nil {
		return 0, nil, err
	}
	start, limit, err := c.window(params.Get)
	if err != nil {
		return 0, nil, err
	}
	fields, err := checkFields(params["fields"])
	if err != nil {
		return 0, nil, err
	}
	q, err := c.parseQuery(params.Get("tql"))
	if err != nil {
		return 0, nil, err
	}
	st := c.s.store
	st.mu.RLock()
	defer st.mu.RUnlock()
	owner := params.Get("owner")
	if owner != "" && !st.visible(owner) {
		return 0, nil, forbidden(msgNoOwner)
	}
	found := c.selectIndicators(q, owner)
	if err := sortIndicators(found, params.Get("sorting")); err != nil {
		return 0, nil, err
	}
	shape := c.shaper()
	data := []object{}
	if c.is("lying") && start == 0 {
		data = append(data, c.lies(shape, fields)...)
	}
	from := start
	if c.is("loop") {
		from = 0
	}
	for _, i := range cut(found, from, limit) {
		data = append(data, c.warp(shape.v3(i, fields)))
	}
	answer := object{"data": data, "status": "Success"}
	if params.Get("count") == "true" && start == 0 {
		answer["count"] = len(found)
	}
	c.links(answer, params, start, limit, len(found))
	return http.StatusOK, answer, nil
}

// parseQuery reads tql=, which may be empty.
func (c *call) parseQuery(text string) (*query, error) {
	if text == "" {
		return nil, nil
	}
	q, err := parseTQL(text)
	if err != nil {
		return nil, &apiError{status: http.StatusBadRequest, code: "0x2001", message: "TqlParseError: " + err.Error()}
	}
	c.judgeQuery(q)
	return q, nil
}

// links adds next and prev, which are absolute.
func (c *call) links(answer object, params url.Values, start, limit, total int) {
	base := strings.TrimSuffix(c.s.opts.BaseURL, "/")
	to := func(start int) string {
		v := url.Values{}
		for k, list := range params {
			v[k] = list
		}
		v.Set("resultStart", strconv.Itoa(start))
		v.Set("resultLimit", strconv.Itoa(limit))
		return base + c.s.prefix() + "/v3/indicators?" + v.Encode()
	}
	if start+limit < total {
		answer["next"] = to(start + limit)
	}
	if start > 0 {
		answer["prev"] = to(max(0, start-limit))
	}
	switch {
	case c.is("loop"):
		answer["next"] = to(start + limit)
	case c.is("nextelsewhere"):
		answer["next"] = strings.Replace(to(start+limit), base, c.fault.To, 1)
	}
}

// judgeQuery notes values that are not in the form that the server keeps: they
// match nothing here, and nobody has promised that they match elsewhere.
func (c *call) judgeQuery(q *query) {
	for keyword, values := range q.strings {
		for _, v := range values {
			switch {
			case strings.HasPrefix(keyword, "value") && hashKind(v) >= 0 && v != strings.ToUpper(v):
				c.violate("a hash that is not upper case")
			case keyword == "summary" && Canonical("Address", v) != v:
				c.violate("an address that is not in long form")
			}
		}
	}
}

func checkFields(list []string) ([]string, error) {
	for _, f := range list {
		if !slices.Contains(v3Fields, f) {
			return nil, malformed("Unknown field: " + f)
		}
	}
	return list, nil
}

func sortIndicators(list []*Indicator, by string) error {
	if by == "" {
		return nil
	}
	name, direction, _ := strings.Cut(by, " ")
	order := map[string]func(a, b *Indicator) int{
		"id":           func(a, b *Indicator) int { return cmp.Compare(a.ID, b.ID) },
		"summary":      func(a, b *Indicator) int { return cmp.Compare(a.Value, b.Value) },
		"rating":       func(a, b *Indicator) int { return cmp.Compare(a.Rating, b.Rating) },
		"dateAdded":    func(a, b *Indicator) int { return a.Added.Compare(b.Added) },
		"lastModified": func(a, b *Indicator) int { return a.Modified.Compare(b.Modified) },
	}[name]
	sign := map[string]int{"": 1, "asc": 1, "desc": -1}[strings.ToLower(direction)]
	if order == nil || sign == 0 {
		return malformed("The sorting is not valid: " + by)
	}
	slices.SortStableFunc(list, func(a, b *Indicator) int { return sign * order(a, b) })
	return nil
}

// pathIndicator finds what {id or summary} in a path names, in the organization
// unless owner= names another. Callers hold the lock.
func (c *call) pathIndicator(value string) (*Indicator, error) {
	st := c.s.store
	if id, err := strconv.ParseInt(value, 10, 64); err == nil {
		if i := st.byID[id]; i != nil && st.visible(i.Owner) {
			return i, nil
		}
		return nil, notFound()
	}
	owner := cmp.Or(c.query.Get("owner"), st.org)
	if !st.visible(owner) {
		return nil, forbidden(msgNoOwner)
	}
	for _, i := range st.indicators {
		if i.Owner == owner && i.Value == value && !i.Inactive {
			return i, nil
		}
	}
	return nil, notFound()
}

func (c *call) v3Indicator() (int, any, error) {
	fields, err := checkFields(c.query["fields"])
	if err != nil {
		return 0, nil, err
	}
	c.s.store.mu.RLock()
	defer c.s.store.mu.RUnlock()
	i, err := c.pathIndicator(c.args[0])
	if err != nil {
		return 0, nil, err
	}
	shape := c.shaper()
	if c.is("lying") {
		return http.StatusOK, object{"data": c.lies(shape, fields)[0], "status": "Success"}, nil
	}
	return http.StatusOK, object{"data": c.warp(shape.v3(i, fields)), "status": "Success"}, nil
}

func (c *call) v3Owners() (int, any, error) {
	start, limit, err := c.window(c.query.Get)
	if err != nil {
		return 0, nil, err
	}
	c.s.store.mu.RLock()
	defer c.s.store.mu.RUnlock()
	data := []object{}
	for n, o := range c.s.store.owners {
		if !o.Hidden {
			data = append(data, object{"id": c.shaper().id(o.ID, int64(n+1)), "name": o.Name, "type": o.Type})
		}
	}
	return http.StatusOK, object{"data": cut(data, start, limit), "status": "Success"}, nil
}

// AddExclusions adds an exclusion list.
func (s *Server) AddExclusions(l ExclusionList) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	l.ID = cmp.Or(l.ID, int64(len(s.store.exclusions)+1))
	l.Fixed, l.Variable = slices.Clone(l.Fixed), slices.Clone(l.Variable)
	s.store.exclusions = append(s.store.exclusions, l)
}

func (c *call) v3Exclusions() (int, any, error) {
	start, limit, err := c.window(c.query.Get)
	if err != nil {
		return 0, nil, err
	}
	c.s.store.mu.RLock()
	defer c.s.store.mu.RUnlock()
	owner := c.query.Get("owner")
	data := []object{}
	for _, l := range c.s.store.exclusions {
		if l.Owner != "" && (!c.s.store.visible(l.Owner) || owner != "" && l.Owner != owner) {
			continue
		}
		o := object{
			"id": l.ID, "name": l.Name, "active": true, "managed": l.Owner == "",
			"description": fmt.Sprintf("%d fixed, %d variable", len(l.Fixed), len(l.Variable)),
		}
		set(o, "owner", l.Owner)
		if slices.Contains(c.query["fields"], "values") {
			o["fixedValues"], o["variableValues"] = valueList(l.Fixed), valueList(l.Variable)
		}
		data = append(data, o)
	}
	return http.StatusOK, object{"data": cut(data, start, limit), "status": "Success"}, nil
}

func valueList(values []string) object {
	if len(values) == 0 {
		return object{}
	}
	var list []object
	for _, v := range values {
		list = append(list, object{"value": v})
	}
	return object{"data": list, "count": len(list)}
}

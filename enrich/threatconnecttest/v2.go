package threatconnecttest

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// param reads a query parameter; v2 does not care about the case of its name.
func (c *call) param(name string) string {
	for k, v := range c.query {
		if strings.EqualFold(k, name) && len(v) > 0 {
			return v[0]
		}
	}
	return ""
}

func (c *call) includes(what string) bool {
	for _, v := range c.query["includes"] {
		if strings.EqualFold(v, what) {
			return true
		}
	}
	return c.param("include"+what) == "true"
}

// v2Owner is the owner that owner= names, the organization without. Callers hold
// the lock.
func (c *call) v2Owner() (*Owner, error) {
	name := cmp.Or(c.param("owner"), c.s.store.org)
	if !c.s.store.visible(name) {
		return nil, forbidden(msgNoOwner)
	}
	return c.s.store.owner(name), nil
}

// branchKind returns the type's name and its entity in v2.
func branchKind(branch string) (name, entity string, err error) {
	for _, k := range kinds {
		if k.branch == branch {
			return k.name, k.entity, nil
		}
	}
	return "", "", noSuchPath("/v2/indicators/" + branch)
}

// v2Find finds what {branch}/{value} names, inactive ones, too.
func (c *call) v2Find() (*Indicator, string, error) {
	kind, entity, err := branchKind(c.args[0])
	if err != nil {
		return nil, "", err
	}
	o, err := c.v2Owner()
	if err != nil {
		return nil, "", err
	}
	c.judgeValue(kind, c.args[1])
	i := c.s.store.find(kind, c.args[1], o.Name)
	if i == nil {
		return nil, "", notFound()
	}
	return i, entity, nil
}

// judgeValue notes a value that is not in the form that the server keeps.
func (c *call) judgeValue(kind, value string) {
	if kind == "File" && hashKind(value) < 0 {
		c.violate("a file that is not named by one hash")
		return
	}
	if Canonical(kind, value) != value {
		c.violate("a value that is not in canonical form")
	}
}

// v2 is an indicator as v2 has it.
func (c *call) v2(i *Indicator, single bool) object {
	shape := c.shaper()
	o := shape.common(i)
	o["webLink"] = shape.legacyLink(i)
	if c.includes("additional") {
		o["active"], o["activeLocked"], o["privateFlag"] = !i.Inactive, false, false
		set(o, "observationCount", i.Observations)
		set(o, "falsePositiveCount", i.FalsePositives)
	}
	set(o, "threatAssessScore", i.Score)
	if i.Type == "Host" {
		o["dnsActive"], o["whoisActive"] = c.loosely(true), c.loosely(false)
	}
	if single {
		delete(o, "ownerName")
		o["owner"] = c.v2OwnerShape(c.s.store.owner(i.Owner), i.seq)
		shape.value(o, i)
	} else {
		o["type"], o["summary"] = i.Type, i.Value
	}
	if c.includes("tags") {
		o["tag"] = tagList(i.Tags)
	}
	return c.warp(o)
}

// loosely is a boolean that some have seen as a string.
func (c *call) loosely(v bool) any {
	if c.s.opts.Tidy {
		return v
	}
	return strconv.FormatBool(v)
}

func (c *call) v2OwnerShape(o *Owner, seq int64) object {
	return object{"id": c.shaper().id(o.ID, seq), "name": o.Name, "type": o.Type}
}

func tagList(tags []string) []object {
	out := []object{}
	for _, t := range tags {
		out = append(out, object{"name": t})
	}
	return out
}

func success(data object) object { return object{"status": "Success", "data": data} }

// page is a list as v2 has it: its length only on the first page.
func (c *call) page(entity string, list []object) (int, any, error) {
	start, limit, err := c.window(c.param)
	if err != nil {
		return 0, nil, err
	}
	from := start
	if c.is("loop") {
		from = 0
	}
	data := object{entity: cut(list, from, limit)}
	if start == 0 {
		data["resultCount"] = len(list)
	}
	return http.StatusOK, success(data), nil
}

func (c *call) v2Owners() (int, any, error) {
	c.s.store.mu.RLock()
	defer c.s.store.mu.RUnlock()
	list := []object{}
	for n, o := range c.s.store.owners {
		if !o.Hidden {
			list = append(list, c.v2OwnerShape(o, int64(n+1)))
		}
	}
	return c.page("owner", list)
}

func (c *call) v2Types() (int, any, error) {
	list := []object{}
	for _, k := range kinds {
		list = append(list, object{"name": k.name, "custom": "false", "parsable": "true", "apiBranch": k.branch, "apiEntity": k.entity})
	}
	return c.page("indicatorType", list)
}

func (c *call) v2Indicator() (int, any, error) {
	c.s.store.mu.RLock()
	defer c.s.store.mu.RUnlock()
	i, entity, err := c.v2Find()
	if err != nil {
		return 0, nil, err
	}
	if c.is("lying") {
		lie := *i
		lie.Value, lie.Rating, lie.Confidence = "203.0.113.99", 5, 100
		if i.Type == "File" {
			lie.Value = strings.Repeat("0", 32)
		}
		i = &lie
	}
	return http.StatusOK, success(object{entity: c.v2(i, true)}), nil
}

// v2List lists the indicators of an owner, of one type or of all.
func (c *call) v2List() (int, any, error) {
	kind, entity := "", "indicator"
	if len(c.args) > 0 {
		var err error
		if kind, entity, err = branchKind(c.args[0]); err != nil {
			return 0, nil, err
		}
	}
	match, err := c.filters()
	if err != nil {
		return 0, nil, err
	}
	c.s.store.mu.RLock()
	defer c.s.store.mu.RUnlock()
	o, err := c.v2Owner()
	if err != nil {
		return 0, nil, err
	}
	list := []object{}
	if c.is("lying") {
		list = append(list, c.v2(&Indicator{Type: "Host", Value: "nobody-asked.example", Owner: o.Name, Rating: 5, Confidence: 100}, false))
	}
	for _, i := range c.s.store.indicators {
		if i.Owner != o.Name || kind != "" && i.Type != kind || !match(i) {
			continue
		}
		shown := c.v2(i, false)
		if kind != "" {
			c.shaper().value(shown, i)
		}
		list = append(list, shown)
	}
	return c.page(entity, list)
}

// filters reads filters=, orParams= and modifiedSince=. Only active indicators
// pass unless a filter speaks of it.
func (c *call) filters() (func(*Indicator) bool, error) {
	var since time.Time
	if text := c.param("modifiedSince"); text != "" {
		var err error
		if since, err = tqlDate(text); err != nil {
			return nil, malformed(msgMalformed)
		}
	}
	var tests []predicate
	asksActive := false
	if text := c.param("filters"); text != "" {
		for one := range strings.SplitSeq(text, ",") {
			test, err := filter(one)
			if err != nil {
				return nil, err
			}
			asksActive = asksActive || strings.HasPrefix(one, "active")
			tests = append(tests, test)
		}
	}
	anyOf := c.param("orParams") == "true"
	st := c.s.store
	return func(i *Indicator) bool {
		if i.Modified.Before(since) || i.Inactive && !asksActive {
			return false
		}
		if len(tests) == 0 {
			return true
		}
		subject := st.subject(i)
		if anyOf {
			return slices.ContainsFunc(tests, func(m predicate) bool { return m(subject) })
		}
		return !slices.ContainsFunc(tests, func(m predicate) bool { return !m(subject) })
	}, nil
}

// filterKeywords are v2's words in those of TQL.
var filterKeywords = map[string]string{
	"summary": "summary", "active": "indicatoractive", "rating": "rating", "confidence": "confidence",
	"dateAdded": "dateadded", "lastModified": "lastmodified", "threatAssessScore": "threatassessscore", "falsePositive": "falsepositivecount",
}

func filter(text string) (predicate, error) {
	n := strings.IndexAny(text, "=<>^")
	if n < 0 {
		return nil, malformed(msgMalformed)
	}
	keyword, op, value := filterKeywords[text[:n]], text[n:n+1], text[n+1:]
	kind := keywordKinds[keyword]
	switch {
	case kind == "", op == "^" && keyword != "summary":
		return nil, malformed(msgMalformed)
	case op == "^":
		return func(s subject) bool { return strings.HasPrefix(s(keyword)[0], value) }, nil
	case kind == "date":
		if _, err := tqlDate(value); err != nil {
			return nil, malformed(msgMalformed)
		}
	}
	test, err := compare(keyword, kind, op, value)
	if err != nil {
		return nil, malformed(msgMalformed)
	}
	return test, nil
}

// v2IndicatorOwners lists the owners that have an indicator of that value.
func (c *call) v2IndicatorOwners() (int, any, error) {
	kind, _, err := branchKind(c.args[0])
	if err != nil {
		return 0, nil, err
	}
	c.judgeValue(kind, c.args[1])
	c.s.store.mu.RLock()
	defer c.s.store.mu.RUnlock()
	list := []object{}
	for _, o := range c.s.store.owners {
		i := c.s.store.find(kind, c.args[1], o.Name)
		if i == nil || o.Hidden {
			continue
		}
		shown := c.v2OwnerShape(o, i.seq)
		if c.includes("additional") {
			shown["itemId"] = c.shaper().id(i.ID, i.seq+1)
		}
		list = append(list, shown)
	}
	if len(list) == 0 {
		return 0, nil, notFound()
	}
	return c.page("owner", list)
}

// v2IndicatorGroups lists an indicator's groups, all or those of one branch.
func (c *call) v2IndicatorGroups() (int, any, error) {
	c.s.store.mu.RLock()
	defer c.s.store.mu.RUnlock()
	i, _, err := c.v2Find()
	if err != nil {
		return 0, nil, err
	}
	list := []object{}
	for _, g := range i.Groups {
		if len(c.args) < 3 || groupBranches[c.args[2]] == g.Type {
			list = append(list, c.shaper().group(g, i))
		}
	}
	for _, in := range c.s.store.incidents {
		if slices.Contains(in.Indicators, i.ID) && (len(c.args) < 3 || c.args[2] == "incidents") {
			list = append(list, c.incident(in))
		}
	}
	return c.page("group", list)
}

// groupBranches are the types of groups by their branches.
var groupBranches = map[string]string{
	"adversaries": "Adversary", "attackPatterns": "Attack Pattern", "campaigns": "Campaign", "coursesOfAction": "Course of Action",
	"documents": "Document", "emails": "Email", "events": "Event", "incidents": "Incident", "intrusionSets": "Intrusion Set",
	"malware": "Malware", "reports": "Report", "signatures": "Signature", "tactics": "Tactic", "threats": "Threat", "tools": "Tool",
	"vulnerabilities": "Vulnerability",
}

func (c *call) v2BulkStatus() (int, any, error) {
	c.s.store.mu.RLock()
	defer c.s.store.mu.RUnlock()
	o, err := c.v2Owner()
	if err != nil {
		return 0, nil, err
	}
	day := c.now.UTC().Truncate(24 * time.Hour)
	return http.StatusOK, success(object{"bulkStatus": object{
		"name": o.Name, "csvEnabled": !o.NoBulk, "jsonEnabled": !o.NoBulk, "status": "Complete",
		"lastRun": day.Format(time.RFC3339), "nextRun": day.Add(24 * time.Hour).Format(time.RFC3339),
	}}), nil
}

// bulk returns what a bulk download holds. Nobody has said how one that is not
// enabled is refused.
func (c *call) bulk() ([]*Indicator, error) {
	o, err := c.v2Owner()
	if err != nil {
		return nil, err
	}
	if o.NoBulk {
		return nil, notFound()
	}
	return c.selectIndicators(nil, o.Name), nil
}

func (c *call) v2BulkJSON() (int, any, error) {
	c.s.store.mu.RLock()
	defer c.s.store.mu.RUnlock()
	found, err := c.bulk()
	if err != nil {
		return 0, nil, err
	}
	list := []object{}
	for _, i := range found {
		o := c.v2(i, false)
		o["tag"] = tagList(i.Tags)
		o["attribute"] = []object{}
		list = append(list, o)
	}
	return http.StatusOK, object{"indicator": list}, nil // no status: so it is
}

func (c *call) v2BulkCSV() (int, any, error) {
	c.s.store.mu.RLock()
	defer c.s.store.mu.RUnlock()
	found, err := c.bulk()
	if err != nil {
		return 0, nil, err
	}
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	_ = w.Write([]string{"Type", "Value", "Rating", "Confidence"})
	for _, i := range found {
		rating, confidence := "null", "null"
		if i.Rating != 0 {
			rating = strconv.FormatFloat(i.Rating, 'f', 2, 64)
		}
		if i.Confidence != 0 {
			confidence = strconv.Itoa(i.Confidence)
		}
		_ = w.Write([]string{i.Type, i.Value, rating, confidence})
	}
	w.Flush()
	return http.StatusOK, rawReply{"text/csv", b.Bytes()}, nil
}

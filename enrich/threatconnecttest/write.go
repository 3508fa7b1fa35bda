package threatconnecttest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// statuses are what an incident may have (contracts/threatconnect.md 2.5).
var statuses = []string{
	"New", "Open", "Stalled", "Containment Achieved", "Restoration Achieved", "Incident Reported", "Closed", "Rejected", "Deleted",
}

// decode reads a body strictly: what is not known is refused, as it would be lost.
func (c *call) decode(to any) error {
	d := json.NewDecoder(bytes.NewReader(c.body))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return malformed(msgMalformed + ": " + err.Error())
	}
	return nil
}

// observe records that an indicator was seen. Callers hold the lock.
func (c *call) observe(i *Indicator, count int64) {
	st := c.s.store
	i.Observations += count
	st.observations = remember(st.observations, Observation{
		Time: c.now, Indicator: i.ID, Type: i.Type, Value: i.Value, Owner: i.Owner, Count: count,
	}, c.s.opts.KeepRequests)
}

// falsePositive counts once a day.
func (c *call) falsePositive(i *Indicator) {
	if day := c.now.UTC().Format(time.DateOnly); day != i.day {
		i.day = day
		i.FalsePositives++
	}
}

// v3Update takes observations and false positives; nothing else of an indicator
// can be changed here.
func (c *call) v3Update() (int, any, error) {
	var in struct {
		Observations      int64 `json:"observations"`
		FalsePositiveFlag bool  `json:"falsePositiveFlag"`
	}
	fields, err := checkFields(c.query["fields"])
	if err == nil {
		err = c.decode(&in)
	}
	if err != nil {
		return 0, nil, err
	}
	if in.Observations < 0 || in.Observations == 0 && !in.FalsePositiveFlag {
		return 0, nil, malformed(msgMalformed)
	}
	c.s.store.mu.Lock()
	defer c.s.store.mu.Unlock()
	i, err := c.pathIndicator(c.args[0])
	if err != nil {
		return 0, nil, err
	}
	if in.Observations > 0 {
		c.observe(i, in.Observations)
	}
	if in.FalsePositiveFlag {
		c.falsePositive(i)
	}
	return http.StatusOK, object{"data": c.shaper().v3(i, fields), "message": "Updated", "status": "Success"}, nil
}

// newIncident is what makes one in v3.
type newIncident struct {
	Type       string `json:"type"`
	Name       string `json:"name"`
	EventDate  string `json:"eventDate"`
	Status     string `json:"status"`
	Attributes list[struct {
		Type    string `json:"type"`
		Value   string `json:"value"`
		Source  string `json:"source"`
		Default bool   `json:"default"`
		Pinned  bool   `json:"pinned"`
	}] `json:"attributes"`
	Tags list[struct {
		Name string `json:"name"`
	}] `json:"tags"`
	AssociatedIndicators list[map[string]any] `json:"associatedIndicators"`
}

// list is how v3 wraps lists inside objects.
type list[T any] struct {
	Data []T `json:"data"`
}

// check says what an incident needs, in both versions.
func (in *Incident) check(dateRequired bool) error {
	_, err := time.Parse(time.RFC3339, in.EventDate)
	switch {
	case in.Name == "" || len(in.Name) > 100:
		return malformed("The name of a group has 1 to 100 characters")
	case err != nil && (dateRequired || in.EventDate != ""):
		return malformed("The eventDate is not valid")
	case in.Status != "" && !slices.Contains(statuses, in.Status):
		return malformed("The status is not valid")
	}
	for _, a := range in.Attributes {
		if a.Type == "" || a.Value == "" {
			return malformed("An attribute needs a type and a value")
		}
	}
	return nil
}

func (c *call) v3NewGroup() (int, any, error) {
	var in newIncident
	if err := c.decode(&in); err != nil {
		return 0, nil, err
	}
	if in.Type != "Incident" {
		return 0, nil, malformed("Only incidents can be made here")
	}
	made := Incident{Name: in.Name, EventDate: in.EventDate, Status: in.Status}
	for _, a := range in.Attributes.Data {
		made.Attributes = append(made.Attributes, Attribute{a.Type, a.Value})
	}
	for _, t := range in.Tags.Data {
		made.Tags = append(made.Tags, t.Name)
	}
	if err := made.check(false); err != nil {
		return 0, nil, err
	}
	st := c.s.store
	st.mu.Lock()
	defer st.mu.Unlock()
	made.Owner = cmp.Or(c.query.Get("owner"), st.org)
	if !st.visible(made.Owner) {
		return 0, nil, forbidden(msgNoOwner)
	}
	for _, ref := range in.AssociatedIndicators.Data {
		i, err := c.referenced(ref, made.Owner)
		if err != nil {
			return 0, nil, err
		}
		made.Indicators = append(made.Indicators, i.ID)
	}
	kept := c.keep(made)
	return http.StatusCreated, object{"data": c.incident(kept), "message": "Created", "status": "Success"}, nil
}

// referenced finds the indicator that an association names by its id or by type
// and value.
func (c *call) referenced(ref map[string]any, owner string) (*Indicator, error) {
	st := c.s.store
	if id, ok := idOf(ref["id"]); ok {
		if i := st.byID[id]; i != nil && st.visible(i.Owner) {
			return i, nil
		}
		return nil, notFound()
	}
	if name, ok := ref["ownerName"].(string); ok {
		owner = name
	}
	kind, _ := ref["type"].(string)
	for _, k := range kinds {
		if k.name != kind {
			continue
		}
		for _, field := range []string{k.field, "summary", "md5", "sha1", "sha256"} {
			v, _ := ref[field].(string)
			if i := st.find(kind, v, owner); v != "" && i != nil && st.visible(owner) {
				return i, nil
			}
		}
		return nil, notFound()
	}
	return nil, malformed("An association needs an id, or a type and a value")
}

// idOf reads an id, which comes as a number or as a string.
func idOf(v any) (int64, bool) {
	text, ok := v.(string)
	if n, isNumber := v.(json.Number); isNumber {
		text, ok = n.String(), true
	}
	id, err := strconv.ParseInt(text, 10, 64)
	return id, ok && err == nil
}

// UnmarshalJSON keeps the digits of ids: a float64 cannot hold them.
func (l *list[T]) UnmarshalJSON(b []byte) error {
	var in struct {
		Data []T `json:"data"`
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	d.DisallowUnknownFields()
	err := d.Decode(&in)
	l.Data = in.Data
	return err
}

// keep stores an incident. Callers hold the lock.
func (c *call) keep(in Incident) *Incident {
	st := c.s.store
	in.ID, in.Created = st.groupID(), c.now
	st.incidentCount++
	st.incidents = remember(st.incidents, &in, c.s.opts.KeepRequests)
	return &in
}

// incident is one as v3 has it.
func (c *call) incident(in *Incident) object {
	shape := c.shaper()
	id := strconv.FormatInt(in.ID, 10)
	o := object{
		"id": in.ID, "type": "Incident", "name": in.Name, "ownerId": shape.ownerID(in.Owner), "ownerName": in.Owner,
		"dateAdded": shape.date(in.Created, 0), "lastModified": shape.date(in.Created, 0), "webLink": shape.link("/#/details/groups/"+id+"/overview", 0),
	}
	set(o, "eventDate", in.EventDate)
	set(o, "status", in.Status)
	return o
}

// v3Groups lists incidents; the groups of indicators are not among them.
func (c *call) v3Groups() (int, any, error) {
	start, limit, err := c.window(c.query.Get)
	if err != nil {
		return 0, nil, err
	}
	q, err := c.parseQuery(c.query.Get("tql"))
	if err != nil {
		return 0, nil, err
	}
	c.s.store.mu.RLock()
	defer c.s.store.mu.RUnlock()
	data := []object{}
	for _, in := range c.s.store.incidents {
		if q == nil || q.match(in.subject) {
			data = append(data, c.incident(in))
		}
	}
	return http.StatusOK, object{"data": cut(data, start, limit), "status": "Success"}, nil
}

func (in *Incident) subject(keyword string) []string {
	switch keyword {
	case "typename":
		return []string{"Incident"}
	case "summary":
		return []string{in.Name}
	case "ownername":
		return []string{in.Owner}
	case "id":
		return []string{strconv.FormatInt(in.ID, 10)}
	case "tag":
		return in.Tags
	case "dateadded", "lastmodified":
		return []string{in.Created.UTC().Format(time.RFC3339)}
	}
	return nil
}

func (c *call) v3Group() (int, any, error) {
	c.s.store.mu.RLock()
	defer c.s.store.mu.RUnlock()
	in, err := c.pathIncident(c.args[0])
	if err != nil {
		return 0, nil, err
	}
	return http.StatusOK, object{"data": c.incident(in), "status": "Success"}, nil
}

func (c *call) pathIncident(text string) (*Incident, error) {
	id, _ := strconv.ParseInt(text, 10, 64)
	for _, in := range c.s.store.incidents {
		if in.ID == id && c.s.store.visible(in.Owner) {
			return in, nil
		}
	}
	return nil, notFound()
}

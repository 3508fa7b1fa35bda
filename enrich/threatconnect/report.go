package threatconnect

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"capagent/enrich/verdict"
	"capagent/internal/failure"
)

const (
	maxIncident   = 100      // bytes of an incident's name
	maxText       = 10 << 10 // bytes of its description
	maxAssociated = 200      // indicators of one incident
	statusNew     = "New"
)

// Incident is a group that was made for a capture.
type Incident struct {
	ID   int64
	Link string // where a person sees it; may be ""
}

// Observe tells ThreatConnect that the indicator of a verdict was seen count times.
// It counts up: whoever calls it twice is counted twice.
func (c *Client) Observe(ctx context.Context, q verdict.Query, v verdict.Verdict, count int64) error {
	observe := c.observeV2
	if c.v3 {
		observe = func(ctx context.Context, _ verdict.Query, v verdict.Verdict, count int64) error {
			return c.observeV3(ctx, v, count)
		}
	}
	if c.v3 && v.ID == 0 {
		return fail(ClassBadQuery, fmt.Errorf("report a sighting: the verdict has no id"))
	}
	if err := observe(ctx, q, v, max(count, 1)); err != nil {
		return about("report a sighting", writing(err))
	}
	return nil
}

// writing makes an indicator that is gone a failure of its own.
func writing(err error) error {
	if isClass(err, classUnknown) {
		f := *failure.As(err)
		f.Kind, f.Class, f.Hint = failure.Permanent, ClassBadQuery, "the indicator is no longer in ThreatConnect"
		return &f
	}
	return err
}

func (c *Client) observeV2(ctx context.Context, q verdict.Query, v verdict.Verdict, count int64) error {
	paths, err := c.pathsV2(ctx, q)
	if err != nil {
		return err
	}
	for _, path := range paths {
		_, err = c.call(ctx, request{
			method: http.MethodPost, path: path + "/observations", query: query("owner", v.Owner),
			body: []byte(fmt.Sprintf(`{"count":%d}`, count)), mayMiss: true,
		})
		if !isClass(err, classUnknown) {
			return err
		}
	}
	return err
}

// Incident makes a group of type Incident for a capture: with the time of its
// first packet, the session's link, and the findings' indicators. When an id comes
// with an error, the incident exists and lacks what the error says. Incidents have
// no unique names: ask FindIncident before a repetition.
func (c *Client) Incident(ctx context.Context, name string, when time.Time, session string, findings []verdict.Finding) (Incident, error) {
	name = c.incidentName(name)
	make := c.incidentV2
	if c.v3 {
		make = c.incidentV3
	}
	i, err := make(ctx, name, when.UTC().Truncate(time.Second).Format(time.RFC3339), describe(session, findings), findings)
	if err != nil {
		return i, about("make an incident", err)
	}
	return i, nil
}

// incidentName is what an incident is called there. API v2 would take some
// characters for operators when it is looked for.
func (c *Client) incidentName(name string) string {
	if !c.v3 {
		name = strings.Map(func(r rune) rune {
			if strings.ContainsRune(",=<>^", r) {
				return ' '
			}
			return r
		}, name)
	}
	return line(name, maxIncident)
}

// describe is the text of an incident: plain, with one line for each finding.
func describe(session string, findings []verdict.Finding) string {
	var b strings.Builder
	if session != "" {
		fmt.Fprintf(&b, "Packets: %s\n", line(session, maxLink))
	}
	for n, f := range findings {
		w := f.Worst()
		row := fmt.Sprintf("%s %s: rating %g, confidence %d, %s; frame %d, seen %d times\n", f.Indicator.Type,
			line(f.Indicator.Value, 200), w.Rating, w.Confidence, line(w.Owner, maxName), f.Indicator.First.Frame, f.Indicator.Count)
		if b.Len()+len(row) > maxText {
			fmt.Fprintf(&b, "and %d more\n", len(findings)-n)
			break
		}
		b.WriteString(row)
	}
	return b.String()
}

// group is an incident as both APIs answer with it.
type group struct {
	ID        id              `json:"id"`
	Type      text            `json:"type"`
	Name      text            `json:"name"`
	WebLink   text            `json:"webLink"`
	OwnerName text            `json:"ownerName"`
	Owner     json.RawMessage `json:"owner"`
}

func (c *Client) incidentOf(raw json.RawMessage) (Incident, *group, error) {
	var g group
	if len(raw) == 0 || json.Unmarshal(raw, &g) != nil || g.ID == 0 {
		return Incident{}, nil, fail(ClassBadReply, fmt.Errorf("there is no id in the reply"))
	}
	return Incident{int64(g.ID), c.base.link(string(g.WebLink))}, &g, nil
}

func (c *Client) incidentV3(ctx context.Context, name, when, description string, findings []verdict.Finding) (Incident, error) {
	type object map[string]any
	associated := []object{}
	known := map[int64]bool{}
	for _, f := range findings {
		for _, v := range f.Verdicts {
			if v.Source == Name && v.ID != 0 && !known[v.ID] && len(associated) < maxAssociated {
				known[v.ID] = true
				associated = append(associated, object{"id": v.ID})
			}
		}
	}
	g := object{
		"type": "Incident", "name": name, "eventDate": when, "status": statusNew,
		"attributes": object{"data": []object{{"type": "Description", "value": description, "default": true}}},
	}
	if len(associated) > 0 {
		g["associatedIndicators"] = object{"data": associated}
	}
	body, err := json.Marshal(g)
	if err != nil {
		return Incident{}, fail(ClassBadQuery, err)
	}
	e, err := c.call(ctx, request{method: http.MethodPost, path: "/v3/groups", body: body})
	if err != nil {
		return Incident{}, writing(err)
	}
	i, _, err := c.incidentOf(e.Data)
	return i, err
}

func (c *Client) incidentV2(ctx context.Context, name, when, description string, findings []verdict.Finding) (Incident, error) {
	body, err := json.Marshal(map[string]string{"name": name, "eventDate": when, "status": statusNew})
	if err != nil {
		return Incident{}, fail(ClassBadQuery, err)
	}
	const path = "/v2/groups/incidents"
	made, err := c.callV2(ctx, request{method: http.MethodPost, path: path, body: body})
	if err != nil {
		return Incident{}, writing(err)
	}
	i, g, err := c.incidentOf(made)
	if err != nil {
		return i, err
	}
	number := strconv.FormatInt(i.ID, 10)
	attribute, err := json.Marshal(map[string]any{"type": "Description", "value": description, "displayed": true})
	if err == nil {
		_, err = c.call(ctx, request{method: http.MethodPost, path: path + "/" + number + "/attributes", body: attribute})
	}
	if err != nil {
		return i, writing(err)
	}
	owner := (&item{OwnerName: g.OwnerName, Owner: g.Owner}).owner()
	return i, c.associateV2(ctx, number, owner, findings)
}

// associateV2 ties indicators to an incident, which API v2 can do only within the
// owner of both.
func (c *Client) associateV2(ctx context.Context, incident, owner string, findings []verdict.Finding) error {
	left := maxAssociated
	for _, f := range findings {
		for _, v := range f.Verdicts {
			if v.Source != Name || !strings.EqualFold(v.Owner, owner) || left == 0 {
				continue
			}
			left--
			paths, err := c.pathsV2(ctx, verdict.Query{Type: f.Indicator.Type, Value: f.Indicator.Value})
			if err != nil {
				return err
			}
			for _, path := range paths {
				_, err = c.call(ctx, request{method: http.MethodPost, path: path + "/groups/incidents/" + incident, mayMiss: true})
				if !isClass(err, classUnknown) {
					break
				}
			}
			if err != nil && !isClass(err, classUnknown) {
				return err
			}
		}
	}
	return nil
}

// FindIncident returns the incident of that name, and whether there is one.
func (c *Client) FindIncident(ctx context.Context, name string) (Incident, bool, error) {
	name = c.incidentName(name)
	r := request{path: "/v3/groups", query: query("tql", "typeName in "+list([]string{"Incident"})+" and summary in "+list([]string{name}), "resultLimit", "10")}
	if !c.v3 {
		r = request{path: "/v2/groups/incidents", query: "filters=name%3D" + string(escape(nil, name, inQuery)) + "&resultLimit=10", mayMiss: true}
	}
	e, err := c.call(ctx, r)
	if isClass(err, classUnknown) {
		return Incident{}, false, nil
	}
	if err != nil {
		return Incident{}, false, about("find an incident", err)
	}
	data := e.Data
	if !c.v3 {
		data, err = entity(data)
	}
	if err != nil {
		return Incident{}, false, about("find an incident", err)
	}
	var found Incident
	err = each(data, pageSize, func(raw json.RawMessage) error {
		i, g, err := c.incidentOf(raw)
		if err == nil && string(g.Name) == name && (found.ID == 0 || i.ID < found.ID) {
			found = i
		}
		return nil
	})
	if err != nil {
		return Incident{}, false, about("find an incident", fail(ClassBadReply, err))
	}
	return found, found.ID != 0, nil
}

package threatconnecttest

import (
	"net/http"
	"slices"
	"strconv"
)

func (c *call) v2Observe() (int, any, error) {
	var in struct {
		Count int64 `json:"count"`
	}
	if err := c.decode(&in); err != nil {
		return 0, nil, err
	}
	if in.Count < 1 {
		return 0, nil, malformed(msgMalformed)
	}
	c.s.store.mu.Lock()
	defer c.s.store.mu.Unlock()
	i, _, err := c.v2Find()
	if err != nil {
		return 0, nil, err
	}
	c.observe(i, in.Count)
	return http.StatusOK, object{"status": "Success"}, nil
}

func (c *call) v2FalsePositive() (int, any, error) {
	c.s.store.mu.Lock()
	defer c.s.store.mu.Unlock()
	i, _, err := c.v2Find()
	if err != nil {
		return 0, nil, err
	}
	c.falsePositive(i)
	return http.StatusOK, success(object{"falsePositive": object{"count": i.FalsePositives, "lastReported": c.shaper().date(c.now, i.seq)}}), nil
}

func (c *call) v2NewIncident() (int, any, error) {
	var in struct {
		Name      string `json:"name"`
		EventDate string `json:"eventDate"`
		Status    string `json:"status"`
	}
	if err := c.decode(&in); err != nil {
		return 0, nil, err
	}
	made := Incident{Name: in.Name, EventDate: in.EventDate, Status: in.Status}
	if err := made.check(true); err != nil {
		return 0, nil, err
	}
	c.s.store.mu.Lock()
	defer c.s.store.mu.Unlock()
	o, err := c.v2Owner()
	if err != nil {
		return 0, nil, err
	}
	made.Owner = o.Name
	return http.StatusCreated, success(object{"incident": c.v2Incident(c.keep(made))}), nil
}

// v2Incident is one as v2 has it.
func (c *call) v2Incident(in *Incident) object {
	shape := c.shaper()
	o := object{
		"id": shape.id(in.ID, in.ID>>1), "name": in.Name, "owner": c.v2OwnerShape(c.s.store.owner(in.Owner), 1),
		"dateAdded": shape.date(in.Created, in.ID>>1), "webLink": shape.link("/auth/incident/incident.xhtml?incident="+strconv.FormatInt(in.ID, 10), 0),
		"eventDate": in.EventDate,
	}
	set(o, "status", in.Status)
	return o
}

func (c *call) v2Incidents() (int, any, error) {
	c.s.store.mu.RLock()
	defer c.s.store.mu.RUnlock()
	o, err := c.v2Owner()
	if err != nil {
		return 0, nil, err
	}
	list := []object{}
	for _, in := range c.s.store.incidents {
		if in.Owner == o.Name {
			list = append(list, c.v2Incident(in))
		}
	}
	return c.page("incident", list)
}

func (c *call) v2IncidentByID() (int, any, error) {
	return c.withIncident(func(*Incident) {})
}

func (c *call) v2IncidentAttribute() (int, any, error) {
	var in struct {
		Type      string `json:"type"`
		Value     string `json:"value"`
		Displayed bool   `json:"displayed"`
		Source    string `json:"source"`
	}
	if err := c.decode(&in); err != nil {
		return 0, nil, err
	}
	if in.Type == "" || in.Value == "" {
		return 0, nil, malformed("An attribute needs a type and a value")
	}
	return c.withIncident(func(i *Incident) {
		i.Attributes = append(i.Attributes, Attribute{in.Type, in.Value})
	})
}

func (c *call) v2IncidentTag() (int, any, error) {
	return c.withIncident(func(i *Incident) {
		if !slices.Contains(i.Tags, c.args[1]) {
			i.Tags = append(i.Tags, c.args[1])
		}
	})
}

// withIncident answers with the incident that the path names, after a change.
func (c *call) withIncident(change func(*Incident)) (int, any, error) {
	c.s.store.mu.Lock()
	defer c.s.store.mu.Unlock()
	in, err := c.pathIncident(c.args[0])
	if err != nil {
		return 0, nil, err
	}
	change(in)
	return http.StatusOK, success(object{"incident": c.v2Incident(in)}), nil
}

// v2Associate ties an indicator to an incident of the same owner.
func (c *call) v2Associate() (int, any, error) {
	c.s.store.mu.Lock()
	defer c.s.store.mu.Unlock()
	i, _, err := c.v2Find()
	if err != nil {
		return 0, nil, err
	}
	in, err := c.pathIncident(c.args[2])
	if err != nil || in.Owner != i.Owner {
		return 0, nil, notFound()
	}
	if !slices.Contains(in.Indicators, i.ID) {
		in.Indicators = append(in.Indicators, i.ID)
	}
	return http.StatusOK, object{"status": "Success"}, nil
}

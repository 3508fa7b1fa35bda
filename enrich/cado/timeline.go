package cado

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"capagent/internal/failure"
)

// Question is what is looked for on a project's timeline.
type Question struct {
	Project  string // id
	Text     string // the platform's query language
	From, To time.Time
	Severity string // v2 only
	Evidence string // v2 only: an id
	Limit    int    // events; 0 for 1000
}

const (
	defaultEvents = 1000
	maxEvents     = 20_000
)

// Event is a line of a timeline.
type Event struct {
	ID       string    `json:"id,omitempty"`
	Time     time.Time `json:"time,omitzero"`
	Text     string    `json:"text"`
	Source   string    `json:"source,omitempty"`
	Type     string    `json:"type,omitempty"`
	Evidence string    `json:"evidence,omitempty"`
	File     string    `json:"file,omitempty"`
}

// Timeline returns events, and whether there are more than were asked for.
func (c *Client) Timeline(ctx context.Context, q Question) ([]Event, bool, error) {
	if q.Limit <= 0 {
		q.Limit = defaultEvents
	}
	q.Limit = min(q.Limit, maxEvents)
	var all []Event
	query, path := c.timelineQuery(q)
	cursor, page := "", 1
	for range maxPages {
		if c.v3 && cursor != "" {
			query.Set("cursor", cursor)
		} else if !c.v3 {
			query.Set("page", strconv.Itoa(page))
		}
		e, err := c.call(ctx, request{path: path, query: query})
		if err != nil {
			return nil, false, about("ask for the timeline", err)
		}
		n := 0
		err = each(listOf(e.Data, "results"), 100*perPage, func(raw json.RawMessage) error {
			if n++; len(all) <= q.Limit {
				if ev := decodeEvent(raw); q.contains(ev.Time) {
					all = append(all, ev)
				}
			}
			return nil
		})
		if err != nil {
			return nil, false, about("ask for the timeline", fail(ClassBadReply, err))
		}
		if len(all) > q.Limit {
			return all[:q.Limit], true, nil
		}
		var more bool
		if cursor, more = c.nextPage(e, cursor, page); n == 0 || !more {
			return all, false, nil
		}
		page++
	}
	return all, true, nil
}

func (c *Client) timelineQuery(q Question) (url.Values, string) {
	v := url.Values{}
	set := func(key, value string) {
		if value != "" {
			v.Set(key, value)
		}
	}
	// The manual says per_page, the vendor's code perpage: both are sent.
	v.Set("per_page", strconv.Itoa(perPage))
	if c.v3 {
		v.Set("project_id", q.Project)
		v.Set("order_by", "timestamp")
		set("search_text", q.Text)
		return v, "/timeline"
	}
	v.Set("perpage", strconv.Itoa(perPage))
	set("query", q.Text)
	set("severity", q.Severity)
	set("evidence_id", q.Evidence)
	if !q.From.IsZero() {
		set("from_timestamp", strconv.FormatInt(q.From.Unix(), 10))
	}
	if !q.To.IsZero() {
		set("to_timestamp", strconv.FormatInt(q.To.Unix(), 10))
	}
	return v, "/projects/" + url.PathEscape(q.Project) + "/timeline"
}

// contains does here what v3 has no parameter for.
func (q *Question) contains(t time.Time) bool {
	return (q.From.IsZero() || !t.Before(q.From)) && (q.To.IsZero() || !t.After(q.To))
}

func (c *Client) nextPage(e envelope, cursor string, page int) (string, bool) {
	if c.v3 {
		next := string(e.Pagination.NextToken)
		return next, next != "" && next != cursor && len(next) <= 8<<10
	}
	var v struct {
		Pages number `json:"pages"`
	}
	_ = json.Unmarshal(e.Data, &v)
	return "", page < int(v.Pages)
}

func decodeEvent(raw json.RawMessage) Event {
	var v struct {
		ID         text `json:"id"`
		Timestamp  date `json:"timestamp"`
		Datetime   date `json:"datetime"`
		Short      text `json:"short"`
		Message    text `json:"message"`
		SuperShort text `json:"super_short"`
		Source     text `json:"source"`
		SourceType text `json:"sourcetype"`
		Type       text `json:"type"`
		EvidenceID text `json:"evidence_id"`
		Evidence   text `json:"evidence_name"`
		File       text `json:"filename"`
	}
	_ = json.Unmarshal(raw, &v)
	at := v.Timestamp.Time
	if at.IsZero() {
		at = v.Datetime.Time
	}
	return Event{
		ID: line(string(v.ID), maxName), Time: at,
		Text:     line(first(string(v.Short), string(v.Message), string(v.SuperShort)), 2*maxText),
		Source:   line(first(string(v.Source), string(v.SourceType)), maxName),
		Type:     line(string(v.Type), maxName),
		Evidence: line(first(string(v.Evidence), string(v.EvidenceID)), maxName),
		File:     line(string(v.File), maxName),
	}
}

// Instance is a machine that the platform can acquire.
type Instance struct {
	ID         string `json:"id"`
	Name       string `json:"name,omitempty"`
	State      string `json:"state,omitempty"`
	Type       string `json:"type,omitempty"`
	Zone       string `json:"zone,omitempty"`
	Importable bool   `json:"importable"`
}

const maxInstances = 10_000

// Instances lists the EC2 machines of a region. v2 asks by project.
func (c *Client) Instances(ctx context.Context, project, region string) ([]Instance, error) {
	r := request{path: "/projects/" + url.PathEscape(project) + "/imports/ec2", query: url.Values{"region": {region}}}
	if c.v3 {
		r = request{path: "/import/aws/ec2", query: url.Values{"region": {region}, "cloud_id": {c.conf.CloudID}}}
	}
	var all []Instance
	cursor := ""
	for range maxPages {
		if cursor != "" {
			r.query.Set("cursor", cursor)
		}
		e, err := c.call(ctx, r)
		if err != nil {
			return nil, about("list EC2 instances", err)
		}
		n := 0
		err = each(listOf(e.Data, "instances"), maxInstances, func(raw json.RawMessage) error {
			n++
			if i := decodeInstance(raw); i.ID != "" && len(all) < maxInstances {
				all = append(all, i)
			}
			return nil
		})
		if err != nil {
			return nil, about("list EC2 instances", fail(ClassBadReply, err))
		}
		next := string(e.Pagination.NextToken)
		if n == 0 || next == "" || next == cursor || len(all) >= maxInstances {
			return all, nil
		}
		cursor = next
	}
	return all, nil
}

func decodeInstance(raw json.RawMessage) Instance {
	var v struct {
		ID         text  `json:"instance_id"`
		IDShort    text  `json:"id"`
		Name       text  `json:"instance_name"`
		NameShort  text  `json:"name"`
		State      text  `json:"state"`
		Type       text  `json:"instance_type"`
		Zone       text  `json:"availability_zone"`
		Region     text  `json:"region"`
		Importable *flag `json:"importable"`
	}
	if json.Unmarshal(raw, &v) != nil {
		_ = v.ID.UnmarshalJSON(raw) // an id alone
	}
	return Instance{
		ID: first(v.ID.id(), v.IDShort.id()), Name: line(first(string(v.Name), string(v.NameShort)), maxName),
		State: line(string(v.State), maxName), Type: line(string(v.Type), maxName),
		Zone: line(first(string(v.Zone), string(v.Region)), maxName), Importable: v.Importable == nil || bool(*v.Importable),
	}
}

// AcquireEC2 begins the acquisition of a machine and returns its pipeline. v2
// needs the bucket that it goes through.
func (c *Client) AcquireEC2(ctx context.Context, project, instance, region string) (string, error) {
	const what = "acquire an EC2 instance"
	if !c.v3 {
		if c.conf.Bucket == "" {
			return "", &failure.Error{Kind: failure.Pause, Class: ClassBadRequest, Hint: "set [cado] bucket", Err: errors.New("the API v2 acquires through a bucket, and none is configured")}
		}
		return c.begin(ctx, what, request{
			method: http.MethodPost, path: "/projects/" + url.PathEscape(project) + "/imports/ec2",
			body: map[string]any{"instance_id": instance, "region": region, "bucket": c.conf.Bucket},
		})
	}
	body := map[string]any{"instance_id": instance, "region": region, "project_id": projectID(project)}
	if c.conf.CloudID != "" {
		body["cloud_id"] = c.conf.CloudID
	}
	return c.begin(ctx, what, request{path: "/import/aws/ec2", body: body})
}

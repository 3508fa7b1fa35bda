package cadotest

import (
	"cmp"
	"io"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"capagent/internal/standin"
)

type pipeline struct {
	ID       int
	Type     string
	Project  *project
	Evidence *evidence
	Trigger  int
	Created  time.Time
	Asked    int    // how often somebody asked for it
	fault    string // what is to go wrong
	text     string
	source   string // what is imported
}

type evidence struct {
	ID      int
	Project *project
	Name    string
	Created time.Time
}

type upload struct {
	project *project
	name    string
	fault   standin.Fault
}

// Pipeline is one as Pipelines tells of it.
type Pipeline struct {
	ID, Project           int
	Type, Evidence, State string
	Source                string // "s3://bucket/key", a URL's host and path, "upload:name"
}

// Pipelines lists all, the oldest first.
func (s *Server) Pipelines() []Pipeline {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Pipeline
	for _, p := range s.pipelines {
		out = append(out, Pipeline{p.ID, p.Project.ID, p.Type, p.Evidence.Name, s.state(p), p.source})
	}
	return out
}

// SetPolls changes how often pipelines are asked for until they have ended.
func (s *Server) SetPolls(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opts.Polls = max(n, 1)
}

// Finish lets all pipelines come to their ends.
func (s *Server) Finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range slices.Clone(s.pipelines) {
		p.Asked = s.opts.Polls
		s.follow(p)
	}
}

// begin begins an import. Whether it was begun before is only counted.
func (s *Server) begin(c *call, p *project, source, name string) *pipeline {
	key := strconv.Itoa(p.ID) + " " + source
	if s.imports[key]++; s.imports[key] > 1 {
		s.Count("duplicate")
	}
	s.Count("import")
	e := &evidence{ID: len(s.evidence) + 1, Project: p, Name: name, Created: s.opts.Now()}
	s.evidence = append(s.evidence, e)
	pl := &pipeline{ID: s.nextID(), Type: "acquisition", Project: p, Evidence: e, Created: s.opts.Now(), fault: c.Fault.Name, text: c.Fault.Text, source: source}
	s.pipelines = append(s.pipelines, pl)
	if bucket, object, ok := strings.Cut(strings.TrimPrefix(source, "s3://"), "/"); ok && strings.HasPrefix(source, "s3://") && s.opts.Store != nil {
		if !s.opts.Store.has(bucket, object) {
			pl.fault, pl.text = "fails", "The object does not exist: "+source
		} else if strings.HasSuffix(object, ".log") {
			s.readLog(e, s.opts.Store.open(bucket, object))
		}
	}
	return pl
}

// state is v3's status.
func (s *Server) state(p *pipeline) string {
	switch {
	case p.Asked == 0:
		return "queued"
	case p.fault == "endless" || p.Asked < s.opts.Polls:
		return "in_progress"
	case p.fault == "fails" || p.fault == "badprocessing" && p.Type == "processing":
		return "failed"
	case p.fault == "cancelled":
		return "cancelled"
	default:
		return "complete"
	}
}

// follow begins the processing of what was acquired, once.
func (s *Server) follow(p *pipeline) {
	if p.Type != "acquisition" || s.state(p) != "complete" || p.fault == "alone" {
		return
	}
	for _, other := range s.pipelines {
		if other.Trigger == p.ID {
			return
		}
	}
	next := &pipeline{ID: s.nextID(), Type: "processing", Project: p.Project, Evidence: p.Evidence, Trigger: p.ID, Created: s.opts.Now(), text: p.text, source: p.source}
	if p.fault == "badprocessing" {
		next.fault = p.fault
	}
	s.pipelines = append(s.pipelines, next)
}

var stages = []string{"Acquisition: Copying the file.", "Processing: Reading the file.", "Shutdown: Stopping worker machine."}

// tasks are the subtasks in a state, and their summary.
func (s *Server) tasks(p *pipeline, v3 bool) ([]object, object) {
	state := s.state(p)
	sum := map[string]int{"total": len(stages), "success": 0, "failure": 0, "pending": 0, "running": 0, "cancelled": 0}
	var list []object
	for i, name := range stages {
		is := "PENDING"
		switch {
		case state == "complete" || state != "queued" && i == 0:
			is = "SUCCESS"
		case state == "failed" && i == 1:
			is = "FAILURE"
		case state == "failed", state == "cancelled":
			is = "CANCELLED"
		case state == "in_progress" && i == 1:
			is = "RUNNING"
		}
		sum[strings.ToLower(is)]++
		o := object{"name": name, "state": is}
		if !v3 {
			o["progress_text"], o["name_key"], o["notification_level"], o["total_stages"] = []string{}, "stage."+strconv.Itoa(i), "Info", "null"
			o["start_time"], o["finish_time"], o["execution_duration"], o["task_id"] = float64(p.Created.UnixMilli())/1000, 0, 0, standin.Random(8)
		}
		if is == "FAILURE" {
			o["name"] = name + " " + p.text
			if !v3 {
				o["name"], o["progress_text"] = name, []string{"Started", p.text}
			}
		}
		list = append(list, o)
	}
	out := object{}
	for k, v := range sum {
		out[k] = v
	}
	return list, out
}

func (s *Server) over(p *pipeline) bool {
	return s.state(p) != "queued" && s.state(p) != "in_progress"
}

func (s *Server) v2(p *pipeline) object {
	tasks, summary := s.tasks(p, false)
	o := object{
		"pipeline_id": loose(p.ID), "pipeline_type": p.Type, "project_id": p.Project.ID, "project_name": p.Project.Name, "name": "",
		"evidence_id": p.Evidence.ID, "evidence_name": p.Evidence.Name, "created": p.Created.UTC().Format("2006-01-02T15:04:05.000000"),
		"can_be_terminated": !s.over(p), "summary": summary, "subtasks": tasks, "user_id": 1, "user_name": "admin",
	}
	o[[]string{"terminated", "is_terminated"}[p.ID%2]] = s.over(p)
	if p.fault == "unnamed" && !s.over(p) {
		o["evidence_id"], o["evidence_name"] = 0, ""
	}
	return o
}

func (s *Server) v3(p *pipeline) object {
	tasks, summary := s.tasks(p, true)
	o := object{
		"pipeline": object{"id": loose(p.ID), "type": p.Type}, "project": object{"id": p.Project.ID, "name": p.Project.Name}, "name": "",
		"evidence": object{"id": p.Evidence.ID, "name": p.Evidence.Name}, "created": p.Created.UnixMilli(), "start_time": nil,
		"aborted": s.state(p) == "cancelled", "terminated": s.over(p), "can_be_terminated": !s.over(p), "status": s.state(p),
		"summary": summary, "subtasks": tasks, "kick_off": []string{}, "user": object{"id": 1, "name": "admin"},
	}
	if p.Trigger != 0 {
		o["triggering_pipeline_id"] = p.Trigger
	}
	if p.fault == "unnamed" && !s.over(p) {
		o["evidence"] = nil
	}
	return o
}

// getPipeline answers for one, which goes on by that; in v2 also for a project's.
func (s *Server) getPipeline(c *call) {
	id := c.path[len(c.path)-1]
	q := c.R.URL.Query()
	if !c.v3 {
		if id = q.Get("pipeline_id"); id == "" {
			s.listPipelines(c)
			return
		}
	}
	for _, p := range s.pipelines {
		if strconv.Itoa(p.ID) != id {
			continue
		}
		p.Asked++
		s.follow(p)
		var v2 any = s.v2(p)
		if p.ID%2 == 0 {
			v2 = object{"pipelines": []any{v2}}
		}
		c.ok(http.StatusOK, v2, s.v3(p))
		return
	}
	c.refuse(http.StatusNotFound, "There is no such pipeline")
}

func (s *Server) listPipelines(c *call) {
	q := c.R.URL.Query()
	v2, v3 := []object{}, []object{}
	for _, p := range slices.Backward(slices.Clone(s.pipelines)) {
		if p.fault == "unnamed" { // nobody knows its id to ask for it
			p.Asked++
			s.follow(p)
		}
		match := func(key, value string) bool { return q.Get(key) == "" || q.Get(key) == value }
		if match("project_id", strconv.Itoa(p.Project.ID)) && match("triggering_pipeline_id", strconv.Itoa(p.Trigger)) &&
			match("evidence_id", strconv.Itoa(p.Evidence.ID)) && match("type", p.Type) && match("pipeline_status", s.state(p)) &&
			strings.Contains(p.Evidence.Name, q.Get("evidence_name")) {
			v2, v3 = append(v2, s.v2(p)), append(v3, s.v3(p))
		}
	}
	if c.v3 {
		c.page(v3)
		return
	}
	c.ok(http.StatusOK, object{"pipelines": v2}, nil)
}

func (s *Server) listEvidence(c *call) {
	q := c.R.URL.Query()
	list := []object{}
	for _, e := range s.evidence {
		if q.Get("project_id") == strconv.Itoa(e.Project.ID) && strings.Contains(e.Name, q.Get("display_name")) {
			list = append(list, object{"id": e.ID, "project_id": e.Project.ID, "display_name": e.Name, "items": 0, "processing_ran": true, "details": object{"type": "file", "has_network_data": false}})
		}
	}
	c.page(list)
}

func (s *Server) importS3v2(c *call) {
	p := s.project(c.path[1])
	bucket, _ := c.body["bucket"].(string)
	file, _ := c.body["file_name"].(string)
	switch {
	case p == nil:
		c.refuse(http.StatusNotFound, "There is no such project")
	case bucket == "" || file == "":
		c.refuse(http.StatusBadRequest, "bucket and file_name must be strings")
	default:
		c.ok(http.StatusOK, object{"pipelines": []object{s.v2(s.begin(c, p, "s3://"+bucket+"/"+file, path.Base(file)))}}, nil)
	}
}

func (s *Server) importS3v3(c *call) {
	p := s.project(c.body["project_id"])
	bucket, _ := c.body["bucket"].(string)
	file, isText := c.body["file_name"].(string)
	if list, ok := c.body["file_name"].([]any); ok && len(list) == 1 {
		file, _ = list[0].(string)
	}
	switch {
	case p == nil:
		c.refuse(http.StatusNotFound, "There is no such project")
	case bucket == "" || file == "" || isText != s.opts.OldImport:
		c.refuse(http.StatusBadRequest, "'file_name' has the wrong type")
	default:
		c.ok(http.StatusOK, nil, object{"pipeline_id": loose(s.begin(c, p, "s3://"+bucket+"/"+file, path.Base(file)).ID)})
	}
}

func (s *Server) importURL(c *call) {
	p := s.project(c.body["project_id"])
	target, _ := c.body["url"].(string)
	u, err := url.Parse(target)
	switch {
	case p == nil:
		c.refuse(http.StatusNotFound, "There is no such project")
	case err != nil || u.Hostname() == "" || strings.ContainsAny(target, " []"):
		c.refuse(http.StatusBadRequest, "'url' does not match the pattern")
	default:
		c.ok(http.StatusOK, nil, object{"pipeline_id": s.begin(c, p, u.Host+u.Path, path.Base(u.Path)).ID})
	}
}

// uploadPath is what presigned URLs begin with.
const uploadPath = "/upload/"

const maxUpload = 5_000_000_000

func (s *Server) presign(c *call) {
	p := s.project(c.body["project_id"])
	names, _ := c.body["file_names"].([]any)
	if p == nil || len(names) < 1 || len(names) > 10 {
		c.refuse(http.StatusBadRequest, "project_id and 1 to 10 file_names are needed")
		return
	}
	urls := []object{}
	for _, n := range names {
		name, _ := n.(string)
		key := standin.Random(12)
		s.uploads[key] = &upload{project: p, name: name, fault: c.Fault}
		urls = append(urls, object{"url": s.APIURL() + uploadPath + key + "?X-Amz-Signature=" + standin.Random(8)})
	}
	c.ok(http.StatusOK, nil, object{"project_id": p.ID, "urls": urls})
}

// takeUpload counts the bytes of an upload, keeps none, and begins its import.
func (s *Server) takeUpload(c *standin.Call, key string) {
	s.mu.Lock()
	u := s.uploads[key]
	s.mu.Unlock()
	if u == nil || c.R.Method != http.MethodPut || c.R.Header.Get("Authorization") != "" {
		s.Count("badupload")
		c.Send(http.StatusForbidden, "application/xml", []byte("<Error><Code>AccessDenied</Code></Error>"))
		return
	}
	n, err := io.Copy(io.Discard, io.LimitReader(c.R.Body, maxUpload))
	if err != nil || n >= maxUpload || n != c.R.ContentLength {
		c.Send(http.StatusBadRequest, "application/xml", []byte("<Error><Code>EntityTooLarge</Code></Error>"))
		return
	}
	s.Count("upload")
	s.mu.Lock()
	if u.fault.Name != "nopipeline" {
		s.begin(&call{Call: &standin.Call{Fault: u.fault}}, u.project, "upload:"+u.name, u.name)
	} else {
		s.evidence = append(s.evidence, &evidence{ID: len(s.evidence) + 1, Project: u.project, Name: u.name, Created: s.opts.Now()})
	}
	s.mu.Unlock()
	c.Send(http.StatusOK, "application/xml", nil)
}

func (s *Server) listEC2(c *call) {
	list := []object{{"instance_id": "i-0123456789abcdef0", "instance_name": "web-1", "name": "web-1", "id": "i-0123456789abcdef0", "state": "running", "instance_type": "t3.small", "availability_zone": cmp.Or(c.R.URL.Query().Get("region"), "eu-west-1") + "a", "importable": true, "volumes": []object{}}}
	c.ok(http.StatusOK, object{"instances": list}, list, object{"pagination": object{"type": "cursor"}})
}

func (s *Server) importEC2v2(c *call) {
	p := s.project(c.path[1])
	instance, _ := c.body["instance_id"].(string)
	if bucket, _ := c.body["bucket"].(string); p == nil || instance == "" || bucket == "" {
		c.refuse(http.StatusBadRequest, "instance_id and bucket are needed")
		return
	}
	c.ok(http.StatusOK, s.v2(s.begin(c, p, "ec2:"+instance, instance)), nil)
}

func (s *Server) importEC2v3(c *call) {
	p := s.project(c.body["project_id"])
	instance, _ := c.body["instance_id"].(string)
	if region, _ := c.body["region"].(string); p == nil || instance == "" || region == "" {
		c.refuse(http.StatusBadRequest, "instance_id, region and project_id are needed")
		return
	}
	c.ok(http.StatusOK, nil, object{"pipeline_ids": []object{{"id": s.begin(c, p, "ec2:"+instance, instance).ID}}})
}

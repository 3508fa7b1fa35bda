package cadotest

import (
	"bufio"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"capagent/internal/standin"
)

type event struct {
	project  *project
	evidence string
	at       time.Time
	text     string
}

const (
	maxLogLine = 4 << 10
	maxLogs    = 10_000 // lines of one log
)

// AddEvents puts the lines of a sidecar log on a project's timeline: those of the
// form "YYYY-MM-DD HH:MM:SS message". It returns how many were understood.
func (s *Server) AddEvents(project int, evidence string, lines ...string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addEvents(s.project(strconv.Itoa(project)), evidence, lines)
}

func (s *Server) addEvents(p *project, evidence string, lines []string) int {
	n := 0
	for _, l := range lines {
		if len(l) < len(time.DateTime)+2 || l[len(time.DateTime)] != ' ' || p == nil {
			continue
		}
		at, err := time.Parse(time.DateTime, l[:len(time.DateTime)])
		if err != nil {
			continue
		}
		s.events = append(s.events, event{p, evidence, at, l[len(time.DateTime)+1:]})
		n++
	}
	return n
}

// readLog takes the lines of an object in.
func (s *Server) readLog(e *evidence, log io.ReadCloser) {
	if log == nil {
		return
	}
	defer func() { _ = log.Close() }()
	scan := bufio.NewScanner(io.LimitReader(log, 1<<20))
	scan.Buffer(nil, maxLogLine)
	var lines []string
	for scan.Scan() && len(lines) < maxLogs {
		lines = append(lines, scan.Text())
	}
	s.addEvents(e.Project, e.Name, lines)
}

// Events lists the texts on a project's timeline.
func (s *Server) Events(project int) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for _, e := range s.events {
		if e.project.ID == project {
			out = append(out, e.at.Format(time.DateTime)+" "+e.text)
		}
	}
	return out
}

func (s *Server) timeline(p *project, query string, from, to int64) []object {
	list := []object{}
	for i, e := range s.events {
		at := e.at.Unix()
		if e.project == p && strings.Contains(strings.ToLower(e.text), strings.ToLower(query)) && (from == 0 || at >= from) && (to == 0 || at <= to) {
			list = append(list, object{
				"id": strconv.Itoa(i + 1), "timestamp": at, "short": e.text, "message": e.text, "source": "LOG", "sourcetype": "Log File", "type": "Log Event",
				"evidence_id": 1, "evidence_name": e.evidence, "filename": e.evidence,
			})
		}
	}
	return list
}

const eventsPerPage = 100

func (s *Server) timelineV2(c *call) {
	p := s.project(c.path[1])
	if p == nil {
		c.refuse(http.StatusNotFound, "There is no such project")
		return
	}
	q := c.R.URL.Query()
	n := func(key string) int64 { v, _ := strconv.ParseInt(q.Get(key), 10, 64); return v }
	list := s.timeline(p, q.Get("query"), n("from_timestamp"), n("to_timestamp"))
	page := max(int(n("page")), 1)
	from := min((page-1)*eventsPerPage, len(list))
	c.ok(http.StatusOK, object{
		"page": page, "per_page": eventsPerPage, "pages": (len(list) + eventsPerPage - 1) / eventsPerPage, "total": len(list),
		"results": list[from:min(from+eventsPerPage, len(list))],
	}, nil)
}

func (s *Server) timelineV3(c *call) {
	q := c.R.URL.Query()
	p := s.project(q.Get("project_id"))
	if p == nil {
		c.refuse(http.StatusNotFound, "There is no such project")
		return
	}
	list := s.timeline(p, q.Get("search_text"), 0, 0)
	from, _ := strconv.Atoi(q.Get("cursor"))
	from = min(max(from, 0), len(list))
	to := min(from+eventsPerPage, len(list))
	pagination := object{"type": "cursor", "current_token": strconv.Itoa(from), "total_records": len(list)}
	if to < len(list) {
		pagination["next_token"] = strconv.Itoa(to)
	}
	c.ok(http.StatusOK, nil, list[from:to], object{"pagination": pagination})
}

// page is what people see.
func (s *Server) page() []standin.Section {
	s.mu.Lock()
	defer s.mu.Unlock()
	projects := standin.Section{Title: "Projects", Head: []string{"ID", "Name", "Created"}, Empty: "None yet."}
	for _, p := range s.projects {
		projects.Rows = append(projects.Rows, []string{strconv.Itoa(p.ID), p.Name, p.Created.UTC().Format(time.DateTime)})
	}
	pipelines := standin.Section{Title: "Pipelines", Head: []string{"ID", "Project", "Type", "Evidence", "State", "From"}, Empty: "None yet."}
	for i := len(s.pipelines) - 1; i >= 0; i-- {
		p := s.pipelines[i]
		pipelines.Rows = append(pipelines.Rows, []string{strconv.Itoa(p.ID), p.Project.Name, p.Type, p.Evidence.Name, s.state(p), p.source})
	}
	events := standin.Section{Title: "Timeline", Head: []string{"Time", "Project", "Event"}, Empty: "No events. Sidecar logs become some when the sandbox's own store is used."}
	for i := len(s.events) - 1; i >= 0; i-- {
		e := s.events[i]
		events.Rows = append(events.Rows, []string{e.at.Format(time.DateTime), e.project.Name, e.text})
	}
	return []standin.Section{projects, pipelines, events}
}

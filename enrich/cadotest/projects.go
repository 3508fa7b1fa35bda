package cadotest

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

type project struct {
	ID          int
	Name        string
	Description string
	Created     time.Time
	Deleted     bool
}

// Project is one as Projects tells of it.
type Project struct {
	ID   int
	Name string
}

// AddProject adds one. A deleted one keeps its name from being taken in v2.
func (s *Server) AddProject(name string, deleted bool) Project {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.addProject(name, "")
	p.Deleted = deleted
	return Project{p.ID, p.Name}
}

// Projects lists those that are not deleted.
func (s *Server) Projects() []Project {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Project
	for _, p := range s.projects {
		if !p.Deleted {
			out = append(out, Project{p.ID, p.Name})
		}
	}
	return out
}

func (s *Server) addProject(name, description string) *project {
	p := &project{ID: len(s.projects) + 1, Name: name, Description: description, Created: s.opts.Now()}
	s.projects = append(s.projects, p)
	return p
}

func (s *Server) project(id any) *project {
	text, _ := id.(string)
	if f, ok := id.(float64); ok {
		text = strconv.FormatFloat(f, 'f', -1, 64)
	}
	for _, p := range s.projects {
		if strconv.Itoa(p.ID) == text && !p.Deleted {
			return p
		}
	}
	return nil
}

func (p *project) v2() object {
	return object{"id": loose(p.ID), "caseName": p.Name, "created": p.Created.UTC().Format("2006-01-02T15:04:05.000000"), "deleted": p.Deleted, "description": p.Description, "status": "Pending", "users": []object{{"id": 1, "username": "admin"}}}
}

func (p *project) v3() object {
	return object{"id": loose(p.ID), "created": p.Created.UnixMilli(), "details": object{"name": p.Name, "description": p.Description, "status": "Collection & Analysis", "items_identified": 0}, "evidences": 0, "ai_summary": nil}
}

// loose gives every third id as a string.
func loose(id int) any {
	if id%3 == 0 {
		return strconv.Itoa(id)
	}
	return id
}

func (s *Server) listProjects(c *call) {
	if !c.v3 {
		list := []object{}
		for _, p := range s.projects {
			list = append(list, p.v2())
		}
		c.ok(http.StatusOK, list, nil)
		return
	}
	list := []object{}
	for _, p := range slices.Backward(s.projects) { // -created
		if name := c.R.URL.Query().Get("name"); !p.Deleted && strings.Contains(strings.ToLower(p.Name), strings.ToLower(name)) {
			list = append(list, p.v3())
		}
	}
	c.page(list)
}

// page answers with the page that was asked for.
func (c *call) page(list []object) {
	number := func(key string, otherwise int) int {
		if n, err := strconv.Atoi(c.R.URL.Query().Get(key)); err == nil && n > 0 {
			return n
		}
		return otherwise
	}
	page, per := number("page", 1), min(number("per_page", 10), 100)
	from := min((page-1)*per, len(list))
	total := (len(list) + per - 1) / per
	c.ok(http.StatusOK, nil, list[from:min(from+per, len(list))],
		object{"pagination": object{"type": "page", "total_records": len(list), "current_page": page, "total_pages": max(total, 1), "per_page": per}})
}

func (s *Server) createProject(c *call) {
	key := "caseName"
	if c.v3 {
		key = "case_name"
	}
	name, _ := c.body[key].(string)
	description, _ := c.body["description"].(string)
	if n := utf8.RuneCountInString(name); n < 1 || n > 80 {
		c.refuse(http.StatusBadRequest, "'"+key+"' must have 1 to 80 characters")
		return
	}
	taken := slices.ContainsFunc(s.projects, func(p *project) bool { return p.Name == name })
	if taken && (!c.v3 || !s.opts.SameNames) {
		s.Count("conflict")
		if c.v3 {
			c.refuse(http.StatusBadRequest, "A project with this name already exists")
			return
		}
		c.refuse(http.StatusConflict, "Project name already exists")
		return
	}
	p := s.addProject(name, description)
	c.ok(map[bool]int{false: http.StatusOK, true: http.StatusCreated}[c.v3], object{"id": p.ID, "msg": "Created"}, object{"id": p.ID, "message": "Created"})
}

func (s *Server) getProject(c *call) {
	if p := s.project(c.path[1]); p != nil {
		c.ok(http.StatusOK, p.v2(), p.v3())
		return
	}
	c.refuse(http.StatusNotFound, "There is no such project")
}

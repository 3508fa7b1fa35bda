package cloudsharktest

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
)

const (
	deepPath    = "/api/v2/deep_search/"
	maxDeepBody = 1 << 20
	maxDeep     = 1000 // searches that are remembered
)

// deepSearch is a search in the packets of sessions (contracts/cloudshark.md 1.3).
type deepSearch struct {
	token    *Token // only who began it may see it
	finished bool
	captures []string
	failed   string // why there is no result
}

// deepSearch begins a search, says how far one is, or gives its results. tshark reads
// the captures; without it this CloudShark is one that has no deep search.
func (c *call) deepSearch() (func(), error) {
	if c.r.Method == http.MethodPost {
		return c.beginDeepSearch()
	}
	id, results := strings.CutSuffix(strings.TrimSuffix(c.id, "/"), "/results")
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	d := c.s.deep[id]
	switch {
	case d == nil || d.token != c.token:
		return nil, refuse(http.StatusNotFound, "Deep search not found")
	case d.failed != "":
		return nil, refuse(http.StatusInternalServerError, "%s", d.failed)
	case results && !d.finished:
		return nil, violation(http.StatusConflict, "the search is not finished")
	case results:
		found := d.captures
		return func() { c.send(http.StatusOK, found) }, nil
	}
	state := map[string]any{"id": id, "finished?": d.finished}
	return func() { c.send(http.StatusOK, state) }, nil
}

func (c *call) beginDeepSearch() (func(), error) {
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		return nil, refuse(http.StatusNotFound, "API method not found")
	}
	var in struct {
		Filter   string   `json:"display_filter"`
		Captures []string `json:"capture_ids"`
	}
	body, err := io.ReadAll(io.LimitReader(c.body, maxDeepBody))
	if err != nil {
		return nil, errClientGone
	}
	if json.Unmarshal(body, &in) != nil || in.Filter == "" {
		return nil, violation(http.StatusBadRequest, "no display_filter")
	}
	sessions, _ := c.s.store.find(func(s *Session) bool { return in.Captures == nil || slices.Contains(in.Captures, s.ID) }, 0, 0)
	id := randomHex(12)
	d := &deepSearch{token: c.token, captures: []string{}}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if len(c.s.deep) >= maxDeep || c.s.deep == nil {
		c.s.deep = map[string]*deepSearch{}
	}
	c.s.deep[id] = d
	c.s.workers.Go(func() { c.s.search(tshark, d, in.Filter, sessions) })
	return func() { c.send(http.StatusCreated, map[string]any{"id": id, "finished?": false}) }, nil
}

// search reads captures until one packet of each is found, or its end.
func (s *Server) search(tshark string, d *deepSearch, filter string, sessions []Session) {
	var found []string
	failed := ""
	for _, session := range sessions {
		one := session
		out, err := s.tshark(tshark, s.store.path(&one), filter)
		if err != nil {
			failed = "Deep search failed: " + err.Error()
			break
		}
		if len(out) > 0 {
			found = append(found, session.ID)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d.finished, d.failed, d.captures = true, failed, append(d.captures, found...)
}

func (s *Server) tshark(program, path, filter string) ([]byte, error) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-n", "-r", path, "-Y", filter, "-T", "fields", "-e", "frame.number") //nolint:gosec // a display filter is no command
	return cmd.Output()
}

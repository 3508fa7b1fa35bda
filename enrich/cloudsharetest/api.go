package cloudsharetest

import (
	"crypto/sha1"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"capagent/internal/lazy"
	"capagent/internal/standin"
)

// maxSkew is for how long a request is good after it was formed.
const maxSkew = time.Minute

var authorization = lazy.Regexp(`^cs_sha1 userapiid:([^;]*);timestamp:([0-9]{1,12});token:([A-Za-z0-9]{10});hmac:([0-9a-f]{40})$`)

// authorize says why a request is refused, or "". The signature is checked over the URL
// as the client wrote it: nothing of what a parser makes of it is used.
func (s *Server) authorize(c *standin.Call) string {
	m := authorization().FindStringSubmatch(c.R.Header.Get("Authorization"))
	if m == nil {
		return "The Authorization header is not well formed"
	}
	target := c.R.RequestURI
	if !strings.Contains(target, "://") { // else a proxy's form, which is whole (RFC 9112 3.2.2)
		scheme := "http://"
		if c.R.TLS != nil || strings.HasPrefix(s.opts.BaseURL, "https://") {
			scheme = "https://"
		}
		target = scheme + c.R.Host + target
	}
	sum := sha1.Sum([]byte(s.APIKey + target + m[2] + m[3]))
	if m[1] != s.APIID || subtle.ConstantTimeCompare([]byte(hex.EncodeToString(sum[:])), []byte(m[4])) != 1 {
		s.Count("signature")
		return "Signature does not match"
	}
	seconds, _ := strconv.ParseInt(m[2], 10, 64)
	if c.Now().Sub(time.Unix(seconds, 0)).Abs() > maxSkew {
		s.Count("skew")
		return "Request expired"
	}
	if !s.fresh(m[3]) {
		s.Count("replay")
		return "Token was used before"
	}
	return ""
}

// fresh says whether a token is used for the first time.
func (s *Server) fresh(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if len(s.tokens) > 100_000 {
		for t, at := range s.tokens {
			if now.Sub(at) > 3*maxSkew {
				delete(s.tokens, t)
			}
		}
	}
	if _, used := s.tokens[token]; used {
		return false
	}
	s.tokens[token] = now
	return true
}

// forbidden are calls that destroy something, or reach into a machine.
var forbidden = lazy.Regexp(`(?i)/actions/(revert|editvmhardware|reboot|markdefault|regenerate\w*|executepath)$`)

func (s *Server) serve(c *standin.Call) {
	if !s.enter() {
		s.Count("parallel")
	}
	defer s.leave()
	path := strings.ToLower(strings.TrimPrefix(c.R.URL.Path, Prefix))
	if c.R.Method == http.MethodDelete || forbidden().MatchString("/"+path) {
		s.Count("forbidden")
		c.Fail(http.StatusForbidden, "The stand-in destroys nothing")
		return
	}
	if why := s.authorize(c); why != "" {
		c.Fail(http.StatusUnauthorized, why)
		return
	}
	s.mu.Lock()
	status, answer := s.route(c, path)
	s.mu.Unlock()
	if c.Is("held") {
		<-c.R.Context().Done()
		panic(http.ErrAbortHandler)
	}
	if text, failed := answer.(failed); failed {
		c.Fail(status, string(text))
		return
	}
	if c.Is("odd") {
		answer = map[string]any{"vms": "none", "id": 7, "name": []int{1}}
	}
	if answer == nil {
		c.Send(status, "application/json", nil)
		return
	}
	c.JSON(status, answer)
}

func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.underway++
	return s.underway == 1
}

func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.underway--
}

// failed is the message of a failure.
type failed string

// route answers with s.mu held.
func (s *Server) route(c *standin.Call, path string) (int, any) {
	q := c.R.URL.Query()
	if call, ok := s.routes()[c.R.Method+" "+path]; ok {
		return call(c, q)
	}
	if id, ok := strings.CutPrefix(path, "envs/"); ok && c.R.Method == http.MethodGet && !strings.Contains(id, "/") {
		return s.one(c, strings.TrimPrefix(c.R.URL.Path, Prefix+"envs/"), q)
	}
	s.Count("unknown")
	return http.StatusNotFound, failed("No such path")
}

type call func(*standin.Call, url.Values) (int, any)

func (s *Server) routes() map[string]call {
	take := http.MethodPost
	if s.opts.TakeByPut {
		take = http.MethodPut
	}
	routes := map[string]call{
		"GET ping":                            func(*standin.Call, url.Values) (int, any) { return 200, map[string]string{"result": "Pong"} },
		"GET envs":                            s.list,
		"GET envs/actions/getextended":        s.of("envId", s.extended),
		"GET snapshots/actions/getforenv":     s.of("envId", s.snapshots),
		"PUT envs/actions/postponeinactivity": s.of("envId", s.postpone),
		"PUT envs/actions/extend":             s.of("envId", s.extend),
		"PUT envs/actions/suspend":            s.of("envId", s.suspend),
		"GET envs/actions/getextendedbymachinevanity": func(c *standin.Call, q url.Values) (int, any) {
			e := s.vanity(q.Get("machineVanity"))
			if e == nil {
				return 404, failed("Machine not found")
			}
			return s.extended(c, e)
		},
		"POST snapshots/actions/takesnapshot": func(*standin.Call, url.Values) (int, any) { return 405, failed("Method not allowed") },
	}
	routes[take+" snapshots/actions/takesnapshot"] = s.take
	return routes
}

// of finds the environment that a query names.
func (s *Server) of(key string, then func(*standin.Call, *Env) (int, any)) call {
	return func(c *standin.Call, q url.Values) (int, any) {
		if e := s.env(q.Get(key)); e != nil {
			return then(c, e)
		}
		return 404, failed("Environment not found")
	}
}

func (s *Server) list(c *standin.Call, q url.Values) (int, any) {
	all := q.Get("criteria") != "allowed"
	out := []map[string]any{}
	for _, e := range s.envs {
		if all || !e.Foreign {
			out = append(out, s.brief(e, q.Get("brief") != "false"))
		}
	}
	if c.Is("many") && len(out) > 0 {
		for len(out) < 5000 {
			out = append(out, out[0])
		}
	}
	if c.Is("wild") {
		return 200, append([]any{nil, 7, "x", []int{}, map[string]any{"id": "../../x", "name": "\x1b[2J"}, map[string]any{"id": strings.Repeat("a", 1<<16)}}, anys(out)...)
	}
	return 200, out
}

func anys(list []map[string]any) (out []any) {
	for _, one := range list {
		out = append(out, one)
	}
	return out
}

func (s *Server) brief(e *Env, short bool) map[string]any {
	out := map[string]any{"id": e.ID, "name": e.Name}
	if !short {
		out["projectId"], out["ownerEmail"], out["status"], out["regionId"], out["description"] = "PR1", e.Owner, statusTexts[e.Status], e.Region, nil
	}
	return out
}

func (s *Server) one(c *standin.Call, id string, q url.Values) (int, any) {
	e := s.env(id)
	switch {
	case e == nil:
		return 404, failed("Environment not found")
	case q.Get("permission") == "edit" && (e.ReadOnly || c.Is("permission")):
		return 500, failed("An error occurred")
	}
	return 200, s.brief(e, false)
}

func (s *Server) extended(c *standin.Call, e *Env) (int, any) {
	s.asked(e, c.Is("stuck"))
	vms := []map[string]any{}
	for _, vm := range e.VMs {
		one := map[string]any{
			"id": vm.ID, "name": vm.Name, "statusText": "Running", "suspensionState": "Power Off", "progress": 100, "os": "Linux", "webAccessUrl": nil,
			"fqdn": vm.FQDN, "externalAddress": vm.External, "internalAddresses": vm.Internal, "cpuCount": 1,
			"username": vm.User, "password": vm.Password, "consoleToken": vm.ConsoleToken,
		}
		if e.Status == Suspended {
			one["fqdn"], one["externalAddress"] = nil, nil
		}
		vms = append(vms, one)
	}
	if c.Is("many") && len(vms) > 0 {
		vms = slices.Repeat(vms[:1], 5000)
	}
	var expires any
	if !e.Expires.IsZero() {
		expires = e.Expires.UTC().Format(http.TimeFormat)
	}
	out := map[string]any{
		"vms": vms, "blueprintId": "BP1", "blueprintName": e.Blueprint, "policyName": "On Demand", "expirationTime": expires, "ownerEmail": e.Owner,
		"projectId": "PR1", "projectName": e.Project, "snapshotId": nil, "snapshotName": nil, "statusCode": e.Status, "statusText": statusTexts[e.Status],
		"regionId": e.Region, "name": e.Name, "id": e.ID,
	}
	if c.Is("wild") {
		warp(out, vms)
	}
	return 200, out
}

// warp makes an environment wild, and leaves it one.
func warp(out map[string]any, vms []map[string]any) {
	out["name"], out["projectName"] = "\x1b]0;title\x07<script>\u202ealert(1)</script>\r\nTags: x", strings.Repeat("long, ", 20_000)
	out["statusCode"], out["expirationTime"], out["ownerEmail"] = "2", "9999-99-99", []int{1}
	for _, vm := range vms {
		vm["name"], vm["statusText"] = "a\x00b\n", map[string]any{"x": 1}
		vm["internalAddresses"] = append([]any{7, nil, "fe80::1%eth0", "::", "x"}, slices.Repeat([]any{"10.0.0.1"}, 5000)...)
	}
}

func (s *Server) snapshots(c *standin.Call, e *Env) (int, any) {
	out := []map[string]any{}
	for i, one := range e.Snapshots {
		out = append(out, map[string]any{
			"id": one.ID, "name": one.Name, "createTime": one.Created.UTC().Format(http.TimeFormat), "isDefault": one.Default, "isLatest": i == len(e.Snapshots)-1,
			"number": i + 1, "machines": []map[string]any{}, "regions": []any{},
		})
	}
	if c.Is("many") {
		out = slices.Repeat(append(out, map[string]any{"name": "x"}), 5000)
	}
	return 200, out
}

func (s *Server) postpone(_ *standin.Call, e *Env) (int, any) {
	s.Count("postpone")
	e.Postponed++
	return 204, nil
}

func (s *Server) extend(c *standin.Call, e *Env) (int, any) {
	s.Count("extend")
	if !c.Is("nochange") && !e.Expires.IsZero() {
		e.Expires = e.Expires.Add(72 * time.Hour)
	}
	return 200, nil
}

func (s *Server) suspend(_ *standin.Call, e *Env) (int, any) {
	s.Count("suspend")
	e.Status = Suspended
	return 200, nil
}

func (s *Server) take(c *standin.Call, _ url.Values) (int, any) {
	// setAsDefault is true unless it is said.
	in := struct {
		EnvID            string  `json:"envId"`
		Name             string  `json:"name"`
		SetAsDefault     *bool   `json:"setAsDefault"`
		NewBlueprintName *string `json:"newBlueprintName"`
		OtherBlueprintID *string `json:"otherBlueprintId"`
	}{}
	if c.R.Header.Get("Content-Type") != "application/json" || json.Unmarshal(c.Body, &in) != nil || in.Name == "" || len(in.Name) > 32 {
		return 400, failed("Bad request")
	}
	e := s.env(in.EnvID)
	switch {
	case e == nil:
		return 404, failed("Environment not found")
	case e.ReadOnly:
		return 403, failed("No permission")
	case e.Status != Ready, in.NewBlueprintName != nil && in.OtherBlueprintID != nil:
		return 409, failed("Not possible now")
	}
	s.Count("snapshot")
	e.Status, e.taking, e.next = Taking, s.opts.Taking, in.Name
	e.nextMain = in.SetAsDefault == nil || *in.SetAsDefault || c.Is("default")
	if c.Is("lost") {
		e.next = ""
	}
	return 204, nil
}

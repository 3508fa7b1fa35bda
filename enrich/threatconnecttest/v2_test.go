package threatconnecttest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestV2Lookups(t *testing.T) {
	s := start(t, Options{})
	const (
		file  = "44D88612FEA8A8F36DE82E1278ABB02F"
		link  = "http%3A%2F%2Fevil.example.com%2FBad.php%3Fa%3D1%26b%3D2"
		agent = "bad%20%22agent%27%5C1.0"
	)
	for target, want := range map[string]struct {
		status int
		holds  string
	}{
		"indicators/addresses/198.51.100.23":                            {200, `"address":{"confidence":60`},
		"indicators/addresses/198.51.100.23?owner=Common%20Community":   {200, `"rating":4.5`},
		"indicators/addresses/198.51.100.23?Owner=Common+Community":     {200, `"owner":{"id":11,"name":"Common Community","type":"Community"}`},
		"indicators/addresses/198.51.100.23?owner=Nobody":               {403, `{"message":"The requested owner was not found","status":"Failure"}`},
		"indicators/addresses/198.51.100.23?owner=Secret%20Source":      {403, msgNoOwner},
		"indicators/addresses/203.0.113.9":                              {404, `{"message":"The requested resource was not found","status":"Failure"}`},
		"indicators/addresses/2001%3Adb8%3A0%3A0%3A0%3A0%3A0%3A1":       {200, `"ip":"2001:db8:0:0:0:0:0:1"`},
		"indicators/hosts/evil.example.com":                             {404, msgNotFound}, // not in the own organization
		"indicators/hosts/evil.example.com?owner=Common%20Community":    {200, `"dnsActive":"true"`},
		"indicators/urls/" + link:                                       {200, `"text":"http://evil.example.com/Bad.php?a=1&b=2"`},
		"indicators/urls/http://evil.example.com/Bad.php":               {500, "Could not find resource for relative"},
		"indicators/files/" + file:                                      {200, `"sha1":"3395856CE81F2B7382DEE72602F798B642F14140"`},
		"indicators/files/3395856CE81F2B7382DEE72602F798B642F14140":     {200, `"md5":"` + file},
		"indicators/userAgents/" + agent:                                {200, `"User Agent String":"bad \"agent'\\1.0"`},
		"indicators/nonsense/x":                                         {500, "Could not find resource"},
		"indicators/hosts/old.example.com?includes=additional":          {200, `"active":false`},
		"indicators/addresses/198.51.100.23?includes=tags":              {200, `"tag":[{"name":"c2"}]`},
		"indicators/addresses/198.51.100.23?includeTags=true":           {200, `"tag":[`},
		"indicators/addresses/198.51.100.23/owners":                     {200, `"resultCount":2`},
		"indicators/addresses/198.51.100.23/owners?includes=additional": {200, `"itemId":`},
		"indicators/addresses/203.0.113.9/owners":                       {404, msgNotFound},
		"indicators/addresses/198.51.100.23/groups":                     {200, `"name":"Spring"`},
		"indicators/addresses/198.51.100.23/groups/malware":             {200, `"resultCount":1`},
		"indicators/addresses?filters=summary%3D203.0.113.9":            {200, `"resultCount":0`},
		"indicators/addresses?filters=summary%3D198.51.100.23":          {200, `"resultCount":1`},
		"indicators/addresses?filters=summary%5E198.":                   {200, `"resultCount":1`},
		"indicators?filters=rating%3E1%2Cconfidence%3E50":               {200, `"resultCount":1`},
		"indicators?filters=rating%3E2%2Cconfidence%3D0&orParams=true":  {200, `"resultCount":5`},
		"indicators/hosts": {200, `"host":[],"resultCount":0`},
		"indicators/hosts?filters=active%3Dtrue,active%3Dfalse&orParams=true": {200, `"hostName":"old.example.com"`},
		"indicators?modifiedSince=2025-03-05":                                 {200, `"resultCount":0`},
		"indicators?filters=colour%3Dred":                                     {400, msgMalformed},
		"indicators?filters=summary":                                          {400, msgMalformed},
		"indicators?resultLimit=501":                                          {400, "maximum value for resultLimit is 500"},
		"indicators?resultLimit=2":                                            {200, `"resultCount":5`},
		"owners":                                                              {200, `"name":"Common Community"`},
		"types/indicatorTypes":                                                {200, `"apiBranch":"userAgents"`},
		"nonsense":                                                            {500, "Could not find resource"},
		"indicators/bulk?owner=Common%20Community":                            {200, `"jsonEnabled":true`},
		"indicators/bulk/json?owner=Common%20Community":                       {200, `{"indicator":[{"attribute":[],"confidence":80`},
		"indicators/bulk/csv":                                                 {200, "Type,Value,Rating,Confidence\nAddress,198.51.100.23,3.00,60\nURL,http://evil.example.com/Bad.php?a=1&b=2,null,null\n"},
	} {
		s.opts.MaxLimit = 500
		if r := get(t, s, "/api/v2/"+target); r.status != want.status || !strings.Contains(r.body, want.holds) {
			t.Errorf("%s\n%d %s", target, r.status, r.body)
		}
	}
	if r := get(t, s, "/api/v2/indicators?resultStart=2"); strings.Contains(r.body, "resultCount") {
		t.Errorf("%s", r.body)
	}
	s.AddOwner(Owner{Name: "Common Community", NoBulk: true})
	if r := get(t, s, "/api/v2/indicators/bulk/json?owner=Common%20Community"); r.status != 404 {
		t.Errorf("%d", r.status)
	}
	if v := s.Violations(); len(v) != 0 {
		t.Errorf("%+v", v)
	}
	if r := get(t, s, "/api/v2/indicators/files/aaaaaaaaaaaaaa%20%3A%20bbbbbbbbbbbbbbb"); r.status != 404 {
		t.Errorf("%d %v", r.status, r.err)
	}
	for _, value := range []string{"addresses/2001:db8::1", "hosts/EVIL.example.com", "files/" + strings.ToLower(file)} {
		if r := get(t, s, "/api/v2/indicators/"+value); r.status != 404 {
			t.Errorf("%s: %d", value, r.status)
		}
	}
	if v := s.Violations(); len(v) != 3 {
		t.Errorf("%+v", v)
	}
}

func TestV2Writes(t *testing.T) {
	s := start(t, Options{})
	post := func(target, body string, want int, holds string) reply {
		t.Helper()
		r := ask(t, s, "POST", "/api/v2/"+target, body)
		if r.status != want || !strings.Contains(r.body, holds) {
			t.Errorf("%s: %d %s %v", target, r.status, r.body, r.err)
		}
		return r
	}
	const address = "indicators/addresses/198.51.100.23"
	post(address+"/observations", `{"count":2}`, 200, `{"status":"Success"}`)
	post(address+"/observations", `{"count":0}`, 400, msgMalformed)
	post(address+"/observations", `{"number":1}`, 400, msgMalformed)
	post("indicators/addresses/203.0.113.9/observations", `{"count":2}`, 404, msgNotFound)
	post(address+"/falsePositive", "", 200, `"count":1`)
	post(address+"/falsePositive", "", 200, `"count":1`)
	if o := s.Observations(); len(o) != 1 || o[0].Count != 2 || o[0].Value != "198.51.100.23" || o[0].Owner != "Demo Organization" || o[0].Indicator != s.Indicators()[0].ID {
		t.Errorf("%+v", o)
	}
	if i := s.Indicators()[0]; i.Observations != 2 || i.FalsePositives != 1 {
		t.Errorf("%+v", i)
	}

	post("groups/incidents", `{"name":"x"}`, 400, "eventDate")
	post("groups/incidents", `{"name":"x","eventDate":"2026-01-02T03:04:05Z","status":"Odd"}`, 400, "status")
	r := post("groups/incidents", `{"name":"Capture","eventDate":"2026-01-02T03:04:05Z","status":"New"}`, 201, `"status":"Success"`)
	id := fmt.Sprint(r.json(t)["data"].(map[string]any)["incident"].(map[string]any)["id"])
	post("groups/incidents/"+id+"/attributes", `{"type":"Description","value":"https://x/captures/1","displayed":true}`, 200, "")
	post("groups/incidents/"+id+"/tags/capagent", "", 200, "")
	post(address+"/groups/incidents/"+id, "", 200, "")
	post(address+"/groups/incidents/"+id+"?owner=Common%20Community", "", 404, "") // another owner's
	post(address+"/groups/incidents/1", "", 404, "")
	in := s.Incidents()
	if len(in) != 1 || fmt.Sprint(in[0].ID) != id || in[0].Name != "Capture" || len(in[0].Indicators) != 1 || in[0].Tags[0] != "capagent" || in[0].Attributes[0].Value != "https://x/captures/1" {
		t.Errorf("%+v", in)
	}
	for _, target := range []string{address + "/groups/incidents", "groups/incidents", "groups/incidents/" + id} {
		if r := get(t, s, "/api/v2/"+target); !strings.Contains(r.body, `"name":"Capture"`) {
			t.Errorf("%s: %s", target, r.body)
		}
	}
}

func TestV3Writes(t *testing.T) {
	s := start(t, Options{Tidy: true})
	put := func(target, body string, want int, holds string) reply {
		t.Helper()
		method := "PUT"
		if strings.HasPrefix(target, "groups") {
			method = "POST"
		}
		r := ask(t, s, method, "/api/v3/"+target, body)
		if r.status != want || !strings.Contains(r.body, holds) {
			t.Errorf("%s %s: %d %s %v", target, body, r.status, r.body, r.err)
		}
		return r
	}
	put("indicators/1001?fields=observations", `{"observations":1}`, 200, `"observations":1`)
	put("indicators/198.51.100.23?fields=observations", `{"observations":3}`, 200, `"observations":4`)
	put("indicators/1001?fields=falsePositives", `{"falsePositiveFlag":true}`, 200, `"falsePositives":1`)
	put("indicators/1001?fields=falsePositives", `{"falsePositiveFlag":true}`, 200, `"message":"Updated"`)
	put("indicators/1001", `{"rating":1}`, 400, "0x1001")
	put("indicators/1001", `{}`, 400, "0x1001")
	put("indicators/1003", `{"observations":1}`, 404, "0x1004") // of a hidden owner
	if o := s.Observations(); len(o) != 2 || o[1].Count != 3 || s.Indicators()[0].FalsePositives != 1 {
		t.Errorf("%+v", o)
	}

	incident := `{"type":"Incident","name":"Capture","eventDate":"2026-01-02T03:04:05Z","status":"New",
	"associatedIndicators":{"data":[{"id":1001},{"type":"Host","hostName":"evil.example.com","ownerName":"Common Community"}]},
	"attributes":{"data":[{"type":"Description","value":"link","default":true}]},"tags":{"data":[{"name":"x"}]}}`
	put("groups", incident, 201, `"message":"Created"`)
	in := s.Incidents()
	if len(in) != 1 || fmt.Sprint(in[0].Indicators) != "[1001 1004]" || in[0].Attributes[0] != (Attribute{"Description", "link"}) || in[0].Owner != "Demo Organization" {
		t.Errorf("%+v", in)
	}
	put("groups?owner=Nobody", incident, 403, "0x1003")
	for _, bad := range []string{
		`{"type":"Threat","name":"x"}`, `{"type":"Incident"}`, `{"type":"Incident","name":"x","description":"d"}`, `{"type":"Incident","name":"x","eventDate":"soon"}`,
		`{"type":"Incident","name":"x","associatedIndicators":{"data":[{"hostName":"evil.example.com"}]}}`, `{"type":"Incident","name":"x","attributes":{"data":[{"type":"Description"}]}}`,
		`{"type":"Incident","name":"x","tags":[{"name":"x"}]}`,
	} {
		put("groups", bad, 400, "0x1001")
	}
	put("groups", `{"type":"Incident","name":"x","associatedIndicators":{"data":[{"id":7}]}}`, 404, "0x1004")
	if r := get(t, s, "/api/v3/groups?tql=typeName%20%3D%20%22Incident%22%20and%20summary%20%3D%20%22Capture%22"); !strings.Contains(r.body, `"name":"Capture"`) {
		t.Errorf("%s", r.body)
	}
	if r := get(t, s, fmt.Sprintf("/api/v3/groups/%d", in[0].ID)); !strings.Contains(r.body, `"status":"Success"`) {
		t.Errorf("%s", r.body)
	}
	if r := ask(t, s, "DELETE", "/api/v3/indicators/1001", ""); r.status != 405 || r.json(t)["errCode"] != "0x1005" {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func TestReadOnlyUser(t *testing.T) {
	s := start(t, Options{ReadOnly: true})
	r := ask(t, s, "POST", "/api/v2/indicators/addresses/198.51.100.23/observations", `{"count":2}`)
	if r.status != 403 || !strings.Contains(r.body, msgDenied) || len(s.Observations()) != 0 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if r := get(t, s, "/api/v2/owners"); r.status != 200 {
		t.Errorf("%d", r.status)
	}
}

// TestReplays: what is signed and said twice is the same request, sent twice.
func TestReplays(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		now := time.Now()
		s := start(t, Options{RefuseReplays: refuse, Now: func() time.Time { return now }})
		fixed := func(r *http.Request) {
			r.Header.Set("Timestamp", fmt.Sprint(now.Unix()))
			r.Header.Set("Authorization", "TC "+s.AccessID+":"+sign(s.SecretKey, r.URL.RequestURI(), r.Method, fmt.Sprint(now.Unix())))
		}
		const target = "/api/v2/indicators/addresses/198.51.100.23/observations"
		var statuses []int
		for _, body := range []string{`{"count":1}`, `{"count":1}`, `{"count":2}`} {
			statuses = append(statuses, ask(t, s, "POST", target, body, fixed).status)
		}
		want, stored := "[200 200 200]", 3
		if refuse {
			want, stored = "[200 401 200]", 2
		}
		if fmt.Sprint(statuses) != want || len(s.Observations()) != stored || s.Counters().Replays != 1 {
			t.Errorf("%v, %d, %+v", statuses, len(s.Observations()), s.Counters())
		}
	}
}

// TestDropAfterAWrite: what was asked is done although nobody hears of it.
func TestDropAfterAWrite(t *testing.T) {
	s := start(t, Options{})
	set1(t, s, "drop:endpoint=v2.observations")
	if r := ask(t, s, "POST", "/api/v2/indicators/addresses/198.51.100.23/observations", `{"count":2}`); r.err == nil || len(s.Observations()) != 1 {
		t.Errorf("%+v, %d", r, len(s.Observations()))
	}
}

func TestV2Faults(t *testing.T) {
	s := start(t, Options{})
	for text, want := range map[string]string{
		"lying":      "203.0.113.99",
		"wild":       "javascript:",
		"unlicensed": `{"message":"API access has not been licensed for this system`,
		"status":     `{"message":"An unknown error occurred","status":"Failure"}`,
	} {
		set1(t, s, text)
		if r := get(t, s, "/api/v2/indicators/addresses/198.51.100.23"); !strings.Contains(r.body, want) {
			t.Errorf("%s: %d %.300s", text, r.status, r.body)
		}
	}
}

package threatconnecttest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestPaging(t *testing.T) {
	s := Start(t, Options{})
	for n := range 25 {
		s.Add(Indicator{Type: "Address", Value: fmt.Sprintf("192.0.2.%d", n)})
	}
	target := "/api/v3/indicators?count=true&resultLimit=10&tql=typeName%20%3D%20%22Address%22"
	var seen []string
	for page := 0; ; page++ {
		r := get(t, s, target)
		m := r.json(t)
		seen = append(seen, names(t, r)...)
		if count, ok := m["count"]; ok != (page == 0) || ok && fmt.Sprint(count) != "25" {
			t.Errorf("page %d: count %v", page, count)
		}
		if _, ok := m["prev"]; ok != (page > 0) {
			t.Errorf("page %d: prev %v", page, m["prev"])
		}
		next, ok := m["next"].(string)
		if !ok {
			break
		}
		if target, ok = strings.CutPrefix(next, s.URL); !ok {
			t.Fatalf("next %q", next)
		}
	}
	if len(seen) != 25 || len(slices.Compact(seen)) != 25 || s.Counters().Requests["v3.indicators"] != 3 {
		t.Errorf("%d seen: %q", len(seen), seen)
	}
	if n := len(names(t, get(t, s, "/api/v3/indicators"))); n != 25 {
		t.Errorf("%d by default", n)
	}
	for limit, more := range map[string]bool{"24": true, "25": false, "26": false} {
		if _, ok := get(t, s, "/api/v3/indicators?resultLimit="+limit).json(t)["next"]; ok != more {
			t.Errorf("limit %s: next %v", limit, ok)
		}
	}
	for query, status := range map[string]int{
		"resultLimit=10000": 200, "resultLimit=10001": 400, "resultLimit=0": 400, "resultLimit=x": 400, "resultStart=-1": 400,
		"resultStart=9999": 200, "resultStart=9223372036854775807": 400, "fields=nonsense": 400, "sorting=rating%20desc": 200, "sorting=colour": 400, "owner=Nobody": 403,
	} {
		if r := get(t, s, "/api/v3/indicators?"+query); r.status != status {
			t.Errorf("%s: %d %s", query, r.status, r.body)
		}
	}
}

func TestQueryInTheBody(t *testing.T) {
	s := start(t, Options{})
	body := `{"data":{"tql":"typeName in (\"Address\")","fields":["tags"],"resultStart":1,"resultLimit":2}}`
	got := names(t, ask(t, s, "GET", "/api/v3/indicators", body))
	if want := []string{"Address 198.51.100.23 Common Community", "Address 2001:db8:0:0:0:0:0:1 Demo Organization"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if r := ask(t, s, "GET", "/api/v3/indicators", "{"); r.status != 400 {
		t.Errorf("%d", r.status)
	}
	old := start(t, Options{NoBody: true})
	if n := len(names(t, ask(t, old, "GET", "/api/v3/indicators", body))); n != 7 {
		t.Errorf("%d without the body", n)
	}
}

// TestLooseTypes holds the emulator to the contract's list of them.
func TestLooseTypes(t *testing.T) {
	s := start(t, Options{})
	for n := range 40 {
		s.Add(Indicator{Type: "Address", Value: fmt.Sprintf("192.0.2.%d", n), Added: time.Date(2025, 3, 4, 5, 6, 7, 0, time.UTC)})
	}
	r := get(t, s, "/api/v3/indicators?fields=tags&fields=associatedGroups&fields=threatAssess&fields=genericCustomIndicatorValues")
	for _, want := range []string{
		`"id":9007199254740993`, `"id":"9007199254741003"`, `"dateAdded":"2025-03-04T05:06:07Z"`, `"dateAdded":"2025-03-04T00:06:07-05:00"`,
		`"dateAdded":"2025-03-04T05:06:07"`, `"dateAdded":"2025-03-04T05:06:07.000Z"`, `"dateAdded":"2025-03-04T00:06:07-05:00Z"`,
		`"webLink":"null/auth/`, `"tags":{}`, `"tags":{"count":0}`, `"associatedGroups":{"count":2,"data":[{`,
		`"summary":"44D88612FEA8A8F36DE82E1278ABB02F : 3395856CE81F2B7382DEE72602F798B642F14140"`, `"sha1":"3395`,
	} {
		if !strings.Contains(r.body, want) {
			t.Errorf("no %s in %.2000s", want, r.body)
		}
	}
	for _, o := range r.json(t)["data"].([]any) {
		o := o.(map[string]any)
		if _, ok := o["rating"]; ok != !strings.HasPrefix(o["summary"].(string), "192.") && o["type"] != "URL" {
			t.Errorf("%v", o)
		}
	}

	tidy := start(t, Options{Tidy: true})
	for _, o := range get(t, tidy, "/api/v3/indicators").json(t)["data"].([]any) {
		o := o.(map[string]any)
		if id, ok := o["id"].(json.Number); !ok || len(id) > 6 || o["dateAdded"] != "2025-03-04T05:06:07Z" || !strings.HasPrefix(o["webLink"].(string), tidy.URL+"/#/details/indicators/") {
			t.Errorf("%v", o)
		}
	}
}

func TestOneIndicator(t *testing.T) {
	s := start(t, Options{})
	ids := s.Indicators()
	link := url.PathEscape("http://evil.example.com/Bad.php?a=1&b=2")
	link = strings.NewReplacer(":", "%3A", "=", "%3D", "&", "%26").Replace(link)
	for path, want := range map[string]int{
		strconv.FormatInt(ids[0].ID, 10):            200,
		strconv.FormatInt(ids[2].ID, 10):            404, // of an owner that may not be seen
		"198.51.100.23":                             200,
		"evil.example.com":                          404, // not in the own organization
		"evil.example.com?owner=Common%20Community": 200,
		"evil.example.com?owner=Secret%20Source":    403,
		"evil.example.com?owner=Nobody":             403,
		link:                                        200,
		"http://evil.example.com/Bad.php?a=1":       404,
		"44D88612FEA8A8F36DE82E1278ABB02F":          404, // not the whole summary
		"44D88612FEA8A8F36DE82E1278ABB02F%20%3A%203395856CE81F2B7382DEE72602F798B642F14140": 200,
		"1": 404,
	} {
		if r := get(t, s, "/api/v3/indicators/"+path); r.status != want || want == 404 && r.json(t)["errCode"] != "0x1004" {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
}

func TestOwnersAndExclusions(t *testing.T) {
	s := start(t, Options{Tidy: true})
	r := get(t, s, "/api/v3/security/owners")
	want := `{"data":[{"id":10,"name":"Demo Organization","type":"Organization"},{"id":11,"name":"Common Community","type":"Community"}],"status":"Success"}`
	if strings.TrimSpace(r.body) != want {
		t.Errorf("%s", r.body)
	}
	s.AddExclusions(ExclusionList{Name: "Indicator-Address-IPv4", Fixed: []string{"8.8.8.8"}, Variable: []string{"10.0.0.0/8"}})
	s.AddExclusions(ExclusionList{Name: "Indicator-Host", Owner: "Secret Source", Fixed: []string{"x.example"}})
	if r := get(t, s, "/api/v3/security/exclusionLists"); strings.Contains(r.body, "8.8.8.8") || strings.Contains(r.body, "Indicator-Host") {
		t.Errorf("%s", r.body)
	}
	r = get(t, s, "/api/v3/security/exclusionLists?fields=values")
	if !strings.Contains(r.body, `"fixedValues":{"count":1,"data":[{"value":"8.8.8.8"}]}`) || !strings.Contains(r.body, `"variableValues":{"count":1,"data":[{"value":"10.0.0.0/8"}]}`) {
		t.Errorf("%s", r.body)
	}
}

func TestWhatACarefulClientDoesNotDo(t *testing.T) {
	for tql, want := range map[string]string{
		`summary = "2001:db8::1"`:                             "not in long form",
		`value1 = "` + strings.Repeat("a", 32) + `"`:          "not upper case",
		`summary in ("` + strings.Repeat(`x","`, 500) + `x")`: "characters",
	} {
		s := start(t, Options{})
		look(t, s, tql)
		if v := s.Violations(); len(v) != 1 || !strings.Contains(v[0].Text, want) {
			t.Errorf("%s: %+v", tql, v)
		}
	}
	s := start(t, Options{})
	look(t, s, `summary = "evil.example.com" or summary = "2001:db8:0:0:0:0:0:1"`)
	if v := s.Violations(); len(v) != 0 {
		t.Errorf("%+v", v)
	}
}

func TestAnOldInstance(t *testing.T) {
	s := start(t, Options{NoV3: true, MaxLimit: 500})
	r := get(t, s, "/api/v3/security/owners")
	if r.status != 500 || r.header.Get("Content-Type") != "text/plain" || !strings.HasPrefix(r.body, "Could not find resource for relative") {
		t.Errorf("%d %s", r.status, r.body)
	}
}

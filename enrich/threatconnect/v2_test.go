package threatconnect

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
	"capagent/internal/failure"
)

// instance answers v2 by target; everything else is not found.
func instance(replies map[string]string) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		if body, ok := replies[req.RequestURI]; ok {
			says(w, 200, body)
			return
		}
		says(w, 404, notFound)
	}
}

func TestV2AsksTheOnlyOwner(t *testing.T) {
	r := newRig(t, func(c *Config) { v2(c); c.Owners = []string{"Common Community"} }, instance(map[string]string{
		"/api/v2/indicators/urls/https%3A%2F%2Fevil.example%2Fa%3Fb%3D1?owner=Common+Community&includes=additional": `{"status":"Success","data":{"url":{"id":"9007199254740993",
			"owner":{"id":2,"name":"Common Community","type":"Community"},"dateAdded":"2017-07-13T17:50:17","lastModified":"2017-07-13T17:50:17-05:00Z","rating":"4.00","confidence":85,
			"webLink":"null/auth/indicators/details/url.xhtml?orgid=1","text":"https://evil.example/a?b=1","active":true}}}`,
	}))
	answers, err := r.Look(context.Background(), []verdict.Query{
		{Type: indicator.URL, Value: "http://evil.example/a?b=1"},
		{Type: indicator.File, Value: strings.Repeat("ab", 16)},
	})
	if err != nil || len(answers) != 2 || len(answers[0].Verdicts) != 1 || len(answers[1].Verdicts) != 0 {
		t.Fatalf("%+v, %v", answers, err)
	}
	v := answers[0].Verdicts[0]
	if v.ID != 9007199254740993 || v.Rating != 4 || v.Confidence != 85 || v.Owner != "Common Community" ||
		v.Link != r.server.URL+"/auth/indicators/details/url.xhtml?orgid=1" || v.Modified.Format("2006-01-02T15:04:05Z07:00") != "2017-07-13T22:50:17Z" {
		t.Errorf("%+v", v)
	}
	if got := r.requests(); len(got) != 3 || !slices.Contains(got, "GET /api/v2/indicators/files/"+strings.Repeat("AB", 16)+"?owner=Common+Community&includes=additional") {
		t.Errorf("%v", got)
	}
}

func TestV2AsksWhoKnowsIt(t *testing.T) {
	host := func(owner string) string {
		return fmt.Sprintf(`{"status":"Success","data":{"host":{"id":7,"owner":{"name":%q},"hostName":"evil.example","rating":3.0}}}`, owner)
	}
	r := newRig(t, func(c *Config) { v2(c); c.Owners = []string{"A", "B"}; c.Groups = true }, instance(map[string]string{
		"/api/v2/indicators/hosts/evil.example/owners":                      `{"status":"Success","data":{"resultCount":2,"owner":[{"id":1,"name":"B"},{"id":3,"name":"C"}]}}`,
		"/api/v2/indicators/hosts/evil.example?owner=B&includes=additional": host("B"),
		"/api/v2/indicators/hosts/evil.example?owner=C&includes=additional": host("C"),
		"/api/v2/indicators/hosts/evil.example/groups?owner=B":              `{"status":"Success","data":{"resultCount":2,"group":[{"id":1,"name":"APT 1","type":"Adversary","webLink":"https://tc.example/1"},{"name":"Case","type":"Incident"}]}}`,
		"/api/v2/indicators/hosts/empty.example/owners":                     `{"status":"Success","data":{"resultCount":0}}`,
	}))
	answers, err := r.Look(context.Background(), append(one(indicator.Host, "evil.example"), append(one(indicator.Host, "empty.example"), one(indicator.Host, "other.example")...)...))
	if err != nil || len(answers) != 3 || len(answers[0].Verdicts) != 1 || len(answers[1].Verdicts)+len(answers[2].Verdicts) != 0 {
		t.Fatalf("%+v, %v", answers, err)
	}
	if v := answers[0].Verdicts[0]; v.Owner != "B" || len(v.Groups) != 1 || v.Groups[0] != (verdict.Group{Type: "Adversary", Name: "APT 1", Link: "https://tc.example/1"}) {
		t.Errorf("%+v", v)
	}
	if n := len(r.requests()); n != 5 {
		t.Errorf("%d requests: %v", n, r.requests())
	}
}

func TestV2RefusesOneValueAlone(t *testing.T) {
	r := newRig(t, func(c *Config) { v2(c); c.Owners = []string{"A"} }, func(w http.ResponseWriter, req *http.Request) {
		if strings.Contains(req.RequestURI, "bad") {
			says(w, 400, `{"status":"Failure","message":"The request was not properly formed"}`)
			return
		}
		says(w, 404, notFound)
	})
	answers, err := r.Look(context.Background(), append(one(indicator.Host, "bad"), one(indicator.Host, "good.example")...))
	isFailure(t, err, failure.Permanent, ClassBadQuery)
	if len(answers) != 1 {
		t.Errorf("%v", answers)
	}
}

func TestV2FindsCustomTypes(t *testing.T) {
	sum := strings.Repeat("ab", 16)
	r := newRig(t, func(c *Config) { v2(c); c.Owners, c.Types = []string{"A"}, []string{"ja3=JA3 Hash", "ja4=JA4"} }, instance(map[string]string{
		"/api/v2/types/indicatorTypes":                                         `{"status":"Success","data":{"resultCount":1,"indicatorType":[{"name":"JA3 Hash","custom":"true","apiBranch":"ja3hashes"}]}}`,
		"/api/v2/indicators/ja3hashes/" + sum + "?owner=A&includes=additional": `{"status":"Success","data":{"ja3Hash":{"id":1,"Hash":"x"}}}`,
	}))
	for range 2 {
		answers, err := r.Look(context.Background(), append(one(indicator.JA3, sum), one(indicator.JA4, "t13d1516h2_8daaf6152771_b186095e22b6")...))
		if err != nil || len(answers) != 2 || len(answers[0].Verdicts) != 1 || answers[0].Verdicts[0].Owner != "A" || len(answers[1].Verdicts) != 0 {
			t.Fatalf("%+v, %v", answers, err)
		}
	}
	if n := len(r.requests()); n != 3 {
		t.Errorf("%v", r.requests())
	}
}

func TestV2ListsManyAtOnce(t *testing.T) {
	var queries []verdict.Query
	for i := range 100 {
		queries = append(queries, verdict.Query{Type: indicator.Address, Value: fmt.Sprintf("198.51.100.%d", i)})
	}
	queries = append(queries, one(indicator.URL, "http://evil.example/a,b")...)
	for _, kind := range []string{"takes them", "refuses them", "joins them by and"} {
		refuses, ignores := kind == "refuses them", kind == "joins them by and"
		r := newRig(t, func(c *Config) { v2(c); c.LargeBatches = true }, func(w http.ResponseWriter, req *http.Request) {
			q := req.URL.Query()
			switch {
			case req.URL.Path == "/api/v2/owners":
				says(w, 200, `{"status":"Success","data":{"resultCount":2,"owner":[{"id":1,"name":"A","type":"Organization"},{"id":2,"name":"B","type":"Source"}]}}`)
			case req.URL.Path == "/api/v2/indicators/hosts" && q.Get("filters") == "":
				says(w, 200, `{"status":"Success","data":{"resultCount":1,"host":[{"id":1,"hostName":"some.example"}]}}`)
			case q.Get("filters") == "summary=nobody-has-this.invalid,summary=some.example":
				if ignores {
					says(w, 200, `{"status":"Success","data":{"resultCount":0,"host":[]}}`)
				} else {
					says(w, 200, `{"status":"Success","data":{"resultCount":1,"host":[{"id":1,"hostName":"some.example"}]}}`)
				}
			case q.Get("filters") != "" && refuses:
				says(w, 400, `{"status":"Failure","message":"The request was not properly formed"}`)
			case strings.Contains(q.Get("filters"), "summary=198.51.100.7,") && q.Get("orParams") == "true" && q.Get("owner") == "B":
				says(w, 200, `{"status":"Success","data":{"resultCount":1,"address":[{"id":7,"ownerName":"B","ip":"198.51.100.7","rating":5.0}]}}`)
			case q.Get("filters") != "":
				says(w, 200, `{"status":"Success","data":{"resultCount":0,"address":[]}}`)
			case req.URL.Path == "/api/v2/indicators/addresses/198.51.100.7/owners":
				says(w, 200, `{"status":"Success","data":{"owner":[{"name":"B"}]}}`)
			case req.URL.Path == "/api/v2/indicators/addresses/198.51.100.7":
				says(w, 200, `{"status":"Success","data":{"address":{"id":7,"owner":{"name":"B"},"ip":"198.51.100.7","rating":5.0}}}`)
			default:
				says(w, 404, notFound)
			}
		})
		r.pace.SetLimit(1e9)
		for range 2 {
			answers, err := r.Look(context.Background(), queries)
			if err != nil || len(answers) != len(queries) || len(answers[7].Verdicts) != 1 || answers[7].Verdicts[0].Rating != 5 {
				t.Fatalf("%+v, %v", answers, err)
			}
		}
		want := 3 + 2*(2*2+2) // owners, two to try it; two lists for two owners, and the URL with a comma in both of its forms
		switch {
		case refuses:
			want = 3 + 2 + 2*(100+1+2)
		case ignores:
			want = 3 + 2*(100+1+2)
		}
		if n := len(r.requests()); n > want || n < want-2 {
			t.Errorf("%s: %d requests, want %d", kind, n, want)
		}
		for _, line := range r.requests() {
			if _, q, _ := strings.Cut(line, "?"); len(q) >= maxQuery {
				t.Errorf("a query of %d", len(q))
			}
		}
	}
}

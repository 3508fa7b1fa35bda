package threatconnect

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
	"capagent/internal/failure"
)

var (
	evil     = verdict.Query{Type: indicator.URL, Value: "http://evil.example/a"}
	findings = []verdict.Finding{
		{
			Indicator: indicator.Indicator{Type: indicator.URL, Value: "http://evil.example/a", Count: 3, First: indicator.At{Frame: 12}},
			Verdicts:  []verdict.Verdict{{Source: Name, Owner: "Acme", ID: 9007199254740993, Rating: 4, Confidence: 80}, {Source: "a list", Owner: "x", ID: 3}},
		},
		{
			Indicator: indicator.Indicator{Type: indicator.Address, Value: "2001:db8::1", Count: 1, First: indicator.At{Frame: 40}},
			Verdicts:  []verdict.Verdict{{Source: Name, Owner: "Elsewhere", ID: 8, Rating: 3}},
		},
	}
	when = time.Date(2026, 1, 2, 3, 4, 5, 678, time.FixedZone("", 3600))
)

func TestObserve(t *testing.T) {
	r := newRig(t, nil, always(200, `{"data":{"id":7},"message":"Updated","status":"Success"}`))
	if err := r.Observe(context.Background(), evil, findings[0].Verdicts[0], 3); err != nil {
		t.Fatal(err)
	}
	if got := r.requests(); !slices.Equal(got, []string{`PUT /api/v3/indicators/9007199254740993?fields=observations {"observations":3}`}) {
		t.Errorf("%v", got)
	}
	isFailure(t, r.Observe(context.Background(), evil, verdict.Verdict{}, 1), failure.Permanent, ClassBadQuery)
}

func TestObserveV2TriesBothFormsOfAURL(t *testing.T) {
	r := newRig(t, v2, func(w http.ResponseWriter, req *http.Request) {
		if strings.Contains(req.RequestURI, "http%3A") {
			says(w, 404, notFound)
			return
		}
		says(w, 200, `{"status":"Success"}`)
	})
	if err := r.Observe(context.Background(), evil, verdict.Verdict{Owner: "Demo Org"}, 0); err != nil {
		t.Fatal(err)
	}
	if got := r.requests(); !slices.Equal(got, []string{
		`POST /api/v2/indicators/urls/http%3A%2F%2Fevil.example%2Fa/observations?owner=Demo+Org {"count":1}`,
		`POST /api/v2/indicators/urls/https%3A%2F%2Fevil.example%2Fa/observations?owner=Demo+Org {"count":1}`,
	}) {
		t.Errorf("%v", got)
	}
	gone := newRig(t, v2, always(404, notFound))
	isFailure(t, gone.Observe(context.Background(), evil, verdict.Verdict{Owner: "Demo Org"}, 1), failure.Permanent, ClassBadQuery)
}

func TestIncident(t *testing.T) {
	r := newRig(t, nil, always(201, `{"data":{"id":"9007199254740995","type":"Incident","name":"x","webLink":"null/#/details/groups/9007199254740995/overview"},"message":"Created","status":"Success"}`))
	got, err := r.Incident(context.Background(), "capagent: x", when, "https://cs.example/captures/0123456789ab", findings)
	if err != nil || got != (Incident{9007199254740995, r.server.URL + "/#/details/groups/9007199254740995/overview"}) {
		t.Fatalf("%+v, %v", got, err)
	}
	want := `POST /api/v3/groups {"associatedIndicators":{"data":[{"id":9007199254740993},{"id":8}]},"attributes":{"data":[{"default":true,"type":"Description","value":"` +
		`Packets: https://cs.example/captures/0123456789ab\nurl http://evil.example/a: rating 4, confidence 80, Acme; frame 12, seen 3 times\naddress 2001:db8::1: rating 3, confidence 0, Elsewhere; frame 40, seen 1 times\n"}]},` +
		`"eventDate":"2026-01-02T02:04:05Z","name":"capagent: x","status":"New","type":"Incident"}`
	if reqs := r.requests(); len(reqs) != 1 || reqs[0] != want {
		t.Errorf("got  %v\nwant %s", reqs, want)
	}
}

func TestIncidentV2(t *testing.T) {
	r := newRig(t, v2, func(w http.ResponseWriter, req *http.Request) {
		if req.RequestURI == "/api/v2/groups/incidents" {
			says(w, 201, `{"status":"Success","data":{"incident":{"id":77,"name":"x","owner":{"id":1,"name":"Acme"},"dateAdded":"2026-01-02T02:04:05Z","webLink":"https://tc.example/i/77"}}}`)
			return
		}
		says(w, 200, `{"status":"Success"}`)
	})
	got, err := r.Incident(context.Background(), "a=b,c", when, "https://cs.example/captures/0123456789ab", findings)
	if err != nil || got != (Incident{77, "https://tc.example/i/77"}) {
		t.Fatalf("%+v, %v", got, err)
	}
	reqs := r.requests()
	if len(reqs) != 3 || reqs[0] != `POST /api/v2/groups/incidents {"eventDate":"2026-01-02T02:04:05Z","name":"a b c","status":"New"}` ||
		!strings.HasPrefix(reqs[1], `POST /api/v2/groups/incidents/77/attributes {"displayed":true,"type":"Description","value":"Packets: `) ||
		reqs[2] != `POST /api/v2/indicators/urls/http%3A%2F%2Fevil.example%2Fa/groups/incidents/77` {
		t.Errorf("%v", reqs)
	}
}

func TestAnIncidentThatIsHalfMadeIsReturned(t *testing.T) {
	r := newRig(t, v2, func(w http.ResponseWriter, req *http.Request) {
		if req.RequestURI == "/api/v2/groups/incidents" {
			says(w, 201, `{"status":"Success","data":{"incident":{"id":77,"owner":{"name":"Acme"}}}}`)
			return
		}
		says(w, 503, `{}`)
	})
	got, err := r.Incident(context.Background(), "x", when, "", findings)
	isFailure(t, err, failure.Retry, ClassBusy)
	if got.ID != 77 {
		t.Errorf("%+v", got)
	}
}

func TestFindIncident(t *testing.T) {
	list := `[{"id":9,"type":"Incident","name":"it"},{"id":5,"type":"Incident","name":"it","webLink":"https://tc.example/5"},{"id":1,"name":"not it"}]`
	for version, body := range map[int]string{
		3: `{"data":` + list + `,"status":"Success"}`,
		2: `{"status":"Success","data":{"resultCount":3,"incident":` + list + `}}`,
	} {
		r := newRig(t, func(c *Config) { c.APIVersion = version }, always(200, body))
		got, ok, err := r.FindIncident(context.Background(), "it")
		if err != nil || !ok || got != (Incident{5, "https://tc.example/5"}) {
			t.Errorf("v%d: %+v, %t, %v", version, got, ok, err)
		}
		if _, ok, err := r.FindIncident(context.Background(), "other"); ok || err != nil {
			t.Errorf("v%d: %t, %v", version, ok, err)
		}
	}
}

func TestWritingWithoutTheRight(t *testing.T) {
	r := newRig(t, nil, always(403, `{"errCode":"0x1003","message":"Access Denied","status":"Error"}`))
	isFailure(t, r.Observe(context.Background(), evil, findings[0].Verdicts[0], 1), failure.Pause, ClassNoPermission)
	_, err := r.Incident(context.Background(), "x", when, "", findings)
	isFailure(t, err, failure.Pause, ClassNoPermission)
}

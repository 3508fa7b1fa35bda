package threatconnecttest

import (
	"net/http"
	"strings"
	"testing"
)

func page(t *testing.T, s *Server, path string, changes ...change) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		c(r)
	}
	return do(r)
}

func TestThePageShowsWhatTheServerKnows(t *testing.T) {
	s := start(t, Options{Tidy: true})
	s.Add(Indicator{Type: "Host", Value: "<script>alert(1)</script>\u202e", Groups: []Group{{Type: `"><b>`, Name: "<img src=x>"}}})
	ask(t, s, "POST", "/api/v2/indicators/addresses/198.51.100.23/observations", `{"count":2}`)
	ask(t, s, "POST", "/api/v3/groups", `{"type":"Incident","name":"<b>Capture</b>","eventDate":"2026-01-02T03:04:05Z"}`)
	get(t, s, "/api/v2/indicators/hosts/<script>?a="+s.SecretKey[2:14]+"&b=\"'")
	s.SetFault(Fault{Name: "html"})
	get(t, s, "/api/v2/owners")
	r := page(t, s, "/")
	for _, want := range []string{
		"a local stand-in for ThreatConnect", "10 from 3 owners", `id="/details/indicators/1001/overview"`, "198.51.100.23", "2001:db8:0:0:0:0:0:1", "4.5", "(inactive)",
		"&lt;script&gt;alert(1)&lt;/script&gt;·", "&lt;b&gt;Capture&lt;/b&gt;", "POST /api/v2/indicators/addresses/198.51.100.23/observations", "Campaign", "html",
	} {
		if !strings.Contains(r.body, want) {
			t.Errorf("%q is missing", want)
		}
	}
	for _, bad := range []string{"<script", "<img src=x", "<b>", s.SecretKey} {
		if strings.Contains(r.body, bad) {
			t.Errorf("%q is there", bad)
		}
	}
	if r.header.Get("Content-Security-Policy") != pageRules || r.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%v", r.header)
	}
	for path, want := range map[string]int{"/style.css": 200, "/icon.svg": 200, "/nothing": 404, "/../etc/passwd": 404} {
		if r := page(t, s, path); r.status != want {
			t.Errorf("%s: %d", path, r.status)
		}
	}
	if r := ask(t, s, "POST", "/", "x"); r.status != 405 {
		t.Errorf("%d", r.status)
	}
}

func TestThePageAnswersUnderLoopbackNamesOnly(t *testing.T) {
	s := start(t, Options{LoopbackNames: true})
	named := func(name string) change { return func(r *http.Request) { r.Host = name } }
	for name, want := range map[string]int{"localhost:1": 200, "127.0.0.1": 200, "[::1]:80": 200, "evil.example": 421, "127.0.0.1.evil.example": 421} {
		if r := page(t, s, "/", named(name)); r.status != want || want == 421 && strings.Contains(r.body, "198.51") {
			t.Errorf("%s: %d", name, r.status)
		}
	}
}

// Everything that can be shown and asked at one time; the race detector looks on.
func TestManyAtOnce(t *testing.T) {
	s := start(t, Options{KeepRequests: 20})
	s.Demo()
	done := make(chan bool)
	for n := range 8 {
		go func() {
			defer func() { done <- true }()
			for range 15 {
				switch n % 4 {
				case 0:
					get(t, s, hosts)
				case 1:
					ask(t, s, "POST", "/api/v2/indicators/addresses/198.51.100.23/observations", `{"count":1}`)
				case 2:
					page(t, s, "/")
				case 3:
					s.Add(Indicator{Type: "Host", Value: "sync.example.net", Rating: 4})
					_, _, _, _ = s.Counters(), s.Requests(), s.Violations(), s.Incidents()
				}
			}
		}()
	}
	for range 8 {
		<-done
	}
	if c := s.Counters(); c.Requests["v3.indicators"] != 30 || c.Requests["v2.observations"] != 30 || len(s.Requests()) > 20 || s.Indicators()[0].Observations != 30 {
		t.Errorf("%+v, %d kept", c, len(s.Requests()))
	}
}

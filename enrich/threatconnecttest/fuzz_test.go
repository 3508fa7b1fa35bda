package threatconnecttest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// FuzzRequest: whatever is asked, there is an answer in the version's form, and
// only a well-formed one that says Success changes anything.
func FuzzRequest(f *testing.F) {
	const token = "APIV2:1:token="
	for _, seed := range []struct{ method, target, body string }{
		{"GET", hosts, ""},
		{"GET", "/api/v3/indicators", `{"data":{"tql":"typeName = \"Host\"","resultLimit":5,"fields":["tags"]}}`},
		{"GET", "/api/v3/indicators/a%2Fb?owner=x&fields=tags", ""},
		{"PUT", "/api/v3/indicators/198.51.100.23", `{"observations":1,"falsePositiveFlag":true}`},
		{"POST", "/api/v3/groups", `{"type":"Incident","name":"n","associatedIndicators":{"data":[{"id":9007199254740993},{"type":"File","md5":"x"}]}}`},
		{"GET", "/api/v2/indicators?filters=summary%5Ea,active%3Dtrue&orParams=true&modifiedSince=2025-01-01&resultStart=1", ""},
		{"GET", "/api/v2/indicators/files/44D88612FEA8A8F36DE82E1278ABB02F%20%3A%20x?includes=additional&includes=tags", ""},
		{"GET", "/api/v2/indicators/addresses/198.51.100.23/groups/malware", ""},
		{"POST", "/api/v2/groups/incidents", `{"name":"n","eventDate":"2026-01-02T03:04:05Z"}`},
		{"POST", "/api/v2/groups/incidents/1/attributes", `{"type":"a","value":"b"}`},
		{"GET", "/api/v2/indicators/bulk/csv", ""},
		{"GET", "/", ""},
		{"DELETE", "/api/v2/x%", ""},
	} {
		f.Add(seed.method, seed.target, seed.body)
	}
	f.Fuzz(func(t *testing.T, method, target, body string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || !strings.HasPrefix(target, "/") {
			return // net/http answers such ones itself
		}
		s := New(Options{Tokens: []Token{{Value: token}}})
		defer s.Close()
		fill(s)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", strings.NewReader(body))
		r.Method, r.URL, r.RequestURI = method, u, target
		r.Header.Set("Authorization", "TC-Token "+token)
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Header().Get("Content-Type") == "application/json" && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		changed := len(s.Observations())+len(s.Incidents()) > 0
		if changed && (w.Code/100 != 2 || method == http.MethodGet || !strings.Contains(w.Body.String(), `"status":"Success"`)) {
			t.Errorf("%s %s: %d %s", method, target, w.Code, w.Body)
		}
	})
}

// BenchmarkLookup is one batch of 75 addresses against 10,000 indicators.
func BenchmarkLookup(b *testing.B) {
	const token = "t"
	s := New(Options{Tokens: []Token{{Value: token}}, KeepRequests: 10})
	defer s.Close()
	for n := range 10_000 {
		s.Add(Indicator{Type: "Address", Value: fmt.Sprintf("10.0.%d.%d", n/250, n%250)})
	}
	var values []string
	for n := range 75 {
		values = append(values, fmt.Sprintf("\"10.0.7.%d\"", n))
	}
	target := "/api/v3/indicators?tql=" + url.QueryEscape(`typeName in ("Address") and summary in (`+strings.Join(values, ",")+`)`)
	h := s.Handler()
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest(http.MethodGet, target, nil)
		r.Header.Set("Authorization", "TC-Token "+token)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 200 || strings.Count(w.Body.String(), "summary") != 75 {
			b.Fatal(w.Code)
		}
	}
}

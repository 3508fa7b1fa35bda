package httpx_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"capagent/internal/httpx"
)

func TestHeadersOfEachAnswerAreTold(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", "Sun, 22 Nov 2026 03:04:05 GMT")
		if r.URL.Path == "/elsewhere" {
			http.Redirect(w, r, "https://example.org/", http.StatusFound)
		}
	}))
	defer s.Close()
	client, err := httpx.New(httpx.Options{UserAgent: "capagent/test"})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for path, fails := range map[string]bool{"/": false, "/elsewhere": true} {
		var date string
		ctx := httpx.OnAnswer(t.Context(), func(h http.Header) { date = h.Get("Date") })
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Do(req); (err != nil) != fails {
			t.Errorf("%s: %v", path, err)
		}
		if date != "Sun, 22 Nov 2026 03:04:05 GMT" {
			t.Errorf("%s: told %q", path, date)
		}
	}
}

package threatconnect

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
	"capagent/internal/failure"
	"capagent/internal/secret"
)

const (
	testID  = "12345678901234567890"
	testKey = "ThisIsNotARealSecret-0123456789abcdef"
)

// logText collects a log.
type logText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// rig is a client and the server that it speaks to, which checks all signatures.
type rig struct {
	*Client
	server *httptest.Server
	log    *logText

	mu   sync.Mutex
	seen []string // "GET /target body"
}

func newRig(t *testing.T, change func(*Config), handle http.HandlerFunc) *rig {
	t.Helper()
	r := &rig{log: &logText{}}
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.seen = append(r.seen, strings.TrimSpace(req.Method+" "+req.RequestURI+" "+string(body)))
		r.mu.Unlock()
		unix, _ := strconv.ParseInt(req.Header.Get("Timestamp"), 10, 64)
		want := "TC " + testID + ":" + sign(testKey, req.RequestURI, req.Method, unix)
		if got := req.Header.Get("Authorization"); got != want && !strings.HasPrefix(got, "TC-Token ") {
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"status":"Failure","message":"Signature data did not match expected result"}`)
			return
		}
		req.Body = io.NopCloser(strings.NewReader(string(body)))
		handle(w, req)
	}))
	t.Cleanup(r.server.Close)
	conf := DefaultConfig()
	conf.URL, conf.AccessID, conf.SecretKey, conf.Rate = r.server.URL+"/api", testID, secret.New(testKey), maxRate
	conf.Timeout = 0
	if change != nil {
		change(&conf)
	}
	if conf.Timeout == 0 {
		conf.Timeout = DefaultConfig().Timeout
	}
	client, err := New(conf, "test", zerolog.New(r.log))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	client.checked.Store(true) // else the first request would be for the owners
	r.Client = client
	return r
}

func (r *rig) requests() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.seen...)
}

func v2(c *Config) { c.APIVersion = 2 }

func says(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprint(w, body)
}

func always(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { says(w, status, body) }
}

const (
	nothing  = `{"data":[],"status":"Success"}`
	notFound = `{"status":"Failure","message":"The requested resource was not found"}`
)

func one(t indicator.Type, value string) []verdict.Query {
	return []verdict.Query{{Type: t, Value: value}}
}

func isFailure(t *testing.T, err error, kind failure.Kind, class string) *failure.Error {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want %s", class)
	}
	f := failure.As(err)
	if f.Kind != kind || f.Class != class {
		t.Fatalf("got %s/%s (%v), want %s/%s", f.Kind, f.Class, err, kind, class)
	}
	for _, hidden := range []string{testKey, testKey[5:20]} {
		if strings.Contains(err.Error()+f.Hint, hidden) {
			t.Fatalf("the error shows the key: %v", err)
		}
	}
	return f
}

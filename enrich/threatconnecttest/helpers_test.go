package threatconnecttest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

const agent = "capagent-test/1.0"

// start returns a server with three owners and a few indicators.
func start(t *testing.T, opts Options) *Server {
	t.Helper()
	s := Start(t, opts)
	fill(s)
	return s
}

func fill(s *Server) {
	s.AddOwner(Owner{Name: "Common Community", Type: "Community"})
	s.AddOwner(Owner{Name: "Secret Source", Hidden: true})
	day := time.Date(2025, 3, 4, 5, 6, 7, 0, time.UTC)
	malware := []Group{{Type: "Malware", Name: "Viewer"}, {Type: "Campaign", Name: "Spring"}}
	for _, i := range []Indicator{
		{Type: "Address", Value: "198.51.100.23", Rating: 3, Confidence: 60, Groups: malware, Tags: []string{"c2"}},
		{Type: "Address", Value: "198.51.100.23", Owner: "Common Community", Rating: 4.5, Confidence: 80},
		{Type: "Address", Value: "198.51.100.23", Owner: "Secret Source", Rating: 5},
		{Type: "Host", Value: "Evil.Example.com", Owner: "Common Community", Rating: 5, Confidence: 95},
		{Type: "Host", Value: "old.example.com", Inactive: true, Rating: 2},
		{Type: "URL", Value: "http://Evil.Example.com/Bad.php?a=1&b=2"},
		{Type: "File", Value: "44d88612fea8a8f36de82e1278abb02f : 3395856ce81f2b7382dee72602f798b642f14140", Rating: 1},
		{Type: "Address", Value: "2001:DB8::1", Rating: 2},
		{Type: "User Agent", Value: `bad "agent'\1.0`, Rating: 2},
	} {
		i.Added = day
		s.Add(i)
	}
}

type reply struct {
	status int
	header http.Header
	body   string
	err    error
}

func (r reply) json(t *testing.T) map[string]any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(r.body))
	d.UseNumber()
	var out map[string]any
	if err := d.Decode(&out); err != nil {
		t.Fatalf("%d %q: %v", r.status, r.body, err)
	}
	return out
}

// sign signs as the contract says, apart from what the server does.
func sign(secret, target, method, stamp string) string {
	m := hmac.New(sha256.New, []byte(secret))
	_, _ = fmt.Fprintf(m, "%s:%s:%s", target, method, stamp)
	return base64.StdEncoding.EncodeToString(m.Sum(nil))
}

type change func(*http.Request)

// ask sends one signed request. target is what stands on the request line.
func ask(t *testing.T, s *Server, method, target, body string, changes ...change) reply {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	r.Header.Set("Timestamp", stamp)
	r.Header.Set("Authorization", "TC "+s.AccessID+":"+sign(s.SecretKey, target, method, stamp))
	r.Header.Set("User-Agent", agent)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, c := range changes {
		c(r)
	}
	return do(r)
}

var client = &http.Client{
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func do(r *http.Request) reply {
	resp, err := client.Do(r)
	if err != nil {
		return reply{err: err}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(b), err}
}

func get(t *testing.T, s *Server, target string, changes ...change) reply {
	t.Helper()
	return ask(t, s, http.MethodGet, target, "", changes...)
}

// look asks v3 for a query, and returns "type value owner" of what comes back.
func look(t *testing.T, s *Server, tql string, more ...string) []string {
	t.Helper()
	r := get(t, s, "/api/v3/indicators?tql="+strings.ReplaceAll(url.QueryEscape(tql), "+", "%20")+strings.Join(more, ""))
	if r.status != 200 {
		t.Fatalf("%s: %d %s %v", tql, r.status, r.body, r.err)
	}
	return names(t, r)
}

func names(t *testing.T, r reply) []string {
	t.Helper()
	out := []string{}
	list, _ := r.json(t)["data"].([]any)
	for _, one := range list {
		o := one.(map[string]any)
		out = append(out, fmt.Sprintf("%v %v %v", o["type"], o["summary"], o["ownerName"]))
	}
	return out
}

func waitFor(t *testing.T, what func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !what(); {
		if time.Now().After(end) {
			t.Fatal("it did not happen")
		}
		time.Sleep(time.Millisecond)
	}
}

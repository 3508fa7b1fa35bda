package cado

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"capagent/enrich/cadotest"
	"capagent/internal/config"
	"capagent/internal/failure"
	"capagent/internal/httpx"
	"capagent/internal/secret"
	"capagent/internal/standin"
)

// newClient returns a client of a stand-in.
func newClient(t *testing.T, s *cadotest.Server, change ...func(*Config)) *Client {
	t.Helper()
	return client(t, s.APIURL(), s.APIKey, change...)
}

func client(t *testing.T, target, key string, change ...func(*Config)) *Client {
	t.Helper()
	conf := DefaultConfig()
	conf.URL, conf.APIKey = target, secret.New(key)
	conf.Poll, conf.impatient = config.Duration(10*time.Millisecond), true
	for _, f := range change {
		f(&conf)
	}
	c, err := New(conf, "test", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func v2(c *Config) { c.APIVersion = 2 }
func v3(*Config)   {}

// both runs a test with both versions of the API.
func both(t *testing.T, f func(t *testing.T, version func(*Config))) {
	t.Run("v3", func(t *testing.T) { f(t, v3) })
	t.Run("v2", func(t *testing.T) { f(t, v2) })
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
	if kind != failure.Retry && f.Hint == "" {
		t.Errorf("no hint: %v", err)
	}
	for _, hidden := range []string{testKey, testKey[5:20], "X-Amz-Signature"} {
		if strings.Contains(err.Error()+f.Hint, hidden) {
			t.Fatalf("the error shows a key: %v", err)
		}
	}
	return f
}

func TestWhatAnswersMean(t *testing.T) {
	page := `<html><head><title>Login ` + testKey + `</title></head></html>`
	for _, test := range []struct {
		name   string
		status int
		kind   string
		body   string
		want   failure.Kind
		class  string
	}{
		{"v2 unauthorized", 401, "application/json", `{"msg":"Token is invalid"}`, failure.Pause, ClassBadCredentials},
		{"v3 unauthorized", 401, "application/json", `{"status":"error","message":"no","code":"1","data":{}}`, failure.Pause, ClassBadCredentials},
		{"forbidden", 403, "application/json", `{"status":"error","message":"Analysts only"}`, failure.Pause, ClassNoPermission},
		{"no such thing", 404, "application/json", `{"msg":"no such project"}`, failure.Permanent, ClassNotFound},
		{"no such path", 404, "text/html", "<p>The requested URL was not found on the server.</p>", failure.Pause, ClassBadURL},
		{"no such path, in JSON", 404, "application/json", `{"message":"The requested URL was not found on the server. If you"}`, failure.Pause, ClassBadURL},
		{"method", 405, "application/json", `{"msg":"Method Not Allowed"}`, failure.Pause, ClassBadURL},
		{"taken", 409, "application/json", `{"msg":"Project name already exists"}`, failure.Permanent, ClassConflict},
		{"bad", 400, "application/json", `{"status":"error","message":"bad"}`, failure.Permanent, ClassBadRequest},
		{"bad, by a proxy", 400, "text/html", page, failure.Retry, ClassBadReply},
		{"too fast", 429, "text/html", page, failure.Retry, ClassBusy},
		{"proxy", 502, "text/html", page, failure.Retry, ClassBusy},
		{"broken", 500, "application/json", `{"msg":"Internal Server Error"}`, failure.Retry, ClassServerError},
		{"a portal", 200, "text/html", page, failure.Retry, ClassBadReply},
		{"no JSON", 200, "application/json", `[{"id"`, failure.Retry, ClassBadReply},
		{"nothing", 200, "application/json", ``, failure.Retry, ClassBadReply},
		{"a list that is none", 200, "application/json", `{"status":"success","data":"x"}`, failure.Retry, ClassBadReply},
		{"redirect", 302, "text/html", ``, failure.Pause, httpx.ClassRedirect},
	} {
		both(t, func(t *testing.T, version func(*Config)) {
			n := 0
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				n++
				w.Header().Set("Content-Type", test.kind)
				w.Header().Set("Retry-After", "7")
				w.Header().Set("Location", "https://elsewhere.example/")
				w.WriteHeader(test.status)
				fmt.Fprint(w, test.body)
			}))
			defer srv.Close()
			_, err := client(t, srv.URL, testKey, version).Projects(t.Context(), "")
			f := isFailure(t, err, test.want, test.class)
			if test.want == failure.Retry && f.RetryAfter != 7*time.Second && test.status != 200 {
				t.Errorf("%s: RetryAfter %s", test.name, f.RetryAfter)
			}
			if n != 1 {
				t.Errorf("%s: %d requests", test.name, n)
			}
		})
	}
}

func TestTheKeyIsSentAndNotShown(t *testing.T) {
	both(t, func(t *testing.T, version func(*Config)) {
		s := cadotest.Start(t, cadotest.Options{APIKey: testKey})
		c := newClient(t, s, version)
		if _, err := c.Projects(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		for _, fault := range []string{"echo", "status:code=400,text=" + testKey + " is wrong", "html:code=500", "huge", "badjson", "drop"} {
			f, err := cadotest.ParseFault(fault)
			if err != nil {
				t.Fatal(err)
			}
			s.SetFault(f)
			_, err = c.Projects(t.Context(), "")
			if err == nil || strings.Contains(err.Error(), testKey) || len(err.Error()) > 1000 {
				t.Errorf("%s: %v", fault, err)
			}
		}
		s.ClearFaults()
		_, err := client(t, s.URL, "another", version).Projects(t.Context(), "")
		isFailure(t, err, failure.Pause, ClassBadCredentials)
	})
}

func TestProbe(t *testing.T) {
	both(t, func(t *testing.T, version func(*Config)) {
		s := cadotest.Start(t, cadotest.Options{})
		h, err := newClient(t, s, version).Probe(t.Context())
		if err != nil || h.Version != 3 || !h.Ready {
			t.Errorf("%+v %v", h, err)
		}
	})
	s := cadotest.Start(t, cadotest.Options{NoV3: true})
	if h, err := newClient(t, s, v2).Probe(t.Context()); err != nil || h.Version != 2 || h.Status != "Running" {
		t.Errorf("%+v %v", h, err)
	}
	_, err := newClient(t, s).Probe(t.Context())
	if f := isFailure(t, err, failure.Pause, ClassBadURL); !strings.Contains(f.Hint, "api_version = 2") {
		t.Error(f.Hint)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"status":"success","data":{"status":"Running","is_installing":"true","status_message":"updating"}}`)
	}))
	defer srv.Close()
	_, err = client(t, srv.URL, testKey).Probe(t.Context())
	isFailure(t, err, failure.Retry, ClassBusy)
}

func TestProjects(t *testing.T) {
	both(t, func(t *testing.T, version func(*Config)) {
		s := cadotest.Start(t, cadotest.Options{})
		c := newClient(t, s, version)
		for i := range 250 { // three pages
			s.AddProject(fmt.Sprintf("project %d", i), false)
		}
		s.AddProject("gone", true)
		all, err := c.Projects(t.Context(), "")
		if err != nil || len(all) != 250 {
			t.Fatalf("%d %v", len(all), err)
		}
		one, err := c.Projects(t.Context(), "project 2") // not 20 to 29, not 200 to 249
		if err != nil || len(one) != 1 || one[0].ID != "3" || one[0].Name != "project 2" || one[0].Created.IsZero() {
			t.Errorf("%+v %v", one, err)
		}
		p, err := c.EnsureProject(t.Context(), "new — Fall 7")
		again, err2 := c.EnsureProject(t.Context(), "new — Fall 7")
		if err != nil || err2 != nil || p.ID != again.ID || p.ID != "252" || p.Name != "new — Fall 7" {
			t.Errorf("%+v %+v %v %v", p, again, err, err2)
		}
		_, err = c.EnsureProject(t.Context(), "gone")
		if version == nil || c.v3 {
			isFailure(t, err, failure.Permanent, ClassBadRequest)
		} else {
			isFailure(t, err, failure.Permanent, ClassConflict)
		}
		_, err = c.EnsureProject(t.Context(), "")
		isFailure(t, err, failure.Permanent, ClassBadRequest)
	})
}

// Several agents want the same project at once: all use one.
func TestAgentsRaceForAProject(t *testing.T) {
	for name, o := range map[string]cadotest.Options{"names are unique": {}, "names are not": {SameNames: true}} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, version func(*Config)) {
				s := cadotest.Start(t, o)
				s.SetFault(standin.Fault{Name: "slow", Delay: 20 * time.Millisecond, Match: "GET"}) // all see that there is none
				ids := make([]string, 8)
				var wg sync.WaitGroup
				for i := range ids {
					c := newClient(t, s, version)
					wg.Go(func() {
						p, err := c.EnsureProject(t.Context(), "incident")
						if err != nil {
							t.Error(err)
						}
						ids[i] = p.ID
					})
				}
				wg.Wait()
				if slices.ContainsFunc(ids, func(id string) bool { return id == "" || id != ids[0] }) {
					t.Errorf("%v; %v", ids, s.Projects())
				}
				if !o.SameNames && len(s.Projects()) != 1 {
					t.Error(s.Projects())
				}
			})
		})
	}
}

func TestAnAnswerThatIsLostCreatesNoSecondProject(t *testing.T) {
	both(t, func(t *testing.T, version func(*Config)) {
		s := cadotest.Start(t, cadotest.Options{SameNames: true})
		c := newClient(t, s, version)
		s.SetFault(standin.Fault{Name: "drop", Match: "POST", Times: 1})
		_, err := c.EnsureProject(t.Context(), "x")
		isFailure(t, err, failure.Retry, httpx.ClassNetwork)
		if p, err := c.EnsureProject(t.Context(), "x"); err != nil || p.ID != "1" || len(s.Projects()) != 1 {
			t.Errorf("%+v %v", p, err)
		}
	})
}

func TestImportAndPipeline(t *testing.T) {
	both(t, func(t *testing.T, version func(*Config)) {
		s := cadotest.Start(t, cadotest.Options{})
		c := newClient(t, s, version, func(c *Config) { c.Bucket = "captures" })
		p, err := c.EnsureProject(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		for range 3 { // an id that is a string is among them
			id, err := c.ImportS3(t.Context(), p.ID, "captures", "a/b.pcap")
			if err != nil {
				t.Fatal(err)
			}
			var states []State
			for range 3 {
				pl, err := c.Pipeline(t.Context(), id, p.ID)
				if err != nil || pl.ID != id || pl.Evidence != "b.pcap" || pl.Type != typeAcquisition || pl.Project != p.ID || pl.Created.IsZero() {
					t.Fatalf("%+v %v", pl, err)
				}
				states = append(states, pl.State)
			}
			if fmt.Sprint(states) != "[running running done]" {
				t.Error(states)
			}
		}
		if s.Counted("duplicate") != 2 || s.Counted("unknown") != 0 {
			t.Errorf("%d duplicates, %d unknown", s.Counted("duplicate"), s.Counted("unknown"))
		}
		all, err := c.Pipelines(t.Context(), p.ID)
		if err != nil || len(all) != 6 { // each with its processing
			t.Errorf("%+v %v", all, err)
		}
		_, err = c.Pipeline(t.Context(), "4711", p.ID)
		isFailure(t, err, failure.Permanent, ClassNotFound)
	})
}

func TestAnOldPlatformTakesTheNameAsAString(t *testing.T) {
	s := cadotest.Start(t, cadotest.Options{OldImport: true})
	c := newClient(t, s)
	s.AddProject("x", false)
	if id, err := c.ImportS3(t.Context(), "1", "captures", "a.pcap"); err != nil || id != "1" || s.Counted("import") != 1 {
		t.Errorf("%s %v", id, err)
	}
}

func TestURLImportAndPresignedUpload(t *testing.T) {
	s := cadotest.Start(t, cadotest.Options{})
	c := newClient(t, s)
	s.AddProject("x", false)
	id, err := c.ImportURL(t.Context(), "1", secret.New("https://s3.example.com/b/a.pcap?X-Amz-Signature=0123456789"))
	if err != nil || s.Pipelines()[0].Source != "s3.example.com/b/a.pcap" {
		t.Errorf("%s %v", id, err)
	}
	s.SetFault(standin.Fault{Name: "status", Status: 400, Text: "cannot get https://s3.example.com/b/a.pcap?X-Amz-Signature=0123456789"})
	_, err = c.ImportURL(t.Context(), "1", secret.New("https://s3.example.com/b/a.pcap?X-Amz-Signature=0123456789"))
	isFailure(t, err, failure.Permanent, ClassBadRequest)
	s.ClearFaults()

	u, err := c.PresignedURL(t.Context(), "1", "b.pcap")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("x", 3<<20)
	data := Body{strings.NewReader(text), int64(len(text)), sha256.Sum256([]byte(text))}
	if err := c.PutPresigned(t.Context(), u, data); err != nil {
		t.Fatal(err)
	}
	if ps := s.Pipelines(); len(ps) != 2 || ps[1].Evidence != "b.pcap" || s.Counted("badupload") != 0 {
		t.Errorf("%+v", ps)
	}
	if has, err := c.HasEvidence(t.Context(), "1", "b.pcap"); err != nil || !has {
		t.Error(has, err)
	}
	if has, err := c.HasEvidence(t.Context(), "1", "b.pca"); err != nil || has {
		t.Error(has, err)
	}
	err = c.PutPresigned(t.Context(), u, Body{Content: data.Content, Size: maxPresigned})
	isFailure(t, err, failure.Permanent, ClassBadRequest)
	for _, changed := range []Body{{data.Content, data.Size, [32]byte{1}}, {data.Content, data.Size + 1, data.SHA256}, {data.Content, data.Size - 1, data.SHA256}} {
		err = c.PutPresigned(t.Context(), u, changed)
		isFailure(t, err, failure.Permanent, ClassChanged)
	}
	if s.Counted("upload") != 1 {
		t.Errorf("%d uploads", s.Counted("upload"))
	}
	s.SetFault(standin.Fault{Name: "status", Status: 403, Match: "PUT"})
	err = c.PutPresigned(t.Context(), u, data)
	isFailure(t, err, failure.Retry, ClassBusy)
	s.SetFault(standin.Fault{Name: "status", Status: 507, Match: "PUT"})
	err = c.PutPresigned(t.Context(), u, data)
	isFailure(t, err, failure.Pause, "store_full")
}

func TestUploadURLsThatNobodyShouldFollow(t *testing.T) {
	for _, u := range []string{"", "http://169.254.169.254/latest", "file:///etc/passwd", "https://me:pw@s3.example/x", "gopher://x", "https://" + strings.Repeat("x", 9000), "//x"} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			data, _ := json.Marshal(map[string]any{"status": "success", "data": map[string]any{"urls": []map[string]string{{"url": u}}}})
			_, _ = w.Write(data)
		}))
		_, err := client(t, srv.URL, testKey).PresignedURL(t.Context(), "1", "x")
		isFailure(t, err, failure.Retry, ClassBadReply)
		srv.Close()
	}
}

func TestTimelineAndInstances(t *testing.T) {
	both(t, func(t *testing.T, version func(*Config)) {
		s := cadotest.Start(t, cadotest.Options{})
		c := newClient(t, s, version, func(c *Config) { c.CloudID, c.Bucket = "main", "captures" })
		p := s.AddProject("x", false)
		var lines []string
		for i := range 230 {
			lines = append(lines, fmt.Sprintf("2026-01-02 03:%02d:%02d finding %d", i/60, i%60, i))
		}
		if n := s.AddEvents(p.ID, "x.log", append(lines, "no time", "")...); n != 230 {
			t.Fatal(n)
		}
		all, more, err := c.Timeline(t.Context(), Question{Project: "1"})
		if err != nil || more || len(all) != 230 || all[229].Text != "finding 229" || all[0].Evidence != "x.log" || !all[1].Time.Equal(time.Date(2026, 1, 2, 3, 0, 1, 0, time.UTC)) {
			t.Fatalf("%d %v %v", len(all), more, err)
		}
		some, more, err := c.Timeline(t.Context(), Question{Project: "1", Text: "finding", Limit: 7, From: all[10].Time, To: all[200].Time})
		if err != nil || !more || len(some) != 7 || some[0].Text != "finding 10" {
			t.Errorf("%+v %v %v", some, more, err)
		}
		list, err := c.Instances(t.Context(), "1", "eu-west-1")
		if err != nil || len(list) != 1 || list[0].ID != "i-0123456789abcdef0" || list[0].Zone != "eu-west-1a" || !list[0].Importable {
			t.Errorf("%+v %v", list, err)
		}
		if id, err := c.AcquireEC2(t.Context(), "1", list[0].ID, "eu-west-1"); err != nil || id == "" {
			t.Error(id, err)
		}
		if s.Counted("unknown") != 0 {
			t.Error("unknown paths")
		}
	})
}

// A platform that goes on for ever is left after a while.
func TestEndlessLists(t *testing.T) {
	n := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n++
		fmt.Fprintf(w, `{"status":"success","data":[{"id":"x y","instance_id":"a/b","timestamp":1}],"pagination":{"total_pages":1e9,"next_token":"%d"}}`, n)
	}))
	defer srv.Close()
	c := client(t, srv.URL, testKey)
	_, err := c.Projects(t.Context(), "x")
	isFailureClass(t, err, ClassBadReply)
	_, more, err := c.Timeline(t.Context(), Question{Project: "1"})
	if err != nil || !more {
		t.Error(more, err)
	}
	if _, err := c.Instances(t.Context(), "1", "r"); err != nil {
		t.Error(err)
	}
	if n > 3*maxPages {
		t.Errorf("%d requests", n)
	}
}

func isFailureClass(t *testing.T, err error, class string) {
	t.Helper()
	if !isClass(err, class) {
		t.Fatalf("got %v, want %s", err, class)
	}
}

func TestAStalledPlatformIsLeft(t *testing.T) {
	for _, fault := range []string{"hang", "dribble:delay=300ms"} {
		s := cadotest.Start(t, cadotest.Options{})
		f, _ := cadotest.ParseFault(fault)
		s.SetFault(f)
		c := newClient(t, s, func(c *Config) { c.Timeout = config.Duration(time.Second) })
		_, err := c.Projects(t.Context(), "")
		isFailure(t, err, failure.Retry, httpx.ClassNetwork)
	}
}

func TestASelfSignedPlatform(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `[]`) }))
	defer srv.Close()
	_, err := client(t, srv.URL, testKey, v2).Projects(t.Context(), "")
	if f := isFailure(t, err, failure.Pause, httpx.ClassTLS); !strings.Contains(f.Hint, "[cado] ca_file") {
		t.Error(f.Hint)
	}
}

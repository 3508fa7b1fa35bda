package cadotest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"capagent/enrich/cadotest"
)

const key = "a-key-for-tests-only"

func do(t *testing.T, s *cadotest.Server, method, target, body, kind string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.URL+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	r.Header.Set("Content-Type", kind)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	data, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data)
}

// The forms of the contract, table by table (contracts/cado.md 5.1 to 5.3).
func TestAnswers(t *testing.T) {
	s := cadotest.Start(t, cadotest.Options{APIKey: key, Polls: 1})
	const js = "application/json"
	for _, test := range []struct {
		method, target, body, kind string
		status                     int
		contains                   string
	}{
		{"GET", "/api/v2/system/status", "", js, 200, `{"status":"Running"}`},
		{"GET", "/api/v3/system/status", "", js, 200, `"is_installing":false`},
		{"POST", "/api/v2/projects", `{"caseName":"x"}`, js, 200, `{"id":1,"msg":"Created"}`},
		{"POST", "/api/v2/projects", `{"caseName":"x"}`, js, 409, `{"msg":"Project name already exists"}`},
		{"POST", "/api/v3/projects", `{"case_name":"x"}`, js, 400, `"status":"error"`},
		{"POST", "/api/v3/projects", `{"case_name":"y"}`, js, 201, `"data":{"id":2,`},
		{"POST", "/api/v3/projects", `{"caseName":"z"}`, js, 400, `case_name`},
		{"POST", "/api/v3/projects", `{"case_name":"` + strings.Repeat("x", 81) + `"}`, js, 400, `80`},
		{"POST", "/api/v3/projects", `{"case_name":"q"}`, "text/plain", 400, `JSON`},
		{"POST", "/api/v3/projects", `[`, js, 400, `JSON`},
		{"GET", "/api/v2/projects", "", js, 200, `"caseName":"y"`},
		{"GET", "/api/v3/projects?name=X&per_page=1", "", js, 200, `"total_records":1`},
		{"GET", "/api/v2/projects/2", "", js, 200, `"caseName":"y"`},
		{"GET", "/api/v3/projects/9", "", js, 404, `"status":"error"`},
		{"POST", "/api/v2/projects/1/imports/s3", `{"bucket":"b","file_name":"a/b.pcap"}`, js, 200, `{"pipelines":[{`},
		{"POST", "/api/v2/projects/1/imports/s3", `{"bucket":"b","file_name":["a/b.pcap"]}`, js, 400, `strings`},
		{"POST", "/api/v3/import/aws/s3", `{"project_id":1,"bucket":"b","file_name":"a/b.pcap"}`, js, 400, `file_name`},
		{"POST", "/api/v3/import/aws/s3", `{"project_id":1,"bucket":"b","file_name":["c.pcap"]}`, js, 200, `{"data":{"pipeline_id":2},`},
		{"POST", "/api/v3/import/url", `{"project_id":2,"url":"https://x.example/d.pcap?y"}`, js, 200, `"pipeline_id":3`},
		{"POST", "/api/v3/import/url", `{"project_id":2,"url":"https://[::1]/d.pcap"}`, js, 400, `pattern`},
		{"POST", "/api/v3/import/local/pre-signed", `{"project_id":2,"file_names":["e"]}`, js, 200, `"urls":[{"url":"http`},
		{"POST", "/api/v3/import/local/pre-signed", `{"project_id":2,"file_names":[]}`, js, 400, `file_names`},
		{"POST", "/api/v3/import/aws/ec2", `{"project_id":1,"instance_id":"i-1","region":"r"}`, js, 200, `"pipeline_ids":[{"id":4}]`},
		{"POST", "/api/v2/projects/1/imports/ec2", `{"instance_id":"i-1","bucket":"b"}`, js, 200, `"pipeline_id":5`},
		{"GET", "/api/v2/projects/1/imports/ec2?region=r", "", js, 200, `"instances":[`},
		{"GET", "/api/v3/import/aws/ec2?cloud_id=c&region=r", "", js, 200, `"data":[{`},
		{"GET", "/api/v2/tasks/pipelines?pipeline_id=1", "", js, 200, `"is_terminated":true`},
		{"GET", "/api/v3/pipelines/1", "", js, 200, `"status":"complete"`},
		{"GET", "/api/v2/tasks/pipelines?project_id=1", "", js, 200, `{"pipelines":[`},
		{"GET", "/api/v3/pipelines?project_id=1&triggering_pipeline_id=1", "", js, 200, `"type":"processing"`},
		{"GET", "/api/v3/evidences?project_id=1&display_name=b.pcap", "", js, 200, `"display_name":"b.pcap"`},
		{"GET", "/api/v2/projects/1/timeline", "", js, 200, `"results":[]`},
		{"GET", "/api/v3/timeline?project_id=1", "", js, 200, `"data":[]`},
		{"GET", "/api/v3/timeline?project_id=9", "", js, 404, `error`},
		{"GET", "/api/v2/nothing", "", js, 404, `The requested URL was not found on the server.`},
		{"DELETE", "/api/v3/projects/1", "", js, 404, `"status":"error"`},
		{"GET", "/api/v4/projects", "", js, 404, `not found`},
	} {
		if status, body := do(t, s, test.method, test.target, test.body, test.kind); status != test.status || !strings.Contains(body, test.contains) {
			t.Errorf("%s %s %s: %d %s", test.method, test.target, test.body, status, body)
		}
	}
	if s.Counted("unknown") != 3 || s.Counted("duplicate") != 1 { // the machine, twice
		t.Errorf("%d unknown, %d duplicates", s.Counted("unknown"), s.Counted("duplicate"))
	}
	s.APIKey = "another"
	if status, body := do(t, s, "GET", "/api/v2/projects", "", js); status != 401 || !strings.Contains(body, `{"msg":"Token is invalid"}`) {
		t.Errorf("%d %s", status, body)
	}
}

func TestThePage(t *testing.T) {
	s := cadotest.Start(t, cadotest.Options{APIKey: key})
	p := s.AddProject("<script>"+key, false)
	s.AddEvents(p.ID, "x.log", "2026-01-02 03:04:05 finding <b>")
	if _, body := do(t, s, "POST", "/api/v3/import/aws/s3", fmt.Sprintf(`{"project_id":%d,"bucket":"b","file_name":["a/b.pcap"]}`, p.ID), "application/json"); !strings.Contains(body, "pipeline_id") {
		t.Fatal(body)
	}
	_, page := do(t, s, "GET", "/", "", "")
	for _, want := range []string{"Projects", "Pipelines", "Timeline", "queued", "b.pcap", "&lt;b&gt;", "&lt;script&gt;***"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s", want)
		}
	}
	if strings.Contains(page, key) {
		t.Error("the key")
	}
	for _, k := range append(cadotest.Kinds(), cadotest.StoreKinds()...) {
		if k.Meaning == "" {
			t.Error(k.Name)
		}
	}
}

func FuzzRequest(f *testing.F) {
	for _, seed := range []struct{ method, target, body string }{
		{"POST", "/api/v3/projects", `{"case_name":"x"}`},
		{"POST", "/api/v2/projects/1/imports/s3", `{"bucket":"b","file_name":"x"}`},
		{"POST", "/api/v3/import/aws/s3", `{"project_id":1,"bucket":"b","file_name":[1]}`},
		{"POST", "/api/v3/import/local/pre-signed", `{"project_id":"1","file_names":[{}]}`},
		{"GET", "/api/v2/tasks/pipelines?pipeline_id=1", ""},
		{"GET", "/api/v3/pipelines?page=-1&per_page=99999999999999999999", ""},
		{"GET", "/api/v3/timeline?project_id=1&cursor=-5", ""},
		{"GET", "/api/v2/projects//", ""},
		{"PUT", "/upload/x", "y"},
	} {
		f.Add(seed.method, seed.target, seed.body)
	}
	f.Fuzz(func(t *testing.T, method, target, body string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || !strings.HasPrefix(target, "/") {
			return
		}
		s := cadotest.New(cadotest.Options{APIKey: key})
		defer func() { _ = s.Close() }()
		s.AddProject("one", false)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", strings.NewReader(body))
		r.Method, r.URL, r.RequestURI = method, u, target
		r.Header.Set("Authorization", "Bearer "+key)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Header().Get("Content-Type") == "application/json" && !json.Valid(w.Body.Bytes()) {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if len(s.Pipelines())+len(s.Projects()) > 1 && (w.Code/100 != 2 || method != http.MethodPost) {
			t.Errorf("%s %s: %d %s", method, target, w.Code, w.Body)
		}
	})
}

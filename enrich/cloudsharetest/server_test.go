package cloudsharetest_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"capagent/enrich/cloudsharetest"
	"capagent/internal/standin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var tokens int

// signed is the header of a request, with a token that was not used before.
func signed(s *cloudsharetest.Server, url string, at time.Time) string {
	tokens++
	token := fmt.Sprintf("token%05d", tokens)
	sum := sha1.Sum(fmt.Appendf(nil, "%s%s%d%s", s.APIKey, url, at.Unix(), token))
	return fmt.Sprintf("cs_sha1 userapiid:%s;timestamp:%d;token:%s;hmac:%s", s.APIID, at.Unix(), token, hex.EncodeToString(sum[:]))
}

// ask sends a request that is signed, or that has the given header.
func ask(t *testing.T, s *cloudsharetest.Server, method, target, body, header string) (int, string) {
	t.Helper()
	address := s.URL + target
	if header == "" {
		header = signed(s, address, time.Now())
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", header)
	req.Header.Set("Content-Type", "application/json")
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

func TestWhatIsRefused(t *testing.T) {
	s := cloudsharetest.Start(t, cloudsharetest.Options{})
	const target = "/api/v3/envs?criteria=allowed&brief=false"
	good := signed(s, s.URL+target, time.Now())
	for _, test := range []struct {
		name, target, header string
		status               int
		counted              string
	}{
		{"a good one", target, good, 200, ""},
		{"the same again", target, good, 401, "replay"},
		{"for another URL", target + "&x=y", signed(s, s.URL+target, time.Now()), 401, "signature"},
		{"in another order", "/api/v3/envs?brief=false&criteria=allowed", signed(s, s.URL+target, time.Now()), 401, "signature"},
		{"in other escapes", "/api/v3/envs?criteria=%61llowed&brief=false", signed(s, s.URL+target, time.Now()), 401, "signature"},
		{"without the host", target, signed(s, target, time.Now()), 401, "signature"},
		{"an old one", target, signed(s, s.URL+target, time.Now().Add(-62*time.Second)), 401, "skew"},
		{"one of tomorrow", target, signed(s, s.URL+target, time.Now().Add(24*time.Hour)), 401, "skew"},
		{"by somebody else", target, strings.Replace(signed(s, s.URL+target, time.Now()), s.APIID, "OTHER", 1), 401, "signature"},
		{"a short token", target, strings.Replace(signed(s, s.URL+target, time.Now()), "token:t", "token:", 1), 401, ""},
		{"nothing", target, "cs_sha1 ", 401, ""},
		{"a path that is not there", "/api/v3/users", "", 404, "unknown"},
	} {
		s.Forget()
		status, body := ask(t, s, "GET", test.target, "", test.header)
		if status != test.status || test.counted != "" && s.Counted(test.counted) != 1 {
			t.Errorf("%s: %d %s", test.name, status, body)
		}
		if status != 200 && !strings.Contains(body, fmt.Sprintf(`"code":"0x%d`, status)) {
			t.Errorf("%s: %s", test.name, body)
		}
	}
}

func TestWhatDestroysIsRefusedAndCounted(t *testing.T) {
	s := cloudsharetest.Start(t, cloudsharetest.Options{})
	id := s.Demo("files.vm.cld.sr", "203.0.113.66")
	n := 0
	for _, call := range []string{
		"PUT envs/actions/revert?envId=" + id, "DELETE envs/" + id, "DELETE vms/MC1", "PUT vms/actions/reboot?vmId=MC1", "PUT vms/actions/revert?vmId=MC1",
		"PUT vms/actions/editvmhardware", "PUT vms/actions/editVmHardware", "PUT snapshots/actions/markdefault?id=x", "PUT cloudfolders/actions/regeneratecloudfolderspassword", "POST vms/actions/executePath",
	} {
		method, target, _ := strings.Cut(call, " ")
		if status, _ := ask(t, s, method, "/api/v3/"+target, "{}", ""); status != 403 {
			t.Errorf("%s: %d", call, status)
		}
		if n++; s.Counted("forbidden") != n {
			t.Errorf("%s is not counted", call)
		}
	}
	if len(s.Env(id).VMs) != 2 {
		t.Error("it was done")
	}
}

func TestSnapshots(t *testing.T) {
	s := cloudsharetest.Start(t, cloudsharetest.Options{})
	id := s.AddEnv(cloudsharetest.Env{Snapshots: []cloudsharetest.Snapshot{{Name: "first", Default: true}}})
	take := func(name, more string) int {
		t.Helper()
		status, _ := ask(t, s, "POST", "/api/v3/snapshots/actions/takesnapshot", `{"envId":"`+id+`","name":"`+name+`"`+more+`}`, "")
		return status
	}
	settle := func() {
		for range 2 {
			ask(t, s, "GET", "/api/v3/envs/actions/getextended?envId="+id, "", "")
		}
	}
	if status := take("second", `,"setAsDefault":false`); status != 204 || s.Env(id).Status != cloudsharetest.Taking || len(s.Env(id).Snapshots) != 1 {
		t.Fatalf("%d %+v", status, s.Env(id))
	}
	if status := take("too early", ""); status != 409 {
		t.Errorf("while one is taken: %d", status)
	}
	settle()
	if e := s.Env(id); e.Status != cloudsharetest.Ready || len(e.Snapshots) != 2 || !e.Snapshots[0].Default {
		t.Errorf("%+v", e)
	}
	for i := range 4 {
		take(fmt.Sprintf("s%d", i), "")
		settle()
	}
	if e := s.Env(id); len(e.Snapshots) != 5 || e.Snapshots[0].Name != "second" || !e.Snapshots[4].Default || s.Counted("evicted") != 1 || s.Counted("snapshot") != 5 {
		t.Errorf("%+v, %d evicted", e, s.Counted("evicted"))
	}
	if status := take(strings.Repeat("x", 33), ""); status != 400 {
		t.Errorf("a long name: %d", status)
	}
}

func TestThePageShowsLabsAndNoSecret(t *testing.T) {
	s := cloudsharetest.Start(t, cloudsharetest.Options{})
	s.Demo("files.vm.cld.sr", "203.0.113.66")
	_, machines := ask(t, s, "GET", "/api/v3/envs/actions/getextendedbymachinevanity?machineVanity=FILES.vm.cld.sr", "", "")
	_, page := ask(t, s, "GET", "/", "", "")
	for _, want := range []string{"Branch office", "files.vm.cld.sr", "203.0.113.66 10.160.189.98", "lesson 5", "Suspended", "getextendedbymachinevanity"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %s", want)
		}
	}
	for _, hidden := range append(s.Secrets(), s.APIKey) {
		if strings.Contains(page, hidden) {
			t.Error("the page shows a secret")
		}
	}
	if !strings.Contains(machines, s.Secrets()[0]) {
		t.Error("the API gives no passwords, which tests look for")
	}
	for _, k := range standin.Kinds(cloudsharetest.Kinds()) {
		s.SetFault(standin.Fault{Name: k.Name}) // each is known
	}
}

// FuzzRequest: whatever is asked, there is an answer, and nothing changes without a
// signature.
func FuzzRequest(f *testing.F) {
	s := cloudsharetest.New(cloudsharetest.Options{})
	id := s.Demo("files.vm.cld.sr", "203.0.113.66")
	f.Add("GET", "/api/v3/envs", "", "cs_sha1 userapiid:x;timestamp:1;token:0123456789;hmac:00", false)
	f.Add("PUT", "/api/v3/envs/actions/suspend?envId="+id, "", "", false)
	f.Add("POST", "/api/v3/snapshots/actions/takesnapshot", `{"envId":"`+id+`","name":"x","setAsDefault":null}`, "", true)
	f.Add("GET", "/api/v3/envs/actions/getextended?envId="+id, "", "", true)
	f.Fuzz(func(t *testing.T, method, target, body, header string, sign bool) {
		if u, err := url.ParseRequestURI(target); err != nil || u.Host != "" || !strings.HasPrefix(target, "/") {
			return // net/http answers such ones itself
		}
		if req, err := http.NewRequestWithContext(t.Context(), method, "http://lab.example/", nil); err != nil || req.Method != method {
			return
		}
		before := fmt.Sprint(s.Envs())
		req := httptest.NewRequest("GET", "http://lab.example/", strings.NewReader(body))
		u, _ := url.ParseRequestURI(target)
		req.Method, req.URL, req.RequestURI = method, u, target
		req.Header.Set("Content-Type", "application/json")
		if req.Header.Set("Authorization", header); sign {
			req.Header.Set("Authorization", signed(s, "http://lab.example"+target, time.Now()))
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, req)
		if w.Code < 200 || w.Code > 599 {
			t.Errorf("%d", w.Code)
		}
		if !sign && fmt.Sprint(s.Envs()) != before {
			t.Errorf("%s %s changed something", method, target)
		}
		s.Forget()
	})
}

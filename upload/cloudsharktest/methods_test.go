package cloudsharktest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func ids(t *testing.T, r reply) []string {
	t.Helper()
	var v struct {
		Captures []struct {
			ID      string
			Created time.Time `json:"created_at"`
		}
	}
	if err := json.Unmarshal(r.body, &v); err != nil || r.status != 200 || v.Captures == nil {
		t.Fatalf("%d %s %v", r.status, r.body, err)
	}
	out := []string{}
	for _, c := range v.Captures {
		out = append(out, c.ID)
	}
	return out
}

func TestSearchMeetsEveryCriterion(t *testing.T) {
	now := time.Date(2026, 5, 6, 12, 0, 0, 0, time.UTC)
	s := start(t, Options{Now: func() time.Time { return now }})
	a := mustPut(t, s, "filename=alpha.pcap&additional_tags=x,y", pcap(1, 60)).ID
	now = now.AddDate(0, 0, 1)
	b := mustPut(t, s, "filename=alpha.pcap.2&additional_tags=x", pcap(1, 60)).ID
	for query, want := range map[string][]string{
		"":                                     {b, a},
		"search[filename]=alpha.pcap":          {b, a}, // a part is enough
		"search[filename]=alpha.pcap.2":        {b},
		"search[filename]=ALPHA":               {},
		"search[tags][]=x":                     {b, a},
		"search[tags][]=x&search[tags][]=y":    {a},
		"search[filename]=.2&search[tags][]=y": {},
		"search[date]=1/1/2000-05/06/2026":     {a},
		"search[date]=05/07/2026-05/07/2026":   {b},
		"search%5Bfilename%5D=%2E2":            {b},
	} {
		for _, slash := range []string{"", "/"} {
			if got := ids(t, do(t, s, "GET", "search"+slash+"?"+query, nil)); !slices.Equal(got, want) {
				t.Errorf("%q: %v, want %v", query, got, want)
			}
		}
	}
	for _, query := range []string{"filename=alpha", "search[date]=yesterday", "search[size]=1"} {
		if r := do(t, s, "GET", "search?"+query, nil); r.status != 400 {
			t.Errorf("%q: %d", query, r.status)
		}
	}
}

func TestInfoHasTheDocumentedKeysAndTheirTypes(t *testing.T) {
	s := start(t, Options{Now: func() time.Time { return time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC) }})
	c := mustPut(t, s, "filename=x.pcap&additional_tags=a,b&comments=hi", pcap(101, 1000))
	got := do(t, s, "GET", "info/"+c.ID, nil).json(t)
	want := map[string]any{
		"id": c.ID, "filename": "x.pcap", "size": float64(c.Size), "sha1_hash": c.SHA1, "num_packets": 101.0,
		"data_size": 101000.0, "duration": "0.100000", "avg_packet_size": "1000.00", "avg_packet_rate": "1010.00",
		"data_byte_rate": "1010000.00", "data_bit_rate": "8080000.00", "start_time": "2026-01-01T22:04:05-05:00",
		"end_time": "2026-01-01T22:04:05-05:00", "created_at": "2026-05-06T02:08:09-05:00", "last_accessed": "2026-05-06T02:08:09-05:00",
		"comments": "hi", "tag_list": "a,b", "encapsulation": "Ethernet", "file_type": "Wireshark/tcpdump/... - pcap",
		"file_source": "upload", "file": "/var/www/cloudshark/current/uploads/" + c.ID + ".cap", "cap_file_id": 165001.0, "viewcount": 0.0,
		"truncated": "No", "user": "sandbox", "group": "", "group_write?": false, "public?": false, "disable_autodelete": false,
	}
	for key, value := range want {
		if got[key] != value {
			t.Errorf("%s is %v, want %v", key, got[key], value)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d keys, want %d", len(got), len(want))
	}
	for _, id := range []string{"000000000000", strings.ToUpper(c.ID), "..", "x"} {
		if r := do(t, s, "GET", "info/"+id, nil); r.status != 404 && r.status != 400 || strings.HasPrefix(r.exceptions(), "not an") {
			t.Errorf("%s: %d %s", id, r.status, r.body)
		}
	}
}

func TestDownloadGivesTheBytesBack(t *testing.T) {
	s := start(t, Options{})
	data := pcap(5, 100)
	c := mustPut(t, s, url.Values{"filename": {`naïve "x".pcap`}}.Encode(), data)
	r := do(t, s, "GET", "download/"+c.ID, nil)
	if !bytes.Equal(r.body, data) || r.header.Get("Content-Disposition") != `attachment; filename*=utf-8''na%C3%AFve%20%22x%22.pcap` {
		t.Errorf("%v", r.header)
	}
}

func TestDeleteForgetsASession(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Options{Dir: dir})
	c := mustPut(t, s, "filename=x.pcap", pcap(1, 60))
	r := do(t, s, "POST", "delete/"+c.ID, nil)
	if string(r.body) != `{"id":"`+c.ID+`","message":"Capture deleted successfully.","status":200}` {
		t.Errorf("%s", r.body)
	}
	if r := do(t, s, "POST", "delete/"+c.ID, nil); r.status != 404 {
		t.Errorf("%d", r.status)
	}
	c = mustPut(t, s, "filename=x.pcap", pcap(1, 60))
	if r := do(t, s, "POST", "delete", strings.NewReader(`{"id":"`+c.ID+`"}`)); r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 || len(s.Sessions()) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAnnotationsAreSetReplacedAndRemoved(t *testing.T) {
	s := start(t, Options{})
	c := mustPut(t, s, "filename=x.pcap", pcap(9, 60))
	urlencoded := header("Content-Type", "application/x-www-form-urlencoded")
	call := func(form string) reply {
		return do(t, s, "POST", "annotations/"+c.ID, strings.NewReader(form), urlencoded)
	}
	item := func(line int, text string) string {
		return fmt.Sprintf(`{"capture_id":"%s","line":%d,"text":"%s","user":"sandbox"}`, c.ID, line, text)
	}
	for _, step := range []struct {
		form   string
		status int
		want   string
	}{
		{"frame=7&text=seven", 200, "[" + item(7, "seven") + "]"},
		{"frame=2&text=two", 200, "[" + item(2, "two") + "," + item(7, "seven") + "]"},
		{"frame=7&text=other", 200, "[" + item(2, "two") + "," + item(7, "other") + "]"},
		{"frame=9&text=nine&quiet=true", 204, ""},
		{"frame=9", 200, "[" + item(2, "two") + "," + item(7, "other") + "]"},
		{"frame=2&text=&quiet=1", 204, ""},
	} {
		if r := call(step.form); r.status != step.status || string(r.body) != step.want {
			t.Errorf("%s: %d %s", step.form, r.status, r.body)
		}
	}
	if r := do(t, s, "GET", "annotations/"+c.ID, nil); string(r.body) != "["+item(7, "other")+"]" {
		t.Errorf("%s", r.body)
	}
	body, kind := form(field{"frame", "", "1"}, field{"text", "", "by form"})
	if r := do(t, s, "POST", "annotations/"+c.ID, body, kind); r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if v := s.Violations(); len(v) > 0 {
		t.Errorf("%v", v)
	}
	for _, bad := range []string{"text=x", "frame=0&text=x", "frame=10&text=x", "frame=x&text=x", "%zz", "frame=1&text=" + s.Token} {
		if r := call(bad); r.status != 400 {
			t.Errorf("%s: %d", bad, r.status)
		}
	}
}

func TestTokensMayDoOnlyWhatTheyMay(t *testing.T) {
	const all = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	tokens := []Token{{Value: all}}
	permissions := []Permission{Upload, Info, Search, Download, Delete, Annotate}
	for i, p := range permissions {
		tokens = append(tokens, Token{Value: strings.Repeat(fmt.Sprint(i), 32), Permissions: []Permission{p}})
	}
	tokens = append(tokens, Token{Value: strings.Repeat("9", 32), Permissions: []Permission{}})
	s := start(t, Options{Tokens: tokens})
	for _, token := range tokens[1:] {
		c := mustPut(t, s, "filename=x.pcap", pcap(2, 60))
		for rest, needs := range map[string]Permission{
			"PUT upload?filename=x.pcap": Upload, "GET search": Search, "GET info/" + c.ID: Info, "GET annotations/" + c.ID: Info,
			"GET download/" + c.ID: Download, "POST annotations/" + c.ID + "?frame=1&text=x": Annotate, "POST delete/" + c.ID: Delete,
		} {
			verb, path, _ := strings.Cut(rest, " ")
			var body io.Reader
			if verb == "PUT" {
				body = bytes.NewReader(pcap(1, 60))
			}
			r := doURL(t, verb, s.URL+"/api/v1/"+token.Value+"/"+path, body)
			if slices.Contains(token.Permissions, needs) {
				if r.status != 200 && r.status != 404 { // deleted before
					t.Errorf("%v %s: %d %s", token.Permissions, rest, r.status, r.body)
				}
			} else if r.status != 403 || r.exceptions() != msgForbidden {
				t.Errorf("%v %s: %d %s", token.Permissions, rest, r.status, r.body)
			}
		}
	}
}

func TestALoginTokenNeedsTheLogin(t *testing.T) {
	s := start(t, Options{Tokens: []Token{{Value: strings.Repeat("b", 32), LoginUser: "u", LoginPassword: "p"}}})
	for credentials, status := range map[string]int{"": 401, "u:": 401, "u:x": 401, "x:p": 401, "u:p": 200} {
		r := do(t, s, "GET", "search", nil, func(r *http.Request) {
			if user, password, ok := strings.Cut(credentials, ":"); ok {
				r.SetBasicAuth(user, password)
			}
		})
		if r.status != status || (status == 401) != (r.header.Get("WWW-Authenticate") != "") {
			t.Errorf("%q: %d %v", credentials, r.status, r.header)
		}
	}
	for _, r := range s.Requests() {
		if a := r.Header.Get("Authorization"); a != "" && a != "***" {
			t.Errorf("the password is remembered: %q", a)
		}
	}
}

func TestAFullQuotaRefuses(t *testing.T) {
	data := pcap(2, 100)
	for _, opts := range []Options{{MaxSessions: 2}, {MaxBytes: int64(2*len(data) + 1)}} {
		s := start(t, opts)
		mustPut(t, s, "filename=1.pcap", data)
		c := mustPut(t, s, "filename=2.pcap", data)
		if r := put(t, s, "filename=3.pcap", data); r.status != 403 || !strings.Contains(r.exceptions(), "quota reached") {
			t.Errorf("%d %s", r.status, r.body)
		}
		do(t, s, "POST", "delete/"+c.ID, nil)
		mustPut(t, s, "filename=3.pcap", data)
	}
}

func TestSessionsOutliveARestart(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Options{Dir: dir})
	var before []Session
	for i := range 3 {
		c := mustPut(t, s, fmt.Sprintf("filename=%d.pcap&additional_tags=t&comments=c", i), pcap(i, 60))
		do(t, s, "POST", "annotations/"+c.ID+"?frame=1&text=note", nil)
		c, _ = s.Session(c.ID)
		before = append(before, c)
	}
	post(t, s, "", field{"file", "k.pcap", string(pcap(1, 60))}, field{"keylog", "k", "KEYS"})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// What a crash can leave behind, and what is not ours.
	lost := "0123456789ab"
	for name, text := range map[string]string{
		"upload-123.part": "x", lost + ".json": `{"id":"` + lost + `","format":"pcap"}`, lost + ".keylog": "x",
		before[0].ID + ".json.part": "{", "notes.txt": "mine", "other.part": "mine", "ffff.json": "{", "ba9876543210.json": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s = start(t, Options{Dir: dir})
	after := s.Sessions()
	if len(after) != 4 {
		t.Fatalf("%d sessions", len(after))
	}
	for i, want := range before {
		if fmt.Sprintf("%+v", after[i]) != fmt.Sprintf("%+v", want) {
			t.Errorf("before %+v\nafter  %+v", want, after[i])
		}
		f, err := s.Open(want.ID)
		if err != nil {
			t.Fatal(err)
		}
		if data, _ := io.ReadAll(f); !bytes.Equal(data, pcap(i, 60)) {
			t.Errorf("session %d holds other bytes", i)
		}
		_ = f.Close()
	}
	if keys, _ := s.Keylog(after[3].ID); string(keys) != "KEYS" {
		t.Errorf("keylog %q", keys)
	}
	for name, kept := range map[string]bool{
		"upload-123.part": false, lost + ".json": false, lost + ".keylog": false, before[0].ID + ".json.part": false,
		"notes.txt": true, "other.part": true, "ffff.json": true, "ba9876543210.json": true,
	} {
		if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != kept {
			t.Errorf("%s: %v", name, err)
		}
	}
	if c := mustPut(t, s, "filename=new.pcap", pcap(1, 60)); c.Seq != 5 {
		t.Errorf("%+v", c)
	}
}

func TestManyAtOnce(t *testing.T) {
	s := start(t, Options{MaxSessions: 100})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 15 {
				r := put(t, s, fmt.Sprintf("filename=%d-%d.pcap", i, j), pcap(10, 500))
				if r.status != 200 && r.status != 403 {
					t.Errorf("%d %s %v", r.status, r.body, r.err)
				}
				s.Sessions()
				s.Requests()
				s.Counters()
			}
		})
	}
	wg.Wait()
	c := s.Counters()
	if len(s.Sessions()) != 100 || c.Stored != 100 || c.Requests["upload"] != 120 || c.Uploading != 0 || c.MaxUploading < 2 {
		t.Errorf("%d sessions, %+v", len(s.Sessions()), c)
	}
	seen := map[string]bool{}
	for i, c := range s.Sessions() {
		if seen[c.ID] || c.Seq != int64(i+1) {
			t.Errorf("%+v", c)
		}
		seen[c.ID] = true
	}
}

func TestOldRequestsAreForgotten(t *testing.T) {
	s := start(t, Options{KeepRequests: 10})
	for i := range 25 {
		do(t, s, "GET", fmt.Sprintf("search?search[filename]=%d", i), nil)
	}
	r := s.Requests()
	if len(r) > 10 || r[len(r)-1].Query.Get("search[filename]") != "24" || s.Counters().Requests["search"] != 25 {
		t.Errorf("%d requests, last %+v", len(r), r[len(r)-1])
	}
}

func TestCloseDoesNotWaitForAnIdleClient(t *testing.T) {
	dir := t.TempDir()
	s, err := New(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(s.Handler())
	defer h.Close()
	r, w := io.Pipe()
	done := make(chan reply)
	go func() { done <- doURL(t, "PUT", h.URL+"/api/v1/"+s.Token+"/upload?filename=x.pcap", r) }()
	_, _ = w.Write(pcap(1, 60))
	waitFor(t, func() bool { return s.Counters().Uploading == 1 })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 || len(s.Sessions()) != 0 {
		t.Errorf("left behind: %v", left)
	}
	_ = w.Close()
	if got := <-done; got.err == nil && got.status == 200 {
		t.Errorf("%+v", got)
	}
	if got := doURL(t, "PUT", h.URL+"/api/v1/"+s.Token+"/upload?filename=x.pcap", bytes.NewReader(pcap(1, 60))); got.status != 503 {
		t.Errorf("after Close: %d %v", got.status, got.err)
	}
}

package upload

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"capagent/internal/failure"
	"capagent/internal/httpx"
)

func TestClassesOfAnswers(t *testing.T) {
	for _, test := range []struct {
		status int
		text   string // of the exceptions; "" for no JSON
		class  string
	}{
		{401, "", ClassLoginNeeded},
		{401, "API Token is missing or invalid", ClassLoginNeeded},
		{403, "Must be logged in to use token", ClassLoginNeeded},
		{404, "API Token is missing or invalid", ClassBadToken},
		{404, "no such thing", ClassBadToken},
		{400, "Invalid API token", ClassBadToken},
		{403, "This token has expired", ClassBadToken},
		{403, "Token is expired", ClassBadToken},
		{403, "API Token cannot execute API method", ClassNoPermission},
		{403, "", ClassNoPermission},
		{500, "You do not have permission to upload", ClassNoPermission},
		{404, "", ClassBadURL},
		{405, "", ClassBadURL},
		{405, "PUT is not supported here", ClassBadURL},
		{410, "", ClassBadURL},
		{413, "", ClassTooLarge},
		{413, "x", ClassTooLarge},
		{400, "File is too big", ClassTooLarge},
		{403, "Capture exceeds the maximum upload size of 10 MB", ClassTooLarge},
		{500, "File size limit exceeded", ClassTooLarge},
		{403, "Upload quota reached", ClassQuota},
		{403, "Storage limit exceeded", ClassQuota},
		{400, "You have reached your limit of 100 captures", ClassQuota},
		{500, "No space left on device", ClassQuota},
		{402, "", ClassQuota},
		{507, "", ClassQuota},
		{400, "File is not a valid capture file", ClassNotCapture},
		{422, "Unsupported capture format", ClassNotCapture},
		{500, "Couldn't read the file", ClassNotCapture},
		{400, "x", ClassNotCapture},
		{415, "", ClassNotCapture},
		{422, "", ClassNotCapture},
		{429, "", ClassBusy},
		{429, "Too many requests", ClassBusy},
		{403, "API rate limit exceeded", ClassBusy},
		{408, "", ClassBusy},
		{502, "", ClassBusy},
		{503, "Server is not available, try again later", ClassBusy},
		{504, "", ClassBusy},
		{500, "", ClassServerError},
		{500, "undefined method for nil", ClassServerError},
		{599, "x", ClassServerError},
		{200, "", ClassBadReply},
		{201, "", ClassBadReply},
		{204, "", ClassBadReply},
		{200, "API Token is missing or invalid", ClassBadToken},
		{400, "", ClassBadReply},
		{418, "", ClassBadReply},
	} {
		reply := &httpx.Reply{Status: test.status, Header: http.Header{}, Body: []byte("<html>")}
		want := "answered "
		if test.text != "" {
			reply.Body, _ = json.Marshal(map[string]any{"status": test.status, "exceptions": []string{test.text}})
			want = "CloudShark says "
		}
		_, _, err := accepted(reply, strings.ToUpper, time.Now())
		f := failure.As(err)
		if f.Class != test.class || f.Kind != classes[test.class].kind || f.Hint == "" || !strings.HasPrefix(f.Error(), want) {
			t.Errorf("%d %q: %s, %v, %q, hint %q; want %s", test.status, test.text, f.Class, f.Kind, f.Error(), f.Hint, test.class)
		}
		if test.text != "" && !strings.Contains(f.Error(), strings.ToUpper(test.text)) {
			t.Errorf("%q does not show the scrubbed text %q", f.Error(), test.text)
		}
	}
}

func TestKindsOfClasses(t *testing.T) {
	want := map[failure.Kind]string{
		failure.Pause:     "bad_token login_needed no_permission quota bad_url",
		failure.Permanent: "too_large not_capture changed unreadable",
		failure.Retry:     "busy server_error bad_reply",
	}
	n := 0
	for kind, names := range want {
		for _, name := range strings.Fields(names) {
			n++
			if c, ok := classes[name]; !ok || c.kind != kind || c.hint == "" {
				t.Errorf("%s is %+v, want %v", name, c, kind)
			}
		}
	}
	if n != len(classes) {
		t.Errorf("%d classes, %d are known here", len(classes), n)
	}
}

func TestWhatCountsAsAccepted(t *testing.T) {
	const id = "f27d1494400c"
	good := []string{
		`{"filename":"a.pcap","id":"` + id + `"}`,
		" \r\n{\"id\":\"" + id + "\",\"filename\":\"a.pcap\",\"more\":{\"x\":[1]}}\n",
		`{"id":"` + id + `","filename":"a.pcap","exceptions":[]}`,
		`{"id":"` + id + `","filename":"a.pcap","exceptions":null}`,
	}
	for _, body := range good {
		for _, kind := range []string{"text/javascript; charset=utf-8", "application/json", "text/html", ""} {
			got, name, err := accepted(&httpx.Reply{Status: 200, Header: http.Header{"Content-Type": {kind}}, Body: []byte(body)}, same, time.Now())
			if got != id || name != "a.pcap" || err != nil {
				t.Errorf("%s: %q, %q, %v", body, got, name, err)
			}
		}
	}
	for _, body := range []string{
		``, `null`, `{}`, `[]`, `"` + id + `"`, `{"id":"` + id + `"`, `{"id":"` + id + `"} x`, `{"id":123456789012}`,
		`{"id":null}`, `{"id":""}`, `{"id":"F27D1494400C"}`, `{"id":"` + id + `0"}`, `{"id":"../` + id + `"}`,
		`{"id":"` + id + "\\n" + `"}`, `{"id":["` + id + `"]}`, `cb({"id":"` + id + `"})`,
		`{"id":"` + id + `","exceptions":["no"]}`, `{"id":"` + id + `","exceptions":"no"}`,
	} {
		if got, _, err := accepted(&httpx.Reply{Status: 200, Body: []byte(body)}, same, time.Now()); err == nil || failure.As(err).Class != ClassBadReply {
			t.Errorf("%s: %q, %v", body, got, err)
		}
	}
	whole := []byte(good[0])
	for _, status := range []int{201, 202, 204, 206, 400, 404, 500} {
		if got, _, err := accepted(&httpx.Reply{Status: status, Body: whole}, same, time.Now()); err == nil {
			t.Errorf("%d: %q", status, got)
		}
	}
	if got, _, err := accepted(&httpx.Reply{Status: 200, Body: whole, Err: errors.New("cut")}, same, time.Now()); err == nil {
		t.Errorf("a cut reply gives %q", got)
	}
}

func same(s string) string { return s }

func TestServersTextsAreBoundedAndQuoted(t *testing.T) {
	texts := []string{strings.Repeat("x", 10_000), "\x1b[2J\r\n\u202E", "ünicode", "4", "5", "6", "7"}
	got := said(texts, same)
	if len(got) > 1000 || strings.ContainsAny(got, "\x1b\r\n\u202e") || !strings.Contains(got, "ünicode") || !strings.HasSuffix(got, "and 2 more") {
		t.Errorf("%d bytes: %s", len(got), got)
	}
	// The token must not survive by being cut in half.
	scrub := func(s string) string { return strings.ReplaceAll(s, canary, "***") }
	if got := said([]string{strings.Repeat("x", 290) + canary}, scrub); strings.Contains(got, canary[:4]) {
		t.Errorf("half a token is in %q", got)
	}
}

func TestNumbersMayBeStrings(t *testing.T) {
	for text, want := range map[string]number{
		`12`: {12, true}, `"12"`: {12, true}, `null`: {}, `"x"`: {}, `1.5`: {}, `{}`: {}, `99999999999999999999`: {},
	} {
		var n number
		if err := json.Unmarshal([]byte(text), &n); err != nil || n.known != want.known || n.known && n.n != want.n {
			t.Errorf("%s gives %+v, %v", text, n, err)
		}
	}
}

func FuzzAccepted(f *testing.F) {
	for _, seed := range []string{`{"filename":"a.pcap","id":"f27d1494400c"}`, `{"status":404,"exceptions":["API Token is missing or invalid"]}`, `[]`, `<html>`} {
		f.Add(200, []byte(seed))
		f.Add(404, []byte(seed))
	}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		id, name, err := accepted(&httpx.Reply{Status: status, Body: body}, same, time.Now())
		if err == nil {
			if status != 200 || !idPattern().MatchString(id) || !json.Valid(body) {
				t.Errorf("%d %q is accepted as %q", status, body, id)
			}
			if len(name) > 300 || strings.ContainsAny(name, "\x1b\r") {
				t.Errorf("name %q", name)
			}
			return
		}
		if f := failure.As(err); f.Hint == "" || len(f.Error()) > 3000 || strings.ContainsAny(f.Error(), "\x1b\r\n") {
			t.Errorf("%d %q: %q, hint %q", status, body, f.Error(), f.Hint)
		}
	})
}

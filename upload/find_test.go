package upload

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"capagent/internal/failure"
)

// answers serves fixed replies: one for search, and one for info of each id.
func answers(t *testing.T, search string, info map[string]string) (*Client, *int) {
	t.Helper()
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		if _, id, ok := strings.Cut(r.URL.Path, "/info/"); ok {
			asked++
			if info[id] == "" {
				w.WriteHeader(404)
				_, _ = io.WriteString(w, `{"status":404,"exceptions":["Capture not found"]}`)
				return
			}
			_, _ = io.WriteString(w, info[id])
			return
		}
		_, _ = io.WriteString(w, search)
	}))
	t.Cleanup(s.Close)
	return stepTo(t, s.URL, MethodPut).opts.Client, &asked
}

func TestFindAmongOddReplies(t *testing.T) {
	const id, sha1 = "00000000000a", "da39a3ee5e6b4b0d3255bfef95601890afd80709"
	list := func(extra string) string { return `{"captures":[{"id":"` + id + `"` + extra + `}]}` }
	full := `{"id":"` + id + `","filename":"a.pcap","size":"100","num_packets":"3","sha1_hash":"` + strings.ToUpper(sha1) + `"}`
	for _, test := range []struct {
		name, search, info string
		found              bool
		err                error
		class              string
	}{
		{name: "numbers as strings, SHA-1 in capitals", search: list(``), info: full, found: true},
		{name: "the file name in the list", search: list(`,"filename":"a.pcap"`), info: full, found: true},
		{name: "another file name in the list", search: list(`,"filename":"a.pcap.old"`), info: full},
		{name: "another file name in info only", search: list(``), info: strings.Replace(full, "a.pcap", "a.pcap.old", 1)},
		{name: "another size", search: list(``), info: strings.Replace(full, "100", "101", 1), err: ErrOtherContent},
		{name: "no size", search: list(``), info: strings.Replace(full, `"100"`, `null`, 1), err: ErrOtherContent},
		{name: "no SHA-1, the same number of packets", search: list(``), info: strings.Replace(full, "sha1_hash", "x", 1), found: true},
		{name: "no SHA-1 and no packets", search: list(``), info: `{"id":"` + id + `","filename":"a.pcap","size":100}`, err: ErrOtherContent},
		{name: "nothing found", search: `{"captures":[]}`},
		{name: "deleted in between", search: list(``)},
		{name: "an id that is none", search: `{"captures":[{"id":"../../x"},{"id":""},{}]}`},
		{name: "info of another session", search: list(``), info: strings.Replace(full, id, "00000000000b", 1), class: ClassBadReply},
		{name: "no list", search: `{}`, class: ClassBadReply},
		{name: "null for a list", search: `{"captures":null}`, class: ClassBadReply},
		{name: "another type of list", search: `{"captures":{"id":1}}`, class: ClassBadReply},
		{name: "not JSON", search: `<html>`, class: ClassBadReply},
		{name: "info that is not JSON", search: list(``), info: `<html>`, class: ClassBadReply},
		{name: "a failure with status 200", search: `{"status":500,"exceptions":["x"]}`, class: ClassServerError},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, _ := answers(t, test.search, map[string]string{id: test.info})
			s, found, err := c.Find(t.Context(), "a.pcap", 100, sha1, 3)
			switch {
			case found != test.found, test.err != nil && !errors.Is(err, test.err), err == nil && (test.err != nil || test.class != ""):
				t.Errorf("%+v, %v, %v", s, found, err)
			case test.class != "":
				wants(t, err, test.class, failure.Retry, `find "a.pcap"`)
			case test.err == nil && err != nil:
				t.Error(err)
			case found && (s.ID != id || s.URL != c.Link(id)):
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestFindLooksAtFewCandidates(t *testing.T) {
	var search strings.Builder
	info := map[string]string{}
	for i := range 1000 {
		id := fmt.Sprintf("%012x", i)
		fmt.Fprintf(&search, `,{"id":%q}`, id)
		info[id] = fmt.Sprintf(`{"id":%q,"filename":"other.pcap"}`, id)
	}
	c, asked := answers(t, `{"captures":[`+search.String()[1:]+`]}`, info)
	_, found, err := c.Find(t.Context(), "a.pcap", 100, "x", 3)
	if found || !errors.Is(err, ErrOtherContent) || *asked != maxCandidates {
		t.Errorf("%v, %v after %d questions", found, err, *asked)
	}
}

func TestAServerThatDoesNotKnowExpect(t *testing.T) {
	var methods []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		methods = append(methods, r.Method+" "+r.Header.Get("Expect"))
		if r.Header.Get("Expect") != "" {
			w.WriteHeader(http.StatusExpectationFailed)
			return
		}
		n, _ := io.Copy(io.Discard, r.Body)
		if n != r.ContentLength {
			t.Errorf("%d bytes", n)
		}
		_, _ = io.WriteString(w, `{"filename":"x","id":"f27d1494400c"}`)
	}))
	t.Cleanup(s.Close)
	step := stepTo(t, s.URL, MethodPut)
	for range 2 {
		if _, err := step.Run(t.Context(), capture(t, pcap(2000, 1000))); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(methods, ","); got != "PUT 100-continue,PUT ,PUT " {
		t.Errorf("requests: %s", got)
	}
}

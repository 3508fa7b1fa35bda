package upload

import (
	"context"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"capagent/internal/failure"
	"capagent/upload/cloudsharktest"
)

// TestDeepSearch: CloudShark says which sessions hold packets that a filter selects.
func TestDeepSearch(t *testing.T) {
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("the stand-in searches with tshark")
	}
	r := newRig(t)
	r.strict = false
	client := r.step.opts.Client
	client.deepPoll = time.Millisecond
	three := r.persist(t, capture(t, pcap(3, 60))).SessionID
	one := r.persist(t, capture(t, pcap(1, 61))).SessionID
	other := r.persist(t, capture(t, pcap(4, 60))).SessionID
	got, err := client.DeepSearch(t.Context(), "frame.number == 2", []string{three, one})
	if err != nil || !slices.Equal(got, []string{three}) {
		t.Errorf("%q %v", got, err)
	}
	if got, err := client.DeepSearch(t.Context(), "frame.number == 1", []string{one, other}); err != nil || len(got) != 2 {
		t.Errorf("%q %v", got, err)
	}
	if _, err := client.DeepSearch(t.Context(), "no such (field", []string{one}); failure.As(err).Class != ClassServerError {
		t.Errorf("%v", err)
	}
	for _, req := range r.Requests() {
		if req.API == "deep_search" && (req.Header.Get("Authorization") != "***" || strings.Contains(req.Path, canary)) {
			t.Errorf("%+v", req)
		}
	}
	for text, want := range map[string]func(error) bool{
		"status:code=404,method=deep_search": func(err error) bool { return errors.Is(err, ErrNoDeepSearch) },
		"forbidden:method=deep_search":       func(err error) bool { return errors.Is(err, ErrNoDeepSearch) },
		"html-200:method=deep_search":        func(err error) bool { return failure.As(err).Class == ClassBadReply },
		"bad-token:method=deep_search": func(err error) bool {
			return failure.As(err).Class == ClassBadToken && !errors.Is(err, ErrNoDeepSearch)
		},
	} {
		fault, err := cloudsharktest.ParseFault(text)
		if err != nil {
			t.Fatal(err)
		}
		r.SetFault(fault)
		if _, err := client.DeepSearch(t.Context(), "frame", []string{one}); !want(err) || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", text, err)
		}
	}
	r.ClearFaults()
	ctx, cancel := context.WithCancel(t.Context())
	client.deepPoll = time.Hour
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := client.DeepSearch(ctx, "frame", []string{one}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestResultsOfDeepSearchInEveryForm(t *testing.T) {
	for text, want := range map[string][]string{
		`["a","b"]`: {"a", "b"}, `[]`: nil, `[{"id":"a"},{"capture_id":"b"}]`: {"a", "b"},
		`{"results":["a"]}`: {"a"}, `{"captures":[{"id":"a"}]}`: {"a"}, `{"capture_ids":["a"]}`: {"a"},
	} {
		if got, ok := deepResults([]byte(text)); !ok || !slices.Equal(got, want) {
			t.Errorf("%s: %q %v", text, got, ok)
		}
	}
	for _, text := range []string{"", "{}", `"a"`, "[1]", "<html>", `{"results":"a"}`} {
		if got, ok := deepResults([]byte(text)); ok {
			t.Errorf("%s: %q", text, got)
		}
	}
}

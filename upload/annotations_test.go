package upload

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capagent/internal/failure"
	"capagent/upload/cloudsharktest"
)

// TestAnnotations: a text per packet, in place of the one before, whatever it holds.
func TestAnnotations(t *testing.T) {
	r := newRig(t)
	r.strict = false
	session := r.persist(t, capture(t, pcap(3, 60))).SessionID
	ctx, client := t.Context(), r.step.opts.Client
	list := func() []Annotation {
		t.Helper()
		notes, err := client.Annotations(ctx, session)
		if err != nil {
			t.Fatal(err)
		}
		return notes
	}
	if notes := list(); len(notes) != 0 {
		t.Errorf("%v", notes)
	}
	for _, a := range []Annotation{{2, "first"}, {1, "a&b=c; 100 % ☃\nsecond line"}, {2, "second"}} {
		if err := client.Annotate(ctx, session, a); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]Annotation{{1, "a&b=c; 100 % ☃_second line"}, {2, "second"}}, list()); diff != "" {
		t.Error(diff)
	}
	if err := client.Annotate(ctx, session, Annotation{2, strings.Repeat("x", 1000)}); err != nil || len(list()[1].Text) > MaxAnnotation {
		t.Errorf("%v, %d bytes", err, len(list()[1].Text))
	}
	if err := client.Annotate(ctx, session, Annotation{99999, "beyond"}); failure.As(err).Kind != failure.Permanent {
		t.Errorf("%v", err)
	}
	if _, err := client.Annotations(ctx, "000000000000"); err == nil || strings.Contains(err.Error(), canary) {
		t.Errorf("%v", err)
	}
	fault, err := cloudsharktest.ParseFault("html-200:method=annotations")
	if err != nil {
		t.Fatal(err)
	}
	r.SetFault(fault)
	if _, err := client.Annotations(ctx, session); failure.As(err).Class != ClassBadReply {
		t.Errorf("%v", err)
	}
}

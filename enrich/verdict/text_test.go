package verdict_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
)

func found(t indicator.Type, value string, verdicts ...verdict.Verdict) verdict.Finding {
	return verdict.Finding{Indicator: indicator.Indicator{Type: t, Value: value, Count: 3, First: indicator.At{Frame: 12}}, Verdicts: verdicts}
}

func said(owner string, rating float64, groups ...verdict.Group) verdict.Verdict {
	return verdict.Verdict{Source: "threatconnect", Owner: owner, Rating: rating, Confidence: 80, Groups: groups}
}

var emotet = verdict.Group{Type: "Malware", Name: "Emotet"}

func TestSummariesAreShortAndHarmless(t *testing.T) {
	findings := []verdict.Finding{
		found(indicator.URL, "http://bad.example/a.exe?x=1.2", said("Common Community", 4.5, emotet)),
		found(indicator.Host, "bad.example", said("", 3)),
	}
	want := "2 findings:\n" +
		"url hxxp://bad[.]example/a.exe?x=1.2 (threatconnect (Common Community): rating 4.5, confidence 80%, malware Emotet; frame 12, seen 3 times)\n" +
		"host bad[.]example (threatconnect: rating 3, confidence 80%; frame 12, seen 3 times)"
	if got := verdict.Summary(findings, 4000); got != want {
		t.Errorf("%s", got)
	}
	if got := verdict.Summary(findings[1:], len("1 finding:\n")+84); !strings.HasPrefix(got, "1 finding:\nhost") {
		t.Errorf("%q", got)
	}
	for size := range len(want) + 1 {
		got := verdict.Summary(findings, size)
		if len(got) > size || size > 30 && size < len(want) && !strings.Contains(got, " more") {
			t.Errorf("%d bytes: %q", size, got)
		}
	}
	if verdict.Summary(nil, 1000) != "" {
		t.Error("a summary of nothing")
	}
}

func TestDefangedValuesAreRead(t *testing.T) {
	for _, tc := range []struct {
		typ         indicator.Type
		value, want string
	}{
		{indicator.Address, "192.0.2.1", "192[.]0[.]2[.]1"},
		{indicator.Address, "2001:db8::1", "2001[:]db8::1"},
		{indicator.URL, "https://a.example:8443/x.y", "hxxps://a[.]example:8443/x.y"},
		{indicator.Email, "a.b@x.example", "a[.]b[@]x[.]example"},
		{indicator.File, "0123", "0123"},
	} {
		i := indicator.Indicator{Type: tc.typ, Value: tc.value}
		if got := verdict.Defang(i); got != tc.want || indicator.Refang(got) != tc.value {
			t.Errorf("%s: %s, which is %s", tc.value, got, indicator.Refang(got))
		}
	}
}

func TestTagsAreFewAndStable(t *testing.T) {
	a := found(indicator.Host, "a.example", said("A", 4.9, emotet, verdict.Group{Type: "Adversary", Name: "Bad, \"Guys\"\n"}))
	b := found(indicator.Host, "b.example", said("B", 3, emotet), verdict.Verdict{Source: "My list", Rating: 3})
	got := verdict.Tags([]verdict.Finding{a, b}, 30)
	if fmt.Sprint(got) != "[threat rating:4 my-list threatconnect adversary:bad-guys malware:emotet]" {
		t.Errorf("%q", got)
	}
	if again := verdict.Tags([]verdict.Finding{b, a}, 30); !slices.Equal(got, again) {
		t.Errorf("in another order: %q", again)
	}
	if few := verdict.Tags([]verdict.Finding{a, b}, 2); !slices.Equal(few, got[:2]) {
		t.Errorf("%q", few)
	}
	if verdict.Tags(nil, 30) != nil || len(verdict.Tags([]verdict.Finding{a}, -1)) != 0 {
		t.Error("tags without findings, or without room")
	}
}

func FuzzTextsAreBoundedAndOnOneLine(f *testing.F) {
	for n, value := range hostile {
		f.Add(uint8(n), value, "Owner\n", "Name,x")
	}
	f.Fuzz(func(t *testing.T, typ uint8, value, owner, name string) {
		one := found(indicator.Type(int(typ)%len(indicator.Types())), value, said(owner, 5, verdict.Group{Type: owner, Name: name}))
		line := verdict.Annotation(one)
		if len(line) > 600 || strings.ContainsAny(line, "\n\r\x1b\x00") || !utf8.ValidString(line) {
			t.Errorf("%d bytes: %q", len(line), line)
		}
		if s := verdict.Summary([]verdict.Finding{one, one}, 1000); len(s) > 1000 || strings.Count(s, "\n") > 2 || !utf8.ValidString(s) {
			t.Errorf("%q", s)
		}
		for _, tag := range verdict.Tags([]verdict.Finding{one}, 30) {
			if len(tag) > 90 || strings.ContainsAny(tag, ",\"\n ") || !utf8.ValidString(tag) {
				t.Errorf("tag %q", tag)
			}
		}
		if filter := verdict.DisplayFilter(one.Indicator); strings.ContainsAny(filter, "\n\r\x00") {
			t.Errorf("filter %q", filter)
		}
	})
}

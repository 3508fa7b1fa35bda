package markup_test

import (
	"html"
	"strings"
	"testing"

	"capagent/internal/markup"
)

func TestValuesAreText(t *testing.T) {
	var p markup.Page
	p.Add(`<td class="{}" title="{}">{}</td>`, "num", `"><script>'&`, 4.5)
	p.AddIf(false, `<b>{}</b>`, 1)
	p.AddIf(true, `<i>{}</i>{}`, int64(-2))
	if got, want := p.String(), `<td class="num" title="&#34;&gt;&lt;script&gt;&#39;&amp;">4.5</td><i>-2</i>{}`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestAValueIsNoMarkup(t *testing.T) {
	var p markup.Page
	p.Add(`{} {}`, "{}", "x")
	if got := p.String(); got != "{} x" {
		t.Errorf("%s", got)
	}
}

func FuzzAdd(f *testing.F) {
	f.Add(`<a href="x">&amp;'`)
	f.Add("\x00\xff{}")
	f.Fuzz(func(t *testing.T, value string) {
		var p markup.Page
		p.Add("{}", value)
		got := p.String()
		if strings.ContainsAny(got, "<>\"'\x00") || html.UnescapeString(got) != strings.ReplaceAll(value, "\x00", "\ufffd") {
			t.Errorf("%q: %q", value, got)
		}
	})
}

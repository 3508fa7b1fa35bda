package quote

import (
	"strconv"
	"strings"
	"testing"
	"unicode"
)

func TestPathKeepsWhatIsPlain(t *testing.T) {
	for in, want := range map[string]string{
		"a.pcap":              "a.pcap",
		"/srv/Fälle/2026 1":   "/srv/Fälle/2026 1",
		"":                    `""`,
		" a":                  `" a"`,
		"a ":                  `"a "`,
		`"a"`:                 `"\"a\""`,
		"a\nb":                `"a\nb"`,
		"a\x1b[31mb":          `"a\x1b[31mb"`,
		"a\xffb":              `"a\xffb"`,
		"a\u202efdp.exe":      `"a\u202efdp.exe"`,
		"a\u2028b":            `"a\u2028b"`,
		`back\slash`:          `back\slash`,
		"zero\u200bwidth":     `"zero\u200bwidth"`,
		"no\u00a0break space": `"no` + "\u00a0" + `break space"`,
	} {
		if got := Path(in); got != want {
			t.Errorf("Path(%q) = %s, want %s", in, got, want)
		}
	}
}

func FuzzQuotedTextIsHarmless(f *testing.F) {
	for _, s := range []string{"", "a", "a\nb", "\x1b]0;x\a", "\xff", `"`, "\u202e"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, out := range []string{Path(s), Text(s)} {
			if strings.ContainsFunc(out, func(r rune) bool { return unicode.IsControl(r) || !unicode.IsGraphic(r) }) {
				t.Fatalf("%q became %q", s, out)
			}
		}
		// The leading quote tells a quoted path from a plain one, without loss.
		p := Path(s)
		if strings.HasPrefix(p, `"`) {
			if back, err := strconv.Unquote(p); err != nil || back != s {
				t.Fatalf("%q became %s, back %q, %v", s, p, back, err)
			}
		} else if p != s {
			t.Fatalf("%q became %s", s, p)
		}
	})
}

package indicator_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"capagent/enrich/indicator"
)

func TestWhatPeopleWriteIsFoundInItsOneForm(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1":                                "address 192.0.2.1",
		"192[.]0[.]2[.]1":                          "address 192.0.2.1",
		"192.0.2[.]1":                              "address 192.0.2.1",
		"2001:DB8:0:0::0001":                       "address 2001:db8::1",
		"[2001:db8::1]":                            "address 2001:db8::1",
		"::ffff:192.0.2.1":                         "address 192.0.2.1",
		"2001[:]db8[:][:]1":                        "address 2001:db8::1",
		"WWW.Example[.]COM.":                       "host www.example.com, local_host www.example.com, user_agent WWW.Example.COM.",
		"bücher(dot)example":                       "host xn--bcher-kva.example, local_host xn--bcher-kva.example, user_agent bücher.example",
		"hxxp://Example[.]com/A?b":                 "url http://example.com/A?b, user_agent http://Example.com/A?b",
		"hXXps[:]//Example.com":                    "url https://example.com, user_agent https://Example.com",
		"http://a.example/?u=hxxp://b":             "url http://a.example/?u=hxxp://b, user_agent http://a.example/?u=hxxp://b",
		"joe[at]Example.com":                       "email joe@example.com",
		"Joe@example[.]com":                        "email Joe@example.com",
		"D41D8CD98F00B204E9800998ECF8427E":         "file d41d8cd98f00b204e9800998ecf8427e, ja3 d41d8cd98f00b204e9800998ecf8427e",
		"DA39A3EE5E6B4B0D3255BFEF95601890AFD80709": "file da39a3ee5e6b4b0d3255bfef95601890afd80709, certificate da39a3ee5e6b4b0d3255bfef95601890afd80709",
		"DA:39:A3:EE:5E:6B:4B:0D:32:55:BF:EF:95:60:18:90:AF:D8:07:09": "file da39a3ee5e6b4b0d3255bfef95601890afd80709, certificate da39a3ee5e6b4b0d3255bfef95601890afd80709",
		"t13d1516h2_8daaf6152771_b186095e22b6":                        "ja4 t13d1516h2_8daaf6152771_b186095e22b6",
		"curl/8.0":                                                    "user_agent curl/8.0",
		"Mozilla/5.0 (X11; +http://)":                                 "user_agent Mozilla/5.0 (X11; +http://)",
		"":                                                            "",
	} {
		text = indicator.Refang(text)
		var got []string
		for _, typ := range indicator.Guess(text) {
			if value, ok := indicator.Canonical(typ, text); ok {
				got = append(got, typ.String()+" "+value)
			}
		}
		if diff := cmp.Diff(want, strings.Join(got, ", ")); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

func FuzzCanonicalIsItsOwnCanonicalForm(f *testing.F) {
	for _, s := range []string{"192.0.2.1", "a.example", "http://A/ \xff", "joe@X.example", "a\\b\n", "ü", "[::1]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		_ = indicator.Refang(s)
		for _, typ := range []indicator.Type{indicator.Address, indicator.Host, indicator.URL, indicator.Email, indicator.File, indicator.JA4} {
			once, ok := indicator.Canonical(typ, s)
			if !ok {
				continue
			}
			twice, ok := indicator.Canonical(typ, once)
			if typ == indicator.Host || typ == indicator.URL || typ == indicator.Email {
				continue // what was escaped or cut off there is text of its own
			}
			if !ok || twice != once {
				t.Fatalf("%v %q: %q, then %q", typ, s, once, twice)
			}
		}
	})
}

package threatconnecttest

import (
	"slices"
	"strings"
	"testing"
)

func TestTQL(t *testing.T) {
	s := start(t, Options{})
	const (
		mine   = "Address 198.51.100.23 Demo Organization"
		theirs = "Address 198.51.100.23 Common Community"
		evil   = "Host evil.example.com Common Community"
		old    = "Host old.example.com Demo Organization"
		link   = "URL http://evil.example.com/Bad.php?a=1&b=2 Demo Organization"
		file   = "File 44D88612FEA8A8F36DE82E1278ABB02F : 3395856CE81F2B7382DEE72602F798B642F14140 Demo Organization"
		six    = "Address 2001:db8:0:0:0:0:0:1 Demo Organization"
		agent  = `User Agent bad "agent'\1.0 Demo Organization`
	)
	for tql, want := range map[string][]string{
		`typeName = "Host"`:  {evil},
		`typename="Host"`:    {evil},
		`typeName != "Host"`: {mine, theirs, link, file, six, agent},
		`typeName in ("Address","Host") and summary in ("198.51.100.23", "evil.example.com")`:                        {mine, theirs, evil},
		`TYPENAME IN ("Address") AND summary IN ('198.51.100.23')`:                                                   {mine, theirs},
		`summary in ("198.51.100.23") and ownerName in ("Common Community")`:                                         {theirs},
		`summary in ("198.51.100.23") and ownerName in ("Secret Source")`:                                            {},
		`summary not in ("198.51.100.23") and typeName = "Address"`:                                                  {six},
		`summary = "EVIL.example.com"`:                                                                               {},
		`summary = "evil.example.com" or typeName = "URL"`:                                                           {evil, link},
		`typeName = "URL" and rating > 1 or typeName = "File"`:                                                       {file},
		`typeName = "URL" and (rating > 1 or typeName = "File")`:                                                     {},
		`typeName="File" and (value1 in ("44D88612FEA8A8F36DE82E1278ABB02F") or value2 in ("X") or value3 in ("Y"))`: {file},
		`value2 = "3395856CE81F2B7382DEE72602F798B642F14140"`:                                                        {file},
		`value3 = ""`:                      {},
		`summary = "2001:db8::1"`:          {},
		`summary = "2001:db8:0:0:0:0:0:1"`: {six},
		`summary = "bad \"agent\'\\1.0"`:   {agent},
		`typeName = "Host" and (indicatorActive=true or indicatorActive=false)`: {evil, old},
		`indicatorActive = false`:                                {old},
		`indicatorActive in (true, false) and typeName = "Host"`: {evil, old},
		`rating >= 4.5`:                                          {theirs, evil},
		`rating < 2 and rating > 0`:                              {file},
		`confidence = 95`:                                        {evil},
		`tag = "c2"`:                                             {mine},
		`lastModified > "2025-03-04T05:06:06Z" and typeName = "Host"`: {evil},
		`lastModified > "2025-03-05" and typeName = "Host"`:           {},
		`id <= 9007199254740993`:                                      {mine},
		`id in (9007199254740995)`:                                    {theirs},
		`((((typeName = "Host"))))`:                                   {evil},
	} {
		if got := look(t, s, tql); !slices.Equal(got, want) {
			t.Errorf("%s\n got %q\nwant %q", tql, got, want)
		}
	}
}

func TestTQLThatIsRefused(t *testing.T) {
	s := start(t, Options{})
	for _, tql := range []string{
		`typeName`, `typeName =`, `typeName = Host`, `typeName = "Host`, `= "Host"`, `typeName in "Host"`, `typeName in ()`, `typeName in ("Host"`,
		`typeName in ("Host",)`, `typeName = "Host" and`, `typeName = "Host" typeName = "URL"`, `(typeName = "Host"`, `typeName = "Host")`,
		`summary contains "x"`, `summary startswith "x"`, `summary endswith "x"`, `summary like "x"`, `summary not like "x"`, `hasGroup(typeName = "x")`,
		`addressCidr = "10.0.0.0/8"`, `unknown = "x"`, `summary > "x"`, `summary not = "x"`, `summary == "x"`, `not typeName = "Host"`,
		`summary = "it's"`, "summary = \"a`b\"", `summary = "a\b"`, `summary = "a\"`, `summary = 'a"b'`, "summary = `x`",
		`rating = "3"`, `indicatorActive = 1`, `indicatorActive = "true"`, `lastModified > "2025-03-04T05:06:07.000Z"`, `lastModified > "yesterday"`,
		`summary = "x" ; drop`, `summary = "x" && id = 1`, strings.Repeat("(", 60) + `id = 1` + strings.Repeat(")", 60),
	} {
		if q, err := parseTQL(tql); err == nil {
			t.Errorf("%s: %+v", tql, q)
		}
	}
	r := get(t, s, "/api/v3/indicators?tql=summary%20contains%20%22x%22")
	if m := r.json(t); r.status != 400 || m["errCode"] != "0x2001" || m["status"] != "Error" || !strings.HasPrefix(m["message"].(string), "TqlParseError") {
		t.Errorf("%d %s", r.status, r.body)
	}
}

func FuzzTQL(f *testing.F) {
	for _, seed := range []string{
		`typeName in ("Address","Host") and summary in ("198.51.100.23")`, `((id = 1) or rating >= -2.5)`, `summary = "a\"\\\'b"`,
		`lastModified > "2025-03-04T05:06:07Z" and indicatorActive = true`, `value1 not in ('x')`,
	} {
		f.Add(seed)
	}
	st := newStore("o", true, nil)
	i := &Indicator{Type: "Address", Value: "198.51.100.23", Owner: "o", Tags: []string{"a"}}
	f.Fuzz(func(t *testing.T, text string) {
		q, err := parseTQL(text)
		if err != nil {
			return
		}
		// What a string holds comes back from its escaped form.
		for keyword, values := range q.strings {
			if kind := keywordKinds[keyword]; kind != "string" {
				continue
			}
			for _, v := range values {
				again, err := parseTQL(keyword + ` = "` + escape(v) + `"`)
				if err != nil || again.strings[keyword][0] != v {
					t.Errorf("%q: %v", v, err)
				}
			}
		}
		q.match(st.subject(i))
	})
}

func escape(v string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, `'`, `\'`, "`", "\\`").Replace(v)
}

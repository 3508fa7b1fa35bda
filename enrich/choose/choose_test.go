package choose_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"capagent/enrich"
	"capagent/enrich/choose"
	"capagent/enrich/enrichtest"
	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
)

func newChooser(t testing.TB, c choose.Config) *choose.Chooser {
	t.Helper()
	if c.Special == nil {
		c.Special = enrich.Special
	}
	chooser, err := choose.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return chooser
}

func seen(t indicator.Type, value string) indicator.Indicator {
	return indicator.Indicator{Type: t, Value: value, Count: 5, Role: indicator.Destination | indicator.DNSQuestion}
}

func file(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWhatIsLeftOut(t *testing.T) {
	c := newChooser(t, choose.Config{
		Own: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")},
		Exclude: []string{
			"198.51.100.7", "2001:db8:1::/48", "corp.example", "*.below.example", "*@mail.example", "boss@other.example",
			"https://intranet.example/*.png*", "http://*/health", strings.Repeat("AB", 20), "hxxp://one[.]example/x",
		},
		ExcludeFiles: []string{file(t, "\ufeff# ours\n192.0.2.0/24  # lab\n\nfile.example\r\n")},
		TopFiles:     []string{file(t, "1,visited.example\n2,com\n3,also.example\n"), file(t, "GlobalRank,TldRank,Domain,TLD\n1,1,majestic.example,example\n")},
	})
	long := strings.Repeat("a.", 200) + "example"
	for _, tc := range []struct {
		typ   indicator.Type
		value string
		want  choose.Reason
	}{
		{indicator.Address, "9.9.9.9", choose.Wanted},
		{indicator.Address, "10.1.2.3", choose.Special},
		{indicator.Address, "ff02::1", choose.Special},
		{indicator.Address, "203.0.113.9", choose.Own},
		{indicator.Address, "198.51.100.7", choose.Excluded},
		{indicator.Address, "198.51.100.8", choose.Wanted},
		{indicator.Address, "2001:db8:1::5", choose.Excluded},
		{indicator.Address, "2001:db8:2::5", choose.Wanted},
		{indicator.Address, "192.0.2.77", choose.Excluded},
		{indicator.Host, "evil.example", choose.Wanted},
		{indicator.Host, "co.uk", choose.PublicSuffix},
		{indicator.Host, "github.io", choose.PublicSuffix},
		{indicator.Host, "x.co.uk", choose.Wanted},
		{indicator.Host, "printer", choose.SingleLabel},
		{indicator.Host, "1.2.0.192.in-addr.arpa", choose.LocalName},
		{indicator.Host, "nas.local", choose.LocalName},
		{indicator.Host, "router.lan", choose.LocalName},
		{indicator.Host, "localhost", choose.LocalName},
		{indicator.Host, "a.localhost", choose.LocalName},
		{indicator.Host, "x.home.arpa", choose.LocalName},
		{indicator.Host, "db.internal", choose.LocalName},
		{indicator.Host, "mylocal", choose.SingleLabel},
		{indicator.Host, "notlocal.example", choose.Wanted},
		{indicator.Host, `a\032b.example`, choose.NotAName},
		{indicator.Host, "a..example", choose.NotAName},
		{indicator.Host, long, choose.NotAName},
		{indicator.Host, "corp.example", choose.Excluded},
		{indicator.Host, "a.b.corp.example", choose.Excluded},
		{indicator.Host, "notcorp.example", choose.Wanted},
		{indicator.Host, "below.example", choose.Wanted},
		{indicator.Host, "x.below.example", choose.Excluded},
		{indicator.Host, "file.example", choose.Excluded},
		{indicator.Host, "ocsp.digicert.com", choose.Common},
		{indicator.Host, "ctldl.windowsupdate.com", choose.Common},
		{indicator.Host, "d111.cloudfront.net", choose.Wanted},
		{indicator.Host, "visited.example", choose.Top},
		{indicator.Host, "www.visited.example", choose.Top},
		{indicator.Host, "x.visited.example", choose.Wanted},
		{indicator.Host, "also.example", choose.Top},
		{indicator.Host, "majestic.example", choose.Top},
		{indicator.LocalHost, "evil.example", choose.LocalName},
		{indicator.URL, "http://evil.example/", choose.Wanted},
		{indicator.URL, "http://10.0.0.1:8080/x", choose.Special},
		{indicator.URL, "http://[fe80::1]/x", choose.Special},
		{indicator.URL, "http://9.9.9.9/x", choose.Wanted},
		{indicator.URL, "http://www.corp.example/", choose.Excluded},
		{indicator.URL, "http://printer/", choose.SingleLabel},
		{indicator.URL, "http://visited.example/bad.exe", choose.Wanted},
		{indicator.URL, "http://github.io/x", choose.Wanted},
		{indicator.URL, "http://ocsp.digicert.com/abc", choose.Common},
		{indicator.URL, "http://x@corp.example/", choose.Excluded},
		{indicator.URL, "https://intranet.example/a/b.png?x", choose.Excluded},
		{indicator.URL, "https://intranet.example/a/b.gif", choose.Wanted},
		{indicator.URL, "http://evil.example/health", choose.Excluded},
		{indicator.URL, "http://one.example/x", choose.Excluded},
		{indicator.URL, "http://one.example/x/y", choose.Wanted},
		{indicator.Email, "x@mail.example", choose.Excluded},
		{indicator.Email, "boss@other.example", choose.Excluded},
		{indicator.Email, "x@other.example", choose.Wanted},
		{indicator.Email, "x@corp.example", choose.Excluded},
		{indicator.Email, "root@localhost", choose.LocalName},
		{indicator.Email, "x@visited.example", choose.Wanted},
		{indicator.File, "d41d8cd98f00b204e9800998ecf8427e", choose.Common},
		{indicator.File, strings.Repeat("ab", 20), choose.Excluded},
		{indicator.File, strings.Repeat("cd", 20), choose.Wanted},
		{indicator.UserAgent, "x", choose.Wanted},
		{indicator.JA3, strings.Repeat("cd", 16), choose.Wanted},
	} {
		if got := c.Why(seen(tc.typ, tc.value)); got != tc.want {
			t.Errorf("%v %s: %q, want %q", tc.typ, tc.value, got, tc.want)
		}
	}
	if all := newChooser(t, choose.Config{NoDefaults: true}); all.Why(seen(indicator.Host, "ocsp.digicert.com")) != choose.Wanted {
		t.Error("left out without defaults")
	}
	if few := newChooser(t, choose.Config{TopFiles: []string{file(t, "1,a.example\n2,b.example\n")}, TopN: 1}); few.Why(seen(indicator.Host, "b.example")) != choose.Wanted {
		t.Error("the second of a list of which one is left out")
	}
}

func TestTheMostSuspiciousComesFirst(t *testing.T) {
	rare, busy, answered := seen(indicator.Host, "rare.example"), seen(indicator.Host, "busy.example"), seen(indicator.Host, "ns.example")
	rare.Count, busy.Count = 1, 5000
	answered.Role, answered.Count = indicator.DNSAnswer, 1
	inward := seen(indicator.Address, "8.8.4.4")
	inward.Role = indicator.Source
	list := []indicator.Indicator{
		inward, seen(indicator.Address, "9.9.9.9"), busy, answered, rare, seen(indicator.Host, "x7f3k9q2zp4mvw8r.example"), seen(indicator.URL, "http://a.example/index.html"),
		seen(indicator.URL, "http://9.9.9.9/x"), seen(indicator.File, strings.Repeat("cd", 20)), seen(indicator.URL, "http://known.example:8443/x"), seen(indicator.Host, "known.example"),
	}
	c := newChooser(t, choose.Config{})
	before := func(q verdict.Query) bool { return strings.Contains(q.Value, "known") }
	choice := c.Choose(list, 100, before)
	var got []string
	for _, q := range choice.Queries {
		got = append(got, q.Value)
	}
	want := []string{
		"http://9.9.9.9/x", strings.Repeat("cd", 20), "http://known.example:8443/x", "x7f3k9q2zp4mvw8r.example", "rare.example", "http://a.example/index.html",
		"busy.example", "ns.example", "known.example", "9.9.9.9", "8.8.4.4",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant\n%q", got, want)
	}
	for range 20 {
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		if again := c.Choose(list, 100, before); !slices.Equal(again.Queries, choice.Queries) {
			t.Fatalf("in another order: %v", again.Queries)
		}
	}
	few := c.Choose(append(list, seen(indicator.Address, "10.0.0.1")), 3, before)
	if len(few.Queries) != 3 || !slices.Equal(few.Queries, choice.Queries[:3]) || !maps.Equal(few.Left, map[choose.Reason]int64{choose.TooMany: 8, choose.Special: 1}) {
		t.Errorf("%+v", few)
	}
	if none := c.Choose(list, -1, nil); len(none.Queries) != 0 || none.Left[choose.TooMany] != int64(len(list)) {
		t.Errorf("%+v", none)
	}
}

func TestBadConfigurationIsTold(t *testing.T) {
	for name, c := range map[string]choose.Config{
		"nonsense": {Exclude: []string{"not a value"}}, "a missing file": {ExcludeFiles: []string{"/nowhere"}},
		"a bad line": {ExcludeFiles: []string{file(t, "ok.example\nnot a value\n")}}, "no list": {TopFiles: []string{file(t, "<html>\n")}},
		"a missing list": {TopFiles: []string{"/nowhere"}}, "too many patterns": {Exclude: slices.Repeat([]string{"http://*"}, 1001)},
	} {
		if _, err := choose.New(c); err == nil {
			t.Errorf("%s is taken", name)
		} else if name == "a bad line" && !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEveryReasonIsExplained(t *testing.T) {
	texts := map[string]bool{}
	for _, r := range []choose.Reason{choose.Special, choose.Own, choose.PublicSuffix, choose.SingleLabel, choose.LocalName, choose.NotAName, choose.Excluded, choose.Common, choose.Top, choose.TooMany, choose.Wanted} {
		texts[r.Explain()] = true
	}
	if len(texts) != 11 {
		t.Errorf("%v", texts)
	}
}

func TestHostileIndicatorsAreHarmless(t *testing.T) {
	c := newChooser(t, choose.Config{Exclude: []string{"http://*a*a*a*a*a*b"}})
	var list []indicator.Indicator
	for _, q := range enrichtest.Hostile() {
		list = append(list, indicator.Indicator{Type: q.Type, Value: q.Value})
	}
	list = append(list, seen(indicator.URL, "http://"+strings.Repeat("a", 8<<10)))
	choice := c.Choose(list, len(list), nil)
	left := int64(0)
	for _, n := range choice.Left {
		left += n
	}
	if int(left)+len(choice.Queries) != len(list) {
		t.Errorf("%d of %d are left out, %d chosen", left, len(list), len(choice.Queries))
	}
}

func BenchmarkChoose(b *testing.B) {
	c := newChooser(b, choose.Config{Exclude: []string{"corp.example", "192.0.2.0/24", "http://*.corp.example/*"}})
	var list []indicator.Indicator
	for i := range 100_000 {
		switch i % 3 {
		case 0:
			list = append(list, seen(indicator.Host, fmt.Sprintf("host-%d.some.example", i)))
		case 1:
			list = append(list, seen(indicator.URL, fmt.Sprintf("http://host-%d.some.example/path/%d.js", i, i)))
		default:
			list = append(list, seen(indicator.Address, netip.AddrFrom4([4]byte{9, byte(i >> 16), byte(i >> 8), byte(i)}).String()))
		}
	}
	for b.Loop() {
		if n := len(c.Choose(list, 10_000, nil).Queries); n != 10_000 {
			b.Fatal(n)
		}
	}
}

func TestExclusionsOfOthersAreTakenAsTheyAreWritten(t *testing.T) {
	e, bad := choose.NewExclusions([]string{"good.example", "*.corp.example", "10.0.0.0/8", "2001:db8::1", "*@mail.example", "d41d8cd98f00b204e9800998ecf8427e", "http://x.example/*", "not a value!"})
	if bad != 1 {
		t.Errorf("%d can't be read", bad)
	}
	for _, q := range []verdict.Query{
		{Type: indicator.Host, Value: "good.example"},
		{Type: indicator.Host, Value: "a.corp.example"},
		{Type: indicator.Address, Value: "10.1.2.3"},
		{Type: indicator.Address, Value: "2001:db8::1"},
		{Type: indicator.Email, Value: "a@mail.example"},
		{Type: indicator.File, Value: "d41d8cd98f00b204e9800998ecf8427e"},
		{Type: indicator.URL, Value: "http://x.example/a"},
	} {
		if !e.Has(q) {
			t.Errorf("%v is asked", q)
		}
	}
	for _, q := range []verdict.Query{
		{Type: indicator.Host, Value: "evil.good.example"},
		{Type: indicator.Host, Value: "corp.example"},
		{Type: indicator.Address, Value: "11.1.2.3"},
		{Type: indicator.Address, Value: "x"},
		{Type: indicator.UserAgent, Value: "good.example"},
		{Type: indicator.URL, Value: "https://x.example/a"},
		{Type: indicator.Email, Value: "mail.example"},
	} {
		if e.Has(q) {
			t.Errorf("%v is not asked", q)
		}
	}
}

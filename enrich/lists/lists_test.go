package lists_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"capagent/enrich/enrichtest"
	"capagent/enrich/indicator"
	"capagent/enrich/lists"
	"capagent/enrich/verdict"
)

func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func newList(t testing.TB, c lists.Config) *lists.List {
	t.Helper()
	if c.Name == "" {
		c.Name = "my-list"
	}
	l, err := lists.New(c, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// listOf is a list of a text.
func listOf(t testing.TB, text string) *lists.List {
	t.Helper()
	return newList(t, lists.Config{File: write(t, filepath.Join(t.TempDir(), "list"), text)})
}

// says returns what a list says of an indicator, in short: "owner rating/confidence".
func says(t testing.TB, l *lists.List, typ indicator.Type, value string) string {
	t.Helper()
	answers, err := l.Look(t.Context(), []verdict.Query{{Type: typ, Value: value}})
	if err != nil || len(answers) != 1 {
		t.Fatalf("%v %s: %v, %v", typ, value, answers, err)
	}
	var all []string
	for _, v := range answers[0].Verdicts {
		all = append(all, fmt.Sprintf("%s %g/%d", v.Owner, v.Rating, v.Confidence))
	}
	return strings.Join(all, ", ")
}

type expect struct {
	typ         indicator.Type
	value, want string
}

func check(t *testing.T, l *lists.List, all []expect) {
	t.Helper()
	for _, e := range all {
		if got := says(t, l, e.typ, e.value); got != e.want {
			t.Errorf("%v %s: %q, want %q", e.typ, e.value, got, e.want)
		}
	}
}

const md5, sha1 = "d41d8cd98f00b204e9800998ecf8427e", "da39a3ee5e6b4b0d3255bfef95601890afd80709"

const plain = `# a comment
192.0.2.7	# with a comment behind it
198.51.100[.]0/24
2001:DB8:0:0:0:0:0:1
2001:db8:5::/48
Evil.Example.
*.below.example
.both.example
hxxp://bad[.]example/a.exe?b=1#c
bad.example/no/scheme
root.example/
D41D8CD98F00B204E9800998ECF8427E
da39a3ee5e6b4b0d3255bfef95601890afd80709
someone[@]mail.example
bücher.example

0.0.0.0/0
not an indicator
word
`

func TestPlainLists(t *testing.T) {
	const hit = "my-list 3/50"
	l := listOf(t, plain)
	check(t, l, []expect{
		{indicator.Address, "192.0.2.7", hit},
		{indicator.Address, "192.0.2.8", ""},
		{indicator.Address, "198.51.100.0", hit},
		{indicator.Address, "198.51.100.255", hit},
		{indicator.Address, "198.51.101.0", ""},
		{indicator.Address, "2001:db8::1", hit},
		{indicator.Address, "2001:db8:5:ffff::1", hit},
		{indicator.Address, "2001:db8:6::", ""},
		{indicator.Host, "evil.example", hit},
		{indicator.Host, "x.evil.example", ""},
		{indicator.Host, "example", ""},
		{indicator.Host, "below.example", ""},
		{indicator.Host, "a.below.example", hit},
		{indicator.Host, "a.b.below.example", hit},
		{indicator.Host, "notbelow.example", ""},
		{indicator.Host, "both.example", hit},
		{indicator.Host, "a.both.example", hit},
		{indicator.URL, "http://bad.example/a.exe?b=1#c", hit},
		{indicator.URL, "https://bad.example/a.exe?b=1#c", ""},
		{indicator.URL, "http://bad.example/no/scheme", hit},
		{indicator.URL, "https://bad.example/no/scheme", hit},
		{indicator.URL, "ftp://bad.example/no/scheme", ""},
		{indicator.URL, "https://root.example", hit},
		{indicator.URL, "https://root.example:443/", hit},
		{indicator.URL, "https://root.example:80/", ""},
		{indicator.File, md5, hit},
		{indicator.JA3, md5, hit},
		{indicator.Certificate, sha1, hit},
		{indicator.File, sha1, hit},
		{indicator.Email, "someone@mail.example", hit},
		{indicator.Host, "xn--bcher-kva.example", hit},
		{indicator.UserAgent, "word", ""},
		{indicator.LocalHost, "evil.example", ""},
	})
	s := l.Status()
	if s.Format != "plain" || s.Entries != 15 || s.Skipped["matches everything"] != 1 || s.Skipped["not an indicator"] != 2 || s.Error != "" {
		t.Errorf("%+v", s)
	}
}

func TestAListMayMeanSubdomains(t *testing.T) {
	rating, confidence := 4.5, 90
	l := newList(t, lists.Config{
		File: write(t, filepath.Join(t.TempDir(), "x"), "evil.example\n"), Subdomains: true, Rating: &rating, Confidence: &confidence, Owner: "me",
	})
	check(t, l, []expect{{indicator.Host, "a.evil.example", "me 4.5/90"}, {indicator.Host, "evil.example", "me 4.5/90"}, {indicator.Host, "notevil.example", ""}})
}

// The forms of contract 2.1 and 2.2: no status wrapper, loose types, hashes in upper
// case and joined, IPv6 in its long form, ids beyond 2^53.
const threatConnect = `{"indicator":[
 {"id":9007199254740993,"ownerName":"Common Community","type":"Address","dateAdded":"2017-07-13T17:50:17","lastModified":"2017-07-13T17:50:17","rating":4.00,"confidence":85,"webLink":"https://app.threatconnect.com/auth/indicators/details/address.xhtml?address=198.51.100.23","summary":"198.51.100.23"},
 {"id":"12","ownerName":"Other","type":"Address","lastModified":"2020-01-02T03:04:05-05:00Z","rating":"2.5","confidence":"30","webLink":"null/auth/x","summary":"198.51.100.23"},
 {"id":3,"ownerName":"A","type":"Address","rating":5,"confidence":100,"summary":"2001:db8:0:0:0:0:0:1","description":"long\nform","attribute":[{"x":{"y":[1,2]}}],"tag":[]},
 {"id":4,"ownerName":"A","type":"Host","summary":"evil.example.com"},
 {"id":5,"ownerName":"A","type":"File","rating":3,"confidence":10,"summary":"D41D8CD98F00B204E9800998ECF8427E : DA39A3EE5E6B4B0D3255BFEF95601890AFD80709"},
 {"id":6,"ownerName":"A","type":"URL","rating":3,"confidence":10,"summary":"http://EVIL.example.com/Bad.php?a=1,2"},
 {"id":7,"ownerName":"A","type":"EmailAddress","rating":3,"confidence":10,"summary":"x@Evil.example"},
 {"id":8,"ownerName":"A","type":"CIDR","rating":3,"confidence":10,"summary":"2001:db8:1234:0:0:0:0:0/48"},
 {"id":9,"ownerName":"A","type":"User Agent","rating":3,"confidence":10,"summary":"Evil/1.0 (x, y)"},
 {"id":10,"ownerName":"A","type":"Mutex","summary":"m"},
 {"id":11,"ownerName":"A","type":"Host","summary":"old.example.com","active":"false","rating":5},
 {"id":{},"type":["x"],"summary":7}, 17, null
]}`

func TestThreatConnectsDownload(t *testing.T) {
	l := listOf(t, threatConnect)
	check(t, l, []expect{
		{indicator.Address, "198.51.100.23", "Common Community 4/85, Other 2.5/30"},
		{indicator.Address, "2001:db8::1", "A 5/100"},
		{indicator.Host, "evil.example.com", "A 0/0"},
		{indicator.File, md5, "A 3/10"},
		{indicator.File, sha1, "A 3/10"},
		{indicator.URL, "http://evil.example.com/Bad.php?a=1,2", "A 3/10"},
		{indicator.Email, "x@evil.example", "A 3/10"},
		{indicator.Address, "2001:db8:1234::5", "A 3/10"},
		{indicator.UserAgent, "Evil/1.0 (x, y)", "A 3/10"},
		{indicator.Host, "old.example.com", ""},
	})
	answers, err := l.Look(t.Context(), []verdict.Query{{Type: indicator.Address, Value: "198.51.100.23"}, {Type: indicator.Address, Value: "2001:db8::1"}})
	if err != nil {
		t.Fatal(err)
	}
	v := answers[0].Verdicts
	if v[0].ID != 9007199254740993 || !strings.HasPrefix(v[0].Link, "https://app.threatconnect.com/auth/") || v[0].Modified.Format(time.RFC3339) != "2017-07-13T17:50:17Z" || v[0].Source != "my-list" {
		t.Errorf("%+v", v[0])
	}
	if v[1].ID != 12 || v[1].Link != "" || v[1].Modified.Format(time.RFC3339) != "2020-01-02T08:04:05Z" || answers[1].Verdicts[0].Description != "long form" {
		t.Errorf("%+v", v[1])
	}
	if s := l.Status(); s.Format != "ThreatConnect JSON" || s.Skipped["a type that is not looked up: Mutex"] != 1 || s.Skipped["not an indicator"] != 3 || s.Skipped["inactive, revoked or expired"] != 1 {
		t.Errorf("%+v", s)
	}
}

func TestThreatConnectsCSV(t *testing.T) {
	l := listOf(t, "Type,Value,Rating,Confidence\r\nHost,evil.example,4.0,75\r\nAddress,192.0.2.1,null,null\r\n"+
		"URL,\"http://x.example/a,b\"\"c\",5,100\r\nFile,"+strings.ToUpper(md5)+" : "+sha1+",3,1\r\nASN,ASN1,1,1\r\nshort\r\n")
	check(t, l, []expect{
		{indicator.Host, "evil.example", "my-list 4/75"},
		{indicator.Address, "192.0.2.1", "my-list 0/0"},
		{indicator.URL, `http://x.example/a,b"c`, "my-list 5/100"},
		{indicator.File, md5, "my-list 3/1"},
		{indicator.File, sha1, "my-list 3/1"},
	})
	if s := l.Status(); s.Format != "ThreatConnect CSV" || s.Skipped["not an indicator"] != 1 {
		t.Errorf("%+v", s)
	}
}

func TestZeeksFiles(t *testing.T) {
	l := listOf(t, "#separator \\x09\n#fields\tindicator\tindicator_type\tmeta.source\tmeta.desc\tmeta.url\n"+
		"192.0.2.1\tIntel::ADDR\tsource1\tbad\thttps://src.example/1\n198.51.100.0/24\tIntel::SUBNET\t-\t-\t-\n"+
		"evil.example/path\tIntel::URL\tsource1\t-\t-\nEvil/1.0\tIntel::SOFTWARE\ts\t-\t-\nx@evil.example\tIntel::EMAIL\ts\t-\t-\n"+
		"evil.example\tIntel::DOMAIN\ts\t-\t-\n"+sha1+"\tIntel::CERT_HASH\ts\t-\t-\n"+md5+"\tIntel::FILE_HASH\ts\t-\t-\nroot\tIntel::USER_NAME\ts\t-\t-\n")
	check(t, l, []expect{
		{indicator.Address, "192.0.2.1", "source1 3/50"},
		{indicator.Address, "198.51.100.9", "my-list 3/50"},
		{indicator.URL, "http://evil.example/path", "source1 3/50"},
		{indicator.URL, "https://evil.example/path", "source1 3/50"},
		{indicator.UserAgent, "Evil/1.0", "s 3/50"},
		{indicator.Email, "x@evil.example", "s 3/50"},
		{indicator.Host, "evil.example", "s 3/50"},
		{indicator.Certificate, sha1, "s 3/50"},
		{indicator.File, md5, "s 3/50"},
	})
	if s := l.Status(); s.Format != "Zeek" || s.Skipped["a type that is not looked up: Intel::USER_NAME"] != 1 {
		t.Errorf("%+v", s)
	}
}

func TestSTIXBundles(t *testing.T) {
	var objects []string
	add := func(pattern, more string) {
		objects = append(objects, fmt.Sprintf(`{"type":"indicator","pattern_type":"stix","name":"n","confidence":70,"pattern":%q%s}`, pattern, more))
	}
	add(`[ipv4-addr:value = '192.0.2.1' OR domain-name:value='or.example']`, "")
	add(`[url:value = 'http://x.example/it\'s'] OR [email-addr:value = 'a@x.example']`, "")
	add(`[file:hashes.'SHA-1' = '`+sha1+`' OR file:hashes.MD5 = '`+strings.ToUpper(md5)+`']`, "")
	add(`[ipv4-addr:value ISSUBSET '198.51.100.0/24']`, "")
	add(`[ipv6-addr:value = '2001:db8::2/128']`, "")
	for n, complicated := range []string{
		`[ipv4-addr:value = '203.0.113.1' AND domain-name:value = 'and.example']`, `[ipv4-addr:value = '203.0.113.1'] FOLLOWEDBY [domain-name:value = 'x.example']`,
		`[ipv4-addr:value != '203.0.113.1']`, `[domain-name:value LIKE '%.example']`, `[NOT ipv4-addr:value = '203.0.113.1']`,
		`[ipv4-addr:value = '203.0.113.1'] WITHIN 5 SECONDS`, `[(ipv4-addr:value = '203.0.113.1')]`, `[ipv4-addr:value = '203.0.113.0/24']`,
		`[ipv4-addr:value = '203.0.113.1'`, `ipv4-addr:value = '203.0.113.1'`, `[ipv4-addr:value = '203.0.113.1]`, ``, `[`, `[]`, `[process:name = 'x']`,
	} {
		add(complicated, fmt.Sprintf(`,"x":%d`, n))
	}
	add(`[domain-name:value = 'revoked.example']`, `,"revoked":true`)
	add(`[domain-name:value = 'expired.example']`, `,"valid_until":"2020-01-01T00:00:00Z"`)
	add(`[domain-name:value = 'link.example']`, `,"external_references":[{"source_name":"x"},{"url":"https://src.example/1"}],"modified":"2024-01-02T03:04:05.123Z"`)
	l := listOf(t, `{"type":"bundle","id":"bundle--1","objects":[{"type":"malware","name":"x"},`+strings.Join(objects, ",\n")+`]}`)
	const hit = "my-list 3/70"
	check(t, l, []expect{
		{indicator.Address, "192.0.2.1", hit},
		{indicator.Host, "or.example", hit},
		{indicator.URL, "http://x.example/it's", hit},
		{indicator.Email, "a@x.example", hit},
		{indicator.File, sha1, hit},
		{indicator.File, md5, hit},
		{indicator.Address, "198.51.100.200", hit},
		{indicator.Address, "2001:db8::2", hit},
		{indicator.Address, "203.0.113.1", ""},
		{indicator.Host, "and.example", ""},
		{indicator.Host, "revoked.example", ""},
		{indicator.Host, "expired.example", ""},
		{indicator.Host, "link.example", hit},
	})
	if s := l.Status(); s.Format != "STIX" || s.Skipped["a pattern that is not simple"] != 15 || s.Skipped["inactive, revoked or expired"] != 2 || s.Entries != 9 {
		t.Errorf("%+v", s)
	}
}

func TestAListKeepsToWhatSourcesDo(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "list"), plain)
	enrichtest.Source(t, enrichtest.Options{
		New: func(t testing.TB) enrichtest.Looker { return newList(t, lists.Config{File: file}) },
		Known: []verdict.Query{
			{Type: indicator.Address, Value: "192.0.2.7"},
			{Type: indicator.Address, Value: "2001:db8::1"},
			{Type: indicator.Host, Value: "evil.example"},
			{Type: indicator.URL, Value: "http://bad.example/a.exe?b=1#c"},
			{Type: indicator.File, Value: md5},
			{Type: indicator.Email, Value: "someone@mail.example"},
		},
		Unknown: []verdict.Query{{Type: indicator.Host, Value: "good.example"}, {Type: indicator.Address, Value: "203.0.113.1"}, {Type: indicator.File, Value: strings.Repeat("0", 64)}},
	})
}

func packed(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(text)); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestAPackedListIsRead(t *testing.T) {
	check(t, listOf(t, packed(t, plain)), []expect{{indicator.Address, "192.0.2.7", "my-list 3/50"}})
}

func TestBrokenFilesAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "a page": "<!doctype html>\n<html><body>\nPlease log in\n</body></html>\n", "binary": "\x7fELF\x00\x00",
		"JSON cut short": threatConnect[:len(threatConnect)/2], "JSON of something else": `{"status":"Failure","message":"Access Denied"}`,
		"gzip cut short": packed(t, plain)[:60], "not closed": `{"indicator":[{"type":"Host","summary":"a.example"}]`,
		"Zeek without columns": "#separator \\x09\nx\ty\n", "not an array": `{"indicator":{}}`, "an array": `[1,2]`,
	} {
		l := listOf(t, text)
		_, err := l.Look(t.Context(), []verdict.Query{{Type: indicator.Host, Value: "a.example"}})
		if err == nil || l.Status().Error == "" {
			t.Errorf("%s is taken for a list: %+v", name, l.Status())
		}
	}
	if _, err := newList(t, lists.Config{File: t.TempDir()}).Look(t.Context(), []verdict.Query{{}}); err == nil {
		t.Error("a folder is taken for a list")
	}
	if _, err := newList(t, lists.Config{File: "/nowhere"}).Look(t.Context(), []verdict.Query{{}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is missing: %v", err)
	}
}

func TestAChangedFileIsReadAgainAndABrokenOneIsToldOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list")
	var log bytes.Buffer
	write(t, path, "one.example\n")
	l, err := lists.New(lists.Config{Name: "l", File: path}, zerolog.New(&log).Level(zerolog.ErrorLevel))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		is := func(value string, known bool) {
			t.Helper()
			if got := says(t, l, indicator.Host, value) != ""; got != known {
				t.Errorf("%s: known %v, want %v", value, got, known)
			}
		}
		is("one.example", true)
		write(t, path, "two.example\nthree.example\n")
		is("two.example", false) // nobody looks for a minute
		time.Sleep(time.Minute)
		is("two.example", true)
		is("one.example", false)
		write(t, path, "<html>\n<body>\n")
		for range 3 {
			time.Sleep(time.Minute)
			is("two.example", true)
		}
		if n := strings.Count(log.String(), "the version before is used on"); n != 1 || l.Status().Error == "" {
			t.Errorf("told %d times: %s", n, log.String())
		}
		_ = os.Remove(path)
		time.Sleep(time.Minute)
		is("two.example", true)
		write(t, path, "three.example\n")
		time.Sleep(time.Minute)
		is("two.example", false)
		if l.Status().Error != "" {
			t.Errorf("%+v", l.Status())
		}
	})
}

func TestBadConfigurations(t *testing.T) {
	high, many := 5.1, 101
	for _, c := range []lists.Config{{File: "x"}, {Name: "x"}, {Name: "a,b", File: "x"}, {Name: "x", File: "x", Rating: &high}, {Name: "x", File: "x", Confidence: &many}} {
		if _, err := lists.New(c, zerolog.Nop()); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

// million writes a plain list of a million hosts, addresses and digests.
func million(t testing.TB) string {
	var b strings.Builder
	for i := range 1_000_000 {
		switch i % 4 {
		case 0:
			fmt.Fprintf(&b, "%d.%d.%d.%d\n", 1+i>>18, i>>12&0xff, i>>4&0xff, i&15)
		case 1:
			fmt.Fprintf(&b, "%064x\n", uint64(i)*2654435761)
		default:
			fmt.Fprintf(&b, "host-number-%d.domain.example\n", i)
		}
	}
	return write(t, filepath.Join(t.TempDir(), "million"), b.String())
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestAMillionEntriesAreSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("reads a million entries")
	}
	file := million(t)
	before := heap()
	l := newList(t, lists.Config{File: file})
	start := time.Now()
	says(t, l, indicator.Host, "x.example")
	took, size := time.Since(start), (heap()-before)>>20
	t.Logf("%d entries read in %v, %d MB", l.Status().Entries, took, size)
	if size > 100 || l.Status().Entries != 1_000_000 {
		t.Errorf("%d entries in %d MB", l.Status().Entries, size)
	}
	runtime.KeepAlive(l)
}

func BenchmarkMillion(b *testing.B) {
	l := newList(b, lists.Config{File: million(b)})
	says(b, l, indicator.Host, "x.example")
	var hits, misses []verdict.Query
	for i := range 10_000 {
		hits = append(hits, verdict.Query{Type: indicator.Host, Value: fmt.Sprintf("host-number-%d.domain.example", i*4+2)})
		misses = append(misses, verdict.Query{Type: indicator.Host, Value: fmt.Sprintf("host-number-%d.other.example", i)})
	}
	for name, queries := range map[string][]verdict.Query{"known": hits, "unknown": misses} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.Look(context.Background(), queries); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(queries)), "ns/lookup")
		})
	}
}

func FuzzLists(f *testing.F) {
	for _, text := range []string{
		plain, threatConnect, "Type,Value,Rating,Confidence\nHost,a.example,1,2\n", "#fields\tindicator\tindicator_type\nx\tIntel::ADDR\n",
		`{"objects":[{"type":"indicator","pattern":"[ipv4-addr:value = '192.0.2.1' OR url:value = 'x']"}]}`, packed(f, "a.example\n"),
	} {
		f.Add([]byte(text))
	}
	path := filepath.Join(f.TempDir(), "list")
	f.Fuzz(func(t *testing.T, text []byte) {
		write(t, path, string(text))
		l := newList(t, lists.Config{File: path})
		if _, err := l.Look(t.Context(), enrichtest.Hostile()); err != nil {
			return
		}
		if s := l.Status(); s.Entries < 0 || s.Format == "" || s.Bytes > 100*len(text)+1<<20 && !bytes.HasPrefix(text, []byte("\x1f\x8b")) {
			t.Errorf("%+v", s)
		}
	})
}

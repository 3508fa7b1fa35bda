package threatconnect

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"capagent/enrich/indicator"
	"capagent/enrich/verdict"
	"capagent/internal/secret"
)

// The vectors of the contract, section 1.3.
var vectors = []struct{ name, key, signed, signature string }{
	{"V0", "test", "test:GET:1587340800", "p5a/YiTRs7sNMp/PEDgZxky8lJDRLbza1pi8erjURrU="},
	{"V1", testKey, "/api/v2/indicators/hosts/example.com?Owner=Common%20Community:GET:1513703787", "uoHNHjJWJQUzuiNwco87xmUy5JDeBmwNnYRTOqKQGbg="},
	{"V2", testKey, "/api/v2/indicators/addresses/198.51.100.23?owner=Common%20Community&includes=additional:GET:1700000000", "cBdkOtzcYH83FRF/mzzgGZYpfeVQijCF5oF4dcJzyig="},
	{"V3", testKey, "/api/v2/indicators/urls/http%3A%2F%2Fexample.com%2Fbad.php%3Fa%3D1%26b%3D2?owner=Common%20Community:GET:1700000000", "LtLtzy6ZUi47G5tnpMy21SI2gujODdgxV4WxvScNZVo="},
	{"V4", testKey, "/api/v3/indicators?tql=typeName%20in%20(%22Address%22%2C%20%22Host%22):GET:1700000000", "44BXnqS14mzsWDxvoJwTqU6bDTvIbuWhU5yo+S3uS0Y="},
	{"V5", testKey, "/api/v3/indicators?fields=tags&fields=threatAssess&resultLimit=1000&resultStart=0&tql=typeName+in+%28%22Address%22%2C%22Host%22%29+and+summary+in+%28%22198.51.100.23%22%2C%22evil.example.com%22%29:GET:1700000000", "QZyhk5vqsX/5fPNxGK/SYCVX4kMwAoBq4+CVRlhopEw="},
	{"V6", testKey, "/api/v2/indicators/hosts/evil.example.com/observations?owner=Demo%20Org:POST:1700000000", "4yLZX2hhg7C1beWfKILs1cY9mtaV97nuEopSeKIU4T8="},
	{"V7", testKey, "/v2/owners:GET:1513703787", "WuGtyVoPKrquIjYOW+gekHL802XHUa5+gH843P7KsY4="},
	{"V8", "^%kTé&z!*☃", "/api/v3/security/owners:GET:1700000000", "vX+yiJqEPGYCuBSMs35o8omjkFpIzapp8nIwx1KPcGU="},
	{"V9", testKey, "/api/v3/indicators:GET:1700000000", "bY8Kl2jenrA/kMeWobQpeX3npkQF+Zk3by29PEX9gWo="},
	{"V10", testKey, "/api/v2/indicators/addresses/2001%3Adb8%3A0%3A0%3A0%3A0%3A0%3A1:GET:1700000000", "yoeZvxz15GpBDV1ID6S1/qLkqucVtYB4Ja5WTpuK0Co="},
	{"V11", testKey, "/api/v3/indicators/badguy.com?owner=Demo%20Source:GET:1700000000", "r4/+pmOlsgsHrJQIXHjPvRuRwtiIJdaTsavo3Pvn2nk="},
	{"the unencoded form of V3", testKey, "/api/v2/indicators/urls/http://example.com/bad.php?a=1&b=2?owner=Common Community:GET:1700000000", "ZEtPDMVJ35CETF/xMLOiSgfznvfQAj0pkzEgOM4dO4M="},
}

func TestSignaturesAreThoseOfTheVectors(t *testing.T) {
	for _, v := range vectors {
		parts := strings.Split(v.signed, ":")
		unix, err := strconv.ParseInt(parts[len(parts)-1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		uri := strings.Join(parts[:len(parts)-2], ":")
		if got := sign(v.key, uri, parts[len(parts)-2], unix); got != v.signature {
			t.Errorf("%s: got %s, want %s", v.name, got, v.signature)
		}
	}
}

func TestTargetsOfTheVectorsAreSentAsTheyAreSigned(t *testing.T) {
	for _, v := range vectors[1:12] {
		uri := strings.Join(strings.Split(v.signed, ":")[:strings.Count(v.signed, ":")-1], ":")
		req, err := http.NewRequest(http.MethodGet, "https://tc.example"+uri, nil)
		if err != nil || req.URL.RequestURI() != uri {
			t.Errorf("%s: %v, net/http would send %s", v.name, err, req.URL.RequestURI())
		}
	}
}

// The paths of the vectors are those that we build ourselves.
func TestPathsAreThoseOfTheVectors(t *testing.T) {
	c := &Client{}
	for _, test := range []struct {
		query verdict.Query
		want  string
	}{
		{verdict.Query{Type: indicator.URL, Value: "http://example.com/bad.php?a=1&b=2"}, "urls/http%3A%2F%2Fexample.com%2Fbad.php%3Fa%3D1%26b%3D2"},
		{verdict.Query{Type: indicator.Address, Value: "2001:db8::1"}, "addresses/2001%3Adb8%3A0%3A0%3A0%3A0%3A0%3A1"},
		{verdict.Query{Type: indicator.Address, Value: "fe80::ff:fe00:0"}, "addresses/fe80%3A0%3A0%3A0%3A0%3Aff%3Afe00%3A0"},
	} {
		if got := branchesV2[c.typeName(test.query.Type)] + "/" + segment(c.forms(test.query)[0]); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
}

// raw listens on loopback, answers every request with reply, and hands out the
// first lines and headers as they came over the wire.
func raw(t *testing.T, reply string) (address string, got func() (line string, header http.Header)) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	type seen struct {
		line   string
		header http.Header
	}
	requests := make(chan seen, 16)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(conn)
			first, _ := r.ReadString('\n')
			req, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader(first), r)))
			if err == nil {
				requests <- seen{strings.TrimRight(first, "\r\n"), req.Header}
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(reply), reply)
			}
			_ = conn.Close()
		}
	}()
	return l.Addr().String(), func() (string, http.Header) { s := <-requests; return s.line, s.header }
}

func TestWhatIsSignedIsTheRequestLine(t *testing.T) {
	values := []verdict.Query{
		{Type: indicator.URL, Value: "http://example.com/a b/../c//d/?q=!'()*&x=%2F%zz;[]{}|\\^`\"<>#f"},
		{Type: indicator.URL, Value: "http://xn--mnchen-3ya.example/ü/☃?a+b=ç"},
		{Type: indicator.UserAgent, Value: `Mozilla/5.0 (Ünïcode; "x") AppleWebKit/537.36 !'()* + , ~ -`},
		{Type: indicator.Host, Value: `a\010b.example`},
		{Type: indicator.Email, Value: "o'brien+x@example.com"},
		{Type: indicator.Address, Value: "2001:db8::1"},
		{Type: indicator.File, Value: strings.Repeat("ab", 32)},
	}
	for _, base := range []string{"", "/api", "/tc/api"} {
		for _, version := range []int{2, 3} {
			for _, q := range values {
				reply := nothing
				if version == 2 {
					reply = `{"status":"Success","data":{"resultCount":0,"owner":[]}}`
				}
				address, next := raw(t, reply)
				c := DefaultConfig()
				c.URL, c.AccessID, c.SecretKey, c.APIVersion, c.Rate = "http://"+address+base, testID, secret.New(testKey), version, maxRate
				c.Owners = []string{"Common Community", `Dë "mo" !'()*/+`}
				client, err := New(c, "test", zerolog.Nop())
				if err != nil {
					t.Fatal(err)
				}
				client.checked.Store(true)
				if _, err := client.Look(context.Background(), []verdict.Query{q}); err != nil {
					t.Fatal(err)
				}
				first, header := next()
				parts := strings.Split(first, " ")
				if len(parts) != 3 || parts[0] != "GET" || parts[2] != "HTTP/1.1" {
					t.Fatalf("request line %q", first)
				}
				unix, _ := strconv.ParseInt(header.Get("Timestamp"), 10, 64)
				if want := "TC " + testID + ":" + sign(testKey, parts[1], "GET", unix); header.Get("Authorization") != want {
					t.Errorf("v%d %s%q: not signed as sent: %s", version, base, q.Value, first)
				}
				if !strings.HasPrefix(parts[1], base+"/v"+strconv.Itoa(version)+"/indicators") {
					t.Errorf("the target is %s", parts[1])
				}
				u, err := url.Parse(parts[1])
				if err != nil {
					t.Fatal(err)
				}
				form := client.forms(q)[0]
				if version == 3 && !strings.Contains(u.Query().Get("tql"), quoted(form)) || version == 2 && !strings.Contains(u.Path, form) {
					t.Errorf("v%d: %q does not arrive in %s", version, form, parts[1])
				}
				client.Close()
			}
		}
	}
}

func TestTQLStringsCantBeLeft(t *testing.T) {
	for text, want := range map[string]string{
		`plain`:                 `"plain"`,
		`") or typeName in ("x`: `"\") or typeName in (\"x"`,
		`back\`:                 `"back\\"`,
		"a'b`c":                 "\"a\\'b\\`c\"",
		`\"`:                    `"\\\""`,
		"☃":                     `"☃"`,
	} {
		if got := quoted(text); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

func FuzzTargets(f *testing.F) {
	for _, s := range []string{"", "a b", "ü☃", "!'()*", "%2f/..//\x00\xff", `"\`, "+&=#?"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := url.PathUnescape(segment(s)); err != nil || got != s {
			t.Fatalf("path: %q became %q", s, got)
		}
		q := query("tql", quoted(s), "x", s)
		values, err := url.ParseQuery(q)
		if err != nil || values.Get("tql") != quoted(s) || values.Get("x") != s {
			t.Fatalf("query: %q became %v", s, values)
		}
		uri := "/api/v2/indicators/urls/x" + segment(s) + "?" + q
		req, err := http.NewRequest(http.MethodGet, "https://tc.example"+uri, nil)
		if err != nil || req.URL.RequestURI() != uri {
			t.Fatalf("%q would be sent as %q (%v)", uri, req.URL.RequestURI(), err)
		}
	})
}

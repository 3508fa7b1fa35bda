package threatconnecttest

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	vectorKey = "ThisIsNotARealSecret-0123456789abcdef"
	vectorID  = "12345678901234567890"
	vectorURL = "/api/v2/indicators/urls/http%3A%2F%2Fexample.com%2Fbad.php%3Fa%3D1%26b%3D2?owner=Common%20Community"
)

// The vectors of contracts/threatconnect.md 1.3.
var vectors = []struct{ key, target, method, stamp, signature string }{
	{"test", "test", "GET", "1587340800", "p5a/YiTRs7sNMp/PEDgZxky8lJDRLbza1pi8erjURrU="},
	{vectorKey, "/api/v2/indicators/hosts/example.com?Owner=Common%20Community", "GET", "1513703787", "uoHNHjJWJQUzuiNwco87xmUy5JDeBmwNnYRTOqKQGbg="},
	{vectorKey, "/api/v2/indicators/addresses/198.51.100.23?owner=Common%20Community&includes=additional", "GET", "1700000000", "cBdkOtzcYH83FRF/mzzgGZYpfeVQijCF5oF4dcJzyig="},
	{vectorKey, vectorURL, "GET", "1700000000", "LtLtzy6ZUi47G5tnpMy21SI2gujODdgxV4WxvScNZVo="},
	{vectorKey, "/api/v3/indicators?tql=typeName%20in%20(%22Address%22%2C%20%22Host%22)", "GET", "1700000000", "44BXnqS14mzsWDxvoJwTqU6bDTvIbuWhU5yo+S3uS0Y="},
	{vectorKey, "/api/v3/indicators?fields=tags&fields=threatAssess&resultLimit=1000&resultStart=0&tql=typeName+in+%28%22Address%22%2C%22Host%22%29+and+summary+in+%28%22198.51.100.23%22%2C%22evil.example.com%22%29", "GET", "1700000000", "QZyhk5vqsX/5fPNxGK/SYCVX4kMwAoBq4+CVRlhopEw="},
	{vectorKey, "/api/v2/indicators/hosts/evil.example.com/observations?owner=Demo%20Org", "POST", "1700000000", "4yLZX2hhg7C1beWfKILs1cY9mtaV97nuEopSeKIU4T8="},
	{vectorKey, "/v2/owners", "GET", "1513703787", "WuGtyVoPKrquIjYOW+gekHL802XHUa5+gH843P7KsY4="},
	{"^%kTé&z!*☃", "/api/v3/security/owners", "GET", "1700000000", "vX+yiJqEPGYCuBSMs35o8omjkFpIzapp8nIwx1KPcGU="},
	{vectorKey, "/api/v3/indicators", "GET", "1700000000", "bY8Kl2jenrA/kMeWobQpeX3npkQF+Zk3by29PEX9gWo="},
	{vectorKey, "/api/v2/indicators/addresses/2001%3Adb8%3A0%3A0%3A0%3A0%3A0%3A1", "GET", "1700000000", "yoeZvxz15GpBDV1ID6S1/qLkqucVtYB4Ja5WTpuK0Co="},
	{vectorKey, "/api/v3/indicators/badguy.com?owner=Demo%20Source", "GET", "1700000000", "r4/+pmOlsgsHrJQIXHjPvRuRwtiIJdaTsavo3Pvn2nk="},
}

// rawAsk writes a request by hand, so that no client encodes anything.
func rawAsk(t *testing.T, s *Server, method, target, stamp, sig string) (int, string) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: x\r\nUser-Agent: %s\r\nAuthorization: TC %s:%s\r\nTimestamp: %s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
		method, target, agent, s.AccessID, sig, stamp)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var b strings.Builder
	_, _ = bufio.NewReader(resp.Body).WriteTo(&b)
	return resp.StatusCode, b.String()
}

func at(stamp string) func() time.Time {
	n, _ := strconv.ParseInt(stamp, 10, 64)
	return func() time.Time { return time.Unix(n, 0) }
}

func TestVectors(t *testing.T) {
	for i, v := range vectors {
		if got := signature(v.key, v.target, v.method, v.stamp); got != v.signature {
			t.Errorf("V%d: %s", i, got)
		}
		if i == 0 {
			continue // no path
		}
		s := start(t, Options{AccessID: vectorID, SecretKey: v.key, Now: at(v.stamp), AtRoot: strings.HasPrefix(v.target, "/v2")})
		if status, body := rawAsk(t, s, v.method, v.target, v.stamp, v.signature); status == 401 {
			t.Errorf("V%d: %d %s", i, status, body)
		}
		if status, _ := rawAsk(t, s, v.method, v.target+"&x=1", v.stamp, v.signature); status != 401 {
			t.Errorf("V%d with another target: %d", i, status)
		}
		if s.Counters().Unauthorized != 1 || s.Requests()[0].Auth != "hmac" || s.Requests()[0].Target != v.target {
			t.Errorf("V%d: %+v", i, s.Requests())
		}
	}
}

func TestSignatureOfTheUnencodedFormIsRefused(t *testing.T) {
	s := start(t, Options{AccessID: vectorID, SecretKey: vectorKey, Now: at("1700000000")})
	status, body := rawAsk(t, s, "GET", vectorURL, "1700000000", "ZEtPDMVJ35CETF/xMLOiSgfznvfQAj0pkzEgOM4dO4M=")
	if status != 401 || !strings.Contains(body, `"message":"Signature data did not match expected result"`) {
		t.Errorf("%d %s", status, body)
	}
}

// TestTheRequestLineIsWhatCounts: a URL that was parsed and written again is
// another one, in bytes if not in meaning.
func TestTheRequestLineIsWhatCounts(t *testing.T) {
	s := start(t, Options{})
	stamp := strconv.FormatInt(time.Now().Unix(), 10)
	for sent, again := range map[string]string{
		`/api/v3/indicators/a"b`:            `/api/v3/indicators/a%22b`,
		`/api/v3/indicators/a%2fb`:          `/api/v3/indicators/a%2Fb`,
		`/api/v3/security/owners?`:          `/api/v3/security/owners`,
		`/api/v3/security/owners?b=1&a=%7e`: `/api/v3/security/owners?a=~&b=1`,
		`/api/v2/owners?a=b+c`:              `/api/v2/owners?a=b%20c`,
	} {
		if status, body := rawAsk(t, s, "GET", sent, stamp, sign(s.SecretKey, sent, "GET", stamp)); status == 401 {
			t.Errorf("%s: %d %s", sent, status, body)
		}
		if status, _ := rawAsk(t, s, "GET", sent, stamp, sign(s.SecretKey, again, "GET", stamp)); status != 401 {
			t.Errorf("%s signed as %s: %d", sent, again, status)
		}
	}
	// A forward proxy is told the absolute form; signed is the rest.
	absolute := "http://threat.example/api/v2/owners?x=/"
	if status, body := rawAsk(t, s, "GET", absolute, stamp, sign(s.SecretKey, "/api/v2/owners?x=/", "GET", stamp)); status != 200 {
		t.Errorf("%d %s", status, body)
	}
}

func TestAuthentication(t *testing.T) {
	s := start(t, Options{Tokens: []Token{{Value: "APIV2:1:good="}, {Value: "old", Expires: time.Now().Add(-time.Hour)}}})
	header := func(name, value string) change { return func(r *http.Request) { r.Header.Set(name, value) } }
	resign := func(stamp string) change {
		return func(r *http.Request) {
			r.Header.Set("Timestamp", stamp)
			r.Header.Set("Authorization", "TC "+s.AccessID+":"+sign(s.SecretKey, r.URL.RequestURI(), r.Method, stamp))
		}
	}
	ago := func(d time.Duration) string { return strconv.FormatInt(time.Now().Add(-d).Unix(), 10) }
	for name, c := range map[string]struct {
		change  change
		status  int
		message string
	}{
		"signed":               {func(*http.Request) {}, 200, ""},
		"4 minutes ago":        {resign(ago(4 * time.Minute)), 200, ""},
		"6 minutes ago":        {resign(ago(6 * time.Minute)), 401, msgOldTimestamp},
		"6 minutes ahead":      {resign(ago(-6 * time.Minute)), 401, msgOldTimestamp},
		"nonsense":             {resign("now"), 401, msgBadTimestamp},
		"milliseconds":         {resign(ago(0) + "000"), 401, msgBadTimestamp},
		"no timestamp":         {func(r *http.Request) { r.Header.Del("Timestamp") }, 401, msgBadTimestamp},
		"another id":           {header("Authorization", "TC 1:x"), 401, msgDenied},
		"wrong signature":      {header("Authorization", "TC "+s.AccessID+":x"), 401, msgSignature},
		"none":                 {func(r *http.Request) { r.Header.Del("Authorization") }, 401, msgUnauthorized},
		"token":                {header("Authorization", "TC-Token APIV2:1:good="), 200, ""},
		"unknown token":        {header("Authorization", "TC-Token APIV2:1:bad="), 401, msgUnauthorized},
		"expired token":        {header("Authorization", "TC-Token old"), 401, msgUnauthorized},
		"empty token":          {header("Authorization", "TC-Token "), 401, msgUnauthorized},
		"token as the old one": {header("Authorization", "TC APIV2:1:good="), 401, msgDenied},
	} {
		t.Run(name, func(t *testing.T) {
			r := get(t, s, "/api/v3/security/owners", c.change)
			want := `{"errCode":"0x1002","message":"Unauthorized","status":"Error"}`
			if r.status != c.status || c.status == 401 && strings.TrimSpace(r.body) != want {
				t.Errorf("%d %s", r.status, r.body)
			}
			if c.status != 401 {
				return
			}
			r = get(t, s, "/api/v2/owners", c.change)
			if want := `{"message":"` + c.message + `","status":"Failure"}`; r.status != 401 || strings.TrimSpace(r.body) != want {
				if !strings.HasPrefix(name, "6") && !strings.HasPrefix(name, "n") && !strings.HasPrefix(name, "m") {
					t.Errorf("v2: %d %s", r.status, r.body)
				}
			}
		})
	}
	for _, r := range s.Requests() {
		if a := r.Header.Get("Authorization"); a != "***" && a != "" {
			t.Errorf("kept %q", a)
		}
	}
}

func TestClockThatIsWrong(t *testing.T) {
	s := start(t, Options{Skew: 20 * time.Minute})
	r := get(t, s, "/api/v3/security/owners")
	date, err := http.ParseTime(r.header.Get("Date"))
	if off := time.Until(date); r.status != 401 || err != nil || off < 19*time.Minute || off > 21*time.Minute {
		t.Errorf("%d, %v ahead, %v", r.status, off, err)
	}
	right := func(r *http.Request) {
		stamp := strconv.FormatInt(time.Now().Add(20*time.Minute).Unix(), 10)
		r.Header.Set("Timestamp", stamp)
		r.Header.Set("Authorization", "TC "+s.AccessID+":"+sign(s.SecretKey, r.URL.RequestURI(), r.Method, stamp))
	}
	if r := get(t, s, "/api/v3/security/owners", right); r.status != 200 {
		t.Errorf("%d %s", r.status, r.body)
	}
}

// openssl and curl know nothing of this package.
func TestSignatureByHand(t *testing.T) {
	for _, tool := range []string{"openssl", "curl", "sh"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(tool + " is not installed")
		}
	}
	s := start(t, Options{})
	const script = `set -eu
target='/api/v3/indicators?tql=typeName%20in%20(%22Address%22)%20and%20summary%20in%20(%22198.51.100.23%22)'
stamp=$(date +%s)
sig=$(printf '%s' "$target:GET:$stamp" | openssl dgst -sha256 -hmac "$SECRET" -binary | openssl base64 -A)
curl -sS -g --path-as-is -A hand/1.0 -H "Authorization: TC $ID:$sig" -H "Timestamp: $stamp" "$URL$target"`
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	cmd.Env = append(cmd.Environ(), "SECRET="+s.SecretKey, "ID="+s.AccessID, "URL="+s.URL)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), `"ip":"198.51.100.23"`) || !strings.Contains(string(out), `"status":"Success"`) {
		t.Errorf("%s %v", out, err)
	}
}

package cloudshare

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"capagent/internal/secret"
)

// TestVectors are those of contracts/cloudshare-cloudtrax.md 1.1.
func TestVectors(t *testing.T) {
	const (
		published = "4P3RuSCfFbLQvqJqrBWWrxcxIjZHdlz1CkFqQR4jkIftn3C6wTGfcTawQNMKshUo"
		ours      = "TESTKEY0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTU"
		base      = "https://use.cloudshare.com/api/v3/"
	)
	for _, v := range []struct {
		name, key, url string
		unix           int64
		token, want    string
	}{
		{"CS-1", published, base + "envs", 1424606753, "5686464440", "842bba7f7382d91b9d1185becd1a2d7ac9f2263c"},
		{"CS-2", published, base + "envs/action/suspend?envId=ENXYZ123", 1424606753, "5686464440", "f10797fe7526cb3367a40268cd7fb654f152ec29"},
		{"CS-3", ours, base + "envs?brief=false&criteria=allowed%2Callvisible", 1700000000, "a1B2c3D4e5", "e5b81735eca5c31ac79d60c0f63c63bceefda2e5"},
		{"CS-3 with a comma", ours, base + "envs?brief=false&criteria=allowed,allvisible", 1700000000, "a1B2c3D4e5", "1212829e258d4a7d6947fcb580d0cda92dfbc556"},
		{"CS-4", ours, base + "envs/actions/getextendedbymachinevanity?machineVanity=uvo1t33prksjyu269bq.vm.cld.dev", 1700000060, "Zz9Yy8Xx7W", "53fcc05474aeb8424baaca4da11fa51896157f9d"},
		{"CS-5", ours, base + "vms/actions/executepath", 1700000120, "0000000000", "5bab88ff9d76cd8e6487b3da1e40507c7f48a64d"},
	} {
		if got := sign(v.key, v.url, v.unix, v.token); got != v.want {
			t.Errorf("%s: %s", v.name, got)
		}
	}
	want := "cs_sha1 userapiid:5VLLDABQSBESQSKY;timestamp:1424606753;token:5686464440;hmac:842bba7f7382d91b9d1185becd1a2d7ac9f2263c"
	if got := authorization("5VLLDABQSBESQSKY", secret.New(published), base+"envs", time.Unix(1424606753, 999), "5686464440"); got != want {
		t.Errorf("the header is %s", got)
	}
}

func TestTokensAreNew(t *testing.T) {
	form, seen, chars := regexp.MustCompile(`^[A-Za-z0-9]{10}$`), map[string]bool{}, map[rune]int{}
	for range 20_000 {
		token := newToken()
		if !form.MatchString(token) || seen[token] {
			t.Fatalf("%q", token)
		}
		seen[token] = true
		for _, c := range token {
			chars[c]++
		}
	}
	for _, c := range tokenChars { // 3226 each; 6 standard deviations are 340
		if n := chars[c]; n < 2880 || n > 3570 {
			t.Errorf("%c comes %d times", c, n)
		}
	}
}

// wire takes one connection after the other, and keeps the head of each request as it
// came. answer is told how many came before.
func wire(t *testing.T, answer func(n int, conn net.Conn)) (base string, heads chan string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	heads = make(chan string, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(conn)
			for { // as many requests as come over this connection
				head := ""
				for !strings.HasSuffix(head, "\r\n\r\n") {
					text, err := r.ReadString('\n')
					if head += text; err != nil {
						break
					}
				}
				if !strings.HasSuffix(head, "\r\n\r\n") {
					break
				}
				heads <- head
				answer(n, conn)
				n++
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return "http://" + l.Addr().String() + "/api/v3", heads
}

var (
	requestLine = regexp.MustCompile(`^([A-Z]+) (\S+) HTTP/1\.1\r\n`)
	hostLine    = regexp.MustCompile(`\r\nHost: (\S+)\r\n`)
	signedLine  = regexp.MustCompile(`\r\nAuthorization: cs_sha1 userapiid:testid;timestamp:([0-9]+);token:([A-Za-z0-9]{10});hmac:([0-9a-f]{40})\r\n`)
)

// TestWhatIsSentIsWhatIsSigned: the bytes of the request line.
func TestWhatIsSentIsWhatIsSigned(t *testing.T) {
	base, heads := wire(t, func(_ int, conn net.Conn) {
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]")
	})
	c := quickClient(t, func(conf *Config) { conf.URL, conf.APIID, conf.APIKey = base, "testid", secret.New(testKey) })
	for want, ask := range map[string]func(context.Context) ([]byte, error){
		"/api/v3/ping": func(ctx context.Context) ([]byte, error) { return c.get(ctx, ping) },
		"/api/v3/envs?brief=false&criteria=allowed": func(ctx context.Context) ([]byte, error) {
			return c.get(ctx, envs, "brief", "false", "criteria", "allowed")
		},
		"/api/v3/envs/actions/getextendedbymachinevanity?machineVanity=uvo1t33prksjyu269bq.vm.cld.dev": func(ctx context.Context) ([]byte, error) {
			return c.get(ctx, byVanity, "machineVanity", "uvo1t33prksjyu269bq.vm.cld.dev")
		},
	} {
		if _, err := ask(t.Context()); err != nil {
			t.Fatal(err)
		}
		head := <-heads
		target, host, signed := requestLine.FindStringSubmatch(head), hostLine.FindStringSubmatch(head), signedLine.FindStringSubmatch(head)
		if target == nil || host == nil || signed == nil || target[2] != want {
			t.Fatalf("%s", head)
		}
		sum := sha1.Sum([]byte(testKey + "http://" + host[1] + target[2] + signed[1] + signed[2]))
		if hex.EncodeToString(sum[:]) != signed[3] || !strings.Contains(head, "\r\nAccept: application/json\r\n") {
			t.Errorf("%s", head)
		}
	}
	for _, bad := range []string{"", "a b", "a&b=c", "a%20b", "a/../b", "ü", "a#b", strings.Repeat("a", 301)} {
		if _, err := c.get(t.Context(), byVanity, "machineVanity", bad); !isClass(err, ClassRefused) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if len(heads) > 0 {
		t.Errorf("%s", <-heads)
	}
}

// TestATokenArrivesOnce: the server closes a connection that it kept, when the next
// request is on it.
func TestATokenArrivesOnce(t *testing.T) {
	base, heads := wire(t, func(n int, conn net.Conn) {
		if n == 1 {
			_ = conn.Close()
			return
		}
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\nConnection: keep-alive\r\n\r\n{\"result\":\"Pong\"}")
	})
	c := quickClient(t, func(conf *Config) { conf.URL, conf.APIID, conf.APIKey = base, "testid", secret.New(testKey) })
	failed := 0
	for range 4 {
		if err := c.Ping(t.Context()); err != nil {
			failed++
		}
	}
	tokens := map[string]int{}
	for len(heads) > 0 {
		tokens[signedLine.FindStringSubmatch(<-heads)[2]]++
	}
	for token, n := range tokens {
		if n != 1 {
			t.Errorf("the token %s arrived %d times", token, n)
		}
	}
	if len(tokens) != 4 || failed != 1 {
		t.Errorf("%d tokens, %d of 4 failed", len(tokens), failed)
	}
}

func TestTheURLIsInOneForm(t *testing.T) {
	for text, want := range map[string]string{
		DefaultURL: DefaultURL, DefaultURL + "/": DefaultURL, "https://USE.CloudShare.com:443/api/v3": DefaultURL,
		"https://lab.example:8443/api/v3": "https://lab.example:8443/api/v3", "http://127.0.0.1:80": "http://127.0.0.1", "https://[2001:db8::1]/api": "https://[2001:db8::1]/api",
	} {
		conf := DefaultConfig()
		conf.URL = text
		got := conf.Destination()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, got+"/envs", nil)
		if got != want || err != nil || req.URL.String() != got+"/envs" {
			t.Errorf("%s: %s %v", text, got, err)
		}
	}
}

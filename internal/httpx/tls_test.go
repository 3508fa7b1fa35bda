package httpx

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capagent/internal/failure"
	"capagent/internal/secret"
)

// authority is a CA made for one test.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key}
	a.cert, _ = a.sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, key)
	return a
}

func (a *authority) sign(t *testing.T, template *x509.Certificate, key *ecdsa.PrivateKey) (*x509.Certificate, []byte) {
	t.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	parent := a.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, der
}

func (a *authority) file(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
	if err := os.WriteFile(path, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// serve starts a TLS server with a certificate for 127.0.0.1 unless template says otherwise.
func (a *authority) serve(t *testing.T, template x509.Certificate, change func(*tls.Config)) (base, pinned string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if template.DNSNames == nil {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	template.Subject = pkix.Name{CommonName: "server"}
	cert, der := a.sign(t, &template, key)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Proto+" "+r.URL.Path)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: key}}}
	if change != nil {
		change(s.TLS)
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL, pin(cert)
}

func TestTLS(t *testing.T) {
	ours, theirs := newAuthority(t, "Our CA"), newAuthority(t, "Their CA \x1b[31m")
	ca := ours.file(t)
	good, goodPin := ours.serve(t, x509.Certificate{}, nil)
	foreign, _ := theirs.serve(t, x509.Certificate{}, nil)
	expired, _ := ours.serve(t, x509.Certificate{NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1e9, 0)}, nil)
	misnamed, _ := ours.serve(t, x509.Certificate{DNSNames: []string{"other.example"}}, nil)
	old, _ := ours.serve(t, x509.Certificate{}, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 })
	tls12, _ := ours.serve(t, x509.Certificate{}, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })
	mutual, _ := ours.serve(t, x509.Certificate{}, func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert })
	plain := strings.Replace(server(t, func(http.ResponseWriter, *http.Request) {}).URL, "http:", "https:", 1)
	noise := strings.Replace(raw(t, ""), "http:", "https:", 1)
	caPin, wrongPin := pin(ours.cert), pin(theirs.cert)

	for _, test := range []struct {
		name, url, ca string
		pins          []string
		class         string // "" when it must work
		texts         []string
	}{
		{name: "a CA file is trusted", url: good, ca: ca},
		{name: "TLS 1.2 is new enough", url: tls12, ca: ca},
		{name: "the pin of the server's key", url: good, ca: ca, pins: []string{goodPin}},
		{name: "the pin of the CA's key", url: good, ca: ca, pins: []string{caPin}},
		{name: "one of two pins", url: good, ca: ca, pins: []string{wrongPin, goodPin}},
		{
			name: "a wrong pin", url: good, ca: ca, pins: []string{wrongPin}, class: ClassTLS,
			texts: []string{"no configured pin", goodPin, "[cloudshark] pins"},
		},
		{
			name: "a right pin does not replace verification", url: good, pins: []string{goodPin}, class: ClassTLS,
			texts: []string{"unknown authority"},
		},
		{name: "no CA file", url: good, class: ClassTLS, texts: []string{"unknown authority", "Our CA", "[cloudshark] ca_file"}},
		{name: "another CA", url: foreign, ca: ca, class: ClassTLS, texts: []string{"unknown authority", `Their CA \x1b`}},
		{name: "expired", url: expired, ca: ca, class: ClassTLS, texts: []string{"valid from 1970-01-01 to 2001-09-09", "clock"}},
		{name: "wrong name", url: misnamed, ca: ca, class: ClassTLS, texts: []string{"other names", "other.example", "[cloudshark] url"}},
		{name: "too old", url: old, ca: ca, class: ClassTLS, texts: []string{"no TLS newer than 1.1"}},
		{name: "client certificate wanted", url: mutual, ca: ca, class: ClassTLS, texts: []string{"certificate required"}},
		{name: "no TLS at all", url: plain, class: ClassTLS, texts: []string{"does not speak TLS"}},
		{name: "closed during the handshake", url: noise, class: ClassNetwork},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := client(t, Options{CAFile: test.ca, Pins: test.pins})
			for range 2 { // the second one may resume the first one's session
				reply, err := c.Do(request(t, "GET", test.url, nil))
				c.Close()
				if test.class == "" {
					if err != nil {
						t.Fatal(err, failure.As(err).Hint)
					}
					if want := "HTTP/1.1 /api/v1/" + canary + "/upload"; string(reply.Body) != want {
						t.Errorf("the server saw %q", reply.Body)
					}
					continue
				}
				kind := failure.Pause
				if test.class == ClassNetwork {
					kind = failure.Retry
				}
				fails(t, err, test.class, kind, test.texts...)
			}
		})
	}
}

func TestUnusableTLSOptionsAreRefused(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	short := "sha256/" + base64.StdEncoding.EncodeToString([]byte("short"))
	for _, o := range []Options{
		{CAFile: empty},
		{CAFile: dir},
		{CAFile: filepath.Join(dir, "missing")},
		{Pins: []string{"sha256/x"}},
		{Pins: []string{short}},
		{Pins: []string{"sha1/" + strings.Repeat("A", 43) + "="}},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("New(%+v) works", o)
		}
	}
}

func TestProxies(t *testing.T) {
	ours := newAuthority(t, "Our CA")
	target, _ := ours.serve(t, x509.Certificate{}, nil)
	var seen []string
	var refuse int
	proxy := server(t, func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Method+" "+r.RequestURI+" "+r.Header.Get("Proxy-Authorization"))
		if refuse != 0 {
			w.WriteHeader(refuse)
			return
		}
		tunnel(t, w, r.Host)
	})
	const password = "pr0xysecret"
	address := strings.Replace(proxy.URL, "://", "://user:"+password+"@", 1)
	via := func(address string) *Client {
		t.Helper()
		c, err := newClient(Options{CAFile: ours.file(t), PathSecret: secret.New(canary)},
			func(*http.Request) (*url.URL, error) { return url.Parse(address) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		return c
	}
	if _, err := via(address).Do(request(t, "GET", target, nil)); err != nil {
		t.Fatal(err)
	}
	host := strings.TrimPrefix(target, "https://")
	want := "CONNECT " + host + " Basic " + base64.StdEncoding.EncodeToString([]byte("user:"+password))
	if len(seen) != 1 || seen[0] != want {
		t.Errorf("the proxy saw %q", seen)
	}
	refuse = 407
	_, err := via(address).Do(request(t, "GET", target, nil))
	fails(t, err, ClassNetwork, failure.Retry, "407 Proxy Authentication Required", "HTTPS_PROXY")
	if strings.Contains(err.Error(), password) {
		t.Errorf("%v shows the proxy's password", err)
	}
	proxy.Close()
	_, err = via(address).Do(request(t, "GET", target, nil))
	fails(t, err, ClassNetwork, failure.Retry, "connect to the proxy")
	_, err = via("http://user:" + password + "@host:port").Do(request(t, "GET", target, nil))
	fails(t, err, ClassNetwork, failure.Retry, "not a URL")
	if strings.Contains(err.Error(), password) {
		t.Errorf("%v shows the proxy's password", err)
	}
}

func tunnel(t *testing.T, w http.ResponseWriter, host string) {
	out, err := net.Dial("tcp", host)
	if err != nil {
		t.Error(err)
		return
	}
	in, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	_, _ = io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
	go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
	_, _ = io.Copy(in, out)
	_ = in.Close()
}

package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"capagent/enrich/cado"
	"capagent/enrich/cloudshare"
	"capagent/enrich/cloudtrax"
	"capagent/enrich/threatconnect"
	"capagent/internal/config"
	"capagent/internal/failure"
	"capagent/internal/httpx"
	"capagent/service"
	"capagent/upload"
)

// Service is one that the configuration names.
type Service struct {
	ID     string // the configuration's table
	Title  string
	URL    string
	CAFile string
	Says   string // what its answer to Ask proves: "ThreatConnect the key"
	// Ask asks it something harmless that needs a right token.
	Ask func(ctx context.Context) error
}

// Services lists those that are configured, CloudShark first.
func Services(cfg service.Config, version string, log zerolog.Logger) []Service {
	all := []Service{{
		ID: "cloudshark", Title: "CloudShark", URL: cfg.CloudShark.URL, CAFile: cfg.CloudShark.CAFile, Says: "the server knows the token",
		Ask: func(ctx context.Context) error { return AskCloudShark(ctx, cfg.CloudShark, version) },
	}}
	add := func(used bool, s Service) {
		if used {
			all = append(all, s)
		}
	}
	add(cfg.ThreatConnect.URL != "", Service{
		ID: "threatconnect", Title: "ThreatConnect", URL: cfg.ThreatConnect.URL, CAFile: cfg.ThreatConnect.CAFile, Says: "ThreatConnect the key",
		Ask: func(ctx context.Context) error {
			client, err := threatconnect.New(cfg.ThreatConnect, version, log)
			if err != nil {
				return err
			}
			defer client.Close()
			return client.Check(ctx)
		},
	})
	add(cfg.Cado.URL != "", Service{
		ID: "cado", Title: "Cado", URL: cfg.Cado.URL, CAFile: cfg.Cado.CAFile, Says: "Cado the key",
		Ask: func(ctx context.Context) error { return askCado(ctx, cfg.Cado, version, log) },
	})
	add(cfg.CloudTrax.Key != "", Service{
		ID: "cloudtrax", Title: "CloudTrax", URL: cfg.CloudTrax.URL, CAFile: cfg.CloudTrax.CAFile, Says: "CloudTrax the key",
		Ask: func(ctx context.Context) error {
			reader, err := cloudtrax.NewReader(cfg.CloudTrax, version, log)
			if err != nil {
				return err
			}
			_, err = reader.Networks(ctx)
			return err
		},
	})
	add(cfg.CloudShare.APIID != "", Service{
		ID: "cloudshare", Title: "CloudShare", URL: cfg.CloudShare.URL, CAFile: cfg.CloudShare.CAFile, Says: "CloudShare the key",
		Ask: func(ctx context.Context) error {
			client, err := cloudshare.New(cfg.CloudShare, version, log)
			if err != nil {
				return err
			}
			defer client.Close()
			return client.Ping(ctx)
		},
	})
	return all
}

// AskCloudShark has CloudShark say whether it knows the token.
func AskCloudShark(ctx context.Context, cfg upload.Config, version string) error {
	client, err := upload.NewClient(cfg, version)
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = client.Ping(ctx)
	return err
}

func askCado(ctx context.Context, cfg cado.Config, version string, log zerolog.Logger) error {
	client, err := cado.New(cfg, version, log)
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := client.Probe(ctx); err != nil {
		return err
	}
	_, err = client.Projects(ctx, "")
	return err
}

// services has a job for each: one question tells of the way there, the server's
// identity, the token, and the clock.
func (x *examination) services() []job {
	var jobs []job
	for _, s := range Services(x.Config, x.Version, x.Log) {
		jobs = append(jobs, job{s.ID + ".network", s.Title + " network", func(ctx context.Context) []Check { return x.reach(ctx, s) }})
	}
	return jobs
}

// answer is what was seen on the way.
type answer struct {
	mu        sync.Mutex
	remote    string // address that was connected to, the proxy's where there is one
	state     *tls.ConnectionState
	header    http.Header
	sent, got time.Time
}

func (a *answer) watch(ctx context.Context) context.Context {
	locked := func(f func()) { a.mu.Lock(); defer a.mu.Unlock(); f() }
	ctx = httpx.OnAnswer(ctx, func(h http.Header) { locked(func() { a.header, a.got = h, time.Now() }) })
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		ConnectDone: func(_, addr string, err error) {
			if err == nil {
				locked(func() { a.remote = addr })
			}
		},
		TLSHandshakeDone: func(state tls.ConnectionState, err error) {
			if err == nil {
				locked(func() { a.state = &state })
			}
		},
		WroteRequest: func(httptrace.WroteRequestInfo) { locked(func() { a.sent = time.Now() }) },
	})
}

// seen returns what is known by now: a connection that lost its race may still tell.
func (a *answer) seen() *answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	return &answer{remote: a.remote, state: a.state, header: a.header, sent: a.sent, got: a.got}
}

func (x *examination) reach(ctx context.Context, s Service) []Check {
	network, cert, token := about(s.ID+".network", s.Title+" network"), about(s.ID+".tls", s.Title+" certificate"), about(s.ID+".token", s.Title+" token")
	if s.ID != "cloudshark" {
		token.Title = s.Title + " key"
	}
	u, err := url.Parse(s.URL)
	if err != nil || u.Host == "" {
		return one(network.skip("no usable address is configured"))
	}
	within, stop := context.WithTimeout(ctx, x.limit*9/10)
	defer stop()
	var live answer
	err = s.Ask(live.watch(within))
	a := live.seen()
	var wrong config.Errors
	if errors.As(err, &wrong) {
		return one(network.skip("it is not asked: the configuration is wrong"))
	}
	checks := []Check{x.way(network, s, u, a, err), x.identity(cert, s, u, a, err), x.known(token, s, a, err)}
	if s.ID == "cloudshark" {
		checks = append(checks, clock(about("clock", "clock"), a))
	}
	return checks
}

// way tells of name, proxy and connection.
func (x *examination) way(c Check, s Service, u *url.URL, a *answer, err error) Check {
	route := proxyText(u)
	f := failure.As(err)
	by := strings.TrimSuffix(route, noProxy)
	switch {
	case a.header != nil, f == nil, a.remote != "" && f.Class == httpx.ClassTLS:
		return c.ok("%s answers%s%s", u.Host, place(u, a.remote), route)
	case f.Class == httpx.ClassCanceled:
		return c.fail(Unavailable, "see whether a firewall lets this machine connect to "+u.Host+", or set HTTPS_PROXY", "%s did not answer in time%s", u.Host, by)
	}
	return c.fail(Unavailable, orElse(f.Hint, "check ["+s.ID+"] url"), "%v%s", err, by)
}

func place(u *url.URL, remote string) string {
	if remote == "" || remote == u.Host {
		return ""
	}
	return " at " + remote
}

const noProxy = ", no proxy"

func proxyText(u *url.URL) string {
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: u})
	switch {
	case err != nil:
		return "; HTTPS_PROXY or HTTP_PROXY is no address"
	case proxy == nil:
		return noProxy
	}
	return ", through the proxy " + proxy.Host
}

// soon is when a certificate that ends should be renewed.
const soon = 30 * 24 * time.Hour

// identity tells of the server's certificate and who vouches for it.
func (x *examination) identity(c Check, s Service, u *url.URL, a *answer, err error) Check {
	f := failure.As(err)
	switch {
	case u.Scheme != "https" && loopback(u.Hostname()):
		return c.skip("plain HTTP, to this machine")
	case u.Scheme != "https":
		return c.warn("use https in ["+s.ID+"] url", "plain HTTP: everybody on the way can read token and captures")
	case a.state == nil && f != nil && f.Class == httpx.ClassTLS:
		return c.fail(Unavailable, orElse(f.Hint, "put the certificate of your CA into a file and name it in ["+s.ID+"] ca_file"), "%v", f.Err)
	case a.state == nil || len(a.state.PeerCertificates) == 0:
		return c.skip("it was not reached")
	}
	leaf := a.state.PeerCertificates[0]
	text := fmt.Sprintf("%s, %s by %s", tls.VersionName(a.state.Version), clip(leaf.Subject.String()), clip(leaf.Issuer.String()))
	if s.CAFile != "" {
		text += ", trusted by " + s.CAFile
	}
	first := leaf
	if len(a.state.VerifiedChains) > 0 {
		for _, link := range a.state.VerifiedChains[0] {
			if link.NotAfter.Before(first.NotAfter) {
				first = link
			}
		}
	}
	if time.Until(first.NotAfter) < soon {
		return c.warn("have the certificate of "+u.Host+" renewed before "+day(first)+", by who runs the server", "%s\n%s ends on %s", text, clip(first.Subject.String()), day(first))
	}
	return c.ok("%s, until %s", text, day(first))
}

func day(c *x509.Certificate) string { return c.NotAfter.UTC().Format(time.DateOnly) }

// known tells whether the token is right.
func (x *examination) known(c Check, s Service, a *answer, err error) Check {
	f := failure.As(err)
	switch {
	case f == nil:
		return c.ok("%s knows it", s.Title)
	case a.header == nil:
		return c.skip("it was not reached")
	}
	class := Unavailable
	if x.Denied != nil && x.Denied(err) {
		class = Permission
	}
	return c.fail(class, orElse(f.Hint, "check the keys of ["+s.ID+"]"), "%v", err)
}

// How far the clock may be off: signed requests and the order of captures hang on it.
const (
	clockWarn = 30 * time.Second
	clockFail = 5 * time.Minute
)

func clock(c Check, a *answer) Check {
	theirs, err := http.ParseTime(a.header.Get("Date"))
	if a.header == nil || err != nil || a.sent.IsZero() {
		return c.skip("CloudShark did not say what time it is")
	}
	// The header has whole seconds, and was made some time between.
	ours := a.sent.Add(a.got.Sub(a.sent) / 2).Add(-500 * time.Millisecond)
	off := ours.Sub(theirs).Round(time.Second)
	text := fmt.Sprintf("%s ahead of CloudShark's", off)
	if off < 0 {
		text = fmt.Sprintf("%s behind CloudShark's", -off)
	}
	switch {
	case off.Abs() > clockFail:
		return c.fail(Failed, setClock(), "%s", text)
	case off.Abs() > clockWarn:
		return c.warn(setClock(), "%s", text)
	}
	return c.ok("it agrees with CloudShark's")
}

func loopback(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.IsLoopback()
	}
	return strings.EqualFold(host, "localhost")
}

func orElse(text, other string) string {
	if text != "" {
		return text
	}
	return other
}

// clip bounds what a server says of itself.
func clip(s string) string {
	const most = 200
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}

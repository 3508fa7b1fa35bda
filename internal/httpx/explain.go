package httpx

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"capagent/internal/failure"
)

// Classes of the errors that Do returns.
const (
	ClassNetwork  = "network"  // retry: no connection, or it broke
	ClassTLS      = "tls"      // pause: the server's identity could not be established
	ClassRedirect = "redirect" // pause: the server points elsewhere
	ClassBadURL   = "bad_url"  // pause: the URL may not be used
	ClassCanceled = "canceled" // retry: the caller's context ended
)

// why turns an error of the transport into one that says what happened. sent is
// the request's body, nil when it can't be the reason.
func (c *Client) why(ctx context.Context, req *http.Request, sent *body, err error) error {
	if sent != nil {
		if own := sent.failed(); own != nil {
			var f *failure.Error
			if errors.As(own, &f) {
				return own
			}
			return &failure.Error{Class: "unreadable", Err: own}
		}
	}
	if parent := req.Context().Err(); parent != nil {
		return &failure.Error{Class: ClassCanceled, Err: parent}
	}
	f := c.explain(ctx, req.URL.Host, err)
	if text := f.Err.Error(); c.Scrub(text) != text {
		f.Err = errors.New(c.Scrub(text)) // the chain goes: it holds the secret
	}
	f.Hint = c.Scrub(f.Hint)
	return f
}

func (c *Client) explain(ctx context.Context, host string, err error) *failure.Error {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errIdle):
		return &failure.Error{
			Class: ClassNetwork,
			Hint:  fmt.Sprintf("the server or the network stalled; %s says how long to wait", c.key("timeout")),
			Err:   fmt.Errorf("%w between this machine and %s for %s", errIdle, host, c.opts.IdleTimeout),
		}
	case errors.Is(cause, errSlow):
		return &failure.Error{
			Class: ClassNetwork,
			Hint:  fmt.Sprintf("the server or the network stalled; %s says how long to wait", c.key("timeout")),
			Err:   fmt.Errorf("%w within %s of its first byte", errSlow, c.opts.IdleTimeout),
		}
	case errors.Is(err, errPlain):
		return &failure.Error{
			Kind: failure.Pause, Class: ClassBadURL,
			Hint: fmt.Sprintf("use https, or set %s = true when the network between is yours", c.key("allow_http")),
			Err:  fmt.Errorf("plain HTTP would show the token on the way to %s, which is not this machine", host),
		}
	}
	if f := c.explainTLS(host, err); f != nil {
		return f
	}
	return &failure.Error{Class: ClassNetwork, Hint: networkHint(err), Err: networkError(err)}
}

// key names a configuration key in a hint.
func (c *Client) key(name string) string {
	if c.opts.Table == "" {
		return name
	}
	return "[" + c.opts.Table + "] " + name
}

func (c *Client) explainTLS(host string, err error) *failure.Error {
	f := &failure.Error{Kind: failure.Pause, Class: ClassTLS}
	var (
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		name    x509.HostnameError
		pinned  *pinError
		record  tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &pinned):
		f.Err = fmt.Errorf("%s: %w", host, pinned)
		f.Hint = "if the server's key was changed on purpose, put the new pin into " + c.key("pins")
	case errors.As(err, &unknown):
		f.Err = fmt.Errorf("the certificate of %s is signed by an unknown authority (%s)", host, issuer(unknown.Cert))
		f.Hint = "put the certificate of your CA into a file and name it in " + c.key("ca_file")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		f.Err = fmt.Errorf("the certificate of %s is valid from %s to %s only", host, day(invalid.Cert.NotBefore), day(invalid.Cert.NotAfter))
		f.Hint = "renew the server's certificate, or set this machine's clock right"
	case errors.As(err, &invalid):
		f.Err = fmt.Errorf("the certificate of %s is not usable: %s", host, quote(invalid.Error()))
		f.Hint = "the server needs another certificate; a CA of your own goes into " + c.key("ca_file")
	case errors.As(err, &name):
		f.Err = fmt.Errorf("the certificate of %s is made for other names (%s)", host, quote(strings.Join(names(name.Certificate), " ")))
		f.Hint = "use a name that the certificate carries in " + c.key("url")
	case strings.Contains(err.Error(), "protocol version not supported"), strings.Contains(err.Error(), "unsupported protocol version"):
		// crypto/tls has no error types for these: the peer's alert, and our refusal.
		f.Err = fmt.Errorf("%s speaks no TLS newer than 1.1", host)
		f.Hint = "the server must offer TLS 1.2 or newer"
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		f.Err = fmt.Errorf("%s does not speak TLS on this port", host)
		f.Hint = "check protocol and port of " + c.key("url")
	case strings.Contains(err.Error(), "tls: "):
		f.Err = fmt.Errorf("no secure connection to %s: %s", host, quote(err.Error()))
		f.Hint = "ask who runs the server; a CA of your own goes into " + c.key("ca_file")
	default:
		return nil
	}
	return f
}

func issuer(cert *x509.Certificate) string {
	if cert == nil {
		return "unnamed"
	}
	if cert.Issuer.String() == cert.Subject.String() {
		return "self-signed " + quote(cert.Subject.String())
	}
	return quote(cert.Issuer.String())
}

func names(cert *x509.Certificate) []string {
	var all []string
	if cert != nil {
		all = append(all, cert.DNSNames...)
		for _, ip := range cert.IPAddresses {
			all = append(all, ip.String())
		}
	}
	return all
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// quote makes a server's text fit for a terminal and a line.
func quote(s string) string {
	const most = 300
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "..."
	}
	return strconv.QuoteToGraphic(s)
}

func networkError(err error) error {
	var (
		dns *net.DNSError
		op  *net.OpError
	)
	switch {
	case errors.As(err, &dns):
		text := "no such host"
		if !dns.IsNotFound {
			text = "no usable answer from the DNS server"
		}
		return fmt.Errorf("look up %s: %s", quote(dns.Name), text)
	case errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect"):
		what := "connect"
		if op.Op == "proxyconnect" {
			what = "connect to the proxy"
		}
		return fmt.Errorf("%s to %s: %w", what, op.Addr, root(op))
	case isAny(err, cut):
		return fmt.Errorf("the connection was cut: %w", root(err))
	case errors.Is(err, net.ErrClosed): // by us, after the other direction broke
		return errors.New("the connection was cut")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), strings.Contains(err.Error(), "server closed idle connection"):
		return errors.New("the server closed the connection without a whole answer")
	}
	if text := err.Error(); quote(text) != `"`+text+`"` {
		return errors.New(quote(text))
	}
	return err
}

func networkHint(err error) string {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns):
		return "check the host name and this machine's DNS"
	case isAny(err, refused):
		return "is the server running, and is the port right?"
	case errors.Is(err, errProxy):
		return "check HTTPS_PROXY, HTTP_PROXY and NO_PROXY"
	}
	return "the agent tries again; nothing is lost"
}

func isAny(err error, reasons []error) bool {
	return slices.ContainsFunc(reasons, func(reason error) bool { return errors.Is(err, reason) })
}

// root is the innermost error: a system call's reason or a time-out.
func root(err error) error {
	var no syscall.Errno
	if errors.As(err, &no) {
		return no
	}
	var t net.Error
	if errors.As(err, &t) && t.Timeout() {
		return errors.New("timed out")
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}

func (c *Client) redirected(req *http.Request, resp *http.Response) error {
	target := "an unnamed place"
	if to, err := url.Parse(resp.Header.Get("Location")); err == nil {
		if to = req.URL.ResolveReference(to); to.Host != "" {
			target = quote(c.Scrub(to.Scheme + "://" + to.Host))
		}
	}
	return &failure.Error{
		Kind: failure.Pause, Class: ClassRedirect,
		Hint: "redirects are not followed, since they would carry token and capture along; put the server's final address into " + c.key("url"),
		Err:  fmt.Errorf("%s answered %d and points to %s", req.URL.Host, resp.StatusCode, target),
	}
}

var errProxy = errors.New("proxy")

// hideProxy keeps a proxy's credentials out of errors: the environment's own
// error quotes the whole value.
func hideProxy(proxy func(*http.Request) (*url.URL, error)) func(*http.Request) (*url.URL, error) {
	return func(req *http.Request) (*url.URL, error) {
		u, err := proxy(req)
		if err != nil {
			return nil, fmt.Errorf("%w: the address in the environment is not a URL", errProxy)
		}
		return u, nil
	}
}

func judgeProxy(_ context.Context, u *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return fmt.Errorf("%w %s refused the connection: %s", errProxy, u.Host, quote(resp.Status))
}

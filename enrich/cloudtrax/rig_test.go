package cloudtrax

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"capagent/enrich/cloudtraxtest"
	"capagent/enrich/device"
	"capagent/enrich/indicator"
	"capagent/internal/failure"
	"capagent/internal/httpx"
	"capagent/internal/secret"
)

// Hardware addresses of the tests, all for documentation (RFC 7042 2.1.1).
var (
	ipad    = doc(1)
	scanner = doc(2)
	tv      = doc(3)
	pc      = doc(4)
	front   = doc(0xf0) // of cloudtraxtest's Demo
	desk7   = doc(0xf2)
	evil    = doc(0xe0)
	nobody  = doc(0x77)
)

func doc(n byte) device.MAC { return device.MAC{0x00, 0x00, 0x5e, 0x00, 0x53, n} }

func ip(text string) netip.Addr { return netip.MustParseAddr(text) }

func configOf(s *cloudtraxtest.Server) Config {
	c := DefaultConfig()
	c.URL, c.Key, c.Secret = "http://127.0.0.1", s.Key, secret.New(s.Secret)
	if s.URL != "" {
		c.URL = s.URL
	}
	return c
}

// overWire is a demo and a reader of it, with HTTP between them.
func overWire(t testing.TB, o cloudtraxtest.Options, change func(*Config)) (*cloudtraxtest.Server, *Reader) {
	t.Helper()
	s := cloudtraxtest.Start(t, o)
	s.Demo(ipad, scanner, tv, pc)
	c := configOf(s)
	if change != nil {
		change(&c)
	}
	r, err := NewReader(c, "test", zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { checkSecrets(t, s, r) })
	return s, r
}

// checkSecrets holds that nothing forbidden was asked for, and that no secret is in
// anything that the reader says.
func checkSecrets(t testing.TB, s *cloudtraxtest.Server, r *Reader, more ...string) {
	t.Helper()
	if n := s.Counted("forbidden"); n != 0 {
		t.Errorf("%d forbidden calls", n)
	}
	said := strings.Join(more, "\n")
	if err := r.Err(); err != nil {
		said += err.Error() + failure.As(err).Hint
	}
	said += r.Status().Error
	for _, j := range r.jobs {
		if j.part != nil {
			said += fmt.Sprintf("%+v", *j.part)
		}
	}
	for _, hidden := range append(cloudtraxtest.Secrets(), s.Secret, s.Secret[10:40], s.Key) {
		if strings.Contains(said, hidden) {
			t.Errorf("%q is in %s", hidden, said)
		}
	}
}

// handler is a Doer without a network, for bubbles of synctest.
type handler struct{ h http.Handler }

func (h handler) Do(req *http.Request) (reply *httpx.Reply, err error) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if cut, ok := p.(error); !ok || !errors.Is(cut, http.ErrAbortHandler) {
			panic(p)
		}
		err = &failure.Error{Class: httpx.ClassNetwork, Err: errors.New("the connection was cut")}
		if ended := req.Context().Err(); ended != nil {
			err = &failure.Error{Class: httpx.ClassCanceled, Err: ended}
		}
	}()
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	r := httptest.NewRequestWithContext(req.Context(), req.Method, req.URL.RequestURI(), bytes.NewReader(body))
	r.Header = req.Header.Clone()
	w := httptest.NewRecorder()
	h.h.ServeHTTP(w, r)
	return &httpx.Reply{Status: w.Code, Header: w.Header(), Body: w.Body.Bytes()}, nil
}

// inBubble is a demo and a reader of it, with nothing between them.
func inBubble(t testing.TB, o cloudtraxtest.Options, change func(*Config)) (*cloudtraxtest.Server, *Reader) {
	t.Helper()
	s := cloudtraxtest.New(o)
	t.Cleanup(func() { _ = s.Close() })
	s.Demo(ipad, scanner, tv, pc)
	c := configOf(s)
	if change != nil {
		change(&c)
	}
	r := newReader(c, newAPI(c, handler{s.Handler()}, zerolog.Nop()), func() {})
	t.Cleanup(func() { checkSecrets(t, s, r) })
	return s, r
}

// captured is a capture of the last minute in which these addresses were seen.
func captured(macs ...device.MAC) device.Capture {
	now := time.Now()
	c := device.Capture{First: now.Add(-time.Minute), Last: now}
	for i, m := range macs {
		at := netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + i)})
		c.Seen = append(c.Seen, device.Seen{MAC: m, Behind: 1, IPs: []netip.Addr{at}})
		c.Addresses = append(c.Addresses, at)
	}
	return c
}

func bind(m device.MAC, at, name string) indicator.Binding {
	return indicator.Binding{MAC: m, IP: ip(at), Name: name, Count: 1}
}

// named returns the devices of a capture, each as "label (kind, confidence; limits)".
func named(t testing.TB, r *Reader, c device.Capture) []string {
	t.Helper()
	list, err := r.Devices(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, d := range list {
		if d.Source != Name {
			t.Errorf("the source is %s", d.Source)
		}
		out = append(out, d.Label()+" ("+strings.Join(append([]string{d.Kind, d.Confidence.String()}, d.Limits...), "; ")+")")
	}
	return out
}

func refresh(t testing.TB, r *Reader) {
	t.Helper()
	if err := r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func isClass(t testing.TB, err error, kind failure.Kind, class string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want %s", class)
	}
	if f := failure.As(err); f.Kind != kind || f.Class != class {
		t.Fatalf("got %s/%s (%v), want %s/%s", f.Kind, f.Class, err, kind, class)
	}
}

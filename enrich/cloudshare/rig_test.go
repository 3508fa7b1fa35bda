package cloudshare

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"capagent/enrich/cloudsharetest"
	"capagent/internal/failure"
	"capagent/internal/secret"
)

const testKey = "ThisIsNotARealKey0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJK"

func TestMain(m *testing.M) {
	if os.Getenv("CLOUDSHARE_CHILD") != "" {
		childMain()
		return
	}
	goleak.VerifyTestMain(m)
}

// logText collects a log.
type logText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// quickClient is one that does not wait a second between two requests.
func quickClient(t testing.TB, change func(*Config)) *Client {
	t.Helper()
	c, _ := loggedClient(t, change)
	return c
}

func loggedClient(t testing.TB, change func(*Config)) (*Client, *logText) {
	t.Helper()
	conf := DefaultConfig()
	conf.Self = func() ([]string, []netip.Addr, error) { return []string{"sensor"}, nil, nil }
	change(&conf)
	log := &logText{}
	c, err := New(conf, "test", zerolog.New(log))
	if err != nil {
		t.Fatal(err)
	}
	c.pace = 0
	t.Cleanup(c.Close)
	return c, log
}

// to configures a client for a stand-in.
func to(s *cloudsharetest.Server) func(*Config) {
	return func(c *Config) { c.URL, c.APIID, c.APIKey = s.APIURL(), s.APIID, secret.New(s.APIKey) }
}

// isFailure checks class and kind, and that no secret shows.
func isFailure(t *testing.T, s *cloudsharetest.Server, err error, kind failure.Kind, class string) *failure.Error {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want %s", class)
	}
	f := failure.As(err)
	if f.Kind != kind || f.Class != class {
		t.Fatalf("got %s/%s (%v), want %s/%s", f.Kind, f.Class, err, kind, class)
	}
	noSecret(t, s, err.Error()+f.Hint)
	return f
}

// noSecret sees that nothing of what must not be shown is in a text.
func noSecret(t testing.TB, s *cloudsharetest.Server, texts ...string) {
	t.Helper()
	hidden := append(s.Secrets(), s.APIKey, s.APIKey[5:30], "hmac:", "vmpass", "vmconsole")
	for _, text := range texts {
		for _, h := range hidden {
			if strings.Contains(text, h) {
				t.Fatalf("a secret is shown: %.500s", text)
			}
		}
	}
}

// slack is what a busy machine may add to a deadline.
const slack = 3 * time.Second

// serve answers with h, below the returned base URL.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL + "/api/v3"
}

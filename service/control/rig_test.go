package control_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"capagent/internal/ledger"
	"capagent/internal/secret"
	"capagent/service/control"
	"capagent/service/control/local"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// backend is an agent whose ledger is real and whose deeds are the test's.
type backend struct {
	ledger *ledger.Ledger
	status func(ctx context.Context) (control.Status, error)
	retry  func(ctx context.Context, ids []int64, all bool) (int, error)
	reload func(ctx context.Context) error
	rotate func(ctx context.Context, name string) ([]control.Rotated, error)
	ask    func(ctx context.Context, ask control.TriggerRequest) (control.Trigger, error)
}

func (b *backend) Status(ctx context.Context) (control.Status, error) { return b.status(ctx) }
func (b *backend) Ledger() *ledger.Ledger                             { return b.ledger }
func (b *backend) Rotate(ctx context.Context, name string) ([]control.Rotated, error) {
	return b.rotate(ctx, name)
}

func (b *backend) Trigger(ctx context.Context, ask control.TriggerRequest) (control.Trigger, error) {
	return b.ask(ctx, ask)
}
func (b *backend) Reload(ctx context.Context) error { return b.reload(ctx) }
func (b *backend) Retry(ctx context.Context, ids []int64, all bool) (int, error) {
	return b.retry(ctx, ids, all)
}

// logged is a log that a test reads.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// running is an agent that listens.
type running struct {
	*backend
	where control.Where
	log   *logged
	stop  func() error // ends it and returns what Serve did
}

const dest = "https://cs.example"

// names are what people and attackers call files.
var names = []string{"a.pcap", "new\nline", "esc\x1b[31m", "bad\xff\xfeutf8", "<b>&", "quo\"te", "ünï"}

func newLedger(t *testing.T, dir string) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(t.Context(), filepath.Join(dir, "ledger.db"), ledger.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// fill registers n captures, some failed, some of a case.
func fill(t *testing.T, l *ledger.Ledger, n int) {
	t.Helper()
	var found []ledger.Found
	for i := range n {
		f := ledger.Found{
			Source: "import", Path: "/evidence/" + names[i%len(names)] + fmt.Sprint(i), Name: names[i%len(names)], Destination: dest,
			State: ledger.Queued, Tags: []string{"<tag>"},
			Inspection: ledger.Inspection{
				SHA256: fmt.Sprintf("%064x", 0xabcdef00+uint64(i/2)), Size: int64(i), Packets: 1, First: time.Unix(int64(i), 5).UTC(), Last: time.Unix(int64(i), 7).UTC(),
			},
		}
		switch i % 4 {
		case 1:
			f.State, f.Reason, f.Case = ledger.Quarantined, "bad\x1b[2Jcapture", "2026-1"
		case 2:
			f.Destination = dest + ":8443"
		case 3:
			f.State = ledger.Held
		}
		found = append(found, f)
	}
	if _, err := l.Register(t.Context(), found); err != nil {
		t.Fatal(err)
	}
}

// ways are the transports that this system has.
func ways() []string {
	if runtime.GOOS == "windows" {
		return []string{"loopback"}
	}
	return []string{"socket", "loopback"}
}

// start lets an agent with n captures listen until the test ends.
func start(t *testing.T, way string, n int, secrets ...secret.Secret) *running {
	t.Helper()
	dir, err := os.MkdirTemp("", "ctl") // t.TempDir is too long for a socket on some systems
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	r := &running{backend: &backend{ledger: newLedger(t, dir)}, log: &logged{}}
	fill(t, r.ledger, n)
	if r.where = (control.Where{Socket: filepath.Join(dir, "c.sock")}); way == "loopback" {
		r.where = control.Where{TokenFile: filepath.Join(dir, "control.token")}
	}
	s, err := control.Listen(t.Context(), r.where, local.DefaultConfig(), zerolog.New(r.log))
	if err != nil {
		t.Fatal(err)
	}
	if len(secrets) > 0 {
		s.Redactor = secret.NewRedactor(secrets...)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, r.backend) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-served
	})
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return r
}

func (r *running) dial(t *testing.T) *control.Client {
	t.Helper()
	c, err := control.Dial(t.Context(), r.where)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// each runs f over every transport.
func each(t *testing.T, n int, f func(t *testing.T, r *running, c *control.Client)) {
	for _, way := range ways() {
		t.Run(way, func(t *testing.T) {
			r := start(t, way, n)
			f(t, r, r.dial(t))
		})
	}
}

// collect reads a list to its end.
func collect[T any](seq func(func(T, error) bool)) (all []T, err error) {
	for v, err := range seq {
		if err != nil {
			return all, err
		}
		all = append(all, v)
	}
	return all, nil
}

var errSome = errors.New("some error")

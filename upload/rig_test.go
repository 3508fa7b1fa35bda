package upload

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"capagent/internal/failure"
	"capagent/internal/inspect"
	"capagent/internal/ledger"
	"capagent/internal/pcapio"
	"capagent/internal/secret"
	"capagent/upload/cloudsharktest"
)

const canary = "c0ffeec0ffeec0ffeec0FFEEC0FFEE00"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a ledger for tests: what it holds survives a Step, not a process.
type memory struct {
	mu    sync.Mutex
	parts map[int64][]ledger.Part
	fail  error // of FinishPart
}

func (m *memory) Parts(_ context.Context, id int64) ([]ledger.Part, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.parts[id]), nil
}

func (m *memory) PlanParts(_ context.Context, id int64, parts []ledger.Part) ([]ledger.Part, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.parts[id] != nil {
		return nil, errors.New("planned twice")
	}
	m.parts[id] = slices.Clone(parts)
	return parts, nil
}

func (m *memory) FinishPart(_ context.Context, id int64, number int, session string, doubt bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	p := &m.parts[id][number-1]
	p.SessionID, p.PossibleDuplicate = session, p.PossibleDuplicate || doubt
	return nil
}

// rig is an emulator and a step that uploads to it.
type rig struct {
	*cloudsharktest.Server
	step   *Step
	ledger *memory
	log    output
	sent   atomic.Int64
	strict bool // the emulator must find nothing to complain about
}

// output is what was logged so far; streams log beside the test.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

type change func(*cloudsharktest.Options, *Config)

func newRig(t *testing.T, changes ...change) *rig {
	t.Helper()
	options := cloudsharktest.Options{Tokens: []cloudsharktest.Token{{Value: canary}}}
	c := DefaultConfig()
	c.Token = secret.New(canary)
	for _, change := range changes {
		change(&options, &c)
	}
	r := &rig{Server: cloudsharktest.Start(t, options), ledger: &memory{parts: map[int64][]ledger.Part{}}, strict: true}
	c.URL = r.URL
	r.restart(t, c)
	t.Cleanup(func() {
		noCanary(t, r.log.String())
		for _, q := range r.Requests() {
			if q.Header.Get("Referer") != "" || q.Header.Get("User-Agent") != "capagent/1.2.3" {
				t.Errorf("headers %v", q.Header)
			}
		}
		if v := r.Violations(); r.strict && len(v) > 0 {
			t.Errorf("the emulator complains: %+v", v)
		}
	})
	return r
}

// restart makes a new step, as a new process would.
func (r *rig) restart(t *testing.T, c Config) {
	t.Helper()
	client, err := NewClient(c, "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	r.step = NewStep(StepOptions{
		Config: c, Client: client, Ledger: r.ledger, Host: "sensor1",
		Log:     zerolog.New(&r.log),
		OnBytes: func(n int64) { r.sent.Add(n) },
	})
}

func noCanary(t *testing.T, text string) {
	t.Helper()
	if strings.Contains(strings.ToLower(text), strings.ToLower(canary)) {
		t.Errorf("the token is in %q", text)
	}
}

// wants checks a failure and that the token is nowhere in its chain.
func wants(t *testing.T, err error, class string, kind failure.Kind, text string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	f := failure.As(err)
	if f.Class != class || f.Kind != kind || !strings.Contains(f.Error(), text) {
		t.Errorf("%v: class %q, kind %v; want %q, %v, text %q", err, f.Class, f.Kind, class, kind, text)
	}
	if f.Hint == "" {
		t.Errorf("%v: no hint", err)
	}
	if strings.ContainsAny(f.Error()+f.Hint, "\x1b\r\n") {
		t.Errorf("%q can steer a terminal", f.Error()+f.Hint)
	}
	noCanary(t, f.Hint)
	for e := err; e != nil; e = errors.Unwrap(e) {
		noCanary(t, fmt.Sprintf("%v %+v %#v", e, e, e))
	}
}

var captureTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// pcap returns a capture of n packets of size bytes, one a second.
func pcap(n, size int) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, 0xa1b2c3d4)
	b = le.AppendUint32(b, 2|4<<16)
	b = append(b, make([]byte, 8)...)
	b = le.AppendUint32(b, 65535)
	b = le.AppendUint32(b, 1)
	for i := range n {
		b = le.AppendUint32(b, uint32(captureTime.Unix())+uint32(i))
		b = le.AppendUint32(b, 0)
		b = le.AppendUint32(b, uint32(size))
		b = le.AppendUint32(b, uint32(size))
		b = append(b, bytes.Repeat([]byte{byte(i)}, size)...)
	}
	return b
}

// pcapng returns a capture of n packets on two interfaces.
func pcapng(n, size int) []byte {
	le := binary.LittleEndian
	var b []byte
	block := func(kind uint32, body []byte) {
		body = append(body, make([]byte, -len(body)&3)...)
		b = le.AppendUint32(b, kind)
		b = le.AppendUint32(b, uint32(len(body)+12))
		b = append(b, body...)
		b = le.AppendUint32(b, uint32(len(body)+12))
	}
	block(0x0a0d0d0a, le.AppendUint64(le.AppendUint32(le.AppendUint32(nil, 0x1a2b3c4d), 1), 1<<64-1))
	block(1, le.AppendUint32(le.AppendUint32(nil, 1), 65535))
	block(1, le.AppendUint32(le.AppendUint32(nil, 101), 65535))
	for i := range n {
		stamp := uint64(captureTime.Add(time.Duration(i) * time.Second).UnixMicro())
		body := le.AppendUint32(nil, uint32(i%2))
		body = le.AppendUint32(body, uint32(stamp>>32))
		body = le.AppendUint32(body, uint32(stamp))
		body = le.AppendUint32(body, uint32(size))
		body = le.AppendUint32(body, uint32(size))
		block(6, append(body, bytes.Repeat([]byte{byte(i)}, size)...))
	}
	return b
}

// capture puts data into a file and inspects it.
func capture(t testing.TB, data []byte) ledger.Capture {
	t.Helper()
	path := filepath.Join(t.TempDir(), "evidence.pcap")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return captureOf(t, path)
}

var captures atomic.Int64

func captureOf(t testing.TB, path string) ledger.Capture {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	found, err := inspect.Reader(context.Background(), f, pcapio.Budget{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return ledger.Capture{ID: captures.Add(1), Source: "import", Path: path, Name: "disk1/evidence.pcap", Inspection: found}
}

// stored returns the bytes of the only session.
func (r *rig) stored(t *testing.T) (cloudsharktest.Session, []byte) {
	t.Helper()
	all := r.Sessions()
	if len(all) != 1 {
		t.Fatalf("%d sessions, want 1", len(all))
	}
	return all[0], r.bytes(t, all[0].ID)
}

func (r *rig) bytes(t *testing.T, id string) []byte {
	t.Helper()
	f, err := r.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// persist does what the pipeline does with a failure: it asks Find, then runs
// again, a few times.
func (r *rig) persist(t *testing.T, c ledger.Capture) ledger.Result {
	t.Helper()
	for range 5 {
		result, found, err := r.step.Find(t.Context(), c)
		if err != nil {
			continue
		}
		if found {
			return result
		}
		if result, err = r.step.Run(t.Context(), c); err == nil {
			return result
		}
	}
	t.Fatal("no success")
	return ledger.Result{}
}

func marshalled(t *testing.T, v any) string {
	t.Helper()
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func opened(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

var _ Ledger = (*ledger.Ledger)(nil)

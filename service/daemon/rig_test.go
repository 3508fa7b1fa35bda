package daemon

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"capagent/capture/watch"
	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/service"
)

// server stands in for CloudShark where time is simulated, which real sockets
// can't be part of: it keeps sessions by content and can be switched off.
type server struct {
	mu       sync.Mutex
	down     error
	sessions map[string]int       // by SHA-256: how often
	attempts int                  // questions and uploads
	refused  []time.Time          // those that came while it was down
	order    []string             // names, as they arrived
	saw      func(ledger.Capture) // when not nil: told of each session
	hang     chan struct{}        // when not nil, uploads wait for it, whatever they are told
}

func (s *server) Name() string { return "cloudshark" }

func (s *server) Run(_ context.Context, c ledger.Capture) (ledger.Result, error) {
	if s.hang != nil {
		<-s.hang
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempted()
	if s.down != nil {
		return ledger.Result{}, s.down
	}
	s.sessions[c.SHA256]++
	if s.saw != nil {
		s.saw(c)
	}
	s.order = append(s.order, c.Name)
	id := c.SHA256[:12]
	return ledger.Result{SessionID: id, SessionURL: "https://cs.example/captures/" + id, SessionName: c.Name}, nil
}

func (s *server) Find(_ context.Context, c ledger.Capture) (ledger.Result, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ledger.Result{SessionID: c.SHA256[:12]}, s.sessions[c.SHA256] > 0, s.down
}

func (s *server) attempted() {
	s.attempts++
	if s.down != nil {
		s.refused = append(s.refused, time.Now())
	}
}

func (s *server) ask(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempted()
	return s.down
}

func (s *server) set(down error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

func (s *server) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

var errRefused = &failure.Error{Class: "network", Err: fmt.Errorf("connection refused")}

// rig is a daemon with a folder and a server of its own.
type rig struct {
	*Daemon
	folder string
	server *server
	cable  *cable
	load   service.Config // what a reload finds
	stop   context.CancelFunc
	ended  chan error
}

// start runs a daemon until the test, or the bubble, ends.
func start(t testing.TB, log zerolog.Logger, change func(*service.Config)) *rig {
	t.Helper()
	r := &rig{
		folder: t.TempDir(), server: &server{sessions: map[string]int{}}, ended: make(chan error, 1),
		cable: &cable{},
	}
	return r.again(t, t.TempDir(), log, change)
}

func (r *rig) again(t testing.TB, stateDir string, log zerolog.Logger, change func(*service.Config)) *rig {
	t.Helper()
	cfg := service.DefaultConfig()
	cfg.Agent = service.AgentConfig{Name: "sensor", StateDir: stateDir}
	cfg.CloudShark.URL = "https://cs.example"
	var w watch.Config
	w.SetDefaults()
	w.Path = r.folder
	cfg.Watch = []watch.Config{w}
	if change != nil {
		change(&cfg)
	}
	r.load = cfg
	ready := make(chan struct{})
	opts := Options{
		Config: cfg, Version: "0.0.0-test", Log: log, Grace: time.Second, Ready: func() { close(ready) },
		noEvents: true, noControl: true,
		assemble: func(cfg service.Config, l *ledger.Ledger, door *service.Door) (*service.Agent, error) {
			return &service.Agent{Config: cfg, Ledger: l, Pipeline: service.NewPipeline(l, door, log, r.server)}, nil
		},
		open: r.cable.open, Load: func(context.Context) (service.Config, error) { return r.load, nil },
		ask: r.server.ask, made: func(d *Daemon) { r.Daemon = d },
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() { r.ended <- Run(ctx, opts) }()
	select {
	case <-ready:
	case err := <-r.ended:
		t.Fatal(err)
	}
	return r
}

// end stops the daemon and returns what it returned.
func (r *rig) end() error {
	r.stop()
	return <-r.ended
}

func (r *rig) put(t testing.TB, name string, seed int) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.folder, name), tiny(seed), 0o600); err != nil {
		t.Fatal(err)
	}
}

// tiny is a pcap of one packet, at second seed.
func tiny(seed int) []byte {
	b := []byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0}
	packet := fmt.Appendf(nil, "\x02\x00\x00\x00\x00\x01\x02\x00\x00\x00\x00\x02\x88\xb5 capture %-40d", seed)
	for _, v := range []int{1_700_000_000 + seed, 0, len(packet), len(packet)} {
		b = append(b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
	}
	return append(b, packet...)
}

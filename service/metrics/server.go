// Package metrics tells Prometheus how the agent fares: by HTTP, or in a file for
// hosts that allow no listener. What it tells is the agent's status
// (service/control) as numbers, and what an Observer counted. docs/metrics.md is
// its contract.
package metrics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/rs/zerolog"
	"golang.org/x/net/netutil"

	"capagent/internal/safefile"
	"capagent/internal/secret"
	"capagent/service/control"
	"capagent/service/metrics/observe"
)

// Config is the table [metrics].
type Config = observe.Config

// Observer counts what a status can't tell.
type Observer = observe.Observer

// Options of a Server.
type Options struct {
	Config Config
	// Status says how the agent fares. Where the ledger could not be read, its
	// Captures is nil.
	Status func(context.Context) (control.Status, error)
	// Observer's counts are told besides. It may be nil.
	Observer *Observer
	// Healthy returns why the agent's work does not get on, Ready why it has not
	// begun or ends. nil functions find nothing.
	Healthy, Ready func() error
	// Redactor masks the reasons that are told. It may be nil.
	Redactor *secret.Redactor
	Log      zerolog.Logger
	// Trouble is told when the "listener" or the "textfile" does not work, each
	// time that is met, and with nil each time that it does. It may be nil.
	Trouble func(part string, err error)
	// Listening is told where the listener is. It may be nil.
	Listening func(net.Addr)
}

// Server tells about one agent, with one configuration.
type Server struct {
	opts  Options
	calls calls
}

// Bounds of what callers may ask for.
const (
	maxConns      = 32
	maxHeader     = 16 << 10
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	writeTimeout  = 30 * time.Second // from the request on, the agent's answer included
	idleTimeout   = 2 * time.Minute  // over the usual time between two scrapes
	drainTimeout  = time.Second      // for callers to take their answers, when Run ends
	listenEvery   = 10 * time.Second // between attempts at an address that is not to be had
)

// New returns a Server.
func New(opts Options) *Server {
	if opts.Healthy == nil {
		opts.Healthy = func() error { return nil }
	}
	if opts.Ready == nil {
		opts.Ready = func() error { return nil }
	}
	if opts.Trouble == nil {
		opts.Trouble = func(string, error) {}
	}
	opts.Log = opts.Log.With().Str("part", "metrics").Logger()
	return &Server{opts: opts}
}

// Run tells until ctx ends. Where the listener or the file does not work it says so
// and tries again: an agent that can't be measured works on. The error says that
// something did not end. It returns at once when nothing is configured, and may be
// called once.
func (s *Server) Run(ctx context.Context) error {
	status := newFlight(ctx, &s.calls, s.opts.Status)
	var group sync.WaitGroup
	if s.opts.Config.Listen != "" {
		group.Go(func() { s.listen(ctx, s.handler(ctx, status)) })
	}
	if s.opts.Config.Textfile != "" {
		group.Go(func() { s.write(ctx, status) })
	}
	group.Wait()
	return s.calls.ended()
}

// listen serves until ctx ends, and begins again when that fails.
func (s *Server) listen(ctx context.Context, h http.Handler) {
	for {
		err := s.serve(ctx, h)
		if ctx.Err() != nil {
			return
		}
		s.opts.Trouble("listener", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(listenEvery):
		}
	}
}

func (s *Server) serve(ctx context.Context, h http.Handler) error {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", s.opts.Config.Listen)
	if err != nil {
		return err
	}
	s.opts.Trouble("listener", nil)
	if s.opts.Listening != nil {
		s.opts.Listening(l.Addr())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          stdlog.New(httpLog{s.opts.Log}, "", 0),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		<-ctx.Done()
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		if srv.Shutdown(limit) != nil {
			_ = srv.Close() // cuts off who would not leave
		}
	}()
	err = srv.Serve(netutil.LimitListener(l, maxConns))
	cancel()
	<-drained
	return err
}

// write keeps the file up to date until ctx ends. What is there then stays: its
// capagent_collected_timestamp_seconds says how old it is.
func (s *Server) write(ctx context.Context, status *flight[control.Status]) {
	ticker := time.NewTicker(s.opts.Config.TextfileEvery.Std())
	defer ticker.Stop()
	for {
		if err := s.writeOnce(ctx, status); ctx.Err() == nil {
			s.opts.Trouble("textfile", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (s *Server) writeOnce(ctx context.Context, status *flight[control.Status]) error {
	registry, err := s.registry(ctx, status)
	if err != nil {
		return err
	}
	families, wrong := registry.Gather() // what is right is there in spite of an error
	var text bytes.Buffer
	enc := expfmt.NewEncoder(&text, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, family := range families {
		if err := enc.Encode(family); err != nil {
			return fmt.Errorf("metrics: %w", err)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err() // the status was not waited for
	}
	return errors.Join(wrong, safefile.WriteMode(s.opts.Config.Textfile, text.Bytes(), 0o644))
}

// registry has the agent as it is now.
func (s *Server) registry(ctx context.Context, status *flight[control.Status]) (*prometheus.Registry, error) {
	now := snapshot{}
	now.status, now.err = status.get(ctx)
	now.at = time.Now()
	if now.err != nil && ctx.Err() == nil {
		s.opts.Log.Debug().Err(now.err).Msg("no status")
	}
	registry := prometheus.NewRegistry()
	err := registry.Register(now)
	if s.opts.Observer != nil {
		err = errors.Join(err, registry.Register(s.opts.Observer))
	}
	return registry, err
}

// httpLog says what net/http has to say, which is of callers' mistakes.
type httpLog struct{ log zerolog.Logger }

func (l httpLog) Write(p []byte) (int, error) {
	l.log.Debug().Msg(strings.TrimSpace(string(p)))
	return len(p), nil
}

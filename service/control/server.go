package control

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	stdlog "log"

	"github.com/rs/zerolog"

	"capagent/internal/ledger"
	"capagent/internal/secret"
	"capagent/service/control/local"
)

// Backend is what the agent offers; the server knows nothing else of it. Its
// methods are called from several goroutines, and end when their ctx does: that
// of Serve, or that of a caller who went away. Texts that they return are shown
// to people as they are.
type Backend interface {
	Status(ctx context.Context) (Status, error)
	Ledger() *ledger.Ledger
	// Retry lets captures be tried at once: ids, which may have failed for good,
	// or else what is queued, with all also what has failed. It does not wait
	// for them, but sees to it that a destination that is paused is asked now,
	// and returns how many captures it changed.
	Retry(ctx context.Context, ids []int64, all bool) (int, error)
	// Reload reads the configuration again. After an error, the text of which
	// is for the user, the old one stays.
	Reload(ctx context.Context) error
	// Rotate ends the open file of the live capture called name, or of all when
	// it is "", and returns when what was captured until then is recorded. An
	// Error of status 404 says that there is none.
	Rotate(ctx context.Context, name string) ([]Rotated, error)
	// Trigger records that a window of what is held is to be released once it is
	// over, and does not wait for that. An Error of status 404 says that there is
	// no such capture, 422 that nothing is held or asked for wrongly, 429 (with
	// RetryAfter) that it is one too many.
	Trigger(ctx context.Context, ask TriggerRequest) (Trigger, error)
}

// Bounds of what callers may ask for. They are trusted with the agent, but a
// mistake of theirs must not be its end.
const (
	maxConns      = 32
	maxBody       = 1 << 20 // bytes
	maxHeader     = 16 << 10
	headerTimeout = 5 * time.Second
	bodyTimeout   = 10 * time.Second
	idleTimeout   = 30 * time.Second
	writeTimeout  = 30 * time.Second // of one piece of an answer
	drainTimeout  = time.Second      // for callers to take their answers, when Serve ends
	endTimeout    = 5 * time.Second  // for the backend to notice that
)

// Server is the agent's end.
type Server struct {
	// Redactor masks all that is sent. It may be nil, and is set before Serve.
	Redactor *secret.Redactor

	listener *local.Listener
	host     string // what the Host header must be, "" for a socket
	log      zerolog.Logger

	mu      sync.Mutex
	closing bool
	calls   sync.WaitGroup
}

// Listen opens the place at which the agent can be reached; callers wait there
// until Serve. The caller holds the lock of the agent's state directory.
func Listen(ctx context.Context, where Where, cfg Config, log zerolog.Logger) (*Server, error) {
	l, err := local.Listen(ctx, where, cfg)
	if err != nil {
		return nil, err
	}
	s := &Server{listener: l, log: log.With().Str("part", "control").Logger()}
	if l.Token != "" {
		s.host = l.Addr().String()
	}
	return s, nil
}

// Close gives the place up. Serve does it, too; closing again does nothing.
func (s *Server) Close() error { return s.listener.Close() }

// Serve answers until ctx ends, and then returns when the calls that are under
// way have ended, whose ctx has ended likewise. It may be called once.
func (s *Server) Serve(ctx context.Context, b Backend) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	srv := &http.Server{
		Handler:           s.handler(b),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          stdlog.New(httpLog{s.log}, "", 0),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	drained := make(chan error, 1)
	go func() {
		<-ctx.Done()
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		if srv.Shutdown(limit) != nil {
			_ = srv.Close() // cuts off who would not leave
		}
		drained <- s.ended()
	}()
	err := srv.Serve(limitConns(s.listener, maxConns))
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	cancel()
	return errors.Join(err, <-drained)
}

// enter counts a call, unless it comes too late.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closing {
		s.calls.Add(1)
	}
	return !s.closing
}

// ended waits for the last call.
func (s *Server) ended() error {
	s.mu.Lock()
	s.closing = true
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.calls.Wait()
		close(done)
	}()
	timer := time.NewTimer(endTimeout)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
		return errors.New("control: a call did not end in time")
	}
}

// httpLog says what net/http has to say, which is of callers' mistakes.
type httpLog struct{ log zerolog.Logger }

func (l httpLog) Write(p []byte) (int, error) {
	l.log.Warn().Msg(strings.TrimSpace(string(p)))
	return len(p), nil
}

// limitedListener accepts so many connections at a time. The next ones wait
// outside; those that do nothing are closed by the server's timeouts.
type limitedListener struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	close  func() error
}

func limitConns(l net.Listener, most int) *limitedListener {
	closed := make(chan struct{})
	return &limitedListener{l, make(chan struct{}, most), closed, sync.OnceValue(func() error {
		close(closed)
		return l.Close()
	})}
}

func (l *limitedListener) Close() error { return l.close() }

func (l *limitedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{conn, sync.OnceFunc(func() { <-l.slots })}, nil
}

type limitedConn struct {
	net.Conn
	release func()
}

func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

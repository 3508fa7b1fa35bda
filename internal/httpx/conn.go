package httpx

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// epoch makes monotonic instants fit into an atomic integer.
var epoch = time.Now()

func now() int64 { return int64(time.Since(epoch)) }

// conn notes when bytes last moved, and when the first came in after a request
// was sent.
type conn struct {
	net.Conn
	moved    atomic.Int64
	asked    atomic.Bool
	answered atomic.Int64           // 0 when nothing came yet
	closed   func()                 // told once that the connection is over; may be nil
	over     atomic.Pointer[func()] // told that it is, for the request that uses it
}

func (c *conn) Close() error {
	err := c.Conn.Close()
	if over := c.over.Load(); over != nil {
		(*over)()
	}
	if c.closed != nil {
		c.closed()
	}
	return err
}

var buffers = sync.Pool{New: func() any { b := make([]byte, copyBuffer); return &b }}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.moved.Store(now())
		if c.asked.Load() {
			c.answered.CompareAndSwap(0, now())
		}
	}
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if n > 0 {
		c.moved.Store(now())
	}
	return n, err
}

// ReadFrom sends a plain request's body in pieces of copyBuffer bytes; the
// transport itself would use 32 KiB.
func (c *conn) ReadFrom(r io.Reader) (int64, error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	return io.CopyBuffer(struct{ io.Writer }{c}, r, *buf)
}

// dialer connects; with local it refuses every address that is not this machine's
// own, after names were resolved, so that no name can talk its way around it.
// connecting is told of each connection, unless it is nil.
func dialer(timeout time.Duration, local bool, connecting Connecting) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		d := &net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}
		d.ControlContext = func(_ context.Context, _, address string, _ syscall.RawConn) error {
			if ap, err := netip.ParseAddrPort(address); local && (err != nil || !ap.Addr().Unmap().WithZone("").IsLoopback()) {
				return fmt.Errorf("%w to %s", errPlain, address)
			}
			return nil
		}
		c, closed, err := dial(ctx, d, network, address, connecting)
		if err != nil {
			return nil, err
		}
		if tcp, ok := c.(*net.TCPConn); ok {
			// What was given up must not arrive: on a thin line the kernel would go
			// on sending what it holds, and the server would take a request as whole
			// whose repetition is under way already.
			_ = tcp.SetLinger(0)
			limitUnsent(tcp)
		}
		w := &conn{Conn: c, closed: closed}
		w.moved.Store(now())
		return w, nil
	}
}

// dial connects, and says what to call when the connection is over (or nil).
func dial(ctx context.Context, d *net.Dialer, network, address string, connecting Connecting) (c net.Conn, closed func(), err error) {
	if connecting == nil {
		c, err = d.DialContext(ctx, network, address)
		return c, nil, err
	}
	ours := &own{connecting: connecting}
	c, err = ours.connect(ctx, d, network, address)
	return c, ours.connected(c), err
}

// watch cancels a request when its connection is silent for too long, or when a
// reply that has begun does not end. It begins when the request has a
// connection: waiting for one is bounded by the connect timeout, and waiting for
// a free one is not silence.
type watch struct {
	idle   time.Duration
	think  time.Duration // on top of idle, once the whole request is sent
	cancel context.CancelCauseFunc
	over   func() // is told that the connection is closed; nil: nobody is

	mu      sync.Mutex
	conn    *conn
	timer   *time.Timer
	paused  bool
	stopped bool
}

// start may be called again: the transport takes another connection when the
// first one proves dead before anything was written.
func (w *watch) start(c net.Conn) {
	for {
		if inner, ok := c.(interface{ NetConn() net.Conn }); ok {
			c = inner.NetConn()
			continue
		}
		break
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conn, _ = c.(*conn)
	if w.conn == nil || w.stopped {
		return
	}
	w.conn.moved.Store(now())
	w.conn.asked.Store(false)
	w.conn.answered.Store(0)
	w.conn.over.Store(nil)
	if w.over != nil {
		w.conn.over.Store(&w.over)
	}
	if w.timer == nil {
		w.timer = time.AfterFunc(w.idle, w.check)
	}
}

// pause holds the clock, or lets it begin anew.
func (w *watch) pause(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.paused = on
	if w.conn != nil {
		w.conn.moved.Store(now())
	}
}

// took is told how long a body was of which that was not known before.
func (w *watch) took(size int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.think = thinking(size)
}

// asked is told when the whole request is sent. What comes in before is no reply:
// "100 Continue", or TLS talking to itself.
func (w *watch) asked() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		w.conn.asked.Store(true)
	}
}

// answered is told when the reply's header is there, which may be early.
func (w *watch) answered() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conn != nil {
		w.conn.answered.CompareAndSwap(0, now())
	}
}

func (w *watch) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	if w.paused {
		w.timer.Reset(w.idle)
		return
	}
	idle := w.idle
	if w.conn.asked.Load() && w.conn.answered.Load() == 0 {
		idle += w.think
	}
	left := idle - time.Duration(now()-w.conn.moved.Load())
	if left <= 0 {
		w.cancel(errIdle)
		return
	}
	if first := w.conn.answered.Load(); first != 0 {
		ends := w.idle - time.Duration(now()-first)
		if ends <= 0 {
			w.cancel(errSlow)
			return
		}
		left = min(left, ends)
	}
	w.timer.Reset(left)
}

func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	if w.timer != nil {
		w.timer.Stop()
	}
}

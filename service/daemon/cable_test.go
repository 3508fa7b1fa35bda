package daemon

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"capagent/capture"
	"capagent/internal/packet"
	"capagent/internal/pcapio"
	"capagent/service"
)

// cable stands in for interfaces where time is simulated.
type cable struct {
	mu     sync.Mutex
	broken error // what open says
	opened []time.Time
	tries  int
	now    *plugged
	next   uint64 // number of the packet that is sent next
	times  []time.Time
}

func (c *cable) open(ctx context.Context, o capture.Options) (capture.Source, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tries++
	if c.broken != nil {
		return nil, c.broken
	}
	c.opened = append(c.opened, time.Now())
	c.now = &plugged{ctx: ctx, options: o, in: make(chan any, 1000), dead: make(chan error, 1)}
	return c.now, nil
}

func (c *cable) set(broken error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = broken
}

// send sends numbered packets, each of 1000 bytes, one a millisecond.
func (c *cable) send(n int) {
	for range n {
		data := make([]byte, 1000)
		c.mu.Lock()
		binary.BigEndian.PutUint64(data[20:], c.next)
		c.next++
		c.times = append(c.times, time.Now())
		to := c.now
		c.mu.Unlock()
		to.in <- packet.Packet{Time: time.Now().UnixNano(), Data: data, Length: 1000}
		time.Sleep(time.Millisecond)
	}
}

// between returns the numbers of the packets that were sent between two times.
func (c *cable) between(from, to time.Time) (all []uint64) {
	for i, t := range c.times {
		if !t.Before(from) && !t.After(to) {
			all = append(all, uint64(i))
		}
	}
	return all
}

// tell has an event happen.
func (c *cable) tell(e capture.Event) {
	e.Time = time.Now()
	c.now.in <- e
}

// plugged is a source.
type plugged struct {
	ctx     context.Context
	options capture.Options
	in      chan any // packets and events
	dead    chan error
	mu      sync.Mutex
	count   uint64
	closed  atomic.Bool
}

func (p *plugged) Read(batch []packet.Packet) (int, error) {
	timer := time.NewTimer(capture.Idle)
	defer timer.Stop()
	select {
	case v := <-p.in:
		return p.take(v, batch), nil
	case err := <-p.dead:
		return 0, err
	case <-timer.C:
		return 0, nil
	case <-p.ctx.Done():
		select {
		case v := <-p.in:
			return p.take(v, batch), nil
		default:
			return 0, io.EOF
		}
	}
}

func (p *plugged) take(v any, batch []packet.Packet) int {
	if e, ok := v.(capture.Event); ok {
		p.options.Event(e)
		return 0
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count++
	batch[0] = v.(packet.Packet)
	return 1
}

func (p *plugged) Interfaces() []packet.Interface {
	return []packet.Interface{{Name: p.options.Interfaces[0], LinkType: 1, SnapLen: p.options.Snap(), Filter: p.options.Filter}}
}

func (p *plugged) Stats() []packet.Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return []packet.Stats{{Received: p.count}}
}

func (p *plugged) Close() error {
	p.closed.Store(true)
	return nil
}

// capturing is a configuration with a capture of 10 packets a file.
func capturing(name string) service.CaptureConfig {
	var c service.CaptureConfig
	c.SetDefaults()
	c.Name, c.Interface, c.Rotate.Packets = name, "eth0", 10
	return c
}

// kept returns the numbers of all packets in the spool, and fails the test where
// one is there twice.
func (r *rig) kept(t testing.TB) []uint64 {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(r.opts.Config.SpoolDir(), "*.pcap*"))
	if err != nil {
		t.Fatal(err)
	}
	var all []uint64
	for _, path := range files {
		all = append(all, numbers(t, path)...)
	}
	slices.Sort(all)
	if n := len(slices.Compact(slices.Clone(all))); n != len(all) {
		t.Errorf("%d packets are there twice", len(all)-n)
	}
	return all
}

func numbers(t testing.TB, path string) (all []uint64) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	in, err := pcapio.NewReader(f)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	var p pcapio.Packet
	for {
		if err := in.Next(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, binary.BigEndian.Uint64(p.Data[20:]))
	}
}

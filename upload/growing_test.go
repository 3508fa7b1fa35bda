package upload

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capagent/internal/config"
	"capagent/internal/failure"
	"capagent/internal/ledger"
	"capagent/upload/cloudsharktest"
)

// growing is a capture file that is written in front of the step's eyes.
type growing struct {
	*rig
	t    *testing.T
	f    *os.File
	name string // the session's
}

func (r *rig) grow(t *testing.T) *growing {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "lan_1.pcapng"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close(); r.step.Close() })
	reader, err := os.Open(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	g := &growing{rig: r, t: t, f: f}
	g.name = r.step.Stream(reader, g.about(), "")
	return g
}

// about is what is known of the capture before it has ended.
func (g *growing) about() ledger.Capture {
	c := ledger.Capture{Source: "capture:lan", Path: g.f.Name(), Name: "lan_1.pcapng", Tags: []string{"live"}, Comment: "why"}
	c.First = captureTime
	return c
}

func (g *growing) write(b []byte) {
	g.t.Helper()
	if _, err := g.f.Write(b); err != nil {
		g.t.Fatal(err)
	}
}

// record is what the ledger has of the complete file.
func (g *growing) record() ledger.Capture {
	c, about := captureOf(g.t, g.f.Name()), g.about()
	c.Source, c.Name, c.Tags, c.Comment, c.SessionName = about.Source, about.Name, about.Tags, about.Comment, g.name
	return c
}

func (g *growing) eventually(what string, done func() bool) {
	g.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			g.t.Fatalf("never: %s\n%s", what, g.log.String())
		}
	}
}

func (g *growing) open() bool {
	g.step.mu.Lock()
	defer g.step.mu.Unlock()
	return g.step.streams[g.name] != nil
}

func (g *growing) sentSoFar() int64 {
	g.step.mu.Lock()
	defer g.step.mu.Unlock()
	if st := g.step.streams[g.name]; st != nil {
		return st.tail.out.Load()
	}
	return -1
}

// once checks that the server has the capture, and has it once.
func (g *growing) once(c ledger.Capture, result ledger.Result) cloudsharktest.Session {
	g.t.Helper()
	s, stored := g.stored(g.t)
	want, err := os.ReadFile(c.Path)
	if err != nil {
		g.t.Fatal(err)
	}
	if s.ID != result.SessionID || s.Filename != g.name || !bytes.Equal(stored, want) || len(s.Tags) != 1 {
		g.t.Errorf("%+v for %+v, %d bytes of %d", s, result, len(stored), len(want))
	}
	return s
}

func TestAFileIsSentWhileItGrows(t *testing.T) {
	g := newRig(t).grow(t)
	data := pcapng(50, 1000)
	for i := 0; i < len(data); i += 10_000 {
		g.write(data[i:min(len(data), i+10_000)])
		g.eventually("it is sent", func() bool { return g.sentSoFar() == int64(min(len(data), i+10_000)) })
	}
	if all := g.Sessions(); len(all) != 0 {
		t.Fatalf("a session before the end: %+v", all)
	}
	c := g.record()
	result, err := g.step.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	s := g.once(c, result)
	if !strings.HasPrefix(g.name, "sensor1-capture_lan-20260102T030405Z-") || strings.Contains(g.name, c.SHA256[:12]) {
		t.Errorf("it is called %s", g.name)
	}
	if s.Comments != "why\nfile: \"lan_1.pcapng\"\nsent while it was captured" {
		t.Errorf("%q", s.Comments)
	}
	all := g.Requests()
	if len(all) != 1 || all[0].ContentLength != -1 || all[0].Method != "PUT" {
		t.Errorf("%+v", all)
	}
	if g.sent.Load() != c.Size {
		t.Errorf("%d bytes are counted", g.sent.Load())
	}
	if _, found, err := g.step.Find(t.Context(), c); !found || err != nil {
		t.Error(found, err)
	}
}

// Whatever the server does, there is one session in the end, of the whole file.
func TestEveryFaultOfAStream(t *testing.T) {
	for _, text := range []string{
		"status", "status:code=413,text=x", "bad-token", "bad-token:early=true", "login", "too-large:early=true", "quota", "busy",
		"error", "reset-mid-body", "accept-drop", "accept-drop:rst=true", "html-200", "html-200:accept=true", "html-200:early=true",
		"bad-id:accept=true", "redirect", "truncated-json", "hang", "accept-hang", "slow-reply",
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			fault, err := cloudsharktest.ParseFault(text)
			if err != nil {
				t.Fatal(err)
			}
			fault.Method, fault.Times, fault.Delay = "upload", 1, 30*time.Millisecond
			r := newRig(t)
			r.strict = false // it sees half a file, as it must
			if strings.Contains("hang accept-hang slow-reply", fault.Name) {
				shorten(t, r, 300*time.Millisecond)
			}
			r.SetFault(fault)
			g := r.grow(t)
			data := pcapng(200, 1000)
			g.write(data[:150_000])
			g.eventually("the server has met it", func() bool { return len(r.Requests()) > 0 || g.sentSoFar() == 150_000 || !g.open() })
			g.write(data[150_000:])
			c := g.record()
			g.once(c, r.persist(t, c))
		})
	}
}

// A server that is away at first, and one that goes away.
func TestABrokenStreamFallsBackToTheFile(t *testing.T) {
	r := newRig(t)
	fault, _ := cloudsharktest.ParseFault("reset-mid-body")
	fault.Method, fault.Times = "upload", 1
	r.SetFault(fault)
	r.strict = false
	g := r.grow(t)
	data := pcapng(200, 1000)
	g.write(data[:100_000])
	g.eventually("it breaks", func() bool { return !g.open() })
	g.write(data[100_000:])
	c := g.record()
	result, err := r.step.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	g.once(c, result)
	if log := r.log.String(); strings.Count(log, `"class":"stream"`) != 1 || !strings.Contains(log, "the connection was cut") {
		t.Errorf("told: %s", log)
	}
}

// What went out must be what the ledger has, to the byte.
func TestAStreamOfWhatWasRewrittenIsNotEnded(t *testing.T) {
	r := newRig(t)
	r.strict = false
	g := r.grow(t)
	data := pcapng(50, 1000)
	g.write(data[:20_000])
	g.eventually("it is sent", func() bool { return g.sentSoFar() == 20_000 })
	if _, err := g.f.WriteAt([]byte{0xee}, 19_000); err != nil {
		t.Fatal(err)
	}
	g.write(data[20_000:])
	c := g.record()
	result, err := r.step.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	g.once(c, result)
	if !strings.Contains(r.log.String(), "its SHA-256 differs") {
		t.Error(r.log.String())
	}
}

// A capture over the limits goes in parts, whatever was sent of it before.
func TestAStreamThatOutgrowsTheLimit(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"bytes":   func(c *Config) { c.MaxSize = 30_000 },
		"packets": func(c *Config) { c.MaxPackets = 30 },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(_ *cloudsharktest.Options, c *Config) { change(c) })
			r.strict = false
			g := r.grow(t)
			g.write(pcapng(50, 1000))
			c := g.record()
			if _, err := r.step.Run(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			if g.open() {
				t.Error("the stream is still open")
			}
			if all := r.Sessions(); len(all) != 2 || !strings.Contains(all[0].Filename, "part01of02") {
				t.Errorf("%+v", all)
			}
		})
	}
}

// On a quiet line nothing moves: that is no reason to give up.
func TestAQuietLineIsNoSilence(t *testing.T) {
	r := newRig(t)
	shorten(t, r, 200*time.Millisecond)
	g := r.grow(t)
	data := pcapng(50, 1000)
	g.write(data[:20_000])
	g.eventually("it is sent", func() bool { return g.sentSoFar() == 20_000 })
	time.Sleep(500 * time.Millisecond) // longer than a server may be silent
	g.write(data[20_000:])
	c := g.record()
	result, err := r.step.Run(t.Context(), c)
	if err != nil || len(r.Requests()) != 1 {
		t.Fatal(err, len(r.Requests()))
	}
	g.once(c, result)
}

// Interrupted in its end, a stream may have become a session or not: that is
// looked up, as after every lost answer.
func TestAnInterruptedEndIsLookedUp(t *testing.T) {
	r := newRig(t)
	r.strict = false
	fault, _ := cloudsharktest.ParseFault("accept-hang")
	fault.Method, fault.Times = "upload", 1
	r.SetFault(fault)
	g := r.grow(t)
	g.write(pcapng(50, 1000))
	c := g.record()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		g.eventually("the server has it", func() bool { return len(r.Sessions()) == 1 })
		cancel()
	}()
	if _, err := r.step.Run(ctx, c); err == nil || failure.As(err).Kind == failure.Permanent {
		t.Fatal(err)
	}
	result, found, err := r.step.Find(t.Context(), c)
	if !found || err != nil {
		t.Fatal(found, err)
	}
	g.once(c, result)
}

func TestCloseEndsStreams(t *testing.T) {
	r := newRig(t)
	r.strict = false
	g := r.grow(t)
	g.write(pcapng(5, 100))
	g.eventually("it is sent", func() bool { return g.sentSoFar() > 0 })
	r.step.Close()
	if r.log.String() != "" || g.open() {
		t.Error(r.log.String())
	}
	reader, err := os.Open(g.f.Name())
	if err != nil {
		t.Fatal(err)
	}
	r.step.Stream(reader, g.about(), "late")
	if _, err := reader.Read(nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a stream after Close: %v", err)
	}
}

func TestAnAbandonedStreamIsNoSession(t *testing.T) {
	r := newRig(t)
	r.strict = false
	g := r.grow(t)
	g.write(pcapng(5, 100))
	g.eventually("it is sent", func() bool { return g.sentSoFar() > 0 })
	r.step.Abandon(g.name)
	r.step.Abandon("nothing")
	if len(r.Sessions()) != 0 || r.log.String() != "" {
		t.Error(r.Sessions(), r.log.String())
	}
}

// Uploads of files go on beside streams, however few connections there may be.
func TestStreamsLeaveRoomForUploads(t *testing.T) {
	r := newRig(t, func(_ *cloudsharktest.Options, c *Config) {
		c.Concurrency, c.Stream, c.Timeout = 1, true, config.Duration(2*time.Second)
	})
	r.strict = false
	for range 3 {
		g := r.grow(t)
		g.write(pcapng(5, 100))
		g.eventually("it is sent", func() bool { return g.sentSoFar() > 0 })
	}
	if _, err := r.step.Run(t.Context(), capture(t, pcap(3, 100))); err != nil {
		t.Fatal(err)
	}
}

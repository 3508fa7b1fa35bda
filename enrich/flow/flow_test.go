package flow_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"capagent/enrich/flow"
	"capagent/enrich/frame"
	"capagent/enrich/indicator"
	"capagent/enrich/stream"
)

// recorder is a parser that notes all it is told.
type recorder struct {
	got     [2][]byte
	frames  [2][]int64 // of each byte
	log     []string
	closed  bool
	verdict stream.Verdict
	failing bool
}

func (r *recorder) Data(from stream.Side, b []byte, at indicator.At) stream.Verdict {
	if r.failing {
		panic("parser")
	}
	r.got[from] = append(r.got[from], b...)
	for range b {
		r.frames[from] = append(r.frames[from], at.Frame)
	}
	return r.verdict
}

func (r *recorder) Gap(from stream.Side, n int64, _ indicator.At) stream.Verdict {
	r.log = append(r.log, fmt.Sprintf("gap %d %d", from, n))
	r.got[from] = append(r.got[from], '_')
	return stream.More
}

func (r *recorder) End(from stream.Side, at indicator.At) {
	r.log = append(r.log, fmt.Sprintf("end %d %d", from, at.Frame))
}

func (r *recorder) Close(at indicator.At) {
	if r.closed {
		panic("closed twice")
	}
	r.closed = true
	r.log = append(r.log, fmt.Sprintf("close %d", at.Frame))
}

// wire sends segments into a Table.
type wire struct {
	*flow.Table
	set     *indicator.Set
	parsers []*recorder
	conns   []stream.Conn
	at      indicator.At
	next    recorder
	refuse  bool
}

func newWire() *wire {
	w := &wire{set: indicator.New()}
	w.Table = flow.New(w.set, func(c stream.Conn, _ stream.Side, _ []byte) (stream.Parser, string) {
		if w.refuse {
			return nil, ""
		}
		r := w.next
		w.parsers, w.conns = append(w.parsers, &r), append(w.conns, c)
		return &r, "test"
	})
	return w
}

func address(last byte) frame.Addr {
	return frame.Addr{10: 0xff, 11: 0xff, 12: 192, 13: 0, 14: 2, 15: last}
}

// client is port 40000 of .1, the server port 80 of .2.
func (w *wire) send(from stream.Side, s flow.Segment) {
	w.at.Frame++
	w.at.Time += 1000
	if s.Length == 0 {
		s.Length = len(s.Data)
	}
	d := frame.Datagram{Src: address(1), Dst: address(2), Proto: frame.TCP}
	src, dst := uint16(40000), uint16(80)
	if from == stream.Server {
		d.Src, d.Dst, src, dst = d.Dst, d.Src, dst, src
	}
	f, side := w.Packet(&d, src, dst, 60+len(s.Data), w.at)
	w.Segment(f, side, &s, w.at)
}

func (w *wire) shake(client, server uint32) {
	w.send(stream.Client, flow.Segment{Seq: client, SYN: true})
	w.send(stream.Server, flow.Segment{Seq: server, Ack: client + 1, SYN: true, ACK: true})
	w.send(stream.Client, flow.Segment{Seq: client + 1, Ack: server + 1, ACK: true})
}

// TestBytesComeInTheirOrder: however segments are cut, mixed, repeated and
// overlapped, the parser gets each byte once, in order, with the frame in which
// the bytes up to it were complete.
func TestBytesComeInTheirOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		content := rapid.SliceOfN(rapid.Byte(), 1, 3000).Draw(t, "content")
		initial := rapid.Uint32().Draw(t, "initial")
		type cut struct{ from, to int }
		var cuts []cut
		for at := 0; at < len(content); {
			to := min(len(content), at+rapid.IntRange(1, 400).Draw(t, "length"))
			cuts = append(cuts, cut{max(0, at-rapid.IntRange(0, 20).Draw(t, "overlap")), to})
			at = to
		}
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		window := rapid.IntRange(1, len(cuts)).Draw(t, "window")
		for i := 0; i < len(cuts); i += window {
			part := cuts[i:min(len(cuts), i+window)]
			random.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
		}
		for range rapid.IntRange(0, 3).Draw(t, "again") {
			cuts = append(cuts, cuts[rapid.IntRange(0, len(cuts)-1).Draw(t, "which")])
		}
		w := newWire()
		w.shake(initial, 7)
		complete := make([]int64, len(content))
		have := make([]bool, len(content))
		done := 0
		for _, c := range cuts {
			w.send(stream.Client, flow.Segment{Seq: initial + 1 + uint32(c.from), Ack: 8, ACK: true, Data: content[c.from:c.to]})
			for i := c.from; i < c.to; i++ {
				have[i] = true
			}
			for ; done < len(content) && have[done]; done++ {
				complete[done] = w.at.Frame
			}
		}
		w.send(stream.Client, flow.Segment{Seq: initial + 1 + uint32(len(content)), Ack: 8, ACK: true, FIN: true})
		fin := w.at.Frame
		w.send(stream.Server, flow.Segment{Seq: 8, Ack: initial + 2 + uint32(len(content)), ACK: true, FIN: true})
		w.Close()
		p := w.parsers[0]
		if !bytes.Equal(p.got[0], content) {
			t.Fatalf("got %d bytes of %d", len(p.got[0]), len(content))
		}
		if !slices.Equal(p.frames[0], complete) {
			t.Fatalf("frames %v, want %v", p.frames[0], complete)
		}
		want := []string{fmt.Sprintf("end 0 %d", fin), fmt.Sprintf("end 1 %d", fin+1), fmt.Sprintf("close %d", fin+1)}
		if diff := cmp.Diff(want, p.log); diff != "" {
			t.Fatal(diff)
		}
		if w.set.Used() != 0 {
			t.Fatalf("%d bytes are not given back", w.set.Used())
		}
	})
}

func TestBytesThatAreMissingForGood(t *testing.T) {
	t.Run("acknowledged and never seen", func(t *testing.T) {
		w := newWire()
		w.shake(0, 0)
		w.send(stream.Client, flow.Segment{Seq: 1, Data: []byte("abc")})
		w.send(stream.Client, flow.Segment{Seq: 7, Data: []byte("ghi")})
		w.send(stream.Server, flow.Segment{Seq: 1, Ack: 10, ACK: true})
		if got := string(w.parsers[0].got[0]); got != "abc" {
			t.Errorf("%q before its time", got)
		}
		w.at.Time += 2_000_000_000
		w.send(stream.Client, flow.Segment{Seq: 10, Data: []byte("jkl")})
		if got := string(w.parsers[0].got[0]); got != "abc_ghijkl" {
			t.Errorf("%q", got)
		}
		if f := w.parsers[0].frames[0]; f[3] != 5 || f[8] != 7 { // each with its own frame
			t.Errorf("%v", f)
		}
	})
	t.Run("at the end", func(t *testing.T) {
		w := newWire()
		w.shake(0, 0)
		w.send(stream.Client, flow.Segment{Seq: 1, Data: []byte("abc")})
		w.send(stream.Client, flow.Segment{Seq: 7, Data: []byte("ghi"), FIN: true})
		w.Close()
		if diff := cmp.Diff([]string{"gap 0 3", "end 0 5", "close 5"}, w.parsers[0].log); diff != "" || string(w.parsers[0].got[0]) != "abc_ghi" {
			t.Error(diff, string(w.parsers[0].got[0]))
		}
	})
	t.Run("not captured", func(t *testing.T) {
		w := newWire()
		w.send(stream.Client, flow.Segment{Seq: 1, Data: []byte("abc"), Length: 9})
		w.send(stream.Client, flow.Segment{Seq: 10, Data: []byte("jkl")})
		if got := string(w.parsers[0].got[0]); got != "abc_jkl" || w.parsers[0].log[0] != "gap 0 6" {
			t.Errorf("%q %v", got, w.parsers[0].log)
		}
	})
	t.Run("too much waits", func(t *testing.T) {
		w := newWire()
		w.shake(0, 0)
		w.send(stream.Client, flow.Segment{Seq: 1, Data: []byte("abc")})
		for n := range 2000 {
			w.send(stream.Client, flow.Segment{Seq: uint32(1000 + n*1000), Data: make([]byte, 1000)})
		}
		if w.set.Used() > 3<<19 || w.set.Limits()[flow.LimitAhead] == 0 {
			t.Errorf("%d bytes wait, %v", w.set.Used(), w.set.Limits())
		}
		w.Close()
		if len(w.parsers[0].got[0]) != 2000*1000+4 || w.set.Used() != 0 {
			t.Errorf("%d bytes, %d not given back", len(w.parsers[0].got[0]), w.set.Used())
		}
	})
}

func TestWhoTheClientIs(t *testing.T) {
	t.Run("a SYN tells", func(t *testing.T) {
		w := newWire()
		w.send(stream.Server, flow.Segment{Seq: 1, SYN: true}) // port 80 calls port 40000
		w.send(stream.Client, flow.Segment{Seq: 5, Ack: 2, SYN: true, ACK: true})
		w.send(stream.Client, flow.Segment{Seq: 6, Data: []byte("hello")})
		if c := w.conns[0]; c.Client != netip.MustParseAddrPort("192.0.2.2:80") || string(w.parsers[0].got[stream.Server]) != "hello" {
			t.Errorf("%+v", c)
		}
	})
	t.Run("its answer tells", func(t *testing.T) {
		w := newWire()
		w.send(stream.Client, flow.Segment{Seq: 5, Ack: 2, SYN: true, ACK: true})
		w.send(stream.Client, flow.Segment{Seq: 6, Data: []byte("hello")})
		if c := w.conns[0]; c.Server != netip.MustParseAddrPort("192.0.2.1:40000") {
			t.Errorf("%+v", c)
		}
	})
	t.Run("in the middle the lower port is the server's", func(t *testing.T) {
		w := newWire()
		w.send(stream.Server, flow.Segment{Seq: 5, Data: []byte("hello")})
		if c := w.conns[0]; c.Server != netip.MustParseAddrPort("192.0.2.2:80") || string(w.parsers[0].got[1]) != "hello" {
			t.Errorf("%+v", c)
		}
	})
}

func TestAnotherConnectionBetweenTheSamePorts(t *testing.T) {
	w := newWire()
	w.shake(100, 200)
	w.send(stream.Client, flow.Segment{Seq: 101, Data: []byte("one")})
	w.send(stream.Client, flow.Segment{Seq: 100, SYN: true}) // once more
	w.shake(9000, 9500)
	w.send(stream.Client, flow.Segment{Seq: 9001, Data: []byte("two")})
	w.send(stream.Server, flow.Segment{Seq: 9501, RST: true})
	w.send(stream.Client, flow.Segment{Seq: 9004, Data: []byte("late")})
	if len(w.parsers) != 2 || string(w.parsers[0].got[0]) != "one" || string(w.parsers[1].got[0]) != "two" || !w.parsers[0].closed || !w.parsers[1].closed {
		t.Errorf("%d parsers", len(w.parsers))
	}
}

// TestWhatAnEarlierConnectionHasLeft: an ACK, and the RST that answers it, that
// belong to a connection of long ago end nothing.
func TestWhatAnEarlierConnectionHasLeft(t *testing.T) {
	w := newWire()
	w.send(stream.Client, flow.Segment{Seq: 100, SYN: true})
	w.send(stream.Server, flow.Segment{Seq: 9_000_000, Ack: 2_497_211_857, ACK: true})
	w.send(stream.Client, flow.Segment{Seq: 2_497_211_857, RST: true})
	w.shake(100, 200)
	w.send(stream.Client, flow.Segment{Seq: 101, Ack: 201, ACK: true, Data: []byte("one")})
	w.at.Time += 5_000_000_000
	w.send(stream.Client, flow.Segment{Seq: 107, Ack: 201, ACK: true, Data: []byte("three")})
	w.send(stream.Client, flow.Segment{Seq: 104, Ack: 201, ACK: true, Data: []byte("two")})
	if len(w.parsers) != 1 || string(w.parsers[0].got[0]) != "onetwothree" {
		t.Fatalf("%d parsers", len(w.parsers))
	}
}

func TestVerdicts(t *testing.T) {
	w := newWire()
	w.next.verdict = stream.Again
	w.shake(0, 0)
	w.send(stream.Client, flow.Segment{Seq: 1, Data: []byte("one")})
	w.next.verdict = stream.Done
	w.send(stream.Client, flow.Segment{Seq: 4, Data: []byte("two")})
	w.send(stream.Client, flow.Segment{Seq: 7, Data: []byte("three")})
	if len(w.parsers) != 2 || !w.parsers[0].closed || !w.parsers[1].closed || string(w.parsers[1].got[0]) != "two" {
		t.Errorf("%d parsers", len(w.parsers))
	}
}

func TestAFaultOfAParserIsCounted(t *testing.T) {
	w := newWire()
	w.next.failing = true
	w.shake(0, 0)
	w.send(stream.Client, flow.Segment{Seq: 1, Data: []byte("one")})
	w.send(stream.Client, flow.Segment{Seq: 4, Data: []byte("two")})
	if diff := cmp.Diff(map[string]int64{"test": 1}, w.Panics()); diff != "" || !w.parsers[0].closed {
		t.Error(diff)
	}
}

func TestFlowsAreBoundedAndCounted(t *testing.T) {
	w := newWire()
	d := frame.Datagram{Proto: frame.TCP, Dst: address(9)}
	for n := range flow.MaxFlows + 10 {
		d.Src = address(byte(n % 200))
		at := indicator.At{Frame: int64(n + 1), Time: int64(n)}
		if n == flow.MaxFlows+5 {
			at.Time += 1_000_000_000_000 // the others are long silent
		}
		f, from := w.Packet(&d, uint16(n%50000+1), uint16(n/50000+1), 100, at)
		w.Segment(f, from, &flow.Segment{SYN: true}, at)
	}
	s := w.Close()
	if s.Flows != flow.MaxFlows+10 || w.set.Limits()[flow.LimitFlows] != 9 {
		t.Errorf("%d flows, %v", s.Flows, w.set.Limits())
	}
	want := []flow.Protocol{{Name: "tcp", Flows: flow.MaxFlows + 10, Packets: flow.MaxFlows + 10, Bytes: 100 * (flow.MaxFlows + 10)}}
	if diff := cmp.Diff(want, s.Protocols); diff != "" {
		t.Error(diff)
	}
	if s.Talkers[0].Address.String() != "192.0.2.9" || s.Talkers[0].Received != 100*(flow.MaxFlows+10) {
		t.Errorf("%+v", s.Talkers[0])
	}
	for _, i := range w.set.List() {
		if i.Value == "192.0.2.9" && (i.Count != flow.MaxFlows+10 || i.Role != indicator.Destination|indicator.Source) {
			t.Errorf("%+v", i)
		}
	}
}

// TestCommunityIDs: values of the specification's reference implementation.
func TestCommunityIDs(t *testing.T) {
	for _, tc := range []struct {
		proto    uint8
		src, dst string
		want     string
	}{
		{6, "128.232.110.120:34855", "66.35.250.204:80", "1:LQU9qZlK+B5F3KDmev6m5PMibrg="},
		{6, "66.35.250.204:80", "128.232.110.120:34855", "1:LQU9qZlK+B5F3KDmev6m5PMibrg="},
		{17, "192.168.1.52:54585", "8.8.8.8:53", "1:d/FP5EW3wiY1vCndhwleRRKHowQ="},
		{1, "192.168.0.89:8", "192.168.0.1:0", "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="},
		{1, "192.168.0.1:0", "192.168.0.89:8", "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="},
	} {
		if got := flow.CommunityID(netip.MustParseAddrPort(tc.src), netip.MustParseAddrPort(tc.dst), tc.proto); got != tc.want {
			t.Errorf("%s %s: %s, want %s", tc.src, tc.dst, got, tc.want)
		}
	}
}

func TestPacketsOfAFlowCostNoMemory(t *testing.T) {
	w := newWire()
	w.refuse = true
	w.shake(0, 0)
	data := make([]byte, 1400)
	seq := uint32(1)
	send := func() {
		w.send(stream.Client, flow.Segment{Seq: seq, Data: data})
		seq += 1400
	}
	for range 100 {
		send()
	}
	if n := testing.AllocsPerRun(100, send); n > 1 { // the test's own segment
		t.Errorf("%v allocations", n)
	}
}

func FuzzSegments(f *testing.F) {
	f.Add([]byte{0, 2, 0, 0, 1, 0x12, 0, 0, 0, 0x10, 1, 9, 0, 0x10, 4, 5, 1, 0x11, 0, 0})
	f.Add([]byte("\x00\x02\x00\x00\x00\x10\x20\x30\x00\x10\x01\x30\x00\x04\x00\x00"))
	f.Fuzz(func(t *testing.T, script []byte) {
		w := newWire()
		for len(script) >= 4 {
			flags := script[1]
			w.at.Time += int64(script[1]) * 50_000_000
			w.send(stream.Side(script[0]&1), flow.Segment{
				Seq: uint32(script[2]) * 3, Ack: uint32(script[3]) * 3,
				FIN: flags&1 != 0, SYN: flags&2 != 0, RST: flags&4 != 0, ACK: flags&16 != 0,
				Data: make([]byte, script[3]&63), Length: int(script[3]&63) + int(script[0]>>6),
			})
			script = script[4:]
		}
		w.Close()
		for _, p := range w.parsers {
			if !p.closed {
				t.Fatal("a parser was not closed")
			}
		}
		if w.set.Used() != 0 {
			t.Fatalf("%d bytes are not given back", w.set.Used())
		}
		if len(w.Panics()) > 0 {
			t.Fatal(w.Panics())
		}
	})
}

package rotate_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"capagent/internal/config"
	"capagent/internal/packet"
	"capagent/internal/pcapio"
	"capagent/rotate"
	"capagent/rotate/pcapfile"

	"pgregory.net/rapid"
)

const ether, raw = 1, 101

// small are options for tests: nothing needs to survive a power cut.
var small = pcapfile.Options{Buffers: 2, BufferSize: 8192, NoSync: true}

// line is a source of which only is asked.
type line struct {
	interfaces []packet.Interface
	stats      []packet.Stats
}

func (l *line) Interfaces() []packet.Interface { return l.interfaces }
func (l *line) Stats() []packet.Stats          { return l.stats }

func newLine(links ...int) *line {
	l := &line{stats: make([]packet.Stats, len(links))}
	for i, link := range links {
		l.interfaces = append(l.interfaces, packet.Interface{Name: fmt.Sprint("if", i), LinkType: link, Filter: "udp", SnapLen: 2000})
	}
	return l
}

// numbered is n packets numbered from first on, in their contents.
func numbered(n int, first, from, step int64) []packet.Packet {
	batch := make([]packet.Packet, n)
	for i := range batch {
		number := first + int64(i)
		data := binary.BigEndian.AppendUint64(make([]byte, 0, 200), uint64(number))
		data = data[:60+number*7%140]
		batch[i] = packet.Packet{Time: from + number*step, Data: data, Length: uint32(len(data))}
	}
	return batch
}

// rig is a Rotator and what it told.
type rig struct {
	t testing.TB
	*rotate.Rotator
	dir    string
	sealed []rotate.Sealed
}

func newRig(t testing.TB, c rotate.Config, l *line, o rotate.Options) *rig {
	t.Helper()
	r := &rig{t: t, dir: o.Dir}
	if r.dir == "" {
		r.dir = t.TempDir()
	}
	if c.Format == "" {
		c.Format = "pcapng"
	}
	o.Dir, o.Config, o.Source = r.dir, c, l
	if o.Name == "" {
		o.Name = "eth0"
	}
	if o.Writer == (pcapfile.Options{}) {
		o.Writer = small
	}
	o.Sealed = func(s rotate.Sealed) { r.sealed = append(r.sealed, s) }
	var err error
	if r.Rotator, err = rotate.New(o); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) write(batch []packet.Packet) {
	r.t.Helper()
	if err := r.Write(batch); err != nil {
		r.t.Fatal(err)
	}
}

// end closes and checks that the directory holds what was told, and nothing else.
func (r *rig) end() []rotate.Sealed {
	r.t.Helper()
	if err := r.Close(); err != nil {
		r.t.Fatal(err)
	}
	var told []string
	for _, s := range r.sealed {
		if s.Path != "" {
			told = append(told, filepath.Base(s.Path))
		}
		if s.Err != nil {
			r.t.Error(s.Err)
		}
	}
	var names []string
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(told)
	if !slices.Equal(told, names) {
		r.t.Fatalf("told were %q, there are %q", told, names)
	}
	return r.sealed
}

// read returns a file's packets.
func read(t testing.TB, path string) []packet.Packet {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := pcapio.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	var all []packet.Packet
	var p pcapio.Packet
	for {
		if err := r.Next(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, packet.Packet{Time: p.Time, Data: bytes.Clone(p.Data), Length: p.OrigLen, Interface: uint32(p.Interface)})
	}
}

func same(want, got []packet.Packet) error {
	for i := range min(len(want), len(got)) {
		a, b := want[i], got[i]
		if a.Time != b.Time || a.Length != b.Length || a.Interface != b.Interface || !bytes.Equal(a.Data, b.Data) {
			return fmt.Errorf("packet %d differs: %d ns instead of %d", i, b.Time, a.Time)
		}
	}
	if len(want) != len(got) {
		return fmt.Errorf("%d packets, written were %d", len(got), len(want))
	}
	return nil
}

// Whatever comes, however the limits are: all files together are what came, and
// each is within its limits.
func TestNothingIsLostOrDoubledAtTheSeams(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		c := rotate.Config{Format: rapid.SampledFrom([]string{"pcap", "pcapng"}).Draw(rt, "format")}
		c.Packets = rapid.SampledFrom([]int{0, 1, 2, 7, 100}).Draw(rt, "packets")
		c.Size = rapid.SampledFrom([]config.Size{0, 20_000, 100_000}).Draw(rt, "size")
		c.Interval = rapid.SampledFrom([]config.Duration{0, config.Duration(time.Second), config.Duration(time.Minute)}).Draw(rt, "interval")
		c.Aligned = c.Interval > 0 && rapid.Bool().Draw(rt, "aligned")
		forward := rapid.Bool().Draw(rt, "times only grow")
		l := newLine(ether, ether)
		r := newRig(t, c, l, rotate.Options{Dir: dir})
		var want []packet.Packet
		now := int64(1795309323e9)
		for range rapid.IntRange(1, 8).Draw(rt, "batches") {
			batch := make([]packet.Packet, rapid.IntRange(0, 40).Draw(rt, "batch"))
			for i := range batch {
				if !forward && rapid.IntRange(0, 9).Draw(rt, "jump") == 0 {
					now += rapid.Int64Range(-3600e9, 3600e9).Draw(rt, "by")
				}
				now += rapid.SampledFrom([]int64{0, 1, 1000, 1e6, 500e6}).Draw(rt, "step")
				size := rapid.SampledFrom([]int{0, 1, 60, 1514, 9000}).Draw(rt, "bytes")
				batch[i] = packet.Packet{
					Time: now, Data: bytes.Repeat([]byte{byte(len(want) + i)}, size), Length: uint32(size),
					Interface: rapid.Uint32Range(0, uint32(len(l.interfaces)-1)).Draw(rt, "interface"),
				}
			}
			r.write(batch)
			want = append(want, batch...)
			switch rapid.IntRange(0, 6).Draw(rt, "between") {
			case 0:
				r.Rotate()
			case 1:
				if len(l.interfaces) < 5 {
					link := rapid.SampledFrom([]int{ether, raw}).Draw(rt, "link")
					l.interfaces = append(slices.Clone(l.interfaces), packet.Interface{Name: "new", LinkType: link})
					l.stats = append(slices.Clone(l.stats), packet.Stats{})
				}
			}
		}
		var got []packet.Packet
		last := ""
		for _, s := range r.end() {
			all := read(t, s.Path)
			info, err := os.Stat(s.Path)
			if err != nil || s.Size != info.Size() || s.Packets != uint64(len(all)) || len(all) == 0 {
				rt.Fatalf("%+v: %d packets, %v", s, len(all), err)
			}
			checkLimits(rt, c, s, all)
			if forward && s.Path <= last {
				rt.Fatalf("%s comes after %s", s.Path, last)
			}
			last = s.Path
			if c.Format == "pcap" {
				for i := range all { // it does not tell them apart
					all[i].Interface = want[len(got)+i].Interface
				}
			}
			got = append(got, all...)
		}
		if c.Format == "pcap" && len(got) == len(want) {
			for i := range got {
				got[i].Interface = want[i].Interface
			}
		}
		if err := same(want, got); err != nil {
			rt.Fatal(err)
		}
		if n := r.Totals(); n.Packets != uint64(len(want)) || n.Lost != 0 || n.Files != uint64(len(r.sealed)) {
			rt.Fatalf("%+v", n)
		}
	})
}

func checkLimits(t *rapid.T, c rotate.Config, s rotate.Sealed, all []packet.Packet) {
	if c.Packets > 0 && (len(all) > c.Packets || s.Reason == rotate.Packets && len(all) != c.Packets) {
		t.Fatalf("%s: %d packets", s.Reason, len(all))
	}
	if c.Size > 0 && s.Size > c.Size.Bytes() && len(all) > 1 {
		t.Fatalf("%d bytes", s.Size)
	}
	first, last := int64(math.MaxInt64), int64(math.MinInt64)
	for _, p := range all {
		first, last = min(first, p.Time), max(last, p.Time)
	}
	if s.First.UnixNano() != first || s.Last.UnixNano() != last {
		t.Fatalf("from %s to %s, told %s to %s", time.Unix(0, first), time.Unix(0, last), s.First, s.Last)
	}
	if length := int64(c.Interval); length > 0 {
		end := all[0].Time + length
		if c.Aligned {
			end = all[0].Time - all[0].Time%length + length
		}
		if last >= end {
			t.Fatalf("a packet %s after the interval", time.Duration(last-end))
		}
	}
}

func TestTheSealTellsAll(t *testing.T) {
	l := newLine(ether)
	l.stats[0] = packet.Stats{Received: 5, Dropped: 1}
	r := newRig(t, rotate.Config{Packets: 10}, l, rotate.Options{Name: "br0/../x y"})
	r.write(numbered(15, 0, 1795309323e9, 1e6))
	l.stats = []packet.Stats{{Received: 20, Dropped: 4}}
	gap := rotate.Gap{Interface: "if0", From: time.Unix(1795309324, 0), To: time.Unix(1795309325, 0), Cause: "the interface was gone"}
	r.Miss(gap)
	all := r.end()
	if len(all) != 2 {
		t.Fatalf("%+v", all)
	}
	if s := all[0]; s.Packets != 10 || s.Reason != rotate.Packets || s.Stats[0] != (packet.Stats{Received: 5, Dropped: 1}) || len(s.Gaps) != 0 {
		t.Errorf("%+v", s)
	}
	s := all[1]
	if s.Packets != 5 || s.Reason != rotate.Ended || s.Stats[0] != (packet.Stats{Received: 15, Dropped: 3}) || len(s.Gaps) != 1 || s.Gaps[0] != gap {
		t.Errorf("%+v", s)
	}
	if i := s.Interfaces[0]; i.Name != "if0" || i.LinkType != ether || i.Filter != "udp" || i.SnapLen != 2000 {
		t.Errorf("%+v", i)
	}
	if name := filepath.Base(s.Path); name != "br0-..-x-y_20261122T010203.010000Z_000001.pcapng" {
		t.Error(name)
	}
	b, _ := os.ReadFile(s.Path)
	if text := "packets are missing of if0 from 2026-11-22T01:02:04Z to 2026-11-22T01:02:05Z: the interface was gone"; !bytes.Contains(b, []byte(text)) {
		t.Error("the file doesn't say", text)
	}
}

func TestWhatWasAskedForIsSealedWhenItIsTold(t *testing.T) {
	r := newRig(t, rotate.Config{Packets: 100}, newLine(ether), rotate.Options{})
	r.write(numbered(3, 0, 0, 1))
	done := r.Rotate()
	r.write(numbered(3, 3, 0, 1))
	<-done
	if len(r.sealed) != 1 || r.sealed[0].Packets != 3 || r.sealed[0].Reason != rotate.Asked {
		t.Errorf("%+v", r.sealed)
	}
	a, b := r.Rotate(), r.Rotate()
	r.write(nil)
	<-a
	<-b
	c := r.Rotate() // nothing is open: no file
	r.write(nil)
	<-c
	last := r.Rotate()
	if all := r.end(); len(all) != 2 {
		t.Errorf("%+v", all)
	}
	<-last
	<-r.Rotate()
}

// A full file doesn't wait for the packet that does not fit into it.
func TestAFullFileIsSealedAtOnce(t *testing.T) {
	r := newRig(t, rotate.Config{Packets: 10}, newLine(ether), rotate.Options{})
	r.write(numbered(10, 0, 0, 1))
	<-asked(r)
	if len(r.sealed) != 1 || r.sealed[0].Reason != rotate.Packets {
		t.Errorf("%+v", r.sealed)
	}
	r.end()
}

func TestFilesThatAreThereStay(t *testing.T) {
	dir := t.TempDir()
	taken := []string{"eth0_19700101T000000.000000Z_000000.pcapng", "eth0_19700101T000000.000000Z_000001.pcapng.part"}
	for _, name := range taken {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := newRig(t, rotate.Config{Packets: 100}, newLine(ether), rotate.Options{Dir: dir})
	r.write(numbered(3, 0, 0, 1))
	if err := r.Close(); err != nil || len(r.sealed) != 1 || !strings.HasSuffix(r.sealed[0].Path, "_000002.pcapng") {
		t.Errorf("%+v, %v", r.sealed, err)
	}
	for _, name := range taken {
		if b, _ := os.ReadFile(filepath.Join(dir, name)); string(b) != "mine" {
			t.Errorf("%s holds %q", name, b)
		}
	}
}

// The name is taken after the file was begun.
func TestASealNeverOverwrites(t *testing.T) {
	r := newRig(t, rotate.Config{Packets: 100}, newLine(ether), rotate.Options{})
	r.write(numbered(3, 0, 0, 1))
	taken := filepath.Join(r.dir, "eth0_19700101T000000.000000Z_000000.pcapng")
	if err := os.WriteFile(taken, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if s := r.sealed[0]; !errors.Is(s.Err, os.ErrExist) || s.Path != taken && len(read(t, s.Path)) != 3 {
		t.Errorf("%+v", s)
	}
	if b, _ := os.ReadFile(taken); string(b) != "mine" {
		t.Errorf("%q", b)
	}
}

func TestNothingIsAllocatedPerPacket(t *testing.T) {
	c := rotate.Config{Size: 1 << 30, Interval: config.Duration(time.Hour)}
	r := newRig(t, c, newLine(ether), rotate.Options{Writer: pcapfile.Options{BufferSize: 64 << 10, NoSync: true}})
	batch := numbered(100, 0, time.Now().UnixNano(), 1)
	r.write(batch)
	if n := testing.AllocsPerRun(100, func() { _ = r.Write(batch) }); n != 0 {
		t.Errorf("%v allocations for 100 packets", n)
	}
	r.end()
}

// Ten thousand files cost no more than ten.
func TestTenThousandFiles(t *testing.T) {
	r := newRig(t, rotate.Config{Packets: 3}, newLine(ether), rotate.Options{})
	var files, packets uint64
	keep := r.sealed
	state := func() (descriptors, goroutines int, heap uint64) {
		<-asked(r)
		fds, _ := os.ReadDir("/proc/self/fd")
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return len(fds), runtime.NumGoroutine(), m.HeapAlloc
	}
	clean := func() {
		<-asked(r)
		for _, s := range r.sealed {
			files, packets = files+1, packets+s.Packets
			if s.Err != nil || os.Remove(s.Path) != nil {
				t.Fatal(s.Err, s.Path)
			}
		}
		r.sealed = keep[:0]
	}
	var fds, goroutines int
	var heap uint64
	for i := range 1000 {
		r.write(numbered(30, int64(i)*30, 0, 1))
		clean()
		if i == 10 {
			fds, goroutines, heap = state()
		}
	}
	fds2, goroutines2, heap2 := state()
	if runtime.GOOS == "windows" {
		fds2 = fds // under Wine those are Wine's own
	}
	if fds2 > fds || goroutines2 > goroutines || heap2 > heap+256<<10 {
		t.Errorf("%d descriptors, %d goroutines, %d bytes became %d, %d, %d", fds, goroutines, heap, fds2, goroutines2, heap2)
	}
	if files != 10_000 || packets != 30_000 {
		t.Errorf("%d files of %d packets", files, packets)
	}
	r.end()
}

func asked(r *rig) <-chan struct{} {
	c := r.Rotate()
	r.write(nil)
	return c
}

package rotate_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"capagent/internal/packet"
	"capagent/internal/pcapio"
	"capagent/rotate"
	"capagent/rotate/pcapfile"
)

// stamped are packets that were captured, with their numbers as contents.
type stamped struct {
	time   int64
	number uint64
	name   string // of the interface
}

// record captures packets of a line between two times into rotated files.
func record(t testing.TB, dir, source string, l *line, c rotate.Config, random *rand.Rand, from, to int64, n int, number *uint64) ([]rotate.Segment, []stamped) {
	t.Helper()
	r := newRig(t, c, l, rotate.Options{Dir: filepath.Join(dir, source), Name: source, Section: pcapio.Section{Application: "capagent 1"}})
	times := make([]int64, n)
	for i := range times {
		times[i] = from + random.Int64N(to-from)
	}
	slices.Sort(times)
	var all []stamped
	batch := make([]packet.Packet, n)
	for i, at := range times {
		data := binary.BigEndian.AppendUint64(make([]byte, 0, 60), *number)
		batch[i] = packet.Packet{Time: at, Data: data[:8+random.IntN(50)], Length: 1500, Interface: uint32(random.IntN(len(l.interfaces)))}
		all = append(all, stamped{at, *number, l.interfaces[batch[i].Interface].Name})
		*number++
	}
	for i := range l.stats {
		l.stats[i].Received = uint64(n)
	}
	r.write(batch)
	var segments []rotate.Segment
	for _, s := range r.end() {
		segment := rotate.Segment{Path: s.Path, First: s.First, Name: source}
		if random.IntN(3) == 0 {
			segment.First = time.Time{} // Window looks itself
		}
		segments = append(segments, segment)
	}
	return segments, all
}

func byTime(a, b stamped) int {
	if a.time != b.time {
		return int(max(-1, min(1, a.time-b.time)))
	}
	return int(a.number) - int(b.number)
}

// stampsOf are the packets of a file.
func stampsOf(t testing.TB, content []byte) (all []stamped, interfaces []pcapio.Interface, stats []pcapio.Stats) {
	t.Helper()
	r, err := pcapio.NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	r.Describe(pcapio.Described{
		Interface: func(i pcapio.Interface) { interfaces = append(interfaces, i) },
		Stats: func(i int, s pcapio.Stats) {
			for len(stats) <= i {
				stats = append(stats, pcapio.Stats{})
			}
			stats[i] = s
		},
	})
	var p pcapio.Packet
	for err == nil {
		if err = r.Next(&p); err == nil {
			s := stamped{time: p.Time, number: binary.BigEndian.Uint64(p.Data[:8:8])}
			if interfaces != nil {
				s.name = interfaces[p.Interface].Name
			}
			if p.OrigLen != 1500 {
				t.Errorf("it was %d bytes long", p.OrigLen)
			}
			all = append(all, s)
		}
	}
	return all, interfaces, stats
}

func window(t testing.TB, o rotate.WindowOptions) (rotate.Windowed, []byte) {
	t.Helper()
	before := contentsOf(o.Segments)
	var out bytes.Buffer
	w, err := rotate.Window(context.Background(), &out, o)
	if err != nil {
		t.Fatal(err)
	}
	if w.Size != int64(out.Len()) {
		t.Errorf("%d bytes, %d were told", out.Len(), w.Size)
	}
	if !slices.EqualFunc(before, contentsOf(o.Segments), bytes.Equal) {
		t.Fatal("the segments were changed")
	}
	return w, out.Bytes()
}

func contentsOf(segments []rotate.Segment) (all [][]byte) {
	for _, s := range segments {
		b, _ := os.ReadFile(s.Path) // nothing of those that are missing
		all = append(all, b)
	}
	return all
}

// Whatever segments there are, exactly the packets of the window come, in order.
func TestAWindowHasExactlyItsPackets(t *testing.T) {
	const start, length = int64(1795309323e9), int64(60e9)
	tools := true
	for _, tool := range []string{"mergecap", "editcap"} {
		if _, err := exec.LookPath(tool); err != nil {
			tools = false
		}
	}
	for seed := range uint64(30) {
		random := rand.New(rand.NewPCG(seed, 5))
		dir := t.TempDir()
		var segments []rotate.Segment
		var all []stamped
		var number uint64
		for i := range 1 + random.IntN(4) {
			l := newLine([]int{ether, ether, raw}[:1+random.IntN(3)]...)
			if i%2 == 0 {
				l.interfaces[0].Name = "other"
			}
			from := start + random.Int64N(length)
			c := rotate.Config{Packets: 1 + random.IntN(200), Interval: 0}
			s, p := record(t, dir, fmt.Sprint("source", i), l, c, random, from, from+1+random.Int64N(length), random.IntN(1500), &number)
			segments, all = append(segments, s...), append(all, p...)
		}
		random.Shuffle(len(segments), func(i, j int) { segments[i], segments[j] = segments[j], segments[i] })
		o := rotate.WindowOptions{Segments: segments}
		from, to := int64(0), int64(math.MaxInt64)
		if random.IntN(4) > 0 && len(all) > 0 { // exactly at packets
			from = all[random.IntN(len(all))].time
			o.From = time.Unix(0, from)
		}
		if random.IntN(4) > 0 && len(all) > 0 {
			to = all[random.IntN(len(all))].time
			o.To = time.Unix(0, to)
		}
		var want []stamped
		for _, p := range all {
			if p.time >= from && p.time <= to {
				want = append(want, p)
			}
		}
		slices.SortFunc(want, byTime)
		w, content := window(t, o)
		if len(want) == 0 {
			if w.Packets != 0 || len(content) != 0 {
				t.Errorf("seed %d: %+v", seed, w)
			}
			continue
		}
		got, interfaces, _ := stampsOf(t, content)
		if !slices.IsSortedFunc(got, func(a, b stamped) int { return int(max(-1, min(1, a.time-b.time))) }) {
			t.Errorf("seed %d: not in the order of time", seed)
		}
		slices.SortFunc(got, byTime)
		if !slices.Equal(got, want) {
			t.Errorf("seed %d: %d packets, %d expected", seed, len(got), len(want))
		}
		if w.Packets != uint64(len(want)) || w.First.UnixNano() != want[0].time || w.Last.UnixNano() != want[len(want)-1].time || len(w.Inputs) != len(segments) {
			t.Errorf("seed %d: %+v", seed, w)
		}
		names := map[string]bool{}
		for _, i := range interfaces {
			if names[fmt.Sprint(i.Name, i.LinkType)] {
				t.Errorf("seed %d: %s twice", seed, i.Name)
			}
			names[fmt.Sprint(i.Name, i.LinkType)] = true
		}
		if tools && seed < 10 {
			oracle := merged(t, dir, segments, from, to)
			slices.SortFunc(oracle, byTime)
			if !slices.Equal(oracle, want) {
				t.Errorf("seed %d: mergecap and editcap have %d packets, %d expected", seed, len(oracle), len(want))
			}
		}
	}
}

// merged is what Wireshark's programs make of segments.
func merged(t *testing.T, dir string, segments []rotate.Segment, from, to int64) []stamped {
	t.Helper()
	args := []string{"-w", filepath.Join(dir, "merged")}
	for _, s := range segments {
		args = append(args, s.Path)
	}
	if out, err := exec.Command("mergecap", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	stamp := func(ns int64) string { return time.Unix(0, ns).UTC().Format("2006-01-02T15:04:05.000000000Z") }
	args = nil
	if from > 0 {
		args = append(args, "-A", stamp(from))
	}
	if to < math.MaxInt64 {
		args = append(args, "-B", stamp(to+1))
	}
	if out, err := exec.Command("editcap", append(args, filepath.Join(dir, "merged"), filepath.Join(dir, "cut"))...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(filepath.Join(dir, "cut"))
	if err != nil {
		t.Fatal(err)
	}
	all, _, _ := stampsOf(t, b)
	return all
}

func TestAWindowCarriesWhatIsKnown(t *testing.T) {
	dir := t.TempDir()
	random, number := rand.New(rand.NewPCG(1, 1)), uint64(0)
	l := newLine(ether, raw)
	l.stats[0].Dropped = 3
	a, _ := record(t, dir, "a", l, rotate.Config{Packets: 50}, random, 1e9, 2e9, 100, &number)
	other := newLine(ether)
	other.stats[0].Dropped = 4
	r := newRig(t, rotate.Config{Packets: 50}, other, rotate.Options{Name: "b"})
	r.write(numbered(10, 1000, 1.5e9, 1000))
	r.Miss(rotate.Gap{Interface: "if0", From: time.Unix(1, 0), To: time.Unix(2, 0), Cause: "gone"})
	b := r.end()[0]
	plain := newRig(t, rotate.Config{Packets: 50, Format: "pcap"}, newLine(ether), rotate.Options{Name: "c"})
	plain.write(numbered(10, 2000, 1.5e9, 1000))
	c := plain.end()[0]
	segments := append(a, rotate.Segment{Path: b.Path}, rotate.Segment{Path: c.Path, Name: "eth9"})
	for i := range segments {
		segments[i].First = time.Time{}
	}
	w, content := window(t, rotate.WindowOptions{Segments: segments, Section: pcapio.Section{Comment: "reason: the VPN broke"}})
	if !bytes.Contains(content, []byte("reason: the VPN broke")) || !bytes.Contains(content, []byte("capagent 1")) {
		t.Error("the section says something else")
	}
	path := filepath.Join(dir, "window")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if len(w.Interfaces) != 3 || len(w.Stats) != 3 {
		t.Fatalf("%+v", w)
	}
	for n, i := range w.Interfaces {
		s := w.Stats[n]
		switch i.Name {
		case "if0":
			if s.Received != 100+7 || s.OSDrop != 7 || !strings.Contains(s.Comment, "packets are missing of if0") || i.Filter != "udp" {
				t.Errorf("%+v, %+v", i, s)
			}
		case "if1":
			if i.LinkType != raw || s.Received != 100 {
				t.Errorf("%+v, %+v", i, s)
			}
		case "eth9":
			if s.Received != -1 {
				t.Errorf("%+v, %+v", i, s)
			}
		default:
			t.Errorf("%+v", i)
		}
	}
	if _, err := exec.LookPath("capinfos"); err == nil {
		if out, err := exec.Command("capinfos", path).CombinedOutput(); err != nil || !bytes.Contains(out, []byte("Number of packets:   120")) || !bytes.Contains(out, []byte("Strict time order:   True")) {
			t.Errorf("%v: %s", err, out)
		}
	}
	_, err := rotate.Window(context.Background(), &bytes.Buffer{}, rotate.WindowOptions{Segments: segments, Format: pcapio.Pcap})
	if err == nil || !strings.Contains(err.Error(), "two link types, EN10MB and RAW") && !strings.Contains(err.Error(), "two link types, RAW and EN10MB") {
		t.Error(err)
	}
	w, content = window(t, rotate.WindowOptions{Segments: segments[2:], Format: pcapio.Pcap})
	if got := content[:4]; w.Packets != 20 || !bytes.Equal(got, []byte{0x4d, 0x3c, 0xb2, 0xa1}) {
		t.Errorf("%+v, %x", w, got)
	}
}

// What a segment says that gives no packet is not about the window.
func TestAWindowCountsWhereItTakes(t *testing.T) {
	l := newLine(ether)
	random, number := rand.New(rand.NewPCG(1, 1)), uint64(0)
	early, _ := record(t, t.TempDir(), "a", l, rotate.Config{Packets: 50}, random, 1e9, 2e9, 10, &number)
	late, _ := record(t, t.TempDir(), "a", l, rotate.Config{Packets: 50}, random, 3e9, 4e9, 20, &number)
	for _, first := range []time.Time{{}, time.Unix(1, 0)} {
		early[0].First = first
		w, _ := window(t, rotate.WindowOptions{Segments: append(early, late...), From: time.Unix(3, 0)})
		if w.Packets != 20 || len(w.Stats) != 1 || w.Stats[0].Received != 20 {
			t.Errorf("%+v", w)
		}
	}
}

// A file of several sections counts its interfaces anew in each.
func TestAWindowOfSections(t *testing.T) {
	random, number := rand.New(rand.NewPCG(1, 1)), uint64(0)
	two, all := record(t, t.TempDir(), "a", newLine(ether, raw), rotate.Config{Packets: 50}, random, 1e9, 2e9, 40, &number)
	l := newLine(raw)
	l.interfaces[0].Name = "third"
	one, more := record(t, t.TempDir(), "b", l, rotate.Config{Packets: 50}, random, 3e9, 4e9, 20, &number)
	contents := contentsOf(append(two, one...))
	path := filepath.Join(t.TempDir(), "both")
	if err := os.WriteFile(path, bytes.Join(contents, nil), 0o600); err != nil {
		t.Fatal(err)
	}
	_, content := window(t, rotate.WindowOptions{Segments: []rotate.Segment{{Path: path}}})
	if got, _, _ := stampsOf(t, content); !slices.Equal(got, append(all, more...)) {
		t.Errorf("%v", got)
	}
}

func TestADamagedSegmentGivesWhatCanBeRead(t *testing.T) {
	dir := t.TempDir()
	random, number := rand.New(rand.NewPCG(1, 1)), uint64(0)
	segments, all := record(t, dir, "a", newLine(ether), rotate.Config{Packets: 100}, random, 1e9, 2e9, 500, &number)
	b, _ := os.ReadFile(segments[1].Path)
	_ = os.WriteFile(segments[1].Path, b[:len(b)/2], 0o600)
	_ = os.Remove(segments[3].Path)
	_ = os.WriteFile(segments[4].Path, []byte("no capture at all, but a text"), 0o600)
	segments = append(segments, rotate.Segment{Path: dir})
	w, content := window(t, rotate.WindowOptions{Segments: segments})
	got, _, _ := stampsOf(t, content)
	kept := int(w.Inputs[1].Packets)
	if len(got) != 200+kept || kept < 30 || kept > 60 || !slices.Equal(got[:100+kept], all[:100+kept]) || !slices.Equal(got[100+kept:], all[200:300]) {
		t.Errorf("%d packets; %+v", len(got), w.Inputs)
	}
	for i, in := range w.Inputs {
		if bad := i == 1 || i > 2; (in.Err != nil) != bad || in.Err != nil && !strings.Contains(in.Err.Error(), in.Path) {
			t.Errorf("%+v", in)
		}
	}
	if !errors.Is(w.Inputs[1].Err, pcapio.ErrTruncated) || !errors.Is(w.Inputs[4].Err, pcapio.ErrNotCapture) {
		t.Errorf("%+v", w.Inputs)
	}
}

// full is a disk without room.
type full struct{ room int }

func (f *full) Write(b []byte) (int, error) {
	if f.room -= len(b); f.room < 0 {
		return 0, errors.New("no room")
	}
	return len(b), nil
}

func TestAWindowThatCantBeWritten(t *testing.T) {
	random, number := rand.New(rand.NewPCG(1, 1)), uint64(0)
	segments, _ := record(t, t.TempDir(), "a", newLine(ether), rotate.Config{Packets: 1000}, random, 1e9, 2e9, 10_000, &number)
	if _, err := rotate.Window(context.Background(), &full{300_000}, rotate.WindowOptions{Segments: segments}); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := rotate.Window(ctx, &full{1 << 30}, rotate.WindowOptions{Segments: segments}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A thousand files in a row need no more descriptors than a few.
func TestAWindowOfManySegments(t *testing.T) {
	random, number := rand.New(rand.NewPCG(1, 1)), uint64(0)
	segments, all := record(t, t.TempDir(), "a", newLine(ether), rotate.Config{Packets: 10}, random, 1e9, 2e9, 10_000, &number)
	_, content := window(t, rotate.WindowOptions{Segments: segments})
	if got, _, _ := stampsOf(t, content); !slices.Equal(got, all) {
		t.Errorf("%d packets", len(got))
	}
	for i := range segments {
		segments[i].First = time.Unix(1, 0) // as if they were all at once
	}
	if _, err := rotate.Window(context.Background(), &bytes.Buffer{}, rotate.WindowOptions{Segments: segments}); err == nil || !strings.Contains(err.Error(), "256 segments") {
		t.Error(err)
	}
}

func TestSecretsComeBeforeTheirPackets(t *testing.T) {
	dir := t.TempDir()
	var segments []rotate.Segment
	for i, keys := range []string{"CLIENT_RANDOM 01 11\n", "CLIENT_RANDOM 02 22\n", "CLIENT_RANDOM 01 11\n", "CLIENT_RANDOM 03 33\n"} {
		w, err := pcapfile.New(small)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, fmt.Sprint(i))
		f, err := pcapfile.Create(path, false)
		if err == nil {
			err = w.Begin(f, pcapfile.Header{Format: pcapio.Pcapng, Interfaces: newLine(ether).interfaces})
		}
		if err = errors.Join(err, w.KeyLog([]byte(keys)), w.Write(numbered(3, int64(i)*3, 1e9, 1)), w.Close()); err != nil {
			t.Fatal(err)
		}
		segments = append(segments, rotate.Segment{Path: path})
	}
	// Nothing is taken of the last one, so its secrets stay.
	var out bytes.Buffer
	if _, err := rotate.Window(context.Background(), &out, rotate.WindowOptions{Segments: segments, To: time.Unix(1, 8)}); err != nil {
		t.Fatal(err)
	}
	r, err := pcapio.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	r.Describe(pcapio.Described{Secrets: func(kind uint32, b []byte) { said = append(said, string(b)) }})
	var p pcapio.Packet
	for err == nil {
		if err = r.Next(&p); err == nil {
			if n := len(said); n != map[int64]int{0: 1, 1: 2, 2: 2}[(p.Time-1e9)/3] {
				t.Errorf("%d secrets before packet %d", n, p.Time-1e9)
			}
		}
	}
	if len(said) != 2 {
		t.Errorf("%q", said)
	}
}

func BenchmarkWindow(b *testing.B) {
	random, number := rand.New(rand.NewPCG(1, 1)), uint64(0)
	dir := b.TempDir()
	var segments []rotate.Segment
	for i := range 2 {
		c := rotate.Config{Packets: 100_000}
		s, _ := record(b, dir, fmt.Sprint(i), newLine(ether), c, random, 1e9, 2e9, 500_000, &number)
		segments = append(segments, s...)
	}
	b.ResetTimer()
	for range b.N {
		if _, err := rotate.Window(context.Background(), &full{math.MaxInt}, rotate.WindowOptions{Segments: segments}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1e6, "ns/packet")
}

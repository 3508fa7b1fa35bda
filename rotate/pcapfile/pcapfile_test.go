package pcapfile_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capagent/internal/packet"
	"capagent/internal/pcapio"
	"capagent/rotate/pcapfile"

	"pgregory.net/rapid"
)

const ether, raw = 1, 101

// small are options whose buffers every few records straddle.
var small = pcapfile.Options{Buffers: 2, BufferSize: 4096, Flush: -1, NoSync: true}

func newWriter(t testing.TB, o pcapfile.Options) *pcapfile.Writer {
	t.Helper()
	w, err := pcapfile.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func begin(t testing.TB, w *pcapfile.Writer, path string, h pcapfile.Header) {
	t.Helper()
	f, err := pcapfile.Create(path, false)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Begin(f, h); err != nil {
		t.Fatal(err)
	}
}

func header(format pcapio.Format, links ...int) pcapfile.Header {
	h := pcapfile.Header{Format: format}
	for i, link := range links {
		h.Interfaces = append(h.Interfaces, packet.Interface{Name: fmt.Sprint("if", i), LinkType: link})
	}
	return h
}

// read returns a file's packets and what ended it, nil for its end.
func read(t testing.TB, path string) ([]packet.Packet, error) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r, err := pcapio.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	var all []packet.Packet
	var p pcapio.Packet
	for {
		if err := r.Next(&p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return all, err
		}
		all = append(all, packet.Packet{Time: p.Time, Data: bytes.Clone(p.Data), Length: p.OrigLen, Interface: uint32(p.Interface)})
	}
}

func same(want, got []packet.Packet) error {
	for i := range min(len(want), len(got)) {
		a, b := want[i], got[i]
		if a.Time != b.Time || a.Length != b.Length || a.Interface != b.Interface || !bytes.Equal(a.Data, b.Data) {
			return fmt.Errorf("packet %d: %d ns, %d of %d bytes, interface %d; written were %d ns, %d of %d bytes, interface %d", i,
				b.Time, len(b.Data), b.Length, b.Interface, a.Time, len(a.Data), a.Length, a.Interface)
		}
	}
	if len(want) != len(got) {
		return fmt.Errorf("%d packets, written were %d", len(got), len(want))
	}
	return nil
}

// numbered fills batch with packets from number first on, in time and content.
func numbered(batch []packet.Packet, first int64) {
	for i := range batch {
		n := first + int64(i)
		data := bytes.Repeat([]byte{byte(n) | 1}, int(40+n*7919%1400))
		batch[i] = packet.Packet{Time: n, Data: data, Length: uint32(len(data))}
	}
}

// follows checks that packets are numbered from first on.
func follows(packets []packet.Packet, first int64) error {
	want := make([]packet.Packet, len(packets))
	numbered(want, first)
	return same(want, packets)
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	dir, n := t.TempDir(), 0
	noise := make([]byte, 70_000)
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	rapid.Check(t, func(rt *rapid.T) {
		o := small
		o.Buffers = rapid.IntRange(2, 4).Draw(rt, "buffers")
		o.BufferSize = 4096 * rapid.IntRange(1, 3).Draw(rt, "pages")
		o.Buffered = rapid.Bool().Draw(rt, "buffered")
		w := newWriter(t, o)
		for range rapid.IntRange(1, 3).Draw(rt, "files") {
			n++
			path := filepath.Join(dir, fmt.Sprint(n))
			h, most, links := header(pcapio.Pcap, raw, raw), int64(math.MaxUint32*1e9+999_999_999), 0
			if rapid.Bool().Draw(rt, "pcapng") {
				h, most, links = header(pcapio.Pcapng, raw, ether), math.MaxInt64, 2
			}
			begin(t, w, path, h)
			var want []packet.Packet
			for range rapid.IntRange(0, 8).Draw(rt, "batches") {
				batch := make([]packet.Packet, rapid.IntRange(0, 20).Draw(rt, "batch"))
				for i := range batch {
					size := rapid.SampledFrom([]int{60, 1514, 4096, len(noise)}).Draw(rt, "most")
					from := rapid.IntRange(0, size).Draw(rt, "from")
					batch[i] = packet.Packet{Time: rapid.Int64Range(0, most).Draw(rt, "time"), Data: noise[from:size]}
					batch[i].Length = uint32(size-from) + rapid.Uint32Range(0, 9).Draw(rt, "missing")
					if links > 0 {
						batch[i].Interface = rapid.Uint32Range(0, uint32(links-1)).Draw(rt, "interface")
					}
				}
				if err := w.Write(batch); err != nil {
					t.Fatal(err)
				}
				want = append(want, batch...)
				switch rapid.IntRange(0, 5).Draw(rt, "between") {
				case 0:
					if err := w.Flush(); err != nil {
						t.Fatal(err)
					}
				case 1:
					if err := w.AddInterface(packet.Interface{LinkType: raw}); err != nil {
						t.Fatal(err)
					}
					links += min(links, 1)
				}
			}
			size, packets := w.Size(), w.Packets()
			e := w.End(pcapfile.Trailer{Stats: make([]pcapfile.Stats, rapid.IntRange(0, 3).Draw(rt, "stats"))})
			got, err := e.Wait()
			if err != nil {
				t.Fatal(err)
			}
			info, _ := os.Stat(path)
			if got.Packets != uint64(len(want)) || packets != got.Packets || got.Size != info.Size() || got.Size < size {
				rt.Fatalf("%+v, %d packets and %d bytes before the end, the file has %d", got, packets, size, info.Size())
			}
			all, err := read(t, path)
			if err != nil {
				rt.Fatal(err)
			}
			if err := same(want, all); err != nil {
				rt.Fatal(err)
			}
		}
	})
}

func TestOneFileAfterTheOther(t *testing.T) {
	w := newWriter(t, pcapfile.Options{BufferSize: 64 << 10, Flush: time.Millisecond, NoSync: true})
	dir := t.TempDir()
	const files = 1000
	endings, counts := make([]*pcapfile.Ending, files), make([]int, files)
	var next int64
	for i := range files {
		begin(t, w, filepath.Join(dir, fmt.Sprint(i)), header([]pcapio.Format{pcapio.Pcap, pcapio.Pcapng}[i%2], raw))
		batch := make([]packet.Packet, rand.IntN(300))
		numbered(batch, next)
		next, counts[i] = next+int64(len(batch)), len(batch)
		if err := w.Write(batch); err != nil {
			t.Fatal(err)
		}
		endings[i] = w.End(pcapfile.Trailer{})
	}
	next = 0
	for i, e := range endings {
		result, err := e.Wait()
		if err != nil {
			t.Fatal(err)
		}
		got, err := read(t, filepath.Join(dir, fmt.Sprint(i)))
		if err := errors.Join(err, follows(got, next)); err != nil || len(got) != counts[i] || result.Packets != uint64(counts[i]) {
			t.Fatalf("file %d: %v: %d packets, %+v, written were %d", i, err, len(got), result, counts[i])
		}
		next += int64(len(got))
	}
}

func TestNothingIsAllocatedPerPacket(t *testing.T) {
	for _, format := range []pcapio.Format{pcapio.Pcap, pcapio.Pcapng} {
		path := filepath.Join(t.TempDir(), "f")
		w := newWriter(t, pcapfile.Options{BufferSize: 64 << 10, Flush: time.Nanosecond, NoSync: true})
		begin(t, w, path, header(format, ether))
		batch := make([]packet.Packet, 100)
		for i := range batch {
			batch[i] = packet.Packet{Data: make([]byte, 1000), Length: 1000}
		}
		if n := testing.AllocsPerRun(100, func() { _ = w.Write(batch) }); n != 0 {
			t.Errorf("%s: %v allocations for 100 packets", format, n)
		}
	}
}

func TestOddPacketsAreMadeToFit(t *testing.T) {
	long := bytes.Repeat([]byte{7}, pcapfile.MaxPacket+1)
	in := []packet.Packet{
		{Time: -1, Data: long[:3], Length: 1},
		{Time: math.MinInt64},
		{Time: 0xffffffff*1e9 + 999_999_999, Data: long[:pcapfile.MaxPacket], Length: 1 << 31},
		{Time: 0x100000000 * 1e9, Data: long, Length: pcapfile.MaxPacket + 1},
		{Time: math.MaxInt64},
	}
	out := []packet.Packet{
		{Data: long[:3], Length: 3},
		{},
		{Time: 0xffffffff*1e9 + 999_999_999, Data: long[:pcapfile.MaxPacket], Length: 1 << 31},
		{Time: 0xffffffff*1e9 + 999_999_999, Data: long[:pcapfile.MaxPacket], Length: pcapfile.MaxPacket + 1},
		{Time: 0xffffffff*1e9 + 999_999_999},
	}
	for _, format := range []pcapio.Format{pcapio.Pcap, pcapio.Pcapng} {
		if format == pcapio.Pcapng {
			out[3].Time, out[4].Time = in[3].Time, in[4].Time
		}
		for _, size := range []int{4096, 4 << 20} {
			w := newWriter(t, pcapfile.Options{BufferSize: size, NoSync: true})
			path := filepath.Join(t.TempDir(), "f")
			begin(t, w, path, header(format, raw))
			if err := w.Write(in); err != nil {
				t.Fatal(err)
			}
			if _, err := w.End(pcapfile.Trailer{}).Wait(); err != nil {
				t.Fatal(err)
			}
			got, err := read(t, path)
			if err := errors.Join(err, same(out, got)); err != nil {
				t.Errorf("%s, %d: %v", format, size, err)
			}
		}
	}
}

func TestPaddingIsZero(t *testing.T) {
	w := newWriter(t, small)
	path := filepath.Join(t.TempDir(), "f")
	begin(t, w, path, header(pcapio.Pcapng, raw))
	ones := bytes.Repeat([]byte{0xff}, 300)
	for i := range 1000 {
		if err := w.Write([]packet.Packet{{Data: ones[:i%300]}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.End(pcapfile.Trailer{}).Wait(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	for n := 0; len(b) > 0; b = b[le.Uint32(b[4:]):] {
		if size := le.Uint32(b[4:]); le.Uint32(b) == 6 {
			if pad := b[28+le.Uint32(b[20:]) : size-4]; bytes.Count(pad, []byte{0}) != len(pad) {
				t.Fatalf("packet %d has the padding % x", n, pad)
			}
			n++
		}
	}
}

func TestFitIsExact(t *testing.T) {
	for _, format := range []pcapio.Format{pcapio.Pcap, pcapio.Pcapng} {
		path := filepath.Join(t.TempDir(), "f")
		w := newWriter(t, small)
		begin(t, w, path, header(format, raw))
		for i := range 200 {
			batch := make([]packet.Packet, 30)
			for k := range batch {
				batch[k].Data = make([]byte, (i*31+k*17)%1600)
			}
			limit := w.Size() + int64(i*300)
			n := w.Fit(batch, limit)
			if err := w.Write(batch[:n]); err != nil {
				t.Fatal(err)
			}
			if w.Size() > limit {
				t.Fatalf("%d bytes, the limit was %d", w.Size(), limit)
			}
			if n < len(batch) {
				if err := w.Write(batch[n : n+1]); err != nil || w.Size() <= limit {
					t.Fatalf("one more did fit: %d of %d bytes, %v", w.Size(), limit, err)
				}
			}
		}
	}
}

func TestWhatCannotBeWrittenIsAnError(t *testing.T) {
	w := newWriter(t, small)
	if _, err := w.End(pcapfile.Trailer{}).Wait(); err == nil || w.Write(nil) == nil || w.Flush() == nil || w.KeyLog(nil) == nil ||
		w.AddInterface(packet.Interface{}) == nil {
		t.Error("without a file")
	}
	path := filepath.Join(t.TempDir(), "f")
	f, err := pcapfile.Create(path, false)
	if err != nil {
		t.Fatal(err)
	}
	long := header(pcapio.Pcapng, raw)
	long.Section.Comment = strings.Repeat("c", 1<<16)
	for name, h := range map[string]pcapfile.Header{
		"use pcapng": header(pcapio.Pcap, raw, ether), "needs an interface": header(pcapio.Pcap), "no such link type": header(pcapio.Pcap, 1<<16),
		"-1": header(pcapio.Pcapng, -1), "no format": header("snoop", ether), "too large": long,
	} {
		if err := w.Begin(f, h); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if info, err := f.Stat(); err != nil || info.Size() > 0 {
		t.Error(info.Size(), err)
	}
	h := header(pcapio.Pcap, raw, raw)
	h.Interfaces[0].SnapLen, h.Interfaces[1].SnapLen = 96, 128
	if err := w.Begin(f, h); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"has not ended": w.Begin(f, h),
		"use pcapng":    errors.Join(w.AddInterface(packet.Interface{LinkType: ether})),
		"hold secrets":  w.KeyLog([]byte("k")),
		"interface 2":   w.Write([]packet.Packet{{Interface: 1}, {Interface: 2}}),
	} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	got, err := w.End(pcapfile.Trailer{}).Wait()
	if err != nil || got.Packets != 1 {
		t.Error(got, err)
	}
	if b, _ := os.ReadFile(path); b[16] != 128 {
		t.Errorf("the snapshot length is %v, not the larger one", b[16:20])
	}
	if f, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	if err := w.Begin(f, h); err == nil {
		t.Error("a file that is not empty was begun")
	}
	_ = f.Close()
}

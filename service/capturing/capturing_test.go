package capturing_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"capagent/capture"
	"capagent/internal/packet"
	"capagent/internal/pcapio"
	"capagent/rotate/pcapfile"
	"capagent/service/capturing"
)

// wire is a source of packets that count up.
type wire struct {
	ctx        context.Context
	total      int
	err        error // after the packets; nil: silence until the context ends
	appearing  int   // packet from which a second interface brings them
	interfaces []packet.Interface
	n          int
	data       [1500]byte
}

func (w *wire) Read(batch []packet.Packet) (int, error) {
	n := 0
	for n < len(batch) && w.n < w.total {
		binary.BigEndian.PutUint64(w.data[:], uint64(w.n))
		which := uint32(0)
		if w.appearing > 0 && w.n >= w.appearing {
			which = 1
			if len(w.interfaces) == 1 {
				w.interfaces = append(w.interfaces, packet.Interface{Name: "eth0 again", LinkType: 101})
			}
		}
		batch[n] = packet.Packet{Time: int64(w.n+1) * 1e6, Data: append([]byte(nil), w.data[:60+w.n%1000]...), Length: 1500, Interface: which}
		n++
		w.n++
	}
	switch {
	case n > 0:
		return n, nil
	case w.err != nil:
		return 0, w.err
	case w.ctx.Err() != nil:
		return 0, io.EOF
	default:
		select {
		case <-w.ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
		return 0, nil
	}
}
func (w *wire) Interfaces() []packet.Interface { return w.interfaces }
func (w *wire) Stats() []packet.Stats {
	return make([]packet.Stats, len(w.interfaces))
}
func (w *wire) Close() error { return nil }

func take(t *testing.T, w *wire, o capturing.Options) (capturing.Result, []pcapio.Packet, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x")
	f, err := pcapfile.Create(path, false)
	if err != nil {
		t.Fatal(err)
	}
	if w.interfaces == nil {
		w.interfaces = []packet.Interface{{Name: "eth0", LinkType: 1}}
	}
	o.Source = w
	if o.Format == "" {
		o.Format = pcapio.Pcapng
	}
	r, failed := capturing.Into(f, o, func() []capture.Event { return nil })
	raw, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	var all []pcapio.Packet
	reader, err := pcapio.NewReader(raw)
	for err == nil {
		var p pcapio.Packet
		if err = reader.Next(&p); err == nil {
			if got := binary.BigEndian.Uint64(p.Data); got != uint64(len(all)) {
				t.Fatalf("packet %d is in the place of %d", got, len(all))
			}
			p.Data = nil
			all = append(all, p)
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != r.Size || uint64(len(all)) != r.Packets {
		t.Errorf("said %d bytes, %d packets; there are %d, %d (%v)", r.Size, r.Packets, info.Size(), len(all), err)
	}
	return r, all, failed
}

func TestTheContextEndsIt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var told []capturing.Progress
	r, _, err := take(t, &wire{ctx: ctx, total: 5000}, capturing.Options{Tell: func(p capturing.Progress) {
		told = append(told, p)
		if p.Packets == 5000 {
			cancel()
		}
	}})
	if err != nil || r.End != capturing.Stopped || r.Packets != 5000 {
		t.Fatalf("%+v, %v", r, err)
	}
	if r.First.UnixNano() != 1e6 || r.Last.UnixNano() != 5000e6 {
		t.Errorf("from %v to %v", r.First, r.Last)
	}
	if last := told[len(told)-1]; last.Packets != 5000 {
		t.Errorf("told last: %+v", last)
	}
}

func TestALimitIsExact(t *testing.T) {
	r, all, err := take(t, &wire{ctx: t.Context(), total: 5000}, capturing.Options{Limits: capturing.Limits{Packets: 1000}})
	if err != nil || r.End != capturing.AtPackets || len(all) != 1000 {
		t.Errorf("%d packets, %+v, %v", len(all), r, err)
	}
}

func TestASizeIsReachedByTheLastPacket(t *testing.T) {
	for _, format := range []pcapio.Format{pcapio.Pcap, pcapio.Pcapng} {
		const limit = 100_000
		r, all, err := take(t, &wire{ctx: t.Context(), total: 5000}, capturing.Options{Format: format, Limits: capturing.Limits{Size: limit}})
		if err != nil || r.End != capturing.AtSize {
			t.Fatalf("%s: %+v, %v", format, r, err)
		}
		last := int64(all[len(all)-1].CapLen) + 64
		if r.Size < limit || format == pcapio.Pcap && r.Size-last >= limit {
			t.Errorf("%s: %d bytes, the last packet has %d", format, r.Size, last)
		}
	}
}

func TestWhatCameBeforeAFailureIsKept(t *testing.T) {
	broken := errors.New("unplugged")
	r, all, err := take(t, &wire{ctx: t.Context(), total: 700, err: broken}, capturing.Options{})
	if !errors.Is(err, broken) || r.End != capturing.Failed || len(all) != 700 {
		t.Errorf("%d packets, %+v, %v", len(all), r, err)
	}
}

func TestAnInterfaceThatAppearsIsDescribed(t *testing.T) {
	r, all, err := take(t, &wire{ctx: t.Context(), total: 1000, appearing: 400, err: io.EOF}, capturing.Options{})
	if err != nil || len(all) != 1000 || len(r.Interfaces) != 2 {
		t.Fatalf("%d packets, %+v, %v", len(all), r, err)
	}
	if a, b := all[399], all[400]; a.LinkType != 1 || b.LinkType != 101 {
		t.Errorf("link types %d and %d", a.LinkType, b.LinkType)
	}
	_, all, err = take(t, &wire{ctx: t.Context(), total: 1000, appearing: 400, err: io.EOF}, capturing.Options{Format: pcapio.Pcap})
	if err == nil || len(all) > 400 {
		t.Errorf("a pcap file takes a second link type: %d packets, %v", len(all), err)
	}
}

func TestSecretsStandBeforeThePackets(t *testing.T) {
	line := "CLIENT_RANDOM " + strings.Repeat("ab", 32) + " " + strings.Repeat("cd", 48) + "\n"
	for name, tc := range map[string]struct{ text, want string }{
		"none":         {"", ""},
		"one":          {line, line},
		"a torn line":  {line + line[:20], line},
		"no line":      {line[:20], ""},
		"too many":     {strings.Repeat(line, 2000), strings.Repeat(line, capturing.SecretsRoom/len(line))},
		"just so many": {strings.Repeat("#23456789abcdef\n", capturing.SecretsRoom/16), strings.Repeat("#23456789abcdef\n", capturing.SecretsRoom/16)},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			stop()
			path := filepath.Join(t.TempDir(), "x")
			f, err := pcapfile.Create(path, false)
			if err != nil {
				t.Fatal(err)
			}
			w := &wire{ctx: ctx, total: 100, interfaces: []packet.Interface{{Name: "eth0", LinkType: 1}}}
			r, err := capturing.Into(f, capturing.Options{
				Source: w, Format: pcapio.Pcapng, Secrets: func() []byte { return []byte(tc.text) }, Limits: capturing.Limits{Size: 1000},
			}, func() []capture.Event { return nil })
			if err != nil || r.Packets != 10 || r.End != capturing.AtSize {
				t.Fatalf("%+v, %v", r, err)
			}
			all, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			// The second block but one is that of the secrets: section, interface, secrets.
			for range 2 {
				all = all[binary.LittleEndian.Uint32(all[4:]):]
			}
			block := all[:binary.LittleEndian.Uint32(all[4:])]
			if kind := binary.LittleEndian.Uint32(block); kind != 10 {
				t.Fatalf("block %d", kind)
			}
			text := string(block[16 : 16+binary.LittleEndian.Uint32(block[12:])])
			rest, ok := strings.CutPrefix(text, tc.want)
			for l := range strings.Lines(rest) {
				if l != "\n" && (l[0] != '#' || l[len(l)-1] != '\n') {
					ok = false
				}
			}
			if !ok || len(text) != capturing.SecretsRoom {
				t.Errorf("%d bytes begin with %.200q", len(text), text)
			}
		})
	}
}

// A quiet line adds the interface's counts to the file each Pulse, for those who
// follow it.
func TestAQuietLineHasAPulse(t *testing.T) {
	size := func(pulse time.Duration) int64 {
		ctx, stop := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer stop()
		r, all, err := take(t, &wire{ctx: ctx, total: 3}, capturing.Options{Pulse: pulse})
		if err != nil || len(all) != 3 {
			t.Error(len(all), err)
		}
		return r.Size
	}
	if with, without := size(20*time.Millisecond), size(0); with <= without {
		t.Errorf("%d bytes with a pulse, %d without", with, without)
	}
}

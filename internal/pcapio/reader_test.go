package pcapio_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"capagent/internal/pcapio"
)

// readFile reads a file as a program would, unwrapped, and shows each packet.
func readFile(r io.Reader, budget pcapio.Budget, see func(*pcapio.Packet)) error {
	p, err := pcapio.Unwrap(r, budget)
	if err != nil {
		return err
	}
	defer p.Close()
	rd, err := pcapio.NewReader(p)
	if err != nil {
		return err
	}
	// What an earlier packet left behind must not shine through.
	pkt := pcapio.Packet{Time: 1, NoTime: true, Data: []byte("old"), CapLen: 1, OrigLen: 1, Interface: 1, LinkType: 1}
	for {
		if err := rd.Next(&pkt); err != nil {
			return err
		}
		see(&pkt)
	}
}

// readAll keeps a copy of every packet.
func readAll(data []byte) (packets []pcapio.Packet, end error) {
	end = readFile(bytes.NewReader(data), pcapio.Budget{}, func(p *pcapio.Packet) {
		kept := *p
		kept.Data = bytes.Clone(p.Data)
		packets = append(packets, kept)
	})
	return packets, end
}

var sentinels = map[string]error{cut: pcapio.ErrTruncated, bad: pcapio.ErrFormat, foreign: pcapio.ErrNotCapture, over: pcapio.ErrOverBudget}

func checkEnd(t *testing.T, end error, want string) {
	t.Helper()
	if want == "" {
		if !errors.Is(end, io.EOF) {
			t.Errorf("ends with %v, want a clean end", end)
		}
		return
	}
	if !errors.Is(end, sentinels[want]) {
		t.Errorf("ends with %v, want %q", end, want)
	}
}

func TestCorpusIsReadAsStated(t *testing.T) {
	for _, c := range corpus() {
		t.Run(c.name, func(t *testing.T) {
			packets := int64(0)
			end := readFile(bytes.NewReader(c.data), pcapio.Budget{Free: 16 << 20}, func(*pcapio.Packet) { packets++ })
			if packets != c.packets {
				t.Errorf("%d packets, want %d (%v)", packets, c.packets, end)
			}
			checkEnd(t, end, c.end)
		})
	}
}

func TestTimesAtTheEdges(t *testing.T) {
	const farPast, farFuture = math.MinInt64, math.MaxInt64
	tests := map[string]int64{
		"good/pcap-big-year-2106.pcap":                     (1<<32-1)*1e9 + 999999000,
		"hostile/pcap-fraction-over-a-second.pcap":         t0*1e9 + (1<<32-1)*1000,
		"hostile/pcapng-resolution-10-to-19.pcapng":        922337203,
		"hostile/pcapng-resolution-2-to-63.pcapng":         1e9,
		"hostile/pcapng-time-before-the-epoch.pcapng":      -95e8,
		"hostile/pcapng-time-over-63-bits-and-back.pcapng": t0 * 1e9,
		"hostile/pcapng-time-overflow.pcapng":              farFuture,
		"hostile/pcapng-time-overflow-offset.pcapng":       farFuture,
		"hostile/pcapng-time-overflow-sum.pcapng":          farFuture,
		"hostile/pcapng-time-underflow-offset.pcapng":      farPast,
	}
	for _, c := range corpus() {
		want, ok := tests[c.name]
		if !ok {
			continue
		}
		delete(tests, c.name)
		if packets, _ := readAll(c.data); len(packets) != 1 || packets[0].Time != want {
			t.Errorf("%s: %+v, want the time %d", c.name, packets, want)
		}
	}
	for name := range tests {
		t.Errorf("%s is not in the corpus", name)
	}
}

func TestAFileCutAnywhereGivesItsWholePackets(t *testing.T) {
	dir := t.TempDir()
	whole := map[string]int{}
	var paths []string
	for _, c := range corpus() {
		if c.name != "good/pcap-big-nano.pcap" && c.name != "good/pcapng-little-every-block.pcapng" {
			continue
		}
		all, _ := readAll(c.data)
		for n := range c.data {
			packets, end := readAll(c.data[:n])
			if wrong := differ(all[:len(packets)], packets); wrong != "" {
				t.Errorf("%s at byte %d: %s", c.name, n, wrong)
			}
			var cut *pcapio.TruncatedError
			switch {
			case errors.Is(end, io.EOF), errors.Is(end, pcapio.ErrNotCapture) && n < 28:
			case !errors.As(end, &cut) || cut.Size != int64(n) || cut.Offset >= cut.Size:
				t.Errorf("%s at byte %d: ends with %v", c.name, n, end)
			}
			if errors.Is(end, pcapio.ErrNotCapture) {
				continue
			}
			path := filepath.Join(dir, fmt.Sprintf("%s-%d", filepath.Base(c.name), n))
			if err := os.WriteFile(path, c.data[:n], 0o644); err != nil {
				t.Fatal(err)
			}
			paths = append(paths, path)
			whole[path] = len(packets)
		}
	}
	for path, v := range capinfos(t, paths) {
		if v.packets != strconv.Itoa(whole[path]) {
			t.Errorf("%s: capinfos counts %s packets, we count %d", filepath.Base(path), v.packets, whole[path])
		}
	}
	if len(paths) < 1000 {
		t.Errorf("only %d cuts were tried", len(paths))
	}
}

func TestWhatAReaderSaysOfTheFile(t *testing.T) {
	open := func(name string) *pcapio.Reader {
		for _, c := range corpus() {
			if c.name == name {
				r, err := pcapio.NewReader(bytes.NewReader(c.data))
				if err != nil {
					t.Fatal(err)
				}
				for err == nil {
					var p pcapio.Packet
					err = r.Next(&p)
				}
				return r
			}
		}
		t.Fatal(name)
		return nil
	}
	r := open("good/pcap-little-fcs.pcap")
	if r.FCSLen() != 32 || r.SnapLen() != snap || r.Format() != pcapio.Pcap || r.Sections() != 1 || r.Interfaces() != 1 || !slices.Equal(r.LinkTypes(), []int{1}) {
		t.Errorf("pcap: %d %d %s %d %d %v", r.FCSLen(), r.SnapLen(), r.Format(), r.Sections(), r.Interfaces(), r.LinkTypes())
	}
	r = open("good/pcapng-big-two-sections.pcapng")
	if r.FCSLen() != -1 || r.SnapLen() != 0 || r.Format() != pcapio.Pcapng || r.Sections() != 2 || r.Interfaces() != 3 || !slices.Equal(r.LinkTypes(), []int{1, 101}) {
		t.Errorf("pcapng: %d %d %s %d %d %v", r.FCSLen(), r.SnapLen(), r.Format(), r.Sections(), r.Interfaces(), r.LinkTypes())
	}
	if a, b := pcapio.LinkTypeName(1), pcapio.LinkTypeName(65000); a != "EN10MB" || b != "LINKTYPE_65000" {
		t.Error(a, b)
	}
}

package pcapio_test

import (
	"bytes"
	"io"
	"runtime"
	"testing"

	"capagent/internal/pcapio"
)

// allocated returns how many bytes f allocates in all.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestASmallFileCostsLittleMemoryWhateverItClaims(t *testing.T) {
	for _, c := range corpus() {
		if len(c.data) > 4096 {
			continue
		}
		if n := allocated(func() {
			_ = readFile(bytes.NewReader(c.data), pcapio.Budget{}, func(*pcapio.Packet) {})
		}); n > 1<<20 {
			t.Errorf("reading %s, %d bytes, allocates %d", c.name, len(c.data), n)
		}
		if n := allocated(func() {
			_, _ = pcapio.Plan(bytes.NewReader(c.data), pcapio.Limits{Packets: 1})
		}); n > 1<<20 {
			t.Errorf("planning %s, %d bytes, allocates %d", c.name, len(c.data), n)
		}
	}
}

// endless gives head and then one byte for ever, up to left bytes.
type endless struct {
	head io.Reader
	left int64
}

func (e *endless) Read(p []byte) (int, error) {
	if n, _ := e.head.Read(p); n > 0 {
		return n, nil
	}
	if e.left <= 0 {
		return 0, io.EOF
	}
	n := min(int64(len(p)), e.left)
	e.left -= n
	clear(p[:n])
	return int(n), nil
}

func TestALargeFileCostsNoMoreThanTheBuffer(t *testing.T) {
	heads := map[string][]byte{
		"a packet of 128 MiB":         pcapImage(little, micro, snap, 231).u32(t0, 0, 128<<20, 128<<20).Bytes(),
		"records of zero bytes":       pcapImage(little, micro, snap, ethernet).Bytes(),
		"an unknown block of 100 MiB": part(little).shb().u32(0xabcd, 100<<20).Bytes(),
		"an interface of 100 MiB":     part(little).shb().u32(1, 100<<20).Bytes(),
		"a section header of 100 MiB": part(little).u32(0x0a0d0d0a, 100<<20, 0x1a2b3c4d).u16(1, 0).u64(0).Bytes(),
		"modified records of 256 KiB": pcapImage(little, modified, snap, ethernet).u32(t0, 0, snap, snap).Bytes(),
		"a packet block of 128 MiB":   part(little).shb().idb(231, 0).u32(6, 128<<20).u32(0, 0, 0, 100<<20, 100<<20).Bytes(),
		"a block of just under 1 MiB": part(little).shb().u32(0xabcd, 1<<20-4).Bytes(),
		"not a capture":               []byte("GIF89a"),
	}
	for name, head := range heads {
		n := allocated(func() {
			_ = readFile(&endless{bytes.NewReader(head), 128 << 20}, pcapio.Budget{}, func(*pcapio.Packet) {})
		})
		if n > 2<<20 {
			t.Errorf("%s: %d bytes allocated", name, n)
		}
	}
}

func TestReadingAllocatesNothingPerPacket(t *testing.T) {
	files := map[string]func(n int) []byte{
		"pcap": func(n int) []byte {
			m := pcapImage(little, micro, snap, ethernet)
			for range n {
				m.record(t0, 0, frame(60))
			}
			return m.Bytes()
		},
		"pcapng": func(n int) []byte {
			m := part(bigEnd).shb().idb(ethernet, snap)
			for range n / 2 {
				m.epb(0, t0us, frame(60), comment("c")).spb(60, frame(18))
			}
			return m.Bytes()
		},
	}
	for name, file := range files {
		allocs := func(data []byte) float64 {
			return testing.AllocsPerRun(10, func() {
				_ = readFile(bytes.NewReader(data), pcapio.Budget{}, func(*pcapio.Packet) {})
			})
		}
		// Both files outgrow the first buffer.
		if few, many := allocs(file(1000)), allocs(file(20000)); few != many {
			t.Errorf("%s: %v allocations for 1,000 packets, %v for 20,000", name, few, many)
		}
	}
}
